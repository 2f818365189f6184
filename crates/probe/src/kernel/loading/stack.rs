//! The stack that the deepest chain of calls of a program takes, as the kernel counts it
//! (`check_max_stack_depth` of `kernel/bpf/verifier.c`).

use std::collections::BTreeSet;

use aya_obj::generated::bpf_insn;

/// `BPF_JMP | BPF_CALL`
const CALL: u8 = 0x85;
/// `BPF_LD | BPF_IMM | BPF_DW`
const LOAD_ADDRESS: u8 = 0x18;
/// `BPF_PSEUDO_CALL`: to a function of the program.
const OF_FUNCTION: u8 = 1;
/// `BPF_PSEUDO_FUNC`: the address of a function of the program, for a helper that calls it.
const FUNCTION_ADDRESS: u8 = 4;
/// The kernel allows eight frames (`MAX_CALL_FRAMES`), so deeper chains are of no program that it takes.
const MOST_FRAMES: usize = 8;
/// Frames are rounded up to as many bytes.
const UNIT: u64 = 32;
/// `BPF_FUNC_loop`
const LOOP_HELPER: i32 = 181;
/// Where the kernel puts the loop into the code (`optimize_bpf_loop`, Linux 6.0), it adds these bytes to the
/// frame after the chain was checked, and before it reports the frame.
const LOOP_BYTES: u64 = 24;

/// Bytes of the deepest chain. `frames` has the bytes of each function, in the order of the code. `None` when
/// these are not the program's.
pub(super) fn deepest_chain(instructions: &[bpf_insn], frames: &[u64]) -> Option<u64> {
    let calls: Vec<(usize, usize)> = instructions
        .iter()
        .enumerate()
        .filter_map(|(position, &instruction)| Some((position, target(position, instruction)?)))
        .collect();
    let starts: BTreeSet<usize> = calls.iter().map(|&(_, target)| target).chain([0]).collect();
    let starts: Vec<usize> = starts.into_iter().collect();
    if starts.len() != frames.len() {
        return None;
    }
    let function = |position| starts.partition_point(|&start| start <= position) - 1;
    let edges: BTreeSet<(usize, usize)> = calls
        .into_iter()
        .map(|(from, to)| (function(from), function(to)))
        .collect();
    // Each round makes chains longer by one frame; the kernel allows no recursion.
    let mut own = frames.to_vec();
    for (position, instruction) in instructions.iter().enumerate() {
        if (instruction.code, instruction.src_reg(), instruction.imm) == (CALL, 0, LOOP_HELPER) {
            let frame = function(position);
            own[frame] = frames[frame].saturating_sub(LOOP_BYTES);
        }
    }
    let round = |frame: u64| frame.max(1).next_multiple_of(UNIT);
    let own: Vec<u64> = own.into_iter().map(round).collect();
    let mut deepest = own.clone();
    for _ in 1..MOST_FRAMES {
        for &(from, to) in &edges {
            deepest[from] = deepest[from].max(own[from] + deepest[to]);
        }
    }
    deepest.first().copied()
}

fn target(position: usize, instruction: bpf_insn) -> Option<usize> {
    let is_call = matches!(
        (instruction.code, instruction.src_reg()),
        (CALL, OF_FUNCTION) | (LOAD_ADDRESS, FUNCTION_ADDRESS)
    );
    let distance = isize::try_from(instruction.imm).ok()?;
    is_call.then(|| position.checked_add_signed(distance + 1))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    fn call(distance: i32) -> [u8; 8] {
        let [a, b, c, d] = distance.to_le_bytes();
        [CALL, OF_FUNCTION << 4, 0, 0, a, b, c, d]
    }

    fn program(instructions: &[[u8; 8]]) -> Vec<bpf_insn> {
        aya_obj::copy_instructions(instructions.as_flattened()).unwrap()
    }

    #[test]
    fn the_deepest_of_several_chains_counts() {
        // 0 calls the functions at 3 and 5; the one at 3 calls the one at 5.
        let code = program(&[call(2), call(3), EXIT, call(1), EXIT, EXIT]);
        assert_eq!(deepest_chain(&code, &[100, 10, 33]), Some(128 + 32 + 64));
        assert_eq!(deepest_chain(&code, &[100, 0, 0]), Some(128 + 32 + 32));
    }

    #[test]
    fn the_address_of_a_function_is_a_call_of_it() {
        let load = [LOAD_ADDRESS, FUNCTION_ADDRESS << 4, 0, 0, 2, 0, 0, 0];
        let code = program(&[load, [0; 8], EXIT, EXIT]);
        assert_eq!(deepest_chain(&code, &[8, 40]), Some(32 + 64));
    }

    #[test]
    fn what_the_kernel_adds_for_a_loop_does_not_count() {
        let helper = [CALL, 0, 0, 0, 181, 0, 0, 0];
        assert_eq!(deepest_chain(&program(&[helper, EXIT]), &[40]), Some(32));
    }

    #[test]
    fn frames_of_another_program_are_refused() {
        assert_eq!(deepest_chain(&program(&[EXIT]), &[1, 2]), None);
    }
}

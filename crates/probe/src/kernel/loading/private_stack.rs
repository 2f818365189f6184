//! Keeps kernels from giving a program a private stack.
//!
//! Since Linux 6.13 x86-64 kernels give a large program of a uprobe one stack per processor, instead of room on
//! the kernel stack of the task. Nothing keeps a second task from running the same program on that processor
//! while the first one is preempted in it (`uprobe_prog_run` of `kernel/trace/bpf_trace.c`; programs of kprobes
//! have a counter for that), and then both use one stack: in a kernel with `CONFIG_PREEMPT` or lazy preemption a
//! busy server and its clients wrote into each other's variables, and the kernel followed a null pointer.
//!
//! A program with a tail call gets none (`bpf_enable_priv_stack` and `check_max_stack_depth` of
//! `kernel/bpf/verifier.c`). So each begins with one that is never made: the verifier removes it again.

use aya_obj::generated::bpf_insn;

/// `r0 = 0`, `if r0 == 0 goto +1`, `call bpf_tail_call`.
const PREFIX: [u8; 24] = [
    0xB7, 0, 0, 0, 0, 0, 0, 0, //
    0x15, 0, 1, 0, 0, 0, 0, 0, //
    0x85, 0, 0, 0, 12, 0, 0, 0,
];
const PREFIX_INSTRUCTIONS: u32 = 3;

/// The program with the tail call. Nothing in it refers to its beginning, so all distances stay.
pub(super) fn prefixed(instructions: &[bpf_insn]) -> Vec<bpf_insn> {
    let mut all = aya_obj::copy_instructions(&PREFIX).unwrap_or_default();
    all.extend_from_slice(instructions);
    all
}

/// Moves the records about functions or lines along with their instructions: each record, of `record_bytes`
/// bytes, begins with the number of an instruction. The program still begins with its first one.
pub(super) fn moved(records: &[u8], record_bytes: usize) -> Vec<u8> {
    let mut records = records.to_vec();
    for record in records.chunks_exact_mut(record_bytes.max(size_of::<u32>())) {
        if let Some(number) = record.first_chunk_mut::<4>() {
            let instruction = u32::from_ne_bytes(*number);
            if instruction != 0 {
                *number = (instruction + PREFIX_INSTRUCTIONS).to_ne_bytes();
            }
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_keeps_its_code_behind_the_prefix() {
        let code = aya_obj::copy_instructions(&[0x95, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let all = prefixed(&code);
        assert_eq!(all.len(), 1 + PREFIX_INSTRUCTIONS as usize);
        assert_eq!((all[2].code, all[2].imm), (0x85, 12));
        assert_eq!(all[3].code, 0x95);
    }

    #[test]
    fn records_move_but_for_the_first() {
        let records: Vec<u8> = [0u32, 7, 5, 8].into_iter().flat_map(u32::to_ne_bytes).collect();
        let moved: Vec<u32> = moved(&records, 8)
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(moved, [0, 7, 8, 8]);
    }
}

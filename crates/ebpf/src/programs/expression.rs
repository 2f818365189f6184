//! Rejects packets that the filter expression does not match, before they take room in the ring: the machine of classic
//! BPF, as user space has it (`ecapture_protocols::packet::Filter`).
//!
//! User space runs the expression again over all packets that it gets. So only what is rejected here has to be certain,
//! and whatever is not is passed on: more steps than are allowed, words that begin or end within the VLAN tag, bytes
//! that cannot be read.

use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_skb_load_bytes};
use ecapture_ebpf::config::{EXPRESSION, HAS_LOOP};
use ecapture_ebpf::limits::{EXPRESSION_STEPS, EXPRESSION_STEPS_UNROLLED};
use ecapture_ebpf::packet::{
    ADDRESS_BYTES, ExpressionInstruction, InterfaceCounters, PacketHeader, TAG_BYTES,
};

use super::maps::{EXPRESSIONS, MACHINES, config};
use super::state::{MEMORY_WORDS, Machine, Verdict};

/// What a callback of `bpf_loop` needs.
struct Run {
    packet: *mut __sk_buff,
    machine: *mut Machine,
}

/// Returns true if the filter expression certainly does not match a packet.
#[inline(always)]
pub(super) fn rejects(packet: *mut __sk_buff, header: &PacketHeader, counters: &InterfaceCounters) -> bool {
    if config!(features) & EXPRESSION == 0 || counters.expression == 0 {
        return false;
    }
    let Some(machine) = MACHINES.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the map lookup succeeded; the entry belongs to this CPU.
    unsafe {
        if read_volatile(&raw const (*machine).busy) != 0 {
            return false;
        }
        write_volatile(&raw mut (*machine).busy, 1);
        begin(&mut *machine, header, counters);
        run(packet, machine);
        let verdict = read_volatile(&raw const (*machine).verdict);
        write_volatile(&raw mut (*machine).busy, 0);
        verdict == Verdict::Rejected
    }
}

#[inline(always)]
fn begin(machine: &mut Machine, header: &PacketHeader, counters: &InterfaceCounters) {
    machine.at = counters.expression - 1;
    machine.verdict = Verdict::Open;
    machine.accumulator = 0;
    machine.index = 0;
    machine.memory = [0; MEMORY_WORDS];
    machine.length = header.length;
    machine.captured = header.captured;
    machine.has_tag = 0;
    if header.vlan_protocol != 0 && counters.puts_tags_back != 0 && header.captured >= ADDRESS_BYTES {
        machine.has_tag = 1;
        machine.tag = u32::from(u16::from_be(header.vlan_protocol)) << 16 | u32::from(header.vlan_tci);
        machine.length = header.length.saturating_add(TAG_BYTES);
        machine.captured = header.captured.saturating_add(TAG_BYTES);
    }
}

#[inline(always)]
fn run(packet: *mut __sk_buff, machine: *mut Machine) {
    if config!(features) & HAS_LOOP != 0 {
        let mut run = Run { packet, machine };
        // SAFETY: the callback gets the context that it expects, alive until the helper returns.
        unsafe {
            bpf_loop(
                EXPRESSION_STEPS,
                step_of_loop as *mut c_void,
                (&raw mut run).cast(),
                0,
            );
        }
    } else {
        for _ in 0..EXPRESSION_STEPS_UNROLLED {
            // SAFETY: a valid machine, of this CPU.
            if !step(packet, unsafe { &mut *machine }) {
                break;
            }
        }
    }
}

extern "C" fn step_of_loop(_index: u64, run: *mut c_void) -> u64 {
    // SAFETY: `run` passes its own, with a valid machine.
    let (packet, machine) = unsafe {
        let run = &*run.cast::<Run>();
        (run.packet, &mut *run.machine)
    };
    u64::from(!step(packet, machine))
}

/// Runs one instruction. Returns false if it was the last one; then the verdict is in the machine.
#[inline(always)]
fn step(packet: *mut __sk_buff, machine: &mut Machine) -> bool {
    let Some(&instruction) = EXPRESSIONS.get(machine.at) else {
        return false;
    };
    machine.at += 1;
    match execute(packet, machine, instruction) {
        Ok(()) => true,
        Err(verdict) => {
            machine.verdict = verdict;
            false
        }
    }
}

// Classes.
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;

#[inline(always)]
fn execute(
    packet: *mut __sk_buff,
    machine: &mut Machine,
    instruction: ExpressionInstruction,
) -> Result<(), Verdict> {
    let ExpressionInstruction { code, operand, .. } = instruction;
    let word = operand as usize % MEMORY_WORDS;
    match code & 0x07 {
        LD => machine.accumulator = load(packet, machine, code, operand)?,
        LDX => {
            machine.index = match code & 0xE0 {
                0x00 => operand,
                0x60 => machine.memory[word],
                0x80 => machine.length,
                // The length of an IPv4 header.
                _ => (read::<1>(packet, machine, operand.into())? & 0xF) * 4,
            }
        }
        ST => machine.memory[word] = machine.accumulator,
        STX => machine.memory[word] = machine.index,
        ALU => machine.accumulator = compute(machine, code, operand)?,
        JMP => machine.at = machine.at.wrapping_add(distance(machine, instruction)),
        RET => {
            let result = if code & 0x18 == 0x10 {
                machine.accumulator
            } else {
                operand
            };
            return Err(if result == 0 {
                Verdict::Rejected
            } else {
                Verdict::Open
            });
        }
        _ if code & 0xF8 == 0x80 => machine.accumulator = machine.index,
        _ => machine.index = machine.accumulator,
    }
    Ok(())
}

#[inline(always)]
fn load(packet: *mut __sk_buff, machine: &Machine, code: u16, operand: u32) -> Result<u32, Verdict> {
    let at = match code & 0xE0 {
        0x00 => return Ok(operand),
        0x60 => return Ok(machine.memory[operand as usize % MEMORY_WORDS]),
        0x80 => return Ok(machine.length),
        0x20 => u64::from(operand),
        _ => u64::from(machine.index) + u64::from(operand),
    };
    match code & 0x18 {
        0x00 => read::<4>(packet, machine, at),
        0x08 => read::<2>(packet, machine, at),
        _ => read::<1>(packet, machine, at),
    }
}

/// Reads `SIZE` bytes, at most 4, as a number in network order. Beyond what is captured there are none.
#[inline(always)]
fn read<const SIZE: usize>(packet: *mut __sk_buff, machine: &Machine, mut at: u64) -> Result<u32, Verdict> {
    let end = at + SIZE as u64;
    if end > u64::from(machine.captured) {
        return Err(Verdict::Rejected);
    }
    if machine.has_tag != 0 && end > u64::from(ADDRESS_BYTES) {
        let tag_end = u64::from(ADDRESS_BYTES + TAG_BYTES);
        if at >= tag_end {
            at -= u64::from(TAG_BYTES);
        } else if at >= u64::from(ADDRESS_BYTES) && end <= tag_end {
            let behind = 8 * (tag_end - end);
            return Ok(machine.tag >> behind & (u32::MAX >> (32 - 8 * SIZE as u32)));
        } else {
            return Err(Verdict::Open);
        }
    }
    let mut word = 0u32;
    // SAFETY: the kernel passes a valid packet; the helper writes as many bytes as it is given.
    let failed = unsafe { bpf_skb_load_bytes(packet.cast(), at as u32, (&raw mut word).cast(), SIZE as u32) };
    if failed != 0 {
        return Err(Verdict::Open);
    }
    Ok(u32::from_be(word) >> (32 - 8 * SIZE as u32))
}

#[inline(always)]
fn compute(machine: &Machine, code: u16, operand: u32) -> Result<u32, Verdict> {
    let left = machine.accumulator;
    let right = second_operand(machine, code, operand);
    Ok(match code & 0xF0 {
        0x00 => left.wrapping_add(right),
        0x10 => left.wrapping_sub(right),
        0x20 => left.wrapping_mul(right),
        0x30 => left.checked_div(right).ok_or(Verdict::Rejected)?,
        0x40 => left | right,
        0x50 => left & right,
        0x60 => left.checked_shl(right).unwrap_or(0),
        0x70 => left.checked_shr(right).unwrap_or(0),
        0x80 => left.wrapping_neg(),
        0x90 => left.checked_rem(right).ok_or(Verdict::Rejected)?,
        _ => left ^ right,
    })
}

/// Returns the instructions to skip. A jump without a condition has a whole word for them.
#[inline(always)]
fn distance(machine: &Machine, instruction: ExpressionInstruction) -> u32 {
    let ExpressionInstruction {
        code,
        if_true,
        if_false,
        operand,
    } = instruction;
    let (left, right) = (machine.accumulator, second_operand(machine, code, operand));
    let holds = match code & 0xF0 {
        0x00 => return operand,
        0x10 => left == right,
        0x20 => left > right,
        0x30 => left >= right,
        _ => left & right != 0,
    };
    u32::from(if holds { if_true } else { if_false })
}

#[inline(always)]
fn second_operand(machine: &Machine, code: u16, operand: u32) -> u32 {
    if code & 0x08 == 0 { operand } else { machine.index }
}

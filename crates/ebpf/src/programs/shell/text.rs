//! Records of shells.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_ktime_get_ns, bpf_loop, bpf_probe_read_user_str,
};
use ecapture_ebpf::config::HAS_LOOP;
use ecapture_ebpf::counter;
use ecapture_ebpf::limits::{SHELL_CHUNK, SHELL_CHUNKS, SHELL_CHUNKS_UNROLLED};
use ecapture_ebpf::record::{SHELL_CUT, SHELL_MORE, SHELL_STATUS, STEP_ENDED, ShellHeader};

use crate::programs::counters::count;
use crate::programs::maps::{EVENTS, config};
use crate::programs::pressure::{count_refused, has_share};
use crate::programs::record::wake_flag;

/// A record as reserved in the ring.
#[repr(C)]
struct Slot {
    header: ShellHeader,
    text: [u8; SHELL_CHUNK],
}

/// Sends the end of the command that ran last.
#[inline(always)]
pub(super) fn end_command(kind: u32, pid: u32, status: Option<i32>) {
    let flags = if status.is_some() { SHELL_STATUS } else { 0 };
    send_step(kind, STEP_ENDED, flags, pid, status.unwrap_or(0));
}

/// Sends a step without a text.
#[inline(always)]
pub(super) fn send_step(kind: u32, step: u32, flags: u32, pid: u32, status: i32) {
    shell_step(
        kind.into(),
        step.into(),
        flags.into(),
        pid.into(),
        status as u32 as u64,
    );
}

/// A global function of numbers only: the verifier walks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn shell_step(kind: u64, step: u64, flags: u64, pid: u64, status: u64) -> u64 {
    let Some(mut slot) = EVENTS.reserve::<ShellHeader>(0) else {
        count(counter::RING_FULL_RECORDS, 1);
        return 0;
    };
    let header = slot.as_mut_ptr();
    // SAFETY: the slot is ours until it is submitted.
    unsafe { write_header(header, [kind, step, flags, pid], 0, status as i32) };
    count(counter::DATA_RECORDS, 1);
    slot.submit(wake_flag(size_of::<ShellHeader>() as u64));
    0
}

/// A text that is still to be sent.
struct Text {
    kind: u32,
    step: u32,
    flags: u32,
    pid: u32,
    address: u64,
    offset: u64,
    /// Bytes that it has at most.
    length: u64,
    records: u64,
}

/// Sends the text at `address` up to its zero byte, in as many records as needed.
#[inline(always)]
pub(super) fn send_text(kind: u32, step: u32, flags: u32, pid: u32, address: u64) {
    shell_text(pack(kind, step, flags), pid.into(), address, u64::MAX);
}

/// Sends the text at `address`, of at most `length` bytes.
#[inline(always)]
pub(super) fn send_bounded(kind: u32, step: u32, pid: u32, address: u64, length: u64) {
    shell_text(pack(kind, step, 0), pid.into(), address, length);
}

#[inline(always)]
fn pack(kind: u32, step: u32, flags: u32) -> u64 {
    u64::from(kind) | u64::from(step) << 16 | u64::from(flags) << 32
}

/// A global function of numbers only: the verifier walks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn shell_text(what: u64, pid: u64, address: u64, length: u64) -> u64 {
    let mut text = Text {
        kind: what as u16 as u32,
        step: (what >> 16) as u16 as u32,
        flags: (what >> 32) as u32,
        pid: pid as u32,
        address,
        offset: 0,
        length,
        records: u64::from(if config!(features) & HAS_LOOP != 0 {
            SHELL_CHUNKS
        } else {
            SHELL_CHUNKS_UNROLLED
        }),
    };
    if address == 0 {
        send_step(text.kind, text.step, text.flags, text.pid, 0);
        return 0;
    }
    if config!(features) & HAS_LOOP != 0 {
        // SAFETY: the callback gets the context that it expects, alive until the helper returns.
        unsafe { bpf_loop(SHELL_CHUNKS, send_next as *mut c_void, (&raw mut text).cast(), 0) };
    } else {
        for _ in 0..SHELL_CHUNKS_UNROLLED {
            if !send_chunk(&mut text) {
                break;
            }
        }
    }
    0
}

extern "C" fn send_next(_index: u64, text: *mut c_void) -> u64 {
    // SAFETY: `shell_text` passes its text.
    let text = unsafe { &mut *text.cast::<Text>() };
    u64::from(!send_chunk(text))
}

/// Set in the result of [`shell_chunk`]: the text goes on.
const GOES_ON: u64 = 1 << 32;
/// In the last record that a text may have.
const LAST: u64 = 1 << 63;

/// Sends the next part of a text. Returns true if there is more.
#[inline(always)]
fn send_chunk(text: &mut Text) -> bool {
    text.records -= 1;
    let last = if text.records == 0 { LAST } else { 0 };
    let what = pack(text.kind, text.step, text.flags);
    let sent = shell_chunk(
        what | last,
        text.pid.into(),
        text.address,
        text.offset,
        text.length,
    );
    let bytes = sent & 0xFFFF_FFFF;
    text.address += bytes;
    text.offset += bytes;
    text.length = text.length.wrapping_sub(bytes);
    sent & GOES_ON != 0
}

/// Sends a record of the text at `address`, of at most `length` bytes. Returns how many it has, and [`GOES_ON`] if there
/// are more and this is not the [`LAST`] one. A global function of numbers only: before `bpf_loop` the verifier would walk
/// it once for each record.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn shell_chunk(what: u64, pid: u64, address: u64, offset: u64, length: u64) -> u64 {
    if !has_share(pid as u32, SHELL_CHUNK as u64) {
        count_refused(1, SHELL_CHUNK as u64);
        return 0;
    }
    let Some(mut slot) = EVENTS.reserve::<Slot>(0) else {
        count(counter::RING_FULL_RECORDS, 1);
        count(counter::RING_FULL_BYTES, SHELL_CHUNK as u64);
        return 0;
    };
    let record = slot.as_mut_ptr();
    // SAFETY: the slot is ours until it is submitted; the helper checks the source, and ends the text with a zero
    // byte that it counts.
    let read = unsafe {
        bpf_probe_read_user_str(
            (&raw mut (*record).text).cast(),
            SHELL_CHUNK as u32,
            address as *const _,
        )
    };
    if read <= 0 {
        slot.discard(u64::from(BPF_RB_NO_WAKEUP));
        count(counter::FAULT_RECORDS, 1);
        return 0;
    }
    let mut bytes = read as u64 - 1;
    let mut flags = what >> 32 & 0x7FFF_FFFF;
    let mut more = bytes == SHELL_CHUNK as u64 - 1;
    if bytes >= length {
        bytes = length;
        more = false;
    }
    if more {
        if what & LAST != 0 {
            flags |= u64::from(SHELL_CUT);
            more = false;
        } else {
            flags |= u64::from(SHELL_MORE);
        }
    }
    let words = [what & 0xFFFF, what >> 16 & 0xFFFF, flags, pid];
    // SAFETY: as above.
    unsafe {
        write_header(&raw mut (*record).header, words, offset as u32, 0);
        (*record).header.payload_length = bytes as u32;
    }
    count(counter::DATA_RECORDS, 1);
    count(counter::DATA_BYTES, bytes);
    slot.submit(wake_flag(size_of::<Slot>() as u64));
    bytes | if more { GOES_ON } else { 0 }
}

/// Writes a header, directly where it belongs, because the stack is small.
///
/// # Safety
/// `header` is a slot of the ring.
#[inline(always)]
unsafe fn write_header(header: *mut ShellHeader, what: [u64; 4], offset: u32, status: i32) {
    let [kind, step, flags, pid] = what.map(|word| word as u32);
    // SAFETY: the caller's slot; the helpers have no preconditions.
    unsafe {
        (*header).kind = kind;
        (*header).payload_length = 0;
        (*header).timestamp_ns = bpf_ktime_get_ns();
        (*header).pid = pid;
        (*header).uid = bpf_get_current_uid_gid() as u32;
        (*header).step = step;
        (*header).flags = flags;
        let comm = &raw mut (*header).comm;
        bpf_get_current_comm(comm.cast(), size_of_val(&(*header).comm) as u32);
        (*header).offset = offset;
        (*header).status = status;
    }
}

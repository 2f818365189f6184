//! Puts records into the ring buffer, and counts the data that does not fit.

use core::arch::asm;

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_user};
use ecapture_ebpf::counter;
use ecapture_ebpf::limits::{CHUNK_PAYLOAD, LEAST_PAYLOAD};
use ecapture_ebpf::record::{CloseRecord, DataHeader};

use super::counters::count;
use super::maps::{CONTROL, EVENTS, config};

/// A record as reserved in the ring.
#[repr(C)]
struct Slot<const PAYLOAD: usize> {
    header: DataHeader,
    payload: [u8; PAYLOAD],
}

/// The part of a call that is still to be sent.
pub(super) struct Parts {
    pub header: DataHeader,
    pub source: u64,
}

/// Sends fewer bytes than a full record has room for, or as many.
#[inline(always)]
pub(super) fn send_tail(parts: &Parts, length: u32) {
    let Parts { header, source } = parts;
    let source = *source;
    if length == 0 {
        return;
    }
    // The verifier must know the size of each record.
    if length <= LEAST_PAYLOAD as u32 {
        send::<LEAST_PAYLOAD>(header, source, length);
    } else if length <= 512 {
        send::<512>(header, source, length);
    } else if length <= 1024 {
        send::<1024>(header, source, length);
    } else if length <= 2048 {
        send::<2048>(header, source, length);
    } else if length <= 4096 {
        send::<4096>(header, source, length);
    } else if length <= 8192 {
        send::<8192>(header, source, length);
    } else {
        send::<CHUNK_PAYLOAD>(header, source, length);
    }
}

/// Sends `length` bytes at `source`, at most `PAYLOAD`.
#[inline(always)]
pub(super) fn send<const PAYLOAD: usize>(header: &DataHeader, source: u64, length: u32) {
    let length = bounded(length, PAYLOAD as u32);
    let Some(mut slot) = EVENTS.reserve::<Slot<PAYLOAD>>(0) else {
        count(counter::RING_FULL_RECORDS, 1);
        count(counter::RING_FULL_BYTES, u64::from(length));
        return;
    };
    let record = slot.as_mut_ptr();
    // SAFETY: the slot is ours until it is submitted; the helper checks the source.
    let failed =
        unsafe { bpf_probe_read_user((&raw mut (*record).payload).cast(), length, source as *const _) };
    if failed != 0 {
        slot.discard(u64::from(BPF_RB_NO_WAKEUP));
        count(counter::FAULT_RECORDS, 1);
        count(counter::FAULT_BYTES, u64::from(length));
        return;
    }
    // Submitting waits for all stores, so the payload is written first, and the header while these
    // stores complete.
    // SAFETY: as above.
    unsafe {
        (&raw mut (*record).header).write(*header);
        (*record).header.payload_length = length;
    }
    count(counter::DATA_RECORDS, 1);
    count(counter::DATA_BYTES, u64::from(length));
    slot.submit(wake_flag(size_of::<Slot<PAYLOAD>>() as u64));
}

/// Sends the number of bytes that are content, instead of them.
#[inline(always)]
pub(super) fn send_content_length(header: &DataHeader, length: u64) {
    let Some(mut slot) = EVENTS.reserve::<DataHeader>(0) else {
        count(counter::RING_FULL_RECORDS, 1);
        count(counter::RING_FULL_BYTES, length);
        return;
    };
    let record = slot.as_mut_ptr();
    // SAFETY: the slot is ours until it is submitted.
    unsafe {
        record.write(*header);
        (*record).left_out = length as u32;
    }
    count(counter::DATA_RECORDS, 1);
    count(counter::DATA_BYTES, length);
    count(counter::LEFT_OUT_BYTES, length);
    slot.submit(wake_flag(size_of::<DataHeader>() as u64));
}

/// Repeats, hidden from the compiler, which knows it already, the comparison of `length` with
/// `most`, because the verifier needs to see it.
#[inline(always)]
pub(super) fn bounded(length: u32, most: u32) -> u32 {
    let mut hidden = u64::from(length);
    // SAFETY: changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) hidden) };
    if hidden > u64::from(most) {
        most
    } else {
        hidden as u32
    }
}

/// Decides whether to wake the reader. A wake-up costs more than a record, so it happens only if
/// the reader sleeps, or if this record of `size` bytes makes the pending bytes reach the
/// configured amount.
#[inline(always)]
pub(super) fn wake_flag(size: u64) -> u64 {
    if let Some(control) = CONTROL.get_ptr_mut(0) {
        // SAFETY: the map lookup succeeded; a lost race wakes the reader twice.
        unsafe {
            if core::ptr::read_volatile(&raw const (*control).reader_waits) != 0 {
                core::ptr::write_volatile(&raw mut (*control).reader_waits, 0);
                return u64::from(BPF_RB_FORCE_WAKEUP);
            }
        }
    }
    let wake_bytes = u64::from(config!(wake_bytes));
    let waiting = EVENTS.query(0);
    if waiting >= wake_bytes && waiting < wake_bytes + 2 * size {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// Sends a close record. `pid` and `object` are described in [`CloseRecord`].
#[inline(always)]
pub(super) fn close(kind: u32, pid: u32, object: u64) {
    let Some(mut slot) = EVENTS.reserve::<CloseRecord>(0) else {
        count(counter::CLOSE_LOST, 1);
        return;
    };
    // SAFETY: the helper has no preconditions.
    let timestamp_ns = unsafe { bpf_ktime_get_ns() };
    slot.write(CloseRecord {
        kind,
        pid,
        timestamp_ns,
        object,
    });
    slot.submit(wake_flag(size_of::<CloseRecord>() as u64));
    count(counter::CLOSE_RECORDS, 1);
}

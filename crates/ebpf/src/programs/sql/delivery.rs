//! Puts records of statements into the ring buffer.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user, bpf_probe_read_user_str};
use ecapture_ebpf::config::HAS_LOOP;
use ecapture_ebpf::counter;
use ecapture_ebpf::limits::{
    CALL_CHUNKS, CALL_CHUNKS_UNROLLED, CHUNK_PAYLOAD, LEAST_PAYLOAD, STRING_CHUNKS_UNROLLED,
};
use ecapture_ebpf::sql::{Header, NAME_BYTES};

use super::super::counters::count;
use super::super::maps::{EVENTS, config};
use super::super::pressure::{count_refused, has_share, may_go_on};
use super::super::record::{bounded, wake_flag};

/// A record as reserved in the ring.
#[repr(C)]
struct Slot<const PAYLOAD: usize> {
    header: Header,
    payload: [u8; PAYLOAD],
}

/// Set in the result of [`send_string`].
pub(super) const CUT: u64 = 1 << 63;

/// Text that is still to be sent. The source of a string is [`CUT`] once no more of it can be sent.
struct Parts {
    header: Header,
    source: u64,
}

impl Parts {
    #[inline(always)]
    fn pass(&mut self, bytes: u64) {
        self.header.offset += bytes;
        self.source += bytes;
    }

    #[inline(always)]
    fn sent(&self) -> u64 {
        self.header.offset | (self.source & CUT)
    }
}

/// Sends `length` bytes at `source`, unless the process has used up its share of the ring.
#[inline(always)]
pub(super) fn send_bytes(header: Header, source: u64, length: u64) {
    if !has_share(header.pid, length) {
        return;
    }
    let mut parts = Parts { header, source };
    parts.header.total = length;
    send_chunks(&mut parts, length / CHUNK_PAYLOAD as u64);
    let tail = (length % CHUNK_PAYLOAD as u64) as u32;
    let Parts { header, source } = &parts;
    // The verifier must know the size of each record.
    if tail == 0 {
    } else if tail <= LEAST_PAYLOAD as u32 {
        send::<LEAST_PAYLOAD>(header, *source, tail);
    } else if tail <= 1024 {
        send::<1024>(header, *source, tail);
    } else if tail <= 4096 {
        send::<4096>(header, *source, tail);
    } else {
        send::<CHUNK_PAYLOAD>(header, *source, tail);
    }
}

#[inline(always)]
fn send_chunks(parts: &mut Parts, chunks: u64) {
    if chunks == 0 {
        return;
    }
    let has_loop = config!(features) & HAS_LOOP != 0;
    let most = u64::from(if has_loop {
        CALL_CHUNKS
    } else {
        CALL_CHUNKS_UNROLLED
    });
    let sent = if chunks > most { most } else { chunks };
    let cut = (chunks - sent) * CHUNK_PAYLOAD as u64;
    if has_loop {
        // SAFETY: the callback gets the context that it expects, alive until the helper returns.
        unsafe {
            bpf_loop(
                sent as u32,
                send_chunk as *mut c_void,
                (&raw mut *parts).cast(),
                0,
            );
        }
    } else {
        for index in 0..CALL_CHUNKS_UNROLLED {
            if u64::from(index) >= sent {
                break;
            }
            send::<CHUNK_PAYLOAD>(&parts.header, parts.source, CHUNK_PAYLOAD as u32);
            parts.pass(CHUNK_PAYLOAD as u64);
        }
    }
    if cut != 0 {
        count(counter::CUT_BYTES, cut);
        parts.pass(cut);
    }
}

extern "C" fn send_chunk(_index: u64, parts: *mut c_void) -> u64 {
    // SAFETY: `send_chunks` passes its parts.
    let parts = unsafe { &mut *parts.cast::<Parts>() };
    if may_go_on() {
        send::<CHUNK_PAYLOAD>(&parts.header, parts.source, CHUNK_PAYLOAD as u32);
    } else {
        count_refused(1, CHUNK_PAYLOAD as u64);
    }
    parts.pass(CHUNK_PAYLOAD as u64);
    0
}

/// Sends the string at `source`, without its NUL. Returns the number of bytes sent, with [`CUT`] if there are more.
#[inline(always)]
pub(super) fn send_string(header: Header, source: u64) -> u64 {
    if !has_share(header.pid, LEAST_PAYLOAD as u64) {
        return CUT;
    }
    let mut parts = Parts { header, source };
    if part_of_string::<LEAST_PAYLOAD>(&mut parts) || part_of_string::<4096>(&mut parts) {
        return parts.sent();
    }
    if config!(features) & HAS_LOOP != 0 {
        // SAFETY: the callback gets the context that it expects, alive until the helper returns.
        unsafe {
            bpf_loop(
                CALL_CHUNKS,
                send_string_chunk as *mut c_void,
                (&raw mut parts).cast(),
                0,
            );
        }
    } else {
        for _ in 0..STRING_CHUNKS_UNROLLED {
            if part_of_string::<CHUNK_PAYLOAD>(&mut parts) {
                break;
            }
        }
    }
    parts.sent()
}

extern "C" fn send_string_chunk(_index: u64, parts: *mut c_void) -> u64 {
    // SAFETY: `send_string` passes its parts.
    let parts = unsafe { &mut *parts.cast::<Parts>() };
    u64::from(part_of_string::<CHUNK_PAYLOAD>(parts))
}

/// Sends the next part of a string. Returns true if it was the last one.
#[inline(always)]
fn part_of_string<const PAYLOAD: usize>(parts: &mut Parts) -> bool {
    if !may_go_on() {
        count_refused(1, PAYLOAD as u64);
        parts.source = CUT;
        return true;
    }
    let Some(mut slot) = EVENTS.reserve::<Slot<PAYLOAD>>(0) else {
        count(counter::RING_FULL_RECORDS, 1);
        count(counter::RING_FULL_BYTES, PAYLOAD as u64);
        parts.source = CUT;
        return true;
    };
    let record = slot.as_mut_ptr();
    // SAFETY: the slot is ours until it is submitted; the helper checks the source.
    let read = unsafe {
        bpf_probe_read_user_str(
            (&raw mut (*record).payload).cast(),
            PAYLOAD as u32,
            parts.source as *const _,
        )
    };
    if read <= 0 {
        slot.discard(u64::from(BPF_RB_NO_WAKEUP));
        count(counter::FAULT_RECORDS, 1);
        parts.source = CUT;
        return true;
    }
    let length = bounded(read as u32 - 1, PAYLOAD as u32);
    // SAFETY: as above.
    unsafe {
        (&raw mut (*record).header).write(parts.header);
        (*record).header.payload_length = length;
    }
    count(counter::DATA_RECORDS, 1);
    count(counter::DATA_BYTES, u64::from(length));
    slot.submit(wake_flag(size_of::<Slot<PAYLOAD>>() as u64));
    parts.pass(u64::from(length));
    length as usize != PAYLOAD - 1
}

/// Sends one record with `length` bytes at `source`, or with none.
#[inline(always)]
pub(super) fn send<const PAYLOAD: usize>(header: &Header, source: u64, length: u32) {
    let length = bounded(length, PAYLOAD as u32);
    let Some(mut slot) = EVENTS.reserve::<Slot<PAYLOAD>>(0) else {
        count(counter::RING_FULL_RECORDS, 1);
        count(counter::RING_FULL_BYTES, u64::from(length));
        return;
    };
    let record = slot.as_mut_ptr();
    if length != 0 {
        // SAFETY: the slot is ours until it is submitted; the helper checks the source.
        let failed =
            unsafe { bpf_probe_read_user((&raw mut (*record).payload).cast(), length, source as *const _) };
        if failed != 0 {
            slot.discard(u64::from(BPF_RB_NO_WAKEUP));
            count(counter::FAULT_RECORDS, 1);
            count(counter::FAULT_BYTES, u64::from(length));
            return;
        }
    }
    // SAFETY: as above.
    unsafe {
        (&raw mut (*record).header).write(*header);
        (*record).header.payload_length = length;
    }
    count(counter::DATA_RECORDS, 1);
    count(counter::DATA_BYTES, u64::from(length));
    slot.submit(wake_flag(size_of::<Slot<PAYLOAD>>() as u64));
}

/// Sends the names of the user and of the database: NUL-terminated strings, 0 where not known.
#[inline(always)]
pub(super) fn send_names(header: &Header, user: u64, database: u64) {
    let Some(mut slot) = EVENTS.reserve::<Slot<{ 2 * NAME_BYTES }>>(0) else {
        count(counter::RING_FULL_RECORDS, 1);
        count(counter::RING_FULL_BYTES, 2 * NAME_BYTES as u64);
        return;
    };
    let record = slot.as_mut_ptr();
    // SAFETY: the slot is ours until it is submitted; the helpers check the sources. What they do not write is
    // never read, as the first byte says so.
    unsafe {
        let names = (&raw mut (*record).payload).cast::<u8>();
        for (source, name) in [(user, names), (database, names.add(NAME_BYTES))] {
            name.write(0);
            if source != 0 {
                bpf_probe_read_user_str(name.cast(), NAME_BYTES as u32, source as *const _);
            }
        }
        (&raw mut (*record).header).write(*header);
        (*record).header.payload_length = 2 * NAME_BYTES as u32;
    }
    count(counter::DATA_RECORDS, 1);
    count(counter::DATA_BYTES, 2 * NAME_BYTES as u64);
    slot.submit(wake_flag(size_of::<Slot<{ 2 * NAME_BYTES }>>() as u64));
}

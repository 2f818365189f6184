//! Puts records into the ring buffer, and counts the data that does not fit.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_ktime_get_ns, bpf_loop, bpf_probe_read_user};
use ecapture_ebpf::config::HAS_LOOP;
use ecapture_ebpf::counter;
use ecapture_ebpf::limits::{CALL_CHUNKS, CHUNK_PAYLOAD, LEAST_PAYLOAD};
use ecapture_ebpf::record::{CloseRecord, DIRECTION_READ, DataHeader, KIND_DATA};

use super::counters::count;
use super::maps::{CONTROL, EVENTS, config};
use super::memory::user;
use super::pressure::{count_refused, has_share, may_go_on};
use super::state::{Call, CallKind, Session};

/// A record as reserved in the ring.
#[repr(C)]
struct Slot<const PAYLOAD: usize> {
    header: DataHeader,
    payload: [u8; PAYLOAD],
}

/// Sends `length` bytes that a call moved, unless the process has used up its share of the ring.
#[inline(always)]
pub(super) fn deliver<const UNROLLED: u32>(call: &Call, session: &mut Session, pid_tgid: u64, length: u64) {
    if has_share((pid_tgid >> 32) as u32, length) {
        send_all::<UNROLLED>(call, session, pid_tgid, length);
    } else {
        session.offsets[(call.direction & 1) as usize] += length;
    }
}

/// Sends `length` bytes of the call's buffer, in as many records as needed: at most `UNROLLED` full
/// ones if the kernel has no `bpf_loop`.
#[inline(always)]
pub(super) fn send_all<const UNROLLED: u32>(call: &Call, session: &mut Session, pid_tgid: u64, length: u64) {
    if session.tls_version == 0 && !call.is(CallKind::KnowsLength) {
        session.tls_version = tls_version(call.session);
    }
    // The offset advances over everything that the call moved, including bytes that cannot be sent.
    let offset = &mut session.offsets[(call.direction & 1) as usize];
    let stream_offset = *offset;
    *offset += length;

    let mut parts = Parts {
        header: header_of(call, session, pid_tgid, stream_offset),
        source: call.buffer,
    };
    add_name(&mut parts.header);
    send_chunks::<UNROLLED>(&mut parts, length / CHUNK_PAYLOAD as u64);
    send_tail(&parts, (length % CHUNK_PAYLOAD as u64) as u32);
}

/// Reports `length` bytes that were never in a program's memory, by an empty record whose offset is
/// after them.
#[inline(always)]
pub(super) fn pass_over(call: &Call, session: &mut Session, pid_tgid: u64, length: u64) {
    count(counter::FILE_BYTES, length);
    let mut header = header_of(call, session, pid_tgid, 0);
    add_name(&mut header);
    let offset = &mut session.offsets[(call.direction & 1) as usize];
    // User space finds missing bytes by comparing the offsets of consecutive records.
    if *offset == 0 {
        send::<LEAST_PAYLOAD>(&header, call.session, 0);
    }
    *offset += length;
    header.stream_offset = *offset;
    send::<LEAST_PAYLOAD>(&header, call.session, 0);
}

/// The part of a call that is still to be sent.
struct Parts {
    header: DataHeader,
    source: u64,
}

impl Parts {
    #[inline(always)]
    fn pass_chunk(&mut self) {
        self.header.stream_offset += CHUNK_PAYLOAD as u64;
        self.source += CHUNK_PAYLOAD as u64;
    }
}

/// Sends `chunks` full records. If there are too many of them, the tail is still sent.
#[inline(always)]
fn send_chunks<const UNROLLED: u32>(parts: &mut Parts, chunks: u64) {
    if chunks == 0 {
        return;
    }
    let has_loop = config!(features) & HAS_LOOP != 0;
    let most = u64::from(if has_loop { CALL_CHUNKS } else { UNROLLED });
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
        for index in 0..UNROLLED {
            if u64::from(index) >= sent {
                break;
            }
            send::<CHUNK_PAYLOAD>(&parts.header, parts.source, CHUNK_PAYLOAD as u32);
            parts.pass_chunk();
        }
    }
    if cut != 0 {
        count(counter::CUT_BYTES, cut);
        parts.header.stream_offset += cut;
        parts.source += cut;
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
    parts.pass_chunk();
    0
}

#[inline(always)]
fn send_tail(parts: &Parts, length: u32) {
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

#[inline(always)]
fn send<const PAYLOAD: usize>(header: &DataHeader, source: u64, length: u32) {
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

/// Writes the name of the current thread directly into the header, because the stack is small.
#[inline(always)]
fn add_name(header: &mut DataHeader) {
    let name = &raw mut header.comm;
    // SAFETY: the helper writes as many bytes as it is given.
    unsafe { bpf_get_current_comm(name.cast(), size_of_val(&header.comm) as u32) };
}

/// Fills in the header, except the name and the length of the payload.
#[inline(always)]
fn header_of(call: &Call, session: &Session, pid_tgid: u64, stream_offset: u64) -> DataHeader {
    let direction = call.direction as u8;
    DataHeader {
        kind: KIND_DATA,
        payload_length: 0,
        timestamp_ns: if direction == DIRECTION_READ {
            // SAFETY: the helper has no preconditions.
            unsafe { bpf_ktime_get_ns() }
        } else {
            call.entered_ns
        },
        pid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        uid: bpf_get_current_uid_gid() as u32,
        fd: session.fd,
        comm: [0; 16],
        session: call.session,
        stream_offset,
        sock: session.sock,
        local_address: session.local_address,
        remote_address: session.remote_address,
        local_port: session.local_port,
        remote_port: session.remote_port,
        family: session.family,
        tls_version: session.tls_version,
        direction,
        role: session.role,
        socket_source: session.socket_source,
        joined_late: session.joined_late,
        padding: [0; 4],
    }
}

/// Reads the version of a session. Up to OpenSSL 3.1 a session begins with its version; other
/// libraries have something else there that does not look like a version.
#[inline(always)]
fn tls_version(session: u64) -> u16 {
    match user::<u32>(session) {
        Some(version @ (0x0300..=0x0304 | 0xFEFD | 0xFEFF)) => version as u16,
        _ => 0,
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

//! Sends the bytes of calls, in as many records as they need.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_ktime_get_ns, bpf_loop};
use ecapture_ebpf::config::{HAS_LOOP, WITHOUT_CONTENT};
use ecapture_ebpf::counter;
use ecapture_ebpf::limits::{CALL_CHUNKS, CHUNK_PAYLOAD, LEAST_PAYLOAD};
use ecapture_ebpf::record::{DIRECTION_READ, DataHeader, KIND_DATA};

use super::content;
use super::counters::count;
use super::maps::config;
use super::memory::user;
use super::pressure::{count_refused, has_share, may_go_on};
use super::record::{Parts, send, send_tail};
use super::state::{Call, CallKind, Session};

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
    if config!(features) & WITHOUT_CONTENT != 0 {
        content::send(&mut parts, length, session.joined_late);
        return;
    }
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
        left_out: 0,
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

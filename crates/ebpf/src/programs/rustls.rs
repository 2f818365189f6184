//! rustls 0.23, compiled into programs.
//!
//! Its connections do no input or output: separate calls move plaintext and records, and in between
//! the object may move in memory or to another thread. So a connection is identified by the address
//! of its `CommonState`, and which connection is at that address by something that does not move:
//! the memory of its queue of records to send. The function that takes records from this queue uses
//! the socket, and does so for each connection before there is plaintext.
//!
//! Rust's calling convention may change, so every call is checked for plausible arguments and
//! results.

use core::ffi::c_void;

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_loop};
use aya_ebpf::macros::{map, uprobe};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::config::HAS_LOOP;
use ecapture_ebpf::limits::RUSTLS_CHUNKS_UNROLLED;
use ecapture_ebpf::record::{
    DIRECTION_READ, DIRECTION_WRITE, KIND_CLOSE_SESSION, SOCKET_EXACT, SOCKET_HEURISTIC,
};
use ecapture_ebpf::{counter, limits};

use super::call::{Length, free, is_followed, session_of};
use super::delivery::{close, send_all};
use super::identity::{bind, is_seen};
use super::lateness::judge;
use super::maps::{
    Call, CallKey, NEW_SESSION, SESSIONS, Session, SessionKey, config, count, count_unmatched, ended,
    stopped, wanted,
};
use super::memory::user;
use super::pressure::has_share;
use super::thread::Thread;

/// Most plaintext of one record (RFC 8446 §5.1), in bytes.
const RECORD_PLAINTEXT: u64 = 1 << 14;
/// More bytes than any single allocation of a program has.
const ALLOCATION: u64 = 1 << 40;
/// Maximum number of parts of one write that are read: as many as one `writev` may have
/// (`UIO_MAXIOV`).
const PARTS: u64 = 1024;
/// The same on kernels without `bpf_loop`.
const PARTS_UNROLLED: u64 = 4;
/// The queue of records to send (`sendable_tls`) is at most this many bytes after the beginning of
/// its `CommonState`, which is larger as a whole.
const QUEUE_SPAN: u64 = 512;
/// Number of words in a queue; the only address among them is that of its memory.
const QUEUE_WORDS: usize = 7;
const ADDRESSES: core::ops::Range<u64> = 1 << 20..1 << ADDRESS_BITS;
/// Width of an address in a process, unless it asks for more.
#[cfg(bpf_target_arch = "x86_64")]
const ADDRESS_BITS: u32 = 47;
#[cfg(bpf_target_arch = "aarch64")]
const ADDRESS_BITS: u32 = 48;
/// The word that distinguishes a borrowed payload from an owned one: a capacity that no allocation
/// has.
const BORROWED: u64 = 1 << 63;

/// Calls of `send_appdata_encrypt` in progress.
#[map]
static ENCRYPTIONS: LruHashMap<CallKey, Encryption> = LruHashMap::with_max_entries(limits::CALLS, 0);

/// The connection whose plaintext a thread moved last, by `pid_tgid`.
#[map]
static LAST: LruHashMap<u64, u64> = LruHashMap::with_max_entries(limits::THREADS, 0);

/// The offset in a `CommonState` of the address of its queue's memory, by process.
#[map]
static QUEUES: LruHashMap<u32, u64> = LruHashMap::with_max_entries(limits::PROCESSES, 0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Encryption {
    connection: u64,
    entered_ns: u64,
    /// `OutboundChunks`: either 0, and address and length of one part; or address and number of the
    /// parts, and where in all of them together the bytes begin and end.
    payload: [u64; 4],
}

/// `fn CommonState::send_appdata_encrypt(&mut self, payload: OutboundChunks<'_>, …) -> usize`
#[uprobe]
fn rustls_encrypt(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if !is_followed(pid_tgid) {
        return;
    }
    let Some(payload) = user(context.arg(1).unwrap_or(0)) else {
        count(counter::UNINTELLIGIBLE_CALLS, 1);
        return;
    };
    let encryption = Encryption {
        connection: context.arg(0).unwrap_or(0),
        // SAFETY: the helper has no preconditions.
        entered_ns: unsafe { bpf_ktime_get_ns() },
        payload,
    };
    if ENCRYPTIONS
        .insert(key(&context, pid_tgid), encryption, 0)
        .is_err()
    {
        count(counter::CALLS_FULL, 1);
    }
}

/// Each `ret` of `send_appdata_encrypt`, which returns how many bytes it took.
#[uprobe]
fn rustls_encrypted(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let pid = (pid_tgid >> 32) as u32;
    if ended() || !wanted(pid) {
        return;
    }
    let key = key(&context, pid_tgid);
    let Some(encryption) = ENCRYPTIONS.get_ptr(key) else {
        count_unmatched();
        return;
    };
    // SAFETY: the map lookup succeeded; only this thread changes or removes the entry.
    let encryption = unsafe { *encryption };
    let _gone = ENCRYPTIONS.remove(key);
    let taken = result(&context);
    if taken == 0 {
        return;
    }
    if !can_mean(&encryption.payload, taken) {
        count(counter::UNINTELLIGIBLE_CALLS, 1);
        return;
    }
    let connection = encryption.connection;
    if !identify(pid_tgid, connection) {
        count(counter::SESSIONS_FULL, 1);
        return;
    }
    if !has_share(pid, taken) {
        leave_gap(pid, connection, DIRECTION_WRITE, taken);
        return;
    }
    let [chunks, first, start, _] = encryption.payload;
    let is_one = chunks == 0;
    let mut parts = Parts {
        pid_tgid,
        connection,
        written_ns: encryption.entered_ns,
        next: chunks,
        only: first,
        skipped: if is_one { 0 } else { start },
        taken,
    };
    send_parts(&mut parts, if is_one { 1 } else { first });
}

/// `fn CommonState::take_received_plaintext(&mut self, bytes: Payload)`: the payload is a
/// `Vec<u8>`, or a slice, which its first word distinguishes from a `Vec<u8>`.
#[uprobe]
fn rustls_received(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if !is_followed(pid_tgid) {
        return;
    }
    let connection = context.arg(0).unwrap_or(0);
    let payload: Option<[u64; 3]> = user(context.arg(1).unwrap_or(0));
    let Some([capacity, buffer, length]) = payload else {
        count(counter::UNINTELLIGIBLE_CALLS, 1);
        return;
    };
    let is_owned = capacity >= length && capacity < ALLOCATION;
    if length > RECORD_PLAINTEXT || !is_owned && capacity != BORROWED {
        count(counter::UNINTELLIGIBLE_CALLS, 1);
        return;
    }
    if length == 0 {
        return;
    }
    if !identify(pid_tgid, connection) {
        count(counter::SESSIONS_FULL, 1);
        return;
    }
    let pid = (pid_tgid >> 32) as u32;
    if !has_share(pid, length) {
        leave_gap(pid, connection, DIRECTION_READ, length);
        return;
    }
    let _sent = send_part(pid_tgid, connection, buffer, length, 0);
}

/// `fn ChunkVecBuffer::write_to(&mut self, wr: &mut dyn io::Write) -> io::Result<usize>`
#[uprobe]
fn rustls_send(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if stopped() || !wanted((pid_tgid >> 32) as u32) {
        return;
    }
    let key = key(&context, pid_tgid);
    let Some(thread) = Thread::current(pid_tgid) else {
        return;
    };
    let call = Call {
        session: context.arg(0).unwrap_or(0),
        outer: thread.outer(key.stack_pointer),
        length: Length::Nothing as u32,
        ..Call::NONE
    };
    let _full = thread.enter(key, call);
}

/// Each `ret` of `write_to`.
#[uprobe]
fn rustls_sent(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let pid = (pid_tgid >> 32) as u32;
    if ended() || !wanted(pid) {
        return;
    }
    let key = key(&context, pid_tgid);
    let Some(thread) = Thread::known(pid_tgid) else {
        return;
    };
    let Some(&mut Call {
        session: queue,
        outer,
        ..
    }) = thread.call(key)
    else {
        return;
    };
    thread.forget(key);
    thread.innermost = outer;
    let (Some((place, memory)), Some(found)) = (memory_of(queue), thread.socket()) else {
        return;
    };
    let Some(session) = session_of(pid, memory) else {
        return;
    };
    // It is unknown which records of the handshake were sent: only the age of the socket counts.
    if bind(session, thread.call_fd, &found, SOCKET_EXACT) {
        judge(&context, session, false);
    }
    // SAFETY: the map lookup succeeded, and only this thread uses its entry.
    let connection = LAST.get_ptr(pid_tgid).map_or(0, |last| unsafe { *last });
    if connection != 0 && queue.wrapping_sub(connection) < QUEUE_SPAN {
        let _full = QUEUES.insert(pid, place - connection, 0);
        let _full = identify(pid_tgid, connection);
    }
}

/// `core::ptr::drop_in_place::<CommonState>`
#[uprobe]
fn rustls_drop(context: ProbeContext) {
    free(&context);
}

/// Returns true if these arguments and this result are plausible for a write.
#[inline(always)]
fn can_mean(payload: &[u64; 4], taken: u64) -> bool {
    let [chunks, number, start, end] = *payload;
    if chunks == 0 {
        return taken <= start && start < ALLOCATION;
    }
    number < ALLOCATION && start <= end && end < ALLOCATION && taken <= end - start
}

/// The part of a write in several parts that is still to be sent.
struct Parts {
    pid_tgid: u64,
    connection: u64,
    written_ns: u64,
    /// Where address and length of the next part are; 0 if there is only one.
    next: u64,
    /// The address of the only part.
    only: u64,
    /// Number of bytes before the first one that was taken.
    skipped: u64,
    taken: u64,
}

/// Sends the bytes taken from several parts.
#[inline(always)]
fn send_parts(parts: &mut Parts, number: u64) {
    if config!(features) & HAS_LOOP != 0 {
        let most = if number > PARTS { PARTS } else { number };
        // SAFETY: the callback gets the context that it expects, alive until the helper returns.
        unsafe {
            bpf_loop(
                most as u32,
                send_next_part as *mut c_void,
                (&raw mut *parts).cast(),
                0,
            );
        }
    } else {
        for index in 0..PARTS_UNROLLED {
            if index >= number || send_next(parts).is_none() {
                break;
            }
        }
    }
    if parts.taken != 0 {
        let _counted = skip_unsent(parts.pid_tgid, parts.connection, parts.taken);
    }
}

/// Counts bytes that were written but are not sent, and leaves a gap of as many bytes in the
/// stream.
#[inline(never)]
fn skip_unsent(pid_tgid: u64, connection: u64, length: u64) -> u64 {
    count(counter::CUT_BYTES, length);
    leave_gap((pid_tgid >> 32) as u32, connection, DIRECTION_WRITE, length);
    0
}

#[inline(always)]
fn leave_gap(pid: u32, connection: u64, direction: u8, length: u64) {
    if let Some(session) = session_of(pid, connection) {
        session.offsets[usize::from(direction & 1)] += length;
    }
}

extern "C" fn send_next_part(_index: u64, parts: *mut c_void) -> u64 {
    // SAFETY: `send_parts` passes its parts.
    u64::from(send_next(unsafe { &mut *parts.cast() }).is_none())
}

/// Sends the next part. `None` if nothing is left to send, or its place is unknown.
#[inline(always)]
fn send_next(parts: &mut Parts) -> Option<()> {
    if parts.taken == 0 {
        return None;
    }
    let [address, length] = if parts.next == 0 {
        [parts.only, parts.taken]
    } else {
        let part = user(parts.next)?;
        parts.next += 16;
        part
    };
    if length <= parts.skipped {
        parts.skipped -= length;
        return Some(());
    }
    let rest = length - parts.skipped;
    let sent = if rest < parts.taken { rest } else { parts.taken };
    let address = address + parts.skipped;
    let _sent = send_part(parts.pid_tgid, parts.connection, address, sent, parts.written_ns);
    parts.skipped = 0;
    parts.taken -= sent;
    Some(())
}

/// Sends a piece of memory: one that was written at `written_ns`, or one that was read if that is
/// 0.
///
/// A global function whose parameters are numbers only, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_part(pid_tgid: u64, connection: u64, buffer: u64, length: u64, written_ns: u64) -> u64 {
    let Some(session) = session_of((pid_tgid >> 32) as u32, connection) else {
        return 0;
    };
    let direction = if written_ns == 0 {
        DIRECTION_READ
    } else {
        DIRECTION_WRITE
    };
    let call = Call {
        session: connection,
        buffer,
        entered_ns: written_ns,
        direction: u32::from(direction),
        length: Length::Told as u32,
        ..Call::NONE
    };
    send_all::<RUSTLS_CHUNKS_UNROLLED>(&call, session, pid_tgid, length);
    1
}

/// Finds out which connection it is, and begins a session if it is another one than before. Returns
/// false if there is no room for one.
#[inline(always)]
fn identify(pid_tgid: u64, connection: u64) -> bool {
    identify_in_own_frame(pid_tgid, connection) != 0
}

/// Before Linux 6.13 (private stacks) the frames of a chain of calls may take 512 bytes together;
/// in one frame with their caller, this function and [`skip_unsent`] would take more. A global
/// function, as [`send_part`] is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn identify_in_own_frame(pid_tgid: u64, connection: u64) -> u64 {
    u64::from(update_session(pid_tgid, connection).is_some())
}

#[inline(always)]
fn update_session(pid_tgid: u64, connection: u64) -> Option<()> {
    let pid = (pid_tgid >> 32) as u32;
    let session = session_of(pid, connection)?;
    let _full = LAST.insert(pid_tgid, connection, 0);
    // The previous connection here is gone: its memory is used again.
    if session.sock != 0 && !is_seen(session.sock) {
        renew(pid, connection, session);
    }
    let memory = match QUEUES.get_ptr(pid) {
        // SAFETY: the map lookup succeeded; the value is a whole word.
        Some(distance) => user(connection + unsafe { *distance }).unwrap_or(0),
        None if session.sock == 0 => search(pid, connection),
        None => 0,
    };
    if memory != 0 {
        adopt(pid, connection, session, memory);
    }
    Some(())
}

/// Finds the place of the address of a queue's memory, and that address.
#[inline(always)]
fn memory_of(queue: u64) -> Option<(u64, u64)> {
    let words: [u64; QUEUE_WORDS] = user(queue)?;
    let mut found = None;
    for (index, word) in words.into_iter().enumerate() {
        if ADDRESSES.contains(&word) {
            if found.is_some() {
                return None;
            }
            found = Some((queue + 8 * index as u64, word));
        }
    }
    found
}

/// Returns the memory of a queue that has sent something and whose address an object contains, or
/// 0.
#[inline(never)]
fn search(pid: u32, object: u64) -> u64 {
    for index in 0..QUEUE_SPAN / 8 {
        let word: u64 = user(object + 8 * index).unwrap_or(0);
        if ADDRESSES.contains(&word) && known(pid, word).is_some() {
            return word;
        }
    }
    0
}

/// Returns what is known about the socket to which records in this memory were sent, if it is still
/// open.
#[inline(always)]
fn known(pid: u32, memory: u64) -> Option<&'static Session> {
    let key = SessionKey {
        session: memory,
        pid,
        padding: 0,
    };
    // SAFETY: the map lookup succeeded; only the thread that has the connection writes there.
    let known = unsafe { &*SESSIONS.get_ptr(key)? };
    let is_socket = known.socket_source == SOCKET_EXACT && known.sock != 0;
    (is_socket && is_seen(known.sock)).then_some(known)
}

#[inline(always)]
fn adopt(pid: u32, connection: u64, session: &mut Session, memory: u64) {
    let Some(known) = known(pid, memory) else {
        return;
    };
    if session.sock == known.sock {
        return;
    }
    if session.sock != 0 {
        renew(pid, connection, session);
    }
    let offsets = session.offsets;
    *session = *known;
    session.offsets = offsets;
    session.socket_source = SOCKET_HEURISTIC;
}

/// Notes that from here on another connection is at this address.
#[inline(always)]
fn renew(pid: u32, connection: u64, session: &mut Session) {
    close(KIND_CLOSE_SESSION, pid, connection);
    *session = NEW_SESSION;
}

/// Returns the same value at the entry of a call and at its `ret`.
#[inline(always)]
fn key(context: &ProbeContext, pid_tgid: u64) -> CallKey {
    CallKey {
        pid_tgid,
        stack_pointer: registers(context).1,
    }
}

#[inline(always)]
fn result(context: &ProbeContext) -> u64 {
    registers(context).0
}

/// Returns result and stack pointer.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn registers(context: &ProbeContext) -> (u64, u64) {
    let registers: *mut pt_regs = context.regs;
    // SAFETY: the kernel passes valid registers.
    unsafe { ((*registers).rax, (*registers).rsp) }
}

/// Returns result and stack pointer.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn registers(context: &ProbeContext) -> (u64, u64) {
    let registers: *mut pt_regs = context.regs;
    // SAFETY: the kernel passes valid registers.
    unsafe { ((*registers).regs[0], (*registers).sp) }
}

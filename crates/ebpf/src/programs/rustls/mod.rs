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

mod connection;
mod parts;

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::{map, uprobe};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::record::{DIRECTION_READ, DIRECTION_WRITE, SOCKET_EXACT};
use ecapture_ebpf::{counter, limits};

use super::call::{is_followed, pass_by, session_of};
use super::counters::{count, count_unmatched};
use super::filter::{ended, may_return, stopped, wanted};
use super::identity::bind;
use super::lateness::judge;
use super::memory::user;
use super::pressure::has_share;
use super::state::{Call, CallKey, CallKind, Thread};
use connection::{drop_object, identify, memory_of, note_queue};
use parts::{Parts, leave_gap, send_part, send_parts};

/// Most plaintext of one record (RFC 8446 §5.1), in bytes.
const RECORD_PLAINTEXT: u64 = 1 << 14;
/// More bytes than any single allocation of a program has.
const ALLOCATION: u64 = 1 << 40;
/// The word that distinguishes a borrowed payload from an owned one: a capacity that no allocation
/// has.
const BORROWED: u64 = 1 << 63;

/// Calls of `send_appdata_encrypt` in progress.
#[map]
static ENCRYPTIONS: LruHashMap<CallKey, Encryption> = LruHashMap::with_max_entries(limits::CALLS, 0);

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
        pass_by(pid_tgid, context.arg(0).unwrap_or(0));
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
    if ended() || !may_return(pid) {
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
        pass_by(pid_tgid, context.arg(0).unwrap_or(0));
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
        kind: CallKind::MovesNothing as u32,
        ..Call::NONE
    };
    let _full = thread.enter(key, call);
}

/// Each `ret` of `write_to`.
#[uprobe]
fn rustls_sent(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let pid = (pid_tgid >> 32) as u32;
    if ended() || !may_return(pid) {
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
    note_queue(pid_tgid, queue, place);
}

/// `core::ptr::drop_in_place::<CommonState>`
#[uprobe]
fn rustls_drop(context: ProbeContext) {
    drop_object(context.arg(0).unwrap_or(0));
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

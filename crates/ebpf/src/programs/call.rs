//! Pairs the entry and the return of library calls that move plaintext.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::uretprobe;
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ecapture_ebpf::config::ONLY_SECRETS;
use ecapture_ebpf::counter;
use ecapture_ebpf::limits::CALL_CHUNKS_UNROLLED;
use ecapture_ebpf::record::{DIRECTION_READ, DIRECTION_WRITE, KIND_CLOSE_SESSION, SOCKET_EXACT};
use ecapture_ebpf::table;

use super::content;
use super::counters::{count, count_unmatched};
use super::delivery::{deliver, pass_over};
use super::filter::{ended, is_live, may_return, stopped, wanted};
use super::identity::bind;
use super::lateness::judge;
use super::maps::{PROCESSES, SESSIONS, config};
use super::memory::user;
use super::record::close;
use super::secrets::note_place;
use super::state::{Call, CallKey, CallKind, NEW_SESSION, Session, SessionKey, Thread};
use super::tables::{entered, left};

/// `RUSTLS_RESULT_OK` of rustls-ffi.
const RUSTLS_OK: i32 = 7000;

#[derive(Clone, Copy)]
pub(super) struct Arguments {
    pub session: u64,
    pub buffer: u64,
    /// Means something with [`CallKind::Stores`] only.
    pub length_pointer: u64,
}

impl Arguments {
    /// Session and buffer are the first two parameters of all these functions.
    #[inline(always)]
    pub(in crate::programs) fn of(context: &ProbeContext, length_parameter: usize) -> Self {
        Self {
            session: context.arg(0).unwrap_or(0),
            buffer: context.arg(1).unwrap_or(0),
            length_pointer: context.arg(length_parameter).unwrap_or(0),
        }
    }
}

/// The return of every function whose entry calls [`enter`].
#[uretprobe]
fn call_return(context: RetProbeContext) {
    leave(&context);
}

/// Returns true if a call that begins must be captured. Counts it if a filter excludes it.
#[inline(always)]
pub(super) fn is_followed(pid_tgid: u64) -> bool {
    if stopped() {
        return false;
    }
    let wanted = wanted((pid_tgid >> 32) as u32);
    if !wanted {
        count(counter::FILTERED_CALLS, 1);
    }
    wanted
}

/// Notes that a session moves bytes that are not captured, because filters that may change exclude it: if other
/// filters let it through later, its count of bytes begins again, which shows the gap.
#[inline(always)]
pub(super) fn pass_by(pid_tgid: u64, session: u64) {
    if is_live()
        && !stopped()
        && let Some(session) = known_session((pid_tgid >> 32) as u32, session)
    {
        for offset in &mut session.offsets {
            // SAFETY: the field is a whole word. Volatile, so that no function is called to clear it, which the
            // verifier would remove where the filters are constants.
            unsafe { core::ptr::write_volatile(offset, 0) };
        }
    }
}

/// Remembers a call that performs the handshake until it returns.
#[inline(always)]
pub(super) fn handshake(context: &ProbeContext) {
    let arguments = Arguments {
        session: context.arg(0).unwrap_or(0),
        buffer: 0,
        length_pointer: 0,
    };
    enter(context, arguments, DIRECTION_READ, CallKind::Handshake);
}

/// Remembers a call until it returns.
#[inline(always)]
pub(super) fn enter(context: &ProbeContext, arguments: Arguments, direction: u8, kind: CallKind) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if !is_followed(pid_tgid) {
        pass_by(pid_tgid, arguments.session);
        return;
    }
    let stack_pointer = stack_pointer_at_entry(context.regs);
    let direction = u32::from(direction);
    let key = CallKey {
        pid_tgid,
        stack_pointer,
    };
    let Some(thread) = Thread::current(pid_tgid) else {
        count(counter::CALLS_FULL, 1);
        return;
    };
    note_place(context, thread);
    let outer = thread.outer(stack_pointer);
    if outer != 0 && is_part_of(thread, pid_tgid, outer, &arguments, direction) {
        return;
    }
    let call = Call {
        session: arguments.session,
        buffer: arguments.buffer,
        length_pointer: arguments.length_pointer,
        entered_ns: if direction == u32::from(DIRECTION_WRITE) {
            // SAFETY: the helper has no preconditions.
            unsafe { bpf_ktime_get_ns() }
        } else {
            0
        },
        outer,
        direction,
        kind: kind as u32,
        tails: tails_of(thread, key, &arguments),
        delivered: 0,
    };
    if thread.enter(key, call).is_err() {
        count(counter::CALLS_FULL, 1);
    } else {
        count(counter::WRITES_BEGUN, writes(direction));
    }
}

/// Returns true if this call is part of the call at `outer`, which has all the bytes: one form of a
/// function may call another, and one library may use another.
#[inline(always)]
fn is_part_of(thread: &mut Thread, pid_tgid: u64, outer: u64, arguments: &Arguments, direction: u32) -> bool {
    let key = CallKey {
        pid_tgid,
        stack_pointer: outer,
    };
    thread.call(key).is_some_and(|around| {
        let same = around.session == arguments.session || around.buffer == arguments.buffer;
        same && around.direction == direction
    })
}

/// Returns 1 for a write, 0 for a read, without a branch, so that the verifier has one path less to
/// check.
#[inline(always)]
pub(super) fn writes(direction: u32) -> u64 {
    const { assert!(DIRECTION_READ == 0 && DIRECTION_WRITE == 1) };
    u64::from(direction)
}

/// Returns how many functions have jumped here with the same frame and session.
#[inline(always)]
fn tails_of(thread: &mut Thread, key: CallKey, arguments: &Arguments) -> u32 {
    if thread.innermost != key.stack_pointer {
        return 0;
    }
    match thread.call(key) {
        Some(call) if call.session == arguments.session && call.delivered == 0 => call.tails + 1,
        _ => 0,
    }
}

/// Returns true if the bytes of the call must be sent at this return. Forgets the call at its last
/// return.
#[inline(always)]
fn is_first_return(thread: &mut Thread, key: CallKey) -> bool {
    let Some(call) = thread.call(key) else {
        return false;
    };
    let first = call.delivered == 0;
    if call.tails == 0 {
        thread.forget(key);
    } else {
        call.tails -= 1;
        call.delivered = 1;
    }
    first
}

/// Sends the bytes that a returning call moved.
#[inline(always)]
fn leave(context: &RetProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let pid = (pid_tgid >> 32) as u32;
    if ended() || !may_return(pid) {
        return;
    }
    let key = CallKey {
        pid_tgid,
        stack_pointer: stack_pointer_at_return(context.regs),
    };
    let Some(thread) = Thread::known(pid_tgid) else {
        count_unmatched();
        return;
    };
    let Some(&mut call) = thread.call(key) else {
        // Inside another call, it is a part of that call.
        if thread.outer(key.stack_pointer) == 0 {
            count_unmatched();
        }
        return;
    };
    if is_first_return(thread, key) {
        thread.innermost = call.outer;
        if config!(features) & ONLY_SECRETS == 0 {
            end(context, thread, &call, moved_bytes(context, &call), pid_tgid);
        }
    }
    // Must be last: once user space has seen this counter, it no longer waits for the call.
    count(counter::WRITES_ENDED, writes(call.direction));
}

/// Sends `length` bytes that a call moved, and remembers the socket that it used.
#[inline(always)]
fn end(context: &RetProbeContext, thread: &mut Thread, call: &Call, length: u64, pid_tgid: u64) {
    let in_vain = length == 0 && !call.moves_nothing();
    // Calls that use no sockets may still log to a file in a callback, so the descriptor must be
    // checked.
    if in_vain && thread.call_fd >= 0 && thread.memory_bio == 0 {
        return;
    }
    let socket = thread.socket();
    if socket.is_none() {
        thread.memory_bio = 1;
    } else if in_vain {
        return;
    }
    let Some(session) = session_of((pid_tgid >> 32) as u32, call.session) else {
        count(counter::SESSIONS_FULL, 1);
        return;
    };
    match socket {
        Some(found) => {
            if bind(session, thread.call_fd, &found, SOCKET_EXACT) {
                judge(context, session, call.is(CallKind::Handshake));
            }
        }
        None if length != 0 || session.sock == 0 => thread.bind_recent(session),
        None => {}
    }
    if length != 0 && call.is(CallKind::SendsFile) {
        pass_over(call, session, pid_tgid, length);
    } else if length != 0 {
        deliver::<CALL_CHUNKS_UNROLLED>(call, session, pid_tgid, length);
    }
}

#[inline(always)]
fn moved_bytes(context: &RetProbeContext, call: &Call) -> u64 {
    if call.moves_nothing() {
        return 0;
    }
    let returned: u64 = context.ret();
    if call.is(CallKind::ReturnsLong) || call.is(CallKind::SendsFile) {
        return if (returned as i64) < 0 { 0 } else { returned };
    }
    let returned = returned as i32;
    if returned <= 0 || call.is(CallKind::StoresWithRustlsOk) && returned != RUSTLS_OK {
        return 0;
    }
    if call.is(CallKind::ReturnsInt) {
        return returned as u64;
    }
    user(call.length_pointer).unwrap_or(0)
}

/// Forgets a session that the library frees, and reports it.
#[inline(always)]
pub(super) fn free(context: &ProbeContext) {
    end_session(context.arg(0).unwrap_or(0));
}

/// Forgets a session of the current process, and reports it.
#[inline(always)]
pub(super) fn end_session(session: u64) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if stopped() || !may_return(pid) {
        return;
    }
    if forget_session(pid, session) {
        content::forget(pid, session);
        close(KIND_CLOSE_SESSION, pid, session);
    }
}

/// Forgets a session. Returns false if it was not known.
#[inline(always)]
pub(super) fn forget_session(pid: u32, session: u64) -> bool {
    let key = SessionKey {
        session,
        pid,
        padding: 0,
    };
    let removed = SESSIONS.remove(key);
    if removed.is_ok() {
        left(table::SESSIONS);
    }
    removed.is_ok()
}

/// Returns the session's entry, which is created if it is new.
#[inline(always)]
pub(super) fn session_of(pid: u32, session: u64) -> Option<&'static mut Session> {
    let key = SessionKey {
        session,
        pid,
        padding: 0,
    };
    if SESSIONS.get_ptr(key).is_none() {
        if SESSIONS.insert(key, &NEW_SESSION, 0).is_ok() {
            entered(table::SESSIONS);
        }
        // The end of the one at this address before may have been missed.
        content::forget(pid, session);
        let _full = PROCESSES.insert(pid, 1, 0);
    }
    known_session(pid, session)
}

/// Returns the session's entry, if there is one.
#[inline(always)]
pub(super) fn known_session(pid: u32, session: u64) -> Option<&'static mut Session> {
    let key = SessionKey {
        session,
        pid,
        padding: 0,
    };
    // SAFETY: the map lookup succeeded; the library forbids concurrent use of one session.
    SESSIONS.get_ptr_mut(key).map(|session| unsafe { &mut *session })
}

#[cfg(bpf_target_arch = "x86_64")]
pub(super) fn stack_pointer_at_entry(registers: *mut pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*registers).rsp }
}

/// Returns the stack pointer at the entry: `ret` has popped the return address.
#[cfg(bpf_target_arch = "x86_64")]
pub(super) fn stack_pointer_at_return(registers: *mut pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*registers).rsp - 8 }
}

#[cfg(bpf_target_arch = "aarch64")]
pub(super) fn stack_pointer_at_entry(registers: *mut pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*registers).sp }
}

#[cfg(bpf_target_arch = "aarch64")]
pub(super) fn stack_pointer_at_return(registers: *mut pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*registers).sp }
}

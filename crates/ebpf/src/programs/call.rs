//! Pairs the entry and the return of library calls that move plaintext.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::uretprobe;
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ecapture_ebpf::counter;
use ecapture_ebpf::record::{KIND_CLOSE_SESSION, SOCKET_EXACT};

use super::delivery::{close, deliver};
use super::identity::{bind, bind_recent};
use super::maps::{
    CALLS, Call, CallKey, PROCESSES, SESSIONS, Session, SessionKey, THREADS, Thread, count, stopped, wanted,
};
use super::memory::user;

/// Where the number of moved bytes is at the return.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Length {
    /// The function returns it as an `int`; 0 and below mean that nothing moved.
    ReturnedInt = 0,
    /// The function returns more than 0 and stores it as a `size_t`.
    Stored = 1,
    /// The function returns it as an `ssize_t`; 0 and below mean that nothing moved.
    ReturnedLong = 2,
    /// No plaintext moves.
    Nothing = 3,
}

#[derive(Clone, Copy)]
pub(super) struct Arguments {
    pub session: u64,
    pub buffer: u64,
    /// Means something with [`Length::Stored`] only.
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

/// Remembers a call until it returns.
#[inline(always)]
pub(super) fn enter(context: &ProbeContext, arguments: Arguments, direction: u8, length: Length) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let pid = (pid_tgid >> 32) as u32;
    if stopped() {
        return;
    }
    if !wanted(pid) {
        count(counter::FILTERED_CALLS, 1);
        return;
    }
    let stack_pointer = stack_pointer_at_entry(context.regs);
    let direction = u32::from(direction);
    let outer = outer_call(pid_tgid, stack_pointer);
    // One form of a function may be made of another one, and one library of another one: the
    // outer call says it all.
    if outer != 0
        && let Some(around) = CALLS.get_ptr(CallKey {
            pid_tgid,
            stack_pointer: outer,
        })
    {
        // SAFETY: the map lookup succeeded; only this thread removes the entry.
        let around = unsafe { &*around };
        let same = around.session == arguments.session || around.buffer == arguments.buffer;
        if same && around.direction == direction {
            return;
        }
    }
    let key = CallKey {
        pid_tgid,
        stack_pointer,
    };
    let tails = tails_of(key, &arguments);
    enter_thread(pid_tgid, stack_pointer, outer);
    let call = Call {
        session: arguments.session,
        buffer: arguments.buffer,
        length_pointer: arguments.length_pointer,
        // SAFETY: the helper has no preconditions.
        entered_ns: unsafe { bpf_ktime_get_ns() },
        outer,
        direction,
        length: length as u32,
        tails,
        delivered: 0,
    };
    if CALLS.insert(key, call, 0).is_err() {
        count(counter::CALLS_FULL, 1);
    }
}

/// How many functions have jumped here with the same frame and session.
#[inline(always)]
fn tails_of(key: CallKey, arguments: &Arguments) -> u32 {
    let is_innermost = match THREADS.get_ptr(key.pid_tgid) {
        // SAFETY: the map lookup succeeded, and only this thread uses its entry.
        Some(thread) => unsafe { (*thread).innermost == key.stack_pointer },
        None => false,
    };
    if !is_innermost {
        return 0;
    }
    match CALLS.get_ptr(key) {
        // SAFETY: the map lookup succeeded; only this thread removes the entry.
        Some(call) => match unsafe { &*call } {
            call if call.session == arguments.session && call.delivered == 0 => call.tails + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// Whether this return of the call is the one to send its bytes at. Forgets the call at its last.
#[inline(always)]
fn is_first_return(key: CallKey, call: *mut Call) -> bool {
    // SAFETY: the map lookup succeeded; only this thread changes or removes the entry.
    let call = unsafe { &mut *call };
    let first = call.delivered == 0;
    if call.tails == 0 {
        let _gone = CALLS.remove(key);
    } else {
        call.tails -= 1;
        call.delivered = 1;
    }
    first
}

/// Stack pointer of the call around one that begins at `stack_pointer`, 0 without one. A frame
/// that is not further out than this one was left without a return (a long jump).
#[inline(always)]
fn outer_call(pid_tgid: u64, stack_pointer: u64) -> u64 {
    match THREADS.get_ptr(pid_tgid) {
        // SAFETY: the map lookup succeeded, and only this thread uses its entry.
        Some(thread) => match unsafe { (*thread).innermost } {
            innermost if innermost > stack_pointer => innermost,
            _ => 0,
        },
        None => 0,
    }
}

/// Makes the call the thread's innermost one.
#[inline(always)]
fn enter_thread(pid_tgid: u64, stack_pointer: u64, outer: u64) {
    let Some(thread) = THREADS.get_ptr_mut(pid_tgid) else {
        let thread = Thread {
            innermost: stack_pointer,
            ..Thread::NEW
        };
        let _full = THREADS.insert(pid_tgid, thread, 0);
        return;
    };
    // SAFETY: the map lookup succeeded, and only this thread uses its entry.
    let thread = unsafe { &mut *thread };
    if outer == 0 {
        thread.call_fd = -1;
        thread.call_fd_is_internet = 0;
    }
    thread.innermost = stack_pointer;
}

/// Sends what a returning call moved.
#[inline(always)]
fn leave(context: &RetProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let pid = (pid_tgid >> 32) as u32;
    if stopped() || !wanted(pid) {
        return;
    }
    let key = CallKey {
        pid_tgid,
        stack_pointer: stack_pointer_at_return(context.regs),
    };
    let Some(entry) = CALLS.get_ptr_mut(key) else {
        // Inside another call it is a part of that one.
        if outer_call(pid_tgid, key.stack_pointer) == 0 {
            count(counter::UNMATCHED_RETURNS, 1);
        }
        return;
    };
    // SAFETY: the map lookup succeeded; only this thread removes the entry.
    let call = unsafe { *entry };
    if !is_first_return(key, entry) {
        return;
    }
    let Some(thread) = THREADS.get_ptr_mut(pid_tgid) else {
        return;
    };
    // SAFETY: the map lookup succeeded, and only this thread uses its entry.
    let thread = unsafe { &mut *thread };
    thread.innermost = call.outer;

    let length = moved_bytes(context, &call);
    if thread.call_fd < 0 {
        thread.memory_bio = 1;
    } else if length == 0 && call.length != Length::Nothing as u32 {
        return;
    }
    let Some(session) = session_of(pid, call.session) else {
        count(counter::SESSIONS_FULL, 1);
        return;
    };
    if thread.call_fd < 0 && (length != 0 || session.sock == 0) {
        bind_recent(session, thread);
    }
    if length != 0 {
        deliver(&call, session, thread.call_fd, pid_tgid, length);
    } else if thread.call_fd >= 0 {
        bind(session, thread.call_fd, SOCKET_EXACT);
    }
}

#[inline(always)]
fn moved_bytes(context: &RetProbeContext, call: &Call) -> u64 {
    if call.length == Length::Nothing as u32 {
        return 0;
    }
    let returned: u64 = context.ret();
    if call.length == Length::ReturnedLong as u32 {
        return if (returned as i64) < 0 { 0 } else { returned };
    }
    let returned = returned as i32;
    if returned <= 0 {
        return 0;
    }
    if call.length == Length::ReturnedInt as u32 {
        return returned as u64;
    }
    user(call.length_pointer).unwrap_or(0)
}

/// Forgets a session that the library frees, and says so.
#[inline(always)]
pub(super) fn free(context: &ProbeContext) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if stopped() || !wanted(pid) {
        return;
    }
    let session: u64 = context.arg(0).unwrap_or(0);
    if SESSIONS
        .remove(SessionKey {
            session,
            pid,
            padding: 0,
        })
        .is_ok()
    {
        close(KIND_CLOSE_SESSION, pid, session);
    }
}

/// The session's entry, made when it is new.
#[inline(always)]
pub(super) fn session_of(pid: u32, session: u64) -> Option<&'static mut Session> {
    let key = SessionKey {
        session,
        pid,
        padding: 0,
    };
    if SESSIONS.get_ptr(key).is_none() {
        let _full = SESSIONS.insert(key, Session::NEW, 0);
        let _full = PROCESSES.insert(pid, 1, 0);
    }
    // SAFETY: the map lookup succeeded; the library forbids concurrent use of one session.
    SESSIONS.get_ptr_mut(key).map(|session| unsafe { &mut *session })
}

#[cfg(bpf_target_arch = "x86_64")]
fn stack_pointer_at_entry(registers: *mut pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*registers).rsp }
}

/// `ret` has popped the return address.
#[cfg(bpf_target_arch = "x86_64")]
fn stack_pointer_at_return(registers: *mut pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*registers).rsp - 8 }
}

#[cfg(bpf_target_arch = "aarch64")]
fn stack_pointer_at_entry(registers: *mut pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*registers).sp }
}

#[cfg(bpf_target_arch = "aarch64")]
fn stack_pointer_at_return(registers: *mut pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*registers).sp }
}

//! The Go standard library's `crypto/tls`.
//!
//! A goroutine moves between threads, and its stack moves in memory. So a call is known by its
//! goroutine and by its distance from the top of that goroutine's stack, which a move keeps; and
//! the return is not a return probe, which would change the stack, but a probe at each `ret`.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::counter;
use ecapture_ebpf::limits::CALL_CHUNKS_UNROLLED;
use ecapture_ebpf::record::{DIRECTION_READ, DIRECTION_WRITE, NO_FD, SOCKET_EXACT};

use super::call::{Length, end_session, is_followed, session_of, writes};
use super::delivery::deliver;
use super::identity::{bind, socket_of};
use super::lateness::judge;
use super::maps::{CALLS, Call, CallKey, count, count_unmatched, ended, stopped, wanted};
use super::memory::user;

/// `func (c *Conn) Read(b []byte) (int, error)`
#[uprobe]
fn go_read(context: ProbeContext) {
    enter(&context, DIRECTION_READ);
}

/// `func (c *Conn) Write(b []byte) (int, error)`
#[uprobe]
fn go_write(context: ProbeContext) {
    enter(&context, DIRECTION_WRITE);
}

/// Each `ret` of the functions above.
#[uprobe]
fn go_return(context: ProbeContext) {
    let _nothing = leave(&context);
}

/// `func (c *Conn) clientHandshake(ctx context.Context) error`, and `serverHandshake`: `Handshake` alone is
/// called before every read and write.
#[uprobe]
fn go_handshake(context: ProbeContext) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if stopped() || !wanted(pid) {
        return;
    }
    if let Some(session) = session_of(pid, registers(&context).result_or_first)
        && session.sock == 0
    {
        session.handshake = 1;
    }
}

/// `func (c *Conn) Close() error`
#[uprobe]
fn go_close(context: ProbeContext) {
    end_session(registers(&context).result_or_first);
}

#[inline(always)]
fn enter(context: &ProbeContext, direction: u8) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if !is_followed(pid_tgid) {
        return;
    }
    let registers = registers(context);
    let Some(key) = key((pid_tgid >> 32) as u32, &registers) else {
        count(counter::CALLS_FULL, 1);
        return;
    };
    let call = Call {
        session: registers.result_or_first,
        buffer: registers.second,
        length_pointer: 0,
        // SAFETY: the helper has no preconditions.
        entered_ns: unsafe { bpf_ktime_get_ns() },
        outer: 0,
        direction: u32::from(direction),
        length: Length::ReturnedLong as u32,
        tails: 0,
        delivered: 0,
    };
    if CALLS.insert(key, call, 0).is_err() {
        count(counter::CALLS_FULL, 1);
    } else {
        count(counter::WRITES_BEGUN, writes(call.direction));
    }
}

#[inline(always)]
fn leave(context: &ProbeContext) -> Option<()> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let pid = (pid_tgid >> 32) as u32;
    if ended() || !wanted(pid) {
        return None;
    }
    let registers = registers(context);
    let key = key(pid, &registers)?;
    let Some(call) = CALLS.get_ptr(key) else {
        count_unmatched();
        return None;
    };
    // SAFETY: the map lookup succeeded; only this goroutine removes the entry.
    let call = unsafe { *call };
    let _gone = CALLS.remove(key);
    let _nothing = end(context, &call, pid_tgid, registers.result_or_first as i64);
    // Last: user space waits for this, and then for nothing more of the call.
    count(counter::WRITES_ENDED, writes(call.direction));
    Some(())
}

/// Sends the bytes that a call has moved, and remembers its socket.
#[inline(always)]
fn end(context: &ProbeContext, call: &Call, pid_tgid: u64, moved: i64) -> Option<()> {
    if moved <= 0 {
        return None;
    }
    let Some(session) = session_of((pid_tgid >> 32) as u32, call.session) else {
        count(counter::SESSIONS_FULL, 1);
        return None;
    };
    let fd = if session.sock == 0 {
        descriptor(call.session).unwrap_or(NO_FD)
    } else {
        session.fd
    };
    if let Some(found) = socket_of(fd)
        && bind(session, fd, &found, SOCKET_EXACT)
    {
        let handshake = session.handshake != 0;
        session.handshake = 0;
        judge(context, session, handshake);
    }
    deliver::<CALL_CHUNKS_UNROLLED>(call, session, pid_tgid, moved as u64);
    Some(())
}

#[inline(always)]
fn key(pid: u32, registers: &Registers) -> Option<CallKey> {
    // The second word of a goroutine (`runtime.g`) is the top of its stack.
    let top: u64 = user(registers.goroutine + 8)?;
    let depth = (top - registers.stack_pointer) as u32;
    Some(CallKey {
        pid_tgid: u64::from(pid) << 32 | u64::from(depth),
        stack_pointer: registers.goroutine,
    })
}

/// From a `tls.Conn` over its `net.Conn` to the descriptor in the `poll.FD` there. The `net.Conn` is a
/// `*net.TCPConn`, or a struct around one that begins with it, or with an interface whose second word
/// points to it. Whatever it is, it counts only when it is a socket.
#[inline(always)]
fn descriptor(conn: u64) -> Option<i32> {
    let outer: u64 = user(conn + 8)?;
    for layer in 0..LAYERS {
        let tcp = match layer {
            0 => Some(outer),
            1 => user(outer + 8),
            _ => user(outer),
        };
        if let Some(fd) = tcp.and_then(poll_descriptor)
            && socket_of(fd).is_some()
        {
            return Some(fd);
        }
    }
    None
}

/// What [`descriptor`] takes for a `*net.TCPConn`, in this order.
const LAYERS: u32 = 3;

/// Of a `net.TCPConn`, which points to a `netFD`, whose `poll.FD` begins with a mutex of 16 bytes.
#[inline(always)]
fn poll_descriptor(tcp: u64) -> Option<i32> {
    let net: u64 = user(tcp)?;
    user(net + 16)
}

/// What Go's internal calling convention (ABIInternal) keeps where.
struct Registers {
    /// First parameter, and first result at the return.
    result_or_first: u64,
    second: u64,
    goroutine: u64,
    stack_pointer: u64,
}

#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn registers(context: &ProbeContext) -> Registers {
    let registers: *mut pt_regs = context.regs;
    // SAFETY: the kernel passes valid registers.
    unsafe {
        Registers {
            result_or_first: (*registers).rax,
            second: (*registers).rbx,
            goroutine: (*registers).r14,
            stack_pointer: (*registers).rsp,
        }
    }
}

#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn registers(context: &ProbeContext) -> Registers {
    let registers: *mut pt_regs = context.regs;
    // SAFETY: the kernel passes valid registers.
    unsafe {
        Registers {
            result_or_first: (*registers).regs[0],
            second: (*registers).regs[1],
            goroutine: (*registers).regs[28],
            stack_pointer: (*registers).sp,
        }
    }
}

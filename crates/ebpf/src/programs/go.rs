//! The Go standard library's `crypto/tls`.
//!
//! A goroutine moves between threads, and its stack moves in memory. So a call is identified by its
//! goroutine and by its distance from the top of that goroutine's stack, which does not change when
//! the stack moves. The return is not caught by a return probe, which would change the stack, but
//! by a probe at each `ret`.
//!
//! The socket of a connection is found in its `net.Conn`. If that is a type of the program's own
//! that hides the socket, the socket is taken from the first system call that the goroutine makes
//! during a call.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::{map, uprobe};
use aya_ebpf::maps::{Array, LruHashMap};
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::counter;
use ecapture_ebpf::limits::{self, CALL_CHUNKS_UNROLLED};
use ecapture_ebpf::record::{DIRECTION_READ, DIRECTION_WRITE, NO_FD, SOCKET_EXACT, SOCKET_HEURISTIC};

use super::call::{end_session, is_followed, known_session, pass_by, session_of, writes};
use super::counters::{count, count_unmatched};
use super::delivery::deliver;
use super::filter::{ended, may_return, stopped, wanted};
use super::identity::{bind, is_seen, socket_of};
use super::lateness::judge;
use super::maps::CALLS;
use super::memory::user;
use super::state::{Call, CallKey, CallKind, Session, SessionKey};
use super::thread::{insert_call, remove_call};

/// Goroutines in a call of a connection that hides its socket, by address of their `runtime.g` and process.
#[map]
static GOROUTINES: LruHashMap<SessionKey, Search> = LruHashMap::with_max_entries(limits::CALLS, 0);

/// The only entry is not 0 if [`GOROUTINES`] has ever had an entry; until then no lookup there is
/// needed.
#[map]
static SEARCHED: Array<u32> = Array::with_max_entries(1, 0);

/// The connection to which the first internet socket that a goroutine uses belongs.
#[repr(C)]
#[derive(Clone, Copy)]
struct Search {
    /// The `tls.Conn`.
    connection: u64,
    /// How deep the goroutine's stack was when the call began: the call makes system calls from
    /// further down.
    depth: u64,
}

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
    let registers = Registers::of(context.regs);
    if let Some(session) = session_of(pid, registers.result_or_first)
        && session.sock == 0
    {
        session.handshake = 1;
    }
    // Its return is not probed: the handshake uses the socket before the goroutine can use another
    // one.
    let _nothing = search(pid, &registers);
}

/// `func (c *Conn) Close() error`
#[uprobe]
fn go_close(context: ProbeContext) {
    end_session(Registers::of(context.regs).result_or_first);
}

#[inline(always)]
fn enter(context: &ProbeContext, direction: u8) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let registers = Registers::of(context.regs);
    if !is_followed(pid_tgid) {
        pass_by(pid_tgid, registers.result_or_first);
        return;
    }
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
        kind: CallKind::ReturnsLong as u32,
        tails: 0,
        delivered: 0,
    };
    if insert_call(key, &call).is_err() {
        count(counter::CALLS_FULL, 1);
    } else {
        count(counter::WRITES_BEGUN, writes(call.direction));
        let _nothing = search((pid_tgid >> 32) as u32, &registers);
    }
}

#[inline(always)]
fn leave(context: &ProbeContext) -> Option<()> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let pid = (pid_tgid >> 32) as u32;
    if ended() || !may_return(pid) {
        return None;
    }
    let registers = Registers::of(context.regs);
    let key = key(pid, &registers)?;
    let Some(call) = CALLS.get_ptr(key) else {
        count_unmatched();
        return None;
    };
    // SAFETY: the map lookup succeeded; only this goroutine removes the entry.
    let call = unsafe { *call };
    remove_call(key);
    if has_searched() {
        let _gone = GOROUTINES.remove(goroutine(pid, &registers));
    }
    let _nothing = end(context, &call, pid_tgid, registers.result_or_first as i64);
    // Must be last: once user space has seen this counter, it no longer waits for the call.
    count(counter::WRITES_ENDED, writes(call.direction));
    Some(())
}

/// Sends the bytes that a call moved, and remembers its socket.
#[inline(always)]
fn end(context: &ProbeContext, call: &Call, pid_tgid: u64, moved: i64) -> Option<()> {
    if moved <= 0 {
        return None;
    }
    let Some(session) = session_of((pid_tgid >> 32) as u32, call.session) else {
        count(counter::SESSIONS_FULL, 1);
        return None;
    };
    if session.socket_source != SOCKET_HEURISTIC {
        find_socket(context, session, call.session);
    }
    deliver::<CALL_CHUNKS_UNROLLED>(call, session, pid_tgid, moved as u64);
    Some(())
}

/// Finds the socket of a connection.
#[inline(always)]
fn find_socket(context: &ProbeContext, session: &mut Session, connection: u64) {
    let fd = if session.sock == 0 {
        descriptor(connection).unwrap_or(NO_FD)
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
}

/// Watches for the socket of a connection that hides it, from now until the call returns.
#[inline(always)]
fn search(pid: u32, registers: &Registers) -> Option<()> {
    let connection = registers.result_or_first;
    let is_known = match known_session(pid, connection) {
        // A guess is valid as long as that socket is open.
        Some(session) if session.socket_source == SOCKET_HEURISTIC => is_seen(session.sock),
        Some(session) => session.sock != 0,
        None => false,
    };
    if is_known || descriptor(connection).is_some() {
        return None;
    }
    let depth = depth(registers)?;
    let _full = GOROUTINES.insert(goroutine(pid, registers), Search { connection, depth }, 0);
    // SAFETY: the map lookup succeeded; all writers write the same value.
    unsafe { *SEARCHED.get_ptr_mut(0)? = 1 };
    Some(())
}

/// Returns true if any connection has hidden its socket since the capture began.
#[inline(always)]
pub(super) fn has_searched() -> bool {
    // SAFETY: the map lookup succeeded; the value is a whole word.
    SEARCHED
        .get_ptr(0)
        .is_some_and(|searched| unsafe { *searched } != 0)
}

/// Notes that the current thread moves bytes through `fd` by a system call made with these
/// `registers`.
#[inline(always)]
pub(super) fn moves(fd: i32, registers: *const pt_regs) -> Option<()> {
    if !has_searched() {
        return None;
    }
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let registers = Registers::of(registers);
    let key = goroutine(pid, &registers);
    // SAFETY: the map lookup succeeded; only this goroutine changes or removes the entry.
    let search = unsafe { *GOROUTINES.get_ptr(key)? };
    if depth(&registers)? > search.depth {
        let found = socket_of(fd).filter(|found| found.is_internet())?;
        let session = known_session(pid, search.connection)?;
        let _uncertain = bind(session, fd, &found, SOCKET_HEURISTIC);
    }
    let _gone = GOROUTINES.remove(key);
    Some(())
}

#[inline(always)]
fn goroutine(pid: u32, registers: &Registers) -> SessionKey {
    SessionKey {
        session: registers.goroutine,
        pid,
        padding: 0,
    }
}

/// Returns the distance of the stack pointer from the top of the goroutine's stack, which is the
/// second word of a `runtime.g`.
#[inline(always)]
fn depth(registers: &Registers) -> Option<u64> {
    let top: u64 = user(registers.goroutine + 8)?;
    Some(top - registers.stack_pointer)
}

#[inline(always)]
fn key(pid: u32, registers: &Registers) -> Option<CallKey> {
    Some(CallKey {
        pid_tgid: u64::from(pid) << 32 | depth(registers)? & 0xFFFF_FFFF,
        stack_pointer: registers.goroutine,
    })
}

/// Follows a `tls.Conn` through its `net.Conn` to the descriptor in the `poll.FD`. The `net.Conn`
/// is a `*net.TCPConn`, or a struct that begins with one, or with an interface whose second word
/// points to one. In any case the descriptor counts only if it is a socket.
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

/// Number of candidates for a `*net.TCPConn` that [`descriptor`] tries, in this order.
const LAYERS: u32 = 3;

/// Reads the descriptor of a `net.TCPConn`, which points to a `netFD`, whose `poll.FD` begins with
/// a mutex of 16 bytes.
#[inline(always)]
fn poll_descriptor(tcp: u64) -> Option<i32> {
    let net: u64 = user(tcp)?;
    user(net + 16)
}

/// The registers of Go's internal calling convention (ABIInternal).
struct Registers {
    /// First parameter, and first result at the return.
    result_or_first: u64,
    second: u64,
    goroutine: u64,
    stack_pointer: u64,
}

impl Registers {
    #[cfg(bpf_target_arch = "x86_64")]
    #[inline(always)]
    fn of(registers: *const pt_regs) -> Self {
        // SAFETY: the kernel passes valid registers.
        unsafe {
            Self {
                result_or_first: (*registers).rax,
                second: (*registers).rbx,
                goroutine: (*registers).r14,
                stack_pointer: (*registers).rsp,
            }
        }
    }

    #[cfg(bpf_target_arch = "aarch64")]
    #[inline(always)]
    fn of(registers: *const pt_regs) -> Self {
        // SAFETY: the kernel passes valid registers.
        unsafe {
            Self {
                result_or_first: (*registers).regs[0],
                second: (*registers).regs[1],
                goroutine: (*registers).regs[28],
                stack_pointer: (*registers).sp,
            }
        }
    }
}

//! Which side opened a connection and when, and when the connection ends.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use ecapture_ebpf::record::{KIND_CLOSE_SOCKET, ROLE_ACCEPTOR, ROLE_CONNECTOR};
use ecapture_ebpf::table;

use super::filter::stopped;
use super::maps::{CONNECTED, SOCKETS};
use super::owner;
use super::record::close;
use super::state::SocketState;
use super::tables::{entered, left};

// States of include/net/tcp_states.h.
const SYN_SENT: i32 = 2;
const SYN_RECEIVED: i32 = 3;
const LISTEN: i32 = 10;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(context: BtfTracePointContext) -> i32 {
    if stopped() {
        return 0;
    }
    let sock: u64 = context.arg(0);
    match context.arg::<i32>(2) {
        SYN_SENT => {
            remember(sock, ROLE_CONNECTOR);
            note_process();
            owner::uses_argument(&context);
        }
        LISTEN => note_process(),
        SYN_RECEIVED => remember(sock, ROLE_ACCEPTOR),
        _ => {}
    }
    0
}

/// `tcp_destroy_sock(struct sock *sk)`: the connection has ended and no descriptor is left, so
/// pending data in it can no longer be read.
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn tcp_destroy_sock(context: BtfTracePointContext) -> i32 {
    if !stopped() {
        forget(context.arg(0));
    }
    0
}

/// Notes when the current process connects or listens; the process itself does both.
#[inline(always)]
fn note_process() {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the helper has no preconditions.
    let _full = CONNECTED.insert(pid, unsafe { bpf_ktime_get_ns() }, 0);
}

#[inline(always)]
fn remember(sock: u64, role: u8) {
    insert_socket(
        sock,
        SocketState {
            // SAFETY: the helper has no preconditions.
            opened_ns: unsafe { bpf_ktime_get_ns() },
            role: u32::from(role),
            seen: 0,
        },
    );
}

/// Remembers a socket.
#[inline(always)]
pub(super) fn insert_socket(sock: u64, state: SocketState) {
    if SOCKETS.insert(sock, state, 0).is_ok() {
        entered(table::SOCKETS);
    }
}

/// Forgets a socket. Its end is an event only if user space has seen it.
#[inline(always)]
fn forget(sock: u64) {
    let Some(state) = SOCKETS.get_ptr(sock) else {
        return;
    };
    // SAFETY: the map lookup succeeded; the field is a whole word.
    let seen = unsafe { (*state).seen } != 0;
    if SOCKETS.remove(sock).is_ok() {
        left(table::SOCKETS);
    }
    if seen {
        close(KIND_CLOSE_SOCKET, 0, sock);
    }
}

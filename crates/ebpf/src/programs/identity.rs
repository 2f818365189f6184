//! Finds the socket and addresses of a file descriptor, without knowing the library.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use ecapture_ebpf::config::NO_OFFSET;
use ecapture_ebpf::record::{FAMILY_V4, FAMILY_V6, NOT_JOINED_LATE, SOCKET_EXACT};
use ecapture_ebpf::{counter, table};

use super::counters::count;
use super::maps::{SOCKETS, config};
use super::memory::kernel;
use super::socket::insert_socket;
use super::state::{Session, SocketState};
use super::tables::overflowed;

const MODE_TYPE_MASK: u16 = 0o170_000;
const MODE_SOCKET: u16 = 0o140_000;

/// A socket behind a file descriptor.
pub(super) struct Found {
    pub sock: u64,
    pub family: u16,
}

impl Found {
    pub(in crate::programs) fn is_internet(&self) -> bool {
        self.family == FAMILY_V4 || self.family == FAMILY_V6
    }
}

/// Returns the `struct file` of `fd` in the current process.
#[inline(always)]
pub(super) fn file_of(fd: i32) -> Option<u64> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = kernel(task, config!(offsets.task_files))?;
    let table: u64 = kernel(files, config!(offsets.files_fdt))?;
    let descriptors: u32 = kernel(table, config!(offsets.fdtable_max_fds))?;
    if fd as u32 >= descriptors {
        return None;
    }
    let array: u64 = kernel(table, config!(offsets.fdtable_fd))?;
    kernel(array + fd as u64 * 8, 0).filter(|&file| file != 0)
}

/// Returns the socket of `fd` in the current process, if it is one.
#[inline(always)]
pub(super) fn socket_of(fd: i32) -> Option<Found> {
    let file = file_of(fd)?;
    let inode: u64 = kernel(file, config!(offsets.file_inode))?;
    let mode: u16 = kernel(inode, config!(offsets.inode_mode))?;
    if mode & MODE_TYPE_MASK != MODE_SOCKET {
        return None;
    }
    let socket: u64 = kernel(file, config!(offsets.file_private_data))?;
    let sock: u64 = kernel(socket, config!(offsets.socket_sk))?;
    let family: u16 = kernel(sock, config!(offsets.sock_family))?;
    Some(Found { sock, family })
}

/// Binds `session` to `fd`, which is the socket `found`, unless it is already bound to it. Returns
/// true if the socket has just become certain.
#[inline(always)]
pub(super) fn bind(session: &mut Session, fd: i32, found: &Found, source: u8) -> bool {
    let sock = if found.is_internet() { found.sock } else { 0 };
    let unchanged = session.fd == fd && session.sock == sock && session.socket_source == source;
    // The kernel reuses addresses of closed sockets, and a session object may outlive its
    // connection. A socket without a port is closed and has no new connection: the known addresses
    // are its last ones.
    if unchanged && (sock == 0 || is_seen(sock) || local_port(sock) == Some(0)) {
        return false;
    }
    let was_known = session.sock == sock && session.socket_source == SOCKET_EXACT && is_seen(sock);
    let _nothing = session_forgotten(session.sock, sock);
    session.fd = fd;
    session.sock = sock;
    session.socket_source = source;
    session.family = 0;
    if !was_known {
        session.joined_late = NOT_JOINED_LATE;
    }
    if sock != 0 && read_addresses(session, found).is_some() {
        session.family = found.family;
        session.role = remember(sock) as u8;
    }
    sock != 0 && source == SOCKET_EXACT && !was_known
}

#[inline(always)]
fn read_addresses(session: &mut Session, found: &Found) -> Option<()> {
    let sock = found.sock;
    session.local_port = local_port(sock).filter(|&port| port != 0)?;
    session.remote_port = u16::from_be(kernel(sock, config!(offsets.sock_remote_port))?);
    if found.family == FAMILY_V6 {
        if config!(offsets.sock_local_v6) == NO_OFFSET {
            return None;
        }
        session.local_address = kernel(sock, config!(offsets.sock_local_v6))?;
        session.remote_address = kernel(sock, config!(offsets.sock_remote_v6))?;
        return Some(());
    }
    let local: [u8; 4] = kernel(sock, config!(offsets.sock_local_v4))?;
    let remote: [u8; 4] = kernel(sock, config!(offsets.sock_remote_v4))?;
    session.local_address = [0; 16];
    session.remote_address = [0; 16];
    session.local_address[..4].copy_from_slice(&local);
    session.remote_address[..4].copy_from_slice(&remote);
    Some(())
}

/// Returns the local port in host order. The kernel removes it when the connection has ended
/// (`inet_put_port`).
#[inline(always)]
fn local_port(sock: u64) -> Option<u16> {
    kernel(sock, config!(offsets.sock_local_port))
}

/// Counts a session that begins to use a socket that an earlier session used.
///
/// A global function of numbers only: the verifier walks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn session_forgotten(before: u64, sock: u64) -> u64 {
    if before == 0 && overflowed(table::SESSIONS) && is_seen(sock) {
        count(counter::FORGOTTEN_SESSIONS, 1);
    }
    0
}

/// Returns true if the socket was marked by [`remember`] and has not been closed since then.
#[inline(always)]
pub(super) fn is_seen(sock: u64) -> bool {
    match SOCKETS.get_ptr(sock) {
        // SAFETY: the map lookup succeeded; the field is a whole word.
        Some(state) => unsafe { (*state).seen != 0 },
        None => false,
    }
}

/// Marks the socket so that its end becomes an event. Returns which side opened it.
#[inline(always)]
fn remember(sock: u64) -> u32 {
    if let Some(state) = SOCKETS.get_ptr_mut(sock) {
        // SAFETY: the map lookup succeeded; the fields are whole words.
        unsafe {
            (*state).seen = 1;
            return (*state).role;
        }
    }
    insert_socket(
        sock,
        SocketState {
            opened_ns: 0,
            role: 0,
            seen: 1,
        },
    );
    0
}

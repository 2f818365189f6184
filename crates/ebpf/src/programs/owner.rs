//! Which process uses a socket, for the packets of the socket. Only where packets are captured.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_get_socket_cookie};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use aya_ebpf::programs::BtfTracePointContext;
use ecapture_ebpf::config::{NO_OFFSET, PACKETS as WANTS_PACKETS};
use ecapture_ebpf::counter;
use ecapture_ebpf::packet::{KIND_OWNER, Owner, OwnerRecord};
use ecapture_ebpf::record::{FAMILY_V4, FAMILY_V6};

use super::counters::count;
use super::filter::{ended, wanted};
use super::maps::{OWNERS, PACKETS, config};
use super::memory::kernel;

/// Returns true if packets are captured.
#[inline(always)]
pub(super) fn matters() -> bool {
    config!(features) & WANTS_PACKETS != 0
}

/// Notes that the current process uses the socket that is the first argument of a tracepoint.
#[inline(always)]
pub(super) fn uses_argument(context: &BtfTracePointContext) {
    if matters() {
        let sock: *mut core::ffi::c_void = context.arg(0);
        // SAFETY: the tracepoint's argument is a valid socket.
        let cookie = unsafe { bpf_get_socket_cookie(sock) };
        note(sock as u64, cookie);
    }
}

/// Notes that the current process uses a socket.
#[inline(always)]
pub(super) fn uses(sock: u64) {
    if matters()
        && let Some(cookie) = kernel(sock, config!(offsets.sock_cookie))
        // The kernel numbers a socket with the first packet that we see of it.
        && cookie != 0
    {
        note(sock, cookie);
    }
}

#[inline(always)]
fn note(sock: u64, cookie: u64) {
    let family = kernel::<u16>(sock, config!(offsets.sock_family)).unwrap_or(0);
    if (family != FAMILY_V4 && family != FAMILY_V6) || ended() {
        return;
    }
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let local_port = kernel::<u16>(sock, config!(offsets.sock_local_port)).unwrap_or(0);
    let remote_port = kernel::<u16>(sock, config!(offsets.sock_remote_port)).unwrap_or(0);
    let mut owner = Owner {
        pid,
        wanted: u32::from(wanted(pid)),
        ports: u32::from(local_port) << 16 | u32::from(remote_port),
        padding: 0,
    };
    if let Some(known) = OWNERS.get_ptr(cookie) {
        // SAFETY: the map lookup succeeded; the fields are whole words.
        let known = unsafe { *known };
        // A socket of several processes stays one that the filters let through.
        owner.wanted |= known.wanted;
        if known == owner {
            return;
        }
    }
    if report(sock, cookie, family, &owner) {
        let _full = OWNERS.insert(cookie, owner, 0);
    }
}

/// Returns true if the record was sent.
#[inline(always)]
fn report(sock: u64, cookie: u64, family: u16, owner: &Owner) -> bool {
    let Some(mut slot) = PACKETS.reserve::<OwnerRecord>(0) else {
        count(counter::OWNERS_LOST, 1);
        return false;
    };
    let record = slot.as_mut_ptr();
    let (local_address, remote_address) = addresses(sock, family);
    let protocol = kernel(sock, config!(offsets.sock_protocol)).unwrap_or(0);
    // SAFETY: the slot is ours until it is submitted; the helper writes as many bytes as it is given.
    unsafe {
        record.write(OwnerRecord {
            kind: KIND_OWNER,
            pid: owner.pid,
            tid: bpf_get_current_pid_tgid() as u32,
            uid: bpf_get_current_uid_gid() as u32,
            cookie,
            comm: [0; 16],
            local_address,
            remote_address,
            local_port: (owner.ports >> 16) as u16,
            remote_port: u16::from_be(owner.ports as u16),
            family,
            protocol,
            wanted: owner.wanted,
            padding: 0,
        });
        bpf_get_current_comm((&raw mut (*record).comm).cast(), 16);
    }
    slot.submit(u64::from(BPF_RB_NO_WAKEUP));
    true
}

#[inline(always)]
fn addresses(sock: u64, family: u16) -> ([u8; 16], [u8; 16]) {
    let mut local = [0; 16];
    let mut remote = [0; 16];
    if family == FAMILY_V6 && config!(offsets.sock_local_v6) != NO_OFFSET {
        local = kernel(sock, config!(offsets.sock_local_v6)).unwrap_or(local);
        remote = kernel(sock, config!(offsets.sock_remote_v6)).unwrap_or(remote);
    } else {
        let v4: [u8; 4] = kernel(sock, config!(offsets.sock_local_v4)).unwrap_or([0; 4]);
        local[..4].copy_from_slice(&v4);
        let v4: [u8; 4] = kernel(sock, config!(offsets.sock_remote_v4)).unwrap_or([0; 4]);
        remote[..4].copy_from_slice(&v4);
    }
    (local, remote)
}

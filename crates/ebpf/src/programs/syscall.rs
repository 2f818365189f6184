//! Which socket a library call uses: the one that the thread hands to the kernel meanwhile. And
//! which files are mapped.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use super::discovery::mapping;
use super::identity::socket_of;
use super::maps::stopped;
use super::memory::user;
use super::thread::Thread;

/// Numbers of the system calls that move bytes through a descriptor.
#[cfg(bpf_target_arch = "x86_64")]
mod number {
    pub(super) const READ: u64 = 0;
    pub(super) const WRITE: u64 = 1;
    pub(super) const MMAP: u64 = 9;
    pub(super) const READV: u64 = 19;
    pub(super) const WRITEV: u64 = 20;
    pub(super) const SENDFILE: u64 = 40;
    pub(super) const SENDTO: u64 = 44;
    pub(super) const RECVFROM: u64 = 45;
    pub(super) const SENDMSG: u64 = 46;
    pub(super) const RECVMSG: u64 = 47;
}

#[cfg(bpf_target_arch = "aarch64")]
mod number {
    pub(super) const READ: u64 = 63;
    pub(super) const WRITE: u64 = 64;
    pub(super) const READV: u64 = 65;
    pub(super) const WRITEV: u64 = 66;
    pub(super) const SENDFILE: u64 = 71;
    pub(super) const SENDTO: u64 = 206;
    pub(super) const RECVFROM: u64 = 207;
    pub(super) const SENDMSG: u64 = 211;
    pub(super) const RECVMSG: u64 = 212;
    pub(super) const MMAP: u64 = 222;
}

/// `sys_enter(struct pt_regs *regs, long id)`
#[btf_tracepoint(function = "sys_enter")]
fn sys_enter(context: BtfTracePointContext) -> i32 {
    let id: u64 = context.arg(1);
    if id == number::MMAP {
        let registers: *const pt_regs = context.arg(0);
        let fd = argument::<4>(registers) as i32;
        let _known = mapping(argument::<2>(registers), argument::<3>(registers), fd);
        return 0;
    }
    if !moves_bytes(id) {
        return 0;
    }
    let Some(thread) = Thread::known(bpf_get_current_pid_tgid()) else {
        return 0;
    };
    if thread.innermost == 0 && thread.memory_bio == 0 || stopped() {
        return 0;
    }
    let registers: *const pt_regs = context.arg(0);
    let fd = argument::<0>(registers) as i32;
    if thread.innermost != 0 {
        thread.uses(fd);
    } else if reads_bytes(id) {
        note_recent_fd(thread, fd, id, argument::<1>(registers));
    }
    0
}

#[inline(always)]
fn note_recent_fd(thread: &mut Thread, fd: i32, id: u64, argument: u64) {
    let buffer = match id {
        number::READ | number::RECVFROM => Some(argument),
        // struct iovec begins with its base.
        number::READV => user(argument),
        // The third word of struct msghdr is its array of struct iovec.
        _ => user(argument + 16).and_then(user),
    };
    let Some(buffer) = buffer else {
        return;
    };
    if socket_of(fd).is_some_and(|found| found.is_internet()) {
        thread.recent_fd = fd;
        thread.recent_buffer = buffer;
    }
}

#[inline(always)]
fn moves_bytes(id: u64) -> bool {
    reads_bytes(id)
        || matches!(
            id,
            number::WRITE | number::WRITEV | number::SENDFILE | number::SENDTO | number::SENDMSG
        )
}

#[inline(always)]
fn reads_bytes(id: u64) -> bool {
    matches!(
        id,
        number::READ | number::READV | number::RECVFROM | number::RECVMSG
    )
}

#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn argument<const INDEX: usize>(registers: *const pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers and lets programs read them.
    unsafe {
        match INDEX {
            0 => (*registers).rdi,
            1 => (*registers).rsi,
            2 => (*registers).rdx,
            3 => (*registers).r10,
            _ => (*registers).r8,
        }
    }
}

#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn argument<const INDEX: usize>(registers: *const pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers and lets programs read them.
    unsafe {
        if INDEX == 0 {
            (*registers).orig_x0
        } else {
            (*registers).regs[INDEX]
        }
    }
}

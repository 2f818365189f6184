//! Finds the socket that a library call uses: the one that the thread passes to the kernel during
//! the call. Also finds the files that are mapped.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use super::discovery::mapping;
use super::filter::ended;
use super::go;
use super::identity::socket_of;
use super::memory::user;
use super::owner;
use super::state::Thread;

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

/// A system call of the current thread.
struct SystemCall {
    number: u64,
    registers: *const pt_regs,
}

impl SystemCall {
    /// Returns the current system call. Meaningless in a kernel thread.
    #[inline(always)]
    fn current() -> Self {
        // SAFETY: the helpers have no preconditions, and the kernel lets programs read the registers.
        unsafe {
            let registers = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs;
            Self {
                number: number_of(registers),
                registers,
            }
        }
    }

    #[inline(always)]
    fn fd(&self) -> i32 {
        argument::<0>(self.registers) as i32
    }
}

/// `sys_enter(struct pt_regs *regs, long id)`, for kernels that lack one of the other three
/// tracepoints. It makes every system call on the host a little slower.
#[btf_tracepoint(function = "sys_enter")]
fn sys_enter(context: BtfTracePointContext) -> i32 {
    let call = SystemCall {
        number: context.arg(1),
        registers: context.arg(0),
    };
    if call.number == number::MMAP {
        maps(&call);
    } else if moves_bytes(call.number) {
        if let Some(thread) = followed() {
            moves(thread, &call);
        }
        let _unknown = go::moves(call.fd(), call.registers);
        if owner::matters()
            && let Some(found) = socket_of(call.fd())
        {
            owner::uses(found.sock);
        }
    }
    0
}

/// `sock_send_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_send_length")]
fn sock_send_length(context: BtfTracePointContext) -> i32 {
    owner::uses_argument(&context);
    has_moved(context.arg(1));
    0
}

/// `sock_recv_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_recv_length")]
fn sock_recv_length(context: BtfTracePointContext) -> i32 {
    owner::uses_argument(&context);
    has_moved(context.arg(1));
    0
}

/// `mmap_lock_start_locking(struct mm_struct *mm, bool write)`, which every `mmap` reaches.
#[btf_tracepoint(function = "mmap_lock_start_locking")]
fn mmap_lock_start_locking(context: BtfTracePointContext) -> i32 {
    let writes: i32 = context.arg(1);
    if writes & 0xFF != 0 {
        let call = SystemCall::current();
        if call.number == number::MMAP {
            maps(&call);
        }
    }
    0
}

#[inline(always)]
fn maps(call: &SystemCall) {
    let registers = call.registers;
    let fd = argument::<4>(registers) as i32;
    let _known = mapping(argument::<2>(registers), argument::<3>(registers), fd);
}

/// The socket may not be that of the call's descriptor: a file that the call reads may be on
/// another host.
#[inline(always)]
fn has_moved(result: i32) {
    let thread = followed();
    if thread.is_none() && !go::has_searched() {
        return;
    }
    let call = SystemCall::current();
    if moves_bytes(call.number) {
        if let Some(thread) = thread {
            // A thread that reads until nothing is left still uses what it read before.
            if thread.innermost != 0 || result > 0 {
                moves(thread, &call);
            }
        }
        let _unknown = go::moves(call.fd(), call.registers);
    }
}

/// Returns the current thread, if it matters now which sockets it uses.
#[inline(always)]
fn followed() -> Option<&'static mut Thread> {
    let thread = Thread::known(bpf_get_current_pid_tgid())?;
    let matters = thread.innermost != 0 || thread.memory_bio != 0;
    (matters && !ended()).then_some(thread)
}

#[inline(always)]
fn moves(thread: &mut Thread, call: &SystemCall) {
    if thread.innermost != 0 {
        thread.uses(call.fd());
    } else if reads_bytes(call.number) {
        note_recent_fd(thread, call);
    }
}

#[inline(always)]
fn note_recent_fd(thread: &mut Thread, call: &SystemCall) {
    let argument = argument::<1>(call.registers);
    let buffer = match call.number {
        number::READ | number::RECVFROM => Some(argument),
        // struct iovec begins with its base.
        number::READV => user(argument),
        // The third word of struct msghdr is its array of struct iovec.
        _ => user(argument + 16).and_then(user),
    };
    let Some(buffer) = buffer else {
        return;
    };
    if socket_of(call.fd()).is_some_and(|found| found.is_internet()) {
        thread.recent_fd = call.fd();
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
unsafe fn number_of(registers: *const pt_regs) -> u64 {
    // SAFETY: the caller's registers are readable.
    unsafe { (*registers).orig_rax }
}

#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
unsafe fn number_of(registers: *const pt_regs) -> u64 {
    // SAFETY: the caller's registers are readable.
    unsafe { (*registers).regs[8] }
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
            // `orig_x0`, which the kernel keeps after these registers, because x0 takes the result.
            registers.add(1).cast::<u64>().read()
        } else {
            (*registers).regs[INDEX]
        }
    }
}

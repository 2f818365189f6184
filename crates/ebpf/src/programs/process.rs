//! The beginning and end of processes.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use ecapture_ebpf::config::FOLLOW_CHILDREN;
use ecapture_ebpf::record::KIND_CLOSE_PROCESS;

use super::discovery::executed;
use super::filter::{InForce, stopped};
use super::maps::{PIDS, PROCESSES, config};
use super::memory::kernel;
use super::record::close;
use super::shell;
use super::sql;
use super::state::Thread;

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`
#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(context: BtfTracePointContext) -> i32 {
    if InForce::get().filters & FOLLOW_CHILDREN != 0 {
        follow(context.arg(0), context.arg(1));
    }
    0
}

#[inline(always)]
fn follow(parent: u64, child: u64) -> Option<()> {
    let parent: u32 = kernel(parent, config!(offsets.task_tgid))?;
    // SAFETY: the map lookup succeeded; the value is a whole word.
    let places = PIDS
        .get_ptr(parent)
        .map(|places| unsafe { core::ptr::read_volatile(places) })?;
    let child: u32 = kernel(child, config!(offsets.task_tgid))?;
    if child != parent {
        let _full = PIDS.insert(child, places, 0);
    }
    Some(())
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: the
/// process continues as another program, and its sessions are gone as if it had ended.
#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(context: BtfTracePointContext) -> i32 {
    if let Some(pid) = kernel(context.arg(0), config!(offsets.task_tgid)) {
        shell::replaced(pid);
        forget(pid);
    }
    let _known = executed(context.arg(2));
    0
}

/// `sched_process_exit(struct task_struct *p)`, which is reached at the end of each thread.
#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(context: BtfTracePointContext) -> i32 {
    Thread::end(bpf_get_current_pid_tgid());
    sql::ended(bpf_get_current_pid_tgid());
    let _unreadable = exit(context.arg(0));
    0
}

/// Handles the end of a thread: the process ends with its last thread, whichever that is.
#[inline(always)]
fn exit(task: u64) -> Option<()> {
    let pid: u32 = kernel(task, config!(offsets.task_tgid))?;
    let signal: u64 = kernel(task, config!(offsets.task_signal))?;
    let live: i32 = kernel(signal, config!(offsets.signal_live))?;
    if live != 0 {
        return None;
    }
    let _absent = PIDS.remove(pid);
    shell::exited(pid, task);
    forget(pid);
    Some(())
}

#[inline(always)]
fn forget(pid: u32) {
    if PROCESSES.remove(pid).is_ok() && !stopped() {
        close(KIND_CLOSE_PROCESS, pid, 0);
    }
}

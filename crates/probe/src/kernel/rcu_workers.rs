//! The kernel's threads that carry out expedited grace periods (`rcu_exp_gp_kthread_worker`,
//! `rcu_exp_par_gp_kthread_worker/N`). They take their turn among all that wants a processor, which takes 10 to 20 ms on
//! a busy host: much longer than the grace period. Kernels without them use their common workers, which are left alone.

use std::sync::OnceLock;

use crate::proc;
use crate::proc::priority::Thread;

const NAMES: &str = "rcu_exp_";
/// `kthreadd`: only threads of the kernel have this parent.
const PARENT_OF_KERNEL_THREADS: u32 = 2;

/// They are there as long as the kernel is.
static WORKERS: OnceLock<Vec<u32>> = OnceLock::new();

/// Lets them run as soon as they are woken. Where that is refused, grace periods merely take longer.
pub(super) fn raise() {
    for worker in workers() {
        worker.run_at_once();
    }
}

/// Lets those that any capture has raised take their turn again.
pub(super) fn lower() {
    for worker in workers() {
        worker.run_in_turn();
    }
}

fn workers() -> impl Iterator<Item = Thread> {
    let all = || proc::pids().into_iter().filter(|pid| is_worker(*pid)).collect();
    let pids = WORKERS.get_or_init(all).iter().copied();
    pids.filter(|pid| is_worker(*pid)).filter_map(Thread::numbered)
}

/// Any process can have that name, but not that parent.
fn is_worker(pid: u32) -> bool {
    proc::command(pid).is_ok_and(|name| name.starts_with(NAMES))
        && proc::parent(pid) == Some(PARENT_OF_KERNEL_THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_a_worker() {
        assert!(!is_worker(std::process::id()));
        assert!(!is_worker(PARENT_OF_KERNEL_THREADS));
    }
}

//! Decides whether a call or a thread is captured.

use aya_ebpf::helpers::bpf_get_current_uid_gid;
use ecapture_ebpf::config::{ENDED, FILTER_CGROUP, FILTER_PID, FILTER_PID_SET, FILTER_UID};

use super::maps::{CGROUPS, CONTROL, PIDS, config};

/// Returns true if calls that begin now are not captured.
#[inline(always)]
pub(super) fn stopped() -> bool {
    end() != 0
}

/// Returns true if nothing is captured any more, not even calls that were in progress at the stop.
#[inline(always)]
pub(super) fn ended() -> bool {
    end() >= ENDED
}

#[inline(always)]
fn end() -> u32 {
    match CONTROL.get_ptr(0) {
        // SAFETY: the map lookup succeeded; user space writes whole words.
        Some(control) => unsafe { core::ptr::read_volatile(&raw const (*control).end) },
        None => ENDED,
    }
}

/// Returns true if the filters let the current thread through.
#[inline(always)]
pub(super) fn wanted(pid: u32) -> bool {
    let filters = config!(filters);
    if filters & FILTER_PID != 0 && pid != config!(pid) {
        return false;
    }
    if filters & FILTER_UID != 0 && bpf_get_current_uid_gid() as u32 != config!(uid) {
        return false;
    }
    if filters & FILTER_CGROUP != 0 && CGROUPS.current_task_under_cgroup(0) != Ok(true) {
        return false;
    }
    filters & FILTER_PID_SET == 0 || PIDS.get_ptr(pid).is_some()
}

//! Decides whether a call or a thread is captured.

use aya_ebpf::helpers::bpf_get_current_uid_gid;
use ecapture_ebpf::config::{ENDED, FILTER_CGROUP, FILTER_PID, FILTER_PID_SET, FILTER_UID, LIVE_FILTERS};

use super::maps::{CGROUPS, CONTROL, FILTERS, PIDS, config};

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

/// The filters in force.
#[derive(Clone, Copy)]
pub(super) struct InForce {
    /// As in [`Config::filters`](ecapture_ebpf::config::Config::filters).
    pub filters: u32,
    uid: u32,
    place: u32,
}

impl InForce {
    /// Without [`LIVE_FILTERS`] they are constants: the verifier removes what does not apply.
    #[inline(always)]
    pub(in crate::programs) fn get() -> Self {
        if is_live() {
            return Self::switched();
        }
        Self {
            filters: config!(filters),
            uid: config!(uid),
            place: 0,
        }
    }

    #[inline(always)]
    fn switched() -> Self {
        let place = match CONTROL.get_ptr(0) {
            // SAFETY: the map lookup succeeded; user space writes whole words.
            Some(control) => unsafe { core::ptr::read_volatile(&raw const (*control).place) },
            None => 0,
        };
        match FILTERS.get(place) {
            Some(filters) => Self {
                filters: filters.filters & !FILTER_PID,
                uid: filters.uid,
                place,
            },
            // No process has the number 0.
            None => Self {
                filters: FILTER_PID,
                uid: 0,
                place,
            },
        }
    }

    /// Returns true if the set of processes has this one, or if there is none.
    #[inline(always)]
    pub(in crate::programs) fn lets_through(self, pid: u32) -> bool {
        if self.filters & FILTER_PID != 0 && pid != config!(pid) {
            return false;
        }
        if self.filters & FILTER_PID_SET == 0 {
            return true;
        }
        match PIDS.get_ptr(pid) {
            // SAFETY: the map lookup succeeded; the value is a whole word.
            Some(places) => unsafe { core::ptr::read_volatile(places) >> (self.place & 1) & 1 != 0 },
            None => false,
        }
    }
}

/// Returns true if the filters may change while the programs run.
#[inline(always)]
pub(super) fn is_live() -> bool {
    config!(features) & LIVE_FILTERS != 0
}

/// Returns true if the filters let the current thread through.
#[inline(always)]
pub(super) fn wanted(pid: u32) -> bool {
    let in_force = InForce::get();
    if in_force.filters & FILTER_UID != 0 && bpf_get_current_uid_gid() as u32 != in_force.uid {
        return false;
    }
    if in_force.filters & FILTER_CGROUP != 0 && CGROUPS.current_task_under_cgroup(in_force.place) != Ok(true)
    {
        return false;
    }
    in_force.lets_through(pid)
}

/// Returns true if the return of a call must be handled: the filters let its thread through, or may have done so when
/// it began.
#[inline(always)]
pub(super) fn may_return(pid: u32) -> bool {
    is_live() || wanted(pid)
}

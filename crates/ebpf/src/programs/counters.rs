//! Counts what user space reports as figures and losses.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use ecapture_ebpf::{counter, table};

use super::filter::{is_live, stopped, wanted};
use super::maps::COUNTERS;
use super::tables::overflowed;

#[inline(always)]
pub(super) fn count(counter: u32, amount: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: the map lookup succeeded; the entry belongs to this CPU.
        unsafe { *value += amount };
    }
}

/// Counts a return whose call is unknown. After the stop, calls are not remembered.
#[inline(always)]
pub(super) fn count_unmatched() {
    let is_filtered = is_live() && !wanted((bpf_get_current_pid_tgid() >> 32) as u32);
    if !stopped() && !is_filtered {
        let forgets = overflowed(table::CALLS) || overflowed(table::THREADS);
        let reason = if forgets {
            counter::FORGOTTEN_CALLS
        } else {
            counter::UNMATCHED_RETURNS
        };
        count(reason, 1);
    }
}

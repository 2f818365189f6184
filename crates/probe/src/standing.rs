//! When the probes stood: what the kernel compares with the time at which a connection was opened.

use aya::maps::{Array, MapData};
use ecapture_ebpf::limits;

use crate::clock::monotonic_ns;

/// Numbers files by their turn, and tells the kernel when the probes stand in each. Those that are attached
/// to at once have the number 0, and what was opened before they stood was open before the capture.
pub(crate) struct Standing {
    times: Array<MapData, u64>,
    next: u32,
}

impl Standing {
    pub(crate) fn new(times: Array<MapData, u64>) -> Self {
        Self { times, next: 1 }
    }

    /// All probes that the capture begins with stand from now on.
    pub(crate) fn begin(&mut self) {
        self.stand(0);
    }

    /// The number of a file whose probes do not stand yet. Files beyond the limit get numbers of which the
    /// kernel knows no time.
    pub(crate) fn next(&mut self) -> u32 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }

    /// The probes stand in that file from now on.
    pub(crate) fn stand(&mut self, number: u32) {
        if number < limits::STANDING
            && let Err(error) = self.times.set(number, monotonic_ns(), 0)
        {
            tracing::warn!(%error, "it is not known which connections lost their beginning");
        }
    }
}

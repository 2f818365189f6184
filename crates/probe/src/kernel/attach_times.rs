//! Attach times, which the kernel compares with each connection's open time.

use aya::maps::{Array, MapData};
use ecapture_ebpf::limits;

use crate::host::clock::monotonic_ns;

/// The time of a file whose probes are not attached yet.
const NOT_YET: u64 = 0;

/// Numbers files in their order, and tells the kernel when probes were attached to each. Files that
/// are attached to at the start have the number 0; a connection opened before that was open before
/// the capture.
///
/// A kernel without cookies (before Linux 5.15) does not know to which file a probe is attached.
/// There all files share the last number.
pub(crate) struct AttachTimes {
    times: Array<MapData, u64>,
    next: u32,
}

/// The number shared by all files for which no other is left.
const LAST: u32 = limits::STANDING - 1;

impl AttachTimes {
    /// `cookies`: the kernel has `bpf_get_attach_cookie`.
    pub(crate) fn new(times: Array<MapData, u64>, cookies: bool) -> Self {
        Self {
            times,
            next: if cookies { following(0) } else { LAST },
        }
    }

    /// Notes that all probes with which the capture begins are attached.
    pub(crate) fn begin(&mut self) {
        self.stand(0);
        if self.next == LAST {
            self.stand(LAST);
        }
    }

    /// Returns the number for a file whose probes are not attached yet.
    pub(crate) fn next(&mut self) -> u32 {
        let number = self.next;
        self.next = following(number);
        self.set(number, NOT_YET);
        number
    }

    /// Notes that the probes are attached to that file.
    pub(crate) fn stand(&mut self, number: u32) {
        self.set(number, monotonic_ns());
    }

    fn set(&mut self, number: u32, time: u64) {
        if let Err(error) = self.times.set(number, time, 0) {
            tracing::warn!(%error, "it is not known which connections are missing their beginning");
        }
    }
}

/// The number of the next file. All beyond the limit share the last one: its time is that of the latest of
/// them, so a connection with one of the others may be marked without need, but none is missed.
fn following(number: u32) -> u32 {
    (number + 1).min(LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_numbers_of_their_own_up_to_the_last_one() {
        assert_eq!(following(0), 1, "0 is the capture's beginning");
        assert_eq!(following(1), 2);
        let last = limits::STANDING - 1;
        assert_eq!(following(last - 1), last);
        assert_eq!(following(last), last);
    }
}

//! When a Worker has something to do without being told. Pure: the caller brings the time.

use crate::Timings;
use crate::supervision::nanoseconds;

/// What can expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    /// The decoder has waited long enough for the other direction.
    NoticeOverdue,
    /// Nothing has come for the idle time.
    Idle,
}

/// The state of a Worker's deadlines.
#[derive(Debug, Default)]
pub(super) struct Timing {
    last_event_ns: u64,
    awaiting_since_ns: Option<u64>,
    idle_handled: bool,
}

impl Timing {
    /// Events were taken at `now_ns`; `awaits` says whether the decoder now waits for a notice.
    pub(super) fn touch(&mut self, now_ns: u64, awaits: bool) {
        self.last_event_ns = self.last_event_ns.max(now_ns);
        self.idle_handled = false;
        self.awaits(awaits);
    }

    /// Whether the decoder waits for a notice; the wait counts from the last events.
    pub(super) fn awaits(&mut self, awaits: bool) {
        self.awaiting_since_ns = match (awaits, self.awaiting_since_ns) {
            (false, _) => None,
            (true, None) => Some(self.last_event_ns),
            (true, since) => since,
        };
    }

    /// `expiry` has been acted on; it comes again only after new events.
    pub(super) fn handled(&mut self, expiry: Expiry) {
        match expiry {
            Expiry::Idle => self.idle_handled = true,
            Expiry::NoticeOverdue => self.awaiting_since_ns = None,
        }
    }

    /// When the latest events were as long ago as the idle time.
    pub(super) fn idle_deadline_ns(&self, timings: &Timings) -> u64 {
        self.last_event_ns.saturating_add(nanoseconds(timings.idle))
    }

    /// What expires next, and when.
    pub(super) fn next(&self, timings: &Timings, waits_for_idle: bool) -> Option<(u64, Expiry)> {
        let overdue = self.awaiting_since_ns.map(|since| {
            (
                since.saturating_add(nanoseconds(timings.run_interval)),
                Expiry::NoticeOverdue,
            )
        });
        let idle =
            (waits_for_idle && !self.idle_handled).then(|| (self.idle_deadline_ns(timings), Expiry::Idle));
        overdue
            .into_iter()
            .chain(idle)
            .min_by_key(|&(deadline_ns, _)| deadline_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    #[test]
    fn idle_fires_once_per_silence() {
        let mut timing = Timing::default();
        let timings = Timings::default();
        timing.touch(5, false);
        assert_eq!(
            timing.next(&timings, true),
            Some((1_100 * MILLISECOND + 5, Expiry::Idle))
        );
        assert_eq!(timing.next(&timings, false), None);
        timing.handled(Expiry::Idle);
        assert_eq!(timing.next(&timings, true), None);
        timing.touch(6, false);
        assert!(timing.next(&timings, true).is_some());
    }

    #[test]
    fn a_notice_is_overdue_one_interval_after_the_wait_began() {
        let mut timing = Timing::default();
        let timings = Timings::default();
        timing.touch(0, true);
        timing.touch(50 * MILLISECOND, true);
        assert_eq!(
            timing.next(&timings, true),
            Some((100 * MILLISECOND, Expiry::NoticeOverdue))
        );
        timing.awaits(false);
        assert_eq!(timing.next(&timings, false), None);
    }
}

//! A Worker's own deadlines. Pure: the caller passes the time.

use std::time::Duration;

use crate::Timings;
use crate::supervision::nanoseconds;

/// A deadline of a Worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    /// The decoder has waited long enough for the other direction.
    NoticeOverdue,
    /// The received part of an unfinished message must be shown.
    Parts,
    /// Nothing has come for the idle time.
    Idle,
}

/// The state of a Worker's deadlines.
#[derive(Debug)]
pub(super) struct Timing {
    last_event_ns: u64,
    awaiting_since: Since,
    parts_since: Since,
    idle_handled: bool,
    /// The number of this wait for the other direction, and so of the question about it.
    wait: u16,
    has_asked: bool,
    /// A wait for the other direction has ended in vain, and it was not heard of since.
    was_overdue: bool,
    /// How often the wait was doubled.
    patience: u8,
}

/// So often a wait is doubled at most: to 3.2 s.
const MOST_PATIENCE: u8 = 5;

/// A time in nanoseconds, or none; half the size of an `Option`, as there are many Workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Since(u64);

impl Since {
    const NEVER: Self = Self(u64::MAX);

    /// `now_ns` if something is so that was not, never if it is not.
    fn update(self, is_so: bool, now_ns: u64) -> Self {
        match (is_so, self) {
            (false, _) => Self::NEVER,
            (true, Self::NEVER) => Self(now_ns),
            (true, since) => since,
        }
    }

    fn after(self, period: Duration) -> Option<u64> {
        (self != Self::NEVER).then(|| self.0.saturating_add(nanoseconds(period)))
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            last_event_ns: 0,
            awaiting_since: Since::NEVER,
            parts_since: Since::NEVER,
            idle_handled: false,
            wait: 0,
            has_asked: false,
            was_overdue: false,
            patience: 0,
        }
    }
}

impl Timing {
    /// Events were taken at `now_ns`; `awaits` says whether the decoder now waits for a notice.
    pub(super) fn touch(&mut self, now_ns: u64, awaits: bool) {
        self.last_event_ns = self.last_event_ns.max(now_ns);
        self.idle_handled = false;
        self.awaits(awaits);
    }

    /// Sets whether the decoder waits for a notice; the wait counts from the last events.
    pub(super) fn awaits(&mut self, awaits: bool) {
        self.awaiting_since = self.awaiting_since.update(awaits, self.last_event_ns);
        if !awaits {
            self.begin_wait();
        }
    }

    /// The decoder has waited long enough if the other direction has processed everything by now: it may lag
    /// behind because the processors are busy. Returns the number of the question. It is asked again after
    /// another wait, since the other direction's Worker may fail before it answers.
    pub(super) fn ask(&mut self, now_ns: u64) -> u16 {
        self.has_asked = true;
        self.awaiting_since = Since(now_ns);
        self.wait
    }

    /// What was waited for has come; what is waited for now was not asked about.
    pub(super) fn begin_wait(&mut self) {
        if std::mem::take(&mut self.has_asked) {
            self.wait = self.wait.wrapping_add(1);
        }
    }

    /// Returns true if the other direction has processed what this wait asked about. Answers to earlier
    /// waits say nothing.
    pub(super) fn is_answered_by(&self, question: u16) -> bool {
        self.has_asked && self.wait == question
    }

    /// Notes that the other direction was heard of. Returns true if that was after a wait in vain: it
    /// lags behind, and the next wait is longer.
    pub(super) fn heard(&mut self) -> bool {
        let was_late = std::mem::take(&mut self.was_overdue);
        if was_late {
            self.patience = (self.patience + 1).min(MOST_PATIENCE);
        }
        was_late
    }

    /// Returns true if some of an unfinished message is not shown; the wait counts from the last
    /// events.
    pub(super) fn has_parts(&mut self, has_parts: bool) {
        self.parts_since = self.parts_since.update(has_parts, self.last_event_ns);
    }

    /// `expiry` has been acted on; it comes again only after new events.
    pub(super) fn handled(&mut self, expiry: Expiry) {
        match expiry {
            Expiry::Idle => self.idle_handled = true,
            Expiry::NoticeOverdue => {
                self.awaiting_since = Since::NEVER;
                self.begin_wait();
                self.was_overdue = true;
            }
            Expiry::Parts => self.parts_since = Since::NEVER,
        }
    }

    /// When the latest events were as long ago as the idle time.
    pub(super) fn idle_deadline_ns(&self, timings: &Timings) -> u64 {
        self.last_event_ns.saturating_add(nanoseconds(timings.idle))
    }

    /// The next deadline to expire, and its time in nanoseconds.
    pub(super) fn next(&self, timings: &Timings, waits_for_idle: bool) -> Option<(u64, Expiry)> {
        let expires = |since: Since, period, expiry| Some((since.after(period)?, expiry));
        let wait = timings.run_interval * (1 << self.patience);
        let overdue = expires(self.awaiting_since, wait, Expiry::NoticeOverdue);
        let parts = expires(self.parts_since, timings.run_interval, Expiry::Parts);
        let idle =
            (waits_for_idle && !self.idle_handled).then(|| (self.idle_deadline_ns(timings), Expiry::Idle));
        overdue
            .into_iter()
            .chain(parts)
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

    #[test]
    fn a_question_is_asked_until_an_answer_to_it_comes() {
        let mut timing = Timing::default();
        timing.touch(0, true);
        assert!(!timing.is_answered_by(0), "nothing was asked");
        let question = timing.ask(100);
        assert_eq!(timing.ask(200), question, "the same wait");
        assert!(timing.is_answered_by(question));
        timing.awaits(false);
        timing.touch(300, true);
        assert!(!timing.is_answered_by(question), "an earlier wait's");
        let next = timing.ask(400);
        assert!(timing.is_answered_by(next) && !timing.is_answered_by(question));
    }

    #[test]
    fn a_direction_that_lags_behind_is_waited_for_longer() {
        let mut timing = Timing::default();
        let timings = Timings::default();
        assert!(!timing.heard(), "nothing waited");
        for wait in [100, 200, 400, 800, 1600, 3200, 3200] {
            timing.touch(0, true);
            let deadline = Some((wait * MILLISECOND, Expiry::NoticeOverdue));
            assert_eq!(timing.next(&timings, false), deadline);
            timing.handled(Expiry::NoticeOverdue);
            assert!(timing.heard());
            assert!(!timing.heard());
        }
    }
}

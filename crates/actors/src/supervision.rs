//! Decides whether a failed Worker is replaced, quarantined, or ends the run. Pure: given the time,
//! it decides.

use std::collections::VecDeque;
use std::time::Duration;

/// Failures within a sliding window.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailureWindow {
    at_ns: VecDeque<u64>,
}

impl FailureWindow {
    /// Adds a failure and returns how many the window holds, this one included.
    pub(crate) fn add(&mut self, now_ns: u64, window: Duration) -> usize {
        let window_ns = nanoseconds(window);
        while self
            .at_ns
            .front()
            .is_some_and(|&at| now_ns.saturating_sub(at) > window_ns)
        {
            self.at_ns.pop_front();
        }
        self.at_ns.push_back(now_ns);
        self.at_ns.len()
    }
}

/// The decision about a stream whose Worker failed for the `failures`th time in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A new decoder, after a pause.
    Restart {
        /// The pause.
        delay: Duration,
    },
    /// No decoder any more: raw output.
    Quarantine,
}

/// Decides for one connection.
pub(crate) fn judge(failures: usize, limit: usize, first_delay: Duration) -> Verdict {
    if failures >= limit {
        return Verdict::Quarantine;
    }
    let doublings = u32::try_from(failures.saturating_sub(2))
        .unwrap_or(u32::MAX)
        .min(10);
    let delay = match failures {
        0 | 1 => Duration::ZERO,
        _ => first_delay * 2u32.pow(doublings),
    };
    Verdict::Restart { delay }
}

/// Whole nanoseconds of a period; periods here are far below 584 years.
pub(crate) fn nanoseconds(period: Duration) -> u64 {
    u64::try_from(period.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn failures_leave_the_window() {
        let mut window = FailureWindow::default();
        assert_eq!(window.add(0, WINDOW), 1);
        assert_eq!(window.add(10 * SECOND, WINDOW), 2);
        assert_eq!(window.add(10 * SECOND + 1, WINDOW), 2);
        assert_eq!(window.add(30 * SECOND, WINDOW), 1);
    }

    #[test]
    fn first_restart_is_immediate_then_delayed_then_quarantine() {
        let delay = Duration::from_millis(50);
        assert_eq!(
            judge(1, 3, delay),
            Verdict::Restart {
                delay: Duration::ZERO
            }
        );
        assert_eq!(judge(2, 3, delay), Verdict::Restart { delay });
        assert_eq!(judge(3, 3, delay), Verdict::Quarantine);
        assert_eq!(judge(3, 5, delay), Verdict::Restart { delay: delay * 2 });
    }
}

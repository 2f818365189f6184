//! Open files that this process may have: each attached program takes one, and stays open as long as the
//! capture runs.

use std::fs;
use std::io;

use crate::limits;

/// There is no room for more probes. The message is one line with its fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "its probes need {needed} descriptors, but only {left} of {limit} are left for such files; raise the limit (ulimit -n), \
     or capture less with --pid, --cgroup_path or --libssl"
)]
pub struct NoDescriptors {
    /// Descriptors that the file needs.
    pub needed: u64,
    /// Descriptors that it may have.
    pub left: u64,
    /// `RLIMIT_NOFILE`
    pub limit: u64,
}

/// `RLIMIT_NOFILE`, before it was raised.
#[derive(Debug, Clone, Copy)]
pub struct Limit(libc::rlimit);

/// Raises the number of files that this process may open, for probes. Returns the limit before, for programs
/// that are started from here: `select(2)` knows no more than 1024. Where raising is refused, the limit stays.
pub fn raise() -> Option<Limit> {
    let before = limit()?;
    let enough = limits::DESCRIPTORS;
    if before.rlim_cur >= enough {
        return Some(Limit(before));
    }
    let raised = libc::rlimit {
        rlim_cur: enough,
        rlim_max: before.rlim_max.max(enough),
    };
    let as_allowed = libc::rlimit {
        rlim_cur: before.rlim_max.min(enough),
        ..before
    };
    if !set(0, &raised) && !set(0, &as_allowed) {
        tracing::debug!("the limit of descriptors stays {}", before.rlim_cur);
    }
    Some(Limit(before))
}

impl Limit {
    /// Gives a child process this limit. It may have ended.
    pub fn give(&self, pid: u32) {
        if let Ok(pid) = libc::pid_t::try_from(pid) {
            set(pid, &self.0);
        }
    }
}

#[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
fn limit() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call fills in the structure.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (result == 0).then_some(limit)
}

/// Returns true if process `pid`, 0 for this one, has that limit now.
#[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
fn set(pid: libc::pid_t, limit: &libc::rlimit) -> bool {
    // SAFETY: the call reads the structure.
    unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, limit, std::ptr::null_mut()) == 0 }
}

/// The descriptors that probes may take. Files that anybody but root can have written share half of them, so
/// that nobody keeps others from being captured.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    left: u64,
    left_for_strangers: u64,
}

impl Budget {
    pub(crate) fn new() -> Self {
        let open = open_descriptors().unwrap_or(0);
        Self::of(limit().map_or(0, |limit| limit.rlim_cur), open)
    }

    fn of(limit: u64, open: u64) -> Self {
        let left = limit
            .min(limits::DESCRIPTORS)
            .saturating_sub(open + limits::SPARE_DESCRIPTORS);
        Self {
            limit,
            left,
            left_for_strangers: left / 2,
        }
    }

    /// Takes `needed` of them, or none.
    pub(crate) fn take(&mut self, needed: u64, trusted: bool) -> Result<(), NoDescriptors> {
        let left = if trusted {
            self.left
        } else {
            self.left_for_strangers.min(self.left)
        };
        if needed > left {
            return Err(NoDescriptors {
                needed,
                left,
                limit: self.limit,
            });
        }
        self.left -= needed;
        if !trusted {
            self.left_for_strangers -= needed;
        }
        Ok(())
    }

    /// Gives back the descriptors that were taken.
    pub(crate) fn give_back(&mut self, taken: u64, trusted: bool) {
        self.left += taken;
        if !trusted {
            self.left_for_strangers += taken;
        }
    }
}

fn open_descriptors() -> io::Result<u64> {
    Ok(fs::read_dir("/proc/self/fd")?.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_have_half_of_them() {
        let mut budget = Budget::of(1024, 96);
        assert_eq!(budget.left, 800);
        budget.take(400, false).unwrap();
        let error = budget.take(1, false).unwrap_err();
        assert_eq!((error.needed, error.left, error.limit), (1, 0, 1024));
        budget.take(400, true).unwrap();
        assert!(budget.take(1, true).is_err());
    }

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let mut budget = Budget::of(1024, 96);
        assert!(budget.take(801, true).is_err());
        budget.take(800, true).unwrap();
        assert_eq!(Budget::of(64, 96).left, 0);
    }

    #[test]
    fn a_raised_limit_is_given_back() {
        let before = raise().unwrap();
        assert!(limit().unwrap().rlim_cur >= before.0.rlim_cur);
        before.give(std::process::id());
        assert_eq!(limit().unwrap().rlim_cur, before.0.rlim_cur);
    }
}

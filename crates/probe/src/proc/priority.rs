//! The priority of this thread for processor time.

/// Nice values. Where one is refused, the thread keeps the one it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Others wait for it.
    First,
    Usual,
    /// It takes only the time that others leave.
    Last,
}

impl Priority {
    /// Sets it for the calling thread.
    pub(crate) fn take(self) {
        let nice = match self {
            Self::First => -20,
            Self::Usual => 0,
            Self::Last => 19,
        };
        // SAFETY: it takes plain numbers; for Linux, 0 is the calling thread.
        #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
        unsafe {
            libc::setpriority(libc::PRIO_PROCESS, 0, nice);
        }
    }
}

/// The policy of a thread that runs at once. The flag tells it from a policy that an administrator has set.
const RAISED: libc::c_int = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;

/// Which thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thread(libc::pid_t);

impl Thread {
    /// For the kernel, the calling one.
    pub(crate) const CURRENT: Self = Self(0);

    /// The calling one, also when another thread uses it.
    pub(crate) fn current() -> Self {
        // SAFETY: it takes nothing and returns a plain number.
        #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
        Self(unsafe { libc::gettid() })
    }

    /// A thread of any process, by its number.
    pub(crate) fn numbered(number: u32) -> Option<Self> {
        libc::pid_t::try_from(number).ok().map(Self)
    }

    /// Lets it run as soon as it is woken (`SCHED_FIFO`). Returns false where it runs like that already, or
    /// that is refused: then it is as before.
    pub(crate) fn run_at_once(self) -> bool {
        self.policy() == libc::SCHED_OTHER && self.schedule(RAISED, 1)
    }

    /// Lets it take its turn (`SCHED_OTHER`), if [`Self::run_at_once`] was called for it, in whatever process.
    pub(crate) fn run_in_turn(self) {
        if self.policy() == RAISED {
            self.schedule(libc::SCHED_OTHER, 0);
        }
    }

    fn policy(self) -> libc::c_int {
        // SAFETY: it takes a plain number.
        #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
        unsafe {
            libc::sched_getscheduler(self.0)
        }
    }

    /// Returns false where that is refused.
    fn schedule(self, policy: libc::c_int, priority: libc::c_int) -> bool {
        // SAFETY: all zeros is a valid value.
        #[expect(unsafe_code, reason = "the structure has other fields with other C libraries")]
        let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
        parameters.sched_priority = priority;
        // SAFETY: it reads the given structure.
        #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
        unsafe {
            libc::sched_setscheduler(self.0, policy, &raw const parameters) == 0
        }
    }
}

//! How much processor time this thread takes from others.

/// Nice values. Where one is refused, the thread keeps the one it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Others wait for it.
    First,
    Usual,
    /// It takes only what others leave.
    Last,
}

impl Priority {
    /// Gives it to the calling thread.
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

/// Lets the calling thread run as soon as it is woken. Where that is refused, it takes its turn.
pub(crate) fn run_at_once() {
    // SAFETY: all zeros is a valid value.
    #[expect(unsafe_code, reason = "the structure has other fields with other C libraries")]
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = 1;
    // SAFETY: it reads the given structure; 0 is the calling thread.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        );
    }
}

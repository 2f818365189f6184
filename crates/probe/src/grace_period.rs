//! Attaching a probe waits for a grace period of RCU (`percpu_down_write` of `dup_mmap_sem` in the
//! kernel's `uprobe_register`). An ordinary one takes some timer ticks, 7 to 25 ms: enough for a
//! program that has just mapped its TLS library to send its first request. An expedited one takes
//! less than a millisecond, at the price of an interrupt on every processor.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;

/// The kernel's switch (documentation, `ABI/testing/sysfs-kernel-rcu_expedited`), for the whole host.
const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// Grace periods are expedited while this lives. Several captures share the switch: whoever turns
/// it holds a shared lock on its file, and the last one turns it off. Only a process that is killed
/// meanwhile (SIGKILL) leaves it on.
pub(crate) struct Expedited {
    switch: Option<File>,
    signals: Signals,
}

impl Expedited {
    /// Where the switch is on already, or cannot be turned, nothing changes.
    pub(crate) fn begin() -> Self {
        let signals = Signals::hold();
        let switch = turn_on().unwrap_or(None);
        Self { switch, signals }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Some(switch) = self.switch.take()
            && switch.try_lock().is_ok()
            && let Err(error) = switch.write_at(b"0", 0)
        {
            tracing::warn!("{SWITCH} stays 1: {error}; write 0 to it");
        }
        self.signals.release();
    }
}

/// The locked switch, `None` when somebody else than a capture has turned it on.
fn turn_on() -> io::Result<Option<File>> {
    let switch = File::options().read(true).write(true).open(SWITCH)?;
    let mut value = [0];
    if switch.try_lock().is_ok() && switch.read_at(&mut value, 0)? == 1 && value != *b"0" {
        return Ok(None);
    }
    switch.lock_shared()?;
    switch.write_at(b"1", 0)?;
    Ok(Some(switch))
}

/// Keeps the signals that ask this process to end from ending it in between: before a capture runs,
/// nobody listens to them.
struct Signals {
    before: libc::sigset_t,
}

impl Signals {
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    fn hold() -> Self {
        let mut held = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets are initialised by the calls, which cannot fail with these arguments.
        unsafe {
            libc::sigemptyset(held.as_mut_ptr());
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
                libc::sigaddset(held.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, held.as_ptr(), before.as_mut_ptr());
            Self {
                before: before.assume_init(),
            }
        }
    }

    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    fn release(&self) {
        // SAFETY: the set was filled in by `hold`.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}

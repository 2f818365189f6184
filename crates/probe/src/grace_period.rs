//! Attaching a probe waits for a grace period of RCU (`percpu_down_write` of `dup_mmap_sem` in the
//! kernel's `uprobe_register`). An ordinary one takes some timer ticks, 7 to 25 ms: enough for a
//! program that has just mapped its TLS library to send its first request. An expedited one takes
//! less than a millisecond, at the price of an interrupt on every processor.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The kernel's switch (documentation, `ABI/testing/sysfs-kernel-rcu_expedited`), for the whole host.
const SWITCH: &str = "/sys/kernel/rcu_expedited";
/// Exists while a capture has turned the switch on. Like the switch, it does not outlive the kernel.
const MARK: &str = "/run/ecapture.rcu_expedited";

/// Grace periods are expedited while this lives. Several captures share the switch: whoever turns
/// it holds a shared lock on its file, and the last one turns it off. A process that is killed
/// meanwhile (SIGKILL) leaves it on, and the mark, by which the next one knows that it may turn it off.
pub(crate) struct Expedited {
    switch: Option<Switch>,
    signals: Signals,
}

struct Switch {
    file: File,
    mark: PathBuf,
}

impl Expedited {
    /// Where the switch is on already, or cannot be turned, nothing changes.
    pub(crate) fn begin() -> Self {
        let signals = Signals::hold();
        let switch = Switch::turn_on(Path::new(SWITCH), Path::new(MARK)).unwrap_or(None);
        Self { switch, signals }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.switch.take().map(Switch::turn_off) {
            tracing::warn!("{SWITCH} stays 1: {error}; write 0 to it");
        }
        self.signals.release();
    }
}

impl Switch {
    /// `None` when somebody else than a capture has turned it on.
    fn turn_on(path: &Path, mark: &Path) -> io::Result<Option<Self>> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut value = [0];
        let is_alone = file.try_lock().is_ok();
        if is_alone && file.read_at(&mut value, 0)? == 1 && value != *b"0" && !mark.exists() {
            return Ok(None);
        }
        file.lock_shared()?;
        // Where there is no such folder, only the repair after SIGKILL is lost.
        let _unmarked = File::create(mark);
        file.write_at(b"1", 0)?;
        let mark = mark.to_owned();
        Ok(Some(Self { file, mark }))
    }

    /// Leaves it to the last one.
    fn turn_off(self) -> io::Result<()> {
        if self.file.try_lock().is_ok() {
            self.file.write_at(b"0", 0)?;
            let _unmarked = fs::remove_file(&self.mark);
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A file in the switch's place, and where its mark would be.
    fn switch(value: &str) -> (TempDir, PathBuf, PathBuf) {
        let folder = TempDir::new().unwrap();
        let (switch, mark) = (folder.path().join("switch"), folder.path().join("mark"));
        fs::write(&switch, value).unwrap();
        (folder, switch, mark)
    }

    fn value(switch: &Path) -> String {
        fs::read_to_string(switch).unwrap()
    }

    #[test]
    fn the_last_one_turns_it_off() {
        let (_folder, switch, mark) = switch("0");
        let first = Switch::turn_on(&switch, &mark).unwrap().unwrap();
        let second = Switch::turn_on(&switch, &mark).unwrap().unwrap();
        first.turn_off().unwrap();
        assert_eq!((value(&switch).as_str(), mark.exists()), ("1", true));
        second.turn_off().unwrap();
        assert_eq!((value(&switch).as_str(), mark.exists()), ("0", false));
    }

    #[test]
    fn what_others_have_turned_on_stays_on() {
        let (_folder, switch, mark) = switch("1");
        assert!(Switch::turn_on(&switch, &mark).unwrap().is_none());
        assert_eq!((value(&switch).as_str(), mark.exists()), ("1", false));
    }

    #[test]
    fn what_a_killed_capture_has_left_on_is_turned_off() {
        let (_folder, switch, mark) = switch("0");
        drop(Switch::turn_on(&switch, &mark).unwrap().unwrap());
        assert_eq!(value(&switch), "1");
        Switch::turn_on(&switch, &mark)
            .unwrap()
            .unwrap()
            .turn_off()
            .unwrap();
        assert_eq!((value(&switch).as_str(), mark.exists()), ("0", false));
    }
}

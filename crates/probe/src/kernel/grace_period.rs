//! Attaching a probe waits for a grace period of RCU (`percpu_down_write` of `dup_mmap_sem` in the
//! kernel's `uprobe_register`). An ordinary one takes some timer ticks, 7 to 25 ms: enough for a
//! program that has just mapped its TLS library to send its first request. An expedited one takes
//! less than a millisecond, at the price of an interrupt on every processor; on a busy host only if the
//! kernel's threads that carry it out need not wait for a processor (`rcu_workers`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::rcu_workers;

/// The kernel's switch (documentation, `ABI/testing/sysfs-kernel-rcu_expedited`), for the whole host.
const SWITCH: &str = "/sys/kernel/rcu_expedited";
/// Locked by every capture that has turned the switch on. Only root can open it: a lock on the switch itself
/// is anybody's.
const LOCK: &str = "/run/ecapture.lock";
/// Exists while a capture has turned the switch on. Like the switch, it does not outlive the kernel.
const MARK: &str = "/run/ecapture.rcu_expedited";

/// This process's share in the switch.
static SHARE: Mutex<Share> = Mutex::new(Share {
    users: 0,
    switch: None,
    ended: false,
});

struct Share {
    /// Living [`Expedited`].
    users: usize,
    switch: Option<Switch>,
    /// It is not turned on any more.
    ended: bool,
}

/// Grace periods are expedited while this lives. Several captures share the switch: whoever turns
/// it holds a shared lock on a file of their own, and the last one turns it off. Nobody waits for a
/// lock: where it cannot be had, grace periods merely take longer. A process that is killed in that
/// window (SIGKILL) leaves the switch on, and the mark, by which the next one knows that it may
/// turn it off. The workers are raised and lowered with it.
pub(crate) struct Expedited(());

impl Expedited {
    /// Where the switch is on already, or cannot be turned, nothing changes.
    pub(crate) fn begin() -> Self {
        let mut share = share();
        share.users += 1;
        if share.switch.is_none() && !share.ended {
            let [switch, lock, mark] = [SWITCH, LOCK, MARK].map(Path::new);
            share.switch = Switch::turn_on(switch, lock, mark).unwrap_or(None);
            if share.switch.is_some() {
                rcu_workers::raise();
            }
        }
        Self(())
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        let mut share = share();
        share.users -= 1;
        if share.users == 0 {
            share.turn_off();
        }
    }
}

/// Turns the switch off if this process has turned it on, also while another thread attaches, and leaves it
/// off from now on. For the end of the process.
pub fn restore() {
    let mut share = share();
    share.ended = true;
    share.turn_off();
}

fn share() -> MutexGuard<'static, Share> {
    SHARE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Share {
    fn turn_off(&mut self) {
        if let Some(Err(error)) = self
            .switch
            .take()
            .map(|switch| switch.turn_off(rcu_workers::lower))
        {
            tracing::warn!("{SWITCH} stays 1: {error}; write 0 to it");
        }
    }
}

struct Switch {
    file: File,
    lock: File,
    mark: PathBuf,
}

impl Switch {
    /// `None` when somebody else than a capture has turned it on, or another capture turns it just now.
    fn turn_on(path: &Path, lock: &Path, mark: &Path) -> io::Result<Option<Self>> {
        let file = File::options().read(true).write(true).open(path)?;
        let lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(lock)?;
        let mut value = [0];
        let is_alone = lock.try_lock().is_ok();
        let is_on = file.read_at(&mut value, 0)? == 1 && value != *b"0";
        if is_alone && is_on && !mark.exists() {
            return Ok(None);
        }
        if lock.try_lock_shared().is_err() {
            return Ok(None);
        }
        // Without it, only the repair after SIGKILL is lost.
        let _unmarked = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(mark);
        file.write_at(b"1", 0)?;
        let mark = mark.to_owned();
        Ok(Some(Self { file, lock, mark }))
    }

    /// Leaves it to the last one, which calls `lower`, too.
    fn turn_off(self, lower: fn()) -> io::Result<()> {
        if self.lock.try_lock().is_ok() {
            lower();
            self.file.write_at(b"0", 0)?;
            let _unmarked = fs::remove_file(&self.mark);
        }
        Ok(())
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

    fn turn_on(switch: &Path, mark: &Path) -> Option<Switch> {
        Switch::turn_on(switch, &mark.with_extension("lock"), mark).unwrap()
    }

    fn value(switch: &Path) -> String {
        fs::read_to_string(switch).unwrap()
    }

    #[test]
    fn the_last_one_turns_it_off() {
        let (_folder, switch, mark) = switch("0");
        let first = turn_on(&switch, &mark).unwrap();
        let second = turn_on(&switch, &mark).unwrap();
        first.turn_off(|| {}).unwrap();
        assert_eq!((value(&switch).as_str(), mark.exists()), ("1", true));
        second.turn_off(|| {}).unwrap();
        assert_eq!((value(&switch).as_str(), mark.exists()), ("0", false));
    }

    #[test]
    fn what_others_have_turned_on_stays_on() {
        let (_folder, switch, mark) = switch("1");
        assert!(turn_on(&switch, &mark).is_none());
        assert_eq!((value(&switch).as_str(), mark.exists()), ("1", false));
    }

    #[test]
    fn what_a_killed_capture_has_left_on_is_turned_off() {
        let (_folder, switch, mark) = switch("0");
        drop(turn_on(&switch, &mark).unwrap());
        assert_eq!(value(&switch), "1");
        turn_on(&switch, &mark).unwrap().turn_off(|| {}).unwrap();
        assert_eq!((value(&switch).as_str(), mark.exists()), ("0", false));
    }

    #[test]
    fn nobody_waits_for_a_lock() {
        let (_folder, switch, mark) = switch("0");
        let first = turn_on(&switch, &mark).unwrap();
        first.lock.unlock().unwrap();
        let stranger = File::open(mark.with_extension("lock")).unwrap();
        stranger.lock().unwrap();
        assert!(turn_on(&switch, &mark).is_none());
        // The lock on the switch itself, which anybody may take, does not matter.
        stranger.unlock().unwrap();
        let stranger = File::open(&switch).unwrap();
        stranger.lock().unwrap();
        let second = turn_on(&switch, &mark).unwrap();
        second.turn_off(|| {}).unwrap();
        assert_eq!((value(&switch).as_str(), mark.exists()), ("0", false));
    }

    #[test]
    fn only_root_can_open_the_lock() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, switch, mark) = switch("0");
        let _on = turn_on(&switch, &mark).unwrap();
        let mode = fs::metadata(mark.with_extension("lock"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

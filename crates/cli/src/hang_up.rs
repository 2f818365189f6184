//! Reopens files on SIGHUP.

use std::sync::{Arc, Mutex, PoisonError, Weak};

type Reopen = dyn Fn() + Send + Sync;

static REGISTERED: Mutex<Vec<Weak<Reopen>>> = Mutex::new(Vec::new());

/// While it lives, SIGHUP reopens its files.
pub(crate) struct OnHangUp(#[expect(dead_code, reason = "only its lifetime matters")] Arc<Reopen>);

/// Calls `reopen` for every SIGHUP that does not mean that the terminal is gone. It must not wait: no signal is
/// received in the meantime.
pub(crate) fn on_hang_up(reopen: impl Fn() + Send + Sync + 'static) -> OnHangUp {
    let reopen: Arc<Reopen> = Arc::new(reopen);
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    registered.retain(|reopen| reopen.strong_count() > 0);
    registered.push(Arc::downgrade(&reopen));
    OnHangUp(reopen)
}

/// Reopens all files. Returns false if there are none.
pub(crate) fn reopen_files() -> bool {
    let registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let reopen: Vec<_> = registered.iter().filter_map(Weak::upgrade).collect();
    for reopen in &reopen {
        reopen();
    }
    !reopen.is_empty()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn files_are_reopened_while_there_are_some() {
        let times = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&times);
        let registered = on_hang_up(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        assert!(reopen_files());
        drop(registered);
        assert!(!reopen_files());
        assert_eq!(times.load(Ordering::Relaxed), 1);
    }
}

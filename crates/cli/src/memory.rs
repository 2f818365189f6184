//! Whether freed memory is overwritten, which the program's allocator does.

use std::sync::atomic::{AtomicBool, Ordering};

static WIPES: AtomicBool = AtomicBool::new(false);

/// Overwrites memory from now on when it is freed, until the program ends: a core dump then has only what is in use.
pub(crate) fn wipe_freed() {
    WIPES.store(true, Ordering::Relaxed);
}

/// Returns true if memory is overwritten when it is freed.
pub fn is_wiped() -> bool {
    WIPES.load(Ordering::Relaxed)
}

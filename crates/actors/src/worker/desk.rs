//! Which connection an Arbiter is at work on: what the watchdog names when it does not answer.

use std::sync::{Arc, Mutex, PoisonError};

use ecapture_protocols::{Origin, printable};

/// See the module's documentation. Holds the last stream whose events a Worker took.
#[derive(Debug, Default)]
pub(crate) struct Desk(Mutex<Option<Arc<Origin>>>);

impl Desk {
    /// A Worker begins to decode events of this stream.
    pub(super) fn take_up(&self, origin: &Arc<Origin>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, origin))
        {
            *current = Some(Arc::clone(origin));
        }
    }

    /// Its name, as a log shows it.
    pub(crate) fn connection(&self) -> Option<String> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current
            .as_ref()
            .map(|origin| printable(origin.name()).into_owned())
    }
}

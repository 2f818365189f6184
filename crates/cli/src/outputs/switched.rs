//! Formats whose look changes while a run goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ecapture_actors::Tap;
use ecapture_protocols::{Format, Message, Origin, Records, View};

use super::formats::{Look, OutputFormat};

/// The formats of a run, which change together.
#[derive(Default)]
pub(crate) struct Looks(Mutex<Vec<Switchable>>);

/// One format, and the look that it has now.
struct Switchable {
    format: &'static OutputFormat,
    look: Look,
    now: Arc<Switched>,
}

/// A format that is replaced by one of the same view between two messages.
struct Switched(ArcSwap<Arc<dyn Format>>);

impl Looks {
    /// What an output gets that has `look` at first. Captured events have none.
    pub(crate) fn tap(&self, format: &'static OutputFormat, look: Look) -> Tap {
        let first = match (format.tap)(&look) {
            Tap::Records(first) => first,
            events @ Tap::Events(_) => return events,
        };
        let now = Arc::new(Switched(ArcSwap::from_pointee(first)));
        self.formats().push(Switchable {
            format,
            look,
            now: Arc::clone(&now),
        });
        Tap::Records(now)
    }

    /// Gives every format another look from its next message on.
    pub(crate) fn change(&self, hex: bool, truncate: Option<usize>) {
        for Switchable { format, look, now } in self.formats().iter_mut() {
            look.hex = hex;
            look.truncate = truncate;
            if let Tap::Records(next) = (format.tap)(look) {
                now.0.store(Arc::new(next));
            }
        }
    }

    /// Returns true if one of them holds text, which can be dumped.
    pub(crate) fn have_text(&self) -> bool {
        self.formats().iter().any(|switchable| switchable.format.has_text)
    }

    /// Each change is complete before the lock is released.
    fn formats(&self) -> MutexGuard<'_, Vec<Switchable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Format for Switched {
    fn view(&self) -> View {
        self.0.load().view()
    }

    fn begin(&self, out: &mut Vec<u8>) {
        self.0.load().begin(out);
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        self.0.load().write(origin, messages, out);
    }
}

//! Formats whose look changes during a run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ecapture_actors::Tap;
use ecapture_protocols::format::{ExchangeEnd, MessageEnd};
use ecapture_protocols::{Filter, Format, Message, Origin, Records, View};

use super::formats::{Look, OutputFormat};

/// The formats of a run, which change together.
#[derive(Default)]
pub(crate) struct Looks(Mutex<Vec<Switchable>>);

/// One format, and the look that it has now.
struct Switchable {
    format: &'static OutputFormat,
    look: Look,
    filter: Option<Arc<Filter>>,
    now: Arc<Switched>,
}

impl Switchable {
    /// Goes on with its look and filter.
    fn switch(&self) {
        if let Tap::Records(next) = self.format.feed(&self.look, self.filter.as_ref()) {
            self.now.0.store(Arc::new(next));
        }
    }
}

/// A format that is replaced by one of the same view between two messages.
struct Switched(ArcSwap<Arc<dyn Format>>);

impl Looks {
    /// The tap of an output that has `look` and `filter` at first. Captured events have neither.
    pub(crate) fn tap(&self, format: &'static OutputFormat, look: Look, filter: Option<&Arc<Filter>>) -> Tap {
        let first = match format.feed(&look, filter) {
            Tap::Records(first) => first,
            events @ Tap::Events(_) => return events,
        };
        let now = Arc::new(Switched(ArcSwap::from_pointee(first)));
        self.formats().push(Switchable {
            format,
            look,
            filter: filter.cloned(),
            now: Arc::clone(&now),
        });
        Tap::Records(now)
    }

    /// Changes the look of every format from its next message on.
    pub(crate) fn change(&self, hex: bool, truncate: Option<usize>) {
        for each in self.formats().iter_mut() {
            each.look.hex = hex;
            each.look.truncate = truncate;
            each.switch();
        }
    }

    /// Gives every format this filter, from its next message on.
    pub(crate) fn select(&self, filter: Option<&Arc<Filter>>) {
        for each in self.formats().iter_mut() {
            each.filter = filter.cloned();
            each.switch();
        }
    }

    /// Returns the name of a format whose decoders would have to emit something else for this filter, if there is
    /// one: they are those of the connections that are open.
    pub(crate) fn unfit_for(&self, filter: Option<&Arc<Filter>>) -> Option<&'static str> {
        let formats = self.formats();
        let is_unfit = |each: &&Switchable| match each.format.feed(&each.look, filter) {
            Tap::Records(next) => next.view() != each.now.view(),
            Tap::Events(_) => false,
        };
        formats.iter().find(is_unfit).map(|each| each.format.name)
    }

    /// The filter that all have.
    pub(crate) fn filter(&self) -> Option<Arc<Filter>> {
        let formats = self.formats();
        let first = formats.first()?.filter.clone()?;
        let has_it = |each: &Switchable| {
            each.filter
                .as_ref()
                .is_some_and(|own| own.as_str() == first.as_str())
        };
        formats.iter().all(has_it).then_some(first)
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

    fn join_ends(&self, client: (&ExchangeEnd, &[u8]), server: (&ExchangeEnd, &[u8]), out: &mut Vec<u8>) {
        self.0.load().join_ends(client, server, out);
    }

    fn join_messages(&self, shown: (&MessageEnd, &[u8]), other: &MessageEnd, out: &mut Vec<u8>) {
        self.0.load().join_messages(shown, other, out);
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        self.0.load().write(origin, messages, out);
    }
}

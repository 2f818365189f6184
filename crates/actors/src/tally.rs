//! Events and bytes, counted together.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Events (or messages) and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Captured events, or formatted messages.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Tally {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// A pair of counters.
#[derive(Debug, Default)]
pub(crate) struct Count {
    events: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    pub(crate) fn add(&self, events: u64, bytes: u64) {
        self.events.fetch_add(events, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn sub(&self, events: u64, bytes: u64) {
        self.events.fetch_sub(events, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    pub(crate) fn get(&self) -> Tally {
        Tally {
            events: self.events.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }
}

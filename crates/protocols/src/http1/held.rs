//! Events that wait after a head.

use std::collections::VecDeque;

use bytes::Bytes;

/// Cost of holding an event, besides its bytes.
const PER_EVENT: usize = 64;

/// Events in order, each with its time.
#[derive(Default)]
pub(super) struct Held {
    events: VecDeque<(Bytes, u64)>,
    bytes: usize,
}

impl Held {
    pub(super) fn push_back(&mut self, bytes: Bytes, timestamp_ns: u64) {
        self.make_room(bytes.len());
        self.events.push_back((bytes, timestamp_ns));
    }

    pub(super) fn push_front(&mut self, bytes: Bytes, timestamp_ns: u64) {
        self.make_room(bytes.len());
        self.events.push_front((bytes, timestamp_ns));
    }

    /// Makes room. Mostly a single event waits, and a silent stream keeps this room.
    fn make_room(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.events.capacity() == 0 {
            self.events.reserve_exact(1);
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<(Bytes, u64)> {
        let event = self.events.pop_front()?;
        self.bytes -= event.0.len();
        Some(event)
    }

    /// Takes all events.
    pub(super) fn take(&mut self) -> VecDeque<(Bytes, u64)> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }

    /// Releases memory that is reserved and not used.
    pub(super) fn give_back_room(&mut self) {
        self.events.shrink_to_fit();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of bytes held and the cost of holding them, as one sum.
    pub(super) fn cost(&self) -> usize {
        self.bytes + self.events.len() * PER_EVENT
    }

    /// Returns the first bytes, at most `count` of them.
    pub(super) fn first(&self, count: usize) -> Vec<u8> {
        let all = self.events.iter().flat_map(|(bytes, _)| bytes);
        all.take(count).copied().collect()
    }
}

//! The tracked streams, in a bounded table.

use std::collections::BTreeMap;

/// Memory of an entry in each of the two tables, with the free space in tree nodes.
const TABLES_BYTES: usize = 96;

/// The state kept per stream.
pub(super) trait Held {
    /// Returns the number of bytes held back, beyond the struct itself.
    fn held_bytes(&self) -> usize;
}

/// Streams by id. The caller evicts the one that has been quiet longest when there are too many or
/// they hold too much.
#[derive(Debug)]
pub(super) struct Streams<T> {
    by_id: BTreeMap<u32, Slot<T>>,
    /// The same streams, the one that has been quiet longest first, so that the one to evict is
    /// found without a search.
    by_use: BTreeMap<u64, u32>,
    /// Counts uses, to know which stream was used last.
    clock: u64,
    held: usize,
    count_limit: usize,
    held_limit: usize,
}

#[derive(Debug)]
struct Slot<T> {
    used: u64,
    /// Boxed, because the table moves its entries and has more slots than entries.
    stream: Box<T>,
}

impl<T: Held> Streams<T> {
    pub(super) fn new(limits: &crate::Limits) -> Self {
        Self {
            by_id: BTreeMap::new(),
            by_use: BTreeMap::new(),
            clock: 0,
            held: 0,
            count_limit: limits.http2_streams,
            held_limit: limits.http2_held_bytes,
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Adds a stream. A stream that it replaces is returned.
    pub(super) fn insert(&mut self, id: u32, stream: T) -> Option<T> {
        self.clock += 1;
        self.held += Self::cost(&stream);
        let used = self.clock;
        self.by_use.insert(used, id);
        let stream = Box::new(stream);
        let replaced = self.by_id.insert(id, Slot { used, stream })?;
        self.by_use.remove(&replaced.used);
        self.held -= Self::cost(&replaced.stream);
        Some(*replaced.stream)
    }

    /// Uses a stream, if it is in the table.
    pub(super) fn with<R>(&mut self, id: u32, use_it: impl FnOnce(&mut T) -> R) -> Option<R> {
        let slot = self.by_id.get_mut(&id)?;
        // The stream used last is mostly the one used next.
        if slot.used != self.clock {
            self.clock += 1;
            self.by_use.remove(&slot.used);
            self.by_use.insert(self.clock, id);
            slot.used = self.clock;
        }
        let before = slot.stream.held_bytes();
        let result = use_it(&mut slot.stream);
        self.held = self.held - before + slot.stream.held_bytes();
        Some(result)
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let Slot { used, stream } = self.by_id.remove(&id)?;
        self.by_use.remove(&used);
        self.held -= Self::cost(&stream);
        Some(*stream)
    }

    /// If the bounds are exceeded, removes and returns the stream that has been quiet longest.
    pub(super) fn evict(&mut self) -> Option<(u32, T)> {
        if self.by_id.len() <= self.count_limit && self.held <= self.held_limit {
            return None;
        }
        let (_, &id) = self.by_use.first_key_value()?;
        Some((id, self.remove(id)?))
    }

    /// Returns the cost of a stream: the bytes it holds, its struct and its entries in the two
    /// tables.
    fn cost(stream: &T) -> usize {
        stream.held_bytes() + size_of::<T>() + TABLES_BYTES
    }

    pub(super) fn ids(&self) -> Vec<u32> {
        self.by_id.keys().copied().collect()
    }
}

//! The streams that are followed, in a bounded table.

use std::collections::BTreeMap;

/// What is kept per stream.
pub(super) trait Held {
    /// Content bytes held back.
    fn held_bytes(&self) -> usize;
}

/// Streams by id. The caller evicts the one that has been quiet longest when there are too many or
/// when they hold too much.
#[derive(Debug)]
pub(super) struct Streams<T> {
    by_id: BTreeMap<u32, Slot<T>>,
    /// Counts uses, to tell which stream was used last.
    clock: u64,
    held: usize,
    count_limit: usize,
    held_limit: usize,
}

#[derive(Debug)]
struct Slot<T> {
    used: u64,
    stream: T,
}

impl<T: Held> Streams<T> {
    pub(super) fn new(limits: &crate::Limits) -> Self {
        Self {
            by_id: BTreeMap::new(),
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

    /// Follows a stream. A stream already there is replaced and given back.
    pub(super) fn insert(&mut self, id: u32, stream: T) -> Option<T> {
        self.clock += 1;
        self.held += stream.held_bytes();
        let used = self.clock;
        let replaced = self.by_id.insert(id, Slot { used, stream })?.stream;
        self.held -= replaced.held_bytes();
        Some(replaced)
    }

    /// Uses a stream, when it is followed.
    pub(super) fn with<R>(&mut self, id: u32, use_it: impl FnOnce(&mut T) -> R) -> Option<R> {
        let slot = self.by_id.get_mut(&id)?;
        self.clock += 1;
        slot.used = self.clock;
        let before = slot.stream.held_bytes();
        let result = use_it(&mut slot.stream);
        self.held = self.held - before + slot.stream.held_bytes();
        Some(result)
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let stream = self.by_id.remove(&id)?.stream;
        self.held -= stream.held_bytes();
        Some(stream)
    }

    /// When the bounds are passed: the stream that has been quiet longest, no longer followed.
    pub(super) fn evict(&mut self) -> Option<(u32, T)> {
        if self.by_id.len() <= self.count_limit && self.held <= self.held_limit {
            return None;
        }
        let (&id, _) = self.by_id.iter().min_by_key(|(_, slot)| slot.used)?;
        Some((id, self.remove(id)?))
    }

    pub(super) fn ids(&self) -> Vec<u32> {
        self.by_id.keys().copied().collect()
    }
}

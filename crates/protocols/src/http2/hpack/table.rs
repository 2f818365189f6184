//! The dynamic table (RFC 7541 §2.3.2 and §4).

use std::collections::VecDeque;

use bytes::Bytes;

/// The overhead of an entry beyond its name and value (§4.1).
const ENTRY_OVERHEAD: usize = 32;

/// A header field of the table. A name or value is absent if it depends on lost state.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: Option<Bytes>,
    pub(super) value: Option<Bytes>,
}

impl Entry {
    fn size(&self) -> usize {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        length(&self.name) + length(&self.value) + ENTRY_OVERHEAD
    }
}

/// Entries, newest first, of at most `capacity` bytes as the RFC counts them.
#[derive(Debug)]
pub(super) struct DynamicTable {
    entries: VecDeque<Entry>,
    size: usize,
    capacity: usize,
}

impl DynamicTable {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            capacity,
        }
    }

    /// Returns the entry that was inserted `age` insertions ago; 0 is the newest.
    pub(super) fn entry(&self, age: usize) -> Option<&Entry> {
        self.entries.get(age)
    }

    /// Inserts an entry as §4.4 specifies: one larger than the table empties it.
    pub(super) fn insert(&mut self, entry: Entry) {
        let size = entry.size();
        self.evict_to(self.capacity.saturating_sub(size));
        if size <= self.capacity {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    pub(super) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.evict_to(capacity);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.size = 0;
    }

    /// Returns the number of bytes held, as the RFC counts them.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Returns the memory of the table: the text and a slot for each entry.
    pub(super) fn memory_bytes(&self) -> usize {
        self.size + self.entries.capacity() * size_of::<Entry>()
    }

    fn evict_to(&mut self, limit: usize) {
        while self.size > limit {
            match self.entries.pop_back() {
                Some(entry) => self.size -= entry.size(),
                None => self.size = 0,
            }
        }
    }
}

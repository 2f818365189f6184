//! The records that a target is to take next.

use std::collections::{VecDeque, vec_deque};

use ecapture_protocols::RecordEnd;

/// The records that a [`Target`](super::Target) is to take next: the rest of one that it has taken a part
/// of, if there is one, and those after it.
#[derive(Debug, Clone, Copy)]
pub struct Unwritten<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) parts: &'a VecDeque<Part>,
    pub(super) begun: usize,
}

impl<'a> Unwritten<'a> {
    /// All of it, for targets without a notion of records.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Limits it to its first `bytes` bytes.
    pub(crate) fn cut(self, bytes: usize) -> Self {
        Self {
            bytes: &self.bytes[..bytes.min(self.bytes.len())],
            ..self
        }
    }

    /// Bytes of the first record that the target has taken already. Always 0 for one that takes whole
    /// records only.
    pub const fn begun(&self) -> usize {
        self.begun
    }

    /// The records, the first without the part of it that was taken.
    pub fn records(&self) -> UnwrittenRecords<'a> {
        UnwrittenRecords {
            rest: self.bytes,
            parts: self.parts.iter(),
            begun: self.begun,
        }
    }
}

/// See [`Unwritten::records`].
#[derive(Debug)]
pub struct UnwrittenRecords<'a> {
    rest: &'a [u8],
    parts: vec_deque::Iter<'a, Part>,
    begun: usize,
}

impl<'a> Iterator for UnwrittenRecords<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let bytes = self.parts.next()?.bytes - std::mem::take(&mut self.begun);
        if self.rest.is_empty() {
            return None;
        }
        // The last may be cut: see `Unwritten::cut`.
        let (record, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.rest = rest;
        Some(record)
    }
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) bytes: usize,
    pub(super) counted: Counted,
}

impl Part {
    pub(super) fn is_beginning(&self) -> bool {
        self.counted == Counted::default()
    }
}

/// The counts of a record in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    /// Messages, or captured events.
    pub(super) messages: u64,
    /// Its own bytes, or those of the events' payloads; none of a beginning.
    pub(super) bytes: u64,
}

impl Counted {
    /// The record from one end to the next.
    pub(super) const fn between(start: RecordEnd, end: RecordEnd) -> Self {
        Self {
            messages: end.messages - start.messages,
            bytes: (end.bytes - start.bytes) as u64,
        }
    }

    /// Both together.
    pub(super) const fn with(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
        }
    }

    pub(super) fn add(&mut self, part: &Part) {
        self.messages += part.counted.messages;
        self.bytes += part.counted.bytes;
    }
}

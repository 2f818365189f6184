//! Output that has not been written yet, record by record.

use std::collections::VecDeque;

use ecapture_protocols::RecordEnd;

use super::unwritten::{Counted, Part, Unwritten};

/// A queue of records over one contiguous buffer.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    parts: VecDeque<Part>,
    /// Bytes at the front that belong to records that are complete.
    completed: usize,
    /// Bytes of the first record that were written.
    written: usize,
}

impl Buffer {
    pub(super) fn push(&mut self, bytes: &[u8], counted: Counted) {
        self.bytes.extend_from_slice(bytes);
        self.parts.push_back(Part {
            bytes: bytes.len(),
            counted,
        });
    }

    /// Puts the beginning of a target before all else, in place of an earlier one that was not complete.
    pub(super) fn begin(&mut self, beginning: &[u8]) {
        self.compact();
        self.written = 0;
        let earlier = self.parts.pop_front_if(|part| part.is_beginning());
        let earlier = earlier.map_or(0, |part| part.bytes);
        self.bytes.splice(..earlier, beginning.iter().copied());
        if !beginning.is_empty() {
            self.parts.push_front(Part {
                bytes: beginning.len(),
                counted: Counted::default(),
            });
        }
    }

    /// Like [`Self::push`] of all records that end at `ends` in `bytes`, without a copy; only for an
    /// empty buffer.
    pub(super) fn fill(&mut self, bytes: Vec<u8>, ends: &[RecordEnd]) {
        debug_assert!(self.is_empty(), "what is there would be lost");
        self.bytes = bytes;
        let mut last = RecordEnd::default();
        self.parts.extend(ends.iter().map(|&end| {
            let start = std::mem::replace(&mut last, end);
            Part {
                bytes: end.bytes - start.bytes,
                counted: Counted::between(start, end),
            }
        }));
    }

    /// Bytes of records that are not complete.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.completed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The bytes to be written next.
    pub(super) fn unwritten(&self) -> Unwritten<'_> {
        Unwritten {
            bytes: &self.bytes[self.completed + self.written..],
            parts: &self.parts,
            begun: self.written,
        }
    }

    /// Notes that `bytes` more were written. Returns the counts of the records that are complete now, and
    /// forgets these.
    pub(super) fn complete(&mut self, bytes: usize) -> Counted {
        self.written += bytes;
        let mut counted = Counted::default();
        while let Some(part) = self.parts.front().filter(|part| part.bytes <= self.written) {
            self.written -= part.bytes;
            self.completed += part.bytes;
            counted.add(part);
            self.parts.pop_front();
        }
        counted
    }

    /// Frees the room of records that are complete.
    pub(super) fn compact(&mut self) {
        if self.parts.is_empty() {
            self.bytes.clear();
        } else {
            self.bytes.drain(..self.completed);
        }
        self.completed = 0;
    }

    /// Forgets everything. Returns the counts of the records that were not complete.
    pub(super) fn clear(&mut self) -> Counted {
        self.written = 0;
        self.keep_parts(0)
    }

    /// Like [`Self::clear`], but keeps a record that was written in part, and the beginning.
    pub(super) fn clear_unbegun(&mut self) -> Counted {
        let keeps_first = self.written > 0 || self.parts.front().is_some_and(Part::is_beginning);
        self.keep_parts(usize::from(keeps_first))
    }

    /// Forgets all but the first `count` records.
    fn keep_parts(&mut self, count: usize) -> Counted {
        self.compact();
        let kept: usize = self.parts.iter().take(count).map(|part| part.bytes).sum();
        let mut counted = Counted::default();
        self.parts.drain(count..).for_each(|part| counted.add(&part));
        self.bytes.truncate(kept);
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(bytes: usize, messages: u64) -> RecordEnd {
        RecordEnd { bytes, messages }
    }

    fn counted(messages: u64, bytes: u64) -> Counted {
        Counted { messages, bytes }
    }

    fn push(buffer: &mut Buffer, bytes: &[u8], messages: u64) {
        buffer.push(bytes, counted(messages, bytes.len() as u64));
    }

    #[test]
    fn a_partly_written_record_is_written_again_after_a_rewind() {
        let mut buffer = Buffer::default();
        push(&mut buffer, b"one\n", 1);
        push(&mut buffer, b"two\n", 1);
        assert_eq!(buffer.complete(6), counted(1, 4));
        buffer.compact();
        assert_eq!(buffer.unwritten().bytes(), b"o\n");
        buffer.begin(b"");
        assert_eq!(buffer.unwritten().bytes(), b"two\n");
        assert_eq!(buffer.complete(4), counted(1, 4));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_filled_buffer_is_as_if_pushed() {
        let mut buffer = Buffer::default();
        buffer.fill(b"one\ntwo\n".to_vec(), &[end(4, 1), end(8, 3)]);
        assert_eq!(buffer.complete(6), counted(1, 4));
        push(&mut buffer, b"three\n", 1);
        assert_eq!(buffer.unwritten().bytes(), b"o\nthree\n");
        assert_eq!(buffer.complete(8), counted(3, 10));
        buffer.compact();
        assert!(buffer.is_empty());
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn what_is_unwritten_is_told_record_by_record() {
        let mut buffer = Buffer::default();
        buffer.fill(b"one\ntwo\nsix\n".to_vec(), &[end(4, 1), end(8, 2), end(12, 3)]);
        buffer.complete(6);
        let unwritten = buffer.unwritten();
        assert_eq!(unwritten.begun(), 2);
        let records: Vec<_> = unwritten.records().collect();
        assert_eq!(records, [&b"o\n"[..], b"six\n"]);
        assert_eq!(records.concat(), unwritten.bytes());
    }

    #[test]
    fn a_new_target_begins_with_its_beginning_once() {
        let mut buffer = Buffer::default();
        push(&mut buffer, b"one\n", 1);
        push(&mut buffer, b"two\n", 1);
        assert_eq!(buffer.complete(6), counted(1, 4));
        buffer.begin(b"head\n");
        assert_eq!(buffer.unwritten().bytes(), b"head\ntwo\n");
        assert_eq!(buffer.complete(2), counted(0, 0));
        buffer.begin(b"head\n");
        assert_eq!(buffer.unwritten().bytes(), b"head\ntwo\n");
        assert_eq!(buffer.complete(9), counted(1, 4));
    }

    #[test]
    fn clearing_counts_what_was_not_complete() {
        let mut buffer = Buffer::default();
        push(&mut buffer, b"one\n", 1);
        push(&mut buffer, b"two\n", 2);
        buffer.complete(5);
        assert_eq!(buffer.clear(), counted(2, 4));
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn a_record_that_was_begun_outlives_the_others() {
        let mut buffer = Buffer::default();
        for text in [b"one\n", b"two\n", b"six\n"] {
            push(&mut buffer, text, 1);
        }
        buffer.complete(5);
        assert_eq!(buffer.clear_unbegun(), counted(1, 4));
        assert_eq!(buffer.unwritten().bytes(), b"wo\n");
        assert_eq!(buffer.complete(3), counted(1, 4));
        push(&mut buffer, b"ten\n", 1);
        assert_eq!(buffer.clear_unbegun(), counted(1, 4));
        assert!(buffer.is_empty());
    }
}

//! Output that has not been written yet, record by record.

use std::collections::VecDeque;

use ecapture_protocols::RecordEnd;

use super::target::Unwritten;

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) bytes: usize,
    pub(super) messages: u64,
}

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
    pub(super) fn push(&mut self, bytes: &[u8], messages: u64) {
        self.bytes.extend_from_slice(bytes);
        self.parts.push_back(Part {
            bytes: bytes.len(),
            messages,
        });
    }

    /// As [`Self::push`] of all records that end at `ends` in `bytes`, without a copy; only for an
    /// empty buffer.
    pub(super) fn fill(&mut self, bytes: Vec<u8>, ends: &[RecordEnd]) {
        debug_assert!(self.is_empty(), "what is there would be lost");
        self.bytes = bytes;
        let mut last = RecordEnd::default();
        self.parts.extend(ends.iter().map(|&end| {
            let start = std::mem::replace(&mut last, end);
            Part {
                bytes: end.bytes - start.bytes,
                messages: end.messages - start.messages,
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

    /// What is to be written next.
    pub(super) fn unwritten(&self) -> Unwritten<'_> {
        Unwritten {
            bytes: &self.bytes[self.completed + self.written..],
            parts: &self.parts,
            begun: self.written,
        }
    }

    /// `bytes` more were written; returns the messages and bytes of the records that are thereby
    /// complete, and forgets them.
    pub(super) fn complete(&mut self, bytes: usize) -> (u64, u64) {
        self.written += bytes;
        let before = self.completed;
        let mut messages = 0;
        while let Some(part) = self.parts.front().filter(|part| part.bytes <= self.written) {
            self.written -= part.bytes;
            self.completed += part.bytes;
            messages += part.messages;
            self.parts.pop_front();
        }
        (messages, (self.completed - before) as u64)
    }

    /// Gives back the room of records that are complete.
    pub(super) fn compact(&mut self) {
        if self.parts.is_empty() {
            self.bytes.clear();
        } else {
            self.bytes.drain(..self.completed);
        }
        self.completed = 0;
    }

    /// The target begins again: so does the first record.
    pub(super) fn rewind(&mut self) {
        self.written = 0;
    }

    /// Forgets everything; returns the messages and bytes of the records that were not complete.
    pub(super) fn clear(&mut self) -> (u64, u64) {
        self.written = 0;
        self.keep_parts(0)
    }

    /// As [`Self::clear`], but keeps a record of which something was written.
    pub(super) fn clear_unbegun(&mut self) -> (u64, u64) {
        self.keep_parts(usize::from(self.written > 0))
    }

    /// Forgets all but the first `count` records.
    fn keep_parts(&mut self, count: usize) -> (u64, u64) {
        self.compact();
        let kept: usize = self.parts.iter().take(count).map(|part| part.bytes).sum();
        let bytes = (self.bytes.len() - kept) as u64;
        let messages = self.parts.drain(count..).map(|part| part.messages).sum();
        self.bytes.truncate(kept);
        (messages, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(bytes: usize, messages: u64) -> RecordEnd {
        RecordEnd { bytes, messages }
    }

    #[test]
    fn a_partly_written_record_is_written_again_after_a_rewind() {
        let mut buffer = Buffer::default();
        buffer.push(b"one\n", 1);
        buffer.push(b"two\n", 1);
        assert_eq!(buffer.complete(6), (1, 4));
        buffer.compact();
        assert_eq!(buffer.unwritten().bytes(), b"o\n");
        buffer.rewind();
        assert_eq!(buffer.unwritten().bytes(), b"two\n");
        assert_eq!(buffer.complete(4), (1, 4));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_filled_buffer_is_as_if_pushed() {
        let mut buffer = Buffer::default();
        buffer.fill(b"one\ntwo\n".to_vec(), &[end(4, 1), end(8, 3)]);
        assert_eq!(buffer.complete(6), (1, 4));
        buffer.push(b"three\n", 1);
        assert_eq!(buffer.unwritten().bytes(), b"o\nthree\n");
        assert_eq!(buffer.complete(8), (3, 10));
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
    fn clearing_counts_what_was_not_complete() {
        let mut buffer = Buffer::default();
        buffer.push(b"one\n", 1);
        buffer.push(b"two\n", 2);
        buffer.complete(5);
        assert_eq!(buffer.clear(), (2, 4));
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn a_record_that_was_begun_outlives_the_others() {
        let mut buffer = Buffer::default();
        for text in [b"one\n", b"two\n", b"six\n"] {
            buffer.push(text, 1);
        }
        buffer.complete(5);
        assert_eq!(buffer.clear_unbegun(), (1, 4));
        assert_eq!(buffer.unwritten().bytes(), b"wo\n");
        assert_eq!(buffer.complete(3), (1, 4));
        buffer.push(b"ten\n", 1);
        assert_eq!(buffer.clear_unbegun(), (1, 4));
        assert!(buffer.is_empty());
    }
}

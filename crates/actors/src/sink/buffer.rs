//! Output that has not been written yet, with the bounds of its records.

use std::collections::VecDeque;

/// Bytes of one or more records that belong together.
#[derive(Debug, Clone, Copy)]
struct Part {
    bytes: usize,
    messages: u64,
}

/// A queue of parts over one contiguous buffer.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    parts: VecDeque<Part>,
    /// Bytes of the first part that were written.
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

    /// As [`Self::push`] of all `parts` of `bytes`, without a copy; only for an empty buffer.
    pub(super) fn fill(&mut self, bytes: Vec<u8>, parts: impl Iterator<Item = (usize, u64)>) {
        debug_assert!(self.is_empty(), "what is there would be lost");
        self.bytes = bytes;
        let parts = parts.map(|(bytes, messages)| Part { bytes, messages });
        self.parts.extend(parts);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What is to be written next.
    pub(super) fn unwritten(&self, done: usize) -> &[u8] {
        &self.bytes[self.written + done..]
    }

    /// `done` more bytes were written; returns the messages and bytes of the parts that are
    /// thereby complete, and forgets them.
    pub(super) fn complete(&mut self, done: usize) -> (u64, u64) {
        self.written += done;
        let (mut messages, mut bytes) = (0, 0);
        while let Some(part) = self.parts.front() {
            if part.bytes > self.written - bytes {
                break;
            }
            bytes += part.bytes;
            messages += part.messages;
            self.parts.pop_front();
        }
        self.written -= bytes;
        if self.parts.is_empty() {
            self.bytes.clear();
        } else {
            self.bytes.drain(..bytes);
        }
        (messages, bytes as u64)
    }

    /// The target starts anew: so does the first part.
    pub(super) fn rewind(&mut self) {
        self.written = 0;
    }

    /// Forgets everything; returns the messages and bytes of the parts that were not complete.
    pub(super) fn clear(&mut self) -> (u64, u64) {
        self.written = 0;
        self.keep_parts(0)
    }

    /// As [`Self::clear`], but keeps a part of which something was written.
    pub(super) fn clear_unbegun(&mut self) -> (u64, u64) {
        self.keep_parts(usize::from(self.written > 0))
    }

    /// Forgets all but the first `count` parts.
    fn keep_parts(&mut self, count: usize) -> (u64, u64) {
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

    #[test]
    fn a_partly_written_part_is_written_again_after_a_rewind() {
        let mut buffer = Buffer::default();
        buffer.push(b"one\n", 1);
        buffer.push(b"two\n", 1);
        assert_eq!(buffer.complete(6), (1, 4));
        assert_eq!(buffer.unwritten(0), b"o\n");
        buffer.rewind();
        assert_eq!(buffer.unwritten(0), b"two\n");
        assert_eq!(buffer.complete(4), (1, 4));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_filled_buffer_is_as_if_pushed() {
        let mut buffer = Buffer::default();
        buffer.fill(b"one\ntwo\n".to_vec(), [(4, 1), (4, 2)].into_iter());
        assert_eq!(buffer.complete(6), (1, 4));
        buffer.push(b"three\n", 1);
        assert_eq!(buffer.unwritten(0), b"o\nthree\n");
        assert_eq!(buffer.complete(8), (3, 10));
        assert!(buffer.is_empty());
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
    fn a_part_that_was_begun_outlives_the_others() {
        let mut buffer = Buffer::default();
        for text in [b"one\n", b"two\n", b"six\n"] {
            buffer.push(text, 1);
        }
        buffer.complete(5);
        assert_eq!(buffer.clear_unbegun(), (1, 4));
        assert_eq!(buffer.unwritten(0), b"wo\n");
        assert_eq!(buffer.complete(3), (1, 4));
        buffer.push(b"ten\n", 1);
        assert_eq!(buffer.clear_unbegun(), (1, 4));
        assert!(buffer.is_empty());
    }
}

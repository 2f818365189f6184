//! Formatted output with the ends of its records.

use super::ends::ExchangeEnd;
use super::message_ends::MessageEnd;

/// Bytes, and where each record in them ends. A format appends to it; a target takes the bytes as a
/// stream, or record by record.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    ends: Vec<RecordEnd>,
    left_out: u64,
    passed_over: u64,
    /// The records that are an end of an exchange, by their place.
    exchange_ends: Vec<(usize, ExchangeEnd)>,
    /// The same of messages.
    message_ends: Vec<(usize, MessageEnd)>,
}

/// The end of a record, as totals over this record and all previous ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordEnd {
    /// Number of bytes up to here.
    pub bytes: usize,
    /// Number of messages up to here.
    pub messages: u64,
}

impl Records {
    /// Creates an empty buffer with room for `bytes` bytes in `records` records.
    pub fn with_capacity(bytes: usize, records: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(records),
            left_out: 0,
            passed_over: 0,
            exchange_ends: Vec::new(),
            message_ends: Vec::new(),
        }
    }

    /// Returns the buffer to which the bytes of the current record are appended.
    pub const fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends the current record, which shows `messages` messages. If no bytes were appended, there
    /// is no record.
    pub fn end(&mut self, messages: usize) {
        let last = self.last_end();
        if self.bytes.len() > last.bytes {
            self.ends.push(RecordEnd {
                bytes: self.bytes.len(),
                messages: last.messages + messages as u64,
            });
        }
    }

    /// Ends the current record like [`Self::end`], and says which end of an exchange it is.
    pub fn end_exchange(&mut self, messages: usize, end: Option<ExchangeEnd>) {
        let place = self.ends.len();
        self.end(messages);
        if self.ends.len() > place {
            self.exchange_ends.extend(end.map(|end| (place, end)));
        }
    }

    /// Ends the current record like [`Self::end`], and says which end of a message it is.
    pub fn end_message(&mut self, messages: usize, end: Option<MessageEnd>) {
        let place = self.ends.len();
        self.end(messages);
        if self.ends.len() > place {
            self.message_ends.extend(end.map(|end| (place, end)));
        }
    }

    /// Returns true if a record may be joined with another one.
    pub fn has_ends(&self) -> bool {
        !(self.exchange_ends.is_empty() && self.message_ends.is_empty())
    }

    /// Returns the records that are ends of exchanges, by their place, in order.
    pub fn exchange_ends(&self) -> &[(usize, ExchangeEnd)] {
        &self.exchange_ends
    }

    /// Returns which end of an exchange the record at `place` is.
    pub fn exchange_end(&self, place: usize) -> Option<&ExchangeEnd> {
        let index = self
            .exchange_ends
            .binary_search_by_key(&place, |end| end.0)
            .ok()?;
        Some(&self.exchange_ends[index].1)
    }

    /// Returns which end of a message the record at `place` is.
    pub fn message_end(&self, place: usize) -> Option<&MessageEnd> {
        let index = self.message_ends.binary_search_by_key(&place, |end| end.0).ok()?;
        Some(&self.message_ends[index].1)
    }

    /// Counts messages that a filter did not select.
    pub const fn leave_out(&mut self, messages: u64) {
        self.left_out += messages;
    }

    /// Returns the number of messages left out since the last call.
    pub const fn take_left_out(&mut self) -> u64 {
        std::mem::replace(&mut self.left_out, 0)
    }

    /// Counts messages that the format has no records for.
    pub const fn pass_over(&mut self, messages: u64) {
        self.passed_over += messages;
    }

    /// Returns the number of messages passed over since the last call.
    pub const fn take_passed_over(&mut self) -> u64 {
        std::mem::replace(&mut self.passed_over, 0)
    }

    /// Returns all bytes, including those of the current record.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the ends of all records, in order.
    pub fn ends(&self) -> &[RecordEnd] {
        &self.ends
    }

    /// Returns the end of the last record.
    pub fn last_end(&self) -> RecordEnd {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Returns true if there is no record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Iterates over the records, without an unfinished one.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|end| end.bytes));
        let bounds = starts.zip(&self.ends);
        bounds.map(|(start, end)| &self.bytes[start..end.bytes])
    }

    /// Removes all records except the first `records`.
    pub fn truncate(&mut self, records: usize) {
        self.ends.truncate(records);
        let kept = self.exchange_ends.partition_point(|end| end.0 < records);
        self.exchange_ends.truncate(kept);
        let kept = self.message_ends.partition_point(|end| end.0 < records);
        self.message_ends.truncate(kept);
        self.bytes.truncate(self.last_end().bytes);
    }

    /// Returns the bytes, and the ends of the records in them.
    pub fn into_parts(self) -> (Vec<u8>, Vec<RecordEnd>) {
        (self.bytes, self.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_separated_and_their_messages_counted() {
        let mut records = Records::default();
        records.bytes().extend_from_slice(b"one");
        records.end(1);
        records.end(5);
        records.bytes().extend_from_slice(b"two and three");
        records.end(2);
        records.bytes().extend_from_slice(b"half");
        assert_eq!(
            records.iter().collect::<Vec<_>>(),
            [&b"one"[..], b"two and three"]
        );
        assert_eq!(
            records.last_end(),
            RecordEnd {
                bytes: 16,
                messages: 3
            }
        );
        records.truncate(1);
        assert_eq!(records.as_bytes(), b"one");
        records.bytes().extend_from_slice(b"four");
        records.end(1);
        assert_eq!(records.iter().last(), Some(&b"four"[..]));
        assert_eq!(
            records.last_end(),
            RecordEnd {
                bytes: 7,
                messages: 2
            }
        );
    }
}

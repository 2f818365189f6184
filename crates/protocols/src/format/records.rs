//! Formatted output that knows where each of its records ends.

/// Bytes, and where each record in them ends. A format appends to it; whoever writes it may take
/// the bytes as a stream, or record by record.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    ends: Vec<RecordEnd>,
}

/// The end of a record, as sums over it and all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordEnd {
    /// Bytes up to here.
    pub bytes: usize,
    /// Messages up to here.
    pub messages: u64,
}

impl Records {
    /// Empty, with room for `bytes` bytes in `records` records.
    pub fn with_capacity(bytes: usize, records: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(records),
        }
    }

    /// Where the bytes of the current record are appended.
    pub const fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends the current record, which shows `messages` messages. Without any byte there is no record.
    pub fn end(&mut self, messages: usize) {
        let last = self.last_end();
        if self.bytes.len() > last.bytes {
            self.ends.push(RecordEnd {
                bytes: self.bytes.len(),
                messages: last.messages + messages as u64,
            });
        }
    }

    /// All bytes, those of the current record included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The ends of all records, in order.
    pub fn ends(&self) -> &[RecordEnd] {
        &self.ends
    }

    /// The end of the last record.
    pub fn last_end(&self) -> RecordEnd {
        self.ends.last().copied().unwrap_or_default()
    }

    /// True without any record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The records, without the one that has not ended.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|end| end.bytes));
        let bounds = starts.zip(&self.ends);
        bounds.map(|(start, end)| &self.bytes[start..end.bytes])
    }

    /// Forgets all but the first `records` records.
    pub fn truncate(&mut self, records: usize) {
        self.ends.truncate(records);
        self.bytes.truncate(self.last_end().bytes);
    }

    /// The bytes, and the ends of the records in them.
    pub fn into_parts(self) -> (Vec<u8>, Vec<RecordEnd>) {
        (self.bytes, self.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_apart_and_their_messages_are_counted() {
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

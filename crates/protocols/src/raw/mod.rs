//! Bytes of no known protocol, one message per event.
//!
//! ```text
//!   event ──► message                 (a UTF-8 character that the event's end cuts in two
//!       └───► tail ──► next message    waits for the next event, so that text stays text)
//! ```

use bytes::{Bytes, BytesMut};

use crate::decoder::Output;
use crate::message::{Content, Message, Raw};
use crate::text::cut_character;

/// Emits raw events.
#[derive(Default)]
pub(crate) struct RawWriter {
    /// Beginning of a character: at most 3 bytes.
    tail: Bytes,
    tail_ns: u64,
}

impl RawWriter {
    /// Takes one event.
    pub(crate) fn write(&mut self, data: &Bytes, timestamp_ns: u64, output: &mut Output) {
        let (data, first_ns) = self.with_tail(data, timestamp_ns);
        let cut = cut_character(&data);
        let whole = data.len() - cut;
        if cut > 0 && str::from_utf8(&data[..whole]).is_ok() {
            self.tail = Bytes::copy_from_slice(&data[whole..]);
            self.tail_ns = if whole == 0 { first_ns } else { timestamp_ns };
            emit(data.slice(..whole), first_ns, timestamp_ns, output);
        } else {
            emit(data, first_ns, timestamp_ns, output);
        }
    }

    /// Emits the held bytes.
    pub(crate) fn flush(&mut self, output: &mut Output) {
        let tail = std::mem::take(&mut self.tail);
        emit(tail, self.tail_ns, self.tail_ns, output);
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.tail.len()
    }

    fn with_tail(&mut self, data: &Bytes, timestamp_ns: u64) -> (Bytes, u64) {
        if self.tail.is_empty() {
            return (data.clone(), timestamp_ns);
        }
        let mut joined = BytesMut::from(&std::mem::take(&mut self.tail)[..]);
        joined.extend_from_slice(data);
        (joined.freeze(), self.tail_ns)
    }
}

/// Emits `data` as one raw message, unless it is empty.
pub(crate) fn emit(data: Bytes, first_ns: u64, last_ns: u64, output: &mut Output) {
    if !data.is_empty() {
        output.messages.push(Message {
            first_ns,
            last_ns,
            exchange: None,
            content: Content::Raw(Raw { data }),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(events: &[&'static [u8]]) -> Vec<Vec<u8>> {
        let mut output = Output::default();
        let mut raw = RawWriter::default();
        for event in events {
            raw.write(&Bytes::from_static(event), 1, &mut output);
        }
        raw.flush(&mut output);
        let data = |message: &Message| match &message.content {
            Content::Raw(raw) => raw.data.to_vec(),
            other => panic!("{other:?}"),
        };
        output.messages.iter().map(data).collect()
    }

    #[test]
    fn one_message_per_event() {
        assert_eq!(written(&[b"a", b"", b"\xFF\0b"]), [&b"a"[..], b"\xFF\0b"]);
    }

    #[test]
    fn a_character_cut_in_two_stays_whole() {
        assert_eq!(written(&[b"a\xE4\xBD", b"\xA0b"]), [&b"a"[..], "你b".as_bytes()]);
        assert_eq!(written(&[b"\xE4", b"\xBD", b"\xA0"]), ["你".as_bytes()]);
    }

    #[test]
    fn an_end_that_stays_cut_is_emitted() {
        assert_eq!(written(&[b"a\xE4"]), [&b"a"[..], b"\xE4"]);
        assert_eq!(written(&[b"\xFFa\xE4"]), [&b"\xFFa\xE4"[..]]);
    }
}

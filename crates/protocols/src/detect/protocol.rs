//! The contract between the protocols: the entry of each in the table, and how one gives way to
//! another.

use std::sync::Arc;

use bytes::Bytes;

use crate::decoder::{Detection, Options, StreamDecoder};
use crate::exchange::Exchange;
use crate::limits::Limits;
use crate::message::{Content, Gap, Message};

/// A protocol's entry in the table.
pub(crate) struct Protocol {
    /// Decides whether these bytes begin a stream of this protocol. If [`Limits::detect_bytes`]
    /// bytes are not enough for *yes* or *no*, the stream is raw.
    pub(crate) recognize: fn(&[u8], &Limits, Place) -> Detection,
    /// Decides whether to accept these bytes if the stream goes quiet while `recognize` still wants
    /// more.
    pub(crate) recognize_quiet: fn(&[u8], Place) -> bool,
    /// Makes a decoder for a stream that begins with these bytes.
    pub(crate) start: fn(&Arc<Options>, &[u8]) -> Box<dyn ProtocolDecoder>,
    /// Its decoder reports every request to the other direction
    /// ([`PeerNotice::RequestHead`](crate::PeerNotice::RequestHead)).
    pub(crate) reports_requests: bool,
}

/// The facts known about the bytes before those that are examined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Some are missing: the stream was joined late or has a gap. The bytes here may be from the
    /// middle of any protocol, and they are the only evidence. Otherwise all earlier bytes were
    /// seen, so a protocol that begins with a handshake cannot begin here without one.
    pub(crate) after_loss: bool,
    /// They are raw and do not end a line, so the first word here may be the end of a longer one.
    pub(crate) mid_line: bool,
}

/// A protocol's decoder. One that may give way to another protocol says so in `hand_over`.
pub(crate) trait ProtocolDecoder: StreamDecoder {
    /// Called after every other call: returns `Some` with the next protocol's bytes if the stream
    /// continues in another protocol. The decoder is then dropped.
    fn hand_over(&mut self) -> Option<HandOver> {
        None
    }

    /// Returns the protocol whose new decoder would be in the same state as this one, if there is
    /// one. Such a decoder need not be kept while the stream sleeps.
    fn as_new(&self) -> Option<&'static Protocol> {
        None
    }

    /// Begins to number, or to pair, exchanges after the number `last`, `None` if that is not
    /// known. `is_complete` is true if nothing of the connection is missing before.
    fn begin_exchanges(&mut self, _last: Option<u32>, _is_complete: bool) {}

    /// Returns the number of the last exchange, if it is known.
    fn exchanges(&self) -> Option<u32> {
        None
    }

    /// Returns true if the stream may continue with `payload`, which looks like the beginning of a
    /// connection.
    fn expects(&self, _payload: &[u8]) -> bool {
        false
    }
}

/// The end of one protocol and the beginning of another in the same stream.
pub(crate) struct HandOver {
    /// The next protocol; `None` if it must be detected.
    pub(crate) next: Option<&'static Protocol>,
    /// The exchange that the change of protocols belongs to.
    pub(crate) exchange: Option<Exchange>,
    /// Bytes of it that were already fed, with the times of the events that brought them.
    pub(crate) rest: Vec<(Bytes, u64)>,
}

/// Joins bytes that a decoder took for a header with the rest of their event.
pub(crate) fn joined(rest: Vec<(Bytes, u64)>) -> Vec<(Bytes, u64)> {
    let [(_, first_ns), ..] = rest[..] else {
        return rest;
    };
    let bytes: Vec<u8> = rest.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
    vec![(bytes.into(), first_ns)]
}

/// Makes the message that marks `gap` at its place in the stream.
pub(crate) fn gap_message(gap: Gap, timestamp_ns: u64) -> Message {
    Message {
        first_ns: timestamp_ns,
        last_ns: timestamp_ns,
        exchange: None,
        content: Content::Gap(gap),
    }
}

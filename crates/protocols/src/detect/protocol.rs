//! The contract between the protocols: what each says of itself, and how one gives way to another.

use std::sync::Arc;

use bytes::Bytes;

use crate::decoder::{Detection, Options, StreamDecoder};
use crate::limits::Limits;
use crate::message::{Content, Gap, Message};

/// What the table knows of a protocol.
pub(crate) struct Protocol {
    /// Whether these bytes begin a stream of it. Where the answer is not *yes* or *no* for
    /// [`Limits::detect_bytes`] bytes, the stream is raw.
    pub(crate) recognize: fn(&[u8], &Limits, Place) -> Detection,
    /// Whether to believe these bytes of which `recognize` wants more, when no more come.
    pub(crate) recognize_quiet: fn(&[u8], Place) -> bool,
    /// A decoder for a stream that begins with these bytes.
    pub(crate) start: fn(&Arc<Options>, &[u8]) -> Box<dyn ProtocolDecoder>,
    /// Its decoder tells the other direction of every request ([`PeerNotice::RequestHead`](crate::PeerNotice::RequestHead)).
    pub(crate) reports_requests: bool,
}

/// What is known of the bytes before the ones that are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Some are missing: the stream was joined late or has a gap. What begins here may be the middle
    /// of any protocol, and its bytes alone are the evidence. Otherwise all were seen, if there were
    /// any; so a protocol that begins with a handshake and did not have it cannot begin here.
    pub(crate) after_loss: bool,
    /// They are raw and do not end a line, so that the first word here may be the end of a longer one.
    pub(crate) mid_line: bool,
}

/// A protocol's decoder. One that may give way to another protocol says so in `hand_over`.
pub(crate) trait ProtocolDecoder: StreamDecoder {
    /// Asked after every call: whether the stream goes on in another protocol, and with which
    /// bytes. After `Some` the decoder is dropped.
    fn hand_over(&mut self) -> Option<HandOver> {
        None
    }

    /// The protocol whose new decoder would be in the same state as this one, if there is one: it need not be
    /// kept while the stream sleeps.
    fn as_new(&self) -> Option<&'static Protocol> {
        None
    }

    /// Whether the stream may go on with `payload`, which begins as connections do.
    fn expects(&self, _payload: &[u8]) -> bool {
        false
    }
}

/// The end of one protocol and the beginning of another in the same stream.
pub(crate) struct HandOver {
    /// The next protocol; `None`: to be detected.
    pub(crate) next: Option<&'static Protocol>,
    /// Bytes of it that were already fed, with the time of the event that brought each.
    pub(crate) rest: Vec<(Bytes, u64)>,
}

/// What a decoder took for a header stands before the rest of its event: one event again.
pub(crate) fn joined(rest: Vec<(Bytes, u64)>) -> Vec<(Bytes, u64)> {
    let [(_, first_ns), ..] = rest[..] else {
        return rest;
    };
    let bytes: Vec<u8> = rest.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
    vec![(bytes.into(), first_ns)]
}

/// The message that stands for `gap` at its place in the stream.
pub(crate) fn gap_message(gap: Gap, timestamp_ns: u64) -> Message {
    Message {
        first_ns: timestamp_ns,
        last_ns: timestamp_ns,
        content: Content::Gap(gap),
    }
}

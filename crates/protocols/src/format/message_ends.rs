//! Both ends of a message: where sender and receiver run on this host, each of them shows the same message. A format that
//! shows it once says of each record which end it is ([`MessageEnd`]); whoever collects the records finds those that
//! belong together, and lets the format join them ([`Format::join_messages`](super::Format::join_messages)).

use std::net::SocketAddr;

use crate::event::{AddressSource, Direction, Origin, Process, Side};
use crate::message::{Content, Message, Part};

/// One end of a message, as far as it decides which other end it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageEnd {
    /// The direction of the connection.
    pub place: MessagePlace,
    /// This end is the sender's.
    pub is_sender: bool,
    /// This end opened the connection, as far as is known.
    pub is_opener: bool,
    /// The process of this end.
    pub process: Process,
    /// Kernel time of the first byte.
    pub first_ns: u64,
    /// Length of what is above the message in its record. Everything behind it is the same at both ends.
    pub heading: usize,
    /// The message was seen whole. What else is shown of a stream is never joined.
    pub is_whole: bool,
}

/// One direction of a connection, the same for both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessagePlace {
    /// Address of the end that sends.
    pub sender: SocketAddr,
    /// Address of the end that receives.
    pub receiver: SocketAddr,
}

impl MessageEnd {
    /// Returns the end that `message` is of, in a record whose first `heading` bytes are above it. `None` if no other end
    /// can be captured.
    pub(super) fn of(origin: &Origin, message: &Message) -> Option<Self> {
        let stream = origin.stream.as_ref().filter(|stream| stream.other_end)?;
        let socket = stream
            .socket
            .filter(|socket| socket.address_source == AddressSource::Exact)?;
        let (sender, receiver) = socket.endpoints(stream.direction)?;
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Some(Self {
            place: MessagePlace {
                sender: canonical(sender),
                receiver: canonical(receiver),
            },
            is_sender: stream.direction == Direction::Write,
            is_opener: socket.local == Some(Side::Source),
            process: origin.process,
            first_ns: message.first_ns,
            heading: 0,
            is_whole: is_whole(message),
        })
    }

    /// Returns it for a record that begins with a heading of so many bytes.
    #[must_use]
    pub(super) const fn below(mut self, heading: usize) -> Self {
        self.heading = heading;
        self
    }

    /// Returns true if both are ends of the same message, given their records: the same text, sent before it was received
    /// (all times are of one clock).
    pub fn belongs_to(&self, record: &[u8], other: &Self, others_record: &[u8]) -> bool {
        let (sender, receiver) = if self.is_sender {
            (self, other)
        } else {
            (other, self)
        };
        sender.is_sender
            && !receiver.is_sender
            && self.place == other.place
            && self.is_whole
            && other.is_whole
            && sender.first_ns <= receiver.first_ns
            && record.get(self.heading..) == others_record.get(other.heading..)
    }

    /// Returns true if a record of both ends is this one's rather than the other one's: the client's, or the sender's
    /// where that is not known.
    pub const fn is_shown_rather_than(&self, other: &Self) -> bool {
        if self.is_opener == other.is_opener {
            self.is_sender
        } else {
            self.is_opener
        }
    }
}

/// Returns false for parts, and for what a stream is cut into by the calls of one end.
const fn is_whole(message: &Message) -> bool {
    match &message.content {
        Content::Http1(http1) => matches!(http1.part, Part::Whole),
        Content::Http2(http2) => matches!(http2.part, Part::Whole),
        Content::Grpc(_) | Content::Http2Frame(_) | Content::ServerSentEvent(_) | Content::WebSocket(_) => {
            true
        }
        Content::Fact(_) | Content::Gap(_) | Content::Raw(_) | Content::Unanswered => false,
    }
}

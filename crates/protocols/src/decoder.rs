//! The contract between decoders and their callers.

use std::sync::Arc;

use bytes::Bytes;

use crate::exchange::{Asked, EndOfRequest};
use crate::message::{Gap, Message};

/// Decodes one direction of one connection.
///
/// A decoder is fed the bytes in order and appends the messages that became complete to [`Output`].
/// It never fails as a whole: it emits bytes that it cannot decode raw, or counts them as skipped,
/// so that every byte fed is in a message or in [`Output::skipped`]. It never blocks, never panics
/// on any bytes, and holds no more than its [`Limits`](crate::Limits) allow.
pub trait StreamDecoder: Send {
    /// Takes the next bytes; `timestamp_ns` is the kernel time of the event that brought them.
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output);

    /// Notes that bytes were lost before the next `feed`.
    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output);

    /// Notes that bytes of the connection precede those of this decoder, although no gap marks
    /// that. `last` is the number of the last exchange before, if it is known.
    fn begin_late(&mut self, _last: Option<u32>) {}

    /// Takes a notice from the other direction of the connection.
    fn notice(&mut self, notice: &PeerNotice, output: &mut Output);

    /// Returns true while the decoder holds back input because only a [`PeerNotice`] can decide how
    /// to continue (for example, after a response that may answer a HEAD request).
    fn awaits_notice(&self) -> bool {
        false
    }

    /// Returns true while a response is held back until its request has ended. At the end of the
    /// connection the other direction is closed first then.
    fn awaits_end(&self) -> bool {
        false
    }

    /// Called when no notice will come in time: the decoder decides by the bytes alone.
    fn notice_overdue(&mut self, _output: &mut Output) {}

    /// Returns true while the decoder holds input that it can decode now. It decodes a bounded part
    /// in each call of [`go_on`](Self::go_on), which the caller must call before it feeds more.
    fn has_more(&self) -> bool {
        false
    }

    /// Decodes the next part of the held input.
    fn go_on(&mut self, _output: &mut Output) {}

    /// Returns true while [`emit_parts`](Self::emit_parts) would emit a part of an unfinished
    /// message.
    fn has_parts(&self) -> bool {
        false
    }

    /// Emits the received parts of unfinished messages, the head with the first part. Called one
    /// run interval after [`has_parts`](Self::has_parts) became true.
    fn emit_parts(&mut self, _output: &mut Output) {}

    /// Called when the stream has been quiet for the idle time. Emits held input as incomplete,
    /// marked as such; the decoder stays usable.
    fn idle(&mut self, output: &mut Output);

    /// Called when the stream has been silent for so long that the decoder is set aside: releases
    /// unused memory. The decoder may be fed again.
    fn sleep(&mut self) {}

    /// Returns true if `payload`, received after a silence in a stream whose end is never reported,
    /// certainly begins another connection. This decoder is then closed, and a new one continues.
    fn is_begun_anew(&self, _payload: &[u8]) -> bool {
        false
    }

    /// Called when the stream has ended: emits everything held. The decoder is not fed again.
    fn close(&mut self, output: &mut Output);

    /// Returns the number of bytes held back, for memory accounting.
    fn buffered_bytes(&self) -> usize;
}

/// A notice from one direction of a connection to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerNotice {
    /// A request was seen, which its response is paired with. In views that pair only
    /// ([`View::pairs`]).
    Asked(Arc<Asked>),
    /// Requests before this direction's first may be unseen; this affects the pairing, not the
    /// framing.
    BegunLate,
    /// An HTTP/1 request head was seen. Requests are reported in wire order, one notice each.
    RequestHead {
        /// The class of the method, which the response's framing depends on (RFC 9112 §6.3).
        method: MethodClass,
        /// Kernel time of the head's first byte: a response older than this answers an earlier,
        /// unseen request.
        timestamp_ns: u64,
    },
    /// A request has ended whose [`Asked`](Self::Asked) was sent before.
    RequestEnd(Box<EndOfRequest>),
    /// Bytes of this direction were lost, and request heads may have been among them.
    RequestsLost,
    /// This direction does not carry HTTP/1 requests, so no `RequestHead` will come.
    NoRequests,
    /// An extended CONNECT request asked for a WebSocket on this HTTP/2 stream (RFC 8441); the
    /// response does not say so itself.
    WebSocketStream {
        /// Stream id.
        stream: u32,
    },
}

impl PeerNotice {
    /// Returns the memory that it takes beyond the struct itself.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Asked(asked) => asked.bytes(),
            Self::RequestEnd(end) => {
                let message = end.message.as_ref();
                size_of::<EndOfRequest>() + message.map_or(0, |message| message.held_bytes())
            }
            _ => 0,
        }
    }

    /// Drops the request itself. Returns its bytes on the wire, as far as they were kept.
    pub fn drop_message(&mut self) -> u64 {
        let message = match self {
            Self::Asked(asked) if asked.message.is_some() => Arc::make_mut(asked).message.take(),
            Self::RequestEnd(end) => end.message.take(),
            _ => None,
        };
        message.map_or(0, |message| message.wire_bytes())
    }

    /// Drops what a request names: it is paired by its number then.
    pub fn drop_target(&mut self) {
        if let Self::Asked(asked) = self {
            Arc::make_mut(asked).target = None;
        }
    }
}

/// The request methods that change how a response is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodClass {
    /// `CONNECT`: a 2xx response turns the connection into a tunnel.
    Connect,
    /// `HEAD`: the response has no body whatever its header fields say.
    Head,
    /// Any other.
    Other,
}

/// The output of decoders. Reused between calls so that the hot path does not allocate.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages in wire order of completion.
    pub messages: Vec<Message>,
    /// Notices for the decoder of the other direction.
    pub notices: Vec<PeerNotice>,
    /// Bytes that are in no message, each with its reason.
    pub skipped: Vec<Skipped>,
    /// The same bytes as messages of further views, one list for each, if a decoder decodes for
    /// several views.
    pub other_views: Vec<Vec<Message>>,
}

/// Bytes that a decoder took and did not emit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// Why the bytes were skipped.
    pub reason: SkipReason,
    /// Number of bytes as captured.
    pub bytes: u64,
}

/// Why a decoder did not emit bytes it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipReason {
    /// Part of a message body beyond [`Limits::body_bytes`](crate::Limits::body_bytes).
    BodyLimit,
    /// A header block beyond its limit.
    HeaderLimit,
    /// Bytes skipped in the search for the next message after a gap.
    Resync,
    /// Bytes of a connection that no output wants ([`Unwanted`](crate::Unwanted)).
    Unwanted,
}

impl SkipReason {
    /// Returns the reason's name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BodyLimit => "body_limit",
            Self::HeaderLimit => "header_limit",
            Self::Resync => "resync",
            Self::Unwanted => "filtered",
        }
    }
}

impl Output {
    /// Empties it, keeping the allocations.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.notices.clear();
        self.skipped.clear();
        self.other_views.iter_mut().for_each(Vec::clear);
    }
}

/// How a decoder is set up. One value serves all decoders of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Bounds.
    pub limits: crate::Limits,
    /// The view that the output format needs.
    pub view: View,
    /// Messages may be emitted in parts as they arrive ([`StreamDecoder::emit_parts`]).
    pub parts: bool,
    /// Values of HTTP/2 header fields that are no metadata are replaced as soon as they are decoded, so that no table
    /// of HPACK keeps one ([`crate::privacy::Level::Metadata`]).
    pub conceals: bool,
    /// Content is not inspected: it may be zeros, as a kernel that leaves it out delivers it, and what is emitted is the
    /// same whether it is. Bodies are counted and not kept, without undoing their codings. gRPC messages, server-sent
    /// events and WebSockets in HTTP/2 are bodies; of the payloads of WebSocket frames only close codes are kept.
    pub without_content: bool,
}

/// The unit an output format shows where a protocol has more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum View {
    /// HTTP/2 as frames, partial messages at idle, as the text format prints them.
    #[default]
    Text,
    /// Like [`Self::Text`], with HTTP/2 as whole messages.
    TextMessages,
    /// Whole messages per stream, one per JSON line; nothing partial before the stream ends.
    Structured {
        /// Also emit connection-level HTTP/2 frames.
        frames: bool,
    },
    /// As [`Self::Structured`], and responses bring their whole requests along
    /// ([`Asked::message`]). Nothing is emitted in parts.
    Joined,
    /// As [`Self::Joined`], with the content of gRPC calls as bodies instead of as messages.
    Bodies,
}

impl View {
    /// Returns true if messages are assigned to exchanges ([`Message::exchange`]).
    pub const fn pairs(self) -> bool {
        matches!(self, Self::Structured { .. } | Self::Joined | Self::Bodies)
    }

    /// Returns true if responses bring their whole requests along.
    pub const fn joins(self) -> bool {
        matches!(self, Self::Joined | Self::Bodies)
    }

    /// Returns true for the views of the text format.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::TextMessages)
    }
}

/// The verdict on whether the first bytes of a stream are those of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detection {
    /// It is this protocol.
    Yes,
    /// It is not.
    No,
    /// These bytes are a prefix of what could be either.
    NeedMore,
}

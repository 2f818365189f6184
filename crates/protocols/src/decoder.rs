//! The contract between whoever has bytes and whoever decodes them.

use bytes::Bytes;

use crate::message::{Gap, Message};

/// Decodes one direction of one connection.
///
/// A decoder is fed the bytes in order and appends to [`Output`] whatever became complete.
/// It never fails as a whole: what it cannot decode it emits raw or counts as skipped, so
/// that every byte fed is in a message or in [`Output::skipped`]. It never blocks, never
/// panics on any bytes, and holds no more than its [`Limits`](crate::Limits) allow.
pub trait StreamDecoder: Send {
    /// Takes the next bytes; `timestamp_ns` is the kernel time of the event that brought them.
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output);

    /// Bytes were lost before the next `feed`.
    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output);

    /// The other direction of the connection learned something.
    fn notice(&mut self, notice: &PeerNotice, output: &mut Output);

    /// True while the decoder holds input back because only a [`PeerNotice`] can tell how to go
    /// on (a response that may answer a HEAD request).
    fn awaits_notice(&self) -> bool {
        false
    }

    /// No notice will come in time: decide by what the bytes alone allow.
    fn notice_overdue(&mut self, _output: &mut Output) {}

    /// True while the decoder holds input that it need not wait with any more: it decodes a bounded part of it
    /// in each call, and the caller is to [`go_on`](Self::go_on) before it feeds more.
    fn has_more(&self) -> bool {
        false
    }

    /// Decodes the next part of what is held.
    fn go_on(&mut self, _output: &mut Output) {}

    /// True while there is something of a message that goes on that [`emit_parts`](Self::emit_parts)
    /// would emit.
    fn has_parts(&self) -> bool {
        false
    }

    /// Emits what has come of the messages that go on, the head with the first part. Asked for one run
    /// interval after [`has_parts`](Self::has_parts) became true.
    fn emit_parts(&mut self, _output: &mut Output) {}

    /// The stream has been quiet for the idle time. Emits what is held and incomplete, marked
    /// as such, and stays usable.
    fn idle(&mut self, output: &mut Output);

    /// The stream has been silent for so long that the decoder is set aside: gives back room that holds
    /// nothing. It may be fed again.
    fn sleep(&mut self) {}

    /// Whether `payload`, which comes after a silence in a stream whose end nobody tells, certainly begins
    /// another connection. Then this decoder is closed, and a new one goes on.
    fn is_begun_anew(&self, _payload: &[u8]) -> bool {
        false
    }

    /// The stream has ended: emits everything held. The decoder is not fed again.
    fn close(&mut self, output: &mut Output);

    /// Bytes held back, for memory accounting.
    fn buffered_bytes(&self) -> usize;
}

/// What one half of a connection tells the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerNotice {
    /// An HTTP/1 request head was seen. Requests are told in wire order, one notice each.
    RequestHead {
        /// What the response's framing depends on (RFC 9112 §6.3).
        method: MethodClass,
        /// Kernel time of the head's first byte: a response older than this answers an earlier,
        /// unseen request.
        timestamp_ns: u64,
    },
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

/// Where decoders put what they produce. Reused between calls so that the hot path does not allocate.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages in wire order of completion.
    pub messages: Vec<Message>,
    /// For the decoder of the other direction.
    pub notices: Vec<PeerNotice>,
    /// Bytes that are in no message, each with its reason.
    pub skipped: Vec<Skipped>,
    /// The same bytes as messages of further views, a list for each, where a decoder decodes for several.
    pub other_views: Vec<Vec<Message>>,
}

/// Bytes that a decoder took and did not emit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// Why.
    pub reason: SkipReason,
    /// How many bytes as captured.
    pub bytes: u64,
}

/// Why a decoder did not emit bytes it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipReason {
    /// Part of a message body beyond [`Limits::body_bytes`](crate::Limits::body_bytes).
    BodyLimit,
    /// A header block beyond its limit.
    HeaderLimit,
    /// Bytes passed over while looking for the next message after a gap.
    Resync,
}

impl SkipReason {
    /// The reason's name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BodyLimit => "body_limit",
            Self::HeaderLimit => "header_limit",
            Self::Resync => "resync",
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
    /// What the output format wants to see.
    pub view: View,
    /// Messages may be emitted in parts as they come ([`StreamDecoder::emit_parts`]).
    pub parts: bool,
}

/// The unit an output format shows where a protocol has more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum View {
    /// HTTP/2 as frames, partial messages at idle, as the text format prints them.
    #[default]
    Text,
    /// As [`Self::Text`], with HTTP/2 as whole messages.
    TextMessages,
    /// Whole messages per stream, one per JSON line; nothing partial before the stream ends.
    Structured {
        /// Also emit connection-level HTTP/2 frames.
        frames: bool,
    },
}

impl View {
    /// True for the views of the text format.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::TextMessages)
    }
}

/// Whether the first bytes of a stream are those of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detection {
    /// It is this protocol.
    Yes,
    /// It is not.
    No,
    /// These bytes are a prefix of what could be either.
    NeedMore,
}

//! Messages of another protocol that a stream's DATA carries instead of a body.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::decoder::{Options, Output, PeerNotice, StreamDecoder, View};
use crate::detect::ProtocolDecoder;
use crate::grpc::{self, Deframer};
use crate::http2::section::Section;
use crate::http2::splitter::DataPiece;
use crate::message::{Content, Gap, GrpcMessage, Http2Kind, Message};
use crate::raw;
use crate::websocket::WebSocketDecoder;

/// Kernel times of the first and the last byte of the item being emitted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
}

impl Span {
    pub(super) fn emit(self, output: &mut Output, content: Content) {
        output.messages.push(Message {
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            exchange: None,
            content,
        });
    }
}

/// The streams of this direction that are WebSockets, determined from the requests of the other
/// direction and the responses of this one, in whichever order they become known.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    requested: VecDeque<u32>,
    answered: VecDeque<u32>,
    /// Answered streams whose first DATA was shown as content.
    passed: VecDeque<u32>,
}

impl Tunnels {
    /// Maximum number of streams remembered for which only one direction is known so far.
    const REMEMBERED: usize = 64;

    pub(super) fn request(&mut self, stream: u32) {
        remember(&mut self.requested, stream, Self::REMEMBERED);
    }

    /// Takes a response that may open a tunnel. Returns true if one was requested.
    fn accept(&mut self, section: &Section) -> bool {
        let stream = section.head.stream;
        let succeeds = section
            .value(b":status")
            .is_some_and(|status| status.starts_with(b"2"));
        let is_content =
            section.value(b"content-type").is_some() || section.value(b"content-length").is_some();
        if !succeeds || section.head.ends_stream() || is_content {
            self.requested.retain(|&requested| requested != stream);
            return false;
        }
        let requested = self.requested.contains(&stream);
        if requested {
            self.requested.retain(|&requested| requested != stream);
        } else {
            remember(&mut self.answered, stream, Self::REMEMBERED);
        }
        requested
    }

    /// Returns true if the response on `stream` may open a tunnel and it is unknown whether one was
    /// requested.
    pub(super) fn is_undecided(&self, stream: u32) -> bool {
        self.answered.contains(&stream)
    }

    /// Checks a stream that was not known to be a tunnel when DATA arrives. Returns `None` if it
    /// still is not, otherwise whether earlier DATA of it was shown as content.
    pub(super) fn is_late(&mut self, stream: u32) -> Option<bool> {
        if !self.answered.contains(&stream) {
            return None;
        }
        let passed = self.passed.contains(&stream);
        if !self.requested.contains(&stream) {
            if !passed {
                remember(&mut self.passed, stream, Self::REMEMBERED);
            }
            return None;
        }
        for streams in [&mut self.requested, &mut self.answered, &mut self.passed] {
            streams.retain(|&known| known != stream);
        }
        Some(passed)
    }
}

fn remember(streams: &mut VecDeque<u32>, stream: u32, limit: usize) {
    if streams.len() == limit {
        streams.pop_front();
    }
    streams.push_back(stream);
}

/// A protocol on top of one stream's DATA.
pub(super) enum Carried {
    Grpc(Box<Deframer>),
    WebSocket(Box<WebSocketDecoder>),
}

impl Carried {
    /// Returns what the field section that opens a stream says about its content. Only the request
    /// of a WebSocket says so (RFC 8441 §5), so a notice is sent to the other direction. Without content
    /// every stream has a body: what is in DATA may be zeros, frames of a WebSocket included.
    pub(super) fn announced(
        section: &Section,
        kind: Http2Kind,
        options: &Arc<Options>,
        tunnels: &mut Tunnels,
        output: &mut Output,
    ) -> Option<Self> {
        if options.without_content {
            return None;
        }
        let stream = section.head.stream;
        let protocol = section.value(b":protocol");
        let requests = protocol.is_some_and(|protocol| protocol == "websocket");
        if requests {
            output.notices.push(PeerNotice::WebSocketStream { stream });
        }
        if requests || tunnels.accept(section) {
            let decoder = WebSocketDecoder::new(Arc::clone(options))
                .with_stream(stream)
                .from_client(requests);
            return Some(Self::WebSocket(Box::new(decoder)));
        }
        let content_type = section.value(b"content-type")?;
        if options.view == View::Bodies || !grpc::is_grpc(content_type) {
            return None;
        }
        let encoding = section.value(b"grpc-encoding").cloned();
        let deframer = Deframer::new(stream, kind, encoding, &options.limits);
        Some(Self::Grpc(Box::new(deframer)))
    }

    /// Makes a server's WebSocket of a stream now known to be one. `passed` is true if some of its
    /// bytes were shown as something else.
    pub(super) fn late_websocket(stream: u32, options: &Arc<Options>, passed: bool) -> Self {
        let decoder = if passed {
            WebSocketDecoder::attached(Arc::clone(options))
        } else {
            WebSocketDecoder::new(Arc::clone(options))
        };
        Self::WebSocket(Box::new(decoder.with_stream(stream).from_client(false)))
    }

    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Grpc(deframer) => deframer.held_bytes(),
            Self::WebSocket(decoder) => decoder.buffered_bytes(),
        }
    }

    pub(super) fn push(&mut self, piece: &DataPiece, span: Span, output: &mut Output) {
        match self {
            Self::Grpc(deframer) => deframer.push(&piece.content, piece.frame, output, |output, message| {
                emit_grpc(message, span, output);
            }),
            Self::WebSocket(_) => self.feed(&piece.content, span, output),
        }
    }

    /// Feeds bytes of a WebSocket.
    pub(super) fn feed(&mut self, bytes: &Bytes, span: Span, output: &mut Output) {
        let Self::WebSocket(decoder) = self else { return };
        decoder.feed(bytes, span.last_ns, output);
        // Bytes that are not frames stay in this stream; no other protocol is detected there.
        for (bytes, timestamp_ns) in decoder.hand_over().into_iter().flat_map(|over| over.rest) {
            raw::emit(bytes, timestamp_ns, timestamp_ns, output);
        }
    }

    pub(super) fn gap(&mut self, gap: Gap, span: Span, output: &mut Output) {
        match self {
            Self::Grpc(deframer) => {
                if let Some(message) = deframer.gap() {
                    emit_grpc(message, span, output);
                }
            }
            // The connection already has a mark for this gap; the WebSocket's own would be a second
            // one.
            Self::WebSocket(decoder) => {
                let mut parts = Output::default();
                decoder.gap(gap, span.last_ns, &mut parts);
                parts
                    .messages
                    .retain(|message| !matches!(message.content, Content::Gap(_)));
                output.messages.append(&mut parts.messages);
                output.skipped.append(&mut parts.skipped);
            }
        }
    }

    pub(super) fn finish(&mut self, span: Span, output: &mut Output) {
        match self {
            Self::Grpc(deframer) => {
                if let Some(message) = deframer.finish() {
                    emit_grpc(message, span, output);
                }
            }
            Self::WebSocket(decoder) => decoder.close(output),
        }
    }
}

fn emit_grpc(message: GrpcMessage, span: Span, output: &mut Output) {
    span.emit(output, Content::Grpc(Box::new(message)));
}

/// Returns all values of a field, joined as one list (RFC 9110 §5.3).
pub(super) fn joined(section: &Section, name: &[u8]) -> Option<Bytes> {
    let mut values = section
        .fields
        .iter()
        .filter(|field| field.name.as_deref() == Some(name))
        .filter_map(|field| field.value.as_ref());
    let first = values.next()?.clone();
    let Some(second) = values.next() else {
        return Some(first);
    };
    let mut list = Vec::from(first);
    for value in std::iter::once(second).chain(values) {
        list.extend_from_slice(b", ");
        list.extend_from_slice(value);
    }
    Some(Bytes::from(list))
}

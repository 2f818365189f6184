//! What a stream's DATA carries besides a body: messages of another protocol.

use bytes::Bytes;

use crate::decoder::{Options, Output, StreamDecoder};
use crate::grpc::{self, Deframer};
use crate::http2::section::Section;
use crate::http2::splitter::DataPiece;
use crate::message::{Content, Gap, GrpcMessage, Http2Kind, Message};
use crate::websocket::WebSocketDecoder;

/// Kernel times of the first and the last byte of what is being emitted.
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
            content,
        });
    }
}

/// A protocol on top of one stream's DATA.
pub(super) enum Carried {
    Grpc(Box<Deframer>),
    WebSocket(Box<WebSocketDecoder>),
}

impl Carried {
    /// What the field section that opens a stream says about its content.
    pub(super) fn announced(section: &Section, kind: Http2Kind, options: Options) -> Option<Self> {
        let stream = section.head.stream;
        // RFC 8441 §5. Only the request says so; the response has nothing but its status.
        if section
            .value(b":protocol")
            .is_some_and(|protocol| protocol == "websocket")
        {
            let decoder = WebSocketDecoder::new(options).with_stream(stream);
            return Some(Self::WebSocket(Box::new(decoder)));
        }
        let content_type = section.value(b"content-type")?;
        if !grpc::is_grpc(content_type) {
            return None;
        }
        let encoding = section.value(b"grpc-encoding").cloned();
        let deframer = Deframer::new(stream, kind, encoding, &options.limits);
        Some(Self::Grpc(Box::new(deframer)))
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
            Self::WebSocket(decoder) => decoder.feed(&piece.content, span.last_ns, output),
        }
    }

    pub(super) fn gap(&mut self, gap: Gap, span: Span, output: &mut Output) {
        match self {
            Self::Grpc(deframer) => {
                if let Some(message) = deframer.gap() {
                    emit_grpc(message, span, output);
                }
            }
            // Its own mark of the gap would be one too many: the connection's stands already.
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

/// All values of a field, joined as one list (RFC 9110 §5.3).
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

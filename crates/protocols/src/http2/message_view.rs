//! The structured formats' view: one message per stream, with its whole content.

use bytes::Bytes;

use crate::body::BodyBuilder;
use crate::decoder::{Options, Output};
use crate::expansion::Expansion;
use crate::http2::carried::{Carried, Span, Tunnels, joined};
use crate::http2::events::Events;
use crate::http2::frame::{FrameHead, kind};
use crate::http2::frame_view::{count_skipped, emit};
use crate::http2::hpack::BlockError;
use crate::http2::presenter::{Presenter, kind_of};
use crate::http2::section::Section;
use crate::http2::splitter::DataPiece;
use crate::http2::streams::{Held, Streams};
use crate::message::{Body, Content, Field, Gap, Http2Detail, Http2Kind, Http2Message};

/// Emits a message when its stream ends in this direction, is reset, is evicted, or with the
/// connection. A gap marks the streams that are open and keeps them: stream ids are never used
/// twice, so what follows still belongs to them.
///
/// The content of a gRPC stream or a tunnel is in the messages it carries; the stream's own message
/// then has only the length.
pub(super) struct MessageView {
    options: Options,
    /// Also emit frames that belong to no message.
    frames: bool,
    streams: Streams<Exchange>,
    /// Which side this direction is, once a pseudo-header field has told.
    side: Option<Http2Kind>,
    tunnels: Tunnels,
    expansion: Expansion,
}

/// One stream's half of an exchange.
struct Exchange {
    kind: Http2Kind,
    pushed: bool,
    /// The field section that opens the message was seen.
    headed: bool,
    fields: Vec<Field>,
    trailers: Vec<Field>,
    /// What both sections take in memory, and as SETTINGS_MAX_HEADER_LIST_SIZE counts the trailers.
    fields_bytes: usize,
    trailers_listed: usize,
    content: ExchangeContent,
    /// The content is an event stream, whose events are emitted as they come.
    events: Option<Box<Events>>,
    error: Option<&'static str>,
    first_ns: u64,
}

enum ExchangeContent {
    Body(BodyBuilder),
    Carried {
        carried: Carried,
        content_type: Option<Bytes>,
        wire_len: u64,
    },
}

impl Held for Exchange {
    fn held_bytes(&self) -> usize {
        let content = match &self.content {
            ExchangeContent::Body(body) => body.held_bytes(),
            ExchangeContent::Carried { carried, .. } => carried.held_bytes(),
        };
        let events = self.events.as_ref().map_or(0, |events| events.held_bytes());
        content + events + self.fields_bytes
    }
}

impl MessageView {
    pub(super) fn new(options: Options, frames: bool) -> Self {
        Self {
            options,
            frames,
            streams: Streams::new(&options.limits),
            side: None,
            tunnels: Tunnels::default(),
            expansion: Expansion::default(),
        }
    }

    /// A message that is its field section and nothing else: a pushed request or a 1xx response.
    fn emit_bodiless(&self, section: Section, stream: u32, pushed: bool, span: Span, output: &mut Output) {
        let message = Http2Message {
            kind: self.side_of(&section.fields),
            stream,
            pushed,
            fields: section.fields,
            trailers: Vec::new(),
            body: Body {
                complete: true,
                ..Body::default()
            },
            reset: None,
            error: section.error,
        };
        span.emit(output, Content::Http2(Box::new(message)));
    }

    fn side_of(&self, fields: &[Field]) -> Http2Kind {
        kind_of(fields).or(self.side).unwrap_or(Http2Kind::Response)
    }

    fn headers(&mut self, section: Section, span: Span, output: &mut Output) {
        let id = section.head.stream;
        if is_informational(&section) {
            self.emit_bodiless(section, id, false, span, output);
            return;
        }
        let headed = self.streams.with(id, |exchange| exchange.headed);
        let opens = kind_of(&section.fields).is_some() || headed.is_none() && !reads_as_trailers(&section);
        if headed.is_none() || opens && headed == Some(true) {
            // Trailers alone: the rest of the message was lost.
            let exchange = if opens {
                self.open(&section, span, output)
            } else {
                self.open_headless(id, span)
            };
            // A second opening section without an end in between: the end was lost.
            if let Some(earlier) = self.streams.insert(id, exchange) {
                finish(id, earlier, End::Lost, span, output);
            }
        }
        let limit = self.options.limits.hpack_list_bytes;
        self.streams
            .with(id, |exchange| exchange.add(section, opens, limit));
        self.evict(span, output);
    }

    fn open(&mut self, section: &Section, span: Span, output: &mut Output) -> Exchange {
        let kind = self.side_of(&section.fields);
        let limits = &self.options.limits;
        let content = if let Some(carried) =
            Carried::announced(section, kind, self.options, &mut self.tunnels, output)
        {
            ExchangeContent::Carried {
                carried,
                content_type: section.value(b"content-type").cloned(),
                wire_len: 0,
            }
        } else {
            let encoding = joined(section, b"content-encoding");
            let content_type = section.value(b"content-type").cloned();
            let expected = content_length(section).filter(|_| !section.head.ends_stream());
            let mut body = BodyBuilder::new(encoding.as_deref(), content_type, expected, limits);
            body.share_expansion(&mut self.expansion, limits);
            ExchangeContent::Body(body)
        };
        Exchange {
            kind,
            // Only pushed responses are on streams that the server opened (RFC 9113 §8.4).
            pushed: section.head.stream.is_multiple_of(2),
            headed: false,
            fields: Vec::new(),
            trailers: Vec::new(),
            fields_bytes: 0,
            trailers_listed: 0,
            content,
            events: Events::announced(section, &self.options.limits).map(Box::new),
            error: None,
            first_ns: span.first_ns,
        }
    }

    /// A stream of which only content is seen: its field section was lost.
    fn open_headless(&self, id: u32, span: Span) -> Exchange {
        let mut body = BodyBuilder::new(None, None, None, &self.options.limits);
        body.gap(None);
        Exchange {
            kind: self.side.unwrap_or(Http2Kind::Response),
            pushed: id.is_multiple_of(2),
            headed: false,
            fields: Vec::new(),
            trailers: Vec::new(),
            fields_bytes: 0,
            trailers_listed: 0,
            content: ExchangeContent::Body(body),
            events: None,
            error: None,
            first_ns: span.first_ns,
        }
    }

    fn end(&mut self, id: u32, end: End, span: Span, output: &mut Output) -> bool {
        let exchange = self.streams.remove(id);
        exchange
            .map(|exchange| finish(id, exchange, end, span, output))
            .is_some()
    }

    fn evict(&mut self, span: Span, output: &mut Output) {
        while let Some((id, exchange)) = self.streams.evict() {
            finish(id, exchange, End::Lost, span, output);
        }
    }
}

impl Presenter for MessageView {
    fn section(&mut self, section: Section, span: Span, output: &mut Output) {
        let head = section.head;
        if head.kind == kind::PUSH_PROMISE {
            self.side = Some(Http2Kind::Response);
            let promised = section.promised.unwrap_or(0);
            self.emit_bodiless(section, promised, true, span, output);
            return;
        }
        self.side = kind_of(&section.fields).or(self.side);
        self.headers(section, span, output);
        if head.ends_stream() {
            self.end(head.stream, End::Complete, span, output);
        }
    }

    fn data(&mut self, piece: DataPiece, span: Span, output: &mut Output) {
        let id = piece.head.stream;
        if !self.streams.contains(id) {
            let exchange = self.open_headless(id, span);
            self.streams.insert(id, exchange);
        }
        if piece.frame.is_some() && self.tunnels.is_late(id) {
            let options = self.options;
            self.streams
                .with(id, |exchange| exchange.turn_into_websocket(id, options));
        }
        self.streams
            .with(id, |exchange| exchange.push(&piece, span, output));
        if piece.last && piece.head.ends_stream() {
            self.end(id, End::Complete, span, output);
        }
        self.evict(span, output);
    }

    fn frame(&mut self, head: FrameHead, detail: Http2Detail, span: Span, output: &mut Output) {
        let code = match &detail {
            Http2Detail::Error { code, .. } => *code,
            _ => 0,
        };
        let is_reset = head.kind == kind::RST_STREAM;
        if is_reset && self.end(head.stream, End::Reset(code), span, output) {
            return;
        }
        // What went wrong is always told, even where no message is left to carry it.
        if self.frames || is_reset || code != 0 {
            emit(head, detail, span, output);
        }
    }

    fn gap(&mut self, gap: Gap, _open: Option<FrameHead>, span: Span, output: &mut Output) {
        span.emit(output, Content::Gap(gap));
        for id in self.streams.ids() {
            self.streams.with(id, |exchange| exchange.lose(gap, span, output));
        }
    }

    fn expect_websocket(&mut self, stream: u32) {
        self.tunnels.request(stream);
    }

    fn pause(&mut self, _open: Option<FrameHead>, _span: Span, _output: &mut Output) {}

    fn close(&mut self, _open: Option<FrameHead>, span: Span, output: &mut Output) {
        for id in self.streams.ids() {
            self.end(id, End::Lost, span, output);
        }
    }

    fn held_bytes(&self) -> usize {
        self.streams.held_bytes()
    }
}

impl Exchange {
    /// A message has one trailer section (RFC 9113 §8.1); a peer that sends more of them adds to it up
    /// to the limit of one.
    fn add(&mut self, section: Section, opens: bool, list_limit: usize) {
        self.error = self.error.or(section.error);
        if opens {
            self.headed = true;
            self.fields_bytes = memory_of(&section.fields);
            self.fields = section.fields;
            return;
        }
        let listed: usize = section.fields.iter().map(Field::listed_bytes).sum();
        if self.trailers_listed + listed > list_limit {
            self.error = self.error.or(Some(BlockError::ListLimit.as_str()));
            return;
        }
        self.trailers_listed += listed;
        self.fields_bytes += memory_of(&section.fields);
        self.trailers.extend(section.fields);
    }

    /// What came before stays unshown: it was not known to be anything but a body.
    fn turn_into_websocket(&mut self, id: u32, options: Options) {
        let wire_len = match &self.content {
            ExchangeContent::Body(body) => body.wire_len(),
            ExchangeContent::Carried { wire_len, .. } => *wire_len,
        };
        self.content = ExchangeContent::Carried {
            carried: Carried::late_websocket(id, options),
            content_type: None,
            wire_len,
        };
    }

    /// Some of the content may have been among the lost bytes.
    fn lose(&mut self, gap: Gap, span: Span, output: &mut Output) {
        if let Some(events) = &mut self.events {
            events.lose();
        }
        match &mut self.content {
            ExchangeContent::Body(body) => body.gap(None),
            ExchangeContent::Carried { carried, .. } => carried.gap(gap, span, output),
        }
    }

    fn push(&mut self, piece: &DataPiece, span: Span, output: &mut Output) {
        match &mut self.content {
            ExchangeContent::Body(body) => {
                body.push(&piece.content);
                if let Some(events) = &mut self.events {
                    events.emit(body, span, output);
                }
                count_skipped(body, output);
            }
            ExchangeContent::Carried {
                carried, wire_len, ..
            } => {
                *wire_len += piece.content.len() as u64;
                carried.push(piece, span, output);
            }
        }
    }
}

/// How a stream ended.
#[derive(Clone, Copy)]
enum End {
    Complete,
    Reset(u32),
    /// Not seen.
    Lost,
}

fn finish(id: u32, exchange: Exchange, end: End, span: Span, output: &mut Output) {
    let body = exchange
        .content
        .finish(matches!(end, End::Complete), span, output);
    let message = Http2Message {
        kind: exchange.kind,
        stream: id,
        pushed: exchange.pushed,
        fields: exchange.fields,
        trailers: exchange.trailers,
        body,
        reset: match end {
            End::Reset(code) => Some(code),
            End::Complete | End::Lost => None,
        },
        error: exchange.error,
    };
    let span = Span {
        first_ns: exchange.first_ns,
        ..span
    };
    span.emit(output, Content::Http2(Box::new(message)));
}

impl ExchangeContent {
    fn finish(self, complete: bool, span: Span, output: &mut Output) -> Body {
        match self {
            Self::Body(mut body) => {
                let whole = body.finish(complete);
                count_skipped(&mut body, output);
                whole
            }
            Self::Carried {
                mut carried,
                content_type,
                wire_len,
            } => {
                carried.finish(span, output);
                Body {
                    wire_len,
                    len: wire_len,
                    content_type,
                    complete,
                    ..Body::default()
                }
            }
        }
    }
}

/// Memory of a field section: its text, at most, and a struct for each field.
fn memory_of(fields: &[Field]) -> usize {
    fields
        .iter()
        .map(|field| field.listed_bytes() + size_of::<Field>())
        .sum()
}

fn is_informational(section: &Section) -> bool {
    let status = section.value(b":status");
    status.is_some_and(|status| status.len() == 3 && status.starts_with(b"1")) && !section.head.ends_stream()
}

/// Pseudo-header fields come first (RFC 9113 §8.3), so a section that begins with a known other
/// field is a trailer section.
fn reads_as_trailers(section: &Section) -> bool {
    let first = section.fields.first().and_then(|field| field.name.as_deref());
    first.is_some_and(|name| !name.starts_with(b":"))
}

fn content_length(section: &Section) -> Option<u64> {
    str::from_utf8(section.value(b"content-length")?)
        .ok()?
        .parse()
        .ok()
}

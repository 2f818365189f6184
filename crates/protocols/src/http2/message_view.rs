//! The structured formats' view: one message per stream, with its whole content.

use std::sync::Arc;

use bytes::Bytes;

use crate::body::BodyBuilder;
use crate::decoder::{Options, Output};
use crate::expansion::Expansion;
use crate::http2::carried::{Carried, Span, Tunnels, joined};
use crate::http2::events::Events;
use crate::http2::frame::{FrameHead, kind};
use crate::http2::frame_view::{BAD_PADDING, count_skipped, emit, emit_damaged};
use crate::http2::hpack::BlockError;
use crate::http2::presenter::{Presenter, kind_of};
use crate::http2::section::Section;
use crate::http2::splitter::DataPiece;
use crate::http2::streams::{Held, Streams};
use crate::message::{Body, Content, Field, Gap, Http2Detail, Http2Kind, Http2Message, Part};

/// Emits a message when its stream ends in this direction, is reset, is evicted, or with the
/// connection. A gap marks the streams that are open and keeps them: stream ids are never used
/// twice, so what follows still belongs to them.
///
/// The content of a gRPC stream or a tunnel is in the messages it carries; the stream's own message
/// then has only the length.
pub(super) struct MessageView {
    options: Arc<Options>,
    /// Also emit frames that belong to no message.
    frames: bool,
    streams: Streams<Exchange>,
    /// Which side this direction is, once a pseudo-header field or the preface has told.
    side: Option<Http2Kind>,
    /// The preface was seen.
    client: bool,
    /// Nothing is missing, and every stream is followed from its beginning.
    complete: bool,
    /// Streams with something to emit.
    coming: Vec<u32>,
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
    /// A part has been emitted.
    begun: bool,
    /// It is among those that have something to emit.
    is_listed: bool,
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
    pub(super) fn new(options: Arc<Options>, frames: bool) -> Self {
        Self {
            streams: Streams::new(&options.limits),
            options,
            frames,
            side: None,
            client: false,
            complete: false,
            coming: Vec::new(),
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
            part: Part::Whole,
            reset: None,
            error: section.error,
        };
        span.emit(output, Content::Http2(Box::new(message)));
    }

    fn side_of(&self, fields: &[Field]) -> Http2Kind {
        if self.client {
            return Http2Kind::Request;
        }
        kind_of(fields).or(self.side).unwrap_or(Http2Kind::Response)
    }

    /// Only responses to pushed requests are on streams that the server opened (RFC 9113 §8.4).
    fn is_pushed(&self, stream: u32) -> bool {
        stream.is_multiple_of(2) && !self.client
    }

    fn headers(&mut self, section: Section, span: Span, output: &mut Output) {
        let id = section.head.stream;
        if is_informational(&section) {
            self.emit_bodiless(section, id, false, span, output);
            return;
        }
        let headed = self.streams.with(id, |exchange| exchange.headed);
        let may_open = self.complete || !reads_as_trailers(&section);
        let opens = kind_of(&section.fields).is_some() || headed.is_none() && may_open;
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
        self.list(id);
        self.evict(span, output);
    }

    fn open(&mut self, section: &Section, span: Span, output: &mut Output) -> Exchange {
        let kind = self.side_of(&section.fields);
        let limits = &self.options.limits;
        let content = if let Some(carried) =
            Carried::announced(section, kind, &self.options, &mut self.tunnels, output)
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
            pushed: self.is_pushed(section.head.stream),
            headed: false,
            fields: Vec::new(),
            trailers: Vec::new(),
            fields_bytes: 0,
            trailers_listed: 0,
            content,
            // As text the body says it all, and comes as it comes.
            events: Events::announced(section, &self.options.limits)
                .filter(|_| !self.options.view.is_text())
                .map(Box::new),
            error: None,
            begun: false,
            is_listed: false,
            first_ns: span.first_ns,
        }
    }

    /// A stream of which only content is seen: its field section was lost.
    fn open_headless(&self, id: u32, span: Span) -> Exchange {
        let mut body = BodyBuilder::new(None, None, None, &self.options.limits);
        if !self.complete {
            body.gap(None);
        }
        Exchange {
            kind: self.side.unwrap_or(Http2Kind::Response),
            pushed: self.is_pushed(id),
            headed: false,
            fields: Vec::new(),
            trailers: Vec::new(),
            fields_bytes: 0,
            trailers_listed: 0,
            content: ExchangeContent::Body(body),
            events: None,
            error: self.complete.then_some("content without a header section"),
            begun: false,
            is_listed: false,
            first_ns: span.first_ns,
        }
    }

    /// Notes that a stream has something to emit.
    fn list(&mut self, id: u32) {
        let is_new = |exchange: &mut Exchange| {
            let is_new = !exchange.is_listed && exchange.has_part();
            exchange.is_listed |= is_new;
            is_new
        };
        let shows_parts = self.options.parts || self.options.view.is_text();
        if shows_parts && self.streams.with(id, is_new) == Some(true) {
            self.coming.push(id);
        }
    }

    fn end(&mut self, id: u32, end: End, span: Span, output: &mut Output) -> bool {
        let exchange = self.streams.remove(id);
        if exchange.as_ref().is_some_and(|exchange| exchange.is_listed) {
            self.coming.retain(|&coming| coming != id);
        }
        exchange
            .map(|exchange| finish(id, exchange, end, span, output))
            .is_some()
    }

    fn evict(&mut self, span: Span, output: &mut Output) {
        while let Some((id, exchange)) = self.streams.evict() {
            finish(id, exchange, End::Lost, span, output);
            self.complete = false;
        }
    }
}

impl Presenter for MessageView {
    fn section(&mut self, mut section: Section, span: Span, output: &mut Output) {
        let head = section.head;
        let (damaged, error) = (section.damaged.take(), section.error);
        emit_damaged(head, damaged, error, span, output);
        if head.kind == kind::PUSH_PROMISE {
            self.side = Some(Http2Kind::Response);
            let promised = section.promised.unwrap_or(0);
            self.emit_bodiless(section, promised, true, span, output);
            return;
        }
        if !self.client {
            self.side = kind_of(&section.fields).or(self.side);
        }
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
        if piece.frame.is_some() && self.tunnels.is_late(id).is_some() {
            let options = &self.options;
            self.streams.with(id, |exchange| {
                exchange.turn_into_websocket(id, options, span, output);
            });
        }
        self.streams.with(id, |exchange| {
            if piece.bad_padding {
                exchange.error = exchange.error.or(Some(BAD_PADDING));
            }
            exchange.push(&piece, span, output);
        });
        self.list(id);
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
        let is_malformed = matches!(detail, Http2Detail::Malformed { .. });
        if self.frames || is_reset || is_malformed || code != 0 {
            emit(head, detail, span, output);
        }
    }

    fn gap(&mut self, gap: Gap, _open: Option<FrameHead>, span: Span, output: &mut Output) {
        self.complete = false;
        span.emit(output, Content::Gap(gap));
        for id in self.streams.ids() {
            self.streams.with(id, |exchange| exchange.lose(gap, span, output));
        }
    }

    fn begin(&mut self, client: bool) {
        self.complete = true;
        self.client = client;
        if client {
            self.side = Some(Http2Kind::Request);
        }
    }

    fn expect_websocket(&mut self, stream: u32) {
        self.tunnels.request(stream);
    }

    fn is_undecided(&self, stream: u32) -> bool {
        self.tunnels.is_undecided(stream)
    }

    fn has_parts(&self) -> bool {
        !self.coming.is_empty()
    }

    fn emit_parts(&mut self, _open: Option<FrameHead>, span: Span, output: &mut Output) {
        for id in std::mem::take(&mut self.coming) {
            self.streams
                .with(id, |exchange| exchange.emit_part(id, span, output));
        }
    }

    fn pause(&mut self, open: Option<FrameHead>, span: Span, output: &mut Output) {
        if self.options.view.is_text() {
            self.emit_parts(open, span, output);
        }
    }

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
    fn has_part(&self) -> bool {
        let has_body = match &self.content {
            ExchangeContent::Body(body) => self.events.is_none() && !body.is_empty(),
            ExchangeContent::Carried { .. } => false,
        };
        self.headed && !self.begun || has_body
    }

    /// Emits what has come. The events of an event stream and the messages that a stream carries are
    /// emitted anyway, so of those only the head is.
    fn emit_part(&mut self, id: u32, span: Span, output: &mut Output) {
        self.is_listed = false;
        if !self.has_part() {
            return;
        }
        let body = match &mut self.content {
            ExchangeContent::Body(body) if self.events.is_none() => body.take_so_far(),
            ExchangeContent::Body(body) => Body {
                wire_len: body.wire_len(),
                ..Body::default()
            },
            ExchangeContent::Carried { wire_len, .. } => Body {
                wire_len: *wire_len,
                len: *wire_len,
                ..Body::default()
            },
        };
        let part = if self.begun {
            Part::Continued { final_part: false }
        } else {
            Part::First
        };
        self.begun = true;
        let message = Http2Message {
            part,
            kind: self.kind,
            stream: id,
            pushed: self.pushed,
            fields: std::mem::take(&mut self.fields),
            trailers: Vec::new(),
            body,
            reset: None,
            error: self.error.take(),
        };
        let span = Span {
            first_ns: self.first_ns,
            ..span
        };
        span.emit(output, Content::Http2(Box::new(message)));
    }

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

    /// What was taken for a body so far are its first frames, unless some of it is gone.
    fn turn_into_websocket(&mut self, id: u32, options: &Arc<Options>, span: Span, output: &mut Output) {
        let (wire_len, held) = match &mut self.content {
            ExchangeContent::Body(body) => (body.wire_len(), body.take_so_far().data),
            ExchangeContent::Carried { .. } => return,
        };
        let mut carried = Carried::late_websocket(id, options, held.len() as u64 != wire_len);
        carried.feed(&held, span, output);
        self.content = ExchangeContent::Carried {
            carried,
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
    let part = if exchange.begun {
        Part::Continued { final_part: true }
    } else {
        Part::Whole
    };
    let message = Http2Message {
        part,
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

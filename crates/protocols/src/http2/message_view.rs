//! The structured formats' view: one message per stream, with its whole content.

mod exchange;

use std::sync::Arc;

use crate::body::BodyBuilder;
use crate::decoder::{Options, Output};
use crate::expansion::Expansion;
use crate::http2::carried::{Carried, Span, Tunnels, joined};
use crate::http2::events::Events;
use crate::http2::frame::{FrameHead, kind};
use crate::http2::frame_view::{emit, emit_damaged};
use crate::http2::pairs::Pairs;
use crate::http2::presenter::{Presenter, kind_of};
use crate::http2::section::Section;
use crate::http2::splitter::DataPiece;
use crate::http2::streams::Streams;
use crate::message::{Body, Content, Field, Gap, Http2Detail, Http2Error, Http2Kind, Http2Message, Part};
use exchange::{End, Exchange, ExchangeContent};

/// Emits a message when its stream ends in this direction, is reset or evicted, or when the
/// connection ends. A gap marks the open streams and keeps them: stream ids are never used twice,
/// so later frames still belong to them.
///
/// The content of a gRPC stream or a tunnel is in the messages that it carries; the stream's own
/// message has only the length.
pub(super) struct MessageView {
    options: Arc<Options>,
    /// Also emit frames that belong to no message.
    frames: bool,
    streams: Streams<Exchange>,
    /// The side of this direction, once a pseudo-header field or the preface has shown it.
    side: Option<Http2Kind>,
    /// The preface was seen.
    client: bool,
    /// Nothing is missing: every stream is followed from its beginning.
    complete: bool,
    /// Streams with something to emit.
    coming: Vec<u32>,
    tunnels: Tunnels,
    expansion: Expansion,
    pairs: Pairs,
}

impl MessageView {
    pub(super) fn new(options: Arc<Options>, frames: bool) -> Self {
        Self {
            streams: Streams::new(&options.limits),
            pairs: Pairs::new(options.view),
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

    /// Emits a message that consists of its field section only: a pushed request or a 1xx response.
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

    /// Returns true for a stream that the server opened: only responses to pushed requests use
    /// those (RFC 9113 §8.4).
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
            self.begin(section, opens, span, output);
        } else {
            let limit = self.options.limits.hpack_list_bytes;
            self.streams
                .with(id, |exchange| exchange.add(section, opens, limit));
        }
        self.list(id);
        self.evict(span, output);
    }

    /// Begins the message of a section, or without `opens`, one whose own section was lost.
    fn begin(&mut self, section: Section, opens: bool, span: Span, output: &mut Output) {
        let (id, ends) = (section.head.stream, section.head.ends_stream());
        let mut exchange = if opens {
            self.open(&section, span, output)
        } else {
            // Trailers alone: the rest of the message was lost.
            self.open_headless(id, span, output)
        };
        exchange.add(section, opens, self.options.limits.hpack_list_bytes);
        // If there is an earlier one, a second opening section came without an end in between: the end was lost.
        if ends {
            // The section is all of it, so it is not kept.
            self.end(id, End::Lost, span, output);
            exchange.finish(id, End::Complete, span, output);
        } else if let Some(earlier) = self.streams.insert(id, exchange) {
            earlier.finish(id, End::Lost, span, output);
        }
    }

    fn open(&mut self, section: &Section, span: Span, output: &mut Output) -> Exchange {
        let kind = self.side_of(&section.fields);
        let limits = &self.options.limits;
        if kind == Http2Kind::Request {
            let stream = section.head.stream;
            self.pairs.ask(Some(section), stream, span, limits, output);
        }
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
            let mut body =
                BodyBuilder::of_message(encoding.as_deref(), content_type, expected, &self.options);
            body.share_expansion(&mut self.expansion, limits);
            ExchangeContent::Body(body)
        };
        let pushed = self.is_pushed(section.head.stream);
        let mut exchange = Exchange::new(kind, pushed, content, span.first_ns);
        // In text, the body is shown as it arrives, which includes the events.
        exchange.events = Events::announced(section, &self.options.limits)
            .filter(|_| !self.options.view.is_text() && !self.options.without_content)
            .map(Box::new);
        exchange
    }

    /// Opens a stream whose field section was lost, so that only its content is seen.
    fn open_headless(&self, id: u32, span: Span, output: &mut Output) -> Exchange {
        let mut body = BodyBuilder::of_message(None, None, None, &self.options);
        if !self.complete {
            body.gap(None);
        }
        let kind = self.side.unwrap_or(Http2Kind::Response);
        if kind == Http2Kind::Request {
            let limits = &self.options.limits;
            self.pairs.ask(None, id, span, limits, output);
        }
        let content = ExchangeContent::Body(body);
        let mut exchange = Exchange::new(kind, self.is_pushed(id), content, span.first_ns);
        exchange.error = self.complete.then_some(Http2Error::NoHeaders);
        exchange
    }

    /// Lists a stream that has something to emit.
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
            .map(|exchange| exchange.finish(id, end, span, output))
            .is_some()
    }

    fn evict(&mut self, span: Span, output: &mut Output) {
        while let Some((id, exchange)) = self.streams.evict() {
            exchange.finish(id, End::Lost, span, output);
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
            self.pairs.promise(&section, promised, span, &self.options.limits);
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
            let exchange = self.open_headless(id, span, output);
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
                exchange.error = exchange.error.or(Some(Http2Error::Padding));
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
        // An error is always reported, even if no message is left to carry it.
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

    fn awaits_request(&self, section: &Section) -> bool {
        let stream = section.head.stream;
        self.pairs.awaits(stream)
            && !self.streams.contains(stream)
            && section.promised.is_none()
            && self.side_of(&section.fields) == Http2Kind::Response
            && !is_informational(section)
    }

    fn pairs(&mut self) -> Option<&mut Pairs> {
        Some(&mut self.pairs)
    }

    fn held_bytes(&self) -> usize {
        self.streams.held_bytes() + self.pairs.held_bytes()
    }
}

fn is_informational(section: &Section) -> bool {
    let status = section.value(b":status");
    status.is_some_and(|status| status.len() == 3 && status.starts_with(b"1")) && !section.head.ends_stream()
}

/// Returns true for a section that begins with a known field other than a pseudo-header field:
/// those come first (RFC 9113 §8.3), so it is a trailer section.
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

//! One stream's half of an exchange.

use std::sync::Arc;

use bytes::Bytes;

use crate::body::BodyBuilder;
use crate::decoder::{Options, Output};
use crate::http2::carried::{Carried, Span};
use crate::http2::events::Events;
use crate::http2::frame_view::count_skipped;
use crate::http2::section::Section;
use crate::http2::splitter::DataPiece;
use crate::http2::streams::Held;
use crate::message::{BlockError, Body, Content, Field, Gap, Http2Error, Http2Kind, Http2Message, Part};

/// One stream's half of an exchange.
pub(super) struct Exchange {
    kind: Http2Kind,
    pushed: bool,
    /// The field section that opens the message was seen.
    pub(super) headed: bool,
    fields: Vec<Field>,
    trailers: Vec<Field>,
    /// The memory that both sections take, and the size of the trailers as
    /// SETTINGS_MAX_HEADER_LIST_SIZE counts it.
    fields_bytes: usize,
    trailers_listed: usize,
    content: ExchangeContent,
    /// The content is an event stream; its events are emitted as they arrive.
    pub(super) events: Option<Box<Events>>,
    pub(super) error: Option<Http2Error>,
    /// A part has been emitted.
    begun: bool,
    /// The stream is listed in `coming`.
    pub(super) is_listed: bool,
    first_ns: u64,
}

pub(super) enum ExchangeContent {
    Body(BodyBuilder),
    Carried {
        carried: Carried,
        content_type: Option<Bytes>,
        wire_len: u64,
    },
}

/// How a stream ended.
#[derive(Clone, Copy)]
pub(super) enum End {
    Complete,
    Reset(u32),
    /// Not seen.
    Lost,
}

impl Exchange {
    /// Creates an exchange for which only the kind of content is known yet.
    pub(super) fn new(kind: Http2Kind, pushed: bool, content: ExchangeContent, first_ns: u64) -> Self {
        Self {
            kind,
            pushed,
            headed: false,
            fields: Vec::new(),
            trailers: Vec::new(),
            fields_bytes: 0,
            trailers_listed: 0,
            content,
            events: None,
            error: None,
            begun: false,
            is_listed: false,
            first_ns,
        }
    }

    pub(super) fn has_part(&self) -> bool {
        let has_body = match &self.content {
            ExchangeContent::Body(body) => self.events.is_none() && body.has_part(),
            ExchangeContent::Carried { .. } => false,
        };
        self.headed && !self.begun || has_body
    }

    /// Emits the part received so far. For an event stream, and a stream that carries messages,
    /// this is only the head, because events and messages are emitted anyway.
    pub(super) fn emit_part(&mut self, id: u32, span: Span, output: &mut Output) {
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

    /// Adds a field section. A message has one trailer section (RFC 9113 §8.1); further ones are
    /// added to it, up to the limit of one.
    pub(super) fn add(&mut self, section: Section, opens: bool, list_limit: usize) {
        self.error = self.error.or(section.error);
        if opens {
            self.headed = true;
            self.fields_bytes = memory_of(&section.fields);
            self.fields = section.fields;
            return;
        }
        let listed: usize = section.fields.iter().map(Field::listed_bytes).sum();
        if self.trailers_listed + listed > list_limit {
            self.error = self.error.or(Some(BlockError::ListLimit.into()));
            return;
        }
        self.trailers_listed += listed;
        self.fields_bytes += memory_of(&section.fields);
        self.trailers.extend(section.fields);
    }

    /// Turns the stream into a WebSocket. The bytes taken for a body so far are its first frames,
    /// unless some of them were already emitted.
    pub(super) fn turn_into_websocket(
        &mut self,
        id: u32,
        options: &Arc<Options>,
        span: Span,
        output: &mut Output,
    ) {
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

    /// Notes a gap: some of the content may have been among the lost bytes.
    pub(super) fn lose(&mut self, gap: Gap, span: Span, output: &mut Output) {
        if let Some(events) = &mut self.events {
            events.lose();
        }
        match &mut self.content {
            ExchangeContent::Body(body) => body.gap(None),
            ExchangeContent::Carried { carried, .. } => carried.gap(gap, span, output),
        }
    }

    pub(super) fn push(&mut self, piece: &DataPiece, span: Span, output: &mut Output) {
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

    /// Emits the message, or the rest of it.
    pub(super) fn finish(self, id: u32, end: End, span: Span, output: &mut Output) {
        let body = self.content.finish(matches!(end, End::Complete), span, output);
        let part = if self.begun {
            Part::Continued { final_part: true }
        } else {
            Part::Whole
        };
        let message = Http2Message {
            part,
            kind: self.kind,
            stream: id,
            pushed: self.pushed,
            fields: self.fields,
            trailers: self.trailers,
            body,
            reset: match end {
                End::Reset(code) => Some(code),
                End::Complete | End::Lost => None,
            },
            error: self.error,
        };
        let span = Span {
            first_ns: self.first_ns,
            ..span
        };
        span.emit(output, Content::Http2(Box::new(message)));
    }
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

/// Returns the memory that a field section takes: its text, at most, and a struct for each field.
fn memory_of(fields: &[Field]) -> usize {
    fields
        .iter()
        .map(|field| field.listed_bytes() + size_of::<Field>())
        .sum()
}

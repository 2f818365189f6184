//! A message whose head is complete.

use bytes::{Bytes, BytesMut};

use crate::body::BodyBuilder;
use crate::decoder::{Options, Output, SkipReason, Skipped, View};
use crate::exchange::Exchange;
use crate::expansion::Expansion;
use crate::http1::chunked::{Chunked, Progress};
use crate::http1::framing::Framing;
use crate::http1::head::{Head, Length, Transfer};
use crate::limits::Limits;
use crate::message::{Anomaly, Body, BodyError, Content, Http1Kind, Http1Message, Message, Part};
use crate::sse::SseDecoder;

/// A message that is being read.
pub(super) struct Open {
    kind: Http1Kind,
    head: Bytes,
    trailers: Bytes,
    anomalies: Vec<Anomaly>,
    /// Time of the event that brought the first byte.
    start_ns: u64,
    body: BodyBuilder,
    /// Number of bytes of the trailer section that were not kept.
    passed: u64,
    reading: Reading,
    /// A part has been emitted.
    begun: bool,
    events: Option<Box<Events>>,
    exchange: Option<Exchange>,
}

/// Where the body ends.
#[derive(Debug, Clone, Copy)]
enum Reading {
    Chunked(Chunked),
    /// There is no body.
    Nothing,
    Sized {
        left: u64,
    },
    UntilClose,
}

/// State of an event stream's body.
struct Events {
    decoder: SseDecoder,
    /// Maximum number of bytes in `tail`.
    limit: usize,
    /// Number of bytes of the held body that the decoder has seen.
    seen: usize,
    /// In text, where events are shown instead of the body: the bytes of an unfinished event.
    tail: BytesMut,
}

/// The point of a message that the input reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// Its end.
    End,
    /// Bytes that cannot be framed.
    Lost,
    /// Not its end; the rest of the input is the beginning of a line.
    More,
}

/// Emits a message that needs no state. `times` are those of the events that brought its first and
/// its last byte.
pub(super) fn emit_whole(
    head: Head,
    bytes: Bytes,
    body: Body,
    times: (u64, u64),
    exchange: Option<Exchange>,
    output: &mut Output,
) {
    let content = Content::Http1(Box::new(Http1Message {
        kind: head.kind,
        head: bytes,
        body,
        trailers: Bytes::new(),
        anomalies: head.anomalies,
        part: Part::Whole,
    }));
    let (first_ns, last_ns) = times;
    output.messages.push(Message {
        first_ns,
        last_ns,
        exchange,
        content,
    });
}

impl Events {
    /// Keeps the end of `shown` (the bytes just fed to the decoder) that belongs to no complete
    /// event yet, up to the limit of the decoder.
    fn keep_tail(&mut self, shown: &[u8]) {
        let unfinished = self.decoder.unfinished_bytes();
        if unfinished <= shown.len() {
            self.tail.clear();
        }
        let room = self.limit.saturating_sub(self.tail.len());
        let rest = &shown[shown.len() - unfinished.min(shown.len())..];
        self.tail.extend_from_slice(&rest[..rest.len().min(room)]);
    }
}

impl Open {
    /// Opens a message. `bytes` are those of the whole head; `start_ns` is the time of the first.
    pub(super) fn new(
        head: &mut Head,
        bytes: Bytes,
        start_ns: u64,
        options: &Options,
        expansion: &mut Expansion,
    ) -> Self {
        let expected = match (&head.transfer, head.length) {
            (Transfer::Absent, Length::Is(length)) => Some(length),
            _ => None,
        };
        let content_type = head.content_type.take();
        let mut body = BodyBuilder::of_message(head.codings().as_deref(), content_type, expected, options);
        body.share_expansion(expansion, &options.limits);
        Self {
            kind: head.kind,
            head: bytes,
            trailers: Bytes::new(),
            anomalies: std::mem::take(&mut head.anomalies),
            start_ns,
            body,
            passed: 0,
            reading: Reading::Nothing,
            begun: false,
            events: None,
            exchange: None,
        }
    }

    /// Decides where the body ends.
    pub(super) fn frame(&mut self, framing: Framing) {
        self.reading = match framing {
            Framing::Chunked => Reading::Chunked(Chunked::Size),
            Framing::None | Framing::Tunnel | Framing::Unframed => Reading::Nothing,
            Framing::Sized(left) => Reading::Sized { left },
            Framing::UntilClose => Reading::UntilClose,
        };
    }

    /// Emits events as they arrive, if the content is an event stream.
    pub(super) fn watch_events(&mut self, options: &Options, output: &mut Output) {
        self.events = Some(Box::new(Events {
            decoder: SseDecoder::new(&options.limits),
            limit: options.limits.sse_event_bytes,
            seen: 0,
            tail: BytesMut::new(),
        }));
        if options.view.is_text() {
            self.emit_part(self.start_ns, output);
        }
    }

    /// Takes the bytes of this message from `input`.
    pub(super) fn read(&mut self, input: &mut Bytes, limits: &Limits) -> Reached {
        match &mut self.reading {
            Reading::Nothing => Reached::End,
            Reading::Sized { left } => {
                let piece = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                self.body.push(&input.split_to(piece));
                *left -= piece as u64;
                if *left == 0 { Reached::End } else { Reached::More }
            }
            Reading::UntilClose => {
                self.body.push(&std::mem::take(input));
                Reached::More
            }
            Reading::Chunked(chunked) => {
                let mut odd = false;
                let mut progress = chunked.read(input, &mut self.body, limits, &mut odd);
                if let Progress::Cut(kept) = progress {
                    self.trailers = kept;
                    progress = chunked.read(input, &mut self.body, limits, &mut odd);
                }
                if odd || progress == Progress::Bad {
                    self.mark(Anomaly::BadChunk);
                }
                match progress {
                    Progress::CutEnd(passed) => {
                        self.passed += passed as u64;
                        self.mark(Anomaly::HeadTooLong);
                        Reached::End
                    }
                    Progress::CutMore(passed) => {
                        self.passed += passed as u64;
                        Reached::More
                    }
                    Progress::Bad => {
                        self.body.fail(BodyError::BadChunk);
                        Reached::Lost
                    }
                    Progress::End(trailers) => {
                        self.trailers = trailers;
                        Reached::End
                    }
                    Progress::Cut(_) | Progress::More => Reached::More,
                }
            }
        }
    }

    /// Notes that `bytes` were lost, if it is known how many. Returns `More` if the message
    /// continues after them.
    pub(super) fn lose(&mut self, bytes: Option<u64>) -> Reached {
        if let Some(events) = &mut self.events {
            events.decoder.lose();
        }
        let left = match &mut self.reading {
            Reading::UntilClose => {
                self.body.gap(bytes);
                return Reached::More;
            }
            Reading::Sized { left } | Reading::Chunked(Chunked::Data { left }) => Some(left),
            Reading::Chunked(_) | Reading::Nothing => None,
        };
        match (left, bytes) {
            (Some(left), Some(bytes)) if bytes <= *left => {
                *left -= bytes;
                self.body.gap(Some(bytes));
                let ends = matches!(self.reading, Reading::Sized { left: 0 });
                if ends { Reached::End } else { Reached::More }
            }
            _ => {
                self.body.gap(None);
                Reached::Lost
            }
        }
    }

    /// Emits events, and counts the bytes that exceeded limits since the last call.
    pub(super) fn settle(&mut self, view: View, last_ns: u64, output: &mut Output) {
        self.emit_events(view, last_ns, output);
        let body = (SkipReason::BodyLimit, self.body.take_skipped());
        let trailers = (SkipReason::HeaderLimit, std::mem::take(&mut self.passed));
        for (reason, bytes) in [body, trailers] {
            if bytes > 0 {
                output.skipped.push(Skipped { reason, bytes });
            }
        }
    }

    /// Emits the bytes received since the last part, and the head with the first part.
    pub(super) fn emit_part(&mut self, last_ns: u64, output: &mut Output) {
        if self.begun && !self.body.has_part() {
            return;
        }
        let part = if self.begun {
            Part::Continued { final_part: false }
        } else {
            Part::First
        };
        self.begun = true;
        let body = self.body.take_so_far();
        self.emit(part, body, last_ns, output);
    }

    /// Returns true if [`emit_received`](Self::emit_received) has something to emit. For an event
    /// stream this is only the head, because its events are emitted anyway.
    pub(super) fn has_part(&self, view: View) -> bool {
        !self.begun || self.body.has_part() && !self.keeps_body(view)
    }

    /// Emits the head, if it was not emitted yet, and the part of the body received so far.
    pub(super) fn emit_received(&mut self, view: View, last_ns: u64, output: &mut Output) {
        if !self.keeps_body(view) {
            return self.emit_part(last_ns, output);
        }
        self.begun = true;
        let body = Body {
            wire_len: self.body.wire_len(),
            ..Body::default()
        };
        self.emit(Part::First, body, last_ns, output);
    }

    /// Returns true if the body is kept for the last part: that of an event stream whose events are
    /// emitted beside it.
    fn keeps_body(&self, view: View) -> bool {
        self.events.is_some() && !view.is_text()
    }

    /// Emits the rest. `complete` is true if the framing says that this is the end.
    pub(super) fn finish(mut self, complete: bool, last_ns: u64, output: &mut Output) {
        let part = if self.begun {
            Part::Continued { final_part: true }
        } else {
            Part::Whole
        };
        let mut body = match self.reading {
            Reading::Nothing => Body {
                complete,
                ..Body::default()
            },
            Reading::Chunked(_) | Reading::Sized { .. } | Reading::UntilClose => self.body.finish(complete),
        };
        if let Some(events) = &mut self.events
            && body.data.is_empty()
        {
            body.data = events.tail.split().freeze();
        }
        self.emit(part, body, last_ns, output);
    }

    /// Returns true if the body ends only with the connection.
    pub(super) fn ends_with_connection(&self) -> bool {
        matches!(self.reading, Reading::UntilClose)
    }

    /// Assigns the message to an exchange.
    pub(super) fn assign(&mut self, exchange: Option<Exchange>) {
        self.exchange = exchange;
    }

    pub(super) fn start_ns(&self) -> u64 {
        self.start_ns
    }

    pub(super) fn held_bytes(&self) -> usize {
        let tail = self.events.as_ref().map_or(0, |events| events.tail.len());
        self.head.len() + self.body.held_bytes() + tail
    }

    pub(super) fn mark(&mut self, anomaly: Anomaly) {
        if !self.anomalies.contains(&anomaly) {
            self.anomalies.push(anomaly);
        }
    }

    fn emit_events(&mut self, view: View, last_ns: u64, output: &mut Output) {
        let Some(events) = &mut self.events else { return };
        let mut complete = Vec::new();
        events
            .decoder
            .push(&self.body.held()[events.seen..], &mut complete);
        events.seen = self.body.len();
        if view.is_text() {
            // The events are shown instead of the body, so their bytes need not be held to be shown
            // again.
            let shown = self.body.take_so_far().data;
            events.seen = 0;
            events.keep_tail(&shown);
        } else {
            events.seen = self.body.make_room();
        }
        let number = self.exchange.as_ref().and_then(|exchange| exchange.number);
        let exchange = Exchange::numbered(number);
        output.messages.extend(complete.into_iter().map(|event| Message {
            first_ns: last_ns,
            last_ns,
            exchange: exchange.clone(),
            content: Content::ServerSentEvent(Box::new(event)),
        }));
    }

    fn emit(&mut self, part: Part, body: Body, last_ns: u64, output: &mut Output) {
        let content = Content::Http1(Box::new(Http1Message {
            kind: self.kind,
            head: std::mem::take(&mut self.head),
            body,
            trailers: std::mem::take(&mut self.trailers),
            anomalies: std::mem::take(&mut self.anomalies),
            part,
        }));
        output.messages.push(Message {
            first_ns: self.start_ns,
            last_ns,
            exchange: self.exchange.clone(),
            content,
        });
    }
}

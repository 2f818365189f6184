//! Drives the parts: bytes to frames, frames to messages.

mod contract;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::decoder::{Options, Output, SkipReason, Skipped, View};
use crate::http2::carried::Span;
use crate::http2::codec;
use crate::http2::frame::{FrameHead, PREFACE, kind};
use crate::http2::frame_view::FrameView;
use crate::http2::message_view::MessageView;
use crate::http2::presenter::Presenter;
use crate::http2::resync::{Resync, Synced};
use crate::http2::section::{Section, Sections, Taken};
use crate::http2::splitter::{Found, Piece, Splitter};
use crate::message::{Http2Detail, Http2Error};
use crate::raw;

/// Bytes searched for a frame start at a time, so that a stream that keeps falling out of step
/// is not copied over and over.
const SEARCHED_AT_ONCE: usize = 4096;

/// The parameter by which a server allows extended CONNECT (RFC 8441 §3).
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// Decodes one direction of one HTTP/2 connection.
///
/// Memory per direction, at most: the dynamic table ([`Limits::hpack_table_bytes`]), one frame or
/// header block ([`Limits::http2_frame_bytes`], [`Limits::http2_header_block_bytes`]), while out of
/// step [`Limits::http2_resync_bytes`] and one event, and the content of all streams
/// with the windows of their content codings ([`Limits::http2_held_bytes`] of at most
/// [`Limits::http2_streams`] streams).
///
/// [`Limits::hpack_table_bytes`]: crate::Limits::hpack_table_bytes
/// [`Limits::http2_frame_bytes`]: crate::Limits::http2_frame_bytes
/// [`Limits::http2_header_block_bytes`]: crate::Limits::http2_header_block_bytes
/// [`Limits::http2_resync_bytes`]: crate::Limits::http2_resync_bytes
/// [`Limits::http2_held_bytes`]: crate::Limits::http2_held_bytes
/// [`Limits::http2_streams`]: crate::Limits::http2_streams
pub struct Http2Decoder {
    options: Arc<Options>,
    phase: Phase,
    splitter: Splitter,
    sections: Sections,
    presenter: Box<dyn Presenter>,
    /// This side allows tunnels for other protocols (RFC 8441 §3).
    allows_tunnels: bool,
    /// The input that waits for the other direction.
    hold: Option<Box<Hold>>,
    /// This side has sent SETTINGS.
    has_settings: bool,
    /// There was a gap, so skipped bytes are counted, not shown.
    has_lost: bool,
    last_ns: u64,
}

/// Input after a response that may open a tunnel; only its request decides.
#[derive(Default)]
struct Hold {
    stream: u32,
    /// The field section of the response, if it is not presented yet.
    section: Option<(Section, Span)>,
    events: VecDeque<(Bytes, u64)>,
    bytes: usize,
}

/// Where in the connection the next byte belongs.
enum Phase {
    /// At the connection's first byte; this many bytes of the preface were matched.
    Preface(usize),
    InStep,
    Searching(Resync),
    /// No bytes are missing, yet these bytes (with their times) and all that follow are not frames.
    Over(Vec<(Bytes, u64)>),
}

impl Http2Decoder {
    /// Creates a decoder. `start_seen` is true if the first byte fed is the first of this
    /// direction: the preface or, if it was already consumed or never sent, a frame. Otherwise the
    /// decoder looks for a frame first and treats the HPACK state as unknown.
    pub fn new(options: impl Into<Arc<Options>>, start_seen: bool) -> Self {
        let options = options.into();
        let presenter: Box<dyn Presenter> = match options.view {
            View::Text => Box::new(FrameView::new(Arc::clone(&options))),
            View::TextMessages | View::Joined | View::Bodies => {
                Box::new(MessageView::new(Arc::clone(&options), false))
            }
            View::Structured { frames } => Box::new(MessageView::new(Arc::clone(&options), frames)),
        };
        let copies = options.view != View::Text;
        Self {
            phase: if start_seen {
                Phase::Preface(0)
            } else {
                Phase::Searching(Resync::new(&options.limits))
            },
            splitter: Splitter::new(&options.limits, start_seen),
            sections: Sections::new(&options, start_seen, copies),
            presenter,
            allows_tunnels: false,
            hold: None,
            has_settings: false,
            has_lost: false,
            last_ns: 0,
            options,
        }
    }

    /// Decodes `input` and the bytes that a search in it returns.
    fn run(&mut self, input: Bytes, output: &mut Output) {
        let mut work = vec![input];
        while let Some(mut input) = work.pop() {
            if let Some(hold) = &mut self.hold {
                hold.keep(input, self.last_ns);
                continue;
            }
            match &mut self.phase {
                Phase::Preface(matched) => {
                    let matched = *matched;
                    work.extend(self.without_preface(input, matched));
                }
                Phase::InStep => {
                    if let Some(bytes) = self.frames(&mut input, output) {
                        work.extend([input, bytes]);
                    }
                }
                Phase::Searching(resync) => {
                    let chunk = input.split_to(input.len().min(SEARCHED_AT_ONCE));
                    if !input.is_empty() {
                        work.push(input);
                    }
                    match resync.push(&chunk) {
                        Ok(synced) => work.push(self.synced(synced, output)),
                        Err(passed) => self.pass_over(passed, output),
                    }
                }
                Phase::Over(over) => over.push((input, self.last_ns)),
            }
        }
    }

    /// Removes the preface, if there is one. `None` if more bytes are needed to decide.
    fn without_preface(&mut self, mut input: Bytes, matched: usize) -> Option<Bytes> {
        let expected = &PREFACE[matched..];
        let compared = expected.len().min(input.len());
        if input[..compared] == expected[..compared] {
            self.phase = Phase::Preface(matched + compared);
            if matched + compared < PREFACE.len() {
                return None;
            }
            let _ = input.split_to(compared);
            self.presenter.begin(true);
        } else {
            if matched > 0 {
                input = Bytes::from([&PREFACE[..matched], &input[..]].concat());
            }
            self.presenter.begin(false);
        }
        self.phase = Phase::InStep;
        Some(input)
    }

    /// Decodes frames. Returns the bytes that should have been a frame header and are not: either
    /// bytes are missing that nobody reported, or this was never HTTP/2.
    fn frames(&mut self, input: &mut Bytes, output: &mut Output) -> Option<Bytes> {
        while let Some(Found { piece, first_ns }) = self.splitter.next(input, self.last_ns) {
            let span = Span {
                first_ns,
                last_ns: self.last_ns,
            };
            if let Piece::OutOfStep { bytes } = piece {
                self.close_section(span, output);
                self.sections.forget();
                self.phase = if self.splitter.is_in_step() {
                    self.presenter.close(None, span, output);
                    Phase::Over(Vec::new())
                } else {
                    Phase::Searching(Resync::new(&self.options.limits))
                };
                return Some(bytes);
            }
            self.piece(piece, span, output);
            if let Some(hold) = &mut self.hold {
                hold.keep(std::mem::take(input), self.last_ns);
                return None;
            }
        }
        None
    }

    fn synced(&mut self, synced: Synced, output: &mut Output) -> Bytes {
        self.pass_over(synced.skipped, output);
        self.phase = Phase::InStep;
        synced.rest
    }

    /// Emits or counts bytes that are not frames.
    fn pass_over(&self, bytes: Bytes, output: &mut Output) {
        if self.has_lost {
            skip(SkipReason::Resync, bytes.len() as u64, output);
        } else {
            raw::emit(bytes, self.last_ns, self.last_ns, output);
        }
    }

    fn piece(&mut self, piece: Piece, span: Span, output: &mut Output) {
        let head = match &piece {
            Piece::Data(piece) => piece.head,
            Piece::Frame { head, .. } | Piece::Oversized { head } => *head,
            Piece::OutOfStep { .. } => return,
        };
        if head.kind != kind::CONTINUATION && self.sections.is_open() {
            self.close_section(span, output);
        }
        match piece {
            Piece::Data(piece) => self.presenter.data(piece, span, output),
            Piece::Frame { head, payload } => self.frame(head, payload, span, output),
            Piece::Oversized { head } => self.oversized(head, span, output),
            Piece::OutOfStep { .. } => {}
        }
    }

    fn frame(&mut self, head: FrameHead, payload: Bytes, span: Span, output: &mut Output) {
        if !head.is_valid() {
            let error = Http2Error::FrameLength;
            let detail = Http2Detail::Malformed { payload, error };
            return self.presenter.frame(head, detail, span, output);
        }
        let detail = match head.kind {
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => {
                match self.sections.take(head, payload, span.first_ns) {
                    Taken::Section(section) => {
                        skip(SkipReason::HeaderLimit, section.skipped, output);
                        let span = Span {
                            first_ns: section.first_ns,
                            ..span
                        };
                        if self.presenter.awaits_request(&section) {
                            self.hold = Some(Box::new(Hold {
                                stream: section.head.stream,
                                section: Some((section, span)),
                                ..Hold::default()
                            }));
                            return;
                        }
                        return self.present(section, span, output);
                    }
                    Taken::Open => return,
                    Taken::Stray(payload) => {
                        let error = Http2Error::StrayContinuation;
                        Http2Detail::Malformed { payload, error }
                    }
                }
            }
            kind::RST_STREAM => {
                codec::reset(head.stream, &payload).map_or(Http2Detail::None, |code| Http2Detail::Error {
                    code,
                    last_stream: None,
                    debug: Bytes::new(),
                })
            }
            kind::GOAWAY => codec::go_away(&payload).unwrap_or(Http2Detail::None),
            kind::SETTINGS if !head.is_ack() => {
                let settings = codec::settings(&payload);
                self.has_settings = true;
                self.allows_tunnels |= settings.contains(&(ENABLE_CONNECT_PROTOCOL, 1));
                Http2Detail::Settings(settings)
            }
            _ => Http2Detail::None,
        };
        self.presenter.frame(head, detail, span, output);
    }

    /// Presents a field section. If only its request says what the stream carries, the rest waits.
    fn present(&mut self, section: Section, span: Span, output: &mut Output) {
        let stream = section.head.stream;
        self.presenter.section(section, span, output);
        if self.allows_tunnels && self.presenter.is_undecided(stream) {
            self.hold = Some(Box::new(Hold {
                stream,
                ..Hold::default()
            }));
        }
    }

    fn oversized(&mut self, head: FrameHead, span: Span, output: &mut Output) {
        skip(SkipReason::HeaderLimit, u64::from(head.length), output);
        if head.opens_section() || head.kind == kind::CONTINUATION {
            self.close_section(span, output);
            self.sections.forget();
        }
        if head.opens_section() {
            let section = Section::oversized(head, span.first_ns);
            return self.presenter.section(section, span, output);
        }
        let detail = Http2Detail::Malformed {
            payload: Bytes::new(),
            error: Http2Error::FrameLimit,
        };
        self.presenter.frame(head, detail, span, output);
    }

    /// Shows the part of the open section that was received.
    fn close_section(&mut self, span: Span, output: &mut Output) {
        if let Some(section) = self.sections.close() {
            skip(SkipReason::HeaderLimit, section.skipped, output);
            let span = Span {
                first_ns: section.first_ns,
                ..span
            };
            self.presenter.section(section, span, output);
        }
    }

    /// Decodes the held input, up to the next response that must wait.
    fn release(&mut self, output: &mut Output) {
        let Some(hold) = self.hold.take() else { return };
        let newest_ns = self.last_ns;
        let mut events = hold.events;
        if let Some((section, span)) = hold.section {
            self.present(section, span, output);
            self.keep_holding(&mut events);
        }
        while let Some((bytes, timestamp_ns)) = events.pop_front() {
            self.last_ns = timestamp_ns;
            self.run(bytes, output);
            self.keep_holding(&mut events);
        }
        self.last_ns = newest_ns;
    }

    /// Moves all events to the hold, if the input is held again.
    fn keep_holding(&mut self, events: &mut VecDeque<(Bytes, u64)>) {
        if let Some(hold) = &mut self.hold {
            for rest in std::mem::take(&mut hold.events).into_iter().rev() {
                events.push_front(rest);
            }
            hold.bytes = events.iter().map(|(bytes, _)| bytes.len()).sum();
            hold.events = std::mem::take(events);
        }
    }

    /// Bytes held until a notice.
    fn hold_limit(&mut self) -> usize {
        if self.options.view.pairs() {
            self.options.limits.paired_awaiting_bytes
        } else {
            self.options.limits.http2_awaiting_bytes
        }
    }

    /// Assigns the messages emitted since `from` to exchanges.
    fn assign(&mut self, from: usize, output: &mut Output) {
        if let Some(pairs) = self.presenter.pairs() {
            pairs.assign(from, &self.options.limits, output);
        }
    }

    /// Decodes all of the held input, because no notice will come.
    fn release_all(&mut self, output: &mut Output) {
        while self.hold.is_some() {
            self.release(output);
        }
    }

    /// Gives up the bytes held of a frame, of the preface or of a search. They are emitted raw,
    /// unless bytes next to them were lost.
    fn abandon(&mut self, lost: bool, output: &mut Output) {
        self.emit_over(output);
        let (held, passed) = self.splitter.abandon();
        skip(SkipReason::HeaderLimit, passed as u64, output);
        let is_counted = lost || self.has_lost && !self.splitter.is_in_step();
        let searched = match &mut self.phase {
            Phase::InStep | Phase::Over(_) => Bytes::new(),
            Phase::Preface(matched) => Bytes::from_static(&PREFACE[..std::mem::take(matched)]),
            Phase::Searching(resync) => resync.abandon(),
        };
        for bytes in [held, searched] {
            if is_counted {
                skip(SkipReason::Resync, bytes.len() as u64, output);
            } else {
                raw::emit(bytes, self.last_ns, self.last_ns, output);
            }
        }
    }

    /// Emits the bytes after the end of the protocol that no other decoder took over.
    fn emit_over(&mut self, output: &mut Output) {
        if let Phase::Over(over) = &mut self.phase {
            for (bytes, timestamp_ns) in over.drain(..) {
                raw::emit(bytes, timestamp_ns, timestamp_ns, output);
            }
        }
    }

    fn now(&self) -> Span {
        Span {
            first_ns: self.last_ns,
            last_ns: self.last_ns,
        }
    }
}

impl Hold {
    fn keep(&mut self, bytes: Bytes, timestamp_ns: u64) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.events.push_back((bytes, timestamp_ns));
        }
    }
}

fn skip(reason: SkipReason, bytes: u64, output: &mut Output) {
    if bytes > 0 {
        output.skipped.push(Skipped { reason, bytes });
    }
}

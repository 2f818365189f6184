//! Drives the parts: bytes to frames, frames to messages.

use bytes::Bytes;

use crate::decoder::{Options, Output, PeerNotice, SkipReason, Skipped, StreamDecoder, View};
use crate::http2::carried::Span;
use crate::http2::codec;
use crate::http2::frame::{FrameHead, PREFACE, kind};
use crate::http2::frame_view::FrameView;
use crate::http2::message_view::MessageView;
use crate::http2::presenter::Presenter;
use crate::http2::resync::{Resync, Synced};
use crate::http2::section::{Sections, Taken};
use crate::http2::splitter::{Found, Piece, Splitter};
use crate::message::{Gap, Http2Detail};

/// Bytes searched for a frame start at a time, so that a stream that keeps falling out of step
/// is not copied over and over.
const SEARCHED_AT_ONCE: usize = 4096;

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
    options: Options,
    phase: Phase,
    splitter: Splitter,
    sections: Sections,
    presenter: Box<dyn Presenter>,
    last_ns: u64,
}

/// Where in the connection the next byte belongs.
enum Phase {
    /// At the connection's first byte; this many bytes of the preface were matched.
    Preface(usize),
    InStep,
    Searching(Resync),
}

impl Http2Decoder {
    /// `start_seen`: the first byte fed is the first of this direction: the preface or, where it
    /// was consumed already or never sent, a frame. Otherwise the decoder looks for a frame first and
    /// takes the HPACK state as unknown.
    pub fn new(options: Options, start_seen: bool) -> Self {
        let presenter: Box<dyn Presenter> = match options.view {
            View::Text => Box::new(FrameView::new(options)),
            View::Structured { frames } => Box::new(MessageView::new(options, frames)),
        };
        let copies = options.view != View::Text;
        Self {
            options,
            phase: if start_seen {
                Phase::Preface(0)
            } else {
                Phase::Searching(Resync::new(&options.limits))
            },
            splitter: Splitter::new(&options.limits),
            sections: Sections::new(&options.limits, start_seen, copies),
            presenter,
            last_ns: 0,
        }
    }

    /// Decodes `input` and whatever a search in it gives back.
    fn run(&mut self, input: Bytes, output: &mut Output) {
        let mut work = vec![input];
        while let Some(mut input) = work.pop() {
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
                        Err(lost) => skip(SkipReason::Resync, lost, output),
                    }
                }
            }
        }
    }

    /// Takes the preface off, when it is there. `None` when more bytes must tell.
    fn without_preface(&mut self, mut input: Bytes, matched: usize) -> Option<Bytes> {
        let expected = &PREFACE[matched..];
        let compared = expected.len().min(input.len());
        if input[..compared] == expected[..compared] {
            self.phase = Phase::Preface(matched + compared);
            if matched + compared < PREFACE.len() {
                return None;
            }
            let _ = input.split_to(compared);
        } else if matched > 0 {
            input = Bytes::from([&PREFACE[..matched], &input[..]].concat());
        }
        self.phase = Phase::InStep;
        Some(input)
    }

    /// Decodes frames. Gives back the bytes that should have been a frame header and are not: others
    /// are missing that nobody told of, or this was never HTTP/2.
    fn frames(&mut self, input: &mut Bytes, output: &mut Output) -> Option<Bytes> {
        while let Some(Found { piece, first_ns }) = self.splitter.next(input, self.last_ns) {
            let span = Span {
                first_ns,
                last_ns: self.last_ns,
            };
            if let Piece::OutOfStep { bytes } = piece {
                self.close_section(span, output);
                self.sections.forget();
                self.phase = Phase::Searching(Resync::new(&self.options.limits));
                return Some(bytes);
            }
            self.piece(piece, span, output);
        }
        None
    }

    fn synced(&mut self, synced: Synced, output: &mut Output) -> Bytes {
        skip(SkipReason::Resync, synced.skipped, output);
        self.phase = Phase::InStep;
        synced.rest
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
        let detail = match head.kind {
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => {
                match self.sections.take(head, payload, span.first_ns) {
                    Taken::Section(section) => {
                        skip(SkipReason::HeaderLimit, section.skipped, output);
                        let span = Span {
                            first_ns: section.first_ns,
                            ..span
                        };
                        return self.presenter.section(section, span, output);
                    }
                    Taken::Open => return,
                    Taken::Stray => Http2Detail::None,
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
            kind::SETTINGS if !head.is_ack() => Http2Detail::Settings(codec::settings(&payload)),
            _ => Http2Detail::None,
        };
        self.presenter.frame(head, detail, span, output);
    }

    fn oversized(&mut self, head: FrameHead, span: Span, output: &mut Output) {
        if head.opens_section() || head.kind == kind::CONTINUATION {
            self.close_section(span, output);
            self.sections.forget();
        }
        skip(SkipReason::HeaderLimit, u64::from(head.length), output);
        self.presenter.frame(head, Http2Detail::None, span, output);
    }

    /// Shows the section under way as far as it came.
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

    /// Gives up what is held of a frame, of the preface or of a search.
    fn abandon(&mut self, output: &mut Output) {
        let held = self.splitter.abandon() as u64;
        let searched = match &mut self.phase {
            Phase::InStep => 0,
            Phase::Preface(matched) => std::mem::take(matched) as u64,
            Phase::Searching(resync) => resync.abandon(),
        };
        skip(SkipReason::Resync, held + searched, output);
    }

    fn now(&self) -> Span {
        Span {
            first_ns: self.last_ns,
            last_ns: self.last_ns,
        }
    }
}

impl StreamDecoder for Http2Decoder {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        self.last_ns = timestamp_ns;
        if let Phase::Searching(resync) = &mut self.phase {
            resync.event_starts();
        }
        self.run(payload.clone(), output);
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        self.last_ns = timestamp_ns;
        let span = self.now();
        self.close_section(span, output);
        self.sections.forget();
        self.presenter.gap(gap, self.splitter.open_frame(), span, output);
        self.abandon(output);
        self.phase = Phase::Searching(Resync::new(&self.options.limits));
    }

    fn notice(&mut self, notice: &PeerNotice, _output: &mut Output) {
        if let PeerNotice::WebSocketStream { stream } = *notice {
            self.presenter.expect_websocket(stream);
        }
    }

    fn idle(&mut self, output: &mut Output) {
        if let Phase::Searching(resync) = &mut self.phase
            && let Some(synced) = resync.settle()
        {
            let rest = self.synced(synced, output);
            self.run(rest, output);
        }
        self.presenter
            .pause(self.splitter.open_frame(), self.now(), output);
    }

    fn close(&mut self, output: &mut Output) {
        self.idle(output);
        let span = self.now();
        self.close_section(span, output);
        self.presenter.close(self.splitter.open_frame(), span, output);
        self.abandon(output);
    }

    fn buffered_bytes(&self) -> usize {
        let searching = match &self.phase {
            Phase::Searching(resync) => resync.held_bytes(),
            Phase::Preface(matched) => *matched,
            Phase::InStep => 0,
        };
        searching + self.splitter.held_bytes() + self.sections.held_bytes() + self.presenter.held_bytes()
    }
}

fn skip(reason: SkipReason, bytes: u64, output: &mut Output) {
    if bytes > 0 {
        output.skipped.push(Skipped { reason, bytes });
    }
}

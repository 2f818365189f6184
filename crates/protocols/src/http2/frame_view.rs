//! The text format's view: one message per frame, in wire order.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::body::BodyBuilder;
use crate::decoder::{Options, Output, SkipReason, Skipped};
use crate::expansion::Expansion;
use crate::http2::carried::{Carried, Span, Tunnels, joined};
use crate::http2::events::is_event_stream;
use crate::http2::frame::{FrameHead, kind};
use crate::http2::presenter::{Presenter, kind_of};
use crate::http2::section::Section;
use crate::http2::splitter::DataPiece;
use crate::http2::streams::{Held, Streams};
use crate::message::{Content, Gap, Http2Detail, Http2Error, Http2Frame, Http2Kind, Part};

/// Emits frames. Tracks only the streams whose DATA is not shown as received.
///
/// A DATA frame longer than [`Limits::http2_frame_bytes`](crate::Limits::http2_frame_bytes) is
/// shown in parts of that size, so that no more than that is held.
pub(super) struct FrameView {
    options: Arc<Options>,
    streams: Streams<Followed>,
    plain: PlainData,
    /// Some stream has decoded content that is not shown.
    has_decoded: bool,
    tunnels: Tunnels,
    expansion: Expansion,
}

/// A stream whose DATA is shown decoded.
enum Followed {
    Coded {
        coding: Bytes,
        body: Box<BodyBuilder>,
        /// An event stream: it may have no end, so it is shown as it arrives.
        live: bool,
    },
    Carried(Carried),
}

/// The current DATA frame, shown as received.
#[derive(Default)]
struct PlainData {
    held: Bytes,
    more: BytesMut,
    /// A part of the frame was emitted.
    started: bool,
}

impl Held for Followed {
    fn held_bytes(&self) -> usize {
        match self {
            Self::Coded { body, .. } => body.held_bytes(),
            Self::Carried(carried) => carried.held_bytes(),
        }
    }
}

impl FrameView {
    pub(super) fn new(options: Arc<Options>) -> Self {
        Self {
            streams: Streams::new(&options.limits),
            options,
            plain: PlainData::default(),
            has_decoded: false,
            tunnels: Tunnels::default(),
            expansion: Expansion::default(),
        }
    }

    fn follow(&mut self, section: &Section, span: Span, output: &mut Output) {
        let id = section.head.stream;
        let informational = section
            .value(b":status")
            .is_some_and(|status| status.starts_with(b"1"));
        if self.streams.contains(id) || section.head.ends_stream() || informational {
            return;
        }
        let kind = kind_of(&section.fields).unwrap_or(Http2Kind::Response);
        let followed = match Carried::announced(section, kind, &self.options, &mut self.tunnels, output) {
            Some(carried) => Followed::Carried(carried),
            None if self.options.without_content => return,
            None => match joined(section, b"content-encoding") {
                Some(coding) if !coding.eq_ignore_ascii_case(b"identity") => {
                    let limits = &self.options.limits;
                    let content_type = section.value(b"content-type").cloned();
                    let mut body = BodyBuilder::new(Some(&coding), content_type, None, limits);
                    body.share_expansion(&mut self.expansion, limits);
                    Followed::Coded {
                        body: Box::new(body),
                        coding: Bytes::copy_from_slice(
                            &coding[..coding.len().min(limits.shown_coding_bytes)],
                        ),
                        live: is_event_stream(section),
                    }
                }
                _ => return,
            },
        };
        self.streams.insert(id, followed);
        self.evict(span, output);
    }

    fn evict(&mut self, span: Span, output: &mut Output) {
        while let Some((id, followed)) = self.streams.evict() {
            finish(id, followed, false, span, output);
        }
    }

    fn end(&mut self, id: u32, complete: bool, span: Span, output: &mut Output) {
        if let Some(followed) = self.streams.remove(id) {
            finish(id, followed, complete, span, output);
        }
    }

    fn plain_data(&mut self, piece: DataPiece, span: Span, output: &mut Output) {
        let part_bytes = self.options.limits.http2_frame_bytes.max(1);
        let DataPiece {
            head,
            mut content,
            left,
            last,
            ..
        } = piece;
        loop {
            let taken = content.len().min(part_bytes - self.plain.len());
            self.plain.append(content.split_to(taken));
            if self.plain.len() < part_bytes || content.len() + left == 0 {
                break;
            }
            self.plain.emit_part(head, false, span, output);
        }
        if last {
            self.plain.emit_last(head, span, output);
        }
    }
}

impl Presenter for FrameView {
    fn section(&mut self, section: Section, span: Span, output: &mut Output) {
        let head = section.head;
        if head.kind == kind::HEADERS {
            self.follow(&section, span, output);
        }
        let detail = Http2Detail::Fields {
            fields: section.fields,
            promised: section.promised,
            error: section.error,
        };
        emit(head, detail, span, output);
        for continuation in section.continuations {
            emit(continuation, Http2Detail::None, span, output);
        }
        emit_damaged(head, section.damaged, section.error, span, output);
        if head.ends_stream() {
            self.end(head.stream, true, span, output);
        }
    }

    fn data(&mut self, piece: DataPiece, span: Span, output: &mut Output) {
        let head = piece.head;
        if piece.bad_padding {
            let (payload, error) = (piece.content, Http2Error::Padding);
            emit(head, Http2Detail::Malformed { payload, error }, span, output);
            if piece.last && head.ends_stream() {
                self.end(head.stream, true, span, output);
            }
            return;
        }
        if piece.frame.is_some()
            && let Some(passed) = self.tunnels.is_late(head.stream)
        {
            let carried = Carried::late_websocket(head.stream, &self.options, passed);
            self.streams.insert(head.stream, Followed::Carried(carried));
        }
        let ends = piece.last && head.ends_stream();
        let first = piece.frame.is_some();
        let mut has_decoded = false;
        let followed = self.streams.with(head.stream, |followed| match followed {
            Followed::Coded { coding, body, live } => {
                if first {
                    emit(
                        head,
                        Http2Detail::CodedData {
                            coding: coding.clone(),
                        },
                        span,
                        output,
                    );
                }
                body.push(&piece.content);
                count_skipped(body, output);
                if *live && !body.is_empty() {
                    emit_live(head.stream, body, span, output);
                }
                has_decoded = !body.is_empty();
            }
            Followed::Carried(carried) => {
                if first {
                    emit(head, Http2Detail::Carrier, span, output);
                }
                carried.push(&piece, span, output);
            }
        });
        self.has_decoded |= has_decoded;
        if followed.is_none() {
            self.plain_data(piece, span, output);
        }
        if ends {
            self.end(head.stream, true, span, output);
        }
        self.evict(span, output);
    }

    fn frame(&mut self, head: FrameHead, detail: Http2Detail, span: Span, output: &mut Output) {
        emit(head, detail, span, output);
        if head.kind == kind::RST_STREAM {
            self.end(head.stream, false, span, output);
        }
    }

    fn gap(&mut self, gap: Gap, open: Option<FrameHead>, span: Span, output: &mut Output) {
        self.pause(open, span, output);
        self.plain.started = false;
        span.emit(output, Content::Gap(gap));
        for id in self.streams.ids() {
            self.streams.with(id, |followed| match followed {
                Followed::Coded { body, .. } => body.gap(None),
                Followed::Carried(carried) => carried.gap(gap, span, output),
            });
        }
    }

    fn begin(&mut self, _client: bool) {}

    fn expect_websocket(&mut self, stream: u32) {
        self.tunnels.request(stream);
    }

    fn is_undecided(&self, stream: u32) -> bool {
        self.tunnels.is_undecided(stream)
    }

    fn has_parts(&self) -> bool {
        self.plain.len() > 0 || self.has_decoded
    }

    fn emit_parts(&mut self, open: Option<FrameHead>, span: Span, output: &mut Output) {
        self.pause(open, span, output);
    }

    fn pause(&mut self, open: Option<FrameHead>, span: Span, output: &mut Output) {
        if let Some(head) = open.filter(|_| self.plain.len() > 0) {
            self.plain.emit_part(head, false, span, output);
        }
        if !std::mem::take(&mut self.has_decoded) {
            return;
        }
        for id in self.streams.ids() {
            self.streams.with(id, |followed| {
                if let Followed::Coded { body, .. } = followed
                    && !body.is_empty()
                {
                    emit_merged(id, Http2Detail::Merged(body.take_so_far()), span, output);
                }
            });
        }
    }

    fn close(&mut self, open: Option<FrameHead>, span: Span, output: &mut Output) {
        if let Some(head) = open.filter(|_| self.plain.len() > 0) {
            self.plain.emit_part(head, false, span, output);
        }
        for id in self.streams.ids() {
            self.end(id, false, span, output);
        }
    }

    fn held_bytes(&self) -> usize {
        self.streams.held_bytes() + self.plain.len()
    }
}

impl PlainData {
    fn len(&self) -> usize {
        self.held.len() + self.more.len()
    }

    /// Shares the first piece with the captured event; copies only when there is a second.
    fn append(&mut self, content: Bytes) {
        if self.len() == 0 {
            self.held = content;
            return;
        }
        if !self.held.is_empty() {
            self.more.extend_from_slice(&std::mem::take(&mut self.held));
        }
        self.more.extend_from_slice(&content);
    }

    fn take(&mut self) -> Bytes {
        if self.more.is_empty() {
            std::mem::take(&mut self.held)
        } else {
            std::mem::take(&mut self.more).freeze()
        }
    }

    fn emit_part(&mut self, head: FrameHead, final_part: bool, span: Span, output: &mut Output) {
        let part = if self.started {
            Part::Continued { final_part }
        } else {
            Part::First
        };
        self.started = true;
        let data = self.take();
        emit(head, Http2Detail::DataPart { data, part }, span, output);
    }

    fn emit_last(&mut self, head: FrameHead, span: Span, output: &mut Output) {
        if self.started {
            self.emit_part(head, true, span, output);
            self.started = false;
        } else {
            let data = self.take();
            emit(head, Http2Detail::Data(data), span, output);
        }
    }
}

fn finish(id: u32, followed: Followed, complete: bool, span: Span, output: &mut Output) {
    match followed {
        Followed::Coded { mut body, live, .. } => {
            let merged = body.finish(complete);
            count_skipped(&mut body, output);
            if live && merged.data.is_empty() && merged.complete && merged.error.is_none() {
                return;
            }
            emit_merged(id, Http2Detail::Merged(merged), span, output);
        }
        Followed::Carried(mut carried) => carried.finish(span, output),
    }
}

pub(super) fn count_skipped(body: &mut BodyBuilder, output: &mut Output) {
    let bytes = body.take_skipped();
    if bytes > 0 {
        let reason = SkipReason::BodyLimit;
        output.skipped.push(Skipped { reason, bytes });
    }
}

/// Emits one piece of an event stream, complete in itself. Only the last one says whether the
/// stream is complete.
fn emit_live(stream: u32, body: &mut BodyBuilder, span: Span, output: &mut Output) {
    let mut piece = body.take_so_far();
    piece.complete = true;
    emit_merged(stream, Http2Detail::Merged(piece), span, output);
}

/// Emits decoded content, which belongs to no single frame.
fn emit_merged(stream: u32, detail: Http2Detail, span: Span, output: &mut Output) {
    let frame = Http2Frame {
        frame_type: kind::DATA,
        flags: 0,
        stream,
        length: 0,
        detail,
    };
    span.emit(output, Content::Http2Frame(Box::new(frame)));
}

/// Emits the part of a header block that is not in its fields.
pub(super) fn emit_damaged(
    head: FrameHead,
    damaged: Option<Box<Bytes>>,
    error: Option<Http2Error>,
    span: Span,
    output: &mut Output,
) {
    if let (Some(payload), Some(error)) = (damaged, error) {
        let payload = *payload;
        emit(head, Http2Detail::Malformed { payload, error }, span, output);
    }
}

pub(super) fn emit(head: FrameHead, detail: Http2Detail, span: Span, output: &mut Output) {
    let frame = Http2Frame {
        frame_type: head.kind,
        flags: head.flags,
        stream: head.stream,
        length: head.length,
        detail,
    };
    span.emit(output, Content::Http2Frame(Box::new(frame)));
}

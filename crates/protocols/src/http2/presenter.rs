//! What the two views of a connection have in common.

use crate::decoder::Output;
use crate::http2::carried::Span;
use crate::http2::frame::FrameHead;
use crate::http2::section::Section;
use crate::http2::splitter::DataPiece;
use crate::message::{Field, Gap, Http2Detail, Http2Kind};

/// Turns decoded frames into messages of one view.
pub(super) trait Presenter: Send {
    /// A field section of HEADERS or PUSH_PROMISE.
    fn section(&mut self, section: Section, span: Span, output: &mut Output);

    /// Some content of a DATA frame.
    fn data(&mut self, piece: DataPiece, span: Span, output: &mut Output);

    /// Any other frame.
    fn frame(&mut self, head: FrameHead, detail: Http2Detail, span: Span, output: &mut Output);

    /// Bytes were lost; `open` is the frame they were lost from.
    fn gap(&mut self, gap: Gap, open: Option<FrameHead>, span: Span, output: &mut Output);

    /// The connection begins here and nothing of it is missing. `client`: the preface was seen, so this
    /// is the client's direction (RFC 9113 §3.4).
    fn begin(&mut self, client: bool);

    /// The other direction asked for a WebSocket on `stream`.
    fn expect_websocket(&mut self, stream: u32);

    /// Whether `stream` carries a WebSocket or its own content only the other direction knows, and has
    /// not told.
    fn is_undecided(&self, stream: u32) -> bool;

    /// Something of a message that goes on has not been emitted.
    fn has_parts(&self) -> bool;

    /// Emits it.
    fn emit_parts(&mut self, open: Option<FrameHead>, span: Span, output: &mut Output);

    /// The connection is idle.
    fn pause(&mut self, open: Option<FrameHead>, span: Span, output: &mut Output);

    /// The connection has ended.
    fn close(&mut self, open: Option<FrameHead>, span: Span, output: &mut Output);

    /// Content bytes held back.
    fn held_bytes(&self) -> usize;
}

/// Request or response, by the pseudo-header fields (RFC 9113 §8.3); `None` without any.
pub(super) fn kind_of(fields: &[Field]) -> Option<Http2Kind> {
    fields.iter().find_map(|field| match field.name.as_deref()? {
        b":status" => Some(Http2Kind::Response),
        [b':', ..] => Some(Http2Kind::Request),
        _ => None,
    })
}

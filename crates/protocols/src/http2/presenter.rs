//! The interface that the two views of a connection share.

use crate::decoder::Output;
use crate::http2::carried::Span;
use crate::http2::frame::FrameHead;
use crate::http2::pairs::Pairs;
use crate::http2::section::Section;
use crate::http2::splitter::DataPiece;
use crate::message::{Field, Gap, Http2Detail, Http2Kind};

/// Turns decoded frames into messages of one view.
pub(super) trait Presenter: Send {
    /// Presents a field section of HEADERS or PUSH_PROMISE.
    fn section(&mut self, section: Section, span: Span, output: &mut Output);

    /// Presents some content of a DATA frame.
    fn data(&mut self, piece: DataPiece, span: Span, output: &mut Output);

    /// Presents any other frame.
    fn frame(&mut self, head: FrameHead, detail: Http2Detail, span: Span, output: &mut Output);

    /// Presents a gap; `open` is the frame from which the bytes were lost.
    fn gap(&mut self, gap: Gap, open: Option<FrameHead>, span: Span, output: &mut Output);

    /// Notes that the connection begins here and that nothing of it is missing. `client` is true if
    /// the preface was seen, so that this is the client's direction (RFC 9113 §3.4).
    fn begin(&mut self, client: bool);

    /// Notes that the other direction asked for a WebSocket on `stream`.
    fn expect_websocket(&mut self, stream: u32);

    /// Returns true if only the other direction knows whether `stream` carries a WebSocket, and has
    /// not reported it yet.
    fn is_undecided(&self, stream: u32) -> bool;

    /// Returns true if the response that `section` opens waits for its request's notice.
    fn awaits_request(&self, _section: &Section) -> bool {
        false
    }

    /// The exchanges of the connection, if the view pairs.
    fn pairs(&mut self) -> Option<&mut Pairs> {
        None
    }

    /// Returns true if some of an unfinished message has not been emitted.
    fn has_parts(&self) -> bool;

    /// Emits the new parts of unfinished messages.
    fn emit_parts(&mut self, open: Option<FrameHead>, span: Span, output: &mut Output);

    /// Handles an idle connection.
    fn pause(&mut self, open: Option<FrameHead>, span: Span, output: &mut Output);

    /// Handles the end of the connection.
    fn close(&mut self, open: Option<FrameHead>, span: Span, output: &mut Output);

    /// Returns the number of content bytes held back.
    fn held_bytes(&self) -> usize;
}

/// Determines the kind of message by the pseudo-header fields (RFC 9113 §8.3); `None` if there are
/// none.
pub(super) fn kind_of(fields: &[Field]) -> Option<Http2Kind> {
    fields.iter().find_map(|field| match field.name.as_deref()? {
        b":status" => Some(Http2Kind::Response),
        [b':', ..] => Some(Http2Kind::Request),
        _ => None,
    })
}

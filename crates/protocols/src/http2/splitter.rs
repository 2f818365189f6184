//! Cuts the byte stream into frames. DATA passes through in pieces as received; other frames are
//! collected, up to [`Limits::http2_frame_bytes`] each, or [`Limits::http2_header_block_bytes`] for
//! frames with header block fragments.

use bytes::{Buf, Bytes, BytesMut};

use crate::http2::frame::{FrameHead, HEAD_BYTES, kind};
use crate::limits::Limits;

/// The next item found by the splitter.
#[derive(Debug)]
pub(super) enum Piece {
    /// A complete frame other than DATA.
    Frame { head: FrameHead, payload: Bytes },
    /// Some content of a DATA frame, without padding; every frame yields at least one piece.
    Data(DataPiece),
    /// A complete frame too large to collect; its payload was skipped.
    Oversized { head: FrameHead },
    /// These bytes are not a frame header: the stream is out of step.
    OutOfStep { bytes: Bytes },
}

/// Some content of a DATA frame.
#[derive(Debug)]
pub(super) struct DataPiece {
    pub(super) head: FrameHead,
    pub(super) content: Bytes,
    /// On the frame's first piece, the number of content bytes of the whole frame.
    pub(super) frame: Option<usize>,
    /// Number of content bytes of the frame that are not received yet.
    pub(super) left: usize,
    /// The frame is complete.
    pub(super) last: bool,
    /// The frame announces more padding than it has payload, so none was removed.
    pub(super) bad_padding: bool,
}

/// A piece and the time of its frame's first byte.
pub(super) struct Found {
    pub(super) piece: Piece,
    pub(super) first_ns: u64,
}

/// Where in a frame the next byte belongs.
#[derive(Debug)]
enum State {
    Head(BytesMut),
    /// DATA with the pad length octet still to come.
    PadLength(FrameHead),
    Data {
        head: FrameHead,
        /// Number of content bytes of the whole frame, until a piece has carried it.
        frame: Option<usize>,
        left: usize,
        padding: usize,
        bad_padding: bool,
    },
    Collect {
        head: FrameHead,
        held: BytesMut,
    },
    Skip {
        head: FrameHead,
        left: usize,
    },
}

/// The frame splitter of one direction. Holds at most one frame's limit of bytes.
#[derive(Debug)]
pub(super) struct Splitter {
    state: State,
    first_ns: u64,
    frame_limit: usize,
    block_limit: usize,
    /// Nothing was missed, so every header is where the previous frame's length says.
    in_step: bool,
}

impl Splitter {
    /// Creates a splitter. `start_seen` is true if the first byte begins a frame.
    pub(super) fn new(limits: &Limits, start_seen: bool) -> Self {
        Self {
            state: State::Head(BytesMut::new()),
            first_ns: 0,
            frame_limit: limits.http2_frame_bytes,
            block_limit: limits.http2_header_block_bytes,
            in_step: start_seen,
        }
    }

    /// Returns true if nothing was missed so far.
    pub(super) fn is_in_step(&self) -> bool {
        self.in_step
    }

    /// Notes that bytes were lost: bytes that look like a header may not be one.
    pub(super) fn lose_step(&mut self) {
        self.in_step = false;
    }

    /// Returns the number of bytes held of an incomplete frame.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.state {
            State::Head(held) | State::Collect { held, .. } => held.len(),
            State::PadLength(_) | State::Data { .. } | State::Skip { .. } => 0,
        }
    }

    /// Returns the header of the current frame.
    pub(super) fn open_frame(&self) -> Option<FrameHead> {
        match &self.state {
            State::Head(_) => None,
            State::PadLength(head)
            | State::Data { head, .. }
            | State::Collect { head, .. }
            | State::Skip { head, .. } => Some(*head),
        }
    }

    /// Gives up the current frame. Returns its bytes that are in no piece, and the number of bytes
    /// skipped besides.
    pub(super) fn abandon(&mut self) -> (Bytes, usize) {
        match std::mem::replace(&mut self.state, State::Head(BytesMut::new())) {
            State::Head(held) => (held.freeze(), 0),
            State::Collect { head, held } => (Bytes::from([&head.to_bytes()[..], &held].concat()), 0),
            State::PadLength(head)
            | State::Data {
                head, frame: Some(_), ..
            } => (Bytes::copy_from_slice(&head.to_bytes()), 0),
            State::Skip { head, left } => (
                Bytes::copy_from_slice(&head.to_bytes()),
                head.length as usize - left,
            ),
            State::Data { .. } => (Bytes::new(), 0),
        }
    }

    /// Takes bytes from the front of `input` until an item is complete; `None` if the input is used
    /// up first.
    pub(super) fn next(&mut self, input: &mut Bytes, timestamp_ns: u64) -> Option<Found> {
        loop {
            if let State::Head(held) = &mut self.state {
                if input.is_empty() {
                    return None;
                }
                if held.is_empty() {
                    self.first_ns = timestamp_ns;
                }
                let head = take_head(held, input)?;
                if let Err(piece) = self.open(head) {
                    return Some(self.found(piece));
                }
            }
            match self.advance(input) {
                Step::Found(piece) => return Some(self.found(piece)),
                Step::Next => {}
                Step::NeedMore => return None,
            }
        }
    }

    fn found(&self, piece: Piece) -> Found {
        Found {
            piece,
            first_ns: self.first_ns,
        }
    }

    fn open(&mut self, bytes: [u8; HEAD_BYTES]) -> Result<(), Piece> {
        let head = FrameHead::parse(&bytes);
        let is_followed = self.in_step && head.has_wrong_length() && head.length as usize <= self.frame_limit;
        if !head.is_valid() && !is_followed {
            self.state = State::Head(BytesMut::new());
            let bytes = Bytes::copy_from_slice(&bytes);
            return Err(Piece::OutOfStep { bytes });
        }
        let length = head.length as usize;
        self.state = match head.kind {
            kind::DATA if head.is_padded() && length > 0 => State::PadLength(head),
            kind::DATA => State::Data {
                head,
                frame: Some(length),
                left: length,
                padding: 0,
                bad_padding: false,
            },
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION if length <= self.block_limit => {
                State::Collect {
                    head,
                    held: BytesMut::new(),
                }
            }
            _ if length > self.frame_limit => State::Skip { head, left: length },
            _ => State::Collect {
                head,
                held: BytesMut::new(),
            },
        };
        Ok(())
    }

    fn advance(&mut self, input: &mut Bytes) -> Step {
        match &mut self.state {
            State::Head(_) => Step::NeedMore,
            State::PadLength(head) => {
                let head = *head;
                self.take_pad_length(head, input)
            }
            State::Data {
                head,
                frame,
                left,
                padding,
                bad_padding,
            } => {
                let Some(mut piece) = take_data(*head, frame, left, padding, input) else {
                    return Step::NeedMore;
                };
                piece.bad_padding = *bad_padding;
                self.step(Piece::Data(piece))
            }
            State::Collect { head, held } => {
                let head = *head;
                match collect(held, input, head.length as usize) {
                    Some(payload) => self.step(Piece::Frame { head, payload }),
                    None => Step::NeedMore,
                }
            }
            State::Skip { head, left } => {
                let head = *head;
                let skipped = input.len().min(*left);
                input.advance(skipped);
                *left -= skipped;
                if *left > 0 {
                    return Step::NeedMore;
                }
                self.step(Piece::Oversized { head })
            }
        }
    }

    /// Returns a piece. Unless more of its frame follows, a header is next.
    fn step(&mut self, piece: Piece) -> Step {
        if !matches!(piece, Piece::Data(DataPiece { last: false, .. })) {
            self.state = State::Head(BytesMut::new());
        }
        Step::Found(piece)
    }

    fn take_pad_length(&mut self, head: FrameHead, input: &mut Bytes) -> Step {
        if input.is_empty() {
            return Step::NeedMore;
        }
        let rest = head.length as usize - 1;
        let padding = usize::from(input.get_u8());
        // More padding than payload is an error (RFC 9113 §6.1).
        let bad_padding = padding > rest;
        let padding = if bad_padding { 0 } else { padding };
        let left = rest - padding;
        self.state = State::Data {
            head,
            frame: Some(left),
            left,
            padding,
            bad_padding,
        };
        Step::Next
    }
}

/// Takes the next piece of a DATA frame, if `input` has some of its content or its end.
fn take_data(
    head: FrameHead,
    frame: &mut Option<usize>,
    left: &mut usize,
    padding: &mut usize,
    input: &mut Bytes,
) -> Option<DataPiece> {
    let content = input.split_to(input.len().min(*left));
    *left -= content.len();
    let skipped = if *left == 0 { input.len().min(*padding) } else { 0 };
    input.advance(skipped);
    *padding -= skipped;
    let last = *left == 0 && *padding == 0;
    if !last && content.is_empty() {
        return None;
    }
    Some(DataPiece {
        head,
        content,
        frame: frame.take(),
        left: *left,
        last,
        bad_padding: false,
    })
}

enum Step {
    Found(Piece),
    Next,
    NeedMore,
}

fn take_head(held: &mut BytesMut, input: &mut Bytes) -> Option<[u8; HEAD_BYTES]> {
    if held.is_empty()
        && let Some(head) = input.first_chunk::<HEAD_BYTES>().copied()
    {
        input.advance(HEAD_BYTES);
        return Some(head);
    }
    let bytes = collect(held, input, HEAD_BYTES)?;
    bytes.first_chunk().copied()
}

/// Returns `wanted` bytes: a slice of `input` if nothing is held yet, otherwise the held bytes and
/// some of `input`.
fn collect(held: &mut BytesMut, input: &mut Bytes, wanted: usize) -> Option<Bytes> {
    if held.is_empty() && input.len() >= wanted {
        return Some(input.split_to(wanted));
    }
    let missing = wanted - held.len();
    let piece = input.split_to(input.len().min(missing));
    held.extend_from_slice(&piece);
    (held.len() == wanted).then(|| std::mem::take(held).freeze())
}

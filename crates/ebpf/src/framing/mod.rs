//! Tells the heads of messages from their content, while the bytes of a connection pass.
//!
//! Runs in the kernel ([`crate::config::WITHOUT_CONTENT`]), so that only what frames messages, and their heads, is
//! handed to user space. It is here and not with the programs because it knows nothing of them: tests run the same code.
//!
//! ```text
//!            ┌─► StartLine ─► Field ─► (content) ─► Start             RFC 9112
//!            │                  └────► ChunkSize ─► (content) ─► ChunkEnd ─► ChunkSize … Trailer ─► Start
//!   Start ───┼─► StartLine ─► Preface ─► FrameHeader ─► (payload) ─► FrameHeader    RFC 9113
//!            ├─► FirstFrame ────────────────┘
//!            ├─► WebSocket ─► (payload) ─► WebSocket                  RFC 6455, behind a response 101
//!            └─► Opaque
//! ```
//!
//! It fails closed: what it does not understand is content, and so is all that follows ([`State::Opaque`]), unless
//! bytes are missing before it. Then each call may begin with a head again ([`Stream::resumes`]).

#![expect(
    clippy::inline_always,
    reason = "the kernel calls the whole as one function, once for each byte"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "each is of a number that was compared or masked before"
)]

mod chunks;
mod fields;
mod frames;
mod memory;
mod start;
#[cfg(test)]
mod tests;
mod walk;
mod websocket;

pub use walk::{Beginning, Call, WINDOW_BYTES, Walk, step};

use fields::{Field, Length, Transfer, Upgrade};
use start::Part;

/// Content up to the end of the connection.
const UNTIL_CLOSE: u64 = u64::MAX;
/// Requests without a response whose methods are known.
const REQUESTS: u32 = 64;

/// Both directions of a session.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Framing {
    /// By direction, as [`crate::record::DataHeader::direction`].
    pub streams: [Stream; 2],
    /// The connection's socket, 0 where it is not certain.
    sock: u64,
}

const _: () = assert!(core::mem::offset_of!(Framing, streams) == 0);

/// A session before its first bytes.
pub const NEW_FRAMING: Framing = Framing {
    streams: [Stream::NEW; 2],
    sock: 0,
};

/// What the next byte of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The first of a message, or of a protocol.
    Start = 0,
    /// In the start line of an HTTP/1 message, or in the preface of HTTP/2.
    StartLine,
    /// In the header section.
    Field,
    /// In the line with the size of a chunk.
    ChunkSize,
    /// In the line end behind a chunk.
    ChunkEnd,
    /// In the trailer section.
    Trailer,
    /// In the preface of HTTP/2, behind its first line.
    Preface,
    /// In the header of what may be the first frame of HTTP/2.
    FirstFrame,
    /// In the header of a frame of HTTP/2.
    FrameHeader,
    /// The length of a frame's padding.
    PadLength,
    /// In the header of a WebSocket frame.
    WebSocket,
    /// In the status code of a Close frame.
    CloseCode,
    /// Of something unknown.
    Opaque,
}

/// What a byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Framing, or of a head.
    Keep,
    /// Content, as is everything since [`State::Start`]: it only looked like the start of a message.
    Reject,
}

/// One direction of a session. Positions are in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Position in the stream behind the last byte that was followed.
    position: u64,
    /// Bytes of payload before the next byte that [`Self::state`] describes.
    run: u64,
    /// A number that is being read, or was: the size of a chunk, the length of a frame.
    number: u64,
    /// `Content-Length`.
    content_length: u64,
    /// The last 24 bytes of a line, a name, a token or a frame's header, the last one lowest.
    last: [u64; 3],
    /// The first eight bytes of the start line.
    first: u64,
    /// Which of the last requests had the method HEAD: request `n` is bit `n % 64`.
    heads: u64,
    /// Which of them had the method CONNECT.
    connects: u64,
    /// Number of requests whose heads have ended.
    requests: u32,
    /// Number of responses to them.
    responses: u32,
    /// Bytes of the current line, or frame header.
    line: u32,
    /// Bytes of the current name, or token.
    name: u32,
    /// Bytes of the current head.
    head: u32,
    status: u16,
    state: State,
    /// The payload is no content.
    keeps_run: bool,
    field: Field,
    length: Length,
    transfer: Transfer,
    upgrade: Upgrade,
    is_response: bool,
    is_head: bool,
    is_connect: bool,
    part: Part,
    /// The start line is none if it does not end in this call.
    is_odd: bool,
    /// There was white space behind a part of the name or the token.
    is_spaced: bool,
    /// The current field, or the one before, says how long content is.
    is_framed: bool,
    /// Bytes of a WebSocket frame's header, and of the length in it.
    header_bytes: u8,
    length_bytes: u8,
    /// A response 101 has switched the connection to another protocol.
    switched: bool,
    /// Bytes are missing before: what is opaque may end at the beginning of a call.
    resumes: bool,
    padding: [u8; 7],
    /// The call in progress.
    walk: Walk,
}

impl Stream {
    const NEW: Self = Self {
        position: 0,
        run: 0,
        number: 0,
        content_length: 0,
        last: [0; 3],
        first: 0,
        heads: 0,
        connects: 0,
        requests: 0,
        responses: 0,
        line: 0,
        name: 0,
        head: 0,
        status: 0,
        state: State::Start,
        keeps_run: false,
        field: Field::Name,
        length: Length::Absent,
        transfer: Transfer::Absent,
        upgrade: Upgrade::None,
        is_response: false,
        is_head: false,
        is_connect: false,
        part: Part::First,
        is_odd: false,
        is_spaced: false,
        is_framed: false,
        header_bytes: 0,
        length_bytes: 0,
        switched: false,
        resumes: false,
        padding: [0; 7],
        walk: Walk::NEW,
    };

    /// Notes that bytes that were not followed precede the next ones.
    #[inline(always)]
    pub fn resume(&mut self) {
        self.resumes = true;
        // Payload may look like the header of a WebSocket frame.
        self.upgrade = Upgrade::None;
        self.give_up();
    }

    /// Takes a byte that is not payload.
    #[inline(always)]
    fn take(&mut self, byte: u8, other: &Self) -> Verdict {
        match self.state {
            State::Start => self.start(byte, other),
            State::StartLine => self.start_line(byte),
            State::Field => self.field(byte, other),
            State::ChunkSize => self.chunk_size(byte),
            State::ChunkEnd => self.chunk_end(byte),
            State::Trailer => self.trailer(byte),
            State::Preface => self.preface(byte),
            State::FirstFrame => self.first_frame(byte),
            State::FrameHeader => self.frame_header(byte),
            State::PadLength => self.pad_length(),
            State::WebSocket => self.web_socket(byte),
            State::CloseCode => self.close_code(),
            State::Opaque => self.reject(),
        }
    }

    /// Begins another line, name or frame header.
    #[inline(always)]
    fn begin(&mut self, state: State) {
        self.state = state;
        self.line = 0;
        self.forget_last();
    }

    #[inline(always)]
    fn forget_last(&mut self) {
        self.set_last([0; 3]);
    }

    /// Volatile, so that no function is called to clear or to copy them, which takes stack.
    #[inline(always)]
    fn set_last(&mut self, words: [u64; 3]) {
        let [first, second, third] = &mut self.last;
        // SAFETY: words of ours.
        unsafe {
            core::ptr::write_volatile(first, words[0]);
            core::ptr::write_volatile(second, words[1]);
            core::ptr::write_volatile(third, words[2]);
        }
    }

    /// Begins `length` bytes of payload, with `state` behind them.
    #[inline(always)]
    fn pass(&mut self, length: u64, keeps: bool, state: State) {
        self.run = length;
        self.keeps_run = keeps;
        self.begin(state);
    }

    #[inline(always)]
    fn push(&mut self, byte: u8) {
        let [first, second, third] = self.last;
        self.set_last([
            first << 8 | second >> 56,
            second << 8 | third >> 56,
            third << 8 | u64::from(byte),
        ]);
    }

    /// Pushes the bytes of a word, the lowest bits first, which are as many of the current line.
    #[inline(always)]
    fn push_word(&mut self, word: u64) {
        let [_, second, third] = self.last;
        self.set_last([second, third, word.swap_bytes()]);
        self.line += 8;
    }

    /// Everything from here on is content.
    #[inline(always)]
    fn give_up(&mut self) {
        self.pass(UNTIL_CLOSE, false, State::Opaque);
    }

    #[inline(always)]
    fn reject(&mut self) -> Verdict {
        self.give_up();
        Verdict::Reject
    }

    /// Everything behind this byte is content.
    #[inline(always)]
    fn keep_last(&mut self) -> Verdict {
        self.give_up();
        Verdict::Keep
    }
}

/// Whether the last bytes are those of [`text`]. Word by word: a comparison of arrays is a function of its own, and takes
/// stack.
#[inline(always)]
fn is(last: [u64; 3], text: [u64; 3]) -> bool {
    last[0] == text[0] && last[1] == text[1] && last[2] == text[2]
}

/// The last 24 bytes of a stream that ends in `text`, for comparisons with [`Stream::last`].
const fn text(text: &[u8]) -> [u64; 3] {
    assert!(text.len() <= 24);
    let mut words = [0; 3];
    let mut index = 0;
    while index < text.len() {
        let word = 2 - (text.len() - 1 - index) / 8;
        words[word] = words[word] << 8 | text[index] as u64;
        index += 1;
    }
    words
}

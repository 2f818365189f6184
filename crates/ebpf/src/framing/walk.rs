//! Follows a call's bytes, and finds in it the ranges that are content.

use super::{Framing, State, Stream, UNTIL_CLOSE, Verdict};
use crate::limits::CHUNK_PAYLOAD;

/// Bytes of a call that are read at once.
pub const WINDOW_BYTES: usize = 64;
const WORD_BYTES: u64 = 8;

/// Access to the bytes of a call that have not been handed over.
pub trait Call {
    /// Reads `length` bytes, at most [`WINDOW_BYTES`], behind the next `ahead` ones. Returns false if they cannot be
    /// read.
    fn read(&mut self, ahead: u64, window: &mut [u64; WINDOW_BYTES / 8], length: u32) -> bool;

    /// Hands over the next `length` bytes, at most [`CHUNK_PAYLOAD`]: themselves, or if they are content, their number.
    fn send(&mut self, is_content: bool, length: u64);
}

/// How far a call has been followed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    at: u64,
    end: u64,
    /// Where the bytes begin that have not been handed over.
    from: u64,
    /// Where those end that are to be handed over next, if [`Self::is_due`].
    until: u64,
    /// Where the start line begins that is being read.
    line: u64,
    /// Where [`Self::window`] begins.
    window_at: u64,
    window: [u64; WINDOW_BYTES / 8],
    /// What has not been handed over is content.
    is_content: bool,
    /// What comes behind [`Self::until`] is.
    goes_on_as_content: bool,
    is_due: bool,
    padding: [u8; 5],
}

/// The next bytes of a call.
struct Piece {
    bytes: u64,
    is_content: bool,
    /// Everything before it that has not been handed over, from here on, is as it.
    since: u64,
}

impl Walk {
    pub(super) const NEW: Self = Self {
        at: 0,
        end: 0,
        from: 0,
        until: 0,
        line: 0,
        window_at: NO_WINDOW,
        window: [0; WINDOW_BYTES / 8],
        is_content: false,
        goes_on_as_content: false,
        is_due: false,
        padding: [0; 5],
    };
}

/// [`Walk::window_at`] without a window: no call has so many bytes.
const NO_WINDOW: u64 = 1 << 63;

/// A call that begins to be followed.
#[derive(Debug, Clone, Copy)]
pub struct Beginning {
    /// Position of its first byte in the stream.
    pub position: u64,
    /// Bytes that it moved.
    pub length: u64,
    /// Bytes of the connection may be missing before the first one that was seen.
    pub may_lack_bytes: bool,
    /// The connection's socket, 0 where it is not certain.
    pub sock: u64,
}

impl Framing {
    /// Begins with a call of a direction, 0 or 1.
    #[inline(always)]
    pub fn begin_call(&mut self, direction: usize, call: &Beginning) {
        if call.sock != 0 {
            if self.sock != 0 && self.sock != call.sock {
                // The session object has another connection now.
                self.streams[0].forget();
                self.streams[1].forget();
            }
            self.sock = call.sock;
        }
        self.streams[direction & 1].begin_call(call);
    }
}

impl Stream {
    /// Begins another connection. What its first bytes follow is not known.
    #[inline(always)]
    fn forget(&mut self) {
        self.requests = 0;
        self.responses = 0;
        self.switched = false;
        self.resume();
    }

    /// Follows `bytes` that were in no call: from a file, or lost.
    #[inline(always)]
    fn miss(&mut self, bytes: u64) {
        if self.run == UNTIL_CLOSE && !matches!(self.state, State::Opaque) {
            return;
        }
        if self.run != UNTIL_CLOSE && self.run >= bytes {
            self.run -= bytes;
        } else {
            self.resume();
        }
    }

    #[inline(always)]
    fn begin_call(&mut self, call: &Beginning) {
        if self.position != call.position {
            self.miss(call.position.wrapping_sub(self.position));
        }
        self.resumes |= call.may_lack_bytes;
        if matches!(self.state, State::Opaque) && self.resumes {
            self.pass(0, false, State::Start);
        }
        self.position = call.position.wrapping_add(call.length);
        self.walk.at = 0;
        self.walk.end = call.length;
        self.walk.from = 0;
        self.walk.line = 0;
        self.walk.window_at = NO_WINDOW;
        self.walk.is_content = false;
        self.walk.is_due = false;
    }

    /// Bytes of the call that have not been handed over.
    #[inline(always)]
    pub fn rest(&self) -> u64 {
        self.walk.end - self.walk.from
    }

    /// As [`Verdict::Reject`], where not a start line but the framing of content is wrong.
    #[inline(always)]
    pub(super) fn reject_last(&mut self) -> Verdict {
        self.reject_last_bytes(1)
    }

    /// The same for the last so many bytes, as far as they are in this call.
    #[inline(always)]
    pub(super) fn reject_last_bytes(&mut self, bytes: u64) -> Verdict {
        self.walk.line = (self.walk.at + 1).saturating_sub(bytes);
        self.reject()
    }

    #[inline(always)]
    fn next<C: Call>(&mut self, other: &Self, call: &mut C) -> Piece {
        let at = self.walk.at;
        // No more than is handed over at once.
        let room = CHUNK_PAYLOAD as u64 - (at - self.walk.from);
        let left = room.min(self.walk.end - at);
        if self.run != 0 {
            let bytes = self.run.min(left);
            if self.run != UNTIL_CLOSE {
                self.run -= bytes;
            }
            return Piece {
                bytes,
                is_content: !self.keeps_run,
                since: at,
            };
        }
        if self.lacks_window() && !self.read(call) {
            self.resume();
            return Piece {
                bytes: 0,
                is_content: true,
                since: at,
            };
        }
        if matches!(self.state, State::Start) {
            self.walk.line = at;
        }
        let place = at.wrapping_sub(self.walk.window_at);
        let word = u64::from_le(self.walk.window[(place / WORD_BYTES) as usize % (WINDOW_BYTES / 8)]);
        let in_word = place % WORD_BYTES;
        let passed = self.pass_together(word, in_word, left);
        if passed != 0 {
            return Piece {
                bytes: passed,
                is_content: false,
                since: at,
            };
        }
        let byte = (word >> (in_word * 8)) as u8;
        let verdict = self.take(byte, other);
        Piece {
            bytes: 1,
            is_content: verdict == Verdict::Reject,
            since: if verdict == Verdict::Reject {
                self.walk.line.max(self.walk.from)
            } else {
                at
            },
        }
    }

    /// Passes the next bytes of `word`, behind its first `in_word` ones, if they need not be looked at one by one. Returns
    /// how many, at most `left`.
    #[inline(always)]
    fn pass_together(&mut self, word: u64, in_word: u64, left: u64) -> u64 {
        if self.is_in_other_value() {
            let bytes = bytes_before(word >> (in_word * 8), b'\n')
                .min(WORD_BYTES - in_word)
                .min(left);
            self.skim(bytes as u32);
            return bytes;
        }
        let is_whole = in_word == 0 && left >= WORD_BYTES;
        if is_whole && (self.is_before_frame_header() || self.is_in_target() && !ends_line(word)) {
            self.push_word(word);
            return WORD_BYTES;
        }
        0
    }

    /// Whether the next bytes must be read: the window ends, or a frame's header is not at a word's first byte.
    #[inline(always)]
    fn lacks_window(&self) -> bool {
        let place = self.walk.at.wrapping_sub(self.walk.window_at);
        place >= WINDOW_BYTES as u64 || !place.is_multiple_of(WORD_BYTES) && self.is_before_frame_header()
    }

    #[inline(always)]
    fn read<C: Call>(&mut self, call: &mut C) -> bool {
        let left = self.walk.end - self.walk.at;
        self.walk.window_at = self.walk.at;
        let length = left.min(WINDOW_BYTES as u64) as u32;
        call.read(self.walk.at - self.walk.from, &mut self.walk.window, length)
    }

    /// Ends a start line that is none if it does not end in this call.
    #[inline(always)]
    fn end_call(&mut self) -> Piece {
        let at = self.walk.at;
        if self.is_cut_oddly() {
            self.give_up();
            return Piece {
                bytes: 0,
                is_content: true,
                since: self.walk.line.max(self.walk.from),
            };
        }
        Piece {
            bytes: 0,
            is_content: self.walk.is_content,
            since: at,
        }
    }
}

/// Takes the next bytes of a call, or hands over those before them. Returns true at its end, when all of them have
/// been handed over.
///
/// It does not do both at once: what it knows in between is in the map, where the verifier does not follow it, so
/// that it checks the parts one after the other instead of their combinations.
#[inline(always)]
pub fn step<C: Call>(stream: &mut Stream, other: &Stream, call: &mut C) -> bool {
    let at = stream.walk.at;
    let is_end = at >= stream.walk.end;
    if stream.walk.is_due {
        let Walk { from, until, .. } = stream.walk;
        call.send(stream.walk.is_content, until - from);
        stream.walk.from = until;
        stream.walk.is_content = stream.walk.goes_on_as_content;
        stream.walk.is_due = false;
        return false;
    }
    let is_full = at - stream.walk.from >= CHUNK_PAYLOAD as u64;
    let piece = if is_full {
        // A start line is handed over when it is complete.
        let is_in_line = matches!(stream.state, State::StartLine) && stream.walk.line > stream.walk.from;
        Piece {
            bytes: 0,
            is_content: stream.walk.is_content,
            since: if is_in_line { stream.walk.line } else { at },
        }
    } else if is_end {
        stream.end_call()
    } else {
        stream.next(other, call)
    };
    let is_other = piece.is_content != stream.walk.is_content;
    stream.walk.at = at + piece.bytes;
    stream.walk.goes_on_as_content = piece.is_content;
    stream.walk.until = piece.since;
    if (is_other || is_full || is_end) && piece.since > stream.walk.from {
        stream.walk.is_due = true;
        return false;
    }
    stream.walk.is_content = piece.is_content;
    is_end && stream.walk.from == at
}

/// Whether one of a word's bytes is of a line end.
#[inline(always)]
fn ends_line(word: u64) -> bool {
    bytes_before(word, b'\n').min(bytes_before(word, b'\r')) < WORD_BYTES
}

/// How many of a word's bytes precede the first one with a value. The lowest bits are its first byte.
#[inline(always)]
fn bytes_before(word: u64, value: u8) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let differs = word ^ (ONES * u64::from(value));
    // The lowest bit that is set is the highest bit of the first byte that does not differ.
    let equal = differs.wrapping_sub(ONES) & !differs & HIGH;
    let below = equal.wrapping_sub(1) & !equal;
    // One bit of each byte before it, added up in the highest byte.
    (below >> 7 & ONES).wrapping_mul(ONES) >> 56
}

//! Frames of HTTP/2 (RFC 9113 §4.1).

use super::{State, Stream, Verdict};

/// Bytes of a frame's header.
const HEADER_BYTES: u32 = 9;
/// The largest payload that a peer accepts before it has said otherwise (RFC 9113 §4.2).
const FIRST_LENGTH: u64 = 16 * 1024;
/// Bytes of a setting (RFC 9113 §6.5.1).
const SETTING_BYTES: u64 = 6;

const DATA: u64 = 0;
const HEADERS: u64 = 1;
const PRIORITY: u64 = 2;
const RST_STREAM: u64 = 3;
const SETTINGS: u64 = 4;
const PUSH_PROMISE: u64 = 5;
const PING: u64 = 6;
const GOAWAY: u64 = 7;
const WINDOW_UPDATE: u64 = 8;
const CONTINUATION: u64 = 9;
/// RFC 7838.
const ALTSVC: u64 = 10;
/// RFC 8336.
const ORIGIN: u64 = 12;
/// RFC 9218.
const PRIORITY_UPDATE: u64 = 16;

const PADDED: u64 = 8;

/// The header of a frame.
struct Header {
    length: u64,
    kind: u64,
    flags: u64,
    stream: u64,
}

impl Stream {
    /// Whether the next byte is the first of a frame's header. Eight of its nine are taken together.
    #[inline(always)]
    pub(super) fn is_before_frame_header(&self) -> bool {
        matches!(self.state, State::FrameHeader) && self.line == 0
    }

    #[inline(always)]
    pub(super) fn frame_header(&mut self, byte: u8) -> Verdict {
        self.push(byte);
        self.line += 1;
        if self.line == HEADER_BYTES {
            let header = self.header();
            // Behind missing bytes it may have been payload that looked like a frame.
            if self.resumes && !header.is_plausible() {
                return self.reject_header();
            }
            self.begin_payload(&header);
        }
        Verdict::Keep
    }

    /// Takes a byte of what may be the header of the first frame: SETTINGS, unless bytes are missing before it.
    #[inline(always)]
    pub(super) fn first_frame(&mut self, byte: u8) -> Verdict {
        self.push(byte);
        self.line += 1;
        if self.line == HEADER_BYTES {
            let header = self.header();
            if !(header.is_first() || self.resumes && header.is_plausible()) {
                return self.reject();
            }
            self.begin_payload(&header);
        }
        Verdict::Keep
    }

    /// What looked like the header of a frame is content, as far as it is in this call.
    #[inline(always)]
    fn reject_header(&mut self) -> Verdict {
        self.reject_last_bytes(u64::from(HEADER_BYTES))
    }

    #[inline(always)]
    fn header(&self) -> Header {
        let [_, high, low] = self.last;
        Header {
            length: (high & 0xFF) << 16 | low >> 48,
            kind: low >> 40 & 0xFF,
            flags: low >> 32 & 0xFF,
            stream: low & 0xFFFF_FFFF,
        }
    }

    #[inline(always)]
    fn begin_payload(&mut self, header: &Header) {
        let has_pad_length = header.kind == DATA && header.flags & PADDED != 0 && header.length != 0;
        if has_pad_length {
            self.number = header.length - 1;
            self.begin(State::PadLength);
        } else {
            self.pass(header.length, header.has_no_content(), State::FrameHeader);
        }
    }

    #[inline(always)]
    pub(super) fn pad_length(&mut self) -> Verdict {
        self.pass(self.number, false, State::FrameHeader);
        Verdict::Keep
    }
}

impl Header {
    #[inline(always)]
    fn has_no_content(&self) -> bool {
        (HEADERS..=ALTSVC).contains(&self.kind) || self.kind == ORIGIN || self.kind == PRIORITY_UPDATE
    }

    #[inline(always)]
    fn is_first(&self) -> bool {
        self.kind == SETTINGS
            && self.flags == 0
            && self.stream == 0
            && self.length <= FIRST_LENGTH
            && self.length.is_multiple_of(SETTING_BYTES)
    }

    /// Whether a frame as RFC 9113 §6 demands it has this header.
    #[inline(always)]
    fn is_plausible(&self) -> bool {
        // A stream's number has 31 bits.
        if self.length > FIRST_LENGTH || self.stream >> 31 != 0 {
            return false;
        }
        let (flags, of_stream, length) = match self.kind {
            DATA => (0x09, true, true),
            HEADERS => (0x2D, true, self.length != 0),
            PRIORITY => (0, true, self.length == 5),
            RST_STREAM => (0, true, self.length == 4),
            SETTINGS => (0x01, false, self.length.is_multiple_of(SETTING_BYTES)),
            PUSH_PROMISE => (0x0C, true, self.length >= 4),
            PING => (0x01, false, self.length == 8),
            GOAWAY => (0, false, self.length >= 8),
            WINDOW_UPDATE => (0, self.stream != 0, self.length == 4),
            CONTINUATION => (0x04, true, true),
            _ => return false,
        };
        self.flags & !flags == 0 && (self.stream != 0) == of_stream && length
    }
}

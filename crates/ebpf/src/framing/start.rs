//! Start lines (RFC 9112 §3, §4), and the preface of HTTP/2 (RFC 9113 §3.4).

use super::fields::Upgrade;
use super::{State, Stream, Verdict, is, text};
use crate::limits::START_LINE;

/// Longer than any registered method.
const LONGEST_METHOD: u32 = 32;
/// Most capital letters of a method that are taken for one before its end is seen.
const LONGEST_CUT_METHOD: u32 = 7;
/// `HTTP/1.` and a digit.
const VERSION_BYTES: u32 = 8;
const VERSION: u64 = u64::from_be_bytes(*b"\0HTTP/1.");
/// Bytes of a status line up to its status.
const STATUS_END: u32 = VERSION_BYTES + 4;

const CONNECT: [u64; 3] = text(b"CONNECT");
const HEAD: [u64; 3] = text(b"HEAD");
const PREFACE_LINE: [u64; 3] = text(b"PRI * HTTP/2.0");
const PREFACE_REST: [u64; 3] = text(b"\r\nSM\r\n\r\n");
const PREFACE_REST_BYTES: u32 = 8;

/// Whether the bytes are `HTTP/1.0` or `HTTP/1.1`.
#[inline(always)]
fn is_version(bytes: u64) -> bool {
    bytes >> 8 == VERSION && matches!(bytes as u8, b'0' | b'1')
}

/// What the next byte of a start line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Part {
    /// Of a method, or of the version of a response.
    First = 0,
    /// The first of a target.
    Target,
    /// Of the rest.
    Rest,
    /// Of a status.
    Status,
}

impl Stream {
    #[inline(always)]
    pub(super) fn start(&mut self, byte: u8, other: &Self) -> Verdict {
        if self.upgrade == Upgrade::WebSocket && (self.switched || other.switched) {
            self.begin(State::WebSocket);
            return self.web_socket(byte);
        }
        match byte {
            b'\r' | b'\n' => Verdict::Keep,
            // The length of a frame is at most 16 KiB at first.
            0 => {
                self.begin(State::FirstFrame);
                self.first_frame(byte)
            }
            _ => {
                self.begin(State::StartLine);
                self.first = 0;
                self.part = Part::First;
                self.is_odd = false;
                self.start_line(byte)
            }
        }
    }

    #[inline(always)]
    pub(super) fn start_line(&mut self, byte: u8) -> Verdict {
        if byte == b'\n' {
            return self.end_start_line();
        }
        if byte == b'\r' {
            return Verdict::Keep;
        }
        self.line += 1;
        if self.line <= VERSION_BYTES {
            self.first = self.first << 8 | u64::from(byte);
        }
        let fits = match self.part {
            Part::First if byte == b' ' => self.end_first(),
            Part::First => self.in_first(byte),
            Part::Status => self.in_status(byte),
            Part::Target => {
                let begins = matches!(byte, b'/' | b'*' | b'h' | b'H');
                self.is_odd = !begins && !self.is_connect;
                self.part = Part::Rest;
                true
            }
            Part::Rest => true,
        };
        self.push(byte);
        if fits && self.line <= START_LINE {
            Verdict::Keep
        } else {
            self.reject()
        }
    }

    /// Whether the next eight bytes are of a target or a reason phrase, if no line ends in them. Only the last ones matter.
    #[inline(always)]
    pub(super) fn is_in_target(&self) -> bool {
        matches!(self.state, State::StartLine)
            && matches!(self.part, Part::Rest)
            && self.line + 8 <= START_LINE
    }

    /// Takes a byte of a method or a version.
    #[inline(always)]
    fn in_first(&mut self, byte: u8) -> bool {
        let in_version = self.begins_version();
        let in_method = byte.is_ascii_uppercase() && self.line <= LONGEST_CUT_METHOD;
        self.is_odd |= !in_version && !in_method;
        self.line <= LONGEST_METHOD && byte.is_ascii_graphic() && (byte != b'/' || in_version)
    }

    /// Whether the line so far is a part of `HTTP/1.1`.
    #[inline(always)]
    fn begins_version(&self) -> bool {
        if self.line >= VERSION_BYTES {
            return self.line == VERSION_BYTES && is_version(self.first);
        }
        self.first == VERSION >> ((8 * (7 - self.line)) & 63)
    }

    /// Takes the space behind a method or a version.
    #[inline(always)]
    fn end_first(&mut self) -> bool {
        self.is_odd = false;
        self.number = 0;
        self.is_response = self.line == VERSION_BYTES + 1 && is_version(self.first);
        self.is_head = is(self.last, HEAD);
        self.is_connect = is(self.last, CONNECT);
        self.part = if self.is_response {
            Part::Status
        } else {
            Part::Target
        };
        self.line > 1
    }

    /// Takes a digit of a status.
    #[inline(always)]
    fn in_status(&mut self, byte: u8) -> bool {
        self.number = self.number * 10 + u64::from(byte & 15);
        if self.line == STATUS_END {
            self.part = Part::Rest;
        }
        byte.is_ascii_digit()
    }

    #[inline(always)]
    fn end_start_line(&mut self) -> Verdict {
        if self.part == Part::First {
            return self.reject();
        }
        if self.is_response {
            if self.line < STATUS_END {
                return self.reject();
            }
            self.status = self.number as u16;
            self.begin_fields();
            return Verdict::Keep;
        }
        if is(self.last, PREFACE_LINE) {
            self.begin(State::Preface);
            return Verdict::Keep;
        }
        if !is_version(self.last[2]) || self.last[1] & 0xFF != u64::from(b' ') {
            return self.reject();
        }
        self.begin_fields();
        Verdict::Keep
    }

    /// Returns true if a start line that does not end in this call is taken for none.
    #[inline(always)]
    pub(super) fn is_cut_oddly(&self) -> bool {
        matches!(self.state, State::StartLine) && self.is_odd
    }

    /// Takes a byte of the preface behind its first line.
    #[inline(always)]
    pub(super) fn preface(&mut self, byte: u8) -> Verdict {
        self.push(byte);
        self.line += 1;
        if self.line == PREFACE_REST_BYTES {
            if !is(self.last, PREFACE_REST) {
                return self.reject_last_bytes(u64::from(PREFACE_REST_BYTES));
            }
            self.begin(State::FrameHeader);
        }
        Verdict::Keep
    }
}

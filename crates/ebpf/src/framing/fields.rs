//! Header sections (RFC 9112 §5), and where the content behind them ends (RFC 9112 §6.3).

use super::{REQUESTS, State, Stream, UNTIL_CLOSE, Verdict, is, text};
use crate::limits::{HEAD, TRAILER};

const CONTENT_LENGTH: [u64; 3] = text(b"content-length");
const TRANSFER_ENCODING: [u64; 3] = text(b"transfer-encoding");
const UPGRADE: [u64; 3] = text(b"upgrade");
const CHUNKED: [u64; 3] = text(b"chunked");
const GZIP: [u64; 3] = text(b"gzip");
const X_GZIP: [u64; 3] = text(b"x-gzip");
const DEFLATE: [u64; 3] = text(b"deflate");
const IDENTITY: [u64; 3] = text(b"identity");
const WEB_SOCKET: [u64; 3] = text(b"websocket");

/// What the next byte of a field line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Field {
    /// Of its name.
    Name = 0,
    ContentLength,
    TransferEncoding,
    Upgrade,
    /// Of a value that frames nothing.
    Other,
}

/// All values of `Content-Length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Length {
    Absent = 0,
    Is,
    Bad,
}

/// All values of `Transfer-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Transfer {
    Absent = 0,
    Chunked,
    /// Codings that do not frame.
    Unchunked,
    Bad,
}

/// The first value of `Upgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Upgrade {
    None = 0,
    WebSocket,
    Other,
}

/// The methods on which the framing of a response depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Method {
    Other,
    Head,
    Connect,
    /// Too many requests precede it, or the requests are not understood.
    Unknowable,
}

impl Stream {
    /// Begins the header section behind a start line.
    #[inline(always)]
    pub(super) fn begin_fields(&mut self) {
        self.begin(State::Field);
        self.field = Field::Name;
        self.head = 0;
        self.length = Length::Absent;
        self.transfer = Transfer::Absent;
        self.upgrade = Upgrade::None;
        self.is_framed = false;
    }

    /// Whether the next bytes mean nothing up to a line feed.
    #[inline(always)]
    pub(super) fn is_in_other_value(&self) -> bool {
        matches!(self.state, State::Field | State::Trailer)
            && matches!(self.field, Field::Other)
            && self.line != 0
            && self.head < HEAD.min(TRAILER)
    }

    /// Takes so many bytes for which [`Self::is_in_other_value`] is true.
    #[inline(always)]
    pub(super) fn skim(&mut self, bytes: u32) {
        self.head += bytes;
    }

    #[inline(always)]
    pub(super) fn field(&mut self, byte: u8, other: &Self) -> Verdict {
        self.head += 1;
        if self.head > HEAD {
            return self.keep_last();
        }
        if byte == b'\n' {
            if self.line == 0 {
                return self.end_fields(other);
            }
            if self.resumes && self.field == Field::Name {
                self.line += 1;
                return self.reject_line();
            }
            self.end_value();
            self.begin(State::Field);
            self.field = Field::Name;
        } else if byte != b'\r' || self.line != 0 {
            if self.resumes && self.field == Field::Name && !self.may_be_of_name(byte) {
                self.line += 1;
                return self.reject_line();
            }
            self.in_field(byte);
        }
        Verdict::Keep
    }

    /// Whether a byte may be in the name of a field, or in the white space or the colon behind it.
    #[inline(always)]
    const fn may_be_of_name(&self, byte: u8) -> bool {
        let is_space = matches!(byte, b' ' | b'\t' | b'\r');
        is_space || byte == b':' || byte.is_ascii_graphic() && !self.is_spaced
    }

    /// Behind missing bytes content may have looked like a start line: what is no field ends the head.
    #[inline(always)]
    fn reject_line(&mut self) -> Verdict {
        self.reject_last_bytes(u64::from(self.line))
    }

    #[inline(always)]
    fn in_field(&mut self, byte: u8) {
        let is_space = matches!(byte, b' ' | b'\t' | b'\r');
        if self.line == 0 {
            self.begin_line(is_space);
        }
        self.line += 1;
        match self.field {
            Field::Other => {}
            // Behind missing bytes it matters whether it is a name at all.
            Field::Name if self.line == 1 && !self.resumes && !begins_framing_name(byte) => {
                self.field = Field::Other;
            }
            Field::Name if byte == b':' => self.end_name(),
            Field::ContentLength => self.in_length(byte, is_space),
            _ if is_space => self.is_spaced = !is(self.last, [0; 3]),
            Field::TransferEncoding | Field::Upgrade if byte == b',' => self.end_token(),
            // Something behind a space within a name or a token: no recipient reads it as one.
            Field::Name if self.is_spaced => self.field = Field::Other,
            Field::Upgrade if self.is_spaced => self.end_upgrade(false),
            _ if self.is_spaced => self.transfer = Transfer::Bad,
            _ => {
                self.name += 1;
                self.push(byte.to_ascii_lowercase());
            }
        }
    }

    /// Begins a line of the header section. One that begins with a space goes on with the value before, which recipients
    /// read differently: not as a length.
    #[inline(always)]
    fn begin_line(&mut self, is_space: bool) {
        if is_space {
            self.field = Field::Other;
            if self.is_framed {
                self.transfer = Transfer::Bad;
            }
        }
        self.is_framed = false;
        self.is_spaced = false;
        self.name = 0;
    }

    #[inline(always)]
    fn end_name(&mut self) {
        let (name, length) = (self.last, self.name);
        self.field = if length == 14 && is(name, CONTENT_LENGTH) {
            Field::ContentLength
        } else if length == 17 && is(name, TRANSFER_ENCODING) {
            Field::TransferEncoding
        } else if length == 7 && is(name, UPGRADE) {
            Field::Upgrade
        } else {
            Field::Other
        };
        self.is_framed = matches!(self.field, Field::ContentLength | Field::TransferEncoding);
        self.is_spaced = false;
        self.forget_last();
        self.number = NO_NUMBER;
    }

    /// Takes a byte of `Content-Length`.
    #[inline(always)]
    fn in_length(&mut self, byte: u8, is_space: bool) {
        if byte == b',' {
            self.end_number();
        } else if !is_space {
            let digit = u64::from(byte.wrapping_sub(b'0'));
            let before = if self.number == NO_NUMBER { 0 } else { self.number };
            // The spaces between two numbers are what `last` notes.
            if digit > 9 || before > MOST_LENGTH || self.last[0] != 0 {
                self.length = Length::Bad;
            } else {
                self.number = before * 10 + digit;
            }
        } else if self.number != NO_NUMBER {
            self.last[0] = 1;
        }
    }

    #[inline(always)]
    fn end_number(&mut self) {
        self.length = match self.length {
            Length::Absent if self.number != NO_NUMBER => Length::Is,
            Length::Is if self.number == self.content_length => Length::Is,
            _ => Length::Bad,
        };
        self.content_length = self.number;
        self.number = NO_NUMBER;
        self.last[0] = 0;
    }

    #[inline(always)]
    fn end_value(&mut self) {
        match self.field {
            Field::ContentLength => self.end_number(),
            Field::TransferEncoding if is(self.last, [0; 3]) && self.transfer == Transfer::Absent => {
                self.transfer = Transfer::Bad;
            }
            Field::TransferEncoding | Field::Upgrade => self.end_token(),
            Field::Name | Field::Other => {}
        }
    }

    #[inline(always)]
    fn end_token(&mut self) {
        let token = self.last;
        self.forget_last();
        self.is_spaced = false;
        if is(token, [0; 3]) {
            return;
        }
        if self.field == Field::Upgrade {
            return self.end_upgrade(is(token, WEB_SOCKET));
        }
        self.transfer = match self.transfer {
            Transfer::Absent | Transfer::Unchunked if is(token, CHUNKED) => Transfer::Chunked,
            Transfer::Absent | Transfer::Unchunked
                if is(token, GZIP) || is(token, X_GZIP) || is(token, DEFLATE) =>
            {
                Transfer::Unchunked
            }
            Transfer::Absent if is(token, IDENTITY) => Transfer::Absent,
            _ => Transfer::Bad,
        };
    }

    /// Ends the first value of `Upgrade`; what follows it in the line means nothing.
    #[inline(always)]
    fn end_upgrade(&mut self, is_web_socket: bool) {
        if self.upgrade == Upgrade::None {
            self.upgrade = if is_web_socket {
                Upgrade::WebSocket
            } else {
                Upgrade::Other
            };
        }
        self.field = Field::Other;
    }

    /// Takes the empty line behind a header section.
    #[inline(always)]
    fn end_fields(&mut self, other: &Self) -> Verdict {
        if self.is_response {
            self.end_response(other)
        } else {
            self.note_request();
            self.begin_content(false)
        }
    }

    #[inline(always)]
    fn note_request(&mut self) {
        let bit = 1 << (self.requests % REQUESTS);
        self.heads &= !bit;
        self.connects &= !bit;
        if self.is_head {
            self.heads |= bit;
        }
        if self.is_connect {
            self.connects |= bit;
        }
        self.requests = self.requests.wrapping_add(1);
    }

    #[inline(always)]
    fn end_response(&mut self, other: &Self) -> Verdict {
        let status = self.status;
        if status < 100 {
            return self.keep_last();
        }
        if status < 200 && status != 101 {
            self.begin(State::Start);
            return Verdict::Keep;
        }
        let method = self.answered(other);
        if method == Method::Unknowable {
            return self.keep_last();
        }
        self.switched |= status == 101;
        let is_tunnel = status == 101 || method == Method::Connect && status < 300;
        if method == Method::Head || is_tunnel || status == 204 || status == 304 {
            self.begin(State::Start);
            return Verdict::Keep;
        }
        self.begin_content(true)
    }

    /// The method of the request that a final response answers.
    #[inline(always)]
    fn answered(&mut self, other: &Self) -> Method {
        let waiting = other.requests.wrapping_sub(self.responses).cast_signed();
        let lacks_bytes = self.resumes || other.resumes;
        if waiting > REQUESTS.cast_signed() || other.state == State::Opaque && !lacks_bytes {
            return Method::Unknowable;
        }
        let bit = self.responses % REQUESTS;
        if waiting > 0 || !lacks_bytes {
            self.responses = self.responses.wrapping_add(1);
        }
        if waiting <= 0 {
            // The request has not been seen: a response may be read before the call that sent it has returned.
            Method::Other
        } else if other.heads >> bit & 1 != 0 {
            Method::Head
        } else if other.connects >> bit & 1 != 0 {
            Method::Connect
        } else {
            Method::Other
        }
    }

    #[inline(always)]
    fn begin_content(&mut self, until_close: bool) -> Verdict {
        let (length, state) = match (self.transfer, self.length) {
            (Transfer::Chunked, _) => {
                self.begin_chunk_size();
                return Verdict::Keep;
            }
            (Transfer::Absent, Length::Is) => (self.content_length, State::Start),
            (Transfer::Absent, Length::Absent) if !until_close => (0, State::Start),
            (Transfer::Absent, Length::Bad) => return self.keep_last(),
            _ if until_close => (UNTIL_CLOSE, State::Start),
            _ => return self.keep_last(),
        };
        self.pass(length, false, state);
        Verdict::Keep
    }
}

/// Whether a name that begins with this byte may be one of the fields that say how long content is, or of `Upgrade`.
#[inline(always)]
const fn begins_framing_name(byte: u8) -> bool {
    matches!(byte.to_ascii_lowercase(), b'c' | b't' | b'u')
}

/// [`Stream::number`] before its first digit.
pub(super) const NO_NUMBER: u64 = u64::MAX;
/// The largest number to which a decimal digit may be added.
const MOST_LENGTH: u64 = (u64::MAX - 10) / 10;

//! Header sections (RFC 9112 §5), and where the content behind them ends (RFC 9112 §6.3).

use super::{REQUESTS, State, Stream, UNTIL_CLOSE, Verdict, is, text};

/// Most bytes of a header section.
const LONGEST_HEAD: u32 = 1024 * 1024;

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
    }

    /// Whether the next bytes mean nothing up to a line end.
    #[inline(always)]
    pub(super) fn is_in_other_value(&self) -> bool {
        matches!(self.state, State::Field | State::Trailer)
            && matches!(self.field, Field::Other)
            && self.line != 0
    }

    /// Takes so many bytes for which [`Self::is_in_other_value`] is true.
    #[inline(always)]
    pub(super) fn skim(&mut self, bytes: u32) {
        self.head += bytes;
    }

    #[inline(always)]
    pub(super) fn field(&mut self, byte: u8, other: &Self) -> Verdict {
        self.head += 1;
        if self.head > LONGEST_HEAD {
            return self.keep_last();
        }
        if byte == b'\n' {
            if self.line == 0 {
                return self.end_fields(other);
            }
            self.end_value();
            self.begin(State::Field);
            self.field = Field::Name;
        } else if byte != b'\r' {
            self.in_field(byte);
        }
        Verdict::Keep
    }

    #[inline(always)]
    fn in_field(&mut self, byte: u8) {
        let is_space = byte == b' ' || byte == b'\t';
        if self.line == 0 && is_space {
            // A folded line, which goes on with a value that no sender of a length folds.
            self.field = Field::Other;
        }
        self.line += u32::from(!is_space || self.line == 0);
        match self.field {
            Field::Other => {}
            Field::Name if byte == b':' => self.end_name(),
            Field::ContentLength => self.in_length(byte, is_space),
            _ if is_space => {}
            Field::TransferEncoding | Field::Upgrade if byte == b',' => self.end_token(),
            _ => self.push(byte.to_ascii_lowercase()),
        }
    }

    #[inline(always)]
    fn end_name(&mut self) {
        let (name, length) = (self.last, self.line - 1);
        self.field = if length == 14 && is(name, CONTENT_LENGTH) {
            Field::ContentLength
        } else if length == 17 && is(name, TRANSFER_ENCODING) {
            Field::TransferEncoding
        } else if length == 7 && is(name, UPGRADE) {
            Field::Upgrade
        } else {
            Field::Other
        };
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
            Field::TransferEncoding | Field::Upgrade => self.end_token(),
            Field::Name | Field::Other => {}
        }
    }

    #[inline(always)]
    fn end_token(&mut self) {
        let token = self.last;
        self.forget_last();
        if is(token, [0; 3]) {
            return;
        }
        if self.field == Field::Upgrade {
            if self.upgrade == Upgrade::None {
                self.upgrade = if is(token, WEB_SOCKET) {
                    Upgrade::WebSocket
                } else {
                    Upgrade::Other
                };
            }
            return;
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
        if status == 101 {
            self.switched = true;
            self.begin(State::Start);
            return Verdict::Keep;
        }
        if status < 200 {
            self.begin(State::Start);
            return Verdict::Keep;
        }
        let waiting = other.requests.wrapping_sub(self.responses);
        let (mut is_head, mut is_connect) = (false, false);
        if waiting != 0 && waiting <= REQUESTS {
            let bit = self.responses % REQUESTS;
            is_head = other.heads >> bit & 1 != 0;
            is_connect = other.connects >> bit & 1 != 0;
            self.responses = self.responses.wrapping_add(1);
        } else if waiting != 0 && waiting < u32::MAX / 2 {
            return self.keep_last();
        }
        let is_tunnel = is_connect && status < 300;
        if is_head || is_tunnel || status == 204 || status == 304 {
            self.begin(State::Start);
            return Verdict::Keep;
        }
        self.begin_content(true)
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
            _ if until_close => (UNTIL_CLOSE, State::Opaque),
            _ => return self.keep_last(),
        };
        self.pass(length, false, state);
        Verdict::Keep
    }
}

/// [`Stream::number`] before its first digit.
pub(super) const NO_NUMBER: u64 = u64::MAX;
/// The largest number to which a decimal digit may be added.
const MOST_LENGTH: u64 = (u64::MAX - 10) / 10;

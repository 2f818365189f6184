//! The chunked transfer coding (RFC 9112 §7.1).

use super::fields::{Field, NO_NUMBER};
use super::{State, Stream, Verdict};
use crate::limits::{CHUNK_SIZE_LINE, TRAILER};

/// The largest number to which a hexadecimal digit may be added.
const MOST_SIZE: u64 = u64::MAX >> 5;

impl Stream {
    #[inline(always)]
    pub(super) fn begin_chunk_size(&mut self) {
        self.begin(State::ChunkSize);
        self.number = NO_NUMBER;
    }

    #[inline(always)]
    pub(super) fn chunk_size(&mut self, byte: u8) -> Verdict {
        if byte == b'\n' {
            match self.number {
                NO_NUMBER => return self.keep_last(),
                0 => {
                    self.begin(State::Trailer);
                    self.field = Field::Other;
                    self.head = 0;
                }
                size => self.pass(size, false, State::ChunkEnd),
            }
            return Verdict::Keep;
        }
        self.line += 1;
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => 16,
        };
        // Behind the digits is an extension, in which nothing counts.
        let is_digit = digit < 16 && self.last[0] == 0;
        let before = if self.number == NO_NUMBER { 0 } else { self.number };
        if is_digit && before <= MOST_SIZE {
            self.number = before << 4 | u64::from(digit);
        } else if is_digit || self.number == NO_NUMBER || self.line > CHUNK_SIZE_LINE {
            return self.reject_last();
        } else {
            self.last[0] = 1;
        }
        Verdict::Keep
    }

    #[inline(always)]
    pub(super) fn chunk_end(&mut self, byte: u8) -> Verdict {
        match byte {
            b'\r' if self.line == 0 => self.line = 1,
            b'\n' => self.begin_chunk_size(),
            _ => return self.reject_last(),
        }
        Verdict::Keep
    }

    #[inline(always)]
    pub(super) fn trailer(&mut self, byte: u8) -> Verdict {
        self.head += 1;
        if self.head > TRAILER {
            return self.keep_last();
        }
        match byte {
            b'\n' if self.line == 0 => self.begin(State::Start),
            b'\n' => self.line = 0,
            b'\r' => {}
            _ => self.line = 1,
        }
        Verdict::Keep
    }
}

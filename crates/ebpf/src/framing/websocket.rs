//! WebSocket frames (RFC 6455 §5.2).

use super::{State, Stream, Verdict};

const CLOSE: u16 = 8;
const CLOSE_CODE_BYTES: u32 = 2;
const MASK_BYTES: u8 = 4;
const MASKED: u8 = 0x80;
/// The most significant bit of a length of eight bytes must be 0.
const LONGEST: u64 = u64::MAX >> 1;

impl Stream {
    #[inline(always)]
    pub(super) fn web_socket(&mut self, byte: u8) -> Verdict {
        self.line += 1;
        match self.line {
            1 => {
                self.status = u16::from(byte & 0x0F);
                if matches!(self.status, 3..=7 | 11..) {
                    return self.reject_last();
                }
                return Verdict::Keep;
            }
            2 => self.second(byte),
            _ if self.line <= 2 + u32::from(self.length_bytes) => {
                self.number = self.number << 8 | u64::from(byte);
            }
            _ => {}
        }
        if self.line == u32::from(self.header_bytes) {
            return self.end_header();
        }
        Verdict::Keep
    }

    #[inline(always)]
    fn second(&mut self, byte: u8) {
        let length = byte & !MASKED;
        self.length_bytes = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        self.number = if self.length_bytes == 0 {
            u64::from(length)
        } else {
            0
        };
        let mask = if byte & MASKED == 0 { 0 } else { MASK_BYTES };
        self.header_bytes = 2 + self.length_bytes + mask;
    }

    #[inline(always)]
    fn end_header(&mut self) -> Verdict {
        if self.number > LONGEST {
            return self.keep_last();
        }
        if self.status == CLOSE && self.number >= u64::from(CLOSE_CODE_BYTES) {
            self.begin(State::CloseCode);
        } else {
            self.pass(self.number, false, State::WebSocket);
        }
        Verdict::Keep
    }

    #[inline(always)]
    pub(super) fn close_code(&mut self) -> Verdict {
        self.line += 1;
        if self.line == CLOSE_CODE_BYTES {
            self.pass(self.number - u64::from(CLOSE_CODE_BYTES), false, State::WebSocket);
        }
        Verdict::Keep
    }
}

//! A frame header that arrives in pieces.

use crate::websocket::frame::{FrameHeader, LONGEST_HEADER};

/// A header that was received only in part.
pub(super) struct PartialHeader {
    pub(super) bytes: [u8; LONGEST_HEADER],
    pub(super) length: usize,
    pub(super) first_ns: u64,
}

impl PartialHeader {
    pub(super) const EMPTY: Self = Self {
        bytes: [0; LONGEST_HEADER],
        length: 0,
        first_ns: 0,
    };

    /// Takes the bytes of `rest` that belong to the header; returns how many.
    pub(super) fn fill(&mut self, rest: &[u8], timestamp_ns: u64) -> usize {
        if self.length == 0 {
            self.first_ns = timestamp_ns;
        }
        let mut taken = 0;
        for &byte in rest {
            if self.length >= 2 && self.length >= FrameHeader::size_of(self.bytes[1]) {
                break;
            }
            self.bytes[self.length] = byte;
            self.length += 1;
            taken += 1;
        }
        taken
    }
}

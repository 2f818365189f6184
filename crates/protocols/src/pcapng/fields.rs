//! Reads the fields of a block one after the other.

use super::ByteOrder;

/// The fields that were not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) order: ByteOrder,
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn u16(&mut self) -> Option<u16> {
        let (&bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(self.order.u16(bytes))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (&bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(self.order.u32(bytes))
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Skips up to `length` bytes; fewer if there are fewer.
    pub(super) fn skip(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
    }
}

//! The frame header (RFC 6455 §5.2) and what makes one believable.

use crate::limits::Limits;
use crate::message::FrameFault;

/// Longest header: two octets, an eight-octet length and a masking key.
pub(super) const LONGEST_HEADER: usize = 14;

/// Continuation of a fragmented message.
pub(super) const CONTINUATION: u8 = 0;
/// UTF-8 text.
pub(super) const TEXT: u8 = 1;
/// Binary data.
pub(super) const BINARY: u8 = 2;
/// Close, with an optional code and reason.
pub(super) const CLOSE: u8 = 8;
/// Ping.
pub(super) const PING: u8 = 9;
/// Pong.
pub(super) const PONG: u8 = 10;

/// Length of the status code that the payload of a Close frame begins with (§5.5.1).
pub(super) const CLOSE_CODE: usize = 2;

/// A parsed frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// FIN: last fragment.
    pub(super) fin: bool,
    /// RSV1: compressed, when on the first fragment (RFC 7692 §6).
    pub(super) compressed: bool,
    /// RSV2 or RSV3: no known extension sets them.
    pub(super) reserved: bool,
    /// Opcode.
    pub(super) opcode: u8,
    /// Masking key.
    pub(super) mask: Option<[u8; 4]>,
    /// Payload length.
    pub(super) length: u64,
    /// Length of this header.
    pub(super) size: usize,
    /// The length uses the shortest of the three encodings, as it must.
    pub(super) minimal: bool,
}

impl FrameHeader {
    /// Returns the length of the header whose second octet is `second`.
    pub(super) fn size_of(second: u8) -> usize {
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if second & 0x80 == 0 { 0 } else { 4 }
    }

    /// Parses a header at the start of `bytes`; `None` if it is cut short.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let &[first, second, ..] = bytes else { return None };
        let size = Self::size_of(second);
        let header = bytes.get(..size)?;
        let (extended, mask) = match second & 0x80 {
            0 => (&header[2..], None),
            _ => (&header[2..size - 4], header.last_chunk::<4>().copied()),
        };
        let (length, shortest) = match extended.len() {
            2 => (big_endian(extended), 126),
            8 => (big_endian(extended), u64::from(u16::MAX) + 1),
            _ => (u64::from(second & 0x7f), 0),
        };
        Some(Self {
            fin: first & 0x80 != 0,
            compressed: first & 0x40 != 0,
            reserved: first & 0x30 != 0,
            opcode: first & 0x0f,
            mask,
            length,
            size,
            minimal: length >= shortest,
        })
    }

    /// Returns true for opcodes 8 to 15.
    pub(super) fn is_control(&self) -> bool {
        self.opcode & 0x08 != 0
    }

    /// Returns how many of the first bytes of the payload are kept where content is not inspected: those of the
    /// status code of a Close frame.
    pub(super) fn kept_without_content(&self) -> usize {
        if self.opcode == CLOSE { CLOSE_CODE } else { 0 }
    }

    /// Returns false if this cannot be a frame header, so that the stream is out of step.
    pub(super) fn is_possible(&self) -> bool {
        self.length >> 63 == 0 && !(self.is_control() && (self.length > 125 || !self.fin))
    }

    /// Returns how many rules of RFC 6455 §5 the header breaks, and the first of them. `masked`
    /// says whether this side must mask, or always has.
    pub(super) fn faults(&self, masked: Option<bool>, limits: &Limits) -> (usize, Option<FrameFault>) {
        let is_known = matches!(self.opcode, CONTINUATION..=BINARY | CLOSE..=PONG);
        let is_masked = self.mask.is_some();
        let broken = [
            (self.length >> 63 != 0, FrameFault::LengthBit),
            (self.reserved, FrameFault::ReservedBits),
            (!is_known, FrameFault::ReservedOpcode),
            (!is_known && !self.fin, FrameFault::ReservedFragment),
            (self.is_control() && !self.fin, FrameFault::ControlFragment),
            (self.is_control() && self.length > 125, FrameFault::ControlLength),
            (
                self.compressed && (self.is_control() || self.opcode == CONTINUATION),
                FrameFault::Compressed,
            ),
            (!self.minimal, FrameFault::LengthForm),
            (masked == Some(true) && !is_masked, FrameFault::NotMasked),
            (masked == Some(false) && is_masked, FrameFault::Masked),
        ];
        let mut found = broken
            .into_iter()
            .filter_map(|(is_so, fault)| is_so.then_some(fault));
        let first = found.next();
        let is_huge = first.is_some() && self.length > limits.websocket_message_bytes as u64;
        (
            usize::from(first.is_some()) + usize::from(is_huge) + found.count(),
            first,
        )
    }

    /// Returns true if real senders send such a header. Stricter than
    /// [`is_possible`](Self::is_possible): it decides where decoding starts again.
    pub(super) fn is_plausible(&self, masked: Option<bool>, limits: &Limits) -> bool {
        let shape = match self.opcode {
            // Runs of zero octets would read as endless empty fragments.
            CONTINUATION => !self.compressed && (self.fin || self.length > 0),
            TEXT | BINARY => self.fin || self.length > 0,
            CLOSE | PING | PONG => !self.compressed,
            _ => false,
        };
        shape
            && self.is_possible()
            && !self.reserved
            && self.minimal
            && self.length <= limits.websocket_message_bytes as u64
            && masked.is_none_or(|masked| masked == self.mask.is_some())
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Applies a masking key (RFC 6455 §5.3) to `payload`, which starts `offset` octets into the frame's.
pub(super) fn unmask(payload: &mut [u8], key: [u8; 4], offset: u64) {
    let shift = (offset % 4) as usize;
    let mut wide = [0; 16];
    for (index, octet) in wide.iter_mut().enumerate() {
        *octet = key[(index + shift) % 4];
    }
    for chunk in payload.chunks_mut(wide.len()) {
        for (octet, key) in chunk.iter_mut().zip(wide) {
            *octet ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_three_length_encodings() {
        let short = FrameHeader::parse(&[0x81, 0x05]).unwrap();
        assert_eq!(
            (short.length, short.size, short.fin, short.opcode),
            (5, 2, true, TEXT)
        );
        let medium = FrameHeader::parse(&[0x02, 126, 1, 0]).unwrap();
        assert_eq!(
            (medium.length, medium.size, medium.fin, medium.minimal),
            (256, 4, false, true)
        );
        let long = FrameHeader::parse(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]).unwrap();
        assert_eq!((long.length, long.size, long.minimal), (65_536, 10, true));
    }

    #[test]
    fn knows_wasteful_lengths() {
        assert!(!FrameHeader::parse(&[0x82, 126, 0, 125]).unwrap().minimal);
        assert!(
            !FrameHeader::parse(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
                .unwrap()
                .minimal
        );
    }

    #[test]
    fn waits_for_every_octet_of_the_header() {
        let header = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        for length in 0..header.len() {
            assert_eq!(FrameHeader::parse(&header[..length]), None);
        }
        assert_eq!(FrameHeader::parse(&header).unwrap().mask, Some([1, 2, 3, 4]));
    }

    #[test]
    fn unmasks_the_rfc_example_from_any_offset() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let masked = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        for cut in 0..=masked.len() {
            let mut data = masked;
            let (head, tail) = data.split_at_mut(cut);
            unmask(head, key, 0);
            unmask(tail, key, cut as u64);
            assert_eq!(&data, b"Hello");
        }
    }
}

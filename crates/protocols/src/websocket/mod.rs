//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692), one direction of one connection.
//!
//! ```text
//!             first byte             last byte of the header
//!   Header ───────────────► Header ───────────────────────────► Payload
//!     ▲  ▲                    │  │                               │  │
//!     │  └────────────────────┼──┼─────── last payload byte ─────┘  │
//!     │                       │  │ no frame header, nothing         │ gap beyond
//!     │ believable frames     │  │ was lost                         │ the frame
//!     │                gap    ▼  └──────► Over                      │
//!     └──────────────────── Searching ◄─────────────────────────────┘
//! ```
//!
//! A header that breaks one rule of RFC 6455 §5 is accepted, because its length says where the next
//! one is, and its message is marked. One that breaks several rules is not a header. Over hands the
//! rest back, so that it is shown raw; after a gap the frames are searched for instead.
//!
//! A gap that lies inside one frame's payload keeps the framing: only that message is marked.

mod assembly;
mod decoder;
mod frame;
mod inflate;
mod resync;

pub use decoder::WebSocketDecoder;
use frame::FrameHeader;

use crate::decoder::Detection;
use crate::limits::Limits;

/// Number of bits of evidence that are enough: one random event in sixteen million has them.
const EVIDENCE_BITS: usize = 24;
/// First octet: FIN, no reserved bit and one of five opcodes, or a continuation of the previous
/// frame.
const FIRST_OCTET_BITS: usize = 5;
/// Close: a valid status code.
const CLOSE_BITS: usize = 4;

/// Decides whether the first bytes of an event start with WebSocket frames.
///
/// Used for a stream that is joined in the middle, not after a 101 response. The answer is
/// [`Yes`](Detection::Yes) if frames follow each other up to the end of the bytes or up to one more
/// header, and if that is not by chance: a length that fits counts with its bits, text with one bit
/// per octet. A short unmasked binary frame counts nothing, because an MQTT SUBSCRIBE packet has
/// the same form.
pub fn detect(bytes: &[u8]) -> Detection {
    let limits = Limits::default();
    let mut rest = bytes;
    let mut bits = 0;
    let mut masked = None;
    loop {
        let is_first = rest.len() == bytes.len();
        match rest.first() {
            None => break,
            Some(&first) if is_first && (first < 0x80 || first & 0x0f == frame::CONTINUATION) => {
                return Detection::No;
            }
            Some(&first) if !resync::may_start(first) => return Detection::No,
            Some(_) => {}
        }
        let Some(header) = FrameHeader::parse(rest) else {
            return Detection::NeedMore;
        };
        if !header.is_plausible(masked, &limits) {
            return Detection::No;
        }
        if bits >= EVIDENCE_BITS {
            return Detection::Yes;
        }
        masked = Some(header.mask.is_some());
        let Ok(length) = u16::try_from(header.length) else {
            // Eight length octets, at least five of them zero, are enough evidence.
            return Detection::Yes;
        };
        let Some((payload, after)) = rest[header.size..].split_at_checked(length.into()) else {
            return Detection::NeedMore;
        };
        if !resync::Examined::new(usize::MAX, false).are_plausible(&header, payload) {
            return Detection::No;
        }
        bits += evidence(&header, payload.len());
        rest = after;
    }
    if bits >= EVIDENCE_BITS {
        Detection::Yes
    } else {
        Detection::NeedMore
    }
}

/// Returns the bits of evidence that this is a frame.
fn evidence(header: &FrameHeader, length: usize) -> usize {
    let is_extended = header.length >= 126;
    let is_text = header.opcode == frame::TEXT && !header.compressed;
    if header.opcode == frame::BINARY && header.mask.is_none() && !is_extended {
        return 0;
    }
    let length_bits = if is_extended { 7 + 16 } else { 7 };
    let content_bits = match header.opcode {
        _ if is_text => length,
        frame::CLOSE if length > 0 => CLOSE_BITS,
        _ => 0,
    };
    FIRST_OCTET_BITS + length_bits + content_bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_frames_from_other_protocols() {
        assert_eq!(detect(b"\x81\x0cHello, world"), Detection::Yes);
        assert_eq!(detect(b"\x89\0\x89\0"), Detection::Yes);
        assert_eq!(
            detect(b"\x82\x05\xff\xff\xff\xff\xff\x89\0\x88\x02\x03\xe8"),
            Detection::Yes
        );
        let long = [b"\x82\x7e\x01\x00", &[0xaa; 256][..]].concat();
        assert_eq!(detect(&long), Detection::Yes);
        assert_eq!(
            detect(b"\x81\x05\xff\xff\xff\xff\xff"),
            Detection::No,
            "not UTF-8"
        );
        for other in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\0\0\0\0\0\0\0\0\0\0",
            b"\0\0\x12\x04\0\0\0\0\0\0\0",
        ] {
            assert_eq!(detect(other), Detection::No, "{other:?}");
        }
    }

    #[test]
    fn subscribe_packets_are_not_evidence() {
        let subscribe = b"\x82\x0e\0\x01\0\x09sensors/#\0";
        assert_eq!(detect(&subscribe.repeat(20)), Detection::NeedMore);
        assert_eq!(detect(&[&subscribe[..], b"\xc0\0"].concat()), Detection::No);
    }

    #[test]
    fn one_short_frame_is_not_enough() {
        for frame in [
            &b"\x81\x05Hello"[..],
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
        ] {
            for length in 0..=frame.len() {
                assert_eq!(detect(&frame[..length]), Detection::NeedMore, "{length}");
            }
            assert_eq!(detect(&frame.repeat(2)), Detection::Yes);
        }
    }
}

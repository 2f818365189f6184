//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692), one direction of one connection.
//!
//! ```text
//!             first byte             last byte of the header
//!   Header ───────────────► Header ───────────────────────────► Payload
//!     ▲  ▲                    │                                  │  │
//!     │  └────────────────────┼────────── last payload byte ─────┘  │
//!     │                       │ impossible header, gap              │ gap beyond
//!     │ believable frames     ▼                                     │ the frame
//!     └──────────────────── Searching ◄─────────────────────────────┘
//! ```
//!
//! A gap that lies inside one frame's payload keeps the framing: only that message is marked.

mod assembly;
mod decoder;
mod frame;
mod inflate;
mod resync;

pub use decoder::WebSocketDecoder;

use crate::decoder::Detection;
use crate::limits::Limits;

/// Do these first bytes of an event start a WebSocket frame?
///
/// For a stream that is picked up in the middle; after a 101 response nobody needs to ask. `client`
/// says that the bytes come from the client, whose frames must be masked (RFC 6455 §5.1). The answer
/// is [`Yes`](Detection::Yes) for two frames in a row or for one that ends with the bytes.
pub fn detect(bytes: &[u8], client: bool) -> Detection {
    match bytes.first() {
        // The rest of a fragmented message is no good start.
        Some(first) if first & 0x0f == frame::CONTINUATION => Detection::No,
        _ => resync::verdict(
            bytes,
            resync::FRAMES_AT_EVENT_START,
            Some(client),
            &Limits::default(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_frames_from_other_protocols() {
        assert_eq!(detect(b"\x81\x05Hello", false), Detection::Yes);
        assert_eq!(
            detect(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", true),
            Detection::Yes
        );
        assert_eq!(detect(b"\x81\x05Hello", true), Detection::No, "clients mask");
        assert_eq!(
            detect(b"\x81\x05\xff\xff\xff\xff\xff", false),
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
            assert_eq!(detect(other, false), Detection::No, "{other:?}");
            assert_eq!(detect(other, true), Detection::No, "{other:?}");
        }
    }

    #[test]
    fn waits_on_every_prefix() {
        let frame = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        for length in 0..frame.len() {
            assert_eq!(detect(&frame[..length], true), Detection::NeedMore, "{length}");
        }
    }
}

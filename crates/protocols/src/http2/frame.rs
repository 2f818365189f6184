//! Frame headers (RFC 9113 §4.1 and §6) and what makes one believable.

/// Bytes of a frame header.
pub(super) const HEAD_BYTES: usize = 9;
/// The bytes that a client sends first (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame type octets (RFC 9113 §6).
pub(super) mod kind {
    pub(in crate::http2) const DATA: u8 = 0;
    pub(in crate::http2) const HEADERS: u8 = 1;
    pub(in crate::http2) const PRIORITY: u8 = 2;
    pub(in crate::http2) const RST_STREAM: u8 = 3;
    pub(in crate::http2) const SETTINGS: u8 = 4;
    pub(in crate::http2) const PUSH_PROMISE: u8 = 5;
    pub(in crate::http2) const PING: u8 = 6;
    pub(in crate::http2) const GOAWAY: u8 = 7;
    pub(in crate::http2) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::http2) const CONTINUATION: u8 = 9;
}

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Longest payloads accepted for frames found by searching. Real ones are far shorter; the limits
/// only reject chance hits.
const SEARCHED_DATA: u32 = 1 << 20;
const SEARCHED_BLOCK: u32 = 1 << 16;
const SEARCHED_SETTINGS: u32 = 16 * 6;
const SEARCHED_GOAWAY: u32 = 1024;
/// Longest payload accepted for an unknown frame type.
const UNKNOWN_TYPE_BYTES: u32 = 1 << 16;

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    reserved: bool,
}

impl FrameHead {
    pub(super) fn parse(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = *bytes;
        let stream = u32::from_be_bytes([s3, s2, s1, s0]);
        Self {
            length: u32::from_be_bytes([0, l2, l1, l0]),
            kind,
            flags,
            stream: stream & 0x7fff_ffff,
            reserved: stream >> 31 != 0,
        }
    }

    /// Reads the header at the start of `bytes`; `None` if it is incomplete.
    pub(super) fn at(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(Self::parse)
    }

    pub(super) fn ends_stream(self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END_STREAM != 0
    }

    pub(super) fn ends_headers(self) -> bool {
        self.flags & END_HEADERS != 0
    }

    pub(super) fn is_padded(self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS | kind::PUSH_PROMISE) && self.flags & PADDED != 0
    }

    pub(super) fn has_priority(self) -> bool {
        self.kind == kind::HEADERS && self.flags & PRIORITY != 0
    }

    pub(super) fn is_ack(self) -> bool {
        self.flags & ACK != 0
    }

    /// Returns true if the frame starts a field section.
    pub(super) fn opens_section(self) -> bool {
        matches!(self.kind, kind::HEADERS | kind::PUSH_PROMISE)
    }

    /// Returns the length of header and payload.
    pub(super) fn wire_len(self) -> usize {
        HEAD_BYTES + self.length as usize
    }

    /// Returns the header as on the wire.
    pub(super) fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let [_, l2, l1, l0] = self.length.to_be_bytes();
        let reserved = if self.reserved { 1 << 31 } else { 0 };
        let [s3, s2, s1, s0] = (self.stream | reserved).to_be_bytes();
        [l2, l1, l0, self.kind, self.flags, s3, s2, s1, s0]
    }

    /// Returns true for a frame of a known type whose only fault is its size (RFC 9113 §4.2): if no
    /// bytes are missing, its length still says where the next frame is.
    pub(super) fn has_wrong_length(self) -> bool {
        let on_stream = self.stream != 0;
        let is_in_place = match self.kind {
            kind::PRIORITY | kind::RST_STREAM | kind::PUSH_PROMISE => on_stream,
            kind::SETTINGS | kind::PING | kind::GOAWAY => !on_stream,
            kind::WINDOW_UPDATE => true,
            _ => false,
        };
        is_in_place && !self.reserved && !self.is_valid()
    }

    /// Checks the rules of RFC 9113 §6 on stream ids and lengths. A correct sender never breaks
    /// them, so bytes that do are not a frame header but something from the middle of other data.
    pub(super) fn is_valid(self) -> bool {
        let on_stream = self.stream != 0;
        let fits = match self.kind {
            kind::DATA | kind::HEADERS | kind::CONTINUATION => on_stream,
            kind::PRIORITY => on_stream && self.length == 5,
            kind::RST_STREAM => on_stream && self.length == 4,
            kind::SETTINGS => {
                !on_stream
                    && if self.is_ack() {
                        self.length == 0
                    } else {
                        self.length.is_multiple_of(6)
                    }
            }
            kind::PUSH_PROMISE => on_stream && self.length >= 4,
            kind::PING => !on_stream && self.length == 8,
            kind::GOAWAY => !on_stream && self.length >= 8,
            kind::WINDOW_UPDATE => self.length == 4,
            _ => self.length <= UNKNOWN_TYPE_BYTES,
        };
        fits && !self.reserved
    }

    /// Stricter than [`is_valid`](Self::is_valid), for headers found by searching: only known types
    /// with the flags that the RFC defines for them, and the lengths that senders use in practice.
    pub(super) fn is_plausible(self) -> bool {
        let (flags, longest) = match self.kind {
            kind::DATA => (END_STREAM | PADDED, SEARCHED_DATA),
            kind::HEADERS => (END_STREAM | END_HEADERS | PADDED | PRIORITY, SEARCHED_BLOCK),
            kind::SETTINGS => (ACK, SEARCHED_SETTINGS),
            kind::PING => (ACK, 8),
            kind::PUSH_PROMISE => (END_HEADERS | PADDED, SEARCHED_BLOCK),
            kind::CONTINUATION => (END_HEADERS, SEARCHED_BLOCK),
            kind::GOAWAY => (0, SEARCHED_GOAWAY),
            kind::PRIORITY | kind::RST_STREAM | kind::WINDOW_UPDATE => (0, 5),
            _ => return false,
        };
        // An empty DATA or HEADERS frame is only sent to end a stream.
        let says_something = self.length > 0 || self.kind == kind::SETTINGS || self.ends_stream();
        self.is_valid() && self.flags & !flags == 0 && self.length <= longest && says_something
    }
}

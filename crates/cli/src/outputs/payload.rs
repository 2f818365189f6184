//! The content of messages to a WebSocket server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tungstenite::Message;

/// The content of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Text: the record in base64 (RFC 4648, with padding), as the original sends it.
    Base64,
    /// Text: the record, a line, without its end.
    Line,
    /// Binary: the record.
    Binary,
    /// Binary: the record, a block of a file that is read from its beginning.
    Blocks,
    /// None: the record is a part of a document that only a file can be.
    Document,
}

impl Payload {
    pub(super) fn message(self, record: &[u8]) -> Message {
        match self {
            Self::Base64 => Message::text(STANDARD.encode(record)),
            Self::Binary | Self::Blocks | Self::Document => Message::binary(Bytes::copy_from_slice(record)),
            Self::Line => match str::from_utf8(record.strip_suffix(b"\n").unwrap_or(record)) {
                Ok(line) => Message::text(line),
                Err(_) => Message::binary(Bytes::copy_from_slice(record)),
            },
        }
    }
}

//! The records of a HAR document, as the format hands them to its target.
//!
//! An entry, and the document's beginning, are the bytes of the document. A WebSocket grows after its
//! entry was written, so its records have a line before these bytes:
//!
//! ```text
//! conversation CONNECTION STREAM client|server
//! message CONNECTION STREAM send|receive client|server BYTES
//! ```
//!
//! A conversation is an entry without its last bytes ([`CONVERSATION_END`]): messages follow. A message
//! begins with an entry of the same form, of so many bytes, for a conversation whose upgrade was not seen.

use std::fmt;

/// The first bytes of each document.
pub const BEGINNING: &[u8] = br#"{"log":{"version":"1.2","creator":{"name":"ecapture""#;
/// The last bytes of each document.
pub const END: &[u8] = b"\n]}}\n";
/// The end of an entry whose messages follow.
pub const CONVERSATION_OPEN: &[u8] = br#","_webSocketMessages":["#;
/// The same of an entry that goes on with messages of an earlier one.
pub const CONVERSATION_CONTINUES: &[u8] = br#","_continues":true,"_webSocketMessages":["#;
/// The end of an entry whose messages are complete.
pub const CONVERSATION_END: &[u8] = b"]}";

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// The document up to its first entry.
    Beginning(&'a [u8]),
    /// An entry.
    Entry(&'a [u8]),
    /// The entry of a WebSocket up to its messages.
    Conversation {
        /// The WebSocket.
        key: Key,
        /// The side that was captured.
        side: Side,
        /// The entry.
        entry: &'a [u8],
    },
    /// A message of a WebSocket.
    Message {
        /// The WebSocket.
        key: Key,
        /// The captured side sent it.
        sent: bool,
        /// The side that was captured, if no conversation says so.
        side: Side,
        /// The entry for it, if there is none.
        entry: &'a [u8],
        /// The message without its first member; see [`push_message`].
        message: &'a [u8],
    },
}

/// Identifies a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Number of its connection.
    pub connection: u64,
    /// Its HTTP/2 stream, or 0.
    pub stream: u32,
}

/// A side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It opened it.
    Client,
    /// It accepted it.
    Server,
}

impl<'a> Record<'a> {
    /// Reads a record that the format wrote.
    pub fn parse(record: &'a [u8]) -> Option<Self> {
        if record.starts_with(BEGINNING) {
            return Some(Self::Beginning(record));
        }
        if record.starts_with(b"{") {
            return Some(Self::Entry(record));
        }
        let end = memchr::memchr(b'\n', record)?;
        let (line, rest) = (str::from_utf8(&record[..end]).ok()?, &record[end + 1..]);
        let mut words = line.split(' ');
        let kind = words.next()?;
        let key = Key {
            connection: words.next()?.parse().ok()?,
            stream: words.next()?.parse().ok()?,
        };
        if kind == "conversation" {
            let side = Side::parse(words.next()?)?;
            return Some(Self::Conversation {
                key,
                side,
                entry: rest,
            });
        }
        let sent = words.next()? == "send";
        let side = Side::parse(words.next()?)?;
        let (entry, message) = rest.split_at_checked(words.next()?.parse().ok()?)?;
        Some(Self::Message {
            key,
            sent,
            side,
            entry,
            message,
        })
    }
}

impl Side {
    fn parse(word: &str) -> Option<Self> {
        [Self::Client, Self::Server]
            .into_iter()
            .find(|side| side.as_str() == word)
    }

    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.connection, self.stream)
    }
}

/// Appends a message as the client sees it: a browser's documents are those of a client.
pub fn push_message(sent: bool, side: Side, message: &[u8], out: &mut Vec<u8>) {
    let is_from_client = sent == (side == Side::Client);
    let kind: &[u8] = if is_from_client {
        br#"{"type":"send","#
    } else {
        br#"{"type":"receive","#
    };
    out.extend_from_slice(kind);
    out.extend_from_slice(message);
}

//! The handshake messages that a bystander needs: who is who, which suite, which version.

use super::key_log::Random;

/// Types of messages (RFC 8446 §4).
pub(super) mod kind {
    pub(in crate::tls) const CLIENT_HELLO: u8 = 1;
    pub(in crate::tls) const SERVER_HELLO: u8 = 2;
    pub(in crate::tls) const END_OF_EARLY_DATA: u8 = 5;
    pub(in crate::tls) const FINISHED: u8 = 20;
    pub(in crate::tls) const KEY_UPDATE: u8 = 24;
}

/// Longest body of a message that is kept; only hellos are.
const HELLO_BYTES: usize = 64 * 1024;
/// The random of a HelloRetryRequest (RFC 8446 §4.1.3).
const RETRY: Random = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91, 0xC2,
    0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];
const ENCRYPT_THEN_MAC: u16 = 22;
const SUPPORTED_VERSIONS: u16 = 43;
const EARLY_DATA: u16 = 42;

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    ClientHello {
        random: Random,
        /// Data may follow before the server has said anything.
        early_data: bool,
    },
    ServerHello(ServerHello),
    /// The client is to begin again.
    HelloRetryRequest,
    EndOfEarlyData,
    Finished,
    KeyUpdate,
    /// One that changes nothing.
    Other,
    /// A hello that is not one.
    Malformed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerHello {
    pub(super) random: Random,
    pub(super) version: u16,
    pub(super) suite: u16,
    pub(super) encrypt_then_mac: bool,
}

/// Puts messages together from the handshake records of one direction.
#[derive(Debug, Default)]
pub(super) struct Messages {
    header: Vec<u8>,
    /// Of the message's body.
    body: Vec<u8>,
    missing: usize,
}

impl Messages {
    /// Reads on; calls `found` for each message as it is complete.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(Message)) {
        while !bytes.is_empty() {
            if self.header.len() < 4 {
                let (taken, rest) = bytes.split_at(bytes.len().min(4 - self.header.len()));
                self.header.extend_from_slice(taken);
                bytes = rest;
                let Some(&[_, high, middle, low]) = self.header.first_chunk::<4>() else {
                    return;
                };
                self.missing = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.body.clear();
            }
            let (taken, rest) = bytes.split_at(bytes.len().min(self.missing));
            let is_hello = matches!(self.header[0], kind::CLIENT_HELLO | kind::SERVER_HELLO);
            if is_hello && self.body.len() < HELLO_BYTES {
                self.body.extend_from_slice(taken);
            }
            self.missing -= taken.len();
            bytes = rest;
            if self.missing == 0 {
                found(message(self.header[0], &self.body));
                self.header.clear();
            }
        }
    }

    /// Forgets an unfinished message.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn message(kind: u8, body: &[u8]) -> Message {
    match kind {
        kind::CLIENT_HELLO => client_hello(body).unwrap_or(Message::Malformed),
        kind::SERVER_HELLO => server_hello(body).unwrap_or(Message::Malformed),
        kind::END_OF_EARLY_DATA => Message::EndOfEarlyData,
        kind::FINISHED => Message::Finished,
        kind::KEY_UPDATE => Message::KeyUpdate,
        _ => Message::Other,
    }
}

/// RFC 8446 §4.1.2.
fn client_hello(body: &[u8]) -> Option<Message> {
    let mut fields = Fields(body);
    fields.number(2)?;
    let random = *fields.take(32)?.first_chunk()?;
    fields.vector(1)?;
    fields.vector(2)?;
    fields.vector(1)?;
    let early_data = extensions(fields).any(|(kind, _)| kind == EARLY_DATA);
    Some(Message::ClientHello { random, early_data })
}

/// RFC 8446 §4.1.3.
fn server_hello(body: &[u8]) -> Option<Message> {
    let mut fields = Fields(body);
    let mut version = fields.number(2)?;
    let random: Random = *fields.take(32)?.first_chunk()?;
    if random == RETRY {
        return Some(Message::HelloRetryRequest);
    }
    fields.vector(1)?;
    let suite = fields.number(2)?;
    fields.number(1)?;
    let mut encrypt_then_mac = false;
    for (kind, value) in extensions(fields) {
        match (kind, value) {
            (SUPPORTED_VERSIONS, &[high, low]) => version = u16::from_be_bytes([high, low]).into(),
            (ENCRYPT_THEN_MAC, _) => encrypt_then_mac = true,
            _ => {}
        }
    }
    Some(Message::ServerHello(ServerHello {
        random,
        version: u16::try_from(version).ok()?,
        suite: u16::try_from(suite).ok()?,
        encrypt_then_mac,
    }))
}

/// The extensions, if there are any.
fn extensions(mut fields: Fields<'_>) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = Fields(fields.vector(2).unwrap_or_default());
    std::iter::from_fn(move || {
        let kind = u16::try_from(rest.number(2)?).ok()?;
        Some((kind, rest.vector(2)?))
    })
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, length: usize) -> Option<u32> {
        let bytes = self.take(length)?;
        Some(
            bytes
                .iter()
                .fold(0, |number, &byte| number << 8 | u32::from(byte)),
        )
    }

    /// A value with its length, a number of `length` bytes, before it.
    fn vector(&mut self, length: usize) -> Option<&'a [u8]> {
        let length = self.number(length)? as usize;
        self.take(length)
    }
}

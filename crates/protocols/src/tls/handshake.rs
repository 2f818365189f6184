//! The handshake messages that a bystander needs: who is who, which suite, which version.

use crate::hello::{Choice, ClientHello, Random, ServerHello as Hello};

/// Types of messages (RFC 8446 §4).
pub(super) mod kind {
    pub(in crate::tls) use crate::hello::{CLIENT_HELLO, SERVER_HELLO};
    pub(in crate::tls) const END_OF_EARLY_DATA: u8 = 5;
    pub(in crate::tls) const FINISHED: u8 = 20;
    pub(in crate::tls) const KEY_UPDATE: u8 = 24;
}

/// Longest body of a message that is kept; only hellos are.
const HELLO_BYTES: usize = 64 * 1024;

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

fn client_hello(body: &[u8]) -> Option<Message> {
    let hello = ClientHello::read(body)?;
    Some(Message::ClientHello {
        random: hello.random,
        early_data: hello.offers_early_data()?,
    })
}

fn server_hello(body: &[u8]) -> Option<Message> {
    let hello = Hello::read(body)?;
    if hello.asks_again() {
        return Some(Message::HelloRetryRequest);
    }
    let Choice {
        version,
        suite,
        encrypt_then_mac,
    } = hello.choice()?;
    Some(Message::ServerHello(ServerHello {
        random: hello.random,
        version,
        suite,
        encrypt_then_mac,
    }))
}

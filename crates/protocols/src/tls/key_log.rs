//! Secrets by connection: the NSS key log format (draft-ietf-tls-keylogfile).

use std::collections::HashMap;

use crate::limits::KEY_LOG_SECRETS;

/// The random of a ClientHello, by which a connection is found in the log.
pub(super) type Random = [u8; 32];

/// What a secret is for. Those of other labels decrypt no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Label {
    /// The master secret of TLS 1.2.
    Master,
    ClientEarly,
    ClientHandshake,
    ServerHandshake,
    Client,
    Server,
}

impl Label {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"CLIENT_RANDOM" => Self::Master,
            b"CLIENT_EARLY_TRAFFIC_SECRET" => Self::ClientEarly,
            b"CLIENT_HANDSHAKE_TRAFFIC_SECRET" => Self::ClientHandshake,
            b"SERVER_HANDSHAKE_TRAFFIC_SECRET" => Self::ServerHandshake,
            b"CLIENT_TRAFFIC_SECRET_0" => Self::Client,
            b"SERVER_TRAFFIC_SECRET_0" => Self::Server,
            _ => return None,
        })
    }
}

/// Longest secret: the output of SHA-384.
const SECRET: usize = 48;

/// A secret of 32 or 48 bytes.
#[derive(Clone, Copy)]
pub(super) struct Secret {
    bytes: [u8; SECRET],
    length: u8,
}

impl Secret {
    pub(super) fn new(value: &[u8]) -> Option<Self> {
        let mut bytes = [0; SECRET];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        let length = u8::try_from(value.len()).ok()?;
        Some(Self { bytes, length })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The secrets of a key log.
#[derive(Default)]
pub struct KeyLog {
    secrets: HashMap<(Random, Label), Secret>,
}

/// What was in the lines of a key log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// Lines with a secret that decrypts records.
    pub secrets: u64,
    /// Lines that are not of the format.
    pub malformed: u64,
    /// Secrets beyond the limit.
    pub refused: u64,
}

impl KeyLog {
    /// Adds all secrets of `lines`. Comments, empty lines and other labels are skipped.
    pub fn add(&mut self, lines: &[u8]) -> Added {
        let mut added = Added::default();
        for line in lines.split(|&byte| byte == b'\n') {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            match self.add_line(line) {
                Line::Secret => added.secrets += 1,
                Line::Other => {}
                Line::Malformed => added.malformed += 1,
                Line::Refused => added.refused += 1,
            }
        }
        added
    }

    /// Returns true if there is no secret.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    pub(super) fn get(&self, random: &Random, label: Label) -> Option<Secret> {
        self.secrets.get(&(*random, label)).copied()
    }

    fn add_line(&mut self, line: &[u8]) -> Line {
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let (Some(label), Some(random), Some(secret)) = (words.next(), words.next(), words.next()) else {
            return Line::Malformed;
        };
        let is_label = label
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let mut bytes = [0; SECRET];
        let mut hello = [0; 32];
        let (Some(32), Some(length)) = (from_hex(random, &mut hello), from_hex(secret, &mut bytes)) else {
            // The labels of RSA have less before the secret, and Wireshark's own have other forms.
            return if is_label && Label::named(label).is_none() {
                Line::Other
            } else {
                Line::Malformed
            };
        };
        let Some(label) = Label::named(label) else {
            return if is_label { Line::Other } else { Line::Malformed };
        };
        let Some(secret) = Secret::new(&bytes[..length]) else {
            return Line::Malformed;
        };
        if self.secrets.len() >= KEY_LOG_SECRETS && !self.secrets.contains_key(&(hello, label)) {
            return Line::Refused;
        }
        self.secrets.insert((hello, label), secret);
        Line::Secret
    }
}

impl std::fmt::Debug for KeyLog {
    /// Secrets do not belong into logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "KeyLog({} secrets)", self.secrets.len())
    }
}

enum Line {
    Secret,
    Other,
    Malformed,
    Refused,
}

/// Writes the bytes of `digits` to the beginning of `out`; returns how many. `None` if they are not
/// hexadecimal or too many.
fn from_hex(digits: &[u8], out: &mut [u8]) -> Option<usize> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let out = out.get_mut(..pairs.len())?;
    if !rest.is_empty() || pairs.is_empty() {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    for (byte, &[high, low]) in out.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(pairs.len())
}

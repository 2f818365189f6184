//! Opens records of one direction.

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::cbc::Cbc;
use super::derive::{expand_label, updated};
use super::record::HEADER;
use super::suite::{Algorithm, Suite};
use crate::event::SecretValue;

const TAG: usize = 16;
/// RFC 5288 §3: the part of the nonce that is in each record.
const EXPLICIT_NONCE: usize = 8;

/// The keys of one direction, and the number of the next record.
pub(super) struct Cipher {
    kind: Kind,
    sequence: u64,
}

enum Kind {
    /// TLS 1.3.
    Traffic {
        suite: Suite,
        secret: SecretValue,
        key: LessSafeKey,
        iv: [u8; 12],
    },
    /// TLS 1.2 with AEAD.
    Aead {
        key: LessSafeKey,
        iv: [u8; 12],
        /// The last bytes of the nonce are in each record.
        explicit: bool,
    },
    /// TLS 1.2 with CBC.
    Cbc(Cbc),
}

impl Cipher {
    /// Keys of a traffic secret of TLS 1.3. `None` if the secret does not fit the suite.
    pub(super) fn traffic(suite: Suite, secret: SecretValue) -> Option<Self> {
        let mut key = [0; 32];
        let key = &mut key[..key_length(suite.algorithm)];
        let mut iv = [0; 12];
        let is_expanded = expand_label(suite.hash, &secret, b"key", key)
            && expand_label(suite.hash, &secret, b"iv", &mut iv);
        if !is_expanded {
            return None;
        }
        Some(Self {
            kind: Kind::Traffic {
                suite,
                secret,
                key: aead(suite.algorithm, key)?,
                iv,
            },
            sequence: 0,
        })
    }

    /// Keys of TLS 1.2, taken from the key block (RFC 5246 §6.3).
    pub(super) fn of_block(suite: Suite, parts: &BlockParts<'_>, encrypt_then_mac: bool) -> Option<Self> {
        let kind = if let Algorithm::Cbc { mac, .. } = suite.algorithm {
            Kind::Cbc(Cbc::new(parts.key, mac, parts.mac, encrypt_then_mac)?)
        } else {
            let mut iv = [0; 12];
            iv.get_mut(..parts.iv.len())?.copy_from_slice(parts.iv);
            Kind::Aead {
                key: aead(suite.algorithm, parts.key)?,
                iv,
                explicit: parts.iv.len() < 12,
            }
        };
        Some(Self { kind, sequence: 0 })
    }

    /// The keys after a KeyUpdate; `None` in TLS 1.2, which has none.
    pub(super) fn next_generation(&self) -> Option<Self> {
        match &self.kind {
            Kind::Traffic { suite, secret, .. } => Self::traffic(*suite, updated(suite.hash, secret)?),
            Kind::Aead { .. } | Kind::Cbc(_) => None,
        }
    }

    /// Opens a record in its place, header and all, as the one `ahead` records after the expected one.
    /// Returns its type and where its content is. If it is not that record, `record` is what it was.
    pub(super) fn open(&mut self, record: &mut [u8], ahead: u64) -> Option<(u8, std::ops::Range<usize>)> {
        let sequence = self.sequence.checked_add(ahead)?;
        let opened = match &self.kind {
            Kind::Traffic { key, iv, .. } => open_traffic(key, iv, sequence, record),
            Kind::Aead { key, iv, explicit } => open_aead(key, *iv, *explicit, sequence, record),
            Kind::Cbc(keys) => keys.open(sequence, record).map(|range| (record[0], range)),
        }?;
        self.sequence = sequence.checked_add(1)?;
        Some(opened)
    }

    /// Counts a record that cannot be opened because bytes of it are missing.
    pub(super) const fn skip(&mut self) {
        self.sequence = self.sequence.saturating_add(1);
    }

    /// The bytes of content that a record of `length` bytes after its header has, if it has no padding of
    /// its own. Unknown with CBC, where all have.
    pub(super) const fn content_length(&self, length: usize) -> Option<usize> {
        let overhead = match &self.kind {
            Kind::Traffic { .. } => TAG + 1,
            Kind::Aead { explicit: true, .. } => TAG + EXPLICIT_NONCE,
            Kind::Aead { explicit: false, .. } => TAG,
            Kind::Cbc(_) => return None,
        };
        Some(length.saturating_sub(overhead))
    }

    /// Returns true for TLS 1.3.
    pub(super) const fn is_traffic(&self) -> bool {
        matches!(self.kind, Kind::Traffic { .. })
    }
}

pub(super) const fn key_length(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Aes128Gcm => 16,
        Algorithm::Aes256Gcm | Algorithm::ChaCha20Poly1305 => 32,
        Algorithm::Cbc { key, .. } => key,
    }
}

fn aead(algorithm: Algorithm, key: &[u8]) -> Option<LessSafeKey> {
    let algorithm = match algorithm {
        Algorithm::Aes128Gcm => &AES_128_GCM,
        Algorithm::Aes256Gcm => &AES_256_GCM,
        Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        Algorithm::Cbc { .. } => return None,
    };
    UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new)
}

/// RFC 8446 §5.2: the type is behind the content and before the padding.
fn open_traffic(
    key: &LessSafeKey,
    iv: &[u8; 12],
    sequence: u64,
    record: &mut [u8],
) -> Option<(u8, std::ops::Range<usize>)> {
    let (header, body) = record.split_at_mut_checked(HEADER)?;
    let opened = open_in_place(key, nonce(iv, sequence), header, body)?;
    let inner = body.get(..opened)?;
    let end = inner.iter().rposition(|&byte| byte != 0)?;
    Some((inner[end], HEADER..HEADER + end))
}

/// RFC 5246 §6.2.3.3, RFC 5288 §3, RFC 7905 §2.
fn open_aead(
    key: &LessSafeKey,
    mut iv: [u8; 12],
    explicit: bool,
    sequence: u64,
    record: &mut [u8],
) -> Option<(u8, std::ops::Range<usize>)> {
    let (header, body) = record.split_at_mut_checked(HEADER)?;
    let (start, nonce) = if explicit {
        iv[4..].copy_from_slice(body.get(..EXPLICIT_NONCE)?);
        (EXPLICIT_NONCE, iv)
    } else {
        (0, nonce(&iv, sequence))
    };
    let length = u16::try_from(body.len().checked_sub(start + TAG)?).ok()?;
    let mut additional = [0; 13];
    additional[..8].copy_from_slice(&sequence.to_be_bytes());
    additional[8..11].copy_from_slice(&header[..3]);
    additional[11..].copy_from_slice(&length.to_be_bytes());
    let kind = header[0];
    let opened = open_in_place(key, nonce, &additional, &mut body[start..])?;
    Some((kind, HEADER + start..HEADER + start + opened))
}

fn nonce(iv: &[u8; 12], sequence: u64) -> [u8; 12] {
    let mut nonce = *iv;
    for (byte, number) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= number;
    }
    nonce
}

/// Opens `body` in its place and returns the length of what was in it. A failure leaves nothing of `body`, so
/// it is put back.
fn open_in_place(key: &LessSafeKey, nonce: [u8; 12], additional: &[u8], body: &mut [u8]) -> Option<usize> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let before = body.to_vec();
    let opened = key.open_in_place(nonce, Aad::from(additional), body);
    let opened = opened.ok().map(|opened| opened.len());
    if opened.is_none() {
        body.copy_from_slice(&before);
    }
    opened
}

impl std::fmt::Debug for Cipher {
    /// Keys do not belong into logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Cipher(next record {})", self.sequence)
    }
}

/// The parts of the key block of one direction.
pub(super) struct BlockParts<'a> {
    pub(super) mac: &'a [u8],
    pub(super) key: &'a [u8],
    pub(super) iv: &'a [u8],
}

/// The lengths of these parts: of the MAC's key, of the key, and of what is fixed in nonces.
pub(super) const fn block_lengths(suite: Suite) -> (usize, usize, usize) {
    let (mac, iv) = match suite.algorithm {
        Algorithm::ChaCha20Poly1305 => (0, 12),
        Algorithm::Aes128Gcm | Algorithm::Aes256Gcm => (0, 4),
        // The IV is in each record.
        Algorithm::Cbc { mac, .. } => (mac.length(), 0),
    };
    (mac, key_length(suite.algorithm), iv)
}

//! Cipher suites (the registry of TLS Cipher Suites) that can be decrypted.

use super::derive::Hash;

/// How records are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    /// AES in CBC mode with a MAC.
    Cbc {
        key: usize,
        mac: Mac,
    },
}

/// The hash of a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mac {
    Sha1,
    Sha256,
    Sha384,
}

impl Mac {
    /// Of a key, and of the result.
    pub(super) const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

/// A cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) algorithm: Algorithm,
    pub(super) hash: Hash,
}

/// The numbers of the suites of each kind.
const SUITES: [(&[u16], Algorithm, Hash); 8] = [
    (&AES_128_GCM, Algorithm::Aes128Gcm, Hash::Sha256),
    (&AES_256_GCM, Algorithm::Aes256Gcm, Hash::Sha384),
    (&CHACHA20, Algorithm::ChaCha20Poly1305, Hash::Sha256),
    (&AES_128_SHA, cbc(16, Mac::Sha1), Hash::Sha256),
    (&AES_256_SHA, cbc(32, Mac::Sha1), Hash::Sha256),
    (&AES_128_SHA256, cbc(16, Mac::Sha256), Hash::Sha256),
    (&AES_256_SHA256, cbc(32, Mac::Sha256), Hash::Sha256),
    (&AES_256_SHA384, cbc(32, Mac::Sha384), Hash::Sha384),
];
const AES_128_GCM: [u16; 13] = [
    0x1301, 0x009C, 0x009E, 0x00A0, 0x00A2, 0x00A4, 0x00A6, 0x00A8, 0x00AA, 0x00AC, 0xC02B, 0xC02F, 0xD001,
];
const AES_256_GCM: [u16; 13] = [
    0x1302, 0x009D, 0x009F, 0x00A1, 0x00A3, 0x00A5, 0x00A7, 0x00A9, 0x00AB, 0x00AD, 0xC02C, 0xC030, 0xD002,
];
const CHACHA20: [u16; 8] = [0x1303, 0xCCA8, 0xCCA9, 0xCCAA, 0xCCAB, 0xCCAC, 0xCCAD, 0xCCAE];
const AES_128_SHA: [u16; 11] = [
    0x002F, 0x0030, 0x0031, 0x0032, 0x0033, 0x0034, 0x008C, 0xC009, 0xC013, 0xC018, 0xC035,
];
const AES_256_SHA: [u16; 11] = [
    0x0035, 0x0036, 0x0037, 0x0038, 0x0039, 0x003A, 0x008D, 0xC00A, 0xC014, 0xC019, 0xC036,
];
const AES_128_SHA256: [u16; 8] = [0x003C, 0x003E, 0x003F, 0x0040, 0x0067, 0x006C, 0xC023, 0xC027];
const AES_256_SHA256: [u16; 6] = [0x003D, 0x0068, 0x0069, 0x006A, 0x006B, 0x006D];
const AES_256_SHA384: [u16; 3] = [0xC024, 0xC028, 0xC038];

const fn cbc(key: usize, mac: Mac) -> Algorithm {
    Algorithm::Cbc { key, mac }
}

impl Suite {
    pub(super) fn of(number: u16) -> Option<Self> {
        let row = SUITES.iter().find(|(numbers, ..)| numbers.contains(&number));
        row.map(|&(_, algorithm, hash)| Self { algorithm, hash })
    }
}

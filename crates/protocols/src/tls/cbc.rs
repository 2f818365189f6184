//! AES in CBC mode with a MAC: RFC 5246 §6.2.3.2, and RFC 7366 where the MAC is over what is encrypted.

use std::ops::Range;

use aes::cipher::{BlockCipherDecrypt as _, KeyInit as _};
use aes::{Aes128, Aes256};
use ring::hmac;

use super::record::HEADER;
use super::suite::Mac;

const BLOCK: usize = 16;

/// The keys of one direction.
pub(super) struct Cbc {
    key: Key,
    mac: hmac::Key,
    mac_length: usize,
    encrypt_then_mac: bool,
}

enum Key {
    Aes128(Box<Aes128>),
    Aes256(Box<Aes256>),
}

impl Cbc {
    pub(super) fn new(key: &[u8], mac: Mac, mac_key: &[u8], encrypt_then_mac: bool) -> Option<Self> {
        let algorithm = match mac {
            Mac::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Mac::Sha256 => hmac::HMAC_SHA256,
            Mac::Sha384 => hmac::HMAC_SHA384,
        };
        let key = match key.len() {
            16 => Key::Aes128(Box::new(Aes128::new_from_slice(key).ok()?)),
            _ => Key::Aes256(Box::new(Aes256::new_from_slice(key).ok()?)),
        };
        Some(Self {
            key,
            mac: hmac::Key::new(algorithm, mac_key),
            mac_length: mac.length(),
            encrypt_then_mac,
        })
    }

    /// Opens a record in its place; returns where its content is. If it cannot be opened, it is what it was.
    pub(super) fn open(&self, sequence: u64, record: &mut [u8]) -> Option<Range<usize>> {
        let (header, body) = record.split_at_mut_checked(HEADER)?;
        let mut end = body.len();
        if self.encrypt_then_mac {
            end = end.checked_sub(self.mac_length)?;
            self.verify(sequence, header, &body[..end], &body[end..])?;
        }
        let (iv, rest) = body[..end].split_at_mut_checked(BLOCK)?;
        let before = rest.to_vec();
        self.decrypt(iv, rest)?;
        let found = self.content(sequence, header, rest);
        if found.is_none() {
            rest.copy_from_slice(&before);
        }
        Some(HEADER + BLOCK..HEADER + BLOCK + found?)
    }

    /// The length of the content of decrypted blocks, without MAC and padding.
    fn content(&self, sequence: u64, header: &[u8], opened: &[u8]) -> Option<usize> {
        let (&length, rest) = opened.split_last()?;
        let padding = rest.len().checked_sub(length.into())?;
        if rest[padding..].iter().any(|&byte| byte != length) {
            return None;
        }
        if self.encrypt_then_mac {
            return Some(padding);
        }
        let content = padding.checked_sub(self.mac_length)?;
        self.verify(sequence, header, &opened[..content], &opened[content..padding])?;
        Some(content)
    }

    fn verify(&self, sequence: u64, header: &[u8], content: &[u8], mac: &[u8]) -> Option<()> {
        let mut signed = hmac::Context::with_key(&self.mac);
        signed.update(&sequence.to_be_bytes());
        signed.update(&header[..3]);
        signed.update(&u16::try_from(content.len()).ok()?.to_be_bytes());
        signed.update(content);
        (signed.sign().as_ref() == mac).then_some(())
    }

    fn decrypt(&self, iv: &[u8], blocks: &mut [u8]) -> Option<()> {
        let mut last = *iv.first_chunk::<BLOCK>()?;
        let (blocks, rest) = blocks.as_chunks_mut::<BLOCK>();
        if !rest.is_empty() || blocks.is_empty() {
            return None;
        }
        for block in blocks {
            let encrypted = *block;
            match &self.key {
                Key::Aes128(key) => key.decrypt_block(block.into()),
                Key::Aes256(key) => key.decrypt_block(block.into()),
            }
            for (byte, mask) in block.iter_mut().zip(last) {
                *byte ^= mask;
            }
            last = encrypted;
        }
        Some(())
    }
}

//! Keys from secrets: HKDF-Expand-Label (RFC 8446 §7.1) and the PRF of TLS 1.2 (RFC 5246 §5).

use ring::{hkdf, hmac};

use crate::event::SecretValue;

/// The hash of a cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
}

impl Hash {
    pub(super) const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Fills `out` from a traffic secret; false if the secret is not of this hash.
pub(super) fn expand_label(hash: Hash, secret: &SecretValue, label: &[u8], out: &mut [u8]) -> bool {
    if secret.as_bytes().len() != hash.length() {
        return false;
    }
    let algorithm = match hash {
        Hash::Sha256 => hkdf::HKDF_SHA256,
        Hash::Sha384 => hkdf::HKDF_SHA384,
    };
    let (Ok(length), Ok(label_length)) = (u16::try_from(out.len()), u8::try_from(label.len() + 6)) else {
        return false;
    };
    let prk = hkdf::Prk::new_less_safe(algorithm, secret.as_bytes());
    let info = [&length.to_be_bytes()[..], &[label_length], b"tls13 ", label, &[0]];
    prk.expand(&info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .is_ok()
}

/// The secret after a KeyUpdate (RFC 8446 §7.2).
pub(super) fn updated(hash: Hash, secret: &SecretValue) -> Option<SecretValue> {
    let mut next = [0; 48];
    let next = &mut next[..hash.length()];
    expand_label(hash, secret, b"traffic upd", next)
        .then(|| SecretValue::new(next))
        .flatten()
}

/// P_hash: fills `out` from a master secret.
pub(super) fn prf(hash: Hash, secret: &[u8], label: &[u8], seed: &[&[u8]], out: &mut [u8]) {
    let algorithm = match hash {
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha384 => hmac::HMAC_SHA384,
    };
    let key = hmac::Key::new(algorithm, secret);
    let seeded = |first: Option<&[u8]>| {
        let mut context = hmac::Context::with_key(&key);
        for part in first.iter().chain([&label]).chain(seed) {
            context.update(part);
        }
        context.sign()
    };
    let mut a = seeded(None);
    for chunk in out.chunks_mut(hash.length()) {
        let block = seeded(Some(a.as_ref()));
        chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
        a = hmac::sign(&key, a.as_ref());
    }
}

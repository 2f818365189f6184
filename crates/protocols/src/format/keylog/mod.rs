//! Key logs as NSS introduced them (RFC 9850): a line for each secret, which Wireshark decrypts with.
//!
//! ```text
//! CLIENT_HANDSHAKE_TRAFFIC_SECRET <client random, 64 hexadecimal digits> <secret, hexadecimal digits>
//! ```

use std::sync::Arc;

use super::EventFormat;
use super::audit::Audit;
use crate::event::{CLIENT_RANDOM_BYTES, CapturedEvent, Fact, Secret, SecretLabel, SecretValue};

/// Key logs as an output: the secrets among the events, one line for each.
#[derive(Debug, Clone, Default)]
pub struct KeyLog {
    /// The start of the file, a comment.
    pub audit: Option<Arc<Audit>>,
}

impl EventFormat for KeyLog {
    fn begin(&self, out: &mut Vec<u8>) {
        if let Some(audit) = &self.audit {
            out.extend_from_slice(b"# ");
            out.extend_from_slice(audit.comment().as_bytes());
            out.push(b'\n');
        }
    }

    fn takes(&self, event: &CapturedEvent) -> bool {
        secret_of(event).is_some()
    }

    fn write(&self, event: &CapturedEvent, out: &mut Vec<u8>) {
        if let Some(secret) = secret_of(event) {
            write(secret, out);
        }
    }
}

fn secret_of(event: &CapturedEvent) -> Option<&Secret> {
    match event {
        CapturedEvent::Observed(observed) => match &observed.fact {
            Fact::Secret(secret) => Some(secret),
            Fact::Process(_) | Fact::ShellCommand(_) | Fact::Sql(_) | Fact::Packets(_) => None,
        },
        CapturedEvent::Data(_) | CapturedEvent::Close { .. } => None,
    }
}

/// Appends `secret` as one line with its LF.
pub fn write(secret: &Secret, out: &mut Vec<u8>) {
    out.extend_from_slice(secret.label.as_str().as_bytes());
    out.push(b' ');
    push_digits(&secret.client_random, out);
    out.push(b' ');
    push_digits(secret.value.as_bytes(), out);
    out.push(b'\n');
}

/// Returns `secret` as a line without its LF.
pub(crate) fn line(secret: &Secret) -> String {
    let mut line = Vec::with_capacity(256);
    write(secret, &mut line);
    line.pop();
    String::from_utf8(line).expect("labels and digits are ASCII")
}

/// Why a line of a key log is not a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyLogError {
    /// The line has less than three words.
    #[error("expected LABEL CLIENT_RANDOM SECRET, observed {words} words")]
    Words {
        /// Words of the line.
        words: usize,
    },
    /// No secret that is known here has that label.
    #[error("the label is not one of TLS 1.2 or 1.3")]
    Label,
    /// The second word is not a client random.
    #[error("the client random is not 64 hexadecimal digits")]
    ClientRandom,
    /// The third word is not a secret.
    #[error("the secret is not 2 to 128 hexadecimal digits")]
    Secret,
}

/// Reads a line of a key log. `Ok(None)` if it is empty or a comment. What follows the secret is passed over.
pub fn parse(line: &[u8]) -> Result<Option<Secret>, KeyLogError> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let words = || line.split(is_space).filter(|word| !word.is_empty());
    let mut first = words();
    let (Some(label), Some(random), Some(value)) = (first.next(), first.next(), first.next()) else {
        return Err(KeyLogError::Words {
            words: words().count(),
        });
    };
    let label = SecretLabel::of(label).ok_or(KeyLogError::Label)?;
    let mut client_random = [0; CLIENT_RANDOM_BYTES];
    if read_digits(random, &mut client_random) != Some(CLIENT_RANDOM_BYTES) {
        return Err(KeyLogError::ClientRandom);
    }
    let mut bytes = [0; SecretValue::LONGEST];
    let value = read_digits(value, &mut bytes).and_then(|length| SecretValue::new(&bytes[..length]));
    Ok(Some(Secret {
        label,
        client_random,
        value: value.ok_or(KeyLogError::Secret)?,
    }))
}

fn push_digits(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Reads pairs of hexadecimal digits. Returns how many bytes they are; `None` if they do not fit or there is anything
/// else.
fn read_digits(digits: &[u8], bytes: &mut [u8]) -> Option<usize> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let bytes = bytes.get_mut(..pairs.len())?;
    let digit = |digit: u8| char::from(digit).to_digit(16);
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    }
    Some(pairs.len())
}

#[cfg(test)]
mod tests;

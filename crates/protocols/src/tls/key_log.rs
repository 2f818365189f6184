//! Secrets by connection, as key logs have them.

use std::collections::HashMap;

use crate::event::{SecretLabel, SecretValue};
use crate::format::keylog::{self, KeyLogError};
use crate::hello::Random;
use crate::limits::KEY_LOG_SECRETS;

/// The secrets of a key log, by the random of the ClientHello.
#[derive(Default)]
pub struct KeyLog {
    secrets: HashMap<(Random, SecretLabel), SecretValue>,
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
            self.add_line(line, &mut added);
        }
        added
    }

    /// Returns true if there is no secret.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    pub(super) fn get(&self, random: &Random, label: SecretLabel) -> Option<SecretValue> {
        self.secrets.get(&(*random, label)).copied()
    }

    fn add_line(&mut self, line: &[u8], added: &mut Added) {
        let secret = match keylog::parse(line) {
            Ok(Some(secret)) if secret.label.decrypts() => secret,
            Ok(_) => return,
            // Those of RSA, and Wireshark's own.
            Err(KeyLogError::Label) if begins_with_label(line) => return,
            Err(_) => {
                added.malformed += 1;
                return;
            }
        };
        let key = (secret.client_random, secret.label);
        if self.secrets.len() >= KEY_LOG_SECRETS && !self.secrets.contains_key(&key) {
            added.refused += 1;
            return;
        }
        self.secrets.insert(key, secret.value);
        added.secrets += 1;
    }
}

impl std::fmt::Debug for KeyLog {
    /// Secrets do not belong into logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "KeyLog({} secrets)", self.secrets.len())
    }
}

/// Returns true if the first word of a line could be a label.
fn begins_with_label(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let mut word = line.iter().take_while(|byte| !byte.is_ascii_whitespace());
    word.all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

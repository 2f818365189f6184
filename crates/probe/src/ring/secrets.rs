//! Which secrets were observed already: both ends of a connection may be on this host, and a secret may be derived
//! more than once.

use std::collections::{HashMap, VecDeque};

use ecapture_protocols::Secret;

/// Handshakes that are remembered, about 5 MB. The oldest is forgotten first; if one of its secrets is derived again,
/// it is observed twice.
const HANDSHAKES: usize = 64 * 1024;

/// The handshakes whose secrets were observed, by client random.
#[derive(Default)]
pub(crate) struct KnownSecrets {
    /// A bit for each label.
    labels: HashMap<[u8; 32], u16>,
    order: VecDeque<[u8; 32]>,
}

/// What is new about a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It is the first one of its handshake.
    Handshake,
    /// It is another one of its handshake.
    Secret,
    /// Nothing.
    None,
}

impl KnownSecrets {
    pub(crate) fn note(&mut self, secret: &Secret) -> News {
        let bit = 1 << secret.label as u16;
        if let Some(labels) = self.labels.get_mut(&secret.client_random) {
            let is_known = *labels & bit != 0;
            *labels |= bit;
            return if is_known { News::None } else { News::Secret };
        }
        if self.order.len() >= HANDSHAKES
            && let Some(oldest) = self.order.pop_front()
        {
            self.labels.remove(&oldest);
        }
        self.order.push_back(secret.client_random);
        self.labels.insert(secret.client_random, bit);
        News::Handshake
    }
}

#[cfg(test)]
mod tests {
    use ecapture_protocols::{SecretLabel, SecretValue};

    use super::*;

    fn secret(label: SecretLabel, handshake: usize) -> Secret {
        let mut client_random = [0; 32];
        client_random[..8].copy_from_slice(&handshake.to_le_bytes());
        Secret {
            label,
            client_random,
            value: SecretValue::new(&[1; 32]).unwrap(),
        }
    }

    #[test]
    fn each_secret_is_new_once() {
        let mut known = KnownSecrets::default();
        for (index, label) in SecretLabel::ALL.into_iter().enumerate() {
            let news = if index == 0 { News::Handshake } else { News::Secret };
            assert_eq!(known.note(&secret(label, 1)), news);
            assert_eq!(known.note(&secret(label, 1)), News::None);
        }
        assert_eq!(known.note(&secret(SecretLabel::Exporter, 2)), News::Handshake);
    }

    #[test]
    fn the_oldest_handshakes_are_forgotten() {
        let mut known = KnownSecrets::default();
        for handshake in 0..=HANDSHAKES {
            known.note(&secret(SecretLabel::Master, handshake));
        }
        assert_eq!((known.labels.len(), known.order.len()), (HANDSHAKES, HANDSHAKES));
        assert_eq!(known.note(&secret(SecretLabel::Master, 1)), News::None);
        assert_eq!(known.note(&secret(SecretLabel::Master, 0)), News::Handshake);
    }
}

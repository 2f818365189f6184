//! A secret of a TLS handshake, as a key log names it.

use std::fmt;

/// A secret that protects a part of a connection, with what identifies the connection: its ClientHello's random.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Secret {
    /// Which secret.
    pub label: SecretLabel,
    /// `ClientHello.random` (RFC 8446 §4.1.2).
    pub client_random: [u8; CLIENT_RANDOM_BYTES],
    /// Its value.
    pub value: SecretValue,
}

/// Bytes of `ClientHello.random`.
pub const CLIENT_RANDOM_BYTES: usize = 32;

/// The secrets of a connection by their labels in a key log (RFC 9850 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretLabel {
    /// `CLIENT_RANDOM`: the master secret up to TLS 1.2 (RFC 5246 §8.1).
    Master,
    /// `CLIENT_EARLY_TRAFFIC_SECRET` (RFC 8446 §7.1, as those that follow).
    ClientEarlyTraffic,
    /// `EARLY_EXPORTER_SECRET`
    EarlyExporter,
    /// `CLIENT_HANDSHAKE_TRAFFIC_SECRET`
    ClientHandshakeTraffic,
    /// `SERVER_HANDSHAKE_TRAFFIC_SECRET`
    ServerHandshakeTraffic,
    /// `CLIENT_TRAFFIC_SECRET_0`: that of the handshake, before any KeyUpdate.
    ClientTraffic0,
    /// `SERVER_TRAFFIC_SECRET_0`: that of the handshake, before any KeyUpdate.
    ServerTraffic0,
    /// `EXPORTER_SECRET`
    Exporter,
}

impl SecretLabel {
    /// All of them, in the order of a handshake.
    pub const ALL: [Self; 8] = [
        Self::Master,
        Self::ClientEarlyTraffic,
        Self::EarlyExporter,
        Self::ClientHandshakeTraffic,
        Self::ServerHandshakeTraffic,
        Self::ClientTraffic0,
        Self::ServerTraffic0,
        Self::Exporter,
    ];

    /// Returns the label in a key log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Master => "CLIENT_RANDOM",
            Self::ClientEarlyTraffic => "CLIENT_EARLY_TRAFFIC_SECRET",
            Self::EarlyExporter => "EARLY_EXPORTER_SECRET",
            Self::ClientHandshakeTraffic => "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            Self::ServerHandshakeTraffic => "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            Self::ClientTraffic0 => "CLIENT_TRAFFIC_SECRET_0",
            Self::ServerTraffic0 => "SERVER_TRAFFIC_SECRET_0",
            Self::Exporter => "EXPORTER_SECRET",
        }
    }

    /// Returns true if records are decrypted with it.
    pub const fn decrypts(self) -> bool {
        !matches!(self, Self::EarlyExporter | Self::Exporter)
    }

    /// Returns the secret that a key log calls `label`.
    pub fn of(label: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|known| known.as_str().as_bytes() == label)
    }

    /// Returns the secret that TLS 1.3 derives with `label`, without its prefix `tls13 ` (RFC 8446 §7.1); `None` for
    /// those that no key log holds.
    pub fn of_derivation(label: &[u8]) -> Option<Self> {
        Some(match label {
            b"c e traffic" => Self::ClientEarlyTraffic,
            b"e exp master" => Self::EarlyExporter,
            b"c hs traffic" => Self::ClientHandshakeTraffic,
            b"s hs traffic" => Self::ServerHandshakeTraffic,
            b"c ap traffic" => Self::ClientTraffic0,
            b"s ap traffic" => Self::ServerTraffic0,
            b"exp master" => Self::Exporter,
            _ => return None,
        })
    }
}

/// The bytes of a secret. Their `Debug` shows only how many they are, so that no log contains them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretValue {
    bytes: [u8; SecretValue::LONGEST],
    length: u8,
}

impl SecretValue {
    /// The most bytes that a secret can have: the output of SHA-512.
    pub const LONGEST: usize = 64;

    /// Makes a secret of 1 to [`Self::LONGEST`] bytes; `None` for any other number.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut value = Self {
            bytes: [0; Self::LONGEST],
            length: u8::try_from(bytes.len()).ok().filter(|&length| length > 0)?,
        };
        value.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(value)
    }

    /// Returns its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{} bytes]", self.length)
    }
}

impl fmt::Debug for Secret {
    /// Shows all but the value, which only formats for keys write.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:?} of ", self.label.as_str(), self.value)?;
        self.client_random
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_byte_of_a_secret() {
        let secret = Secret {
            label: SecretLabel::Exporter,
            client_random: [0x11; 32],
            value: SecretValue::new(&[0xab; 48]).unwrap(),
        };
        let shown = format!("{secret:?}");
        assert_eq!(
            shown,
            format!("EXPORTER_SECRET [48 bytes] of {}", "11".repeat(32))
        );
        let fact = format!("{:?}", super::super::Fact::Secret(secret));
        assert!(!fact.contains("ab") && !fact.contains("171"), "{fact}");
    }

    #[test]
    fn a_secret_has_1_to_64_bytes() {
        assert_eq!(SecretValue::new(&[]), None);
        assert_eq!(SecretValue::new(&[1; 65]), None);
        assert_eq!(SecretValue::new(&[1; 300]), None);
        assert_eq!(SecretValue::new(&[1; 64]).unwrap().as_bytes(), [1; 64]);
    }

    #[test]
    fn every_label_is_found_by_its_name() {
        for label in SecretLabel::ALL {
            assert_eq!(SecretLabel::of(label.as_str().as_bytes()), Some(label));
        }
        assert_eq!(SecretLabel::of(b"CLIENT_TRAFFIC_SECRET_1"), None);
        assert_eq!(SecretLabel::of_derivation(b"traffic upd"), None);
        assert_eq!(SecretLabel::of_derivation(b"res master"), None);
    }
}

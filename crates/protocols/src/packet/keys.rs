//! Knows which connections' packets have to wait for keys: a reader such as Wireshark uses only keys that stand before
//! the packets.
//!
//! A connection waits from its ServerHello on with TLS 1.3, from its first ChangeCipherSpec on before, until its
//! secrets are there, or until none came for [`limits::KEYS_WAIT_NS`]. Which connection a secret belongs to is known by
//! the random of its ClientHello, for which the first segments of each connection are read.

use super::{Flow, Headers, Recent};
use crate::event::{Secret, SecretLabel};
use crate::hello::{CLIENT_HELLO, ClientHello, Random, SERVER_HELLO, ServerHello, TLS_1_3};
use crate::limits;

/// TLS handshakes among the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handshakes {
    /// Connections whose ClientHello and ServerHello were among the packets.
    pub seen: u64,
    /// Of those, the ones with all secrets that decrypt them.
    pub with_keys: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct KeyWatch {
    connections: Recent<Flow, Connection, { limits::WATCHED_CONNECTIONS }>,
    secrets: Recent<Random, Secrets, { limits::WATCHED_CONNECTIONS }>,
    handshakes: Handshakes,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    random: Random,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The ClientHello was seen.
    ClientHello,
    /// The ServerHello of TLS 1.2 or before was seen.
    ServerHello,
    /// What follows is encrypted; since then, or since the last secret.
    Encrypted { since_ns: u64 },
    /// It waits for nothing.
    Open,
}

#[derive(Debug, Clone, Copy, Default)]
struct Secrets {
    /// A bit for each label.
    labels: u8,
    last_ns: u64,
    /// A ServerHello with this random was seen.
    counted: bool,
}

const fn bit(label: SecretLabel) -> u8 {
    1 << label as u8
}

impl Secrets {
    const fn decrypt(self) -> bool {
        const ALL: u8 = bit(SecretLabel::ClientHandshakeTraffic)
            | bit(SecretLabel::ServerHandshakeTraffic)
            | bit(SecretLabel::ClientTraffic0)
            | bit(SecretLabel::ServerTraffic0);
        self.labels & bit(SecretLabel::Master) != 0 || self.labels & ALL == ALL
    }
}

impl KeyWatch {
    /// Notes a secret that was learned at `now_ns`.
    pub fn secret(&mut self, secret: &Secret, now_ns: u64) {
        let known = self.secrets.entry_or(secret.client_random, Secrets::default);
        let decrypted = known.decrypt();
        known.labels |= bit(secret.label);
        known.last_ns = now_ns;
        if known.counted && !decrypted && known.decrypt() {
            self.handshakes.with_keys += 1;
        }
    }

    /// Reads a packet that came at `now_ns`, in the order of the packets.
    pub fn packet(&mut self, headers: &Headers<'_>, now_ns: u64) {
        if !headers.flow.is_tcp() {
            return;
        }
        let flow = headers.flow.connection();
        if headers.opens {
            self.connections.remove(&flow);
        }
        if headers.payload.is_empty() {
            return;
        }
        let hello = handshake(headers.payload, CLIENT_HELLO).and_then(ClientHello::read);
        if let Some(ClientHello { random, .. }) = hello {
            *self.connections.entry_or(flow, || Connection {
                random,
                stage: Stage::ClientHello,
            }) = Connection {
                random,
                stage: Stage::ClientHello,
            };
            return;
        }
        let Some(connection) = self.connections.get_mut(&flow) else {
            return;
        };
        let encrypted = Stage::Encrypted { since_ns: now_ns };
        let hello = handshake(headers.payload, SERVER_HELLO).and_then(ServerHello::read);
        match (connection.stage, hello) {
            (Stage::ClientHello, Some(hello)) if !hello.asks_again() => {
                let is_1_3 = hello.choice().is_some_and(|choice| choice.version == TLS_1_3);
                connection.stage = if is_1_3 || changes_cipher(headers.payload) {
                    encrypted
                } else {
                    Stage::ServerHello
                };
                let secrets = self.secrets.entry_or(connection.random, Secrets::default);
                if !std::mem::replace(&mut secrets.counted, true) {
                    self.handshakes.seen += 1;
                    self.handshakes.with_keys += u64::from(secrets.decrypt());
                }
            }
            (Stage::ServerHello, _) if changes_cipher(headers.payload) => connection.stage = encrypted,
            _ => {}
        }
    }

    /// Returns true if packets of a flow have to wait at `now_ns`.
    pub fn waits(&mut self, flow: Flow, now_ns: u64) -> bool {
        let Some(connection) = self.connections.get_mut(&flow.connection()) else {
            return false;
        };
        let Stage::Encrypted { since_ns } = connection.stage else {
            return false;
        };
        let secrets = self
            .secrets
            .get_mut(&connection.random)
            .copied()
            .unwrap_or_default();
        let last_ns = since_ns.max(secrets.last_ns);
        if secrets.decrypt() || now_ns.saturating_sub(last_ns) >= limits::KEYS_WAIT_NS {
            connection.stage = Stage::Open;
            return false;
        }
        true
    }

    /// The figures so far.
    pub const fn handshakes(&self) -> Handshakes {
        self.handshakes
    }
}

/// The body of the handshake message of type `kind` that a segment begins with, as far as it is in the segment.
fn handshake(payload: &[u8], kind: u8) -> Option<&[u8]> {
    let [22, 3, _, _, _, found, _, _, _, body @ ..] = payload else {
        return None;
    };
    (*found == kind).then_some(body)
}

/// Returns true if one of the records in a segment is a ChangeCipherSpec.
fn changes_cipher(payload: &[u8]) -> bool {
    let mut rest = payload;
    for _ in 0..limits::RECORDS_OF_SEGMENT {
        let [kind, 3, _, high, low, ..] = *rest else {
            return false;
        };
        if kind == 20 {
            return true;
        }
        let length = 5 + usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(length..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::event::SecretValue;
    use crate::hello::RETRY;

    const SECOND: u64 = 1_000_000_000;

    fn flow() -> Flow {
        let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
        Flow {
            protocol: 6,
            source: address(40_000),
            destination: address(443),
        }
    }

    fn packet(payload: &[u8], from_client: bool) -> Headers<'_> {
        Headers {
            flow: if from_client { flow() } else { flow().reversed() },
            opens: false,
            is_bare: false,
            payload,
        }
    }

    fn hello(kind: u8, random: Random, extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend_from_slice(&random);
        // No session id; a cipher suite and a compression method.
        body.extend_from_slice(&[0, 0x13, 1, 0]);
        body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend_from_slice(extensions);
        let length = u8::try_from(body.len()).unwrap();
        [&[22, 3, 3, 0, length + 4, kind, 0, 0, length], body.as_slice()].concat()
    }

    const IS_1_3: [u8; 12] = [0, 51, 0, 2, 0, 29, 0, 43, 0, 2, 3, 4];
    const CHANGE_CIPHER: [u8; 6] = [20, 3, 3, 0, 1, 1];

    fn secret(label: SecretLabel, random: Random) -> Secret {
        Secret {
            label,
            client_random: random,
            value: SecretValue::new(&[1; 32]).unwrap(),
        }
    }

    fn after_hellos(extensions: &[u8], now_ns: u64) -> KeyWatch {
        let mut watch = KeyWatch::default();
        watch.packet(&packet(&hello(1, [7; 32], &[]), true), now_ns);
        assert!(!watch.waits(flow(), now_ns), "a ClientHello is not encrypted");
        watch.packet(&packet(&hello(2, [8; 32], extensions), false), now_ns);
        watch
    }

    #[test]
    fn tls_1_3_waits_from_the_server_hello_for_four_secrets() {
        let mut watch = after_hellos(&IS_1_3, SECOND);
        let labels = [
            SecretLabel::ClientHandshakeTraffic,
            SecretLabel::ServerHandshakeTraffic,
            SecretLabel::Exporter,
            SecretLabel::ClientTraffic0,
            SecretLabel::ServerTraffic0,
        ];
        for label in labels {
            assert!(watch.waits(flow(), SECOND) && watch.waits(flow().reversed(), SECOND));
            watch.secret(&secret(label, [7; 32]), SECOND);
        }
        assert!(!watch.waits(flow(), SECOND));
        assert_eq!(
            watch.handshakes(),
            Handshakes {
                seen: 1,
                with_keys: 1
            }
        );
    }

    #[test]
    fn tls_1_2_waits_from_the_change_of_ciphers_for_the_master_secret() {
        let mut watch = after_hellos(&[], SECOND);
        assert!(
            !watch.waits(flow(), SECOND),
            "the rest of the handshake is readable"
        );
        let key_exchange = [&[22, 3, 3, 0, 2, 16, 0], &CHANGE_CIPHER[..]].concat();
        watch.packet(&packet(&key_exchange, true), 2 * SECOND);
        assert!(watch.waits(flow(), 2 * SECOND));
        watch.secret(&secret(SecretLabel::Master, [9; 32]), 2 * SECOND);
        assert!(
            watch.waits(flow(), 2 * SECOND),
            "the secret of another connection"
        );
        watch.secret(&secret(SecretLabel::Master, [7; 32]), 2 * SECOND);
        assert!(!watch.waits(flow(), 2 * SECOND));
    }

    #[test]
    fn secrets_may_come_before_the_packets() {
        let mut watch = KeyWatch::default();
        watch.secret(&secret(SecretLabel::Master, [7; 32]), SECOND);
        watch.packet(&packet(&hello(1, [7; 32], &[]), true), SECOND);
        let resumed = [hello(2, [8; 32], &[]), CHANGE_CIPHER.to_vec()].concat();
        watch.packet(&packet(&resumed, false), SECOND);
        assert!(!watch.waits(flow(), SECOND));
        assert_eq!(
            watch.handshakes(),
            Handshakes {
                seen: 1,
                with_keys: 1
            }
        );
    }

    #[test]
    fn what_has_no_keys_waits_once_and_not_for_long() {
        let mut watch = after_hellos(&IS_1_3, SECOND);
        watch.secret(
            &secret(SecretLabel::ClientHandshakeTraffic, [7; 32]),
            3 * SECOND / 2,
        );
        assert!(
            watch.waits(flow(), 2 * SECOND + SECOND / 2 - 1),
            "a second from the last secret"
        );
        assert!(!watch.waits(flow(), 2 * SECOND + SECOND / 2));
        assert!(!watch.waits(flow(), 2 * SECOND), "it is given up");
        assert_eq!(
            watch.handshakes(),
            Handshakes {
                seen: 1,
                with_keys: 0
            }
        );
    }

    #[test]
    fn a_hello_retry_request_is_no_server_hello() {
        let mut watch = KeyWatch::default();
        watch.packet(&packet(&hello(1, [7; 32], &[]), true), 0);
        watch.packet(&packet(&hello(2, RETRY, &IS_1_3), false), 0);
        assert!(!watch.waits(flow(), 0));
        watch.packet(&packet(&hello(1, [7; 32], &[]), true), 0);
        watch.packet(&packet(&hello(2, [8; 32], &IS_1_3), false), 0);
        assert!(watch.waits(flow(), 0));
        assert_eq!(watch.handshakes().seen, 1);
    }

    #[test]
    fn hostile_hellos_do_no_harm_and_tables_are_bounded() {
        let server = hello(2, [8; 32], &[0, 43, 0xFF, 0xFF, 3, 4]);
        for end in 0..server.len() {
            let mut watch = KeyWatch::default();
            watch.packet(&packet(&hello(1, [7; 32], &[]), true), 0);
            watch.packet(&packet(&server[..end], false), 0);
            let _any = watch.waits(flow(), 0);
        }
        let mut watch = KeyWatch::default();
        for number in 0..2 * limits::WATCHED_CONNECTIONS as u64 {
            let mut random = [0; 32];
            random[..8].copy_from_slice(&number.to_be_bytes());
            watch.secret(&secret(SecretLabel::Master, random), 0);
        }
        let secrets = &watch.secrets;
        assert!(secrets.len() <= limits::WATCHED_CONNECTIONS);
    }
}

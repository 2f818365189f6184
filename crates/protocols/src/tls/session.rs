//! Follows one connection.
//!
//! ```text
//!            TLS 1.2                              TLS 1.3
//! clear      until ChangeCipherSpec               until ServerHello (client: early data, if it is offered)
//! handshake  -                                    until Finished
//! data       until the next ChangeCipherSpec      until KeyUpdate, which gives the next keys
//! ```
//!
//! A direction whose next record depends on what the other one says is not read further until then: early
//! data needs the suite that the server chooses.

use bytes::Bytes;

use super::cipher::{BlockParts, Cipher, block_lengths};
use super::derive::prf;
use super::half::{Half, Opened};
use super::handshake::{Message, ServerHello};
use super::key_log::KeyLog;
use super::record::{Next, kind};
use super::suite::Suite;
use crate::event::{Direction, SecretLabel};
use crate::hello::{Random, TLS_1_3};
use crate::limits::TLS_WAITING_BYTES;

/// What was in the records of a direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plaintext {
    /// Data of the application.
    Data(Bytes),
    /// Data is missing: so many bytes, if that is known.
    Gap(Option<u64>),
}

/// Why a connection cannot be decrypted, or not further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Obstacle {
    /// The key log has no secret for it.
    #[error("the key log has no secret for it")]
    NoKey,
    /// The secret of the key log does not open its records.
    #[error("the secret of the key log does not open its records")]
    WrongKey,
    /// Its cipher suite is not supported.
    #[error("cipher suite {0:#06x} is not supported")]
    Suite(u16),
    /// Its version is not supported.
    #[error("TLS version {0:#06x} is not supported")]
    Version(u16),
    /// Its handshake is not in the capture, or not as a whole.
    #[error("its handshake is not in the capture")]
    NoHandshake,
    /// It is not TLS from some point on.
    #[error("not TLS records")]
    NotTls,
    /// So much is missing that no record was found again.
    #[error("too much of it is missing")]
    Lost,
}

/// One connection, as the client sees it: [`Direction::Write`] is from the client.
#[derive(Debug, Default)]
pub struct Session {
    halves: [Half; 2],
    client_random: Option<Random>,
    offers_early_data: bool,
    has_retry: bool,
    server: Option<ServerHello>,
    /// A record was decrypted.
    is_open: bool,
    obstacle: Option<Obstacle>,
}

/// Where the plaintext goes.
type Out<'a> = &'a mut Vec<(Direction, Plaintext)>;

impl Session {
    /// Adds bytes of one direction; what they say is appended to `out`.
    pub fn feed(&mut self, keys: &KeyLog, direction: Direction, bytes: &[u8], out: Out<'_>) {
        if self.obstacle.is_none() {
            self.half(direction).records.add(bytes);
            self.read(keys, out);
        }
    }

    /// Says that so many bytes are missing in one direction.
    pub fn gap(&mut self, keys: &KeyLog, direction: Direction, bytes: u64, out: Out<'_>) {
        if self.obstacle.is_some() {
            return;
        }
        let half = self.half(direction);
        half.records.gap(bytes);
        if half.records.is_lost() {
            half.messages.clear();
            half.has_gap = true;
            if half.current.is_none() && self.server.is_none() {
                self.obstacle = Some(Obstacle::NoHandshake);
                return;
            }
            self.prepare_keys(keys, direction);
        }
        self.read(keys, out);
    }

    /// Says that nothing follows: data that is missing at the end is missing, too.
    pub fn finish(&mut self, out: Out<'_>) {
        for direction in [Direction::Write, Direction::Read] {
            let half = self.half(direction);
            if half.is_application && (half.has_gap || half.records.held() > 0) {
                half.has_gap = false;
                out.push((direction, Plaintext::Gap(None)));
            }
        }
    }

    /// Returns why it cannot be decrypted, or not further.
    pub fn obstacle(&self) -> Option<Obstacle> {
        self.obstacle
    }

    /// Returns true if it was decrypted, at least from some point on.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Returns the version, when it is known.
    pub fn version(&self) -> Option<u16> {
        self.server.map(|server| server.version)
    }

    /// Returns the number of bytes held.
    pub fn held(&self) -> usize {
        self.halves.iter().map(|half| half.records.held()).sum()
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        &mut self.halves[usize::from(direction.data_type())]
    }

    /// Reads both directions until neither can go on. What one says may let the other go on.
    fn read(&mut self, keys: &KeyLog, out: Out<'_>) {
        while self.obstacle.is_none() {
            let client = self.read_record(keys, Direction::Write, out);
            let server = self.read_record(keys, Direction::Read, out);
            if !client && !server {
                break;
            }
        }
        if self.obstacle.is_none() && self.server.is_none() && self.held() > TLS_WAITING_BYTES {
            self.obstacle = Some(Obstacle::NoHandshake);
        }
        if self.obstacle.is_some() {
            self.halves = <[Half; 2]>::default();
        }
    }

    /// Reads one record, if there is one. False if there is none, or if it has to wait.
    fn read_record(&mut self, keys: &KeyLog, direction: Direction, out: Out<'_>) -> bool {
        if self.obstacle.is_some() {
            return false;
        }
        if self.half(direction).records.is_lost() {
            return self.read_lost(keys, direction, out);
        }
        match self.half(direction).next_record() {
            Next::More => false,
            Next::Broken => {
                self.obstacle = Some(self.obstacle_now(Obstacle::NotTls));
                false
            }
            Next::Damaged { kind, length } => {
                self.skip_damaged(keys, direction, kind, length, out);
                true
            }
            Next::Record(length) => self.open(keys, direction, length, out),
        }
    }

    /// Before anything was decrypted the handshake is what is missing.
    const fn obstacle_now(&self, later: Obstacle) -> Obstacle {
        if self.server.is_some() {
            later
        } else {
            Obstacle::NoHandshake
        }
    }

    fn read_lost(&mut self, keys: &KeyLog, direction: Direction, out: Out<'_>) -> bool {
        let half = self.half(direction);
        if let Some((kind, content)) = half.search() {
            half.is_application |= kind == kind::APPLICATION_DATA;
            self.take(keys, direction, kind, content, out);
            return true;
        }
        if !half.records.is_lost() {
            self.obstacle = Some(Obstacle::Lost);
        }
        false
    }

    /// A record with a hole in it: its number passes, and so many bytes of data are missing.
    fn skip_damaged(&mut self, keys: &KeyLog, direction: Direction, kind: u8, length: usize, out: Out<'_>) {
        let half = self.half(direction);
        half.messages.clear();
        let mut missing = None;
        if let Some(cipher) = &mut half.current {
            cipher.skip();
            missing = cipher.content_length(length);
        }
        if half.is_application && kind == kind::APPLICATION_DATA {
            let missing = missing.and_then(|missing| u64::try_from(missing).ok());
            out.push((direction, Plaintext::Gap(missing)));
        }
        if self.server.is_some() {
            self.prepare_keys(keys, direction);
        } else {
            // The hello itself.
            self.obstacle = Some(Obstacle::NoHandshake);
        }
    }

    fn open(&mut self, keys: &KeyLog, direction: Direction, length: usize, out: Out<'_>) -> bool {
        let server_is_known = self.server.is_some();
        let (has_retry, offers_early_data) = (self.has_retry, self.offers_early_data);
        let has_client = self.client_random.is_some();
        let half = self.half(direction);
        let kind = half.records.kind();
        let is_early = half.current.is_none() && kind == kind::APPLICATION_DATA && !server_is_known;
        let changes_too_early =
            kind == kind::CHANGE_CIPHER_SPEC && !server_is_known && !has_retry && !offers_early_data;
        match direction {
            // Refused early data: the client sends it again.
            Direction::Write if is_early && has_retry && offers_early_data => {
                half.records.take(length);
                return true;
            }
            // Until the server has chosen a suite, or a version: TLS 1.3 has ChangeCipherSpec so early only with
            // early data or after a HelloRetryRequest.
            Direction::Write if is_early || changes_too_early => return false,
            // The client's packets may have been captured after the server's.
            Direction::Read if !has_client => return false,
            _ => {}
        }
        match half.open(length) {
            Opened::Content(kind, content) => self.take(keys, direction, kind, content, out),
            Opened::Nothing => {}
            Opened::Failed => {
                self.obstacle = Some(if self.is_open {
                    Obstacle::Lost
                } else {
                    Obstacle::WrongKey
                });
            }
        }
        true
    }

    /// Takes the content of a record.
    fn take(&mut self, keys: &KeyLog, direction: Direction, kind: u8, content: Bytes, out: Out<'_>) {
        self.is_open |= self.half(direction).current.is_some();
        match kind {
            kind::HANDSHAKE => {
                for message in self.half(direction).read_messages(&content) {
                    self.obey(keys, direction, &message);
                }
            }
            kind::CHANGE_CIPHER_SPEC => self.change_cipher_spec(keys, direction),
            kind::APPLICATION_DATA if self.half(direction).current.is_some() => {
                let half = self.half(direction);
                if std::mem::take(&mut half.has_gap) {
                    out.push((direction, Plaintext::Gap(None)));
                }
                if !content.is_empty() {
                    out.push((direction, Plaintext::Data(content)));
                }
            }
            kind::APPLICATION_DATA => self.obstacle = Some(Obstacle::NoKey),
            // Alerts end connections, as the end of their packets does.
            _ => {}
        }
    }

    fn obey(&mut self, keys: &KeyLog, direction: Direction, message: &Message) {
        let is_client = direction == Direction::Write;
        let is_traffic = self
            .half(direction)
            .current
            .as_ref()
            .is_some_and(Cipher::is_traffic);
        match message {
            Message::ClientHello { random, early_data } if is_client => {
                self.client_random = Some(*random);
                self.offers_early_data = *early_data;
            }
            Message::ServerHello(hello) if !is_client => self.server_hello(keys, *hello),
            Message::HelloRetryRequest if !is_client => self.has_retry = true,
            Message::Malformed => self.obstacle = Some(Obstacle::NotTls),
            Message::EndOfEarlyData if is_traffic && is_client => self.half(direction).change_keys(),
            Message::Finished if is_traffic => self.finished(keys, direction),
            Message::KeyUpdate if is_traffic => {
                let half = self.half(direction);
                half.current = half.current.as_ref().and_then(Cipher::next_generation);
            }
            _ => {}
        }
        if self.half(direction).current.is_none() && is_traffic && self.obstacle.is_none() {
            self.obstacle = Some(Obstacle::NoKey);
        }
    }

    fn server_hello(&mut self, keys: &KeyLog, hello: ServerHello) {
        self.server = Some(hello);
        let Some(suite) = Suite::of(hello.suite) else {
            self.obstacle = Some(Obstacle::Suite(hello.suite));
            return;
        };
        match hello.version {
            // Its keys come with ChangeCipherSpec.
            0x0303 => {}
            TLS_1_3 => self.obstacle = self.handshake_keys(keys, suite),
            other => self.obstacle = Some(Obstacle::Version(other)),
        }
    }

    /// Those of TLS 1.3 after ServerHello. The keys after these are prepared, in case Finished is missed.
    fn handshake_keys(&mut self, keys: &KeyLog, suite: Suite) -> Option<Obstacle> {
        let (Some(server), Some(client)) = (
            self.secret(keys, suite, SecretLabel::ServerHandshakeTraffic),
            self.secret(keys, suite, SecretLabel::ClientHandshakeTraffic),
        ) else {
            return Some(self.no_key(keys, SecretLabel::ServerHandshakeTraffic));
        };
        let early = self
            .offers_early_data
            .then(|| self.secret(keys, suite, SecretLabel::ClientEarlyTraffic))
            .flatten();
        let next = self.secret(keys, suite, SecretLabel::ServerTraffic0);
        let half = self.half(Direction::Read);
        half.current = Some(server);
        half.next = next;
        let offers_early_data = self.offers_early_data && !self.has_retry;
        let client_next = self.secret(keys, suite, SecretLabel::ClientTraffic0);
        let half = self.half(Direction::Write);
        // Early data may have been refused, and is then not followed by EndOfEarlyData.
        if let (Some(early), true) = (early, offers_early_data) {
            half.current = Some(early);
            half.next = Some(client);
        } else {
            half.current = Some(client);
            half.next = client_next;
        }
        half.skips_early_data = offers_early_data;
        None
    }

    /// The keys of TLS 1.3 that follow Finished.
    fn finished(&mut self, keys: &KeyLog, direction: Direction) {
        let label = match direction {
            Direction::Write => SecretLabel::ClientTraffic0,
            Direction::Read => SecretLabel::ServerTraffic0,
        };
        let suite = self.server.and_then(|server| Suite::of(server.suite));
        let cipher = suite.and_then(|suite| self.secret(keys, suite, label));
        let half = self.half(direction);
        half.next = cipher;
        half.change_keys();
        half.is_application = true;
    }

    fn change_cipher_spec(&mut self, keys: &KeyLog, direction: Direction) {
        // Before ServerHello it is there for middleboxes.
        if self.server.is_none_or(|server| server.version != 0x0303) {
            return;
        }
        self.half(direction).next = None;
        self.prepare_keys(keys, direction);
        if self.half(direction).next.is_none() {
            self.obstacle.get_or_insert(Obstacle::NoKey);
            return;
        }
        let half = self.half(direction);
        half.change_keys();
        half.is_application = true;
    }

    /// Makes the next keys of TLS 1.2, because they are in use now or because the change may have been missed.
    fn prepare_keys(&mut self, keys: &KeyLog, direction: Direction) {
        let Some((server, random)) = self.server.zip(self.client_random) else {
            return;
        };
        let is_encrypted = self.half(direction).current.is_some() && self.half(direction).is_application;
        if server.version != 0x0303 || self.half(direction).next.is_some() {
            return;
        }
        let (Some(suite), Some(master)) = (Suite::of(server.suite), keys.get(&random, SecretLabel::Master))
        else {
            if !is_encrypted {
                self.obstacle = Some(Obstacle::NoKey);
            }
            return;
        };
        let seed: [&[u8]; 2] = [&server.random, &random];
        let is_server = direction == Direction::Read;
        self.half(direction).next = block_cipher(
            suite,
            master.as_bytes(),
            seed,
            (is_server, server.encrypt_then_mac),
        );
    }

    fn secret(&self, keys: &KeyLog, suite: Suite, label: SecretLabel) -> Option<Cipher> {
        let secret = keys.get(self.client_random.as_ref()?, label)?;
        Cipher::traffic(suite, secret)
    }

    /// A secret that is there and gives no keys is not of this connection's suite.
    fn no_key(&self, keys: &KeyLog, label: SecretLabel) -> Obstacle {
        let secret = self.client_random.and_then(|random| keys.get(&random, label));
        if secret.is_some() {
            Obstacle::WrongKey
        } else {
            Obstacle::NoKey
        }
    }
}

/// The keys of one direction of TLS 1.2 (RFC 5246 §6.3): parts of the client and of the server in turn.
fn block_cipher(
    suite: Suite,
    master: &[u8],
    seed: [&[u8]; 2],
    (is_server, encrypt_then_mac): (bool, bool),
) -> Option<Cipher> {
    const LONGEST: usize = 2 * (48 + 32 + 12);
    let (mac, key, iv) = block_lengths(suite);
    let mut block = [0; LONGEST];
    let block = block.get_mut(..2 * (mac + key + iv))?;
    prf(suite.hash, master, b"key expansion", &seed, block);
    let mut rest = &*block;
    let mut part = |length: usize| {
        let (both, behind) = rest.split_at(2 * length);
        rest = behind;
        &both[usize::from(is_server) * length..][..length]
    };
    let parts = BlockParts {
        mac: part(mac),
        key: part(key),
        iv: part(iv),
    };
    Cipher::of_block(suite, &parts, encrypt_then_mac)
}

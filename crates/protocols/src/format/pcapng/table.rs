//! The connections that are open in the file.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;

use super::connection::{Connection, Out};
use super::endpoints::Endpoints;
use crate::event::{Close, DataEvent, Process};
use crate::limits::PCAPNG_CONNECTIONS;

/// The first and last of the ports that stand for unknown ones.
const PORTS: (u16, u16) = (1024, u16::MAX);
/// Ports that are tried for a connection whose addresses another one has.
const TRIES: usize = 64;

/// A connection by the most reliable of what identifies it, of the process that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    pid: u32,
    stream: Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stream {
    Session(u64),
    Socket(u64),
    Descriptor(u32),
    Thread(u32),
}

impl Key {
    fn of(event: &DataEvent) -> Self {
        let Process { pid, tid, .. } = event.process;
        let stream = match (event.session, event.socket, event.fd) {
            (Some(session), _, _) => Stream::Session(session),
            (None, Some(socket), _) => Stream::Socket(socket.sock),
            (None, None, Some(fd)) if fd > 0 => Stream::Descriptor(fd),
            _ => Stream::Thread(tid),
        };
        Self { pid, stream }
    }
}

/// All connections, at most [`PCAPNG_CONNECTIONS`]; those that are used least are forgotten first. What goes on
/// after that has no handshake, and the same sequence numbers.
#[derive(Debug)]
pub(super) struct Table {
    connections: BTreeMap<Key, Connection>,
    by_sock: HashMap<u64, Key>,
    pairs: HashMap<(SocketAddr, SocketAddr), Key>,
    /// Keys, and when they were used last when they came here: who was used since goes to the back.
    oldest: VecDeque<(u64, Key)>,
    events: u64,
    next_port: u16,
    packet: Vec<u8>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            connections: BTreeMap::new(),
            by_sock: HashMap::new(),
            pairs: HashMap::new(),
            oldest: VecDeque::new(),
            events: 0,
            next_port: PORTS.0,
            packet: Vec::new(),
        }
    }
}

impl Table {
    pub(super) fn data(&mut self, event: &DataEvent, timestamp_ns: u64, bytes: &mut Vec<u8>) {
        if event.payload.is_empty() {
            return;
        }
        self.events += 1;
        let key = Key::of(event);
        let is_new = !self.connections.contains_key(&key);
        if is_new {
            self.add(key, event, timestamp_ns, bytes);
        }
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        let mut out = Out {
            bytes,
            packet: &mut self.packet,
            timestamp_ns,
        };
        let is_whole = event.joined_late.is_none() && event.stream_offset.unwrap_or(0) == 0;
        if is_new && is_whole {
            connection.open(&mut out);
        }
        connection.used = self.events;
        if connection.sock.is_none()
            && let Some(socket) = event.socket
        {
            connection.sock = Some(socket.sock);
            self.by_sock.insert(socket.sock, key);
        }
        connection.data(event, &mut out);
    }

    pub(super) fn close(&mut self, close: Close, timestamp_ns: u64, bytes: &mut Vec<u8>) {
        let keys: Vec<Key> = match close {
            Close::Socket { sock } => self.closed_socket(sock).into_iter().collect(),
            Close::Session { pid, session } => vec![Key {
                pid,
                stream: Stream::Session(session),
            }],
            Close::Process { pid } => {
                let (first, last) = (Stream::Session(0), Stream::Thread(u32::MAX));
                let of_process = Key { pid, stream: first }..=Key { pid, stream: last };
                self.connections.range(of_process).map(|(&key, _)| key).collect()
            }
        };
        for key in keys {
            self.end(key, timestamp_ns, bytes);
        }
    }

    /// The connection that ends with a socket. One with a session ends with that: the library may hand out what it
    /// received until then.
    fn closed_socket(&mut self, sock: u64) -> Option<Key> {
        let key = *self.by_sock.get(&sock)?;
        let connection = self.connections.get_mut(&key)?;
        connection.is_closing = matches!(key.stream, Stream::Session(_));
        (!connection.is_closing).then_some(key)
    }

    fn end(&mut self, key: Key, timestamp_ns: u64, bytes: &mut Vec<u8>) {
        if let Some(mut connection) = self.remove(key) {
            connection.close(&mut Out {
                bytes,
                packet: &mut self.packet,
                timestamp_ns,
            });
        }
    }

    fn add(&mut self, key: Key, event: &DataEvent, timestamp_ns: u64, bytes: &mut Vec<u8>) {
        while self.connections.len() >= PCAPNG_CONNECTIONS {
            self.forget_oldest();
        }
        let mut endpoints = Endpoints::of(event, self.next_port);
        if endpoints.are_unknown {
            self.advance_port();
        }
        for _ in 0..TRIES {
            let Some(&other) = self.pairs.get(&endpoints.pair()) else {
                break;
            };
            // A closed socket's addresses may be used again.
            if self.connections.get(&other).is_some_and(|other| other.is_closing) {
                self.end(other, timestamp_ns, bytes);
                break;
            }
            endpoints.client.set_port(self.next_port);
            self.advance_port();
        }
        self.pairs.insert(endpoints.pair(), key);
        let connection = Connection::new(event, endpoints);
        if let Some(sock) = connection.sock {
            self.by_sock.insert(sock, key);
        }
        self.connections.insert(key, connection);
        self.oldest.push_back((self.events, key));
    }

    /// Each step either forgets a connection, or moves one that was used since its last step. A key may be there
    /// twice: that of a connection that ended and came again.
    fn forget_oldest(&mut self) {
        while let Some((used, key)) = self.oldest.pop_front() {
            match self.connections.get(&key) {
                Some(connection) if connection.used > used => self.oldest.push_back((connection.used, key)),
                Some(_) => {
                    self.remove(key);
                    return;
                }
                None => {}
            }
        }
    }

    fn remove(&mut self, key: Key) -> Option<Connection> {
        let connection = self.connections.remove(&key)?;
        let pair = connection.endpoints.pair();
        if self.pairs.get(&pair) == Some(&key) {
            self.pairs.remove(&pair);
        }
        if let Some(sock) = connection.sock
            && self.by_sock.get(&sock) == Some(&key)
        {
            self.by_sock.remove(&sock);
        }
        // Those that ended are forgotten together, before there are more of them than others.
        if self.oldest.len() > 2 * PCAPNG_CONNECTIONS {
            let connections = &self.connections;
            self.oldest.retain(|(_, key)| connections.contains_key(key));
        }
        Some(connection)
    }

    const fn advance_port(&mut self) {
        self.next_port = if self.next_port == PORTS.1 {
            PORTS.0
        } else {
            self.next_port + 1
        };
    }
}

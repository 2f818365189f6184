//! Both ends of an exchange: where client and server run on this host, each of them shows the same
//! exchange. A format that shows it once says of each record which end it is ([`ExchangeEnd`]); whoever
//! collects the records finds those that belong together, and lets the format join them
//! ([`Format::join_ends`](super::Format::join_ends)).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;

use crate::event::{AddressSource, Direction, Origin, Process};
use crate::exchange::{Asked, Exchange, Pairing};
use crate::message::{Body, Content, Message};

/// Whether an exchange whose client and server are both captured is shown once, or by each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ends {
    /// As one, with both processes.
    #[default]
    Once,
    /// As each end has it.
    Both,
}

/// One end of an exchange, as far as it decides which other end it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeEnd {
    /// The connection, and the exchange in it.
    pub place: ExchangePlace,
    /// This end is the client's.
    pub is_client: bool,
    /// The process of this end.
    pub process: Process,
    /// Kernel time of the request's first byte.
    pub asked_ns: u64,
    /// Kernel time of the response's first byte; that of the end of the connection if there was none.
    pub first_ns: u64,
    /// Kernel time of the response's last byte.
    pub last_ns: u64,
    /// Offset in the record at which something about the other end can be inserted.
    pub insert_at: usize,
    /// The record says nothing without the other end's: then it is not written.
    pub only_joined: bool,
    /// The server pushed the response, and sent the request itself.
    pushed: bool,
    /// Hash of method, authority, path and the heads of the response.
    content: u64,
    /// Bytes of the request's body, if it was seen whole.
    sent: Option<u64>,
    /// Bytes of the response's body, if it was seen whole.
    received: Option<u64>,
}

/// An exchange of a connection, the same for both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExchangePlace {
    /// Address of the client.
    pub client: SocketAddr,
    /// Address of the server.
    pub server: SocketAddr,
    /// Number of the exchange; `None` if it was not counted from the beginning of the connection.
    pub number: Option<u32>,
}

impl ExchangeEnd {
    /// Returns the end that `message`, the last one of its exchange, is of. `None` if no other end can
    /// be captured, or if the exchange is not certain enough to be joined with another.
    pub fn of(origin: &Origin, message: &Message) -> Option<Self> {
        let stream = origin.stream.as_ref().filter(|stream| stream.other_end)?;
        let exchange = message.exchange.as_ref()?;
        let asked = exchange.request.as_deref().filter(|asked| asked.first_ns > 0)?;
        if !matches!(exchange.pairing, Some(Pairing::Certain | Pairing::NoResponse)) {
            return None;
        }
        let socket = stream
            .socket
            .filter(|socket| socket.address_source == AddressSource::Exact)?;
        // What the response comes from is the server.
        let (server, client) = socket.endpoints(stream.direction)?;
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let is_counted = asked.stream.is_some() || stream.joined_late.is_none();
        Some(Self {
            place: ExchangePlace {
                client: canonical(client),
                server: canonical(server),
                number: exchange.number.filter(|_| is_counted),
            },
            is_client: stream.direction == Direction::Read,
            process: origin.process,
            asked_ns: asked.first_ns,
            first_ns: message.first_ns,
            last_ns: message.last_ns,
            insert_at: 0,
            only_joined: false,
            pushed: matches!(&message.content, Content::Http2(response) if response.pushed),
            content: hash(exchange, asked, message)?,
            sent: asked.end.filter(|end| end.complete).map(|end| end.wire_len),
            received: body_of(message)
                .filter(|body| body.complete)
                .map(|body| body.wire_len),
        })
    }

    /// Returns it for a record with room at this offset.
    #[must_use]
    pub const fn with_room_at(mut self, insert_at: usize) -> Self {
        self.insert_at = insert_at;
        self
    }

    /// Returns it for a record that says nothing alone.
    #[must_use]
    pub const fn only_joined(mut self) -> Self {
        self.only_joined = true;
        self
    }

    /// Returns true if both are ends of the same exchange: everything that both saw is equal, and what the
    /// server saw lies between what the client saw (all times are of one clock).
    pub fn belongs_to(&self, other: &Self) -> bool {
        let (client, server) = if self.is_client {
            (self, other)
        } else {
            (other, self)
        };
        let is_equal =
            |one: Option<u64>, other: Option<u64>| one.is_none() || other.is_none() || one == other;
        client.is_client
            && !server.is_client
            && self.place == other.place
            && self.content == other.content
            && is_equal(self.sent, other.sent)
            && is_equal(self.received, other.received)
            && if self.pushed {
                server.asked_ns <= client.asked_ns
            } else {
                client.asked_ns <= server.asked_ns
            }
            && (server.first_ns <= client.first_ns || self.received.is_none() && other.received.is_none())
    }

    /// Returns the time from the request's first byte to the response's last one.
    pub const fn total_ns(&self) -> u64 {
        self.last_ns.saturating_sub(self.asked_ns)
    }

    /// Returns true if the response was seen whole.
    pub const fn is_complete(&self) -> bool {
        self.received.is_some()
    }
}

fn body_of(message: &Message) -> Option<&Body> {
    match &message.content {
        Content::Http1(message) => Some(&message.body),
        Content::Http2(message) => Some(&message.body),
        _ => None,
    }
}

/// `None` if something of it is unknown here, which the other end may know.
fn hash(exchange: &Exchange, asked: &Asked, message: &Message) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let target = asked.target.as_ref()?;
    (target.method(), target.authority(), target.path()).hash(&mut hasher);
    (exchange.pairing == Some(Pairing::NoResponse)).hash(&mut hasher);
    match &message.content {
        Content::Http1(message) => message.head.hash(&mut hasher),
        Content::Http2(message) => {
            for field in &message.fields {
                field.name.as_ref()?.hash(&mut hasher);
                field.value.as_ref()?.hash(&mut hasher);
            }
        }
        _ => {}
    }
    Some(hasher.finish())
}

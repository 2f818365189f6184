//! The addresses that stand in the packets of a connection.
//!
//! They are the real ones, with three exceptions. Wireshark looks for HTTP/2 only behind the ports of HTTP, so
//! that the server's port is 80 for connections that begin as HTTP/2. Where addresses are unknown, 192.0.2.1
//! (RFC 5737) stands for the client and port 80 of 192.0.2.2 for the server. And where two connections in the
//! file have the same addresses, as with both ends on one host, the second one has another client's port. The
//! comment of each packet then has the real addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::event::{DataEvent, Direction, Side, Tuple};

const UNKNOWN_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const UNKNOWN_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
/// The port of HTTP.
const HTTP: u16 = 80;
/// Ports behind which Wireshark expects HTTP, and so HTTP/2 as well.
const HTTP_PORTS: [u16; 4] = [HTTP, 3128, 8080, 8088];
/// The first bytes of what an HTTP/2 client sends (RFC 9113 §3.4), as many as must be there to recognize it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// The addresses of a connection, as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    /// The captured process is the client.
    pub(super) is_client: bool,
    /// None of the addresses is known.
    pub(super) are_unknown: bool,
}

impl Endpoints {
    /// Chooses them by the first event of a connection; `port` is the client's if it is unknown.
    pub(super) fn of(event: &DataEvent, port: u16) -> Self {
        let server_of_http2 = http2_server(event);
        let Some(socket) = event.socket else {
            // Who begins is the client; only an HTTP/2 server may be the first.
            let is_client = match server_of_http2 {
                Some(server) => server == End::Peer,
                None => event.direction == Direction::Write,
            };
            return Self {
                client: SocketAddr::new(UNKNOWN_CLIENT, port),
                server: SocketAddr::new(UNKNOWN_SERVER, HTTP),
                is_client,
                are_unknown: true,
            };
        };
        let Tuple { source, destination } = of_one_family(socket.tuple);
        let mut endpoints = Self {
            client: source,
            server: destination,
            is_client: socket.local != Some(Side::Destination),
            are_unknown: false,
        };
        if let Some(server) = server_of_http2 {
            endpoints.expect_http2(server);
        }
        endpoints
    }

    /// Sender and receiver of bytes that went in `direction`.
    pub(super) const fn way(&self, direction: Direction) -> (SocketAddr, SocketAddr) {
        match (direction, self.is_client) {
            (Direction::Write, true) | (Direction::Read, false) => (self.client, self.server),
            (Direction::Write, false) | (Direction::Read, true) => (self.server, self.client),
        }
    }

    /// The same for both directions.
    pub(super) fn pair(&self) -> (SocketAddr, SocketAddr) {
        (self.client.min(self.server), self.client.max(self.server))
    }

    fn expect_http2(&mut self, server: End) {
        let address = match (server, self.is_client) {
            (End::Peer, true) | (End::Process, false) => &mut self.server,
            (End::Peer, false) | (End::Process, true) => &mut self.client,
        };
        if !HTTP_PORTS.contains(&address.port()) {
            address.set_port(HTTP);
        }
    }
}

/// The captured process, or who it talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Process,
    Peer,
}

/// Who is the server, if the connection begins as HTTP/2: the client with the preface, the server with SETTINGS.
fn http2_server(event: &DataEvent) -> Option<End> {
    let sender = match event.direction {
        Direction::Write => End::Process,
        Direction::Read => End::Peer,
    };
    let receiver = match event.direction {
        Direction::Write => End::Peer,
        Direction::Read => End::Process,
    };
    if event.payload.starts_with(PREFACE) {
        Some(receiver)
    } else if begins_with_settings(&event.payload) {
        Some(sender)
    } else {
        None
    }
}

/// A SETTINGS frame without ACK: its length is a multiple of 6 and its stream 0 (RFC 9113 §6.5).
fn begins_with_settings(payload: &[u8]) -> bool {
    match payload.first_chunk::<9>() {
        Some(&[0, high, low, 4, 0, 0, 0, 0, 0]) => u16::from_be_bytes([high, low]).is_multiple_of(6),
        _ => false,
    }
}

/// IPv4 addresses as such, unless the other one is not.
fn of_one_family(tuple: Tuple) -> Tuple {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (source, destination) = (canonical(tuple.source), canonical(tuple.destination));
    if source.is_ipv4() == destination.is_ipv4() {
        Tuple { source, destination }
    } else {
        tuple
    }
}

//! Which connections are the two ends of one: those with the same addresses, the other way round.

use std::collections::hash_map::Entry;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, SocketAddr};

use ecapture_protocols::{AddressSource, Direction, Socket};
use foldhash::{HashMap, HashSet};

use crate::PipelineLimits;
use crate::messages::ConnectionId;

/// The open connections by a hash of their addresses, where both are certain; of those with equal ones the
/// latest.
#[derive(Debug, Default)]
pub(crate) struct ByAddresses {
    connections: HashMap<u64, ConnectionId>,
    /// Addresses that sockets of this host had, at most [`PipelineLimits::LOCAL_ADDRESSES`].
    local: HashSet<IpAddr>,
}

impl ByAddresses {
    pub(crate) fn note(&mut self, socket: Socket, id: ConnectionId) {
        if let Some((local, remote)) = exact_addresses(socket) {
            self.connections.insert(hash(local, remote), id);
            if self.local.len() < PipelineLimits::LOCAL_ADDRESSES {
                self.local.insert(local.ip());
            }
        }
    }

    /// Returns true if the other end is on this host, as far as sockets have shown.
    pub(crate) fn is_of_this_host(&self, socket: Socket) -> bool {
        exact_addresses(socket)
            .is_some_and(|(_, remote)| remote.ip().is_loopback() || self.local.contains(&remote.ip()))
    }

    pub(crate) fn forget(&mut self, socket: Socket, id: ConnectionId) {
        if let Some((local, remote)) = exact_addresses(socket)
            && let Entry::Occupied(entry) = self.connections.entry(hash(local, remote))
            && *entry.get() == id
        {
            entry.remove();
        }
    }

    /// The connection that is probably the other end; [`are_ends`] decides.
    pub(crate) fn other_end(&self, socket: Socket) -> Option<ConnectionId> {
        let (local, remote) = exact_addresses(socket)?;
        self.connections.get(&hash(remote, local)).copied()
    }
}

/// Returns true if these are the two sockets of one connection.
pub(crate) fn are_ends(one: Socket, other: Socket) -> bool {
    match (exact_addresses(one), exact_addresses(other)) {
        (Some((local, remote)), Some(other)) => (remote, local) == other,
        _ => false,
    }
}

/// The local and the remote address, if both are certain.
fn exact_addresses(socket: Socket) -> Option<(SocketAddr, SocketAddr)> {
    let is_exact = socket.address_source == AddressSource::Exact;
    let (local, remote) = socket.endpoints(Direction::Write).filter(|_| is_exact)?;
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Some((canonical(local), canonical(remote)))
}

fn hash(local: SocketAddr, remote: SocketAddr) -> u64 {
    foldhash::fast::FixedState::default().hash_one((local, remote))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ecapture_protocols::{Side, Tuple};

    fn socket(local: Side, client: &str, server: &str) -> Socket {
        Socket {
            sock: 1,
            tuple: Tuple {
                source: client.parse().expect("an address"),
                destination: server.parse().expect("an address"),
            },
            local: Some(local),
            address_source: AddressSource::Exact,
        }
    }

    const CLIENT: &str = "10.0.0.1:5000";
    const SERVER: &str = "10.0.0.2:443";

    #[test]
    fn the_other_end_has_the_same_addresses_the_other_way_round() {
        let (near, far) = (
            socket(Side::Source, CLIENT, SERVER),
            socket(Side::Destination, CLIENT, SERVER),
        );
        let mut connections = ByAddresses::default();
        connections.note(near, ConnectionId(7));
        assert_eq!(connections.other_end(far), Some(ConnectionId(7)));
        assert_eq!(
            connections.other_end(near),
            None,
            "an end is not its own other end"
        );
        let other_port = socket(Side::Destination, "10.0.0.1:5001", SERVER);
        assert_eq!(connections.other_end(other_port), None);
        assert!(are_ends(near, far) && are_ends(far, near));
        assert!(!are_ends(near, near) && !are_ends(near, other_port));
    }

    /// A server that listens on `::` sees IPv4 clients with mapped addresses.
    #[test]
    fn mapped_addresses_are_the_same() {
        let near = socket(Side::Source, CLIENT, SERVER);
        let far = socket(
            Side::Destination,
            "[::ffff:10.0.0.1]:5000",
            "[::ffff:10.0.0.2]:443",
        );
        let mut connections = ByAddresses::default();
        connections.note(near, ConnectionId(7));
        assert_eq!(connections.other_end(far), Some(ConnectionId(7)));
        assert!(are_ends(near, far));
    }

    #[test]
    fn addresses_that_are_not_certain_have_no_other_end() {
        let near = socket(Side::Source, CLIENT, SERVER);
        let far = socket(Side::Destination, CLIENT, SERVER);
        let guessed = Socket {
            address_source: AddressSource::Heuristic,
            ..far
        };
        let sideless = Socket { local: None, ..far };
        let mut connections = ByAddresses::default();
        for (number, uncertain) in (0..).zip([guessed, sideless]) {
            connections.note(uncertain, ConnectionId(number));
            assert_eq!(connections.other_end(near), None, "{uncertain:?}");
            assert!(!are_ends(near, uncertain) && !connections.is_of_this_host(uncertain));
        }
        connections.note(near, ConnectionId(7));
        assert_eq!(connections.other_end(guessed), None);
    }

    #[test]
    fn the_latest_of_several_is_known_until_it_is_forgotten() {
        let near = socket(Side::Source, CLIENT, SERVER);
        let far = socket(Side::Destination, CLIENT, SERVER);
        let mut connections = ByAddresses::default();
        connections.note(near, ConnectionId(1));
        connections.note(near, ConnectionId(2));
        connections.forget(near, ConnectionId(1));
        assert_eq!(
            connections.other_end(far),
            Some(ConnectionId(2)),
            "the port is used again"
        );
        connections.forget(near, ConnectionId(2));
        assert_eq!(connections.other_end(far), None);
        assert!(connections.connections.is_empty());
    }

    #[test]
    fn an_end_is_of_this_host_if_a_socket_had_its_address() {
        let near = socket(Side::Source, CLIENT, SERVER);
        let mut connections = ByAddresses::default();
        connections.note(near, ConnectionId(1));
        assert!(!connections.is_of_this_host(near));
        let served = socket(Side::Destination, "10.9.9.9:1", "10.0.0.2:80");
        connections.note(served, ConnectionId(2));
        assert!(connections.is_of_this_host(near));
        let own = socket(Side::Source, "[::1]:5000", "[::1]:443");
        assert!(connections.is_of_this_host(own), "loopback");
    }

    #[test]
    fn the_addresses_that_are_remembered_are_bounded() {
        let mut connections = ByAddresses::default();
        for number in 0..2 * u32::try_from(PipelineLimits::LOCAL_ADDRESSES).expect("it is small") {
            let local = format!("{}:1", std::net::Ipv4Addr::from(number + 0x0A00_0000));
            connections.note(socket(Side::Source, &local, SERVER), ConnectionId(number));
        }
        assert_eq!(connections.local.len(), PipelineLimits::LOCAL_ADDRESSES);
    }
}

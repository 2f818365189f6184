//! Which process owns the socket of a packet.
//!
//! The kernel reports who uses a socket, by its cookie and its addresses. Sent packets carry the cookie, so a packet
//! never belongs to another process that had the same port before. Received ones are looked up by their addresses.
//!
//! A bare packet (a reset, or nothing but an acknowledgement) may carry the cookie of a socket that is not the
//! connection's: when the connection's socket is gone, the kernel answers in the name of the listening socket, or of one
//! of its own. So it says nothing about the connection, and belongs to it by its addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ecapture_ebpf::packet::OwnerRecord;
use ecapture_ebpf::record::FAMILY_V6;
use ecapture_protocols::packet::{Flow, Headers, Recent};
use ecapture_protocols::{Comm, Process};

use crate::limits;

/// A process and whether the filters let it through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) process: Process,
    pub(super) wanted: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Owners {
    by_cookie: Recent<u64, Owner, { limits::OWNED_SOCKETS }>,
    /// The cookie of the socket at the source of a flow.
    cookies: Recent<Flow, u64, { limits::OWNED_SOCKETS }>,
    /// Sockets that are not connected, by protocol and local address.
    unconnected: Recent<(u8, SocketAddr), u64, { limits::OWNED_SOCKETS }>,
}

impl Owners {
    /// Notes what the kernel reports.
    pub(super) fn note(&mut self, record: &OwnerRecord) {
        let owner = Owner {
            process: Process {
                pid: record.pid,
                tid: record.tid,
                uid: Some(record.uid),
                comm: Comm::new(record.comm),
            },
            wanted: record.wanted != 0,
        };
        self.by_cookie.insert(record.cookie, owner);
        let protocol = u8::try_from(record.protocol).unwrap_or(0);
        let local = SocketAddr::new(address(record.family, record.local_address), record.local_port);
        let remote = SocketAddr::new(address(record.family, record.remote_address), record.remote_port);
        if record.local_port == 0 {
            // A socket that is about to connect.
        } else if record.remote_port == 0 {
            self.unconnected.insert((protocol, local), record.cookie);
        } else {
            let flow = Flow {
                protocol,
                source: local,
                destination: remote,
            };
            self.cookies.insert(flow, record.cookie);
        }
    }

    /// Notes what a packet says; `cookie` is that of the socket that sent it, or 0.
    pub(super) fn packet(&mut self, headers: &Headers<'_>, cookie: u64) {
        if headers.opens {
            // What was known of its addresses is about an older connection.
            self.cookies.remove(&headers.flow.reversed());
        }
        if cookie != 0 && !headers.is_bare {
            self.cookies.insert(headers.flow, cookie);
        }
    }

    /// Who sent a packet.
    pub(super) fn sender(&mut self, flow: Flow, cookie: u64, is_bare: bool) -> Option<Owner> {
        let known = self.by_cookie.get_mut(&cookie).copied();
        if cookie != 0 && (known.is_some() || !is_bare) {
            return known;
        }
        self.local_end(flow)
    }

    /// Who received a packet, or will.
    pub(super) fn receiver(&mut self, flow: Flow) -> Option<Owner> {
        self.local_end(flow.reversed())
    }

    /// The owner of the socket at the source of a flow.
    fn local_end(&mut self, flow: Flow) -> Option<Owner> {
        if let Some(&mut cookie) = self.cookies.get_mut(&flow) {
            return self.by_cookie.get_mut(&cookie).copied();
        }
        if flow.is_tcp() {
            return None;
        }
        let port = flow.source.port();
        let any = [
            flow.source,
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
        ];
        let mut cookies = any.into_iter();
        let cookie = cookies.find_map(|local| self.unconnected.get_mut(&(flow.protocol, local)).copied())?;
        self.by_cookie.get_mut(&cookie).copied()
    }
}

/// An IPv4 address inside an IPv6 socket is that of its packets.
fn address(family: u16, bytes: [u8; 16]) -> IpAddr {
    if family == FAMILY_V6 {
        let address = Ipv6Addr::from(bytes);
        return address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    }
    let [a, b, c, d, ..] = bytes;
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use ecapture_ebpf::packet::KIND_OWNER;
    use ecapture_ebpf::record::FAMILY_V4;

    use super::*;

    fn record(pid: u32, cookie: u64, ports: (u16, u16)) -> OwnerRecord {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&[127, 0, 0, 1]);
        OwnerRecord {
            kind: KIND_OWNER,
            pid,
            tid: pid,
            uid: 0,
            cookie,
            comm: [0; 16],
            local_address: address,
            remote_address: address,
            local_port: ports.0,
            remote_port: ports.1,
            family: FAMILY_V4,
            protocol: 6,
            wanted: 1,
            padding: 0,
        }
    }

    fn flow(source: u16, destination: u16) -> Flow {
        Flow {
            protocol: 6,
            source: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), source),
            destination: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), destination),
        }
    }

    fn headers(flow: Flow, opens: bool, is_bare: bool) -> Headers<'static> {
        Headers {
            flow,
            opens,
            is_bare,
            payload: &[],
        }
    }

    fn pid(owner: Option<Owner>) -> Option<u32> {
        owner.map(|owner| owner.process.pid)
    }

    #[test]
    fn both_ends_of_a_connection_have_their_owners() {
        let mut owners = Owners::default();
        owners.note(&record(1, 10, (5000, 443)));
        owners.note(&record(2, 20, (443, 5000)));
        let sent = flow(5000, 443);
        assert_eq!(pid(owners.sender(sent, 10, false)), Some(1));
        assert_eq!(
            pid(owners.sender(sent, 0, false)),
            Some(1),
            "a packet without a cookie"
        );
        assert_eq!(pid(owners.receiver(sent)), Some(2));
        assert_eq!(pid(owners.sender(flow(5001, 443), 11, false)), None);
    }

    #[test]
    fn a_new_socket_with_the_ports_of_an_old_one_does_not_inherit_its_owner() {
        let mut owners = Owners::default();
        owners.note(&record(1, 10, (5000, 443)));
        owners.packet(&headers(flow(5000, 443), false, false), 11);
        assert_eq!(pid(owners.sender(flow(5000, 443), 11, false)), None);
        assert_eq!(pid(owners.receiver(flow(443, 5000))), None);
        owners.note(&record(2, 20, (443, 5000)));
        owners.packet(&headers(flow(5000, 443), true, false), 12);
        assert_eq!(pid(owners.receiver(flow(5000, 443))), None);
    }

    #[test]
    fn a_reset_in_the_name_of_another_socket_does_not_change_whose_a_connection_is() {
        let mut owners = Owners::default();
        owners.note(&record(1, 10, (5000, 443)));
        owners.note(&record(2, 20, (443, 5000)));
        let answer = flow(443, 5000);
        let listening = 30;
        owners.packet(&headers(answer, false, true), listening);
        assert_eq!(pid(owners.receiver(flow(5000, 443))), Some(2));
        assert_eq!(pid(owners.sender(answer, listening, true)), Some(2));
        assert_eq!(pid(owners.sender(flow(444, 5000), listening, true)), None);
    }
}

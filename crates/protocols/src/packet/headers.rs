//! Finds the addresses and ports of a packet, and the bytes behind its TCP header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::pcapng::LinkType;

/// `IPPROTO_TCP`
const TCP: u8 = 6;
/// `IPPROTO_UDP`
const UDP: u8 = 17;
/// EtherTypes of VLAN tags: IEEE 802.1Q, 802.1ad, and what some switches use for two tags.
const VLAN_TAGS: [u16; 3] = [0x8100, 0x88A8, 0x9100];
/// VLAN tags and IPv6 extension headers of one packet that are walked over.
const NESTED: usize = 8;

/// Which sockets a packet is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Number of the protocol: TCP or UDP.
    pub protocol: u8,
    /// Where the packet comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
}

impl Flow {
    /// The packets in the other direction.
    pub const fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
        }
    }

    /// The same flow for both directions.
    pub fn connection(self) -> Self {
        if self.source <= self.destination {
            self
        } else {
            self.reversed()
        }
    }

    /// Returns true if it is of TCP.
    pub const fn is_tcp(self) -> bool {
        self.protocol == TCP
    }
}

/// What the headers of a TCP or UDP packet say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    /// Its addresses.
    pub flow: Flow,
    /// It opens a TCP connection: SYN without ACK.
    pub opens: bool,
    /// The captured bytes behind the header of TCP or UDP.
    pub payload: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Reads the headers of `packet`; `None` for what is not TCP or UDP, or a fragment without their header.
    pub fn of(link_type: LinkType, packet: &'a [u8]) -> Option<Self> {
        let network = match link_type {
            LinkType::ETHERNET => behind_ethernet(packet)?,
            LinkType::RAW => packet,
            _ => return None,
        };
        match network.first()? >> 4 {
            4 => of_ipv4(network),
            6 => of_ipv6(network),
            _ => None,
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn behind_ethernet(frame: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    for _ in 0..NESTED {
        let kind = u16_at(frame, at)?;
        if !VLAN_TAGS.contains(&kind) {
            return matches!(kind, 0x0800 | 0x86DD).then(|| frame.get(at + 2..))?;
        }
        at += 4;
    }
    None
}

/// RFC 791 §3.1.
fn of_ipv4(packet: &[u8]) -> Option<Headers<'_>> {
    let header = usize::from(packet.first()? & 0xF) * 4;
    let fragment_offset = u16_at(packet, 6)? & 0x1FFF;
    if header < 20 || fragment_offset > 0 {
        return None;
    }
    let address = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?)));
    // A packet that the kernel has not cut into segments yet may say 0 (BIG TCP). Ethernet pads short packets.
    let total = match usize::from(u16_at(packet, 2)?) {
        0 => packet.len(),
        total => total.min(packet.len()),
    };
    let content = packet.get(header..total)?;
    of_transport(*packet.get(9)?, address(12)?, address(16)?, content)
}

/// RFC 8200 §3 and §4.
fn of_ipv6(packet: &[u8]) -> Option<Headers<'_>> {
    let address = |at: usize| {
        Some(IpAddr::V6(Ipv6Addr::from(
            *packet.get(at..)?.first_chunk::<16>()?,
        )))
    };
    let total = match usize::from(u16_at(packet, 4)?) {
        0 => packet.len(),
        length => (40 + length).min(packet.len()),
    };
    let packet_end = packet.get(..total)?;
    let (mut next, mut at) = (*packet.get(6)?, 40);
    for _ in 0..NESTED {
        match next {
            // Hop-by-hop options, routing, destination options.
            0 | 43 | 60 => {
                let length = (usize::from(*packet_end.get(at + 1)?) + 1) * 8;
                next = *packet_end.get(at)?;
                at += length;
            }
            // Fragment.
            44 => {
                if u16_at(packet_end, at + 2)? & 0xFFF8 != 0 {
                    return None;
                }
                next = *packet_end.get(at)?;
                at += 8;
            }
            _ => return of_transport(next, address(8)?, address(24)?, packet_end.get(at..)?),
        }
    }
    None
}

fn of_transport(protocol: u8, source: IpAddr, destination: IpAddr, content: &[u8]) -> Option<Headers<'_>> {
    let flow = Flow {
        protocol,
        source: SocketAddr::new(source, u16_at(content, 0)?),
        destination: SocketAddr::new(destination, u16_at(content, 2)?),
    };
    match protocol {
        TCP => {
            let header = usize::from(content.get(12)? >> 4) * 4;
            Some(Headers {
                flow,
                opens: content.get(13)? & 0x12 == 0x02,
                payload: content.get(header.max(20)..).unwrap_or_default(),
            })
        }
        UDP => Some(Headers {
            flow,
            opens: false,
            payload: content.get(8..).unwrap_or_default(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP segment with `payload` from 10.0.0.1:1000 to 10.0.0.2:443.
    fn segment(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let total = u16::try_from(40 + payload.len()).unwrap();
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        bytes.extend_from_slice(&1000u16.to_be_bytes());
        bytes.extend_from_slice(&443u16.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_segment_is_found_behind_tags_and_without_its_padding() {
        let packet = segment(0x02, b"hello");
        let raw = Headers::of(LinkType::RAW, &packet).unwrap();
        assert_eq!(raw.flow.source, "10.0.0.1:1000".parse().unwrap());
        assert_eq!(raw.flow.destination, "10.0.0.2:443".parse().unwrap());
        assert!(raw.opens);
        assert_eq!(raw.payload, b"hello");
        let tags: [&[u8]; 3] = [
            &[8, 0],
            &[0x81, 0, 0, 5, 8, 0],
            &[0x88, 0xA8, 0, 5, 0x81, 0, 0, 6, 8, 0],
        ];
        for tag in tags {
            let frame = [&[0; 12], tag, &packet, &[0; 6]].concat();
            assert_eq!(Headers::of(LinkType::ETHERNET, &frame), Some(raw));
        }
        let acknowledged = segment(0x12, b"");
        assert!(!Headers::of(LinkType::RAW, &acknowledged).unwrap().opens);
    }

    #[test]
    fn later_fragments_and_short_packets_have_no_flow() {
        let mut packet = segment(0x10, b"hello");
        for length in 0..36 {
            let _no_panic = Headers::of(LinkType::RAW, &packet[..length]);
        }
        packet[7] = 1;
        assert_eq!(Headers::of(LinkType::RAW, &packet), None);
    }

    #[test]
    fn extension_headers_of_ipv6_are_walked_over() {
        let udp = [0, 53, 0, 54, 0, 8, 0, 0];
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[5] = 24;
        packet[23] = 1;
        packet[39] = 2;
        // Destination options, then the first fragment.
        packet[6] = 60;
        packet.extend_from_slice(&[44, 0, 0, 0, 0, 0, 0, 0, UDP, 0, 0, 1, 0, 0, 0, 7]);
        packet.extend_from_slice(&udp);
        let headers = Headers::of(LinkType::RAW, &packet).unwrap();
        assert_eq!(headers.flow.source, "[::1]:53".parse().unwrap());
        assert_eq!(headers.flow.destination, "[::2]:54".parse().unwrap());
        assert_eq!(headers.flow.connection(), headers.flow.reversed().connection());
        packet[40 + 8 + 2] = 1;
        assert_eq!(Headers::of(LinkType::RAW, &packet), None, "a later fragment");
    }
}

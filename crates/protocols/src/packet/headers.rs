//! Finds the addresses and ports of a packet, and the bytes behind its TCP header.

use std::net::SocketAddr;

use super::ip::{TCP, UDP, datagram};
use super::link::{Network, network};
use super::tcp::segment;
use crate::pcapng::LinkType;

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
    /// It resets a TCP connection, or only acknowledges. Such packets the kernel also sends for a connection whose socket
    /// is gone, and then in the name of another socket.
    pub is_bare: bool,
    /// The captured bytes behind the header of TCP or UDP.
    pub payload: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Reads the headers of `packet`; `None` for what is not TCP or UDP, or a fragment without their header.
    pub fn of(link_type: LinkType, packet: &'a [u8]) -> Option<Self> {
        let Network::Ip(found) = network(link_type, packet) else {
            return None;
        };
        let datagram = datagram(found)?;
        if datagram.fragment.is_some_and(|fragment| fragment.offset > 0) {
            return None;
        }
        let flow = |source, destination| Flow {
            protocol: datagram.protocol,
            source: SocketAddr::new(datagram.source, source),
            destination: SocketAddr::new(datagram.destination, destination),
        };
        match datagram.protocol {
            TCP => {
                let segment = segment(datagram.payload)?;
                let is_empty = segment.is_whole && segment.payload.is_empty() && datagram.cut == 0;
                Some(Self {
                    flow: flow(segment.source, segment.destination),
                    opens: segment.syn && segment.acknowledged.is_none(),
                    is_bare: segment.rst || is_empty && !segment.syn && !segment.fin,
                    payload: segment.payload,
                })
            }
            UDP => {
                let (&[a, b, c, d, ..], payload) = datagram.payload.split_first_chunk::<8>()?;
                Some(Self {
                    flow: flow(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
                    opens: false,
                    is_bare: false,
                    payload,
                })
            }
            _ => None,
        }
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
    fn bare_segments_are_resets_and_acknowledgements_without_data() {
        const ETHERNET_HEADER: [u8; 14] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0];
        for (flags, payload, is_bare) in [
            (0x02, &b""[..], false),
            (0x12, b"", false),
            (0x10, b"", true),
            (0x10, b"data", false),
            (0x11, b"", false),
            (0x14, b"", true),
        ] {
            let frame = [&ETHERNET_HEADER[..], &segment(flags, payload)].concat();
            let headers = Headers::of(LinkType::ETHERNET, &frame).unwrap();
            assert_eq!(headers.is_bare, is_bare, "{flags:#x} {payload:?}");
        }
        let frame = [&ETHERNET_HEADER[..], &segment(0x10, b"data")].concat();
        let cut = Headers::of(LinkType::ETHERNET, &frame[..frame.len() - 4]).unwrap();
        assert!(!cut.is_bare, "its data was not captured");
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

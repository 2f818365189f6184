//! IPv4 (RFC 791) and IPv6 (RFC 8200) packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The protocol number of TCP.
pub(crate) const TCP: u8 = 6;
/// The protocol number of UDP.
pub(crate) const UDP: u8 = 17;
/// Extension headers of IPv6 in one packet.
const MOST_EXTENSIONS: usize = 8;

/// What an IP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// The captured bytes behind the header.
    pub(crate) payload: &'a [u8],
    /// Bytes at the end that were not captured.
    pub(crate) cut: usize,
    pub(crate) fragment: Option<Fragment>,
}

/// Which part of a packet it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) identification: u32,
    /// Of its first byte.
    pub(crate) offset: usize,
    pub(crate) has_more: bool,
}

impl Fragment {
    /// Returns false if it is the whole packet.
    const fn is_part(&self) -> bool {
        self.has_more || self.offset > 0
    }
}

/// Reads the header; `None` if it is none, or not as a whole.
pub(crate) fn datagram(packet: &[u8]) -> Option<Datagram<'_>> {
    match packet.first()? >> 4 {
        4 => version_4(packet),
        6 => version_6(packet),
        _ => None,
    }
}

fn version_4(packet: &[u8]) -> Option<Datagram<'_>> {
    let header = packet.first_chunk::<20>()?;
    let length = usize::from(header[0] & 0x0F) * 4;
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let protocol = header[9];
    let address = |at: usize| {
        let octets = header.get(at..)?.first_chunk::<4>()?;
        Some(IpAddr::from(Ipv4Addr::from(*octets)))
    };
    let total = match usize::from(number(2)) {
        // Left to the network card, which cuts the packet to pieces.
        0 => packet.len(),
        total => total,
    };
    if length < 20 || total < length {
        return None;
    }
    let captured = packet.len().min(total);
    let place = number(6);
    let fragment = Fragment {
        identification: number(4).into(),
        offset: usize::from(place & 0x1FFF) * 8,
        has_more: place & 0x2000 != 0,
    };
    Some(Datagram {
        source: address(12)?,
        destination: address(16)?,
        protocol,
        payload: packet.get(length..captured)?,
        cut: total - captured,
        fragment: Some(fragment).filter(Fragment::is_part),
    })
}

fn version_6(packet: &[u8]) -> Option<Datagram<'_>> {
    let (header, rest) = packet.split_first_chunk::<40>()?;
    let length = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
        // A jumbogram, or left to the network card.
        0 => rest.len(),
        length => length,
    };
    let captured = rest.len().min(length);
    let mut payload = &rest[..captured];
    let mut protocol = header[6];
    let mut fragment = None;
    for _ in 0..MOST_EXTENSIONS {
        if !is_extension(protocol) {
            break;
        }
        let &[next, size, ..] = payload.first_chunk::<8>()?;
        let skipped = match protocol {
            44 => {
                let place = u16::from_be_bytes([payload[2], payload[3]]);
                let identification = payload[4..].first_chunk::<4>()?;
                fragment = Some(Fragment {
                    identification: u32::from_be_bytes(*identification),
                    offset: usize::from(place & 0xFFF8),
                    has_more: place & 1 != 0,
                });
                8
            }
            51 => (usize::from(size) + 2) * 4,
            _ => (usize::from(size) + 1) * 8,
        };
        payload = payload.get(skipped..)?;
        protocol = next;
        // The rest of a fragment is read when it is put together.
        if fragment.as_ref().is_some_and(Fragment::is_part) {
            break;
        }
    }
    // A fragment that is the whole packet (RFC 8200 §4.5).
    let fragment = fragment.filter(Fragment::is_part);
    Some(Datagram {
        source: Ipv6Addr::from(*header[8..].first_chunk::<16>()?).into(),
        destination: Ipv6Addr::from(*header[24..].first_chunk::<16>()?).into(),
        protocol,
        payload,
        cut: length - captured,
        fragment,
    })
}

/// Hop-by-hop options, routing, fragment, authentication, destination options.
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 0 | 43 | 44 | 51 | 60)
}

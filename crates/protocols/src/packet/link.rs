//! Link layers: where in a captured packet the IP packet is.

use crate::pcapng::LinkType;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86DD;
/// IEEE 802.1Q and 802.1ad, and an old number of the latter.
const VLAN: [u16; 3] = [0x8100, 0x88A8, 0x9100];
/// Tags of VLANs in one packet.
const MOST_TAGS: usize = 8;

/// What a packet holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Network<'a> {
    /// An IP packet; its first digit says which version.
    Ip(&'a [u8]),
    /// Something else.
    Other,
    /// It ends within the header.
    Cut,
    /// Packets of this kind are not read.
    UnknownLink,
}

/// Finds the IP packet.
pub(crate) fn network(link: LinkType, packet: &[u8]) -> Network<'_> {
    match link {
        LinkType::ETHERNET => ethernet(packet, 12),
        // The protocol is the last field of the header.
        LinkType::LINUX_SLL => ethernet(packet, 14),
        LinkType::LINUX_SLL2 => match (packet.first_chunk::<2>(), packet.get(20..)) {
            (Some(&protocol), Some(rest)) => tagged(u16::from_be_bytes(protocol), rest),
            _ => Network::Cut,
        },
        LinkType::NULL | LinkType::LOOP => packet.get(4..).map_or(Network::Cut, Network::Ip),
        // The numbers are those that systems use themselves for raw IP.
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 | LinkType(12 | 14) => Network::Ip(packet),
        LinkType(_) => Network::UnknownLink,
    }
}

/// A header whose last two bytes, from `at` on, are the protocol.
fn ethernet(packet: &[u8], at: usize) -> Network<'_> {
    match packet.get(at..).and_then(<[u8]>::split_first_chunk::<2>) {
        Some((&protocol, rest)) => tagged(u16::from_be_bytes(protocol), rest),
        None => Network::Cut,
    }
}

fn tagged(mut protocol: u16, mut rest: &[u8]) -> Network<'_> {
    for _ in 0..MOST_TAGS {
        if !VLAN.contains(&protocol) {
            break;
        }
        let Some((&[_, _, high, low], behind)) = rest.split_first_chunk::<4>() else {
            return Network::Cut;
        };
        protocol = u16::from_be_bytes([high, low]);
        rest = behind;
    }
    match protocol {
        IPV4 | IPV6 => Network::Ip(rest),
        _ => Network::Other,
    }
}

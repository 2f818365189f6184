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
        IPV4 => Network::Ip(behind_rest_of_tag(4, protocol, rest)),
        IPV6 => Network::Ip(behind_rest_of_tag(6, protocol, rest)),
        _ => Network::Other,
    }
}

/// The IP packet in `rest`. Where an interface has a VLAN in another one, the packets of a cooked capture have the rest
/// of the inner tag before it: Linux takes off the outer one, and says that IP begins there.
fn behind_rest_of_tag(version: u8, protocol: u16, rest: &[u8]) -> &[u8] {
    match rest {
        &[tag, _, high, low, ref behind @ ..]
            if tag >> 4 != version
                && u16::from_be_bytes([high, low]) == protocol
                && behind.first().is_some_and(|first| first >> 4 == version) =>
        {
            behind
        }
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of SLL2, and what Linux 6.12 leaves of VLAN 7 in a provider's VLAN before an IPv4 packet.
    const DOUBLY_TAGGED: [u8; 28] = [
        8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 0x2E, 0x9B, 0xB2, 0x21, 0xE9, 0x6F, 0, 0, 0, 7, 8, 0, 0x45, 0, 0,
        60,
    ];

    #[test]
    fn the_rest_of_a_tag_in_a_cooked_packet_is_skipped() {
        let expected = Network::Ip(&DOUBLY_TAGGED[24..]);
        assert_eq!(network(LinkType::LINUX_SLL2, &DOUBLY_TAGGED), expected);
        // There libpcap puts the outer tag in again.
        let older = [&[0; 14][..], &[0x88, 0xA8, 0, 9, 8, 0], &DOUBLY_TAGGED[20..]].concat();
        assert_eq!(network(LinkType::LINUX_SLL, &older), expected);
    }

    #[test]
    fn other_cooked_packets_begin_behind_the_header() {
        // As long as the number of the protocol.
        let mut packet = [&DOUBLY_TAGGED[..20], &[0x45, 0, 8, 0, 0x45, 0]].concat();
        assert_eq!(network(LinkType::LINUX_SLL2, &packet), Network::Ip(&packet[20..]));
        packet[20] = 0;
        packet[22] = 9;
        assert_eq!(network(LinkType::LINUX_SLL2, &packet), Network::Ip(&packet[20..]));
        for length in 0..DOUBLY_TAGGED.len() {
            let _no_panic = network(LinkType::LINUX_SLL2, &DOUBLY_TAGGED[..length]);
        }
    }
}

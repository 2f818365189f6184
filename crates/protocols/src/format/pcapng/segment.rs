//! IP packets with a TCP segment (RFC 791, RFC 8200, RFC 9293).

use std::net::{IpAddr, SocketAddr};

/// Longest payload of one segment: the length of an IP packet is a number of 16 bits.
pub(super) const LONGEST: usize = 60 * 1024;

const TCP: u8 = 6;
const TCP_HEADER: u8 = 20;

/// The control bits of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    pub(super) const SYN: Self = Self(0x02);
    pub(super) const SYN_ACK: Self = Self(0x12);
    pub(super) const ACK: Self = Self(0x10);
    pub(super) const FIN_ACK: Self = Self(0x11);
    pub(super) const PUSH_ACK: Self = Self(0x18);

    const fn has_ack(self) -> bool {
        self.0 & Self::ACK.0 != 0
    }

    const fn has_syn(self) -> bool {
        self.0 & Self::SYN.0 != 0
    }
}

/// One segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: Flags,
    pub(super) payload: &'a [u8],
}

/// What both ends say in their SYN. The longest segment (RFC 9293 §3.7.1), padding, and the option of RFC 7323 §2
/// for a window of 1 GiB, so that no reader takes it for full.
const SYN_OPTIONS: [u8; 8] = [2, 4, 0xFF, 0xD7, 1, 3, 3, 14];

impl Segment<'_> {
    /// Replaces what `packet` holds by this segment in an IP packet. Both addresses are of one family.
    pub(super) fn write(&self, packet: &mut Vec<u8>) {
        packet.clear();
        let options: &[u8] = if self.flags.has_syn() { &SYN_OPTIONS } else { &[] };
        let header = TCP_HEADER + if self.flags.has_syn() { 8 } else { 0 };
        let length = u16::try_from(usize::from(header) + self.payload.len()).unwrap_or(u16::MAX);
        let pseudo = self.ip_header(length, packet);
        let start = packet.len();
        packet.extend_from_slice(&self.from.port().to_be_bytes());
        packet.extend_from_slice(&self.to.port().to_be_bytes());
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        let acknowledged = if self.flags.has_ack() {
            self.acknowledged
        } else {
            0
        };
        packet.extend_from_slice(&acknowledged.to_be_bytes());
        // Header length in words, flags, window, checksum, urgent pointer.
        packet.extend_from_slice(&[(header / 4) << 4, self.flags.0, 0xFF, 0xFF, 0, 0, 0, 0]);
        packet.extend_from_slice(options);
        packet.extend_from_slice(self.payload);
        let checksum = checksum(pseudo, &packet[start..]).to_be_bytes();
        packet[start + 16..start + 18].copy_from_slice(&checksum);
    }

    /// Appends the IP header; returns the sum over what stands for it in the checksum.
    fn ip_header(&self, length: u16, packet: &mut Vec<u8>) -> u64 {
        let start = packet.len();
        let sum = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let [high, low] = (length + 20).to_be_bytes();
                // Version and header length, service, length, identification, do not fragment, lifetime.
                packet.extend_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, 64, TCP, 0, 0]);
                packet.extend_from_slice(&from.octets());
                packet.extend_from_slice(&to.octets());
                let checksum = checksum(0, &packet[start..]).to_be_bytes();
                packet[start + 10..start + 12].copy_from_slice(&checksum);
                words(&packet[start + 12..])
            }
            (from, to) => {
                let [high, low] = length.to_be_bytes();
                packet.extend_from_slice(&[0x60, 0, 0, 0, high, low, TCP, 64]);
                packet.extend_from_slice(&in_six(from));
                packet.extend_from_slice(&in_six(to));
                words(&packet[start + 8..])
            }
        };
        sum + u64::from(TCP) + u64::from(length)
    }
}

fn in_six(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(sum: u64, bytes: &[u8]) -> u16 {
    let mut sum = sum + words(bytes);
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// The sum of the words of 16 bits; packets are too short for it to overflow.
fn words(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let pairs: u64 = pairs
        .iter()
        .map(|&pair| u64::from(u16::from_be_bytes(pair)))
        .sum();
    pairs + rest.first().map_or(0, |&last| u64::from(last) << 8)
}

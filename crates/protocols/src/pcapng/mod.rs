//! Captures of packets: writes pcapng (draft-ietf-opsawg-pcapng), reads pcapng and classic pcap
//! (draft-ietf-opsawg-pcap), in both byte orders.
//!
//! [`Writer`] appends blocks to a buffer, [`Reader`] finds them in one.

mod classic;
mod fields;
mod options;
mod read;
mod write;

pub use options::{Options, option};
pub use read::{Block, BlockFault, CaptureError, Packet, Reader, Step};
pub use write::{InterfaceBlock, PacketBlock, SectionBlock, StatisticsBlock, Writer};

/// Returns true if a file that begins with these bytes is a capture of packets.
pub fn is_capture(bytes: &[u8]) -> bool {
    bytes
        .first_chunk::<4>()
        .is_some_and(|&magic| ByteOrder::Little.u32(magic) == block::SECTION || classic::is_magic(magic))
}

/// The order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ByteOrder {
    /// The least significant byte first.
    #[default]
    Little,
    /// The most significant byte first.
    Big,
}

impl ByteOrder {
    const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    const fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }

    const fn of_u16(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    const fn of_u32(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    const fn of_u64(self, value: u64) -> [u8; 8] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }
}

/// The header that each packet of an interface begins with (the registry of link types of
/// draft-ietf-opsawg-pcaplinktype).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// The loopback of BSD: the address family in the order of the capturing host.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// An IPv4 or IPv6 packet without a header before it.
    pub const RAW: Self = Self(101);
    /// The loopback of OpenBSD: the address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked" capture.
    pub const LINUX_SLL: Self = Self(113);
    /// An IPv4 packet.
    pub const IPV4: Self = Self(228);
    /// An IPv6 packet.
    pub const IPV6: Self = Self(229);
    /// Exported PDUs of Wireshark: tags that name a dissector and addresses, then its bytes.
    pub const WIRESHARK_UPPER_PDU: Self = Self(252);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// The type of the secrets in a Decryption Secrets Block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretsType(pub u32);

impl SecretsType {
    /// Lines of the NSS key log format.
    pub const TLS_KEY_LOG: Self = Self(0x544C_534B);
}

/// The types of blocks.
mod block {
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const OBSOLETE_PACKET: u32 = 2;
    pub(super) const SIMPLE_PACKET: u32 = 3;
    pub(super) const STATISTICS: u32 = 5;
    pub(super) const ENHANCED_PACKET: u32 = 6;
    pub(super) const SECRETS: u32 = 10;
    /// The same in both byte orders.
    pub(super) const SECTION: u32 = 0x0A0D_0D0A;
    /// By which a reader finds out the byte order of a section.
    pub(super) const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;
    /// Type and length before the body, length after it.
    pub(super) const FRAMING: usize = 12;
}

/// Returns the number of bytes that follow `length` bytes up to a multiple of four.
const fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

#[cfg(test)]
mod tests;

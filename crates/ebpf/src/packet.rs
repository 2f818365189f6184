//! Records of packets and of the owners of sockets, in a ring buffer of their own (`PACKETS`), in the host's byte
//! order.

use core::mem::offset_of;

use crate::record::{DecodeError, Fields};

/// [`PacketHeader::kind`].
pub const KIND_PACKET: u32 = 1;
/// [`OwnerRecord::kind`].
pub const KIND_OWNER: u32 = 2;

/// [`PacketHeader::direction`]: the host received the packet.
pub const INGRESS: u32 = 0;
/// [`PacketHeader::direction`]: the host sent the packet.
pub const EGRESS: u32 = 1;

/// The header before the bytes of a packet.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHeader {
    /// [`KIND_PACKET`].
    pub kind: u32,
    /// Number of the interface (`ifindex`).
    pub interface: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub timestamp_ns: u64,
    /// Cookie of the socket that sent the packet, 0 if it has none or was received.
    pub cookie: u64,
    /// Bytes of the packet, without a VLAN tag that the kernel keeps beside it.
    pub length: u32,
    /// Bytes that follow this header.
    pub captured: u32,
    /// Tag control information of that VLAN tag.
    pub vlan_tci: u16,
    /// Protocol of that VLAN tag in network order, 0 if there is none.
    pub vlan_protocol: u16,
    /// [`INGRESS`] or [`EGRESS`].
    pub direction: u32,
}

/// A process uses a socket: sent once for each, and again when something in it has changed.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerRecord {
    /// [`KIND_OWNER`].
    pub kind: u32,
    /// Thread group id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Cookie of the socket.
    pub cookie: u64,
    /// Thread name.
    pub comm: [u8; 16],
    /// Local address in network order; an IPv4 address takes the first four bytes. All zeros if it is any.
    pub local_address: [u8; 16],
    /// Remote address, as the local one; all zeros if the socket is not connected.
    pub remote_address: [u8; 16],
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// As in [`crate::record::DataHeader::family`].
    pub family: u16,
    /// Number of the protocol, such as `IPPROTO_TCP`.
    pub protocol: u16,
    /// Not 0: the filters let the process through.
    pub wanted: u32,
    /// Always 0.
    pub padding: u32,
}

/// What the kernel remembers of a socket's owner, by cookie.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Thread group id.
    pub pid: u32,
    /// As in [`OwnerRecord::wanted`].
    pub wanted: u32,
    /// The local port and the remote one as they were reported.
    pub ports: u32,
    /// Always 0.
    pub padding: u32,
}

/// Packets of one interface: an entry of `INTERFACES`, for each CPU.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterfaceCounters {
    /// Packets that passed.
    pub received: u64,
    /// Of those, the ones lost because the ring was full.
    pub dropped: u64,
    /// Of those, the ones lost because their bytes could not be read.
    pub unreadable: u64,
    /// Received packets that the filter expression rejected in the kernel.
    pub rejected: u64,
    /// Bytes of a packet that are captured at most. Written by user space.
    pub snap_length: u32,
    /// Where the filter expression begins in `EXPRESSIONS`, and 1 more; 0: user space decides on all packets. Written by
    /// user space.
    pub expression: u32,
    /// Not 0: a VLAN tag that the kernel keeps beside a packet is put back into it, behind the addresses of Ethernet.
    /// Written by user space.
    pub puts_tags_back: u32,
    /// Always 0.
    pub padding: u32,
}

/// Bytes of Ethernet's addresses, behind which a VLAN tag is.
pub const ADDRESS_BYTES: u32 = 12;
/// Bytes of a VLAN tag: protocol and tag control information.
pub const TAG_BYTES: u32 = 4;

/// One instruction of classic BPF, an entry of `EXPRESSIONS`. Only user space writes there, and only programs whose
/// jumps all end within the program.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpressionInstruction {
    /// Operation and addressing mode.
    pub code: u16,
    /// Instructions to skip if the comparison holds.
    pub if_true: u8,
    /// Instructions to skip if it does not.
    pub if_false: u8,
    /// Operand.
    pub operand: u32,
}

/// Bytes of a [`PacketHeader`].
pub const PACKET_HEADER_BYTES: usize = size_of::<PacketHeader>();
/// Bytes of an [`OwnerRecord`].
pub const OWNER_RECORD_BYTES: usize = size_of::<OwnerRecord>();

const _: () = assert!(PACKET_HEADER_BYTES == 40);
const _: () = assert!(offset_of!(PacketHeader, vlan_tci) == 32);
const _: () = assert!(OWNER_RECORD_BYTES == 88);
const _: () = assert!(offset_of!(OwnerRecord, wanted) == 80);
const _: () = assert!(size_of::<Owner>() == 16);
const _: () = assert!(size_of::<InterfaceCounters>() == 48);
const _: () = assert!(size_of::<ExpressionInstruction>() == 8);

/// One decoded record of `PACKETS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketRecord<'ring> {
    /// A packet with its captured bytes.
    Packet(PacketHeader, &'ring [u8]),
    /// The owner of a socket.
    Owner(OwnerRecord),
}

impl<'ring> PacketRecord<'ring> {
    /// Decodes one record.
    ///
    /// # Errors
    ///
    /// As for [`crate::record::Record::decode`].
    pub fn decode(bytes: &'ring [u8]) -> Result<Self, DecodeError> {
        match Fields::new(bytes, size_of::<u32>())?.u32() {
            KIND_PACKET => Self::decode_packet(bytes),
            KIND_OWNER => Self::decode_owner(bytes),
            unknown => Err(DecodeError::UnknownKind(unknown)),
        }
    }

    fn decode_packet(bytes: &'ring [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(bytes, PACKET_HEADER_BYTES)?;
        let header = PacketHeader {
            kind: fields.u32(),
            interface: fields.u32(),
            timestamp_ns: fields.u64(),
            cookie: fields.u64(),
            length: fields.u32(),
            captured: fields.u32(),
            vlan_tci: fields.u16(),
            vlan_protocol: fields.u16(),
            direction: fields.u32(),
        };
        let expected = PACKET_HEADER_BYTES.saturating_add(header.captured as usize);
        match bytes.get(PACKET_HEADER_BYTES..expected) {
            Some(packet) => Ok(Self::Packet(header, packet)),
            None => Err(DecodeError::Short {
                expected,
                observed: bytes.len(),
            }),
        }
    }

    fn decode_owner(bytes: &'ring [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(bytes, OWNER_RECORD_BYTES)?;
        Ok(Self::Owner(OwnerRecord {
            kind: fields.u32(),
            pid: fields.u32(),
            tid: fields.u32(),
            uid: fields.u32(),
            cookie: fields.u64(),
            comm: fields.array(),
            local_address: fields.array(),
            remote_address: fields.array(),
            local_port: fields.u16(),
            remote_port: fields.u16(),
            family: fields.u16(),
            protocol: fields.u16(),
            wanted: fields.u32(),
            padding: 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_ends_where_its_header_says() {
        let mut bytes = [0; PACKET_HEADER_BYTES + 4];
        bytes[..4].copy_from_slice(&KIND_PACKET.to_ne_bytes());
        bytes[28..32].copy_from_slice(&3u32.to_ne_bytes());
        bytes[PACKET_HEADER_BYTES..].copy_from_slice(b"abcd");
        let Ok(PacketRecord::Packet(header, packet)) = PacketRecord::decode(&bytes) else {
            panic!("it is a packet");
        };
        assert_eq!((header.captured, packet), (3, &b"abc"[..]));
        assert_eq!(
            PacketRecord::decode(&bytes[..PACKET_HEADER_BYTES + 2]),
            Err(DecodeError::Short {
                expected: PACKET_HEADER_BYTES + 3,
                observed: PACKET_HEADER_BYTES + 2
            })
        );
        assert_eq!(
            PacketRecord::decode(&9u32.to_ne_bytes()),
            Err(DecodeError::UnknownKind(9))
        );
        assert!(PacketRecord::decode(&KIND_OWNER.to_ne_bytes()).is_err());
    }
}

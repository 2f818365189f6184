//! Packets of the host's interfaces.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Process;
use crate::pcapng::LinkType;

/// What a capture of packets observes. Only formats for packets show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PacketFact {
    /// Packets of an interface are captured from now on. Comes before them.
    Interface(Interface),
    /// A packet.
    Packet(Packet),
    /// The figures of an interface at the end of its capture.
    Figures(InterfaceFigures),
}

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its number in this capture: 0 for the first one, 1 for the next.
    pub number: u32,
    /// Its name, such as `eth0`.
    pub name: Arc<str>,
    /// What its packets begin with.
    pub link_type: LinkType,
    /// Bytes of a packet that are captured at most.
    pub snap_length: u32,
    /// The filter expression that selects its packets.
    pub filter: Option<Arc<str>>,
}

/// A packet as it passed an interface. The process of the fact is the one that sent it, if that is known, else the one
/// that received it; its pid is 0 if neither is.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    /// Number of the interface in this capture.
    pub interface: u32,
    /// The host sent it.
    pub sent: bool,
    /// Bytes before it was cut. More than the interface's MTU where the kernel leaves it to the device to cut a packet
    /// into segments, or has joined segments that were received.
    pub length: u32,
    /// The captured bytes.
    pub data: Bytes,
    /// The process that owns the socket that sent it, when known.
    pub sender: Option<Process>,
    /// The process that owns the socket that received it, when known.
    pub receiver: Option<Process>,
}

/// What was counted of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterfaceFigures {
    /// Number of the interface in this capture.
    pub interface: u32,
    /// When its capture began, kernel monotonic time in nanoseconds.
    pub start_ns: u64,
    /// Packets that passed it, before any filter.
    pub received: u64,
    /// Of those, the ones that were lost for want of room.
    pub dropped: u64,
    /// Of those, the ones that filters let through.
    pub accepted: u64,
}

impl fmt::Debug for Packet {
    /// Shows how many bytes there are, and not which.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Packet")
            .field("interface", &self.interface)
            .field("sent", &self.sent)
            .field("length", &self.length)
            .field("captured", &self.data.len())
            .field("sender", &self.sender)
            .field("receiver", &self.receiver)
            .finish()
    }
}

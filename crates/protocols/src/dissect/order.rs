//! Puts packets of several interfaces in the order of their times: dumpcap reads its interfaces in turns, and writes an
//! answer, or the only captured copy of a packet, up to some hundred milliseconds before what it follows.

use std::collections::BTreeMap;

use crate::event::Process;
use crate::limits::{PACKETS_HELD_BYTES, PACKETS_LATE_NS};
use crate::pcapng::LinkType;

/// A packet that waits for older ones.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) link_type: LinkType,
    pub(super) timestamp_ns: u64,
    pub(super) data: Box<[u8]>,
    pub(super) processes: [Option<Process>; 2],
}

/// Packets of about the last second, from the second interface on.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// By time, then as they are in the file.
    held: BTreeMap<(u64, u64), Held>,
    bytes: usize,
    numbered: u64,
    newest_ns: u64,
    first_interface: Option<u32>,
    /// Packets of several interfaces were seen.
    has_several: bool,
}

impl Order {
    /// Returns true if packets have to wait; says that one of `interface` comes.
    pub(super) fn applies(&mut self, interface: u32) -> bool {
        self.has_several |= *self.first_interface.get_or_insert(interface) != interface;
        self.has_several
    }

    pub(super) fn add(&mut self, packet: Held) {
        self.newest_ns = self.newest_ns.max(packet.timestamp_ns);
        self.bytes += size(&packet);
        self.numbered += 1;
        self.held.insert((packet.timestamp_ns, self.numbered), packet);
    }

    /// Takes the oldest packet, if it need not wait any longer.
    pub(super) fn next(&mut self) -> Option<Held> {
        let (&(oldest_ns, _), _) = self.held.first_key_value()?;
        let is_due = self.newest_ns.saturating_sub(oldest_ns) > PACKETS_LATE_NS;
        if is_due || self.bytes > PACKETS_HELD_BYTES {
            self.take()
        } else {
            None
        }
    }

    /// Takes the oldest packet: nothing follows.
    pub(super) fn take(&mut self) -> Option<Held> {
        let (_, packet) = self.held.pop_first()?;
        self.bytes -= size(&packet);
        Some(packet)
    }
}

/// What it takes to hold a packet, about.
fn size(packet: &Held) -> usize {
    packet.data.len() + size_of::<Held>()
}

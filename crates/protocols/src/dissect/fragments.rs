//! Puts fragments of IP packets together (RFC 791 §3.2, RFC 8200 §4.5).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::limits::{FRAGMENTED_PACKETS, FRAGMENTS};
use crate::packet::{Datagram, Fragment};

/// Longest packet.
const LONGEST: usize = 65535;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u32,
}

/// Packets that wait for fragments. Those that began first are given up first.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    packets: HashMap<Key, Parts>,
    order: VecDeque<Key>,
    /// Packets that were given up.
    pub(super) lost: u64,
}

#[derive(Debug, Default)]
struct Parts {
    /// Offset and content.
    list: Vec<(usize, Vec<u8>)>,
    bytes: usize,
    total: Option<usize>,
}

impl Fragments {
    /// Adds a fragment; returns what the packet carries if it is the last one missing.
    pub(super) fn add(&mut self, datagram: &Datagram<'_>, fragment: Fragment) -> Option<Vec<u8>> {
        let key = Key {
            source: datagram.source,
            destination: datagram.destination,
            protocol: datagram.protocol,
            identification: fragment.identification,
        };
        let end = fragment.offset + datagram.payload.len();
        // A fragment that was cut in the capture: the packet will never be complete.
        if datagram.cut > 0 || end > LONGEST {
            self.give_up(&key);
            self.lost += 1;
            return None;
        }
        if !self.packets.contains_key(&key) {
            self.make_room();
            self.order.push_back(key);
        }
        let parts = self.packets.entry(key).or_default();
        parts.list.push((fragment.offset, datagram.payload.to_vec()));
        parts.bytes += datagram.payload.len();
        if !fragment.has_more {
            parts.total = Some(end);
        }
        if parts.list.len() > FRAGMENTS {
            self.give_up(&key);
            self.lost += 1;
            return None;
        }
        let whole = parts.whole()?;
        self.give_up(&key);
        Some(whole)
    }

    /// Counts all packets that are not complete as lost.
    pub(super) fn finish(&mut self) {
        self.lost += self.packets.len() as u64;
        *self = Self {
            lost: self.lost,
            ..Self::default()
        };
    }

    fn make_room(&mut self) {
        while self.packets.len() >= FRAGMENTED_PACKETS {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.lost += u64::from(self.packets.remove(&oldest).is_some());
        }
        // Keys of packets that were completed stay here until then.
        if self.order.len() > 2 * FRAGMENTED_PACKETS {
            let packets = &self.packets;
            self.order.retain(|key| packets.contains_key(key));
        }
    }

    fn give_up(&mut self, key: &Key) {
        self.packets.remove(key);
    }
}

impl Parts {
    /// All bytes, if none is missing. The first fragment with a byte counts.
    fn whole(&mut self) -> Option<Vec<u8>> {
        let total = self.total.filter(|&total| self.bytes >= total)?;
        self.list.sort_by_key(|&(offset, _)| offset);
        let mut whole: Vec<u8> = Vec::with_capacity(total);
        for (offset, part) in &self.list {
            let known = whole.len().checked_sub(*offset)?;
            whole.extend_from_slice(part.get(known..).unwrap_or_default());
        }
        whole.truncate(total);
        (whole.len() == total).then_some(whole)
    }
}

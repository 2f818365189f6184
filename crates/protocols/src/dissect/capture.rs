//! All connections of a capture.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use super::flow::{Context, Flow};
use super::fragments::Fragments;
use super::order::{Held, Order};
use super::processes::processes;
use super::tally::Tally;
use crate::event::{CapturedEvent, Process};
use crate::limits::{FLOWS, FLOWS_HELD_BYTES, PACKETS_LATE_NS};
use crate::packet::{Datagram, Network, Segment, TCP, datagram, network, segment};
use crate::pcapng::{LinkType, Packet, option};
use crate::tls::{Added, KeyLog};

/// Turns packets into events.
#[derive(Debug, Default)]
pub struct Capture {
    keys: KeyLog,
    flows: HashMap<Pair, Flow>,
    /// Pairs, and when they were used last when they came here.
    oldest: VecDeque<(u64, Pair)>,
    fragments: Fragments,
    /// `None` if packets are taken as they come.
    order: Option<Order>,
    tally: Tally,
    /// Connections so far.
    numbered: u64,
    /// Bytes that all flows hold.
    held: usize,
    timestamp_ns: u64,
}

/// Both ends of a connection, the smaller address first.
type Pair = (SocketAddr, SocketAddr);

impl Capture {
    /// Adds secrets. They decrypt what comes after them.
    pub fn add_keys(&mut self, lines: &[u8]) -> Added {
        self.keys.add(lines)
    }

    /// Puts packets of several interfaces in the order of their times, which needs those of another second. A capture
    /// that is followed live would be shown that much later.
    pub fn put_in_order(&mut self) {
        self.order.get_or_insert_default();
    }

    /// Adds a packet; appends what became known to `events`.
    pub fn packet(&mut self, packet: &Packet<'_>, events: &mut Vec<CapturedEvent>) {
        let comment = packet.options.get(option::COMMENT);
        let processes = comment.map(processes).unwrap_or_default();
        if let Some(order) = &mut self.order
            && order.applies(packet.interface)
            && let Some(timestamp_ns) = packet.timestamp_ns
        {
            order.add(Held {
                link_type: packet.link_type,
                timestamp_ns,
                data: packet.data.into(),
                processes,
            });
            while let Some(held) = self.order.as_mut().and_then(Order::next) {
                self.held(&held, events);
            }
        } else {
            if let Some(timestamp_ns) = packet.timestamp_ns {
                self.pass_time(timestamp_ns);
            }
            self.read(packet.link_type, packet.data, processes, events);
        }
    }

    fn held(&mut self, held: &Held, events: &mut Vec<CapturedEvent>) {
        self.pass_time(held.timestamp_ns);
        self.read(held.link_type, &held.data, held.processes, events);
    }

    /// Reads a packet's headers.
    fn read(
        &mut self,
        link_type: LinkType,
        data: &[u8],
        processes: [Option<Process>; 2],
        events: &mut Vec<CapturedEvent>,
    ) {
        self.tally.packets += 1;
        let found = match network(link_type, data) {
            Network::Ip(found) => found,
            Network::Other => return,
            Network::Cut => {
                self.tally.damaged += 1;
                return;
            }
            Network::UnknownLink => {
                self.tally.unknown_link += 1;
                return;
            }
        };
        let Some(datagram) = datagram(found) else {
            self.tally.damaged += 1;
            return;
        };
        if datagram.protocol != TCP {
            return;
        }
        match datagram.fragment {
            None => self.segment(&datagram, datagram.payload, processes, events),
            Some(fragment) => {
                if let Some(whole) = self.fragments.add(&datagram, fragment) {
                    self.segment(&datagram, &whole, processes, events);
                }
            }
        }
    }

    /// Time does not go back for packets that are a little older than others before them: dumpcap writes those of several
    /// interfaces in turns, and an answer must not be from before its request.
    const fn pass_time(&mut self, timestamp_ns: u64) {
        let back = self.timestamp_ns.saturating_sub(timestamp_ns);
        if back == 0 || back > PACKETS_LATE_NS {
            self.timestamp_ns = timestamp_ns;
        }
    }

    /// Ends all connections; nothing follows. Returns the figures.
    pub fn finish(&mut self, events: &mut Vec<CapturedEvent>) -> Tally {
        while let Some(held) = self.order.as_mut().and_then(Order::take) {
            self.held(&held, events);
        }
        let mut flows: Vec<Flow> = std::mem::take(&mut self.flows).into_values().collect();
        flows.sort_by_key(Flow::number);
        for mut flow in flows {
            flow.close(&mut self.context(events));
        }
        self.fragments.finish();
        self.tally.fragments_lost = self.fragments.lost;
        self.tally.clone()
    }

    fn segment(
        &mut self,
        datagram: &Datagram<'_>,
        bytes: &[u8],
        processes: [Option<Process>; 2],
        events: &mut Vec<CapturedEvent>,
    ) {
        let Some(segment) = segment(bytes).filter(|segment| segment.is_whole) else {
            self.tally.damaged += 1;
            return;
        };
        self.tally.segments += 1;
        let from = SocketAddr::new(datagram.source, segment.source);
        let to = SocketAddr::new(datagram.destination, segment.destination);
        let pair = (from.min(to), from.max(to));
        let is_known = self.flows.contains_key(&pair);
        if segment.syn && segment.acknowledged.is_none() {
            let is_its_own = self
                .flows
                .get_mut(&pair)
                .is_some_and(|flow| flow.accept_syn(from, segment.sequence));
            if !is_its_own {
                self.add_flow(pair, (from, to), Some(segment.sequence), events);
            }
        } else if !is_known && segment.syn {
            self.add_flow(pair, (to, from), None, events);
        } else if !is_known && !segment.payload.is_empty() {
            self.add_flow(pair, (from, to), None, events);
        }
        if let Some(mut flow) = self.flows.remove(&pair) {
            let held = flow.held();
            flow.used = self.tally.packets;
            if !flow.is_closed {
                flow.processes(from, processes);
                flow.segment(from, &segment, &mut self.context(events));
            }
            self.held = self.held.saturating_sub(held) + flow.held();
            self.flows.insert(pair, flow);
        }
        while self.held > FLOWS_HELD_BYTES && self.forget_oldest(events) {}
    }

    /// Adds a connection; one of the same addresses ends.
    fn add_flow(
        &mut self,
        pair: Pair,
        (client, server): (SocketAddr, SocketAddr),
        syn: Option<u32>,
        events: &mut Vec<CapturedEvent>,
    ) {
        self.end(&pair, events);
        while self.flows.len() >= FLOWS && self.forget_oldest(events) {}
        self.numbered += 1;
        let mut flow = Flow::new(self.numbered, client, server);
        flow.syn = syn;
        self.flows.insert(pair, flow);
        self.oldest.push_back((self.tally.packets, pair));
        if self.oldest.len() > 2 * FLOWS {
            let flows = &self.flows;
            self.oldest.retain(|(_, pair)| flows.contains_key(pair));
        }
    }

    /// Ends the connection that was used least. Each step ends one, or moves one that was used since.
    fn forget_oldest(&mut self, events: &mut Vec<CapturedEvent>) -> bool {
        while let Some((used, pair)) = self.oldest.pop_front() {
            match self.flows.get(&pair) {
                Some(flow) if flow.used > used => self.oldest.push_back((flow.used, pair)),
                Some(_) => {
                    self.end(&pair, events);
                    return true;
                }
                None => {}
            }
        }
        false
    }

    fn end(&mut self, pair: &Pair, events: &mut Vec<CapturedEvent>) {
        if let Some(mut flow) = self.flows.remove(pair) {
            self.held = self.held.saturating_sub(flow.held());
            flow.close(&mut self.context(events));
        }
    }

    const fn context<'a>(&'a mut self, events: &'a mut Vec<CapturedEvent>) -> Context<'a> {
        Context {
            keys: &self.keys,
            tally: &mut self.tally,
            events,
            timestamp_ns: self.timestamp_ns,
        }
    }
}

impl Flow {
    /// Takes a segment that `from` sent.
    fn segment(&mut self, from: SocketAddr, segment: &Segment<'_>, context: &mut Context<'_>) {
        let direction = self.direction(from);
        let mut pieces = Vec::new();
        if segment.syn {
            self.stream(direction).begin(segment.sequence);
        } else {
            let stream = self.stream(direction);
            stream.add(segment.sequence, segment.payload, segment.fin, &mut pieces);
        }
        if let Some(acknowledged) = segment.acknowledged {
            self.stream(direction.opposite()).acknowledge(acknowledged);
        }
        self.take(direction, &mut pieces, context);
        // Who is the client may have turned out.
        let direction = self.direction(from);
        for direction in [direction, direction.opposite()] {
            self.stream(direction).pass(&mut pieces);
            self.take(direction, &mut pieces, context);
        }
        if segment.rst || self.is_complete() {
            self.close(context);
        }
    }
}

//! Packets that wait until it is known whose they are, and until their keys are there. They leave in the order in which
//! they came.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use ecapture_protocols::event::{Packet, PacketFact};
use ecapture_protocols::packet::{Flow, KeyWatch};
use ecapture_protocols::{CapturedEvent, Fact, Observed, Process};

use super::owners::{Owner, Owners};
use crate::limits;

/// A packet in the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) timestamp_ns: u64,
    /// Number of the interface in this capture.
    pub(super) interface: u32,
    /// The interface leads back to this host: both ends are processes here.
    pub(super) loops_back: bool,
    pub(super) sent: bool,
    /// Of the socket that sent it, or 0.
    pub(super) cookie: u64,
    pub(super) length: u32,
    pub(super) data: Bytes,
    /// `None` for what is not TCP or UDP.
    pub(super) flow: Option<Flow>,
    /// As in the packet's headers.
    pub(super) is_bare: bool,
}

/// See the module's documentation.
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Only packets of processes that the filters let through.
    of_processes: bool,
    pub(super) keys: KeyWatch,
    /// Connections whose owners were waited for in vain.
    ownerless: HashSet<Flow>,
    pub(super) of_others: u64,
    pub(super) of_unknown: u64,
}

/// What to do with a packet.
enum Verdict {
    Show {
        sender: Option<Process>,
        receiver: Option<Process>,
    },
    /// It is of a process that the filters keep out.
    OfOthers,
    /// It is not known whose it is, and only packets of some processes are wanted.
    OfUnknown,
    Wait,
}

impl Queue {
    pub(super) fn new(of_processes: bool) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            of_processes,
            keys: KeyWatch::default(),
            ownerless: HashSet::new(),
            of_others: 0,
            of_unknown: 0,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < 2 * limits::HELD_PACKETS
    }

    pub(super) fn push(&mut self, packet: Waiting) {
        self.bytes += packet.data.len();
        self.waiting.push_back(packet);
    }

    /// Moves packets that wait for nothing to the `events`, until there are `most` of these. At `u64::MAX` nothing
    /// waits.
    pub(super) fn release(
        &mut self,
        now_ns: u64,
        owners: &mut Owners,
        most: usize,
        events: &mut Vec<CapturedEvent>,
    ) {
        while events.len() < most
            && let Some(packet) = self.waiting.front()
        {
            let is_crowded = self.bytes > limits::HELD_BYTES || self.waiting.len() > limits::HELD_PACKETS;
            let now_ns = if is_crowded { u64::MAX } else { now_ns };
            let (flow, age_ns) = (packet.flow, now_ns.saturating_sub(packet.timestamp_ns));
            let ends = flow.map(|flow| {
                [
                    owners.sender(flow, packet.cookie, packet.is_bare),
                    owners.receiver(flow),
                ]
            });
            let verdict = self.judge(flow.zip(ends), packet.loops_back, age_ns);
            let verdict = match verdict {
                Verdict::Show { .. } if flow.is_some_and(|flow| self.keys.waits(flow, now_ns)) => {
                    Verdict::Wait
                }
                verdict => verdict,
            };
            let (sender, receiver) = match verdict {
                Verdict::Wait => return,
                Verdict::OfOthers => {
                    self.of_others += 1;
                    self.pop();
                    continue;
                }
                Verdict::OfUnknown => {
                    self.of_unknown += 1;
                    self.pop();
                    continue;
                }
                Verdict::Show { sender, receiver } => (sender, receiver),
            };
            if let Some(packet) = self.pop() {
                events.push(packet.into_event(sender, receiver));
            }
        }
    }

    fn pop(&mut self) -> Option<Waiting> {
        let packet = self.waiting.pop_front()?;
        self.bytes -= packet.data.len();
        Some(packet)
    }

    /// Decides on a packet by the owners of its sender and of its receiver.
    fn judge(&mut self, flow: Option<(Flow, [Option<Owner>; 2])>, loops_back: bool, age_ns: u64) -> Verdict {
        let Some((flow, ends)) = flow else {
            return if self.of_processes {
                Verdict::OfUnknown
            } else {
                Verdict::Show {
                    sender: None,
                    receiver: None,
                }
            };
        };
        let [sender, receiver] = ends.map(|owner| owner.map(|owner| owner.process));
        let show = Verdict::Show { sender, receiver };
        if self.of_processes {
            if ends.iter().flatten().any(|owner| owner.wanted) {
                return show;
            }
            if ends.iter().all(Option::is_some) {
                return Verdict::OfOthers;
            }
            if !self.is_ownerless(flow, age_ns, limits::OWNER_WAIT_NS) {
                return Verdict::Wait;
            }
            return if ends.iter().any(Option::is_some) {
                Verdict::OfOthers
            } else {
                Verdict::OfUnknown
            };
        }
        let is_known = if loops_back {
            ends.iter().all(Option::is_some)
        } else {
            ends.iter().any(Option::is_some)
        };
        if is_known || self.is_ownerless(flow, age_ns, limits::OWNER_SHORT_WAIT_NS) {
            show
        } else {
            Verdict::Wait
        }
    }

    /// Returns true if the owners of a connection are no longer waited for.
    fn is_ownerless(&mut self, flow: Flow, age_ns: u64, longest_ns: u64) -> bool {
        let connection = flow.connection();
        if self.ownerless.contains(&connection) {
            return true;
        }
        if age_ns < longest_ns {
            return false;
        }
        if self.ownerless.len() >= limits::OWNERLESS {
            self.ownerless.clear();
        }
        self.ownerless.insert(connection);
        true
    }
}

impl Waiting {
    fn into_event(self, sender: Option<Process>, receiver: Option<Process>) -> CapturedEvent {
        CapturedEvent::Observed(Box::new(Observed {
            timestamp_ns: self.timestamp_ns,
            process: sender.or(receiver).unwrap_or_default(),
            container_id: None,
            program: None,
            fact: Fact::Packets(PacketFact::Packet(Packet {
                interface: self.interface,
                sent: self.sent,
                length: self.length,
                data: self.data,
                sender,
                receiver,
            })),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use ecapture_ebpf::packet::{KIND_OWNER, OwnerRecord};
    use ecapture_ebpf::record::FAMILY_V4;
    use ecapture_protocols::packet::Headers;

    use super::*;

    /// Packets of one connection, by the cookie of its socket.
    fn packet(cookie: u64, timestamp_ns: u64, bytes: usize) -> Waiting {
        let end = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let port = u16::try_from(cookie).unwrap();
        Waiting {
            timestamp_ns,
            interface: 0,
            loops_back: false,
            sent: true,
            cookie,
            length: 0,
            data: Bytes::from(vec![0; bytes]),
            flow: Some(Flow {
                protocol: 6,
                source: end(port),
                destination: end(443),
            }),
            is_bare: false,
        }
    }

    fn owner(cookie: u64, wanted: bool) -> OwnerRecord {
        OwnerRecord {
            kind: KIND_OWNER,
            pid: u32::try_from(cookie).unwrap(),
            tid: 0,
            uid: 0,
            cookie,
            comm: [0; 16],
            local_address: [0; 16],
            remote_address: [0; 16],
            local_port: 0,
            remote_port: 0,
            family: FAMILY_V4,
            protocol: 6,
            wanted: wanted.into(),
            padding: 0,
        }
    }

    /// The senders of the packets that leave, 0 for unknown ones.
    fn leaving(queue: &mut Queue, now_ns: u64, owners: &mut Owners) -> Vec<u32> {
        let mut events = Vec::new();
        queue.release(now_ns, owners, usize::MAX, &mut events);
        let pids = events.iter().map(|event| match event {
            CapturedEvent::Observed(observed) => observed.process.pid,
            _ => panic!("packets are facts"),
        });
        pids.collect()
    }

    #[test]
    fn packets_leave_in_order_when_their_owner_is_known_or_not_for_long() {
        let (mut queue, mut owners) = (Queue::new(false), Owners::default());
        queue.push(packet(1, 0, 10));
        queue.push(packet(2, 1, 10));
        owners.note(&owner(2, true));
        assert!(
            leaving(&mut queue, 10, &mut owners).is_empty(),
            "the first one waits"
        );
        owners.note(&owner(1, true));
        assert_eq!(leaving(&mut queue, 11, &mut owners), [1, 2]);
        queue.push(packet(3, 0, 10));
        assert!(leaving(&mut queue, limits::OWNER_SHORT_WAIT_NS - 1, &mut owners).is_empty());
        assert_eq!(leaving(&mut queue, limits::OWNER_SHORT_WAIT_NS, &mut owners), [0]);
        queue.push(packet(3, limits::OWNER_SHORT_WAIT_NS, 10));
        assert_eq!(
            leaving(&mut queue, limits::OWNER_SHORT_WAIT_NS, &mut owners),
            [0],
            "this connection has waited"
        );
    }

    #[test]
    fn of_some_processes_only_their_packets_leave() {
        let (mut queue, mut owners) = (Queue::new(true), Owners::default());
        owners.note(&owner(1, true));
        owners.note(&owner(2, false));
        for cookie in [2, 1, 3] {
            queue.push(packet(cookie, 0, 10));
        }
        // It is not known who receives the packets of the second one.
        assert!(leaving(&mut queue, limits::OWNER_WAIT_NS - 1, &mut owners).is_empty());
        assert_eq!(leaving(&mut queue, limits::OWNER_WAIT_NS, &mut owners), [1]);
        assert_eq!((queue.of_others, queue.of_unknown), (1, 1));
        queue.push(Waiting {
            flow: None,
            ..packet(1, 0, 10)
        });
        assert!(leaving(&mut queue, 0, &mut owners).is_empty());
        assert_eq!(queue.of_unknown, 2, "nobody's, such as ARP");
        owners.note(&owner(3, true));
        queue.push(packet(3, 0, 10));
        assert_eq!(leaving(&mut queue, 0, &mut owners), [3]);
    }

    /// As when a client writes to a connection that its server has closed: the kernel answers in the name of the listening
    /// socket, while packets of the client still wait.
    #[test]
    fn a_reset_by_another_socket_does_not_cost_the_packets_that_wait() {
        let (mut queue, mut owners) = (Queue::new(true), Owners::default());
        let (client, server, listening) = (1, 2, 3);
        let sent = packet(client, 0, 10);
        let flow = sent.flow.unwrap().reversed();
        let answer = |is_bare| Headers {
            flow,
            opens: false,
            is_bare,
            payload: &[],
        };
        owners.packet(&answer(false), server);
        let reset = Waiting {
            cookie: listening,
            flow: Some(flow),
            is_bare: true,
            ..packet(client, 1, 10)
        };
        queue.push(sent);
        owners.packet(&answer(true), listening);
        queue.push(reset);
        owners.note(&owner(client, false));
        owners.note(&owner(server, true));
        assert_eq!(leaving(&mut queue, 2, &mut owners), [1, 2]);
        assert_eq!((queue.of_others, queue.of_unknown), (0, 0));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut queue, mut owners) = (Queue::new(false), Owners::default());
        let size = limits::HELD_BYTES / 4;
        for cookie in 1..=6 {
            queue.push(packet(cookie, 0, size));
        }
        assert_eq!(leaving(&mut queue, 0, &mut owners), [0, 0]);
        assert!(queue.bytes <= limits::HELD_BYTES);
    }
}

//! Packets of the host's interfaces, with the processes that own their sockets.
//!
//! ```text
//! traffic control ─► filter expression, as far as the kernel can decide
//!                     └► PACKETS (ring) ─► filter expression ─► Queue ─► events
//! sockets in use ────────┘   owners ──────────────────────────────┘ ▲
//!                            secrets among the other events ────────┘
//! ```
//!
//! A packet waits in the [`queue`] until its owner is known, and until the keys that decrypt it are among the events
//! before it; both within bounds.

mod attached;
mod clsact;
mod filters;
mod interfaces;
mod libpcap;
mod owners;
mod queue;

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::RingBuf;
use ecapture_ebpf::packet::{ADDRESS_BYTES, EGRESS, PacketHeader, PacketRecord, TAG_BYTES};
use ecapture_protocols::packet::{Filter, Headers};
use ecapture_protocols::pcapng::LinkType;
use ecapture_protocols::{CapturedEvent, Fact};
use tokio::time::Sleep;

use crate::Error;
use crate::config::PacketConfig;
use crate::host::clock::monotonic_ns;
use crate::kernel::loading::Attachment;
use crate::map::take_map;
use crate::ring::buffer::Ring;
use crate::ring::events::Beside;
use crate::tally::PacketFigures;
use attached::AttachedInterfaces;
use filters::Filters;
use owners::Owners;
use queue::{Queue, Waiting};

/// Records and bytes of one look at the ring.
const LOOK_RECORDS: usize = 512;
const LOOK_BYTES: usize = 1024 * 1024;
/// How often the ring is looked at while packets come, and else. Much data wakes the reader sooner.
const BUSY_INTERVAL: Duration = Duration::from_millis(4);
const IDLE_INTERVAL: Duration = Duration::from_millis(20);

/// What a look at the ring found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Nothing, or there is no room for more.
    Empty,
    /// What was there.
    All,
    /// So much that more may be there.
    Unfinished,
}

/// Why packets cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// No interface has that name.
    #[error("there is no interface {name}; this host has {known}, and `any` means all of them")]
    NoInterface {
        /// As given.
        name: String,
        /// The names of all interfaces.
        known: String,
    },
    /// The interface is down.
    #[error("interface {name} is down; bring it up with `ip link set {name} up`, or give `any`")]
    Down {
        /// Its name.
        name: String,
    },
    /// The headers of its packets are not known.
    #[error("interface {name} is of a kind whose packets cannot be captured")]
    UnknownKind {
        /// Its name.
        name: String,
    },
    /// There is no route to choose an interface by.
    #[error("there is no default route to choose an interface by; name one, this host has {known}, or `any`")]
    NoRoute {
        /// The names of all interfaces.
        known: String,
    },
    /// The program could not be attached.
    #[error("cannot capture packets of {name}: {source}")]
    Attach {
        /// Name of the interface.
        name: String,
        /// From the system.
        source: io::Error,
    },
    /// Interfaces cannot be listed or watched.
    #[error("cannot list the interfaces: {0}")]
    List(#[from] io::Error),
    /// A filter expression needs libpcap.
    #[error("filter expressions need libpcap, which is not there; install it (apt-get install libpcap0.8)")]
    NoLibpcap,
    /// The filter expression is wrong.
    #[error("filter expression {expression:?}: {reason}; see pcap-filter(7)")]
    Expression {
        /// As given.
        expression: String,
        /// From libpcap.
        reason: String,
    },
}

/// Compiles a filter expression of pcap-filter(7) for packets of a link type that are cut to `snap_length` bytes.
///
/// # Errors
///
/// [`PacketError::NoLibpcap`] and [`PacketError::Expression`].
pub fn compile_filter(
    expression: &str,
    link_type: LinkType,
    snap_length: u32,
) -> Result<Filter, PacketError> {
    libpcap::compile(expression, link_type, snap_length)
}

/// A capture of packets: part of the stream of events.
pub(crate) struct Packets {
    ring: Ring,
    attached: AttachedInterfaces,
    filters: Filters,
    owners: Owners,
    queue: Queue,
    /// Until the next look at the ring; none before the first one.
    timer: Option<Pin<Box<Sleep>>>,
    figures: PacketFigures,
    /// The last events are handed over.
    has_ended: bool,
}

impl Packets {
    /// Attaches to the interfaces. Packets are captured from now on.
    pub(crate) fn start(
        ebpf: &mut Ebpf,
        probes: &mut Attachment,
        config: &PacketConfig,
    ) -> Result<Self, Error> {
        let ring = take_map(ebpf, "PACKETS", RingBuf::try_from)?;
        let mut filters = Filters::new(ebpf, config)?;
        // A wrong expression is an error before anything is attached.
        filters.of(LinkType::ETHERNET)?;
        let mut attached = AttachedInterfaces::new(ebpf, probes, config)?;
        attached.begin(&mut filters)?;
        Ok(Self {
            ring: Ring::new(ring),
            attached,
            filters,
            owners: Owners::default(),
            queue: Queue::new(config.of_processes),
            timer: None,
            figures: PacketFigures::default(),
            has_ended: false,
        })
    }

    fn count(&mut self, events: &[CapturedEvent]) {
        for event in events {
            let bytes = event.payload_bytes();
            if bytes != 0 {
                self.figures.captured += 1;
                self.figures.bytes += bytes;
            }
        }
    }

    /// Takes records out of the ring.
    fn read(&mut self) -> Look {
        let Self {
            ring,
            attached,
            filters,
            owners,
            queue,
            figures,
            ..
        } = self;
        let Some(ring) = ring.get_mut() else {
            return Look::Empty;
        };
        let (mut look, mut records, mut bytes) = (Look::Empty, 0, 0);
        while queue.has_room() {
            if records >= LOOK_RECORDS || bytes >= LOOK_BYTES {
                return Look::Unfinished;
            }
            let Some(record) = ring.next() else { break };
            look = Look::All;
            records += 1;
            bytes += record.len();
            match PacketRecord::decode(&record) {
                Ok(PacketRecord::Owner(owner)) => owners.note(&owner),
                Ok(PacketRecord::Packet(header, packet)) => {
                    let Some(interface) = attached.number(header.interface) else {
                        continue;
                    };
                    let link_type = attached.link_type(interface);
                    let (packet, length) = with_tag(&header, packet, link_type);
                    if filters.accept(link_type, &packet, length) {
                        attached.accept(interface);
                        let loops_back = attached.loops_back(interface);
                        let waiting = Waiting {
                            timestamp_ns: header.timestamp_ns,
                            interface,
                            loops_back,
                            sent: header.direction == EGRESS,
                            cookie: header.cookie,
                            length,
                            data: packet.into_owned().into(),
                            flow: None,
                            is_bare: false,
                        };
                        enqueue(waiting, link_type, owners, queue);
                    } else {
                        figures.not_matching += 1;
                    }
                }
                Err(error) => tracing::debug!(%error, "record of packets skipped"),
            }
        }
        look
    }
}

/// Notes what the headers of a packet say, and lets it wait.
fn enqueue(mut packet: Waiting, link_type: LinkType, owners: &mut Owners, queue: &mut Queue) {
    if let Some(headers) = Headers::of(link_type, &packet.data) {
        owners.packet(&headers, packet.cookie);
        queue.keys.packet(&headers, packet.timestamp_ns);
        packet.flow = Some(headers.flow);
        packet.is_bare = headers.is_bare;
    }
    queue.push(packet);
}

impl Beside for Packets {
    fn note(&mut self, events: &[CapturedEvent]) {
        for event in events {
            if let CapturedEvent::Observed(observed) = event
                && let Fact::Secret(secret) = &observed.fact
            {
                self.queue.keys.secret(secret, monotonic_ns());
            }
        }
    }

    fn figures(&self) -> PacketFigures {
        let total = self.attached.total();
        PacketFigures {
            received: total.received,
            dropped: total.dropped,
            unreadable: total.unreadable,
            not_matching: total.rejected + self.figures.not_matching,
            of_others: self.queue.of_others,
            of_unknown: self.queue.of_unknown,
            handshakes: self.queue.keys.handshakes(),
            ..self.figures
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Vec<CapturedEvent>> {
        loop {
            let readable = self.ring.poll_readable(context).is_ready();
            if let Some(timer) = &mut self.timer
                && timer.as_mut().poll(context).is_pending()
                && !readable
            {
                return Poll::Pending;
            }
            let mut events = self.attached.changes(&mut self.filters);
            let look = self.read();
            self.queue
                .release(monotonic_ns(), &mut self.owners, LOOK_RECORDS, &mut events);
            let interval = match look {
                _ if events.len() >= LOOK_RECORDS => Duration::ZERO,
                Look::Unfinished => Duration::ZERO,
                Look::All => BUSY_INTERVAL,
                Look::Empty => IDLE_INTERVAL,
            };
            let due = tokio::time::Instant::now() + interval;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(due),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(due))),
            }
            if !events.is_empty() {
                self.count(&events);
                return Poll::Ready(events);
            }
        }
    }

    fn finish(&mut self) -> Option<Vec<CapturedEvent>> {
        if self.has_ended {
            return None;
        }
        let mut events = Vec::new();
        while events.is_empty() && !self.has_ended {
            let is_empty = self.read() == Look::Empty;
            // When all is read, nothing that they wait for comes any more.
            let now_ns = if is_empty { u64::MAX } else { monotonic_ns() };
            self.queue
                .release(now_ns, &mut self.owners, LOOK_RECORDS, &mut events);
            if is_empty && events.is_empty() {
                self.has_ended = true;
                self.attached.detach();
                events = self.attached.figures();
            }
        }
        self.count(&events);
        Some(events)
    }
}

/// The packet as it is on the wire, with the VLAN tag that the kernel keeps beside it, and its length.
fn with_tag<'a>(header: &PacketHeader, packet: &'a [u8], link_type: LinkType) -> (Cow<'a, [u8]>, u32) {
    const ADDRESSES: usize = ADDRESS_BYTES as usize;
    if header.vlan_protocol == 0 || link_type != LinkType::ETHERNET || packet.len() < ADDRESSES {
        return (Cow::Borrowed(packet), header.length);
    }
    let (addresses, rest) = packet.split_at(ADDRESSES);
    let mut tagged = Vec::with_capacity(packet.len() + TAG_BYTES as usize);
    tagged.extend_from_slice(addresses);
    tagged.extend_from_slice(&header.vlan_protocol.to_ne_bytes());
    tagged.extend_from_slice(&header.vlan_tci.to_be_bytes());
    tagged.extend_from_slice(rest);
    (Cow::Owned(tagged), header.length.saturating_add(TAG_BYTES))
}

//! The interfaces that packets are captured of.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuHashMap, PerCpuValues};
use ecapture_ebpf::packet::InterfaceCounters;
use ecapture_protocols::event::{Interface, InterfaceFigures, PacketFact};
use ecapture_protocols::pcapng::LinkType;
use ecapture_protocols::{CapturedEvent, Fact, Observed, Process};

use super::PacketError;
use super::clsact::{self, ClassicFilter};
use super::filters::Filters;
use super::interfaces::{self, Changes, HostInterface};
use crate::config::{Interfaces, PacketConfig};
use crate::host::clock::monotonic_ns;
use crate::kernel::loading::{Attachment, PacketPrograms};
use crate::map::take_map;
use crate::{Error, limits};

/// [`InterfaceCounters`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct CountersValue(InterfaceCounters);

// SAFETY: `InterfaceCounters` is `repr(C)`, has only integer fields and no padding.
#[expect(unsafe_code, reason = "aya asks for this promise about map values")]
unsafe impl aya::Pod for CountersValue {}

/// What keeps a program at an interface. Dropping it detaches.
enum Link {
    /// The kernel detaches when it is closed, whatever ends this process.
    Descriptor { _link: OwnedFd },
    /// Detaches by a request; what a killed process leaves, the next start removes.
    Classic { _filter: ClassicFilter },
}

/// An interface that is or was captured.
struct Captured {
    index: u32,
    name: Arc<str>,
    link_type: LinkType,
    loops_back: bool,
    start_ns: u64,
    links: Vec<Link>,
    accepted: u64,
    /// The last figures of an interface that is gone.
    last: InterfaceCounters,
}

/// See the module's documentation.
pub(super) struct AttachedInterfaces {
    programs: PacketPrograms,
    counters: PerCpuHashMap<MapData, u32, CountersValue>,
    config: PacketConfig,
    changes: Changes,
    captured: Vec<Captured>,
    numbers: HashMap<u32, u32>,
    /// Interfaces that were not attached to, and are not tried again while they are there.
    refused: Vec<u32>,
    /// Their first events.
    fresh: Vec<CapturedEvent>,
    without_tcx: bool,
}

impl AttachedInterfaces {
    pub(super) fn new(
        ebpf: &mut Ebpf,
        probes: &mut Attachment,
        config: &PacketConfig,
    ) -> Result<Self, Error> {
        let programs = probes.take_packet_programs().ok_or(Error::ObjectIncomplete {
            what: "program",
            name: "packet_ingress",
        })?;
        Ok(Self {
            programs,
            counters: take_map(ebpf, "INTERFACES", PerCpuHashMap::try_from)?,
            config: config.clone(),
            // Before they are listed, so that none is missed.
            changes: Changes::new().map_err(PacketError::from)?,
            captured: Vec::new(),
            numbers: HashMap::new(),
            refused: Vec::new(),
            fresh: Vec::new(),
            without_tcx: config.without_tcx,
        })
    }

    /// Attaches to the interfaces that are there.
    pub(super) fn begin(&mut self, filters: &mut Filters) -> Result<(), PacketError> {
        let all = interfaces::all()?;
        clsact::remove_left(&all);
        let known = || {
            all.iter()
                .map(|one| one.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        if self.config.interfaces == Interfaces::DefaultRoute {
            let name =
                interfaces::of_default_route().ok_or_else(|| PacketError::NoRoute { known: known() })?;
            tracing::info!(
                "packets of {name}, which the default route uses; -i names another interface, or any"
            );
            self.config.interfaces = Interfaces::Named(vec![name]);
        }
        if let Interfaces::Named(names) = self.config.interfaces.clone() {
            for name in names {
                let found = all.iter().find(|one| one.name == name);
                let found = found.ok_or_else(|| PacketError::NoInterface {
                    name: name.clone(),
                    known: known(),
                })?;
                if !found.is_up {
                    return Err(PacketError::Down { name });
                }
                self.attach(found, filters)?;
            }
            return Ok(());
        }
        for interface in &all {
            self.try_attach(interface, filters);
        }
        Ok(())
    }

    /// Attaches to interfaces that have appeared. Returns the events of new interfaces.
    pub(super) fn changes(&mut self, filters: &mut Filters) -> Vec<CapturedEvent> {
        if self.changes.any()
            && let Ok(all) = interfaces::all()
        {
            self.forget_gone(&all);
            for interface in &all {
                self.try_attach(interface, filters);
            }
        }
        std::mem::take(&mut self.fresh)
    }

    fn forget_gone(&mut self, all: &[HostInterface]) {
        let is_there = |index: u32| all.iter().any(|one| one.index == index);
        self.refused.retain(|&index| is_there(index));
        let gone: Vec<u32> = self
            .numbers
            .keys()
            .copied()
            .filter(|&index| !is_there(index))
            .collect();
        for index in gone {
            let Some(number) = self.numbers.remove(&index) else {
                continue;
            };
            let last = self.read(index);
            let one = &mut self.captured[number as usize];
            one.last = last;
            one.links.clear();
            tracing::warn!(
                "interface {} is gone; its packets are no longer captured",
                one.name
            );
            let _gone = self.counters.remove(&index);
        }
    }

    fn try_attach(&mut self, interface: &HostInterface, filters: &mut Filters) {
        let is_wanted = match &self.config.interfaces {
            Interfaces::Named(names) => names.contains(&interface.name),
            Interfaces::Any | Interfaces::DefaultRoute => true,
        };
        let is_known = self.numbers.contains_key(&interface.index) || self.refused.contains(&interface.index);
        if is_wanted
            && interface.is_up
            && !is_known
            && let Err(error) = self.attach(interface, filters)
        {
            tracing::warn!("{error}");
            self.refused.push(interface.index);
        }
    }

    fn attach(&mut self, interface: &HostInterface, filters: &mut Filters) -> Result<(), PacketError> {
        let HostInterface { index, name, .. } = interface;
        let link_type = interface
            .link_type()
            .ok_or_else(|| PacketError::UnknownKind { name: name.clone() })?;
        let expression = filters.of(link_type)?;
        let attach_error = |source: io::Error| PacketError::Attach {
            name: name.clone(),
            source,
        };
        if self.captured.len() >= limits::CAPTURED_INTERFACES {
            return Err(attach_error(io::Error::other("too many interfaces")));
        }
        let settings = InterfaceCounters {
            snap_length: self.config.snap_length,
            expression,
            puts_tags_back: u32::from(link_type == LinkType::ETHERNET),
            ..InterfaceCounters::default()
        };
        self.count_packets_of(*index, settings).map_err(attach_error)?;
        let number = u32::try_from(self.captured.len()).unwrap_or(u32::MAX);
        let start_ns = monotonic_ns();
        self.fresh.push(observed(
            start_ns,
            PacketFact::Interface(Interface {
                number,
                name: name.as_str().into(),
                link_type,
                snap_length: self.config.snap_length,
                filter: filters.expression().cloned(),
            }),
        ));
        self.numbers.insert(*index, number);
        self.captured.push(Captured {
            index: *index,
            name: name.as_str().into(),
            link_type,
            loops_back: interface.is_loopback(),
            start_ns,
            links: Vec::new(),
            accepted: 0,
            last: InterfaceCounters::default(),
        });
        let directions: &[bool] = if interface.is_loopback() {
            &[true]
        } else {
            &[true, false]
        };
        for &sent in directions {
            let link = self.link(interface, sent).map_err(attach_error)?;
            self.captured[number as usize].links.push(link);
        }
        Ok(())
    }

    fn link(&mut self, interface: &HostInterface, sent: bool) -> io::Result<Link> {
        if !self.without_tcx {
            match self.programs.link(interface.index, sent) {
                Ok(link) => return Ok(Link::Descriptor { _link: link }),
                // A kernel before 6.6 does not know such links.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.without_tcx = true,
                Err(error) => return Err(error),
            }
        }
        let filter = ClassicFilter::add(interface.index, sent, self.programs.descriptor(sent))?;
        Ok(Link::Classic { _filter: filter })
    }

    /// The kernel counts packets of interfaces that it finds in the map, and captures only those.
    fn count_packets_of(&mut self, index: u32, settings: InterfaceCounters) -> io::Result<()> {
        let values = vec![CountersValue(settings); aya::util::nr_cpus().map_err(|(_, error)| error)?];
        let values = PerCpuValues::try_from(values)?;
        self.counters.insert(index, values, 0).map_err(io::Error::other)
    }

    /// The number of an interface in this capture.
    pub(super) fn number(&self, index: u32) -> Option<u32> {
        self.numbers.get(&index).copied()
    }

    pub(super) fn link_type(&self, number: u32) -> LinkType {
        self.captured[number as usize].link_type
    }

    /// Returns true if what an interface sends, it receives.
    pub(super) fn loops_back(&self, number: u32) -> bool {
        self.captured[number as usize].loops_back
    }

    /// Filters let a packet of an interface through.
    pub(super) fn accept(&mut self, number: u32) {
        self.captured[number as usize].accepted += 1;
    }

    fn read(&self, index: u32) -> InterfaceCounters {
        let mut total = InterfaceCounters::default();
        if let Ok(values) = self.counters.get(&index, 0) {
            for CountersValue(one) in values.iter() {
                add(&mut total, one);
            }
        }
        total
    }

    fn counted(&self, one: &Captured) -> InterfaceCounters {
        if one.links.is_empty() && one.last != InterfaceCounters::default() {
            one.last
        } else {
            self.read(one.index)
        }
    }

    /// The packets of all interfaces.
    pub(super) fn total(&self) -> InterfaceCounters {
        let mut total = InterfaceCounters::default();
        for one in &self.captured {
            add(&mut total, &self.counted(one));
        }
        total
    }

    /// Captures nothing more.
    pub(super) fn detach(&mut self) {
        for number in 0..self.captured.len() {
            self.captured[number].last = self.counted(&self.captured[number]);
            self.captured[number].links.clear();
        }
    }

    /// The figures of all interfaces, as events.
    pub(super) fn figures(&self) -> Vec<CapturedEvent> {
        let now_ns = monotonic_ns();
        let figures = self.captured.iter().enumerate().map(|(number, one)| {
            let counted = self.counted(one);
            observed(
                now_ns,
                PacketFact::Figures(InterfaceFigures {
                    interface: u32::try_from(number).unwrap_or(u32::MAX),
                    start_ns: one.start_ns,
                    received: counted.received,
                    dropped: counted.dropped + counted.unreadable,
                    accepted: one.accepted,
                }),
            )
        });
        figures.collect()
    }
}

fn add(total: &mut InterfaceCounters, one: &InterfaceCounters) {
    total.received += one.received;
    total.dropped += one.dropped;
    total.unreadable += one.unreadable;
    total.rejected += one.rejected;
}

fn observed(timestamp_ns: u64, fact: PacketFact) -> CapturedEvent {
    CapturedEvent::Observed(Box::new(Observed {
        timestamp_ns,
        process: Process::default(),
        container_id: None,
        program: None,
        fact: Fact::Packets(fact),
    }))
}

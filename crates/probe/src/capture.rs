//! From a configuration to attached programs.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, CgroupArray, HashMap, MapData, RingBuf};

use crate::config::{CaptureConfig, Processes};
use crate::file::inode::Inode;
use crate::filters::Filters;
use crate::find::discovery::{
    Discovered, Discoverer, Discovery, FileKeyValue, Files, Inspections, LiveLibraries, State,
};
use crate::find::facts::Facts;
use crate::handle::CaptureHandle;
use crate::host::{cgroup, kernel};
use crate::kernel::attach::{self, AttachReport, Scope};
use crate::kernel::attach_times::AttachTimes;
use crate::kernel::detach::Programs;
use crate::kernel::grace_period::Expedited;
use crate::kernel::loading::{Loading, PACKET_PROGRAMS, Refused};
use crate::kernel::{tables, tracepoints};
use crate::map::take_map;
use crate::modules::Modules;
use crate::packets::Packets;
use crate::plan::Brings;
use crate::proc::{self, process};
use crate::ring::decode::Decoders;
use crate::ring::events::Beside;
use crate::ring::excluded::Excluded;
use crate::{Error, Events, NoData, host};

/// Maps that user space opens.
const MAPS: [&str; 16] = [
    "EVENTS",
    "CONTROL",
    "PIDS",
    "COUNTERS",
    "FILES",
    "KNOWN",
    "CGROUPS",
    "FILTERS",
    "STANDING",
    "CONNECTED",
    "SHARES",
    "TABLES",
    "PACKETS",
    "OWNERS",
    "INTERFACES",
    "EXPRESSIONS",
];

/// Everything that the loader expects in the kernel object, by kind. For the object's tests.
#[doc(hidden)]
pub fn object_names() -> [(&'static str, Vec<&'static str>); 4] {
    let tables = Modules::ALL.tables().map(|table| table.name);
    let maps = MAPS.into_iter().chain(tables);
    [
        (
            "probe",
            [Modules::ALL.programs(), PACKET_PROGRAMS.to_vec()].concat(),
        ),
        ("tracepoint", tracepoints::all(Modules::ALL)),
        ("map", maps.collect()),
        ("constant", vec!["CONFIG"]),
    ]
}

/// Loaded and attached programs whose events are not yet read.
pub struct Capture {
    ring: RingBuf<MapData>,
    decoders: Decoders,
    programs: Arc<Programs>,
    discoverable: Option<Discoverable>,
    discoverer: Option<Discoverer>,
    packets: Option<Box<dyn Beside>>,
    handle: CaptureHandle,
    attached: Vec<AttachReport>,
    refused: Vec<Refused>,
    excluded: Excluded,
    drain: Duration,
}

/// The parts that the search for new programs begins with.
struct Discoverable {
    config: CaptureConfig,
    files: RingBuf<MapData>,
    known: HashMap<MapData, FileKeyValue, u32>,
    connected: HashMap<MapData, u32, u64>,
    attached: std::collections::HashMap<Inode, u64>,
    standing: Option<AttachTimes>,
}

impl Discoverable {
    fn new(ebpf: &mut Ebpf, config: &CaptureConfig) -> Result<Self, Error> {
        Ok(Self {
            config: config.clone(),
            files: take_map(ebpf, "FILES", RingBuf::try_from)?,
            known: take_map(ebpf, "KNOWN", HashMap::try_from)?,
            connected: take_map(ebpf, "CONNECTED", HashMap::try_from)?,
            attached: std::collections::HashMap::new(),
            standing: None,
        })
    }
}

impl Capture {
    /// Loads the programs, attaches them and begins to capture.
    ///
    /// A function that a library lacks is only reported, see [`Self::attached`]. It is an error
    /// when a library cannot be read, or when no function that carries data could be attached and
    /// none may be found later.
    pub fn load(config: &CaptureConfig) -> Result<Self, Error> {
        check_host(config.modules)?;
        let finds_more = matches!(config.discovery, Discovery::Kinds(_));
        if config.libraries.is_empty() && !finds_more {
            return Err(Error::NoLibraries);
        }
        if let Processes::One(pid) = config.processes
            && !proc::exists(pid)
        {
            return Err(Error::NoProcess { pid });
        }
        let cgroup = config.cgroup.as_deref().map(cgroup::open).transpose()?;
        let Loading { mut ebpf, mut probes } = Loading::new(config, false)?;
        let ring = take_map(&mut ebpf, "EVENTS", RingBuf::try_from)?;
        let handle = CaptureHandle::new(&mut ebpf, Facts::new(config), config.live)?;
        tables::set_room(
            take_map(&mut ebpf, "TABLES", Array::try_from)?,
            config.modules,
            config.hooks.table_entries,
        )?;
        probes.attach_tracepoints()?;
        set_filters(&mut ebpf, config, cgroup, &handle)?;
        let mut discoverable = match config.discovery {
            Discovery::Off => None,
            _ => Some(Discoverable::new(&mut ebpf, config)?),
        };
        let mut standing = AttachTimes::new(
            take_map(&mut ebpf, "STANDING", Array::try_from)?,
            kernel::has_cookie(),
        );
        let packets = config.packets.as_ref();
        let packets = packets.map(|packets| Packets::start(&mut ebpf, &mut probes, packets));
        let packets = packets
            .transpose()?
            .map(|packets| Box::new(packets) as Box<dyn Beside>);
        let refused = probes.refused().to_vec();
        let programs = Arc::new(Programs::new(probes));
        let mut inodes = HashSet::new();
        let attached = match attach_libraries(&programs, config, handle.tally().facts(), &mut inodes) {
            Err(_) if config.libraries.is_empty() => Vec::new(),
            attached => attached?,
        };
        standing.begin();
        if let Some(discoverable) = &mut discoverable {
            discoverable.attached = inodes.into_iter().map(|inode| (inode, 0)).collect();
            discoverable.standing = Some(standing);
        }
        Ok(Self {
            ring,
            decoders: Decoders::new(config.modules, &config.options),
            programs,
            discoverable,
            discoverer: None,
            packets,
            handle,
            attached,
            refused,
            excluded: Excluded::new(&config.excluded, config.excluded_readers.clone()),
            drain: config.drain,
        })
    }

    /// Attaches to the files that [`CaptureConfig::discovery`] selects from now on, and inspects
    /// the running processes once more, beyond names. `tell` is called for every file, on a
    /// separate thread.
    pub fn discover(&mut self, tell: impl FnMut(Discovered) + Send + 'static) -> Result<(), Error> {
        let Some(Discoverable {
            config,
            files,
            known,
            connected,
            attached,
            standing,
        }) = self.discoverable.take()
        else {
            return Ok(());
        };
        let running = match (&config.discovery, config.processes) {
            (Discovery::Paths(_), _) => Vec::new(),
            (_, Processes::Set { .. }) => config.set.clone(),
            (_, Processes::One(pid)) => vec![pid],
            (_, Processes::All | Processes::Numbered(_)) => proc::pids(),
        };
        let process = only_process(&config);
        let found = Files {
            modules: config.modules,
            discovery: RwLock::new(config.discovery),
            programs: Arc::downgrade(&self.programs),
            process,
            set: config.processes != Processes::All,
            uid: config.uid,
            cgroup: config.cgroup.is_some(),
            inspections: Inspections::default(),
            entries_only: config.hooks.entries_only,
            hold: config.hooks.hold_discovery,
            tally: Arc::clone(self.handle.tally()),
            state: Mutex::new(State {
                known,
                connected,
                attached,
                standing,
                others: HashSet::new(),
                tell: Box::new(tell),
            }),
        };
        let follows_children = matches!(
            config.processes,
            Processes::Set {
                follow_children: true
            }
        );
        let discoverer = Discoverer::start(files, found, self.handle.clone(), running, follows_children)
            .map_err(|source| Error::Discovery { source })?;
        self.discoverer = Some(discoverer);
        Ok(())
    }

    /// Where the probes are attached, and which functions have none and why.
    pub fn attached(&self) -> &[AttachReport] {
        &self.attached
    }

    /// Programs that the kernel did not take: the data that they are for is not captured.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Control of what it is attached to, once [`Self::discover`] was called.
    pub fn libraries(&self) -> Option<LiveLibraries> {
        self.discoverer.as_ref().map(Discoverer::libraries)
    }

    /// Control from elsewhere.
    pub fn handle(&self) -> CaptureHandle {
        self.handle.clone()
    }

    /// The stream of events. The capture ends when it is dropped.
    pub fn into_events(self) -> Events {
        Events::new(
            self.ring,
            self.decoders,
            self.programs,
            self.discoverer,
            self.handle,
            self.excluded,
            self.drain,
        )
        .beside(self.packets)
    }
}

/// Checks that this host can run the programs of these modules.
fn check_host(modules: Modules) -> Result<(), Error> {
    host::check()?;
    match modules.needing_loop() {
        Some(module) if !kernel::has_loop() => Err(Error::NoLoop { module }),
        _ => Ok(()),
    }
}

/// Sets the filters. Those that cannot change are constants of the programs, except for sets in maps.
fn set_filters(
    ebpf: &mut Ebpf,
    config: &CaptureConfig,
    cgroup: Option<File>,
    handle: &CaptureHandle,
) -> Result<(), Error> {
    if config.live {
        return handle.change_filters(&filters(config));
    }
    set_cgroup(ebpf, cgroup)?;
    fill_set(config, handle)
}

/// The filters that a capture begins with.
fn filters(config: &CaptureConfig) -> Filters {
    let (processes, follow_children) = match config.processes {
        Processes::All | Processes::Numbered(_) => (None, false),
        Processes::One(pid) => (Some(vec![pid]), false),
        Processes::Set { follow_children } => (Some(config.set.clone()), follow_children),
    };
    Filters {
        processes,
        follow_children,
        uid: config.uid,
        cgroup: config.cgroup.clone(),
    }
}

/// Lets the processes through that the kernel looks up. It forgets each at its end, so that a later process
/// with the same number is not captured.
fn fill_set(config: &CaptureConfig, handle: &CaptureHandle) -> Result<(), Error> {
    let one;
    let (pids, follow_children) = match config.processes {
        Processes::All | Processes::Numbered(_) => return Ok(()),
        Processes::One(pid) => {
            one = [pid];
            (&one[..], false)
        }
        Processes::Set { follow_children } => (config.set.as_slice(), follow_children),
    };
    for pid in pids {
        handle.add_pid(*pid)?;
    }
    if follow_children {
        // From here on the kernel adds the children of those in the set. One that was started in
        // the meantime by a process that joins just now is found by looking until nothing new is
        // found.
        let mut known = BTreeSet::new();
        loop {
            let found = process::descendants(pids);
            if found.is_subset(&known) {
                break;
            }
            for pid in found.difference(&known) {
                handle.add_pid(*pid)?;
            }
            known.extend(found);
        }
    }
    Ok(())
}

/// Other processes than the one wanted need not even meet the probe.
fn only_process(config: &CaptureConfig) -> Option<NonZeroU32> {
    match config.processes {
        Processes::One(pid) if !config.live => NonZeroU32::new(pid),
        _ => None,
    }
}

fn set_cgroup(ebpf: &mut Ebpf, folder: Option<File>) -> Result<(), Error> {
    let Some(folder) = folder else { return Ok(()) };
    let mut groups = take_map(ebpf, "CGROUPS", CgroupArray::try_from)?;
    groups.set(0, folder, 0).map_err(|source| Error::Map {
        map: "CGROUPS",
        source,
    })
}

/// A library that cannot be read is an error only when nothing else could be attached: processes
/// end, and their files with them.
fn attach_libraries(
    programs: &Programs,
    config: &CaptureConfig,
    facts: &Facts,
    inodes: &mut HashSet<Inode>,
) -> Result<Vec<AttachReport>, Error> {
    let _quick = Expedited::begin();
    let mut reports = Vec::new();
    let mut first_error = None;
    for library in &config.libraries {
        // Probes belong to the file: a second name for it would show everything twice.
        if !inodes.insert(library.inode()) {
            continue;
        }
        let scope = Scope {
            modules: config.modules,
            process: only_process(config),
            entries_only: config.hooks.entries_only,
            cookie: 0,
        };
        let outcome = attach::library(programs, library, scope);
        facts.attached(library.inode(), &outcome);
        match outcome {
            Ok(attached) => reports.extend(attached),
            Err(error) => {
                tracing::warn!(%error, "library skipped");
                first_error.get_or_insert(error);
            }
        }
    }
    let brings_content = |symbol| config.modules.brings(symbol).is_some_and(Brings::is_wanted);
    if reports
        .iter()
        .any(|report| report.outcome.is_ok() && brings_content(report.symbol))
    {
        return Ok(reports);
    }
    let libraries: Vec<_> = config
        .libraries
        .iter()
        .map(|library| library.path().display().to_string())
        .collect();
    let failed = reports
        .into_iter()
        .find_map(|AttachReport { symbol, outcome, .. }| {
            let source = outcome.err()?;
            Some(NoData::Failed { symbol, source })
        });
    Err(first_error.unwrap_or_else(|| Error::NothingAttached {
        libraries: libraries.join(", "),
        source: failed.unwrap_or(NoData::OnlyOthers),
    }))
}

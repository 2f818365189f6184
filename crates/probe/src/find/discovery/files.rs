//! Inspects files, attaches to those with TLS, and remembers all of them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};

use aya::maps::{HashMap as KernelMap, MapData};
use ecapture_ebpf::discovery::{EVENT_EXECUTED, EVENT_MAPPED, FileKey, FileRecord};
use ecapture_ebpf::limits::KNOWN_FILES;

use super::mapping::{Sighting, executor, name};
use super::watch::user_of;
use super::{Discovered, Discovery, Executor, GiveUp, Inspections};
use crate::file::elf::Image;
use crate::file::inode::Inode;
use crate::file::library::{Library, Located};
use crate::host::clock::monotonic_ns;
use crate::kernel::attach;
use crate::kernel::attach::Scope;
use crate::kernel::attach_times::AttachTimes;
use crate::kernel::detach::{Hurry, Programs};
use crate::kernel::grace_period::Expedited;
use crate::modules::Modules;
use crate::plan::{Brings, Plan};
use crate::proc::priority::Priority;
use crate::{AttachReport, Error, NoData, Tally, limits, proc};

/// [`FileKey`] as a map key.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct FileKeyValue(FileKey);

// SAFETY: `FileKey` is `repr(C)`, has only integer fields and no padding.
#[expect(unsafe_code, reason = "aya asks for this promise about map keys")]
unsafe impl aya::Pod for FileKeyValue {}

/// The inspected files, and the state needed to attach to more.
pub(crate) struct Files {
    pub(crate) modules: Modules,
    pub(crate) discovery: RwLock<Discovery>,
    /// Gone when the capture has ended, whatever is being read then.
    pub(crate) programs: Weak<Programs>,
    /// The only process to attach in, if there is one.
    pub(crate) process: Option<NonZeroU32>,
    /// Only certain processes are captured.
    pub(crate) set: bool,
    /// The only user to capture, if there is one.
    pub(crate) uid: Option<u32>,
    /// Only processes of a cgroup are captured.
    pub(crate) cgroup: bool,
    pub(crate) inspections: Inspections,
    pub(crate) entries_only: bool,
    /// See [`Hooks::hold_discovery`](crate::Hooks::hold_discovery).
    pub(crate) hold: Option<PathBuf>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) state: Mutex<State>,
}

/// The state of the discovery.
pub(crate) struct State {
    /// The files that the kernel need not report again.
    pub(crate) known: KernelMap<MapData, FileKeyValue, u32>,
    /// When a process last began to connect or to listen.
    pub(crate) connected: KernelMap<MapData, u32, u64>,
    pub(crate) standing: Option<AttachTimes>,
    /// When probes were attached to each file, in nanoseconds; `u64::MAX` while attaching. Probes
    /// keep a file's inode, so its number stays its own.
    pub(crate) attached: HashMap<Inode, u64>,
    /// Files without TLS, with the time of their last change: their numbers are given again.
    pub(crate) others: HashSet<(Inode, i64, i64)>,
    pub(crate) tell: Box<dyn FnMut(Discovered) + Send>,
}

impl Files {
    /// Inspects a file and attaches to it if it is selected. `record` is how the kernel reported of
    /// it. An error when the file is not there any more.
    pub(super) fn look(
        &self,
        sighting: Sighting,
        record: Option<&FileRecord>,
        reader: Reader,
    ) -> io::Result<Looked> {
        let located = &sighting.located;
        if proc::own_program() == Some(located.inode()) {
            if let Some(record) = record {
                self.make_known(record);
            }
            return Ok(Looked::Done);
        }
        if self.state().is_new(located.metadata()) {
            if reader == Reader::Quick && !is_quick(located) {
                return Ok(Looked::Later);
            }
            // From here on the process may end: the open file stays.
            let library = located.open(sighting.path())?;
            self.look_into(&sighting, &library, record, reader);
        }
        let is_late = |record: &&FileRecord| self.state().stands_later(sighting.located.metadata(), record);
        let came_too_late = record.filter(is_late);
        let has_ended = came_too_late
            .is_some_and(|record| self.tell_too_late(record, &sighting.path().display().to_string()));
        if !has_ended && matches!(*self.discovery(), Discovery::Kinds(_)) {
            let Executor { pid, command } = &sighting.process;
            let facts = self.tally.facts();
            facts.executes(*pid, command, sighting.located.inode(), sighting.shown());
        }
        if let Some(record) = record
            && !self.inspect(record, sighting)
        {
            self.make_known(record);
        }
        Ok(Looked::Done)
    }

    /// Has a program inspected that was not attached to. Returns false if that is of no use.
    fn inspect(&self, record: &FileRecord, sighting: Sighting) -> bool {
        let is_attached = |files: &Self| {
            let inode = sighting.located.inode();
            files.state().attached.contains_key(&inode)
        };
        let all_kinds = matches!(&*self.discovery(), Discovery::Kinds(kinds) if kinds.is_empty());
        let user = user_of(record.pid);
        // Outside of the set the filters are not known to the kernel's report of files.
        let wanted = self.set || !self.cgroup && self.uid.is_none_or(|uid| uid == user);
        all_kinds
            && self.modules.have(Modules::TLS)
            && record.event == EVENT_EXECUTED
            && wanted
            && !is_attached(self)
            && self.inspections.push(user, *record, sighting)
    }

    /// The kernel need not report that file again.
    pub(super) fn make_known(&self, record: &FileRecord) {
        self.state().make_known(record);
    }

    /// Returns true if the process of a record has connected, or listened, since.
    pub(super) fn connected_since(&self, record: &FileRecord) -> bool {
        self.state().connected_since(record)
    }

    /// The capture ended before `programs` of them could be read. Among the processes of a whole host they are mostly
    /// programs without TLS; those of a command or of given processes are what the capture was for.
    pub(super) fn tell_not_inspected(&self, programs: usize) {
        tracing::warn!(
            "the capture ended before {programs} programs could be inspected; they may have TLS that cannot be captured"
        );
        if self.set {
            self.tally.count_not_inspected(programs as u64);
        }
    }

    /// Counts and reports a process whose TLS cannot be captured.
    pub(super) fn tell_not_captured(&self, found: Discovered) {
        self.tally.count_not_captured();
        if let Discovered::NotCaptured { process, .. } = &found {
            // Named once is enough, see `Survey::uncaptured`.
            self.tally.note_active(process.pid);
        }
        (self.state().tell)(found);
    }

    pub(super) fn hold(&self) {
        if let Some(hold) = &self.hold {
            let _released = fs::read(hold);
        }
    }

    /// Looks at the wanted paths, when paths are wanted: a new file may be there.
    pub(super) fn look_at_paths(&self, record: &FileRecord) -> bool {
        let Discovery::Paths(paths) = self.discovery().clone() else {
            return false;
        };
        for path in paths {
            if let Ok(sighting) = Sighting::at(path.clone(), executor(record)) {
                let _absent = self.look(sighting, None, Reader::Patient);
            }
        }
        self.state().make_known(record);
        true
    }

    /// The process of a record has ended, or does not execute the file any more, and nobody could
    /// inspect the file.
    pub(super) fn missed(&self, record: &FileRecord) {
        let file = name(record);
        if record.event == EVENT_MAPPED && self.modules.name_library(file) {
            self.tell_too_late(record, &String::from_utf8_lossy(file));
        }
    }

    /// Probes are now attached to a `file` with TLS that the process of the record began to execute
    /// earlier. Returns true if the process has ended.
    fn tell_too_late(&self, record: &FileRecord, file: &str) -> bool {
        let ended = !proc::is_running(record.pid);
        let mut state = self.state();
        let connected = state.connected_since(record);
        if ended && connected {
            self.tally.count_too_short();
        }
        let process = executor(record);
        if ended {
            let why = "it ended before the probes were attached";
            self.tell_obstacle(&process, Path::new(file), None, why);
        }
        if ended || connected {
            (state.tell)(Discovered::TooLate {
                process,
                file: file.to_owned(),
                ended,
                connected,
            });
        }
        ended
    }

    /// Reports that the TLS that a process has in `file` is not captured.
    pub(super) fn tell_obstacle(&self, process: &Executor, file: &Path, tls: Option<&str>, why: &str) {
        let facts = self.tally.facts();
        facts.not_captured(process.pid, &process.command, file, tls, why);
    }

    fn look_into(&self, sighting: &Sighting, library: &Library, record: Option<&FileRecord>, reader: Reader) {
        let metadata = sighting.located.metadata();
        let image = match Image::of(library, &self.modules.symbols()) {
            Ok(image) if self.wants(&image) => image,
            other => {
                match other {
                    Ok(image) if self.modules.have(Modules::SECRETS) => self.tell_keyless(sighting, &image),
                    Err(error) if error.is_given_up() => self.skip(sighting, library, error.into()),
                    Ok(_) | Err(_) => {}
                }
                self.state().set_aside(metadata);
                return;
            }
        };
        // Another thread may have inspected it at the same time.
        if !self.state().begin(metadata) {
            return;
        }
        // Nobody but the attaching thread may use the programs until it is done.
        Priority::First.take();
        let Some(attached) = self.attach(&image, reader.hurry()) else {
            return;
        };
        self.state().stands(metadata);
        self.tally.facts().attached(library.inode(), &attached);
        if let Some(record) = record {
            let age = monotonic_ns().saturating_sub(record.timestamp_ns);
            tracing::debug!(
                "attached to {} {} us after it was mapped",
                library.path().display(),
                age / 1000
            );
        }
        let process = sighting.process.clone();
        match attached {
            Ok(reports) => (self.state().tell)(Discovered::Attached { process, reports }),
            Err(error) => self.skip(sighting, library, error.into()),
        }
    }

    /// A file with TLS, or one that may have it, is not attached to. The first ones are named: whoever makes
    /// them can make as many as he likes.
    fn skip(&self, sighting: &Sighting, library: &Library, reason: GiveUp) {
        let mut state = self.state();
        let given_up = self.tally.count_given_up();
        if given_up > limits::NAMED_SKIPS {
            tracing::debug!("not attached to {}: {reason}", library.path().display());
            return;
        }
        let process = sighting.process.clone();
        (state.tell)(Discovered::GivenUp {
            process,
            file: library.path().to_owned(),
            reason,
        });
        if given_up == limits::NAMED_SKIPS {
            tracing::warn!("further files that are given up are counted, and named only with --debug");
        }
    }

    /// Counts a new file that found no room among those that wait. The kernel reports it again when
    /// it is executed again.
    pub(super) fn leave_out(&self) {
        self.tally.count_without_room();
    }

    /// `None` when the capture has ended.
    fn attach(&self, image: &Image, hurry: Hurry) -> Option<Result<Vec<AttachReport>, Error>> {
        let all = self.programs.upgrade()?;
        let plan = Plan::of(image, self.modules.families(), self.entries_only);
        let turn = all.turn(hurry);
        let _quick = Expedited::begin();
        let number = self.state().standing.as_mut().map_or(0, AttachTimes::next);
        let scope = Scope {
            modules: self.modules,
            process: self.process,
            entries_only: self.entries_only,
            cookie: number.into(),
        };
        let reports = attach::planned(&turn, image, plan, scope);
        if let Some(standing) = &mut self.state().standing {
            standing.stand(number);
        }
        (!all.has_ended()).then_some(reports)
    }

    fn wants(&self, image: &Image) -> bool {
        let kinds = self.modules.kinds_in(image);
        match &*self.discovery() {
            Discovery::Kinds(wanted) if !wanted.is_empty() => kinds.iter().any(|kind| wanted.contains(kind)),
            Discovery::Off | Discovery::Kinds(_) | Discovery::Paths(_) => !kinds.is_empty(),
        }
    }

    /// Attaches to `libraries`, then searches by `discovery` from now on and, where that names files, detaches from all
    /// others. After an error everything is as it was.
    pub(super) fn change(
        &self,
        libraries: &[Library],
        discovery: Discovery,
    ) -> Result<Vec<AttachReport>, Error> {
        let mut new = Vec::new();
        let mut reports = Vec::new();
        for library in libraries {
            match self.attach_named(library) {
                Ok(None) => {}
                Ok(Some(attached)) => {
                    new.push(library.inode());
                    reports.extend(attached);
                }
                Err(error) => {
                    self.detach(&new);
                    return Err(error);
                }
            }
        }
        let is_named = matches!(discovery, Discovery::Paths(_));
        *self.discovery.write().unwrap_or_else(PoisonError::into_inner) = discovery;
        let mut unwanted: Vec<Inode> = self.state().forget_uncaptured();
        if is_named {
            unwanted.retain(|inode| libraries.iter().all(|library| library.inode() != *inode));
            self.detach(&unwanted);
        }
        Ok(reports)
    }

    /// `None` if probes are attached already.
    fn attach_named(&self, library: &Library) -> Result<Option<Vec<AttachReport>>, Error> {
        let inode = library.inode();
        if self.state().attached.contains_key(&inode) {
            return Ok(None);
        }
        let image = Image::read(library, &self.modules.symbols())?;
        let reports = self.attach(&image, Hurry::No).unwrap_or(Err(Error::Ended))?;
        self.state().attached.insert(inode, monotonic_ns());
        let brings_content = |symbol| self.modules.brings(symbol).is_some_and(Brings::is_wanted);
        let is_attached = |report: &AttachReport| report.outcome.is_ok() && brings_content(report.symbol);
        if reports.iter().any(is_attached) {
            let attached = Ok(reports);
            self.tally.facts().attached(inode, &attached);
            return attached.map(Some);
        }
        self.detach(&[inode]);
        let failed = reports.into_iter().find_map(|report| {
            let source = report.outcome.err()?;
            Some(NoData::Failed {
                symbol: report.symbol,
                source,
            })
        });
        Err(Error::NothingAttached {
            libraries: library.path().display().to_string(),
            source: failed.unwrap_or(NoData::OnlyOthers),
        })
    }

    /// Detaches from files. Nothing else waits for it.
    fn detach(&self, files: &[Inode]) {
        let Some(all) = self.programs.upgrade() else {
            return;
        };
        let mut taken = Vec::new();
        if let Some(mut programs) = all.turn(Hurry::No).lock() {
            taken.extend(files.iter().filter_map(|file| programs.take_file(*file)));
        }
        for file in files {
            self.state().attached.remove(file);
        }
        drop(taken);
    }

    pub(super) fn discovery(&self) -> RwLockReadGuard<'_, Discovery> {
        self.discovery.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The known files remain valid after a panic elsewhere: at worst a file is inspected twice.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_new(&self, metadata: &Metadata) -> bool {
        !self.attached.contains_key(&Inode::of(metadata)) && !self.others.contains(&stamp(metadata))
    }

    /// Notes that probes are about to be attached to a file. Returns false if they have been before.
    fn begin(&mut self, metadata: &Metadata) -> bool {
        let is_new = !self.attached.contains_key(&Inode::of(metadata));
        self.attached.entry(Inode::of(metadata)).or_insert(u64::MAX);
        is_new
    }

    fn stands(&mut self, metadata: &Metadata) {
        self.attached.insert(Inode::of(metadata), monotonic_ns());
    }

    /// Returns true if the probes in a file were, or will be, later than the record of it.
    fn stands_later(&self, metadata: &Metadata, record: &FileRecord) -> bool {
        let stood = self.attached.get(&Inode::of(metadata));
        stood.is_some_and(|&stood| stood > record.timestamp_ns)
    }

    /// Files that were not wanted may be wanted now: the kernel reports them again. Returns those that are attached
    /// to.
    fn forget_uncaptured(&mut self) -> Vec<Inode> {
        self.others.clear();
        let known: Vec<FileKeyValue> = self.known.keys().flatten().collect();
        for file in known {
            // It may have been forgotten by itself.
            let _gone = self.known.remove(&file);
        }
        self.attached.keys().copied().collect()
    }

    fn set_aside(&mut self, metadata: &Metadata) {
        if self.others.len() >= KNOWN_FILES as usize {
            self.others.clear();
        }
        self.others.insert(stamp(metadata));
    }

    /// Returns true if the process of a record has connected, or listened, since.
    fn connected_since(&self, record: &FileRecord) -> bool {
        let at = self.connected.get(&record.pid, 0);
        at.is_ok_and(|at| at >= record.timestamp_ns)
    }

    fn make_known(&mut self, record: &FileRecord) {
        if let Err(error) = self.known.insert(FileKeyValue(record.file), 1, 0) {
            tracing::debug!(%error, "a file stays unknown to the kernel");
        }
    }
}

/// The reader of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// Others wait for it, so it takes only what certainly does not take long.
    Quick,
    /// Others are served in between.
    Patient,
}

impl Reader {
    fn hurry(self) -> Hurry {
        match self {
            Self::Quick => Hurry::Yes,
            Self::Patient => Hurry::No,
        }
    }
}

/// The outcome of an inspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    Done,
    /// Only a reader that can wait may inspect it.
    Later,
}

/// Returns true if reading a file cannot be made to take long by a user of this host.
fn is_quick(located: &Located) -> bool {
    located.is_trusted() && located.metadata().len() <= limits::QUICK_FILE_BYTES
}

fn stamp(metadata: &Metadata) -> (Inode, i64, i64) {
    (Inode::of(metadata), metadata.ctime(), metadata.ctime_nsec())
}

//! Which processes use TLS, in which file, and whether it is captured: facts for the stream of events.
//!
//! They come from three sides: the survey of what runs when a capture begins, discovery when a process maps a
//! file that is new to it, and the first event of a process, for everything that uses known files. Whichever is
//! first reports a process and a file, and the others find it reported.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use ecapture_protocols::{CapturedEvent, DataEvent, Fact, Observed, Process, ProcessTls};
use futures_util::task::AtomicWaker;

use crate::config::CaptureConfig;
use crate::file::inode::Inode;
use crate::file::library::Located;
use crate::find::survey::{Finding, Obstacle, Survey};
use crate::host::clock::monotonic_ns;
use crate::modules::Modules;
use crate::plan::{Brings, Family};
use crate::proc::maps::{Mapping, Maps};
use crate::proc::{self, Program, container};
use crate::{AttachReport, Error, limits};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Somebody reads them.
    are_wanted: bool,
    modules: Modules,
    /// The only user, if there is one.
    uid: Option<u32>,
    /// Only processes of a cgroup are captured: only their events show which these are.
    cgroup: bool,
    are_pending: AtomicBool,
    reader: AtomicWaker,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The files with TLS that were attached to.
    files: HashMap<Inode, File>,
    /// The findings of the survey about some of them.
    surveyed: HashMap<Inode, Surveyed>,
    reported: HashMap<u32, Reported>,
    pending: VecDeque<Observed>,
    /// Facts that found no room.
    lost: u64,
}

#[derive(Debug, Clone)]
struct File {
    implementation: Option<Arc<str>>,
    /// Why nothing could be attached.
    obstacle: Option<Arc<str>>,
}

/// The survey's findings about a file.
#[derive(Debug, Clone)]
struct Surveyed {
    /// More exact than the attached functions show: `BoringSSL`, where they are OpenSSL's.
    implementation: Arc<str>,
    version: Option<Arc<str>>,
}

/// The facts reported about a process.
#[derive(Debug, Default)]
struct Reported {
    /// When the process began, in clock ticks: another process may get its number.
    started: Option<u64>,
    files: HashSet<Option<Arc<str>>>,
}

impl Facts {
    pub(crate) fn new(config: &CaptureConfig) -> Self {
        Self {
            are_wanted: config.facts && config.modules.have(Modules::TLS),
            modules: Modules::TLS,
            uid: config.uid,
            cgroup: config.cgroup.is_some(),
            ..Self::default()
        }
    }

    /// A file was attached to, or could not be.
    pub(crate) fn attached(&self, inode: Inode, outcome: &Result<Vec<AttachReport>, Error>) {
        if self.are_wanted
            && let Some(file) = File::of(outcome, self.modules)
        {
            self.state().files.insert(inode, file);
        }
    }

    /// A process executes the file `inode`, which it sees at `path`.
    pub(crate) fn executes(&self, pid: u32, comm: &str, inode: Inode, path: &Path) {
        if !self.covers(pid) {
            return;
        }
        let mut state = self.state();
        if let Some(tls) = state.tls(inode, path) {
            state.report(process(pid, comm), monotonic_ns(), tls);
            self.wake_reader();
        }
    }

    /// The TLS that a process has in the file `path` is not captured.
    pub(crate) fn not_captured(&self, pid: u32, comm: &str, path: &Path, tls: Option<&str>, why: &str) {
        if !self.covers(pid) {
            return;
        }
        let tls = ProcessTls {
            implementation: tls.map(Arc::from),
            file: text(path),
            obstacle: Some(Arc::from(why)),
            ..ProcessTls::default()
        };
        self.state().report(process(pid, comm), monotonic_ns(), tls);
        self.wake_reader();
    }

    /// Reports the processes that were running when the capture began. Later ones are reported when they are
    /// attached to.
    pub(crate) fn surveyed(&self, survey: &Survey) {
        for finding in survey.findings.iter().filter(|_| self.are_wanted) {
            self.found(finding);
        }
    }

    fn found(&self, finding: &Finding) {
        let Finding {
            pid,
            command,
            file,
            implementation,
            ..
        } = finding;
        match &finding.obstacle {
            Some(Obstacle::GoWithoutTls) => {}
            Some(obstacle) => {
                self.not_captured(*pid, command, file, Some(implementation), &obstacle.to_string());
            }
            None => {
                let Ok(located) = Located::at(&proc::inside(*pid, file)) else {
                    return;
                };
                let inode = located.inode();
                let surveyed = Surveyed {
                    implementation: Arc::from(*implementation),
                    version: finding.version.as_deref().map(Arc::from),
                };
                let mut state = self.state();
                if state.surveyed.len() < limits::INSPECTED {
                    state.surveyed.insert(inode, surveyed);
                }
                drop(state);
                self.executes(*pid, command, inode, file);
            }
        }
    }

    /// The first event of a process has come, so it is captured. It most probably still runs.
    pub(crate) fn first_event(&self, data: &DataEvent) {
        if !self.are_wanted {
            return;
        }
        let process = data.process;
        let mut found = self.attached_files(process.pid);
        let mut state = self.state();
        if found.is_empty() && !state.is_reported(process.pid) {
            found.push(ProcessTls::default());
        }
        for tls in found {
            state.report(process, data.timestamp_ns, tls);
        }
        self.wake_reader();
    }

    /// The files with probes that a process has mapped.
    fn attached_files(&self, pid: u32) -> Vec<ProcessTls> {
        let Ok(maps) = Maps::read(pid, limits::QUICK_MAPS_BYTES) else {
            return Vec::new();
        };
        let numbers: HashSet<u64> = self.state().files.keys().map(|inode| inode.number).collect();
        // Some file systems show other numbers in the list of mappings: there the names decide.
        let may_be = |mapping: &Mapping<'_>| {
            numbers.contains(&mapping.inode.number) || self.modules.name_library(mapping.name())
        };
        let mut seen = HashSet::new();
        let mappings = maps
            .executed()
            .filter(may_be)
            .filter(|mapping| seen.insert(mapping.inode));
        mappings
            .filter_map(|mapping| {
                let inode = mapping.locate(pid).ok()?.inode();
                self.state().tls(inode, &mapping.path())
            })
            .collect()
    }

    /// A process has ended, or executes another program.
    pub(crate) fn forget(&self, pid: u32) {
        if self.are_wanted {
            self.state().reported.remove(&pid);
        }
    }

    /// Takes the facts observed since the last call.
    pub(crate) fn take(&self) -> Vec<CapturedEvent> {
        if !self.are_pending.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        let pending = std::mem::take(&mut self.state().pending);
        let pending = pending.into_iter().map(Box::new);
        pending.map(CapturedEvent::Observed).collect()
    }

    /// Registers the task that a new fact wakes.
    pub(crate) fn register_reader(&self, waker: &Waker) {
        if self.are_wanted {
            self.reader.register(waker);
        }
    }

    fn wake_reader(&self) {
        self.are_pending.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Number of facts that were not reported, because too many came at once.
    pub(crate) fn lost(&self) -> u64 {
        self.state().lost
    }

    /// Returns true if a process is captured and that is known without its events.
    fn covers(&self, pid: u32) -> bool {
        self.are_wanted && !self.cgroup && self.uid.is_none_or(|uid| proc::user(pid) == Some(uid))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File {
    /// `None` for a file whose functions deliver no content, such as NSS, which writes through NSPR.
    fn of(outcome: &Result<Vec<AttachReport>, Error>, modules: Modules) -> Option<Self> {
        let reports = match outcome {
            Ok(reports) => reports,
            Err(error) => {
                return Some(Self {
                    implementation: None,
                    obstacle: Some(Arc::from(error.to_string())),
                });
            }
        };
        let brings_content = |report: &&AttachReport| modules.brings(report.symbol) == Some(Brings::Content);
        let mut of_content = reports.iter().filter(brings_content);
        let attached = of_content.clone().find(|report| report.outcome.is_ok());
        let report = attached.or_else(|| of_content.next())?;
        let has_symbol = |family: &&Family| family.hooks().any(|hook| hook.symbol == report.symbol);
        let family = modules.families().find(has_symbol);
        Some(Self {
            implementation: family.map(|family| Arc::from(family.kind.name())),
            obstacle: report
                .outcome
                .as_ref()
                .err()
                .map(|reason| Arc::from(reason.to_string())),
        })
    }
}

impl State {
    /// The TLS that a process that executes this file uses; `None` for files without TLS.
    fn tls(&self, inode: Inode, path: &Path) -> Option<ProcessTls> {
        let file = self.files.get(&inode)?;
        let surveyed = self.surveyed.get(&inode);
        let implementation = surveyed.map(|surveyed| &surveyed.implementation);
        Some(ProcessTls {
            executable: None,
            implementation: implementation.or(file.implementation.as_ref()).cloned(),
            file: text(path),
            version: surveyed.and_then(|surveyed| surveyed.version.clone()),
            obstacle: file.obstacle.clone(),
        })
    }

    fn is_reported(&self, pid: u32) -> bool {
        self.reported.contains_key(&pid)
    }

    /// Reports a process and a file once.
    fn report(&mut self, process: Process, timestamp_ns: u64, tls: ProcessTls) {
        if self.reported.len() >= limits::PROCESSES_REPORTED && !self.is_reported(process.pid) {
            self.reported.clear();
        }
        let reported = self.reported.entry(process.pid).or_default();
        let started = proc::started(process.pid);
        if started.is_some() && reported.started != started {
            *reported = Reported {
                started,
                files: HashSet::new(),
            };
        }
        let is_new = reported.files.len() < limits::FILES_REPORTED && reported.files.insert(tls.file.clone());
        if !is_new {
            return;
        }
        if self.pending.len() >= limits::FACTS {
            self.lost += 1;
            return;
        }
        let program = Program::of(process.pid).ok();
        let name = program.as_ref().and_then(Program::name);
        self.pending.push_back(Observed {
            timestamp_ns,
            process,
            container_id: container::of(process.pid).map(Arc::from),
            program: name.map(|name| Arc::from(name.to_string_lossy())),
            fact: Fact::Process(ProcessTls {
                executable: program.and_then(|program| text(&program.path)),
                ..tls
            }),
        });
    }
}

fn process(pid: u32, comm: &str) -> Process {
    Process {
        pid,
        tid: pid,
        uid: proc::user(pid),
        comm: comm.into(),
    }
}

fn text(path: &Path) -> Option<Arc<str>> {
    let path = path.to_string_lossy();
    (!path.is_empty()).then(|| Arc::from(path))
}

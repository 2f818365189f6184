//! Files that processes begin to execute while a capture runs.
//!
//! The kernel reports each file that it does not find among the known ones (`FileRecord`): the
//! program of an `execve`, or a library at the moment it is mapped. The file is inspected, attached
//! to if it has TLS, and marked as known, so that the kernel reports each file once, whoever
//! executes it.
//!
//! ```text
//! FILES (ring buffer) ─► watch ─┬─ libraries whose names show it, of root ──► files ─► attach
//!                               ├─► thread for those that other users map ──► files
//!                               ├─► thread for those that others can write ─► files
//!                               ├─► thread for programs ────────────────────► files
//!                               └─► thread for the rest, and what runs already ─► files
//! ```
//!
//! A process that has just mapped a TLS library waits for nobody, so this is a race: the library is
//! inspected at once, while large programs and libraries that merely might have TLS wait for each
//! other on threads of their own. What anybody but root can have written may be made to take long,
//! so it waits, too. On each thread users are served in turn (`queue`). No thread is waited for at
//! the end.

mod files;
mod hold;
mod inspection;
mod mapping;
mod queue;
mod watch;

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};

use crate::file::elf::ElfError;
use crate::find::survey::{Keyless, Obstacle};
use crate::handle::CaptureHandle;
use crate::kind::Kind;
use crate::modules::Modules;
use crate::proc::priority::Priority;
use crate::{AttachReport, Error, Library, limits};
pub(crate) use files::{FileKeyValue, Files, State};
use hold::Holder;
pub(crate) use inspection::Inspections;
use queue::Queue;
use watch::{Job, Queues};

/// Which files are attached to that processes begin to execute while the capture runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Discovery {
    /// None.
    #[default]
    Off,
    /// Those with functions of one of these kinds; of any kind when none is given.
    Kinds(Vec<Kind>),
    /// The files at these paths at that time, such as a library's next version.
    Paths(Vec<PathBuf>),
}

/// The outcome for one file.
#[derive(Debug)]
pub enum Discovered {
    /// It has TLS functions.
    Attached {
        /// The process that executes it.
        process: Executor,
        /// Where the probes are attached.
        reports: Vec<AttachReport>,
    },
    /// It has, or may have, TLS functions, and is not attached to.
    GivenUp {
        /// The process that executes it.
        process: Executor,
        /// The file.
        file: PathBuf,
        /// Why.
        reason: GiveUp,
    },
    /// It is a program with TLS that cannot be captured. Said of the processes that are captured, and in a capture of
    /// the whole host of those that connected.
    NotCaptured {
        /// The process that executes it, or did.
        process: Executor,
        /// The program.
        file: PathBuf,
        /// Its TLS.
        implementation: &'static str,
        /// Why it cannot be captured.
        obstacle: Obstacle,
    },
    /// It has TLS, and a key log has none of its secrets.
    Keyless {
        /// The process that executes it.
        process: Executor,
        /// The file.
        file: PathBuf,
        /// Its TLS, and why.
        why: Keyless,
    },
    /// It has TLS functions, and the probes came too late for earlier actions of the process.
    TooLate {
        /// The process that executes it, or did.
        process: Executor,
        /// The file, or its name where that is all that is known.
        file: String,
        /// The process had ended by then.
        ended: bool,
        /// The process had begun to connect, or to listen, by then: data that it sent at once was not seen.
        connected: bool,
    },
}

/// Why a file that has, or may have, TLS functions is not attached to.
#[derive(Debug, thiserror::Error)]
pub enum GiveUp {
    /// It cannot be inspected.
    #[error(transparent)]
    Inspection(#[from] ElfError),
    /// It cannot be attached to.
    #[error(transparent)]
    Attachment(#[from] Error),
}

/// A process that executes a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executor {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub command: String,
}

/// The running threads; they end when this is dropped.
pub(crate) struct Discoverer {
    // Closed first: that ends the thread that reads from the kernel.
    stop: Option<io::PipeWriter>,
    queues: Arc<Queues>,
    files: Arc<Files>,
    /// Closed when no thread is left.
    ended: Receiver<Infallible>,
}

/// How long the end of a capture waits for its threads. One may be reading a file that takes long, or that a
/// network file system does not give; it can do no harm any more.
const ENDING: Duration = Duration::from_millis(100);

impl Discoverer {
    /// Control of the attached files.
    pub(crate) fn libraries(&self) -> LiveLibraries {
        LiveLibraries(Arc::downgrade(&self.files))
    }

    /// Begins with the records in `ring` and the files of the processes `running`. With
    /// `follows_children` the processes of the captured tree are held in the meantime.
    pub(crate) fn start(
        ring: RingBuf<MapData>,
        files: Files,
        handle: CaptureHandle,
        running: Vec<u32>,
        follows_children: bool,
    ) -> io::Result<Self> {
        let files = Arc::new(files);
        let queues = Arc::new(Queues::default());
        let (stopped, stop) = io::pipe()?;
        let (runs, ended) = channel::<Infallible>();
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let runs = runs.clone();
            thread::Builder::new().name(name.to_owned()).spawn(move || {
                let _runs = runs;
                work();
            })
        };
        let shared = || (Arc::clone(&files), Arc::clone(&queues));
        let worker = |queue: fn(&Queues) -> &Queue<Job>, running| -> Box<dyn FnOnce() + Send> {
            let (files, queues) = shared();
            Box::new(move || watch::work(&files, queue(&queues), running))
        };
        // Dropped when a thread cannot be started: that ends the others.
        let discoverer = Self {
            stop: Some(stop),
            queues: Arc::clone(&queues),
            files: Arc::clone(&files),
            ended,
        };
        let searched = Arc::downgrade(&files);
        handle.search_with(move |pid| {
            if let Some(files) = searched.upgrade() {
                watch::scan(&files, pid);
            }
        });
        let (of_users, waiting) = shared();
        let serve_users = move || watch::serve_users(&of_users, &waiting);
        spawn("users-libraries", Box::new(serve_users))?;
        spawn("other-libraries", worker(|queues| &queues.libraries, Vec::new()))?;
        spawn("new-programs", worker(|queues| &queues.programs, Vec::new()))?;
        spawn("other-files", worker(|queues| &queues.others, running))?;
        let inspected = Arc::clone(&files);
        let inspect = move || {
            Priority::Last.take();
            inspected.inspections.work(&inspected);
        };
        spawn("inspections", Box::new(inspect))?;
        let holder = if follows_children {
            let (holder, work) = Holder::new();
            spawn("hold", Box::new(work))?;
            Some(holder)
        } else {
            None
        };
        let watch = watch::Watch {
            holder,
            ring,
            stopped,
            handle,
            files,
            queues,
            lost: 0,
        };
        spawn("new-libraries", Box::new(move || watch.run()))?;
        Ok(discoverer)
    }
}

/// Changes the files that a capture is attached to.
#[derive(Clone)]
pub struct LiveLibraries(Weak<Files>);

impl LiveLibraries {
    /// Attaches to `libraries` where that is not done yet, and searches for more by `discovery` from now on. If that
    /// names files, all others are detached from. Returns when it is done, with what was attached; after an error
    /// everything is as it was.
    pub fn change(&self, libraries: &[Library], discovery: Discovery) -> Result<Vec<AttachReport>, Error> {
        let files = self.0.upgrade().ok_or(Error::Ended)?;
        files.change(libraries, discovery)
    }
}

impl Drop for Discoverer {
    fn drop(&mut self) {
        // What was executed last may still wait.
        if self.files.modules.have(Modules::TLS) {
            let pending = self.files.inspections.wait(limits::INSPECTION);
            if pending > 0 {
                self.files.tell_not_inspected(pending);
            }
        }
        self.stop = None;
        let waiting = self.queues.close();
        self.files.inspections.close();
        self.files.inspections.end(&self.files);
        if self.ended.recv_timeout(ENDING) == Err(RecvTimeoutError::Timeout) {
            tracing::debug!("a file is still being read, for nobody");
        }
        let left_out = self.files.tally.files_without_room();
        // A few wait at any moment on a busy host: programs that have just begun.
        if left_out > 0 {
            tracing::warn!(
                "program files were not inspected, because too many appeared at once: {left_out} times there was no room \
                 for a new one, {waiting} were still waiting at the end; those with functions to capture were not captured"
            );
        }
        let skipped = self.files.tally.files_given_up();
        if skipped > 0 {
            tracing::warn!("{skipped} files of running programs were given up and not captured");
        }
    }
}

//! Files that processes begin to execute while a capture runs.
//!
//! The kernel tells of each file that it does not find among the known ones (`FileRecord`): the
//! program of an `execve`, or a library at the moment it is mapped. It is looked into, attached to
//! when it has TLS, and made known, so that the kernel tells of each file once, whoever executes it.
//!
//! ```text
//! FILES (ring buffer) ─► watch ─┬─ libraries whose names tell ──────────────► files ─► attach
//!                               ├─► thread for programs ────────────────────► files
//!                               └─► thread for the rest, and what runs already ─► files
//! ```
//!
//! A process that has just mapped a TLS library waits for nobody, so this is a race: the library is
//! looked into at once, while large programs and libraries that merely might have TLS wait for each
//! other on threads of their own.

mod files;
mod mapping;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aya::maps::{MapData, RingBuf};

use crate::AttachReport;
use crate::handle::CaptureHandle;
use crate::target::Kind;
pub(crate) use files::{FileKeyValue, Files, Inode, State, inode_of};

/// Which files are attached to that processes begin to execute while the capture runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Discovery {
    /// None.
    #[default]
    Off,
    /// Those with functions of one of these kinds; of any kind when none is given.
    Kinds(Vec<Kind>),
    /// What stands at these paths by then, such as a library's next version.
    Paths(Vec<PathBuf>),
}

/// What came of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovered {
    /// It has TLS functions.
    Attached {
        /// Who executes it.
        process: Executor,
        /// Where the probes stand.
        reports: Vec<AttachReport>,
    },
    /// It has TLS functions, and the probes came too late for what the process did before.
    TooLate {
        /// Who executes it, or did.
        process: Executor,
        /// The file, or its name where that is all that is known.
        file: String,
        /// The process had ended by then.
        ended: bool,
        /// The process had begun to connect, or to listen, by then: what it sent at once was not seen.
        connected: bool,
    },
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
    // Closed first: that ends the threads.
    stop: Option<io::PipeWriter>,
    threads: Vec<JoinHandle<()>>,
}

impl Discoverer {
    /// Begins with the records in `ring` and the files of the processes `running`.
    pub(crate) fn start(
        ring: RingBuf<MapData>,
        files: Files,
        handle: CaptureHandle,
        running: Vec<u32>,
    ) -> io::Result<Self> {
        let files = Arc::new(files);
        let (stopped, stop) = io::pipe()?;
        let (to_programs, programs) = watch::queue();
        let (to_others, others) = watch::queue();
        let watch = watch::Watch::new(
            ring,
            stopped,
            handle,
            Arc::clone(&files),
            [to_programs, to_others],
        );
        let others_files = Arc::clone(&files);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(work)
        };
        let threads = vec![
            spawn("new-libraries", Box::new(move || watch.run()))?,
            spawn(
                "new-programs",
                Box::new(move || watch::work(&files, &programs, Vec::new())),
            )?,
            spawn(
                "other-files",
                Box::new(move || watch::work(&others_files, &others, running)),
            )?,
        ];
        Ok(Self {
            stop: Some(stop),
            threads,
        })
    }
}

impl Drop for Discoverer {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("the search for new programs failed");
            }
        }
    }
}

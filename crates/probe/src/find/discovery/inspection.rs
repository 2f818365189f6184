//! Inspects programs without functions to attach to: TLS in them that cannot be captured is named and counted.
//!
//! Reading a whole program takes long, so it is done on a thread of its own that takes the time others leave.
//! The kernel reports every start of such a program, because no file is made known to it that has a reason not
//! to be captured.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use ecapture_ebpf::discovery::FileRecord;

use super::files::Files;
use super::mapping::Sighting;
use super::queue::Queue;
use super::{Discovered, Discovery, Executor};
use crate::file::elf::Image;
use crate::file::inode::Inode;
use crate::find::survey::{self, Keyless, Obstacle};
use crate::limits;

/// The programs that wait to be inspected, and the findings in those before.
#[derive(Default)]
pub(crate) struct Inspections {
    queue: Queue<Inspection>,
    found: Mutex<HashMap<Inode, Option<UncapturedTls>>>,
    suspects: Mutex<Vec<Suspect>>,
    pending: Arc<Pending>,
    /// Only what may be reported is inspected from now on.
    ending: AtomicBool,
}

/// A program that a process began to execute.
struct Inspection {
    record: FileRecord,
    sighting: Sighting,
    /// For people, as long as the process runs.
    path: PathBuf,
    _pending: PendingGuard,
}

/// The TLS of a program that cannot be captured.
#[derive(Debug, Clone)]
struct UncapturedTls {
    implementation: &'static str,
    obstacle: Obstacle,
}

/// A process of a host-wide capture with such a program: it matters if it connects.
struct Suspect {
    record: FileRecord,
    process: Executor,
    file: PathBuf,
    found: UncapturedTls,
}

impl Inspections {
    /// Puts a program after the others of that user. Returns false if there is no room for it.
    pub(super) fn push(&self, user: u32, record: FileRecord, sighting: Sighting) -> bool {
        let inspection = Inspection {
            record,
            path: sighting.path(),
            sighting,
            _pending: self.pending(),
        };
        self.queue.push(user, inspection).is_ok()
    }

    /// While one lives, [`Self::wait`] waits for it.
    pub(super) fn pending(&self) -> PendingGuard {
        *lock(&self.pending.count) += 1;
        PendingGuard(Arc::clone(&self.pending))
    }

    /// The capture ends: waits until nothing is pending any more that may be reported, for so long at most. Returns
    /// how many programs still are.
    pub(super) fn wait(&self, limit: Duration) -> usize {
        self.ending.store(true, Ordering::Release);
        let count = lock(&self.pending.count);
        let waited = self
            .pending
            .changed
            .wait_timeout_while(count, limit, |count| *count > 0);
        let (count, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *count
    }

    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Inspects the pushed programs until the queue is closed.
    pub(super) fn work(&self, files: &Files) {
        while let Some(inspection) = self.queue.pop() {
            let is_ending = self.ending.load(Ordering::Acquire) && !files.set;
            if is_ending && !files.connected_since(&inspection.record) {
                continue;
            }
            match self.found_in(&inspection) {
                Some(found) => self.report(files, inspection, found),
                None => files.make_known(&inspection.record),
            }
        }
    }

    /// Reads a file once.
    fn found_in(&self, inspection: &Inspection) -> Option<UncapturedTls> {
        let located = &inspection.sighting.located;
        let inode = located.inode();
        if let Some(found) = lock(&self.found).get(&inode) {
            return found.clone();
        }
        let library = located.open(inspection.path.clone()).ok()?;
        let found = survey::obstacle_in(&library).map(|(implementation, obstacle)| UncapturedTls {
            implementation,
            obstacle,
        });
        let mut known = lock(&self.found);
        // Numbers of removed files are given again.
        if known.len() >= limits::INSPECTED {
            known.clear();
        }
        known.insert(inode, found.clone());
        found
    }

    fn report(&self, files: &Files, inspection: Inspection, found: UncapturedTls) {
        let why = found.obstacle.to_string();
        let process = &inspection.sighting.process;
        let file = inspection.sighting.shown();
        files.tell_obstacle(process, file, Some(found.implementation), &why);
        let suspect = Suspect {
            record: inspection.record,
            process: inspection.sighting.process,
            file: inspection.path,
            found,
        };
        if files.set {
            suspect.tell(files);
        } else if lock(&self.suspects).len() < limits::SUSPECTS {
            lock(&self.suspects).push(suspect);
        }
    }

    /// Names those of a host-wide capture that connected.
    pub(super) fn end(&self, files: &Files) {
        for suspect in lock(&self.suspects).drain(..) {
            if files.connected_since(&suspect.record) {
                suspect.tell(files);
            }
        }
    }
}

impl Suspect {
    fn tell(&self, files: &Files) {
        files.tell_not_captured(Discovered::NotCaptured {
            process: self.process.clone(),
            file: self.file.clone(),
            implementation: self.found.implementation,
            obstacle: self.found.obstacle.clone(),
        });
    }
}

impl Files {
    /// Reports a file whose secrets would be missing from a key log, in a capture of all that there are.
    pub(super) fn tell_keyless(&self, sighting: &Sighting, image: &Image) {
        if matches!(&*self.discovery(), Discovery::Kinds(kinds) if kinds.is_empty())
            && let Some(why) = Keyless::of(image)
        {
            (self.state().tell)(Discovered::Keyless {
                process: sighting.process.clone(),
                file: image.path().to_owned(),
                why,
            });
        }
    }
}

#[derive(Default)]
struct Pending {
    count: Mutex<usize>,
    changed: Condvar,
}

/// A file that is still to be inspected.
pub(super) struct PendingGuard(Arc<Pending>);

impl Drop for PendingGuard {
    fn drop(&mut self) {
        *lock(&self.0.count) -= 1;
        self.0.changed.notify_all();
    }
}

/// Locks also after a panic elsewhere: the kept state is valid then, too.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_is_waited_for_within_the_limit() {
        let inspections = Inspections::default();
        assert_eq!(inspections.wait(Duration::from_hours(1)), 0);
        let guard = inspections.pending();
        assert_eq!(inspections.wait(Duration::ZERO), 1);
        std::thread::scope(|scope| {
            scope.spawn(|| inspections.wait(Duration::from_hours(1)));
            drop(guard);
        });
        assert_eq!(*lock(&inspections.pending.count), 0);
    }
}

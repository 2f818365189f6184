//! The threads: which of them inspects which file when.

use std::io::PipeReader;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use ecapture_ebpf::discovery::{EVENT_EXECUTED, FileRecord};

use super::files::{Files, Looked, Reader};
use super::hold::{Held, Holder};
use super::inspection::PendingGuard;
use super::mapping::{Sighting, Sought, name};
use super::queue::{Popped, Queue};
use crate::handle::CaptureHandle;
use crate::limits;
use crate::proc;
use crate::proc::priority::{Priority, Thread};

/// Number of times that a mapping is searched for: the kernel reports it just before it exists.
const LOOKS: u32 = 20;
/// Time between two looks.
const PAUSE: Duration = Duration::from_micros(100);

const ROOT: u32 = 0;

/// A file that the kernel reported.
pub(super) struct Report {
    record: FileRecord,
    // Let go first: then nothing is pending any more.
    _held: Option<Held>,
    _pending: PendingGuard,
}

/// A file to be inspected.
pub(super) enum Job {
    File(Box<Report>),
    /// All files that these processes execute: records of them were lost.
    Processes(Vec<u32>),
}

/// The jobs that wait for each thread.
#[derive(Default)]
pub(super) struct Queues {
    /// Libraries whose names show that they have TLS, mapped by processes of other users than root.
    pub(super) of_users: Queue<Box<Report>>,
    /// Libraries whose names show that they have TLS, and whose files may take long to read.
    pub(super) libraries: Queue<Job>,
    pub(super) programs: Queue<Job>,
    /// Libraries that merely might have TLS, and the processes that run already.
    pub(super) others: Queue<Job>,
}

impl Queues {
    /// Ends the threads. Returns how many files still waited.
    pub(super) fn close(&self) -> u64 {
        let queues = [&self.libraries, &self.programs, &self.others];
        let waiting: usize = queues.map(Queue::close).iter().sum();
        (waiting + self.of_users.close()) as u64
    }
}

/// Reads the kernel's reports, and inspects the libraries whose names show that they have TLS and that
/// processes of root map, as long as that is quick.
pub(super) struct Watch {
    pub(super) ring: RingBuf<MapData>,
    pub(super) stopped: PipeReader,
    pub(super) handle: CaptureHandle,
    /// Holds the processes of a captured tree.
    pub(super) holder: Option<Holder>,
    pub(super) files: Arc<Files>,
    pub(super) queues: Arc<Queues>,
    /// Number of records that did not fit into the ring and were made up for.
    pub(super) lost: u64,
}

impl Watch {
    pub(super) fn run(mut self) {
        // What this thread does for each record is little: it reads no file of anybody but root.
        Priority::First.take();
        Thread::CURRENT.run_at_once();
        let first = Queue::default();
        while self.wait() {
            loop {
                self.distribute(&first);
                let Popped::Item(report) = first.try_pop() else {
                    break;
                };
                look_at_once(&self.files, &self.queues, report);
            }
            self.make_up();
        }
    }

    /// Takes all records from the ring: one user's many are not to be before another one's.
    fn distribute(&mut self, first: &Queue<Box<Report>>) {
        while let Some(bytes) = self.ring.next() {
            let Some(record) = FileRecord::decode(&bytes) else {
                continue;
            };
            // First of all, because the process runs in the meantime.
            let held = self.holder.as_ref().map(|holder| holder.hold(record.pid));
            drop(bytes);
            let user = user_of(record.pid);
            let report = Box::new(Report {
                record,
                _held: held,
                _pending: self.files.inspections.pending(),
            });
            let has_room = if record.event == EVENT_EXECUTED {
                self.queues.programs.push(user, Job::File(report)).is_ok()
            } else if self.files.modules.name_library(name(&record)) {
                let queue = if user == ROOT {
                    first
                } else {
                    &self.queues.of_users
                };
                queue.push(user, report).is_ok()
            } else {
                self.queues.others.push(user, Job::File(report)).is_ok()
            };
            if !has_room {
                self.files.leave_out();
            }
        }
    }

    /// Waits for records. Returns false if the capture ends.
    fn wait(&self) -> bool {
        let waits_for = |descriptor| libc::pollfd {
            fd: descriptor,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut waits = [
            waits_for(self.ring.as_raw_fd()),
            waits_for(self.stopped.as_raw_fd()),
        ];
        // SAFETY: the array has two entries, and both descriptors are open.
        #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
        unsafe {
            libc::poll(waits.as_mut_ptr(), 2, -1);
        }
        waits[1].revents == 0
    }

    /// If records were lost, inspects all processes instead.
    fn make_up(&mut self) {
        if let Ok(counters) = self.handle.counters()
            && counters.files_lost > self.lost
            && self
                .queues
                .others
                .push(ROOT, Job::Processes(proc::pids()))
                .is_ok()
        {
            self.lost = counters.files_lost;
        }
    }
}

/// Inspects the libraries that processes of other users than root map. Ends when the queue is closed.
pub(super) fn serve_users(files: &Files, queues: &Queues) {
    while let Some(report) = queues.of_users.pop() {
        Priority::First.take();
        look_at_once(files, queues, report);
    }
}

/// Inspects a file if that is quick, and else lets it wait for those who have time.
fn look_at_once(files: &Files, queues: &Queues, report: Box<Report>) {
    let record = report.record;
    if look(files, &record, Reader::Quick) == Looked::Later {
        let user = user_of(record.pid);
        let waits = queues.libraries.push(user, Job::File(report));
        if waits.is_err() {
            files.leave_out();
            files.missed(&record);
        }
    }
}

/// Inspects the files in `queue` and, while it is empty, the files that the processes `running`
/// execute. Ends when the queue is closed.
pub(super) fn work(files: &Files, queue: &Queue<Job>, mut running: Vec<u32>) {
    loop {
        let job = match queue.try_pop() {
            Popped::Empty => match running.pop() {
                Some(pid) => {
                    scan(files, pid);
                    continue;
                }
                None => queue.pop(),
            },
            Popped::Closed => None,
            Popped::Item(job) => Some(job),
        };
        match job {
            Some(Job::File(report)) => {
                Priority::Usual.take();
                look(files, &report.record, Reader::Patient);
            }
            Some(Job::Processes(pids)) => running = pids,
            None => return,
        }
    }
}

fn look(files: &Files, record: &FileRecord, reader: Reader) -> Looked {
    files.hold();
    if files.look_at_paths(record) {
        return Looked::Done;
    }
    let most = match reader {
        Reader::Quick => limits::QUICK_MAPS_BYTES,
        Reader::Patient => limits::MAPS_BYTES,
    };
    for _ in 0..LOOKS {
        match Sighting::of(record, most) {
            Sought::Found(sighting) => {
                if let Ok(looked) = files.look(*sighting, Some(record), reader) {
                    return looked;
                }
            }
            Sought::Long if reader == Reader::Quick => return Looked::Later,
            Sought::Long => break,
            Sought::Absent => {}
        }
        if !proc::is_running(record.pid) {
            break;
        }
        // The process may need the processor that this thread has. Nobody ends the wait earlier.
        thread::park_timeout(PAUSE);
    }
    let by_path = Sighting::by_path(record);
    by_path
        .and_then(|sighting| files.look(sighting, Some(record), reader).ok())
        .unwrap_or_else(|| {
            files.missed(record);
            Looked::Done
        })
}

/// Inspects every file that a process executes.
pub(super) fn scan(files: &Files, pid: u32) {
    files.hold();
    Sighting::all(pid, |sighting| {
        // Attaching to the last one has raised it.
        Priority::Last.take();
        // A file that cannot be opened has gone in the meantime.
        let _gone = files.look(sighting, None, Reader::Patient);
    });
}

/// The user of a process; root if it has ended, because then little is left to inspect.
pub(super) fn user_of(pid: u32) -> u32 {
    proc::user(pid).unwrap_or(ROOT)
}

//! The threads: who looks into which file when.

use std::fs;
use std::io::PipeReader;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, sync_channel};

use aya::maps::{MapData, RingBuf};
use ecapture_ebpf::discovery::{EVENT_EXECUTED, FileRecord};

use super::files::Files;
use super::mapping::{Sighting, name};
use crate::handle::CaptureHandle;
use crate::target;

/// Files that may wait for one thread. The kernel tells again of one that finds no place.
const QUEUE: usize = 1024;
/// Times that a mapping is looked for: the kernel tells of it just before it is there.
const LOOKS: u32 = 20;

/// Nice values: what is looked into in the first place, as usual, and last.
const FIRST: libc::c_int = -20;
const USUAL: libc::c_int = 0;
const LAST: libc::c_int = 19;

/// Something to be looked into.
pub(super) enum Job {
    File(Box<FileRecord>),
    /// What these processes execute: records of them were lost.
    Processes(Vec<u32>),
}

pub(super) fn queue() -> (SyncSender<Job>, Receiver<Job>) {
    sync_channel(QUEUE)
}

/// Hears from the kernel, and looks into the libraries whose names tell that they have TLS.
pub(super) struct Watch {
    ring: RingBuf<MapData>,
    stopped: PipeReader,
    handle: CaptureHandle,
    files: Arc<Files>,
    programs: SyncSender<Job>,
    others: SyncSender<Job>,
    /// Records that did not fit into the ring, as far as they were made up for.
    lost: u64,
}

impl Watch {
    pub(super) fn new(
        ring: RingBuf<MapData>,
        stopped: PipeReader,
        handle: CaptureHandle,
        files: Arc<Files>,
        [programs, others]: [SyncSender<Job>; 2],
    ) -> Self {
        Self {
            ring,
            stopped,
            handle,
            files,
            programs,
            others,
            lost: 0,
        }
    }

    pub(super) fn run(mut self) {
        set_priority(FIRST);
        while self.wait() {
            while let Some(bytes) = self.ring.next() {
                let Some(record) = FileRecord::decode(&bytes) else {
                    continue;
                };
                drop(bytes);
                if record.event == EVENT_EXECUTED {
                    let _told_again = self.programs.try_send(Job::File(Box::new(record)));
                } else if target::is_library_name(&name(&record)) {
                    look(&self.files, &record);
                } else {
                    let _told_again = self.others.try_send(Job::File(Box::new(record)));
                }
            }
            self.make_up();
        }
    }

    /// Waits for records. False when the capture ends.
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

    /// When records were lost, all processes are looked into instead.
    fn make_up(&mut self) {
        if let Ok(counters) = self.handle.counters()
            && counters.files_lost > self.lost
            && self.others.try_send(Job::Processes(target::processes())).is_ok()
        {
            self.lost = counters.files_lost;
        }
    }
}

/// Looks into what is in `queue` and, while it is empty, into what the processes `running` execute.
/// Ends when nobody can put anything into the queue any more.
pub(super) fn work(files: &Files, queue: &Receiver<Job>, mut running: Vec<u32>) {
    loop {
        let job = match queue.try_recv() {
            Err(TryRecvError::Empty) => match running.pop() {
                Some(pid) => {
                    set_priority(LAST);
                    scan(files, pid);
                    continue;
                }
                None => queue.recv(),
            },
            Err(TryRecvError::Disconnected) => Err(RecvError),
            Ok(job) => Ok(job),
        };
        match job {
            Ok(Job::File(record)) => {
                set_priority(USUAL);
                look(files, &record);
            }
            Ok(Job::Processes(pids)) => running = pids,
            Err(RecvError) => return,
        }
    }
}

fn look(files: &Files, record: &FileRecord) {
    files.hold();
    if files.look_at_paths(record) {
        return;
    }
    for _ in 0..LOOKS {
        if let Some(sighting) = Sighting::of(record)
            && files.look(&sighting, Some(record)).is_ok()
        {
            return;
        }
        if !is_running(record.pid) {
            break;
        }
        std::thread::yield_now();
    }
    let by_path = Sighting::by_path(record);
    if by_path.is_none_or(|sighting| files.look(&sighting, Some(record)).is_err()) {
        files.missed(record);
    }
}

fn scan(files: &Files, pid: u32) {
    files.hold();
    for sighting in Sighting::all(pid) {
        // What cannot be opened has gone meanwhile.
        let _gone = files.look(&sighting, None);
    }
}

/// A process that has ended has no program any more, whether or not somebody has waited for it.
pub(super) fn is_running(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// Nobody but the attaching thread may use the programs meanwhile, so it is to be quick.
pub(super) fn hurry() {
    set_priority(FIRST);
}

/// Where a priority is refused, the thread keeps the one it has.
fn set_priority(nice: libc::c_int) {
    // SAFETY: it takes plain numbers; for Linux, 0 is the calling thread.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, nice);
    }
}

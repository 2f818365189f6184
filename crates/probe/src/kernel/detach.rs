//! Detaching without holding up whoever waits for this process.
//!
//! The kernel takes some 0.1 s to detach one probe: a grace period of RCU tasks trace, three for
//! probes by `perf_event_open`. So the open links are left to other processes, `ecapture-detach`, that
//! close them: they have nothing else open, so neither a shell nor a pipe waits for them. One process
//! waits for one grace period at a time; several may wait for the same one, so each closes a part.
//!
//! They start when the capture ends, also while a thread is attaching one more probe: the kernel may let that one
//! wait for the probes that others detach. Nothing waits for that thread, and it attaches nothing more.

use std::ffi::CStr;
use std::fs;
use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::mem;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::file::library::Library;
use crate::kernel::loading::Attachment;
use crate::proc::priority::Thread;

/// Name of the processes that detach.
const DETACHING: &CStr = c"ecapture-detach";
/// Number of them, with as many links or more.
const PARTS: usize = 32;

/// Links by the names of what is open: a perf event is its own link before Linux 5.15.
const LINKS: [&[u8]; 2] = [b"anon_inode:bpf", b"anon_inode:[perf_event]"];

/// Signals to the other processes, a byte each, that this one has closed its links.
const CLOSED: [u8; PARTS] = [1; PARTS];

/// Loaded programs with their links.
pub(crate) struct Programs {
    // Dropped in this order: the other processes close the links after we have.
    probes: Mutex<Attachment>,
    holder: Mutex<Option<Holder>>,
    /// One of the threads that have time: no more than one of them at once waits for the programs.
    patient: Mutex<()>,
    turns: Mutex<Turns>,
    nobody_hurries: Condvar,
    /// Nothing is attached any more.
    ended: Arc<AtomicBool>,
}

/// Who waits for the programs, and who has them.
#[derive(Default)]
struct Turns {
    /// Number of [`Turn`]s of those that have no time.
    hurried: usize,
    /// The thread that has the programs.
    holder: Option<Thread>,
    /// It runs at once because others wait for it.
    is_raised: bool,
}

impl Turns {
    /// Whoever has no time waits for the holder, which may be waiting for a processor.
    fn raise(&mut self) {
        if let Some(holder) = self.holder.filter(|_| !self.is_raised) {
            self.is_raised = holder.run_at_once();
        }
    }
}

/// Whether a process may use a file before it is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hurry {
    Yes,
    No,
}

/// A thread that attaches to a file, one probe after the other. While one that hurries has its turn, the others wait.
pub(crate) struct Turn<'a> {
    programs: &'a Programs,
    hurry: Hurry,
}

impl Turn<'_> {
    /// For attaching one more; `None` when nothing is to be attached any more. The links that there are stay as
    /// they are after a panic elsewhere.
    pub(crate) fn lock(&self) -> Option<Held<'_>> {
        let programs = self.programs;
        let probes = match self.hurry {
            Hurry::Yes => lock(&programs.probes),
            Hurry::No => {
                let _only_one = lock(&programs.patient);
                let someone_hurries = |turns: &mut Turns| turns.hurried > 0;
                let turns = programs
                    .nobody_hurries
                    .wait_while(lock(&programs.turns), someone_hurries);
                drop(turns);
                lock(&programs.probes)
            }
        };
        let mut turns = lock(&programs.turns);
        turns.holder = Some(Thread::current());
        // Another one may have begun to wait before there was a holder.
        if turns.hurried > usize::from(self.hurry == Hurry::Yes) {
            turns.raise();
        }
        drop(turns);
        let held = Held { programs, probes };
        (!programs.has_ended()).then_some(held)
    }

    /// Keeps the links of a file, also when nothing more is attached: closing them takes long.
    pub(crate) fn assign(&self, links: Vec<OwnedFd>, library: &Library) {
        lock(&self.programs.probes).assign(links, library.inode(), library.is_trusted());
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.hurry == Hurry::Yes {
            lock(&self.programs.turns).hurried -= 1;
            self.programs.nobody_hurries.notify_one();
        }
    }
}

/// The programs, for the thread that attaches one more.
pub(crate) struct Held<'a> {
    programs: &'a Programs,
    probes: MutexGuard<'a, Attachment>,
}

impl Deref for Held<'_> {
    type Target = Attachment;

    fn deref(&self) -> &Attachment {
        &self.probes
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Attachment {
        &mut self.probes
    }
}

impl Drop for Held<'_> {
    /// Whoever raises the thread holds the same lock: it is not raised after this.
    fn drop(&mut self) {
        let mut turns = lock(&self.programs.turns);
        if let Some(holder) = turns.holder.take()
            && mem::take(&mut turns.is_raised)
        {
            holder.run_in_turn();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Programs {
    pub(crate) fn new(probes: Attachment) -> Self {
        Self {
            ended: probes.ended(),
            probes: Mutex::new(probes),
            holder: Mutex::new(None),
            patient: Mutex::new(()),
            turns: Mutex::default(),
            nobody_hurries: Condvar::new(),
        }
    }

    /// Begins to attach to a file.
    ///
    /// A mutex goes to whoever comes first when it is free, so a thread that a process waits for could be
    /// overtaken again and again by those that attach to one file after the other. These let it go first, between
    /// two probes, and run at once while it waits for them.
    pub(crate) fn turn(&self, hurry: Hurry) -> Turn<'_> {
        if hurry == Hurry::Yes {
            let mut turns = lock(&self.turns);
            turns.hurried += 1;
            turns.raise();
        }
        Turn {
            programs: self,
            hurry,
        }
    }

    /// Returns true if [`Self::stop`] was called.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Nothing more is attached, but for one probe that is being attached just now. Waits for nothing.
    pub(crate) fn stop(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// From now on closing the links takes no time, but for one that is still being attached.
    pub(crate) fn end(&self) {
        self.stop();
        let mut holder = lock(&self.holder);
        if holder.is_none() {
            *holder = Holder::start();
        }
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lets other processes detach everything when this one ends now, which would take as long as detaching. For a
/// process that ends without dropping its captures.
pub fn leave_links() {
    if let Some(holder) = Holder::start() {
        // They get no word: they wait for the end of this process.
        mem::forget(holder);
    }
}

/// The other processes. They keep all links open until this is dropped, or this process has ended.
struct Holder(PipeWriter);

impl Drop for Holder {
    fn drop(&mut self) {
        // Without the word they wait for the end of this process.
        let _told = self.0.write_all(&CLOSED);
    }
}

impl Holder {
    /// `None` when none could be started; then closing is merely slow.
    fn start() -> Option<Self> {
        let (reader, writer) = pipe().ok()?;
        let itself = own_process()?;
        let descriptors = Descriptors::open(&[reader.as_raw_fd(), itself.as_raw_fd()])?;
        fork_holders(&reader, &itself, &descriptors).then_some(Self(writer))
    }
}

/// Refers to this process (`pidfd_open`): readable when it has ended, with all its descriptors closed.
#[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
fn own_process() -> Option<OwnedFd> {
    // SAFETY: it takes plain numbers, and the descriptor that it returns is new.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
        let descriptor = RawFd::try_from(descriptor).ok()?;
        (descriptor >= 0).then(|| OwnedFd::from_raw_fd(descriptor))
    }
}

/// Starts processes that keep only their part of the links, wait until this one has closed its own, and end. That is
/// so when `reader` says so, or, where it ends without a word, when this process, `itself`, has ended: it may have
/// closed the pipe before the links. Whether they were started.
#[expect(
    unsafe_code,
    reason = "only a fork keeps descriptors open beyond this process"
)]
fn fork_holders(reader: &PipeReader, itself: &OwnedFd, descriptors: &Descriptors) -> bool {
    let mut byte = 0u8;
    let mut end = libc::pollfd {
        fd: itself.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: between fork and _exit the children only make system calls on data that existed
    // before, which is allowed in a process with several threads.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            // Inherited, so that it has its name before this process continues.
            libc::prctl(libc::PR_SET_NAME, DETACHING.as_ptr());
            // The grandchildren belong to init, which reaps them.
            if libc::fork() != 0 {
                libc::_exit(0);
            }
            libc::setsid();
            close(&descriptors.others, |_| true);
            divide(&descriptors.links);
            if libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
                libc::poll(&raw mut end, 1, -1);
            }
            libc::_exit(0);
        }
        child > 0 && libc::waitpid(child, std::ptr::null_mut(), 0) == child
    }
}

/// Starts the processes for the other parts of `links`. Each one, this one included, returns with its own part, this
/// one also with the parts of those that could not be started.
///
/// # Safety
///
/// It makes system calls only: the caller is one that may do nothing else.
#[expect(unsafe_code, reason = "it runs between a fork and _exit")]
unsafe fn divide(links: &[RawFd]) {
    for part in 1..PARTS.min(links.len()) {
        // SAFETY: the child does what this one does: system calls.
        let child = unsafe { libc::fork() };
        if child < 0 {
            return;
        }
        let in_part = |index: usize| index % PARTS == part;
        let has_it = child == 0;
        close(links, |index| in_part(index) != has_it);
        if has_it {
            return;
        }
    }
}

/// Closes those whose index is `chosen`, which may be closed already.
#[expect(unsafe_code, reason = "the owners of the descriptors are in another process")]
fn close(descriptors: &[RawFd], chosen: impl Fn(usize) -> bool) {
    for (index, &descriptor) in descriptors.iter().enumerate() {
        if chosen(index) {
            // SAFETY: it takes a plain number, and this process uses no descriptor but the ones that it keeps.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// What is open in this process.
struct Descriptors {
    links: Vec<RawFd>,
    others: Vec<RawFd>,
}

impl Descriptors {
    /// Without those that are `kept`. `None` when they cannot be listed.
    fn open(kept: &[RawFd]) -> Option<Self> {
        let (mut links, mut others) = (Vec::new(), Vec::new());
        for entry in fs::read_dir("/proc/self/fd").ok()?.flatten() {
            let Some(descriptor) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let is_link = fs::read_link(entry.path()).is_ok_and(|target| {
                let target = target.as_os_str().as_encoded_bytes();
                LINKS.iter().any(|link| target.starts_with(link))
            });
            if is_link {
                links.push(descriptor);
            } else if !kept.contains(&descriptor) {
                others.push(descriptor);
            }
        }
        Some(Self { links, others })
    }
}

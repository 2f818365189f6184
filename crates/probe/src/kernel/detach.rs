//! Detaching without holding up whoever waits for this process.
//!
//! The kernel takes some 0.1 s to detach one probe, one after the other: a grace period of RCU tasks
//! trace, three for probes by `perf_event_open`. So the open links are left to a process of its own,
//! `ecapture-detach`, that closes them: it has nothing else open, so neither a shell nor a pipe waits
//! for it.
//!
//! It starts when the capture ends, also while a thread is attaching one more probe: the kernel may let that one
//! wait for the probes that others detach. Nothing waits for that thread, and it attaches nothing more.

use std::ffi::CStr;
use std::fs;
use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kernel::loading::Attachment;

/// Name of the process that detaches.
const DETACHING: &CStr = c"ecapture-detach";

/// Links by the names of what is open: a perf event is its own link before Linux 5.15.
const LINKS: [&[u8]; 2] = [b"anon_inode:bpf", b"anon_inode:[perf_event]"];

/// Signals to the other process that this one has closed its links.
const CLOSED: u8 = 1;

/// Loaded programs with their links.
pub(crate) struct Programs {
    // Dropped in this order: the other process closes the links after we have.
    probes: Mutex<Attachment>,
    holder: Mutex<Option<Holder>>,
    /// Nothing is attached any more.
    ended: Arc<AtomicBool>,
}

impl Programs {
    pub(crate) fn new(probes: Attachment) -> Self {
        Self {
            ended: probes.ended(),
            probes: Mutex::new(probes),
            holder: Mutex::new(None),
        }
    }

    /// For attaching more; `None` when nothing is to be attached any more. The links that there are stay as
    /// they are after a panic elsewhere.
    pub(crate) fn lock(&self) -> Option<MutexGuard<'_, Attachment>> {
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.has_ended()).then_some(probes)
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
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Lets the other process detach everything when this one ends now, which would take as long as detaching. For a
/// process that ends without dropping its captures.
pub fn leave_links() {
    if let Some(holder) = Holder::start() {
        // It gets no word: it waits for the end of this process.
        std::mem::forget(holder);
    }
}

/// The other process. It keeps all links open until this is dropped, or this process has ended.
struct Holder(PipeWriter);

impl Drop for Holder {
    fn drop(&mut self) {
        // Without the word it waits for the end of this process.
        let _told = self.0.write_all(&[CLOSED]);
    }
}

impl Holder {
    /// `None` when it could not be started; then closing is merely slow.
    fn start() -> Option<Self> {
        let (reader, writer) = pipe().ok()?;
        let itself = own_process()?;
        let others = descriptors_except_links(&[reader.as_raw_fd(), itself.as_raw_fd()])?;
        fork_holder(&reader, &itself, &others).then_some(Self(writer))
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

/// Starts a process that closes `others`, waits until this one has closed its links, and ends. That is so when
/// `reader` says so, or, where it ends without a word, when this process, `itself`, has ended: it may have closed
/// the pipe before the links. Whether the process was started.
#[expect(
    unsafe_code,
    reason = "only a fork keeps descriptors open beyond this process"
)]
fn fork_holder(reader: &PipeReader, itself: &OwnedFd, others: &[RawFd]) -> bool {
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
            // The grandchild belongs to init, which reaps it.
            if libc::fork() != 0 {
                libc::_exit(0);
            }
            libc::setsid();
            for &descriptor in others {
                libc::close(descriptor);
            }
            if libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
                libc::poll(&raw mut end, 1, -1);
            }
            libc::_exit(0);
        }
        child > 0 && libc::waitpid(child, std::ptr::null_mut(), 0) == child
    }
}

fn descriptors_except_links(kept: &[RawFd]) -> Option<Vec<RawFd>> {
    let mut others = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").ok()?.flatten() {
        let Some(descriptor) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let is_link = fs::read_link(entry.path()).is_ok_and(|target| {
            let target = target.as_os_str().as_encoded_bytes();
            LINKS.iter().any(|link| target.starts_with(link))
        });
        if !is_link && !kept.contains(&descriptor) {
            others.push(descriptor);
        }
    }
    Some(others)
}

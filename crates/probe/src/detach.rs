//! Detaching without holding up whoever waits for this process.
//!
//! The kernel takes some 0.1 s to detach one probe, one after the other: a grace period of RCU tasks
//! trace, three for probes by `perf_event_open`. So the open links are left to a process of its own,
//! `ecapture-detach`, that closes them: it has nothing else open, so neither a shell nor a pipe waits
//! for it.

use std::ffi::CStr;
use std::fs;
use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::loading::Attachment;

/// Name of the process that detaches.
const DETACHING: &CStr = c"ecapture-detach";

/// Links by the names of what is open: a perf event is its own link before Linux 5.15.
const LINKS: [&[u8]; 2] = [b"anon_inode:bpf", b"anon_inode:[perf_event]"];

/// Loaded programs with their links.
pub(crate) struct Programs {
    // Dropped in this order: the other process closes the links after we have.
    probes: Mutex<Attachment>,
    closed: Option<PipeWriter>,
    ended: AtomicBool,
}

impl Programs {
    pub(crate) fn new(probes: Attachment) -> Self {
        Self {
            probes: Mutex::new(probes),
            closed: None,
            ended: AtomicBool::new(false),
        }
    }

    /// For attaching more; `None` when nothing is to be attached any more. The links that there are stay as
    /// they are after a panic elsewhere.
    pub(crate) fn lock(&self) -> Option<MutexGuard<'_, Attachment>> {
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.ended.load(Ordering::Acquire)).then_some(probes)
    }

    /// Nothing is attached any more. Waits for what is being attached just now.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        drop(self.probes.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.closed = keep_links_elsewhere();
    }
}

/// Starts the other process. It keeps all links open until the returned end is closed. `None`
/// when it could not be started; then closing is merely slow.
fn keep_links_elsewhere() -> Option<PipeWriter> {
    let (reader, writer) = pipe().ok()?;
    let others = descriptors_except_links(reader.as_raw_fd())?;
    fork_holder(&reader, &others).then_some(writer)
}

/// Starts a process that closes `others`, waits until nobody can write to `reader` any more, and
/// ends. Whether it was started.
#[expect(
    unsafe_code,
    reason = "only a fork keeps descriptors open beyond this process"
)]
fn fork_holder(reader: &PipeReader, others: &[RawFd]) -> bool {
    let mut byte = 0u8;
    // SAFETY: between fork and _exit the children only make system calls on data that existed
    // before, which is allowed in a process with several threads.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            // The grandchild belongs to init, which reaps it.
            if libc::fork() != 0 {
                libc::_exit(0);
            }
            libc::setsid();
            libc::prctl(libc::PR_SET_NAME, DETACHING.as_ptr());
            for &descriptor in others {
                libc::close(descriptor);
            }
            while libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1) > 0 {}
            libc::_exit(0);
        }
        child > 0 && libc::waitpid(child, std::ptr::null_mut(), 0) == child
    }
}

fn descriptors_except_links(kept: RawFd) -> Option<Vec<RawFd>> {
    let mut others = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").ok()?.flatten() {
        let Some(descriptor) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let is_link = fs::read_link(entry.path()).is_ok_and(|target| {
            let target = target.as_os_str().as_encoded_bytes();
            LINKS.iter().any(|link| target.starts_with(link))
        });
        if !is_link && descriptor != kept {
            others.push(descriptor);
        }
    }
    Some(others)
}

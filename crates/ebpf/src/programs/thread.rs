//! What a thread is doing: its library calls in progress, and the socket that they use.

use ecapture_ebpf::counter;
use ecapture_ebpf::record::{DIRECTION_WRITE, NO_FD, SOCKET_HEURISTIC};
use ecapture_ebpf::table;

use super::counters::count;
use super::filter::ended;
use super::identity::{Found, bind, socket_of};
use super::maps::{CALLS, THREADS};
use super::memory::user;
use super::state::{Call, CallKey, Session, Thread};
use super::tables::{entered, left};

/// The initial state of a thread. A static, so that it takes no stack.
static NEW_THREAD: Thread = Thread {
    innermost: 0,
    recent_buffer: 0,
    recent_fd: NO_FD,
    call_fd: NO_FD,
    memory_bio: 0,
    kept: 0,
    random_place: 0,
    padding: 0,
    call: Call::NONE,
};

impl Thread {
    /// Returns the thread's entry, which is created if it is new.
    #[inline(always)]
    pub(super) fn current(pid_tgid: u64) -> Option<&'static mut Self> {
        if let Some(thread) = Self::known(pid_tgid) {
            return Some(thread);
        }
        if THREADS.insert(pid_tgid, &NEW_THREAD, 0).is_ok() {
            entered(table::THREADS);
        }
        Self::known(pid_tgid)
    }

    #[inline(always)]
    pub(super) fn known(pid_tgid: u64) -> Option<&'static mut Self> {
        // SAFETY: the map lookup succeeded, and only this thread uses its entry.
        THREADS
            .get_ptr_mut(pid_tgid)
            .map(|thread| unsafe { &mut *thread })
    }

    /// Forgets a thread that ends. The bytes that it was sending can no longer be determined.
    #[inline(always)]
    pub(super) fn end(pid_tgid: u64) {
        let Some(thread) = Self::known(pid_tgid) else {
            return;
        };
        if thread.kept != 0 && thread.call.direction == u32::from(DIRECTION_WRITE) && !ended() {
            count(counter::UNFINISHED_WRITES, 1);
            count(counter::WRITES_ENDED, 1);
        }
        if THREADS.remove(pid_tgid).is_ok() {
            left(table::THREADS);
        }
    }

    /// Returns the stack pointer of the call around one that begins at `stack_pointer`, 0 without
    /// one. A frame that is not further out than this one was left without a return (a long jump).
    #[inline(always)]
    pub(super) fn outer(&self, stack_pointer: u64) -> u64 {
        if self.innermost > stack_pointer {
            self.innermost
        } else {
            0
        }
    }

    /// Makes the call the innermost one. `Err` if there is no room for it.
    #[inline(always)]
    pub(super) fn enter(&mut self, key: CallKey, call: Call) -> Result<(), i32> {
        if call.outer == 0 {
            self.call_fd = NO_FD;
        }
        self.innermost = key.stack_pointer;
        if self.kept != 0 && self.kept > key.stack_pointer {
            return insert_call(key, &call);
        }
        if self.kept != 0 && self.kept < key.stack_pointer {
            // That call was left without a return, unless it is on another stack of this thread.
            let other = CallKey {
                stack_pointer: self.kept,
                ..key
            };
            let _full = insert_call(other, &self.call);
        }
        self.kept = key.stack_pointer;
        self.call = call;
        Ok(())
    }

    #[inline(always)]
    pub(super) fn call(&mut self, key: CallKey) -> Option<&mut Call> {
        if self.kept == key.stack_pointer {
            return Some(&mut self.call);
        }
        // SAFETY: the map lookup succeeded; only this thread changes or removes the entry.
        CALLS.get_ptr_mut(key).map(|call| unsafe { &mut *call })
    }

    #[inline(always)]
    pub(super) fn forget(&mut self, key: CallKey) {
        if self.kept == key.stack_pointer {
            self.kept = 0;
        } else {
            remove_call(key);
        }
    }

    /// Notes that the current call passes `fd` to the kernel. An internet socket is never replaced
    /// by another kind of descriptor: callbacks may log to a local socket.
    #[inline(always)]
    pub(super) fn uses(&mut self, fd: i32) {
        if fd == self.call_fd {
            return;
        }
        // The kind of descriptor matters only if there is a choice, because finding out costs more
        // than the rest.
        let better = match self.socket() {
            None => true,
            Some(used) if used.is_internet() => false,
            Some(_) => socket_of(fd).is_some_and(|found| found.is_internet()),
        };
        if better {
            self.call_fd = fd;
        }
    }

    /// Handles calls that use no socket themselves: the thread's last read that looks like TLS
    /// belongs to the session of the next call, and to no other.
    #[inline(always)]
    pub(super) fn bind_recent(&mut self, session: &mut Session) {
        let fd = self.recent_fd;
        if fd < 0 || !looks_like_tls(self.recent_buffer) {
            return;
        }
        self.recent_fd = -1;
        if let Some(found) = socket_of(fd) {
            let _uncertain = bind(session, fd, &found, SOCKET_HEURISTIC);
        }
    }

    /// Returns the socket that the current call used.
    #[inline(always)]
    pub(super) fn socket(&self) -> Option<Found> {
        socket_of(self.call_fd)
    }
}

/// Remembers a call in the table of calls. `Err` if there is no room for it.
#[inline(always)]
pub(super) fn insert_call(key: CallKey, call: &Call) -> Result<(), i32> {
    CALLS.insert(key, call, 0)?;
    entered(table::CALLS);
    Ok(())
}

/// Forgets a call of the table of calls.
#[inline(always)]
pub(super) fn remove_call(key: CallKey) {
    if CALLS.remove(key).is_ok() {
        left(table::CALLS);
    }
}

/// Recognizes a TLS record header: content type, then a version that begins with 3.
fn looks_like_tls(buffer: u64) -> bool {
    match user::<[u8; 3]>(buffer) {
        Some([kind, major, minor]) => (20..=24).contains(&kind) && major == 3 && minor <= 4,
        None => false,
    }
}

//! Which connection an object is, which may have moved in memory.
//!
//! It moves after the handshake, and a client may send its first request with the end of that: then the object
//! has plaintext before it moves, and more after. Another connection may be at the old address at once. So what
//! is reported is a name that no other connection has, and it goes along with the object.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use ecapture_ebpf::limits;
use ecapture_ebpf::record::{KIND_CLOSE_SESSION, SOCKET_EXACT, SOCKET_HEURISTIC};

use crate::programs::call::{forget_session, known_session, session_of};
use crate::programs::content;
use crate::programs::filter::{may_return, stopped};
use crate::programs::identity::is_seen;
use crate::programs::memory::user;
use crate::programs::record::close;
use crate::programs::state::{NEW_SESSION, Session};

/// The queue of records to send (`sendable_tls`) is at most this many bytes after the beginning of
/// its `CommonState`, which is larger as a whole.
const QUEUE_SPAN: u64 = 512;
/// Number of words in a queue; the only address among them is that of its memory.
const QUEUE_WORDS: usize = 7;
const ADDRESSES: core::ops::Range<u64> = 1 << 20..1 << ADDRESS_BITS;
/// Width of an address in a process, unless it asks for more.
#[cfg(bpf_target_arch = "x86_64")]
const ADDRESS_BITS: u32 = 47;
#[cfg(bpf_target_arch = "aarch64")]
const ADDRESS_BITS: u32 = 48;

/// The connection whose plaintext a thread moved last, by `pid_tgid`.
#[map]
static LAST: LruHashMap<u64, u64> = LruHashMap::with_max_entries(limits::THREADS, 0);

/// The offset in a `CommonState` of the address of its queue's memory, by process.
#[map]
static QUEUES: LruHashMap<u32, u64> = LruHashMap::with_max_entries(limits::PROCESSES, 0);

/// Notes that `queue` belongs to the connection whose plaintext the thread moved last. The address
/// of the queue's memory is at `place`.
#[inline(always)]
pub(super) fn note_queue(pid_tgid: u64, queue: u64, place: u64) {
    // SAFETY: the map lookup succeeded, and only this thread uses its entry.
    let connection = LAST.get_ptr(pid_tgid).map_or(0, |last| unsafe { *last });
    if connection != 0 && queue.wrapping_sub(connection) < QUEUE_SPAN {
        let _full = QUEUES.insert((pid_tgid >> 32) as u32, place - connection, 0);
        let _full = identify(pid_tgid, connection);
    }
}

/// Finds out which connection it is, and begins a session if it is another one than before. Returns
/// false if there is no room for one.
#[inline(always)]
pub(super) fn identify(pid_tgid: u64, connection: u64) -> bool {
    identify_in_own_frame(pid_tgid, connection) != 0
}

/// Before Linux 6.13 (private stacks) the frames of a chain of calls may take 512 bytes together;
/// in one frame with their caller, this function and `skip_unsent` would take more. A global
/// function, as `send_part` is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn identify_in_own_frame(pid_tgid: u64, connection: u64) -> u64 {
    u64::from(update_session(pid_tgid, connection).is_some())
}

#[inline(always)]
fn update_session(pid_tgid: u64, connection: u64) -> Option<()> {
    let pid = (pid_tgid >> 32) as u32;
    let session = session_of(pid, connection)?;
    if session.link == 0 {
        session.link = new_name();
    }
    let _full = LAST.insert(pid_tgid, connection, 0);
    // The previous connection here is gone: its memory is used again.
    if session.sock != 0 && !is_seen(session.sock) {
        renew(pid, session);
    }
    let memory = match QUEUES.get_ptr(pid) {
        // SAFETY: the map lookup succeeded; the value is a whole word.
        Some(distance) => user(connection + unsafe { *distance }).unwrap_or(0),
        None if session.sock == 0 => search(pid, connection),
        None => 0,
    };
    if memory != 0 {
        adopt(pid, connection, session, memory);
    }
    Some(())
}

/// Finds the place of the address of a queue's memory, and that address.
#[inline(always)]
pub(super) fn memory_of(queue: u64) -> Option<(u64, u64)> {
    let words: [u64; QUEUE_WORDS] = user(queue)?;
    let mut found = None;
    for (index, word) in words.into_iter().enumerate() {
        if ADDRESSES.contains(&word) {
            if found.is_some() {
                return None;
            }
            found = Some((queue + 8 * index as u64, word));
        }
    }
    found
}

/// Returns the memory of a queue that has sent something and whose address an object contains, or
/// 0.
#[inline(never)]
fn search(pid: u32, object: u64) -> u64 {
    for index in 0..QUEUE_SPAN / 8 {
        let word: u64 = user(object + 8 * index).unwrap_or(0);
        if ADDRESSES.contains(&word) && known(pid, word).is_some() {
            return word;
        }
    }
    0
}

/// Returns what is known about the socket to which records in this memory were sent, if it is still
/// open.
#[inline(always)]
fn known(pid: u32, memory: u64) -> Option<&'static mut Session> {
    let known = known_session(pid, memory)?;
    let is_socket = known.socket_source == SOCKET_EXACT && known.sock != 0;
    (is_socket && is_seen(known.sock)).then_some(known)
}

#[inline(always)]
fn adopt(pid: u32, connection: u64, session: &mut Session, memory: u64) {
    let Some(known) = known(pid, memory) else {
        return;
    };
    let before = core::mem::replace(&mut known.link, connection);
    if session.sock == known.sock {
        return;
    }
    if session.sock != 0 {
        renew(pid, session);
    }
    let (mut offsets, mut name) = (session.offsets, session.link);
    if before != connection
        && let Some(moved) = known_session(pid, before)
        && moved.sock == known.sock
    {
        (offsets, name) = (moved.offsets, moved.link);
        let _known = forget_session(pid, before);
    }
    *session = *known;
    session.offsets = offsets;
    session.link = name;
    session.socket_source = SOCKET_HEURISTIC;
}

/// The object of a connection is freed.
#[inline(always)]
pub(super) fn drop_object(connection: u64) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if stopped() || !may_return(pid) {
        return;
    }
    let Some(session) = known_session(pid, connection) else {
        return;
    };
    let name = session.link;
    if forget_session(pid, connection) {
        content::forget(pid, name);
        close(KIND_CLOSE_SESSION, pid, name);
    }
}

/// Returns a name that no other connection has: the time, and the processor.
#[inline(always)]
fn new_name() -> u64 {
    // SAFETY: the helpers have no preconditions.
    let (now_ns, processor) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    now_ns << 10 | u64::from(processor) & 0x3ff
}

/// Notes that from here on another connection is at this address.
#[inline(always)]
fn renew(pid: u32, session: &mut Session) {
    content::forget(pid, session.link);
    close(KIND_CLOSE_SESSION, pid, session.link);
    *session = NEW_SESSION;
    session.link = new_name();
}

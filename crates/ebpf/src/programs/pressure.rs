//! Limits how much each process may put into the ring while it fills up.
//!
//! As long as less than an eighth of the ring waits for the reader, there is no limit. From then
//! on, a process may occupy at most twice the free space of the ring (a dynamic threshold, as used
//! for the buffers of network switches): one process alone takes two thirds; six that flood the
//! ring take twelve thirteenths together, and leave room for processes that send at a moderate
//! rate. So a flood hurts the process that causes it first.

use aya_ebpf::helpers::generated::bpf_get_current_comm;
use ecapture_ebpf::config::{FILTER_PID, WITHOUT_CONTENT};
use ecapture_ebpf::counter;
use ecapture_ebpf::limits::{CHUNK_PAYLOAD, LEAST_PAYLOAD};
use ecapture_ebpf::share::Share;

use super::counters::count;
use super::maps::{EVENTS, SHARES, config};

/// `BPF_RB_AVAIL_DATA`: bytes that wait for the reader.
const WAITING: u64 = 0;
/// `BPF_RB_CONS_POS`: the position of the reader.
const CONSUMED: u64 = 2;
/// The share of one process, as a multiple of the free space.
const SHARE_OF_FREE: u64 = 2;

/// Returns true if the process `pid`, which is the current one, may put the `length` bytes of a
/// call into the ring. Counts them if it may not. Where content is left out a call takes little, however long it is.
#[inline(always)]
pub(super) fn has_share(pid: u32, length: u64) -> bool {
    let most = if config!(features) & WITHOUT_CONTENT != 0 {
        CHUNK_PAYLOAD as u64
    } else {
        length
    };
    is_alone() || ring_share(u64::from(pid), length, length.min(most)) != 0
}

/// As [`has_share`]; returns 1, or 0 if the share of the process is used up.
///
/// A global function whose parameters are numbers only (`BTF_FUNC_GLOBAL`): the verifier checks it
/// once, not again on each of the many paths that lead here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ring_share(pid: u64, length: u64, taken: u64) -> u64 {
    if EVENTS.query(WAITING) < sixteenth() * 2 {
        return 1;
    }
    let has_room = claim(pid as u32, length, taken);
    if !has_room {
        count_refused(length / CHUNK_PAYLOAD as u64 + 1, length);
    }
    u64::from(has_room)
}

/// Returns true if a call may put another record into the ring.
#[inline(always)]
pub(super) fn may_go_on() -> bool {
    is_alone() || EVENTS.query(WAITING) < sixteenth() * 15
}

/// Returns true if only one process is captured, so that no room must be left for others.
#[inline(always)]
fn is_alone() -> bool {
    config!(filters) & FILTER_PID != 0
}

/// Returns a sixteenth of the size of the ring, in bytes.
#[inline(always)]
fn sixteenth() -> u64 {
    u64::from(config!(ring_bytes)) / 16
}

#[inline(always)]
pub(super) fn count_refused(records: u64, bytes: u64) {
    count(counter::RING_SHARE_RECORDS, records);
    count(counter::RING_SHARE_BYTES, bytes);
}

/// Returns how many bytes the records of a call take in the ring: the payload of each is rounded up
/// to a power of two.
#[inline(always)]
fn room_of(length: u64) -> u64 {
    let tail = length % CHUNK_PAYLOAD as u64;
    let mut room = LEAST_PAYLOAD as u64;
    // Doubling the smallest record six times makes a full one.
    for _ in 0..6 {
        if room < tail {
            room *= 2;
        }
    }
    length - tail + room
}

/// The initial state of a share. A static, so that it takes no stack.
static NO_SHARE: Share = Share {
    bytes: 0,
    consumed: 0,
    position: 0,
    total_bytes: 0,
    refused_calls: 0,
    refused_bytes: 0,
    comm: [0; 16],
};

/// Takes what the records of a call with `length` bytes need, `taken` bytes of payload, from the share of the process,
/// unless it is used up.
#[inline(always)]
fn claim(pid: u32, length: u64, taken: u64) -> bool {
    if SHARES.get_ptr(pid).is_none() {
        let _full = SHARES.insert(pid, &NO_SHARE, 0);
    }
    let Some(share) = SHARES.get_ptr_mut(pid) else {
        return true;
    };
    // SAFETY: the map lookup succeeded; the helper writes the name where it belongs, as the stack is short.
    unsafe {
        if (*share).comm[0] == 0 {
            bpf_get_current_comm(
                (&raw mut (*share).comm).cast(),
                size_of_val(&(*share).comm) as u32,
            );
        }
    }
    let consumed = EVENTS.query(CONSUMED);
    let waiting = EVENTS.query(WAITING);
    let free = u64::from(config!(ring_bytes)).saturating_sub(waiting);
    // SAFETY: the map lookup succeeded; threads of one process that race here lose a few bytes of the figures.
    unsafe {
        let bytes = (*share).waiting(consumed);
        if bytes >= free * SHARE_OF_FREE {
            (*share).refused_calls += 1;
            (*share).refused_bytes += length;
            return false;
        }
        let room = room_of(taken);
        (*share).bytes = bytes + room;
        (*share).consumed = consumed;
        (*share).position = consumed + waiting + room;
        (*share).total_bytes += length;
    }
    true
}

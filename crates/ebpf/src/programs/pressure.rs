//! Who may put how much into the ring while it fills up.
//!
//! As long as less than three quarters of it wait for the reader, nobody is asked. From then on until it is so
//! again, one process may add a sixteenth, and the records of one call go on up to thirteen: what is left is for
//! the others, so a flood hurts its author first.

use aya_ebpf::helpers::generated::bpf_get_current_comm;
use ecapture_ebpf::config::FILTER_PID;
use ecapture_ebpf::counter;
use ecapture_ebpf::limits::{CHUNK_PAYLOAD, LEAST_PAYLOAD};
use ecapture_ebpf::share::Share;

use super::maps::{EVENTS, PRESSURE, SHARES, config, count};

/// `BPF_RB_AVAIL_DATA`: bytes that wait for the reader.
const WAITING: u64 = 0;

/// Whether the process `pid`, which is the current one, may put the `length` bytes of a call into the ring.
/// Counts them where it may not.
#[inline(always)]
pub(super) fn has_share(pid: u32, length: u64) -> bool {
    is_alone() || ring_share(u64::from(pid), length) != 0
}

/// As [`has_share`]: 1, or 0 when the share of the process is used up.
///
/// A global function of numbers only (`BTF_FUNC_GLOBAL`): the verifier walks it once, and not again on each of
/// the many ways that lead here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ring_share(pid: u64, length: u64) -> u64 {
    if EVENTS.query(WAITING) < sixteenth() * 12 {
        end_pressure();
        return 1;
    }
    let has_room = claim(pid as u32, length);
    if !has_room {
        count_refused(length / CHUNK_PAYLOAD as u64 + 1, length);
    }
    u64::from(has_room)
}

/// Whether a call may go on to fill the ring with another record.
#[inline(always)]
pub(super) fn may_go_on() -> bool {
    is_alone() || EVENTS.query(WAITING) < sixteenth() * 13
}

/// Where one process is captured, there are no others to leave room for.
#[inline(always)]
fn is_alone() -> bool {
    config!(filters) & FILTER_PID != 0
}

/// Of the ring, in bytes.
#[inline(always)]
fn sixteenth() -> u64 {
    u64::from(config!(ring_bytes)) / 16
}

#[inline(always)]
pub(super) fn count_refused(records: u64, bytes: u64) {
    count(counter::RING_SHARE_RECORDS, records);
    count(counter::RING_SHARE_BYTES, bytes);
}

#[inline(always)]
fn end_pressure() {
    if let Some(pressure) = PRESSURE.get_ptr_mut(0) {
        // SAFETY: the map lookup succeeded; a lost race begins one more or one less.
        unsafe {
            if (*pressure).begun != 0 {
                (*pressure).begun = 0;
                (*pressure).episode += 1;
            }
        }
    }
}

/// What the records of a call take in the ring: the payload of each has a power of two.
#[inline(always)]
fn room_of(length: u64) -> u64 {
    let tail = length % CHUNK_PAYLOAD as u64;
    let mut room = LEAST_PAYLOAD as u64;
    // Six doublings make a full record of the least one.
    for _ in 0..6 {
        if room < tail {
            room *= 2;
        }
    }
    length - tail + room
}

/// A static, so that it takes no stack.
static NO_SHARE: Share = Share {
    episode: 0,
    bytes: 0,
    total_bytes: 0,
    refused_calls: 0,
    refused_bytes: 0,
    comm: [0; 16],
};

/// Takes what the records of a call need from the share of the process, unless it is used up.
#[inline(always)]
fn claim(pid: u32, length: u64) -> bool {
    let Some(pressure) = PRESSURE.get_ptr_mut(0) else {
        return true;
    };
    // SAFETY: the map lookup succeeded; the fields are whole words.
    let episode = unsafe {
        (*pressure).begun = 1;
        (*pressure).episode
    };
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
    let most = sixteenth();
    // SAFETY: the map lookup succeeded; threads of one process that race here lose a few bytes of the figures.
    unsafe {
        if (*share).episode != episode {
            (*share).episode = episode;
            (*share).bytes = 0;
        }
        if (*share).bytes >= most {
            (*share).refused_calls += 1;
            (*share).refused_bytes += length;
            return false;
        }
        (*share).bytes += room_of(length);
        (*share).total_bytes += length;
    }
    true
}

//! Plaintext in several pieces of memory, as one write may have it.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use ecapture_ebpf::config::HAS_LOOP;
use ecapture_ebpf::counter;
use ecapture_ebpf::limits::RUSTLS_CHUNKS_UNROLLED;
use ecapture_ebpf::record::{DIRECTION_READ, DIRECTION_WRITE};

use crate::programs::call::session_of;
use crate::programs::counters::count;
use crate::programs::delivery::send_all;
use crate::programs::maps::config;
use crate::programs::memory::user;
use crate::programs::state::{Call, CallKind};

/// Maximum number of parts of one write that are read: as many as one `writev` may have
/// (`UIO_MAXIOV`).
const PARTS: u64 = 1024;
/// The same on kernels without `bpf_loop`.
const PARTS_UNROLLED: u64 = 4;

/// The part of a write in several parts that is still to be sent.
pub(super) struct Parts {
    pub(super) pid_tgid: u64,
    pub(super) connection: u64,
    pub(super) written_ns: u64,
    /// Where address and length of the next part are; 0 if there is only one.
    pub(super) next: u64,
    /// The address of the only part.
    pub(super) only: u64,
    /// Number of bytes before the first one that was taken.
    pub(super) skipped: u64,
    pub(super) taken: u64,
}

/// Sends the bytes taken from several parts.
#[inline(always)]
pub(super) fn send_parts(parts: &mut Parts, number: u64) {
    if config!(features) & HAS_LOOP != 0 {
        let most = if number > PARTS { PARTS } else { number };
        // SAFETY: the callback gets the context that it expects, alive until the helper returns.
        unsafe {
            bpf_loop(
                most as u32,
                send_next_part as *mut c_void,
                (&raw mut *parts).cast(),
                0,
            );
        }
    } else {
        for index in 0..PARTS_UNROLLED {
            if index >= number || send_next(parts).is_none() {
                break;
            }
        }
    }
    if parts.taken != 0 {
        let _counted = skip_unsent(parts.pid_tgid, parts.connection, parts.taken);
    }
}

/// Counts bytes that were written but are not sent, and leaves a gap of as many bytes in the
/// stream.
#[inline(never)]
fn skip_unsent(pid_tgid: u64, connection: u64, length: u64) -> u64 {
    count(counter::CUT_BYTES, length);
    leave_gap((pid_tgid >> 32) as u32, connection, DIRECTION_WRITE, length);
    0
}

#[inline(always)]
pub(super) fn leave_gap(pid: u32, connection: u64, direction: u8, length: u64) {
    if let Some(session) = session_of(pid, connection) {
        session.offsets[usize::from(direction & 1)] += length;
    }
}

extern "C" fn send_next_part(_index: u64, parts: *mut c_void) -> u64 {
    // SAFETY: `send_parts` passes its parts.
    u64::from(send_next(unsafe { &mut *parts.cast() }).is_none())
}

/// Sends the next part. `None` if nothing is left to send, or its place is unknown.
#[inline(always)]
fn send_next(parts: &mut Parts) -> Option<()> {
    if parts.taken == 0 {
        return None;
    }
    let [address, length] = if parts.next == 0 {
        [parts.only, parts.taken]
    } else {
        let part = user(parts.next)?;
        parts.next += 16;
        part
    };
    if length <= parts.skipped {
        parts.skipped -= length;
        return Some(());
    }
    let rest = length - parts.skipped;
    let sent = if rest < parts.taken { rest } else { parts.taken };
    let address = address + parts.skipped;
    let _sent = send_part(parts.pid_tgid, parts.connection, address, sent, parts.written_ns);
    parts.skipped = 0;
    parts.taken -= sent;
    Some(())
}

/// Sends a piece of memory: one that was written at `written_ns`, or one that was read if that is
/// 0.
///
/// A global function whose parameters are numbers only, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn send_part(
    pid_tgid: u64,
    connection: u64,
    buffer: u64,
    length: u64,
    written_ns: u64,
) -> u64 {
    let Some(session) = session_of((pid_tgid >> 32) as u32, connection) else {
        return 0;
    };
    let direction = if written_ns == 0 {
        DIRECTION_READ
    } else {
        DIRECTION_WRITE
    };
    let call = Call {
        session: session.link,
        buffer,
        entered_ns: written_ns,
        direction: u32::from(direction),
        kind: CallKind::KnowsLength as u32,
        ..Call::NONE
    };
    send_all::<RUSTLS_CHUNKS_UNROLLED>(&call, session, pid_tgid, length);
    1
}

//! Determines whether a connection's first bytes may be missing, by the time it was opened and the
//! time the probes were attached.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use ecapture_ebpf::config::HAS_COOKIE;
use ecapture_ebpf::record::{BEFORE_PROBES, NOT_JOINED_LATE, OPEN_BEFORE_CAPTURE};
use ecapture_ebpf::{counter, limits, table};

use super::counters::count;
use super::maps::{SOCKETS, STANDING, config};
use super::memory::kernel;
use super::state::Session;
use super::tables::overflowed;

/// `IPPROTO_TCP` of include/uapi/linux/in.h: only its connections are known to have a beginning.
const TCP: u16 = 6;

/// Determines what may be missing of a session whose socket has just become known. `context` is
/// that of a probe in the session's library. The probe of the `handshake` is the last one attached
/// to a library, so everything after it is seen; a renegotiation is taken for the first handshake.
#[inline(always)]
pub(super) fn judge(context: &impl EbpfContext, session: &mut Session, handshake: bool) {
    if !handshake && kernel(session.sock, config!(offsets.sock_protocol)) == Some(TCP) {
        session.joined_late = lateness(context, session.sock);
    }
}

#[inline(always)]
fn lateness(context: &impl EbpfContext, sock: u64) -> u8 {
    let opened = match SOCKETS.get_ptr(sock) {
        // SAFETY: the map lookup succeeded; the field is a whole word.
        Some(state) => unsafe { (*state).opened_ns },
        None => 0,
    };
    if opened == 0 && overflowed(table::SOCKETS) {
        count(counter::FORGOTTEN_SOCKETS, 1);
        return NOT_JOINED_LATE;
    }
    let begun = standing(0).unwrap_or(0);
    if begun == 0 || opened < begun {
        return OPEN_BEFORE_CAPTURE;
    }
    match standing(file_of(context)) {
        Some(stood) if stood == 0 || opened < stood => BEFORE_PROBES,
        _ => NOT_JOINED_LATE,
    }
}

#[inline(always)]
fn standing(file: u32) -> Option<u64> {
    // SAFETY: the map lookup succeeded; user space writes whole words.
    STANDING
        .get_ptr(file)
        .map(|stood| unsafe { core::ptr::read_volatile(stood) })
}

/// Returns the number that user space gave the file to which the probe is attached. Without cookies
/// the file is unknown; then it is the last number, which is shared by all files and has the time
/// of the latest.
#[inline(always)]
fn file_of(context: &impl EbpfContext) -> u32 {
    if config!(features) & HAS_COOKIE == 0 {
        return limits::STANDING - 1;
    }
    // SAFETY: the context is the program's own.
    unsafe { bpf_get_attach_cookie(context.as_ptr() as *mut c_void) as u32 }
}

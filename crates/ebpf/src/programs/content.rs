//! Sends what frames messages, and their heads, and of their content only the length
//! ([`WITHOUT_CONTENT`](ecapture_ebpf::config::WITHOUT_CONTENT)). [`framing`](ecapture_ebpf::framing) decides what
//! is content.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use ecapture_ebpf::config::WITHOUT_CONTENT;
use ecapture_ebpf::counter;
use ecapture_ebpf::framing::{Beginning, Call, Framing, NEW_FRAMING, Stream, WINDOW_BYTES, step};
use ecapture_ebpf::limits::FRAMING_STEPS;
use ecapture_ebpf::record::SOCKET_EXACT;

use super::counters::count;
use super::maps::{FOLLOWED, FRAMING, config};
use super::pressure::{count_refused, may_go_on};
use super::record::{Parts, bounded, send_content_length, send_tail};
use super::state::{Direction, SessionKey};

/// The initial state of a session. A static, so that it takes no stack.
static FRESH: Framing = NEW_FRAMING;

/// What a callback of `bpf_loop` needs.
struct Followed<'call> {
    /// What has not been handed over.
    parts: &'call mut Parts,
    framing: *mut Framing,
}

/// Sends `length` bytes of a call. `joined_late` is that of the session.
#[inline(always)]
pub(super) fn send(parts: &mut Parts, length: u64, joined_late: u8) {
    let key = Direction {
        session: parts.header.session,
        pid: parts.header.pid,
        direction: u32::from(parts.header.direction & 1),
    };
    // Another call that is being followed in this direction has changed the framing; the next one will find that bytes
    // are missing.
    if FOLLOWED.insert(key, &1, BPF_NOEXIST.into()).is_err() {
        count(counter::CUT_BYTES, length);
        return;
    }
    send_alone(parts, length, joined_late);
    let _known = FOLLOWED.remove(key);
}

#[inline(always)]
fn send_alone(parts: &mut Parts, length: u64, joined_late: u8) {
    let direction = usize::from(parts.header.direction & 1);
    let Some(framing) = framing_of(parts.header.pid, parts.header.session) else {
        count(counter::CUT_BYTES, length);
        return;
    };
    let is_exact = parts.header.socket_source == SOCKET_EXACT;
    let beginning = Beginning {
        position: parts.header.stream_offset,
        length,
        // Where the socket is not certain, it is not known either whether the connection was joined late.
        may_lack_bytes: joined_late != 0 || !is_exact,
        sock: if is_exact { parts.header.sock } else { 0 },
    };
    // SAFETY: the map lookup succeeded; no other call of this direction is being followed, and what is read of the
    // other direction are whole words.
    unsafe { (*framing).begin_call(direction, &beginning) };
    let mut followed = Followed { parts, framing };
    // SAFETY: the callback gets the context that it expects, alive until the helper returns.
    unsafe {
        bpf_loop(
            FRAMING_STEPS,
            follow as *mut c_void,
            (&raw mut followed).cast(),
            0,
        );
    }
    // SAFETY: as above.
    let stream = unsafe { &mut *stream(framing, direction) };
    let rest = stream.rest();
    if rest != 0 {
        count(counter::CUT_BYTES, rest);
        stream.resume();
    }
}

/// Forgets what a session has framed: it has ended.
#[inline(always)]
pub(super) fn forget(pid: u32, session: u64) {
    if config!(features) & WITHOUT_CONTENT != 0 {
        let _unknown = FRAMING.remove(SessionKey {
            session,
            pid,
            padding: 0,
        });
    }
}

extern "C" fn follow(_index: u64, followed: *mut c_void) -> u64 {
    // SAFETY: `send` passes its own, with a valid framing.
    unsafe {
        let followed = &mut *followed.cast::<Followed<'_>>();
        let direction = usize::from(followed.parts.header.direction & 1);
        let other = stream(followed.framing, direction ^ 1);
        let stream = stream(followed.framing, direction);
        u64::from(step(&mut *stream, &*other, followed))
    }
}

/// One direction, 0 or 1.
#[inline(always)]
fn stream(framing: *mut Framing, direction: usize) -> *mut Stream {
    framing.cast::<Stream>().wrapping_add(direction & 1)
}

impl Call for Followed<'_> {
    #[inline(always)]
    fn read(&mut self, ahead: u64, window: &mut [u64; WINDOW_BYTES / 8], length: u32) -> bool {
        let length = bounded(length, WINDOW_BYTES as u32);
        let source = self.parts.source + ahead;
        // SAFETY: the helper writes as many bytes as it is given, which the window has, and checks the source.
        unsafe { bpf_probe_read_user(window.as_mut_ptr().cast(), length, source as *const _) == 0 }
    }

    #[inline(always)]
    fn send(&mut self, is_content: bool, length: u64) {
        if !may_go_on() {
            count_refused(1, length);
        } else if is_content {
            send_content_length(&self.parts.header, length);
        } else {
            send_tail(self.parts, length as u32);
        }
        self.parts.header.stream_offset += length;
        self.parts.source += length;
    }
}

/// Returns the session's entry, which is created if it is new.
#[inline(always)]
fn framing_of(pid: u32, session: u64) -> Option<*mut Framing> {
    let key = SessionKey {
        session,
        pid,
        padding: 0,
    };
    if FRAMING.get_ptr(key).is_none() {
        let _full = FRAMING.insert(key, &FRESH, 0);
    }
    FRAMING.get_ptr_mut(key)
}

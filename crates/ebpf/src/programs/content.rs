//! Sends what frames messages, and their heads, and of their content only the length
//! ([`WITHOUT_CONTENT`](ecapture_ebpf::config::WITHOUT_CONTENT)). [`framing`](ecapture_ebpf::framing) decides what
//! is content.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use ecapture_ebpf::counter;
use ecapture_ebpf::framing::{Call, Framing, NEW_FRAMING, Stream, WINDOW_BYTES, step};

use super::counters::count;
use super::maps::FRAMING;
use super::pressure::{count_refused, may_go_on};
use super::record::{Parts, bounded, send_content_length, send_tail};
use super::state::SessionKey;

/// Most steps of one call, which are fewer than its bytes and its ranges together: as many as the kernel allows
/// (`BPF_MAX_LOOPS`).
const STEPS: u32 = 8 * 1024 * 1024;

/// The initial state of a session. A static, so that it takes no stack.
static FRESH: Framing = NEW_FRAMING;

/// What a callback of `bpf_loop` needs.
struct Followed<'call> {
    parts: &'call mut Parts,
    /// Position of the call's first byte in the stream, and its address.
    position: u64,
    buffer: u64,
    stream: *mut Stream,
    other: *const Stream,
}

/// Sends `length` bytes of a call. `joined_late` is that of the session.
#[inline(always)]
pub(super) fn send(parts: &mut Parts, length: u64, joined_late: u8) {
    let header = &parts.header;
    let direction = usize::from(header.direction & 1);
    let Some(framing) = framing_of(header.pid, header.session) else {
        count(counter::CUT_BYTES, length);
        return;
    };
    // SAFETY: the map lookup succeeded; the library forbids concurrent use of one direction of a session, and what is
    // read of the other one are whole words.
    let (stream, other) = unsafe {
        (*framing).begin_call(direction, header.stream_offset, length, joined_late != 0);
        let streams = (&raw mut (*framing).streams).cast::<Stream>();
        (streams.add(direction), streams.add(direction ^ 1))
    };
    let mut followed = Followed {
        position: parts.header.stream_offset,
        buffer: parts.source,
        parts,
        stream,
        other,
    };
    // SAFETY: the callback gets the context that it expects, alive until the helper returns.
    unsafe {
        bpf_loop(STEPS, follow as *mut c_void, (&raw mut followed).cast(), 0);
        let rest = (*stream).rest();
        if rest != 0 {
            count(counter::CUT_BYTES, rest);
            (*stream).resume();
        }
    }
}

extern "C" fn follow(_index: u64, followed: *mut c_void) -> u64 {
    // SAFETY: `send` passes its own, with valid streams.
    unsafe {
        let followed = &mut *followed.cast::<Followed<'_>>();
        let (stream, other) = (followed.stream, followed.other);
        u64::from(step(&mut *stream, &*other, followed))
    }
}

impl Call for Followed<'_> {
    #[inline(always)]
    fn read(&mut self, at: u64, window: &mut [u64; WINDOW_BYTES / 8], length: u32) -> bool {
        let length = bounded(length, WINDOW_BYTES as u32);
        // SAFETY: the helper writes as many bytes as it is given, which the window has, and checks the source.
        unsafe {
            bpf_probe_read_user(window.as_mut_ptr().cast(), length, (self.buffer + at) as *const _) == 0
        }
    }

    #[inline(always)]
    fn send(&mut self, is_content: bool, from: u64, to: u64) {
        self.parts.header.stream_offset = self.position + from;
        self.parts.source = self.buffer + from;
        if !may_go_on() {
            count_refused(1, to - from);
        } else if is_content {
            send_content_length(&self.parts.header, to - from);
        } else {
            send_tail(self.parts, (to - from) as u32);
        }
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

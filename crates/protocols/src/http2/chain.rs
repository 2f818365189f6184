//! Distinguishes frames from other bytes by following them: each plausible header says where the
//! next one must be.

use crate::decoder::Detection;
use crate::http2::frame::{FrameHead, HEAD_BYTES, PREFACE, kind};
use crate::http2::hpack;

/// Number of plausible complete frames in a row that are accepted. A single one occurs by chance in
/// every few thousand bytes of binary data.
const BELIEVED: usize = 3;

/// The result of following frames from an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chain {
    /// One of the items followed is not a frame.
    Broken,
    /// All bytes are frames.
    Runs {
        /// Number of complete frames followed, at most [`BELIEVED`].
        complete: usize,
        /// The bytes end where a frame ends.
        to_end: bool,
    },
}

impl Chain {
    /// Follows at most [`BELIEVED`] frames from the start of `bytes`.
    pub(super) fn follow(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        let mut complete = 0;
        let mut open_section = None;
        while complete < BELIEVED && !rest.is_empty() {
            let Some(head) = FrameHead::at(rest) else {
                return Self::Runs {
                    complete,
                    to_end: false,
                };
            };
            let in_order = match open_section {
                Some(stream) => head.kind == kind::CONTINUATION && head.stream == stream,
                None => head.kind != kind::CONTINUATION || complete == 0,
            };
            if !head.is_plausible() || !in_order {
                return Self::Broken;
            }
            let Some(payload) = rest.get(HEAD_BYTES..head.wire_len()) else {
                return Self::Runs {
                    complete,
                    to_end: false,
                };
            };
            if !payload_is_plausible(head, payload) {
                return Self::Broken;
            }
            let continues = head.opens_section() || head.kind == kind::CONTINUATION;
            open_section = (continues && !head.ends_headers()).then_some(head.stream);
            rest = &rest[head.wire_len()..];
            complete += 1;
        }
        Self::Runs {
            complete,
            to_end: rest.is_empty(),
        }
    }

    /// Returns true if there are enough frames in a row to accept them wherever they were found.
    pub(super) fn is_believed(self) -> bool {
        matches!(
            self,
            Self::Runs {
                complete: BELIEVED..,
                ..
            }
        )
    }

    /// Returns true if they are accepted where an event starts: complete frames that end with it.
    pub(super) fn fills(self) -> bool {
        matches!(
            self,
            Self::Runs {
                complete: 1..,
                to_end: true
            }
        )
    }

    /// Returns true if there is at least one complete frame and no evidence against it.
    pub(super) fn has_begun(self) -> bool {
        matches!(self, Self::Runs { complete: 1.., .. })
    }
}

/// Decides whether a stream that begins with `first`, with no bytes missing before it, is one
/// direction of an HTTP/2 connection: the client's preface or a server's first SETTINGS. An empty
/// SETTINGS frame is nine bytes, eight of them zero, as messages of other protocols may be; so a
/// frame header must follow it, of any type, because unknown types are allowed (RFC 9113 §5.5).
pub fn detect_start(first: &[u8]) -> Detection {
    if first.len() < PREFACE.len() && PREFACE.starts_with(first) {
        return Detection::NeedMore;
    }
    if first.starts_with(PREFACE) || opens_with_settings(first) {
        return Detection::Yes;
    }
    let Some(head) = FrameHead::at(first) else {
        return match first.get(3..) {
            Some([kind, ..]) if *kind != kind::SETTINGS => Detection::No,
            _ => could_be_head(first),
        };
    };
    if head.kind != kind::SETTINGS || head.is_ack() || !head.is_plausible() {
        return Detection::No;
    }
    if head.length > 0 {
        let complete = first.len() >= head.wire_len();
        return if complete {
            Detection::No
        } else {
            Detection::NeedMore
        };
    }
    match FrameHead::at(&first[HEAD_BYTES..]) {
        None => could_be_any_head(&first[HEAD_BYTES..]),
        Some(next) if next.is_valid() => Detection::Yes,
        Some(_) => Detection::No,
    }
}

/// Returns true if Returns true if `first` is an empty SETTINGS frame and nothing else.
pub fn is_empty_settings(first: &[u8]) -> bool {
    first.len() == HEAD_BYTES && starts_connection(first)
}

/// Decides whether a stream that was joined in the middle and continues with `first` is one
/// direction of an HTTP/2 connection: the client's preface, a server's first SETTINGS, or in
/// mid-connection [`BELIEVED`] plausible frames in a row.
pub fn detect(first: &[u8]) -> Detection {
    if first.len() < PREFACE.len() && PREFACE.starts_with(first) {
        return Detection::NeedMore;
    }
    if first.starts_with(PREFACE) || opens_with_settings(first) {
        return Detection::Yes;
    }
    if first.len() < HEAD_BYTES {
        return could_be_head(first);
    }
    match Chain::follow(first) {
        Chain::Broken => Detection::No,
        chain if chain.is_believed() => Detection::Yes,
        Chain::Runs { .. } => Detection::NeedMore,
    }
}

/// Decides about a stream for which [`detect`] returned `NeedMore` and that has gone quiet. Returns
/// true if `first` is accepted by [`detect`], or consists of complete plausible frames only. A
/// single DATA frame is not enough, because other protocols have length prefixes too.
pub fn detect_quiet(first: &[u8]) -> bool {
    let chain = Chain::follow(first);
    let only_data =
        FrameHead::at(first).is_some_and(|head| head.kind == kind::DATA && head.wire_len() == first.len());
    chain.is_believed() || chain.fills() && !only_data
}

/// Returns true if `first` are the first bytes that this side of the connection sent, so that its
/// HPACK state is known: the preface or a SETTINGS frame (RFC 9113 §3.4).
pub fn starts_connection(first: &[u8]) -> bool {
    first.starts_with(PREFACE)
        || FrameHead::at(first)
            .is_some_and(|head| head.kind == kind::SETTINGS && !head.is_ack() && head.is_plausible())
}

/// Returns true if `first` is almost certainly the beginning of one side of a connection: the
/// preface, or a complete SETTINGS frame with parameters.
pub fn opens_connection(first: &[u8]) -> bool {
    first.starts_with(PREFACE) || opens_with_settings(first)
}

fn opens_with_settings(first: &[u8]) -> bool {
    let complete = FrameHead::at(first).filter(|head| head.length > 0 && first.len() >= head.wire_len());
    complete.is_some_and(|head| {
        head.kind == kind::SETTINGS
            && head.is_plausible()
            && payload_is_plausible(head, &first[HEAD_BYTES..head.wire_len()])
    })
}

/// Decides whether a header may begin with `first`, which has fewer than nine bytes. Missing bytes
/// are assumed to fit, so the answer never changes from no to yes.
fn could_be_head(first: &[u8]) -> Detection {
    let known_kind = first.get(3).is_none_or(|&kind| kind <= kind::CONTINUATION);
    let long = first.first().is_some_and(|&high| high > 0x10);
    let reserved = first.get(5).is_some_and(|&high| high & 0x80 != 0);
    if known_kind && !long && !reserved {
        Detection::NeedMore
    } else {
        Detection::No
    }
}

/// Like [`could_be_head`], for a frame that may be of an unknown type.
fn could_be_any_head(first: &[u8]) -> Detection {
    let reserved = first.get(5).is_some_and(|&high| high & 0x80 != 0);
    if reserved {
        Detection::No
    } else {
        Detection::NeedMore
    }
}

fn payload_is_plausible(head: FrameHead, payload: &[u8]) -> bool {
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |chunk| u32::from_be_bytes(*chunk));
    match head.kind {
        kind::DATA if head.is_padded() => payload.first().is_some_and(|&pad| u32::from(pad) < head.length),
        kind::HEADERS if head.ends_headers() && !head.is_padded() => {
            let block = payload.get(if head.has_priority() { 5 } else { 0 }..);
            block.is_some_and(hpack::reads_as_block)
        }
        kind::RST_STREAM => word(payload) <= 0xff,
        kind::SETTINGS => payload.chunks_exact(6).all(setting_is_plausible),
        kind::GOAWAY => word(payload) >> 31 == 0 && word(&payload[4..]) <= 0xff,
        kind::WINDOW_UPDATE => (1..=0x7fff_ffff).contains(&word(payload)),
        kind::PRIORITY => word(payload) & 0x7fff_ffff != head.stream,
        _ => true,
    }
}

/// Checks a parameter against RFC 9113 §6.5.2. Other identifiers are allowed: some clients send
/// reserved ones on purpose.
fn setting_is_plausible(setting: &[u8]) -> bool {
    let &[i1, i0, v3, v2, v1, v0] = setting else {
        return false;
    };
    let value = u32::from_be_bytes([v3, v2, v1, v0]);
    match u16::from_be_bytes([i1, i0]) {
        0 => false,
        2 | 8 => value <= 1,
        4 => value <= 0x7fff_ffff,
        5 => (1 << 14..1 << 24).contains(&value),
        _ => true,
    }
}

//! Feeds a decoder in the way that the first bytes of an input select.

use std::sync::Arc;

use bytes::Bytes;
use ecapture_protocols::decoder::MethodClass;
use ecapture_protocols::message::{Gap, GapReason};
use ecapture_protocols::{Asked, Limits, Options, Output, PeerNotice, StreamDecoder, View};

use super::checks::{check_accounting, check_whole};

/// Number of bytes at the start of an input that steer.
const SIZE: usize = 4;

/// How an input is fed.
#[derive(Clone, Copy)]
pub(crate) struct Steering {
    piece: u8,
    flags: u8,
    pub(crate) seed: u16,
}

impl Steering {
    pub(crate) fn of(input: &[u8]) -> (Self, &[u8]) {
        let (steering, bytes) = match input.split_first_chunk::<SIZE>() {
            Some((&[piece, flags, high, low], bytes)) => ([piece, flags, high, low], bytes),
            None => ([0; SIZE], input),
        };
        let [piece, flags, high, low] = steering;
        (
            Self {
                piece,
                flags,
                seed: u16::from_be_bytes([high, low]),
            },
            bytes,
        )
    }

    pub(crate) fn options(self) -> Options {
        let view = match self.flags & 3 {
            0 | 1 if self.flags & 32 != 0 => View::TextMessages,
            0 | 1 => View::Text,
            2 if self.flags & 32 != 0 => View::Joined,
            2 => View::Structured { frames: false },
            _ => View::Structured { frames: true },
        };
        Options {
            limits: limits(),
            view,
            parts: self.flags & 16 != 0,
            conceals: false,
            without_content: self.flags & 64 != 0,
        }
    }

    /// Chooses one of two variants of the target.
    pub(crate) fn choice(self) -> bool {
        self.flags & 4 != 0
    }

    /// Returns true if gaps, idle times and notices occur between events.
    fn disturbs(self) -> bool {
        self.flags & 8 != 0
    }

    pub(crate) fn chance(self, one_in: u16) -> bool {
        self.seed.is_multiple_of(one_in)
    }

    /// Returns the size of the pieces; 0 means all at once.
    pub(crate) fn piece(self, length: usize) -> usize {
        match self.piece {
            0 => length.max(1),
            size => size.into(),
        }
    }

    /// Returns the next of a series of pseudo-random numbers.
    fn step(&mut self) -> u16 {
        self.seed = self.seed.wrapping_mul(25_173).wrapping_add(13_849);
        self.seed >> 4
    }
}

/// Returns small limits, so that short inputs reach them.
pub(crate) fn limits() -> Limits {
    Limits {
        http1_head_bytes: 2048,
        http1_header_fields: 32,
        http1_chunk_line_bytes: 256,
        body_bytes: 4096,
        http2_frame_bytes: 4096,
        http2_header_block_bytes: 4096,
        http2_streams: 8,
        http2_held_bytes: 256 * 1024,
        http2_resync_bytes: 4096,
        hpack_table_bytes: 1024,
        hpack_list_bytes: 8192,
        websocket_message_bytes: 4096,
        sse_event_bytes: 512,
        grpc_message_bytes: 4096,
        protobuf_fields: 64,
        detect_bytes: 1024,
        pending_requests: 16,
        ..Limits::default()
    }
}

/// Memory of the largest window of any coding, brotli's, and its tables.
const WINDOW_BYTES: usize = 17 << 20;

/// Returns the memory that one direction may hold under [`limits`]: the sum of everything that any
/// decoder says it may hold, and the current event. The windows of an HTTP/1 body are held only if
/// a coding is announced.
fn memory_bound(limits: &Limits, longest_event: usize, bytes: &[u8]) -> usize {
    let announced = bytes
        .windows(b"encoding".len())
        .any(|word| word.eq_ignore_ascii_case(b"encoding"));
    let windows = usize::from(announced) * limits.content_codings * WINDOW_BYTES;
    let http1 = limits.http1_head_bytes + limits.http1_chunk_line_bytes + limits.body_bytes + windows;
    let http2 = limits.hpack_table_bytes
        + limits.hpack_list_bytes
        + limits.http2_frame_bytes
        + limits.http2_header_block_bytes
        + limits.http2_held_bytes
        + limits.http2_resync_bytes;
    let websocket = limits.websocket_message_bytes * 2 + limits.sse_event_bytes * 2;
    limits.detect_bytes + http1.max(http2).max(websocket) + longest_event
}

/// Feeds everything and checks memory and accounting. `may_be_http2` is true if frames of the
/// connection may be in no message.
pub(crate) fn drive(
    mut decoder: Box<dyn StreamDecoder>,
    bytes: &[u8],
    mut steering: Steering,
    may_be_http2: bool,
) -> Output {
    let mut is_whole = true;
    let piece = steering.piece(bytes.len());
    let bound = memory_bound(&limits(), piece, bytes);
    let mut output = Output::default();
    for (index, piece) in bytes.chunks(piece).enumerate() {
        if steering.disturbs() {
            is_whole &= !disturb(&mut *decoder, &mut steering, &mut output);
        }
        decoder.feed(&Bytes::copy_from_slice(piece), index as u64, &mut output);
        let held = decoder.buffered_bytes();
        assert!(held <= bound, "{held} bytes held, at most {bound} allowed");
        if decoder.awaits_notice() {
            decoder.notice_overdue(&mut output);
        }
    }
    decoder.close(&mut output);
    check_accounting(&output, bytes, steering.options());
    if is_whole {
        check_whole(&output, bytes, steering.options(), may_be_http2);
    }
    output
}

/// Disturbs the decoder between events, or does nothing. Returns true for a gap.
fn disturb(decoder: &mut dyn StreamDecoder, steering: &mut Steering, output: &mut Output) -> bool {
    let reason = GapReason::KernelLoss;
    let step = steering.step() % 32;
    match step {
        0 => {
            let bytes = Some(u64::from(steering.step() % 300));
            decoder.gap(Gap { bytes, reason }, 0, output);
        }
        1 => {
            decoder.gap(Gap { bytes: None, reason }, 0, output);
        }
        2..=5 => {
            decoder.idle(output);
            decoder.sleep();
        }
        6 => decoder.notice(&PeerNotice::NoRequests, output),
        step @ 7..=9 => {
            let method = [MethodClass::Head, MethodClass::Connect, MethodClass::Other][usize::from(step) - 7];
            decoder.notice(
                &PeerNotice::RequestHead {
                    method,
                    timestamp_ns: 0,
                },
                output,
            );
        }
        10 => decoder.notice_overdue(output),
        15 | 16 => {
            let number = u32::from(steering.step() % 4);
            let asked = Asked {
                number: Some(number),
                stream: (step == 16).then_some(number),
                ..Asked::default()
            };
            decoder.notice(&PeerNotice::Asked(Arc::new(asked)), output);
        }
        17 => decoder.notice(&PeerNotice::RequestsLost, output),
        11..=14 if decoder.has_parts() => {
            decoder.emit_parts(output);
            assert!(!decoder.has_parts(), "parts were emitted");
        }
        _ => {}
    }
    step < 2
}

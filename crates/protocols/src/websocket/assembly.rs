//! A message while its frames arrive.

use super::frame::{FrameHeader, unmask};
use super::inflate::{Inflater, Stop};
use crate::message::{BodyError, Content, FrameFault, Message, WebSocketMessage};

/// The name of the coding in errors, as in `Sec-WebSocket-Extensions`.
const CODING: &str = "permessage-deflate";
/// Compressed payload is unmasked in pieces of this many bytes.
const PIECE: usize = 4096;

/// A data message, or one control frame, that is not complete.
#[derive(Debug)]
pub(super) struct Assembly {
    opcode: u8,
    compressed: bool,
    first_ns: u64,
    last_ns: u64,
    frames: u32,
    wire_len: u64,
    payload_len: u64,
    /// Payload is only counted, except for this many of its first bytes.
    only: Option<usize>,
    data: Vec<u8>,
    /// Payload before inflating, shown if it turns out not to be valid.
    received: Vec<u8>,
    /// The payload could not be inflated: `data` is the payload as received.
    as_received: bool,
    error: Option<BodyError>,
    /// Nothing more can be kept of it: the limit was passed.
    stopped: bool,
    /// Its compressed beginning was lost, so nothing of it can be shown.
    lost: bool,
}

/// Where the inflater of a direction lives: absent until the first compressed message.
#[derive(Default)]
pub(super) struct Window {
    inflater: Option<Inflater>,
    /// Earlier messages are not known.
    unknown: bool,
}

impl Window {
    /// Returns true if there was no compressed message, and none was missed.
    pub(super) fn is_new(&self) -> bool {
        self.inflater.is_none() && !self.unknown
    }
}

/// Some bytes of one frame's payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payload<'a> {
    /// As on the wire.
    pub(super) bytes: &'a [u8],
    /// The frame's masking key.
    pub(super) mask: Option<[u8; 4]>,
    /// Offset of the first byte in the frame's payload.
    pub(super) offset: u64,
    /// When they were received.
    pub(super) timestamp_ns: u64,
}

impl Window {
    /// Notes that from here on the window refers to messages that were not seen.
    pub(super) fn lose(&mut self) {
        self.inflater = None;
        self.unknown = true;
    }

    /// Returns the number of bytes held, besides the window itself.
    pub(super) fn held(&self) -> usize {
        self.inflater.as_ref().map_or(0, Inflater::held)
    }

    fn inflater(&mut self) -> &mut Inflater {
        self.inflater.get_or_insert_with(|| {
            if self.unknown {
                Inflater::with_unknown_window()
            } else {
                Inflater::from_start()
            }
        })
    }
}

impl Assembly {
    /// Starts a message with its first frame. `without_content`: see
    /// [`Options`](crate::Options::without_content).
    pub(super) fn new(header: &FrameHeader, without_content: bool) -> Self {
        Self {
            only: without_content.then(|| header.kept_without_content()),
            opcode: header.opcode,
            compressed: header.compressed && matches!(header.opcode, 1 | 2),
            first_ns: 0,
            last_ns: 0,
            frames: 0,
            wire_len: 0,
            payload_len: 0,
            data: Vec::new(),
            received: Vec::new(),
            as_received: false,
            error: None,
            stopped: false,
            lost: false,
        }
    }

    /// Counts a frame header whose first byte was received at `timestamp_ns`.
    pub(super) fn add_header(&mut self, header: &FrameHeader, timestamp_ns: u64) {
        self.frames += 1;
        self.add_wire(header.size, timestamp_ns);
    }

    /// Takes payload. Returns how many of its bytes are not kept.
    pub(super) fn add_payload(&mut self, payload: Payload<'_>, window: &mut Window, limit: usize) -> usize {
        let Payload {
            bytes: payload,
            mask,
            offset,
            timestamp_ns,
        } = payload;
        self.add_wire(payload.len(), timestamp_ns);
        self.payload_len += payload.len() as u64;
        if let Some(only) = self.only {
            let kept = only.saturating_sub(self.data.len()).min(payload.len());
            self.add_plain(&payload[..kept], mask, offset, only);
            return 0;
        }
        if self.stopped || self.lost {
            return payload.len();
        }
        if !self.compressed {
            return self.add_plain(payload, mask, offset, limit);
        }
        let mut scratch = [0; PIECE];
        let mut dropped = 0;
        for (index, piece) in payload.chunks(PIECE).enumerate() {
            let piece = match mask {
                None => piece,
                Some(key) => {
                    let unmasked = &mut scratch[..piece.len()];
                    unmasked.copy_from_slice(piece);
                    unmask(unmasked, key, offset + (index * PIECE) as u64);
                    unmasked
                }
            };
            dropped += self.add_compressed(piece, window, limit);
        }
        dropped
    }

    /// Takes unmasked payload of a compressed message. Returns how many of its bytes are not kept.
    fn add_compressed(&mut self, piece: &[u8], window: &mut Window, limit: usize) -> usize {
        if self.stopped {
            return piece.len();
        }
        if self.as_received {
            return self.add_plain(piece, None, 0, limit);
        }
        let room = limit.saturating_sub(self.received.len());
        self.received.extend_from_slice(&piece[..piece.len().min(room)]);
        if let Err(stop) = window.inflater().inflate(piece, &mut self.data, limit) {
            self.stop(stop, window);
            if self.as_received && piece.len() > room {
                self.stopped = true;
                return piece.len() - room;
            }
        }
        0
    }

    /// Returns the number of bytes held.
    pub(super) fn held(&self) -> usize {
        self.data.len() + self.received.len()
    }

    /// Notes that a frame of the message breaks a rule. The first error is kept.
    pub(super) fn mark(&mut self, fault: FrameFault) {
        self.error.get_or_insert(BodyError::IllegalFrame { fault });
    }

    /// Ends the message after its last fragment.
    pub(super) fn finish(mut self, window: &mut Window, limit: usize) -> Option<Message> {
        if self.compressed
            && self.only.is_none()
            && !self.stopped
            && !self.as_received
            && !self.lost
            && let Err(stop) = window.inflater().finish(&mut self.data, limit)
        {
            self.stop(stop, window);
        }
        self.emit(true, window)
    }

    /// Emits the part received so far, marked as incomplete; the rest becomes a continuation.
    pub(super) fn emit_part(&mut self, window: &mut Window) -> Option<Message> {
        let rest = Self {
            opcode: super::frame::CONTINUATION,
            compressed: self.compressed,
            first_ns: self.last_ns,
            last_ns: self.last_ns,
            frames: 0,
            wire_len: 0,
            payload_len: 0,
            only: self.only.map(|_| 0),
            data: Vec::new(),
            received: Vec::new(),
            as_received: self.as_received,
            error: None,
            stopped: self.stopped,
            lost: self.lost,
        };
        std::mem::replace(self, rest).emit(false, window)
    }

    /// Notes that bytes of the message were lost, and emits the part before them. The part after
    /// them can be shown unless it is compressed, and counted in any case.
    pub(super) fn emit_before_gap(&mut self, window: &mut Window) -> Option<Message> {
        self.error = self.error.or(Some(BodyError::Gap));
        let before = self.emit_part(window);
        if self.compressed && self.only.is_none() {
            self.lost = true;
            window.lose();
        }
        before
    }

    /// Returns true if its bytes are in no message.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    fn add_wire(&mut self, length: usize, timestamp_ns: u64) {
        if self.wire_len == 0 {
            self.first_ns = timestamp_ns;
        }
        self.wire_len += length as u64;
        self.last_ns = timestamp_ns;
    }

    fn add_plain(&mut self, payload: &[u8], mask: Option<[u8; 4]>, offset: u64, limit: usize) -> usize {
        let start = self.data.len();
        let kept = payload.len().min(limit.saturating_sub(start));
        self.data.extend_from_slice(&payload[..kept]);
        if let Some(key) = mask {
            unmask(&mut self.data[start..], key, offset);
        }
        if kept < payload.len() {
            self.stopped = true;
            self.error = Some(BodyError::OutputLimit);
        }
        payload.len() - kept
    }

    fn stop(&mut self, stop: Stop, window: &mut Window) {
        let received = std::mem::take(&mut self.received);
        self.error = Some(match stop {
            Stop::Corrupt => {
                self.as_received = true;
                self.data = received;
                BodyError::Corrupt { coding: CODING }
            }
            Stop::Limit => {
                self.stopped = true;
                BodyError::OutputLimit
            }
        });
        window.lose();
    }

    fn emit(mut self, complete: bool, window: &mut Window) -> Option<Message> {
        if self.compressed
            && let Some(inflater) = &mut window.inflater
            && inflater.settle(&self.data)
        {
            self.error = self.error.or(Some(BodyError::Gap));
        }
        if self.wire_len == 0 || self.lost {
            return None;
        }
        Some(Message {
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            exchange: None,
            content: Content::WebSocket(Box::new(WebSocketMessage {
                opcode: self.opcode,
                data: self.data.into(),
                compressed: self.compressed,
                frames: self.frames,
                wire_len: self.wire_len,
                payload_len: self.payload_len,
                complete,
                stream: None,
                error: self.error,
            })),
        })
    }
}

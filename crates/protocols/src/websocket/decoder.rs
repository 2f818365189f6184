//! The state machine of one direction.

mod contract;
mod partial;

use std::sync::Arc;

use bytes::Bytes;

use super::assembly::{Assembly, Payload, Window};
use super::frame::{CONTINUATION, FrameHeader, unmask};
use super::resync::{Found, Search};
use crate::decoder::{Options, Output, SkipReason, Skipped};
use crate::expansion::Expansion;
use crate::message::{Content, Message, WebSocketMessage};
use crate::raw;
use partial::PartialHeader;

/// Decodes the frames of one direction into messages and control frames.
///
/// Takes masked and unmasked frames alike. A frame with a reserved opcode becomes a message of its
/// own with that opcode. A frame that breaks a rule is decoded and marked. Bytes that cannot be a
/// frame end the protocol: the rest is handed over, or emitted raw if no other decoder takes it.
/// Only after missing bytes does the decoder search for the next frame, and counts the bytes that
/// it skips as [`SkipReason::Resync`].
///
/// Every byte fed is in some message's [`wire_len`](WebSocketMessage::wire_len), raw, or in
/// [`SkipReason::Resync`]. Payload that is counted in `wire_len` but not kept is also counted as
/// [`SkipReason::BodyLimit`], unless content is not inspected ([`Options::without_content`]): then nothing is kept but
/// the status code of a Close frame, and whatever was counted is left out on purpose.
///
/// Holds at most one message ([`Limits::websocket_message_bytes`](crate::Limits), twice that when it is
/// compressed and three times while the deflate window is unknown), one control frame, and
/// [`Limits::detect_bytes`](crate::Limits) while searching; about 48 KiB, or 96 KiB while the window
/// is unknown, from the first compressed message on.
pub struct WebSocketDecoder {
    options: Arc<Options>,
    stream: Option<u32>,
    /// True if this direction masks its frames; `None` until that is known.
    masked: Option<bool>,
    /// Bytes before the next one are missing, so the next bytes may be from the middle of a frame.
    after_loss: bool,
    phase: Phase,
    data: Option<Assembly>,
    window: Window,
    expansion: Expansion,
}

enum Phase {
    Header(PartialHeader),
    Payload(Frame),
    Searching(Search),
    /// These bytes (with their times) and all that follow are not frames.
    Over(Vec<(Bytes, u64)>),
}

/// A frame whose payload is being read.
struct Frame {
    header: FrameHeader,
    done: u64,
    /// Set for control frames and reserved opcodes, which are messages of their own.
    own: Option<Assembly>,
    /// The rest of it is not shown.
    discard: bool,
}

impl WebSocketDecoder {
    /// Creates a decoder for a direction seen from its first frame on.
    pub fn new(options: impl Into<Arc<Options>>) -> Self {
        Self {
            options: options.into(),
            stream: None,
            masked: None,
            after_loss: false,
            phase: Phase::Header(PartialHeader::EMPTY),
            data: None,
            window: Window::default(),
            expansion: Expansion::default(),
        }
    }

    /// Creates a decoder for a direction that is joined in the middle: it looks for a frame first.
    pub fn attached(options: impl Into<Arc<Options>>) -> Self {
        let mut decoder = Self::new(options);
        decoder.phase = decoder.begin_search();
        decoder.window.lose();
        decoder
    }

    /// Sets whether the frames come from the client, which must mask them, or from the server,
    /// which must not (RFC 6455 §5.1).
    #[must_use]
    pub fn from_client(mut self, client: bool) -> Self {
        self.masked = Some(client);
        self
    }

    /// Sets the HTTP/2 stream whose content the frames are (RFC 8441).
    #[must_use]
    pub fn with_stream(mut self, stream: u32) -> Self {
        self.stream = Some(stream);
        self
    }

    fn decode(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        let mut at = 0;
        while at < payload.len() {
            let rest = payload.slice(at..);
            at += match &mut self.phase {
                Phase::Header(partial) if partial.length == 0 => {
                    match self.take_whole(&rest, timestamp_ns, output) {
                        0 => self.take_header(&rest, timestamp_ns, output),
                        taken => taken,
                    }
                }
                Phase::Header(_) => self.take_header(&rest, timestamp_ns, output),
                Phase::Payload(_) => self.take_payload(&rest, timestamp_ns, output),
                Phase::Searching(_) => {
                    self.search(&rest, at == 0, timestamp_ns, output);
                    return;
                }
                Phase::Over(over) => {
                    over.push((rest, timestamp_ns));
                    return;
                }
            };
        }
    }

    /// Decodes the usual case, which needs no state: a frame that is a whole message and lies in
    /// one event. Returns the number of bytes taken, 0 if this is not the case.
    fn take_whole(&mut self, rest: &Bytes, timestamp_ns: u64, output: &mut Output) -> usize {
        let Some(header) = FrameHeader::parse(rest) else {
            return 0;
        };
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let end = header.size.saturating_add(length);
        let is_simple = header.fin
            && header.opcode != CONTINUATION
            && (!header.compressed || header.is_control())
            && (header.is_control() || self.data.is_none());
        if !is_simple
            || end > rest.len()
            || length > self.options.limits.websocket_message_bytes
            || header.faults(self.masked, &self.options.limits).0 > 0
        {
            return 0;
        }
        self.masked = Some(header.mask.is_some());
        let shown = if self.options.without_content {
            length.min(header.kept_without_content())
        } else {
            length
        };
        let payload = header.size..header.size + shown;
        let data = match header.mask {
            None => rest.slice(payload),
            Some(key) => {
                let mut data = rest[payload].to_vec();
                unmask(&mut data, key, 0);
                data.into()
            }
        };
        output.messages.push(Message {
            first_ns: timestamp_ns,
            last_ns: timestamp_ns,
            exchange: None,
            content: Content::WebSocket(Box::new(WebSocketMessage {
                opcode: header.opcode,
                data,
                compressed: false,
                frames: 1,
                wire_len: end as u64,
                payload_len: header.length,
                complete: true,
                stream: self.stream,
                error: None,
            })),
        });
        end
    }

    fn take_header(&mut self, rest: &Bytes, timestamp_ns: u64, output: &mut Output) -> usize {
        let Phase::Header(partial) = &mut self.phase else {
            return 0;
        };
        let taken = partial.fill(rest, timestamp_ns);
        if let Some(header) = FrameHeader::parse(&partial.bytes[..partial.length]) {
            let first_ns = partial.first_ns;
            let bytes = Bytes::copy_from_slice(&partial.bytes[..partial.length]);
            self.begin(header, bytes, first_ns, output);
        }
        taken
    }

    /// Begins a frame. `bytes` are those of `header`; `first_ns` is the time of the first.
    fn begin(&mut self, header: FrameHeader, bytes: Bytes, first_ns: u64, output: &mut Output) {
        let masked = header.mask.is_some();
        let (faults, fault) = header.faults(self.masked, &self.options.limits);
        if self.after_loss {
            if !header.is_possible() || self.masked.is_some_and(|known| known != masked) {
                skip(output, SkipReason::Resync, bytes.len() as u64);
                return self.lose_framing(self.begin_search(), output);
            }
        } else if faults > 1 {
            return self.lose_framing(Phase::Over(vec![(bytes, first_ns)]), output);
        }
        self.masked.get_or_insert(masked);
        let without_content = self.options.without_content;
        let mut frame = Frame {
            header,
            done: 0,
            own: None,
            discard: false,
        };
        if frame.stands_alone() {
            let own = frame.own.insert(Assembly::new(&header, without_content));
            own.add_header(&header, first_ns);
            if let Some(fault) = fault {
                own.mark(fault);
            }
        } else {
            if header.opcode != CONTINUATION {
                self.emit_data_part(output);
                self.data = None;
            }
            let data = self
                .data
                .get_or_insert_with(|| Assembly::new(&header, without_content));
            data.add_header(&header, first_ns);
            if let Some(fault) = fault {
                data.mark(fault);
            }
            if data.is_lost() {
                skip(output, SkipReason::Resync, header.size as u64);
            }
        }
        self.phase = Phase::Payload(frame);
        if header.length == 0 {
            self.end_frame(output);
        }
    }

    fn take_payload(&mut self, rest: &Bytes, timestamp_ns: u64, output: &mut Output) -> usize {
        let Phase::Payload(frame) = &mut self.phase else {
            return 0;
        };
        let left = frame.header.length - frame.done;
        let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let payload = Payload {
            bytes: &rest[..taken],
            mask: frame.header.mask,
            offset: frame.done,
            timestamp_ns,
        };
        frame.done += taken as u64;
        let limits = &self.options.limits;
        match frame
            .own
            .as_mut()
            .or(self.data.as_mut())
            .filter(|_| !frame.discard)
        {
            Some(message) => {
                let before = message.held();
                let expansion = self.expansion.share(limits);
                let allowed = expansion.allow(taken);
                let limit = limits
                    .websocket_message_bytes
                    .min(before.saturating_add(allowed.max(taken)));
                let dropped = message.add_payload(payload, &mut self.window, limit);
                // Payload that turns out not to be compressed is shown as received, which may be
                // shorter.
                expansion.spend(message.held().saturating_sub(before));
                let reason = if message.is_lost() {
                    SkipReason::Resync
                } else {
                    SkipReason::BodyLimit
                };
                skip(output, reason, dropped as u64);
            }
            None => skip(output, SkipReason::Resync, taken as u64),
        }
        if taken as u64 == left {
            self.end_frame(output);
        }
        taken
    }

    fn end_frame(&mut self, output: &mut Output) {
        let next = Phase::Header(PartialHeader::EMPTY);
        let Phase::Payload(frame) = std::mem::replace(&mut self.phase, next) else {
            return;
        };
        let ended = match frame.own {
            Some(own) => Some(own),
            None if frame.header.fin && !frame.stands_alone() => self.data.take(),
            None => None,
        };
        let limit = self.options.limits.websocket_message_bytes;
        let message = ended.and_then(|message| message.finish(&mut self.window, limit));
        self.emit(message, output);
    }

    fn begin_search(&self) -> Phase {
        Phase::Searching(Search::new(self.options.without_content))
    }

    fn search(&mut self, rest: &Bytes, is_event_start: bool, timestamp_ns: u64, output: &mut Output) {
        let Phase::Searching(search) = &mut self.phase else {
            return;
        };
        let mut skipped = Vec::new();
        let limits = &self.options.limits;
        let found = search.push(
            rest,
            is_event_start,
            timestamp_ns,
            self.masked,
            limits,
            &mut skipped,
        );
        self.pass_over(skipped, timestamp_ns, output);
        if let Some(found) = found {
            self.resume(found, rest.len(), timestamp_ns, output);
        }
    }

    /// Continues decoding where frames were found; the last `newest` bytes were received at
    /// `timestamp_ns`.
    fn resume(&mut self, found: Found, newest: usize, timestamp_ns: u64, output: &mut Output) {
        self.pass_over(found.skipped, found.timestamp_ns, output);
        self.phase = Phase::Header(PartialHeader::EMPTY);
        let older = found.bytes.len().saturating_sub(newest);
        let bytes = Bytes::from(found.bytes);
        self.decode(&bytes.slice(..older), found.timestamp_ns, output);
        self.decode(&bytes.slice(older..), timestamp_ns, output);
    }

    /// Emits bytes that were searched in vain raw, or counts them if bytes before them are missing.
    fn pass_over(&self, bytes: Vec<u8>, timestamp_ns: u64, output: &mut Output) {
        if self.after_loss {
            skip(output, SkipReason::Resync, bytes.len() as u64);
        } else {
            raw::emit(bytes.into(), timestamp_ns, timestamp_ns, output);
        }
    }

    /// Forgets the frame boundaries, which are no longer known.
    fn lose_framing(&mut self, next: Phase, output: &mut Output) {
        self.emit_data_part(output);
        self.data = None;
        self.window.lose();
        self.phase = next;
    }

    /// Emits the bytes after the end of the protocol that no other decoder took over.
    fn emit_over(&mut self, output: &mut Output) {
        if let Phase::Over(over) = &mut self.phase {
            for (bytes, timestamp_ns) in over.drain(..) {
                raw::emit(bytes, timestamp_ns, timestamp_ns, output);
            }
        }
    }

    /// Skips a gap that ends inside the payload being read, which leaves the framing intact.
    fn step_over(&mut self, bytes: Option<u64>, output: &mut Output) -> bool {
        let (Phase::Payload(frame), Some(bytes)) = (&mut self.phase, bytes) else {
            return false;
        };
        if bytes > frame.header.length - frame.done {
            return false;
        }
        frame.done += bytes;
        let whole = frame.done == frame.header.length;
        let before = match &mut frame.own {
            Some(own) => own.emit_before_gap(&mut self.window),
            None => self
                .data
                .as_mut()
                .and_then(|data| data.emit_before_gap(&mut self.window)),
        };
        if frame.own.take().is_some() {
            frame.discard = true;
        }
        self.emit(before, output);
        if whole {
            self.end_frame(output);
        }
        true
    }

    fn emit_data_part(&mut self, output: &mut Output) {
        let part = self
            .data
            .as_mut()
            .and_then(|data| data.emit_part(&mut self.window));
        self.emit(part, output);
    }

    fn emit(&self, message: Option<Message>, output: &mut Output) {
        output.messages.extend(message.map(|mut message| {
            if let Content::WebSocket(inner) = &mut message.content {
                inner.stream = self.stream;
            }
            message
        }));
    }

    /// Emits the beginning of everything that is unfinished, and forgets the framing.
    fn abandon(&mut self, lost: bool, output: &mut Output) {
        self.emit_over(output);
        let next = self.begin_search();
        let mut own = None;
        match std::mem::replace(&mut self.phase, next) {
            Phase::Header(partial) if lost => skip(output, SkipReason::Resync, partial.length as u64),
            Phase::Header(partial) => {
                let bytes = Bytes::copy_from_slice(&partial.bytes[..partial.length]);
                raw::emit(bytes, partial.first_ns, partial.first_ns, output);
            }
            Phase::Over(_) => {}
            Phase::Payload(frame) => own = frame.own,
            Phase::Searching(search) => {
                let (bytes, timestamp_ns) = search.into_parts();
                self.pass_over(bytes, timestamp_ns, output);
            }
        }
        for mut unfinished in [self.data.take(), own].into_iter().flatten() {
            let part = if lost {
                unfinished.emit_before_gap(&mut self.window)
            } else {
                unfinished.emit_part(&mut self.window)
            };
            self.emit(part, output);
        }
        self.window.lose();
    }
}

impl Frame {
    /// Returns true for control frames, which may come between fragments, and for reserved opcodes,
    /// which do not belong to a fragmented message.
    fn stands_alone(&self) -> bool {
        !matches!(self.header.opcode, 0..=2)
    }
}

fn skip(output: &mut Output, reason: SkipReason, bytes: u64) {
    if bytes > 0 {
        output.skipped.push(Skipped { reason, bytes });
    }
}

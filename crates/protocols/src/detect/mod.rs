//! Chooses the protocol of a stream from its bytes, and chooses anew when one protocol gives
//! way to another.
//!
//! ```text
//!                 no, idle, limit: the event is raw
//!                 ┌────┐
//!                 ▼    │
//!   ─────────► Probing ┴──── yes ────► Decoding ──┐ hand over to a named protocol
//!                 ▲                     │   ▲     │
//!                 └── hand over to any ─┘   └─────┘
//! ```
//!
//! Probing looks at the bytes from the start of an event on, so a capture that begins in the
//! middle of a message finds the first later message that begins an event. The order of
//! [`PROTOCOLS`] decides: the first protocol that does not answer *no* is waited for. What each of
//! them must see is in the table there.

mod table;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::decoder::{Detection, Options, Output, PeerNotice, StreamDecoder};
use crate::event::JoinedLate;
use crate::limits::Limits;
use crate::message::{Content, Gap, GapReason, Message};
use crate::raw::RawWriter;
use table::PROTOCOLS;
pub(crate) use table::upgraded;

/// A connection that goes on when the capture begins has lost nothing if a message begins then.
const OPEN_BEFORE: GapReason = GapReason::JoinedLate(JoinedLate::OpenBeforeCapture);

/// What the table knows of a protocol.
pub(crate) struct Protocol {
    /// Whether these bytes begin a stream of it. Where the answer is not *yes* or *no* for
    /// [`Limits::detect_bytes`] bytes, the stream is raw.
    pub(crate) probe: fn(&[u8], &Limits, Place) -> Detection,
    /// Whether to believe these bytes of which the probe wants more, when no more come.
    pub(crate) probe_quiet: fn(&[u8], Place) -> bool,
    /// A decoder for a stream that begins with these bytes.
    pub(crate) start: fn(&Arc<Options>, &[u8]) -> Box<dyn ProtocolDecoder>,
    /// Its decoder tells the other direction of every request ([`PeerNotice::RequestHead`]).
    pub(crate) tells_requests: bool,
}

/// What is known of the bytes before the ones that are probed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Some are missing: the stream was joined late or has a gap. What begins here may be the middle
    /// of any protocol, and its bytes alone are the evidence. Otherwise all were seen, if there were
    /// any; so a protocol that begins with a handshake and did not have it cannot begin here.
    pub(crate) after_loss: bool,
    /// They are raw and do not end a line, so that the first word here may be the end of a longer one.
    pub(crate) mid_line: bool,
}

/// A protocol's decoder. One that may give way to another protocol says so in `hand_over`.
pub(crate) trait ProtocolDecoder: StreamDecoder {
    /// Asked after every call: whether the stream goes on in another protocol, and with which
    /// bytes. After `Some` the decoder is dropped.
    fn hand_over(&mut self) -> Option<HandOver> {
        None
    }

    /// The protocol whose new decoder would be in the same state as this one, if there is one: it need not be
    /// kept while the stream sleeps.
    fn as_new(&self) -> Option<&'static Protocol> {
        None
    }

    /// Whether the stream may go on with `payload`, which begins as connections do.
    fn expects(&self, _payload: &[u8]) -> bool {
        false
    }
}

/// The end of one protocol and the beginning of another in the same stream.
pub(crate) struct HandOver {
    /// The next protocol; `None`: to be detected.
    pub(crate) next: Option<&'static Protocol>,
    /// Bytes of it that were already fed, with the time of the event that brought each.
    pub(crate) rest: Vec<(Bytes, u64)>,
}

/// A stream whose protocol is detected first and then decoded.
pub(crate) struct Detecting {
    options: Arc<Options>,
    state: State,
    /// The other direction knows that no requests come from here.
    told_no_requests: bool,
}

enum State {
    Probing(Box<Probing>),
    Decoding(Box<dyn ProtocolDecoder>),
    /// Asleep, in the state of a new decoder of this protocol.
    Resting(&'static Protocol),
}

/// Bytes of which it is not known yet what they begin.
#[derive(Default)]
struct Probing {
    held: BytesMut,
    /// Length and time of each event in `held`.
    events: VecDeque<(usize, u64)>,
    /// For the decoder to come.
    notices: Vec<PeerNotice>,
    raw: RawWriter,
    /// Length of `held` from which on it is looked at again.
    next_look: usize,
    /// The stream may begin in the middle of something: to be told when it does.
    middle: Option<(Gap, u64)>,
    place: Place,
}

enum Verdict {
    Is(&'static Protocol),
    NeedMore,
    Unknown,
}

/// Events still to be fed, oldest first.
type Backlog = VecDeque<(Bytes, u64)>;

impl Detecting {
    pub(crate) fn new(options: Arc<Options>) -> Self {
        Self {
            options,
            state: State::Probing(Box::default()),
            told_no_requests: false,
        }
    }

    /// A decoder again, for a stream that slept.
    fn wake(&mut self) {
        if let State::Resting(protocol) = self.state {
            self.state = State::Decoding((protocol.start)(&self.options, &[]));
        }
    }

    fn feed_one(&mut self, payload: &Bytes, timestamp_ns: u64, backlog: &mut Backlog, output: &mut Output) {
        if payload.is_empty() {
            return;
        }
        self.wake();
        match &mut self.state {
            State::Resting(_) => {}
            State::Decoding(decoder) => {
                decoder.feed(payload, timestamp_ns, output);
                self.follow_hand_over(backlog, output);
            }
            State::Probing(probing) if probing.events.is_empty() => {
                self.probe_first(payload, timestamp_ns, backlog, output);
            }
            State::Probing(probing) => {
                probing.hold(payload, timestamp_ns);
                let full = probing.held.len() >= self.options.limits.detect_bytes;
                if full || probing.held.len() >= probing.next_look {
                    self.probe_held(full, backlog, output);
                }
            }
        }
    }

    /// The usual case, an event whose first bytes decide, without a copy.
    fn probe_first(
        &mut self,
        payload: &Bytes,
        timestamp_ns: u64,
        backlog: &mut Backlog,
        output: &mut Output,
    ) {
        let State::Probing(probing) = &mut self.state else {
            return;
        };
        match verdict(payload, &self.options.limits, probing.place) {
            Verdict::Is(protocol) => {
                self.start(protocol, payload, backlog, output);
                backlog.push_front((payload.clone(), timestamp_ns));
            }
            Verdict::NeedMore if payload.len() < self.options.limits.detect_bytes => {
                probing.hold(payload, timestamp_ns);
            }
            Verdict::NeedMore | Verdict::Unknown => {
                probing.write_raw(payload, timestamp_ns, output);
                self.tell_no_requests(output);
            }
        }
    }

    /// Decides about the held events, one after the other. `settle`: nothing more will come in
    /// time, so what could still become a message is raw.
    fn probe_held(&mut self, settle: bool, backlog: &mut Backlog, output: &mut Output) {
        while let State::Probing(probing) = &mut self.state {
            let Some(&(len, timestamp_ns)) = probing.events.front() else {
                return;
            };
            let place = probing.place;
            let verdict = match verdict(&probing.held, &self.options.limits, place) {
                Verdict::NeedMore if settle => quiet_verdict(&probing.held, place),
                verdict => verdict,
            };
            match verdict {
                Verdict::Is(protocol) => {
                    let first = probing.held.clone();
                    self.start(protocol, &first, backlog, output);
                }
                Verdict::NeedMore if !settle => {
                    probing.next_look = next_look(probing.held.len());
                    return;
                }
                Verdict::NeedMore | Verdict::Unknown => {
                    probing.events.pop_front();
                    let data = probing.held.split_to(len).freeze();
                    probing.write_raw(&data, timestamp_ns, output);
                    self.tell_no_requests(output);
                }
            }
        }
    }

    /// `first`: the bytes that the stream begins with, as far as they are known.
    fn start(
        &mut self,
        protocol: &'static Protocol,
        first: &[u8],
        backlog: &mut Backlog,
        output: &mut Output,
    ) {
        if !protocol.tells_requests {
            self.tell_no_requests(output);
        }
        let mut decoder = (protocol.start)(&self.options, first);
        if let State::Probing(probing) = &mut self.state {
            probing.raw.flush(output);
            // Where the capture's beginning is not a message's, requests may have been lost.
            if protocol.tells_requests && probing.place.after_loss && probing.middle.is_none() {
                output.notices.push(PeerNotice::RequestsLost);
            }
            for notice in &probing.notices {
                decoder.notice(notice, output);
            }
            let mut held = std::mem::take(&mut probing.held).freeze();
            let events = probing
                .events
                .drain(..)
                .map(|(len, ns)| (held.split_to(len), ns))
                .collect();
            prepend(events, backlog);
        }
        self.state = State::Decoding(decoder);
    }

    fn follow_hand_over(&mut self, backlog: &mut Backlog, output: &mut Output) -> bool {
        let State::Decoding(decoder) = &mut self.state else {
            return false;
        };
        let Some(HandOver { next, rest }) = decoder.hand_over() else {
            return false;
        };
        prepend(rest, backlog);
        self.state = State::Probing(Box::default());
        if let Some(protocol) = next {
            self.start(protocol, &[], backlog, output);
        }
        true
    }

    fn tell_no_requests(&mut self, output: &mut Output) {
        if !self.told_no_requests {
            self.told_no_requests = true;
            output.notices.push(PeerNotice::NoRequests);
        }
    }

    fn work_off(&mut self, mut backlog: Backlog, output: &mut Output) {
        while let Some((payload, timestamp_ns)) = backlog.pop_front() {
            self.feed_one(&payload, timestamp_ns, &mut backlog, output);
        }
    }

    /// Decides what is held. A decoder that takes some of it may hand the rest back to be held again.
    fn settle_held(&mut self, output: &mut Output) {
        let mut before = usize::MAX;
        loop {
            let mut backlog = Backlog::new();
            self.probe_held(true, &mut backlog, output);
            self.work_off(backlog, output);
            let State::Probing(probing) = &mut self.state else {
                return;
            };
            let held = probing.held.len();
            if held == 0 {
                return;
            }
            if held >= before {
                probing.write_held(output);
                return;
            }
            before = held;
        }
    }

    /// Decides what is held, then lets the decoder act. True when it handed over then.
    fn settle(
        &mut self,
        output: &mut Output,
        act: impl FnOnce(&mut dyn ProtocolDecoder, &mut Output),
    ) -> bool {
        self.settle_held(output);
        let State::Decoding(decoder) = &mut self.state else {
            return false;
        };
        let mut backlog = Backlog::new();
        act(&mut **decoder, output);
        let handed_over = self.follow_hand_over(&mut backlog, output);
        self.work_off(backlog, output);
        handed_over
    }
}

impl StreamDecoder for Detecting {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        let mut backlog = Backlog::new();
        self.feed_one(payload, timestamp_ns, &mut backlog, output);
        self.work_off(backlog, output);
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        self.wake();
        if let State::Probing(_) = &self.state {
            self.settle(output, |_, _| {});
        }
        match &mut self.state {
            State::Resting(_) => {}
            State::Decoding(_) => {
                self.settle(output, |decoder, output| decoder.gap(gap, timestamp_ns, output));
            }
            State::Probing(probing) if gap.reason == OPEN_BEFORE => {
                probing.middle = Some((gap, timestamp_ns));
            }
            State::Probing(probing) => {
                probing.raw.flush(output);
                output.messages.push(gap_message(gap, timestamp_ns));
            }
        }
        if let State::Probing(probing) = &mut self.state {
            probing.place = Place {
                after_loss: true,
                mid_line: false,
            };
        }
    }

    fn notice(&mut self, notice: &PeerNotice, output: &mut Output) {
        self.wake();
        match &mut self.state {
            State::Resting(_) => {}
            State::Decoding(_) => {
                self.settle(output, |decoder, output| decoder.notice(notice, output));
            }
            State::Probing(probing) => {
                if probing.notices.len() < self.options.limits.pending_requests {
                    probing.notices.push(*notice);
                }
            }
        }
    }

    fn awaits_notice(&self) -> bool {
        matches!(&self.state, State::Decoding(decoder) if decoder.awaits_notice())
    }

    fn notice_overdue(&mut self, output: &mut Output) {
        if let State::Decoding(_) = &self.state {
            self.settle(output, |decoder, output| decoder.notice_overdue(output));
        }
    }

    fn has_more(&self) -> bool {
        matches!(&self.state, State::Decoding(decoder) if decoder.has_more())
    }

    fn go_on(&mut self, output: &mut Output) {
        if let State::Decoding(_) = &self.state {
            self.settle(output, |decoder, output| decoder.go_on(output));
        }
    }

    fn has_parts(&self) -> bool {
        matches!(&self.state, State::Decoding(decoder) if decoder.has_parts())
    }

    fn emit_parts(&mut self, output: &mut Output) {
        if let State::Decoding(decoder) = &mut self.state {
            decoder.emit_parts(output);
        }
    }

    fn idle(&mut self, output: &mut Output) {
        self.settle(output, |decoder, output| decoder.idle(output));
        if let State::Probing(probing) = &mut self.state {
            probing.raw.flush(output);
        }
    }

    fn sleep(&mut self) {
        match &mut self.state {
            State::Decoding(decoder) => match decoder.as_new() {
                Some(protocol) => self.state = State::Resting(protocol),
                None => decoder.sleep(),
            },
            State::Probing(probing) if probing.events.is_empty() => {
                probing.held = BytesMut::new();
                probing.events = VecDeque::new();
                probing.notices.shrink_to_fit();
            }
            State::Probing(_) | State::Resting(_) => {}
        }
    }

    fn is_begun_anew(&self, payload: &[u8]) -> bool {
        if !table::begins_connection(payload) {
            return false;
        }
        match &self.state {
            State::Decoding(decoder) => !decoder.expects(payload),
            State::Resting(protocol) => !(protocol.start)(&self.options, &[]).expects(payload),
            // Each event is looked at for what it begins.
            State::Probing(_) => false,
        }
    }

    fn close(&mut self, output: &mut Output) {
        // What a decoder hands over while closing is all that its successor will see.
        while self.settle(output, |decoder, output| decoder.close(output)) {}
        if let State::Probing(probing) = &mut self.state {
            probing.raw.flush(output);
        }
    }

    fn buffered_bytes(&self) -> usize {
        match &self.state {
            State::Resting(_) => 0,
            State::Decoding(decoder) => decoder.buffered_bytes(),
            State::Probing(probing) => probing.held.len() + probing.raw.held_bytes(),
        }
    }
}

impl Probing {
    fn hold(&mut self, payload: &Bytes, timestamp_ns: u64) {
        if !payload.is_empty() {
            if self.held.is_empty() {
                self.next_look = 0;
            }
            self.held.extend_from_slice(payload);
            self.events.push_back((payload.len(), timestamp_ns));
        }
    }

    fn write_held(&mut self, output: &mut Output) {
        while let Some((len, timestamp_ns)) = self.events.pop_front() {
            let data = self.held.split_to(len).freeze();
            self.write_raw(&data, timestamp_ns, output);
        }
    }

    fn write_raw(&mut self, data: &Bytes, timestamp_ns: u64, output: &mut Output) {
        if let Some((gap, timestamp_ns)) = self.middle.take() {
            output.messages.push(gap_message(gap, timestamp_ns));
        }
        self.place.mid_line = data.last().is_some_and(|&last| last != b'\n');
        self.raw.write(data, timestamp_ns, output);
    }
}

/// After a look at `held` bytes that told nothing: each time at a sixteenth more, so that a stream
/// that comes byte by byte is not looked at for each of them. Short beginnings are.
fn next_look(held: usize) -> usize {
    const SHORT: usize = 4096;
    held + if held < SHORT { 1 } else { held / 16 }
}

fn verdict(bytes: &[u8], limits: &Limits, place: Place) -> Verdict {
    for protocol in PROTOCOLS {
        match (protocol.probe)(bytes, limits, place) {
            Detection::No => {}
            Detection::NeedMore => return Verdict::NeedMore,
            Detection::Yes => return Verdict::Is(protocol),
        }
    }
    Verdict::Unknown
}

fn quiet_verdict(bytes: &[u8], place: Place) -> Verdict {
    let believed = PROTOCOLS
        .iter()
        .find(|protocol| (protocol.probe_quiet)(bytes, place));
    believed.map_or(Verdict::Unknown, |protocol| Verdict::Is(protocol))
}

fn prepend(events: Vec<(Bytes, u64)>, backlog: &mut Backlog) {
    for event in events.into_iter().rev() {
        backlog.push_front(event);
    }
}

/// What a decoder took for a header stands before the rest of its event: one event again.
pub(crate) fn joined(rest: Vec<(Bytes, u64)>) -> Vec<(Bytes, u64)> {
    let [(_, first_ns), ..] = rest[..] else {
        return rest;
    };
    let bytes: Vec<u8> = rest.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
    vec![(bytes.into(), first_ns)]
}

/// The message that stands for `gap` at its place in the stream.
pub(crate) fn gap_message(gap: Gap, timestamp_ns: u64) -> Message {
    Message {
        first_ns: timestamp_ns,
        last_ns: timestamp_ns,
        content: Content::Gap(gap),
    }
}

#[cfg(test)]
mod tests;

//! Detects the protocol of a stream from its bytes, and detects again when one protocol gives way
//! to another.
//!
//! ```text
//!                 no, idle, limit: the event is raw
//!                 ┌────┐
//!                 ▼    │
//!   ─────────► Unknown ┴──── yes ────► Decoding ──┐ hand over to a named protocol
//!                 ▲                     │   ▲     │
//!                 └── hand over to any ─┘   └─────┘
//! ```
//!
//! A stream is recognized from the start of an event on, so a capture that begins in the middle of
//! a message finds the first later message that begins an event. The order of
//! [`PROTOCOLS`](table::PROTOCOLS) decides: the first protocol that does not answer *no* is waited
//! for. The table there says what evidence each protocol needs.

mod early;
mod hand_over;
mod protocol;
mod table;
mod unknown;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::decoder::{Options, Output, PeerNotice, StreamDecoder};
use crate::event::JoinedLate;
use crate::exchange::{self, Exchange};
use crate::message::{Content, Gap, GapReason};
use early::Early;
pub(crate) use protocol::{HandOver, Place, Protocol, ProtocolDecoder, gap_message, joined};
pub(crate) use table::upgraded;
use unknown::{Unknown, Verdict, next_look, quiet_verdict, verdict};

/// A connection that is open when the capture begins has lost nothing if a message begins there.
const OPEN_BEFORE: GapReason = GapReason::JoinedLate(JoinedLate::OpenBeforeCapture);

/// Creates a decoder for a new stream. It detects the protocol from the first bytes, then decodes.
/// A caller that creates many passes the same `Arc` each time.
pub fn stream_decoder(options: impl Into<Arc<Options>>) -> Box<dyn StreamDecoder> {
    Box::new(Detecting::new(options.into()))
}

/// A stream whose protocol is detected first and then decoded.
pub(crate) struct Detecting {
    options: Arc<Options>,
    state: State,
    /// The other direction was notified that this one carries no requests.
    has_reported_no_requests: bool,
    /// Bytes are missing before the first, and nothing marks that.
    begins_late: bool,
    /// Number of the last exchange, if it is known.
    exchanges: Option<u32>,
    /// The exchange that led to the current protocol.
    under: Option<u32>,
    /// Responses that wait for the end of their request, if there were any.
    early: Option<Box<Early>>,
}

enum State {
    Unknown(Box<Unknown>),
    Decoding(Box<dyn ProtocolDecoder>),
    /// Asleep, in the state of a new decoder of this protocol.
    Resting(&'static Protocol),
}

/// Events still to be fed, oldest first.
type Backlog = VecDeque<(Bytes, u64)>;

impl Detecting {
    pub(crate) fn new(options: Arc<Options>) -> Self {
        Self {
            state: State::Unknown(Box::new(Unknown::new(&options))),
            options,
            has_reported_no_requests: false,
            begins_late: false,
            exchanges: Some(0),
            under: None,
            early: None,
        }
    }

    /// Makes a decoder again for a stream that slept.
    fn wake(&mut self) {
        if let State::Resting(protocol) = self.state {
            let mut decoder = (protocol.start)(&self.options, &[]);
            decoder.begin_exchanges(self.exchanges, true);
            self.state = State::Decoding(decoder);
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
            State::Unknown(unknown) if unknown.events.is_empty() => {
                self.decide_first(payload, timestamp_ns, backlog, output);
            }
            State::Unknown(unknown) => {
                unknown.hold(payload, timestamp_ns);
                let full = unknown.held.len() >= self.options.limits.detect_bytes;
                if full || unknown.held.len() >= unknown.next_look {
                    self.decide_held(full, backlog, output);
                }
            }
        }
    }

    /// Probes the first event. In the usual case its first bytes decide, and nothing is copied.
    fn decide_first(
        &mut self,
        payload: &Bytes,
        timestamp_ns: u64,
        backlog: &mut Backlog,
        output: &mut Output,
    ) {
        let State::Unknown(unknown) = &mut self.state else {
            return;
        };
        match verdict(payload, &self.options.limits, unknown.place) {
            Verdict::Is(protocol) => {
                self.start(protocol, payload, backlog, output);
                backlog.push_front((payload.clone(), timestamp_ns));
            }
            Verdict::NeedMore if payload.len() < self.options.limits.detect_bytes => {
                unknown.hold(payload, timestamp_ns);
            }
            Verdict::NeedMore | Verdict::Raw => {
                unknown.write_raw(payload, timestamp_ns, output);
                self.tell_no_requests(output);
            }
        }
    }

    /// Decides about the held events, one after the other. `settle` is true if no more bytes come
    /// in time: then bytes that could still become a message are raw.
    fn decide_held(&mut self, settle: bool, backlog: &mut Backlog, output: &mut Output) {
        while let State::Unknown(unknown) = &mut self.state {
            let Some(&(len, timestamp_ns)) = unknown.events.front() else {
                return;
            };
            let place = unknown.place;
            let verdict = match verdict(&unknown.held, &self.options.limits, place) {
                Verdict::NeedMore if settle => quiet_verdict(&unknown.held, place),
                verdict => verdict,
            };
            match verdict {
                Verdict::Is(protocol) => {
                    let first = unknown.held.clone();
                    self.start(protocol, &first, backlog, output);
                }
                Verdict::NeedMore if !settle => {
                    unknown.next_look = next_look(unknown.held.len());
                    return;
                }
                Verdict::NeedMore | Verdict::Raw => {
                    unknown.events.pop_front();
                    let data = unknown.held.split_to(len).freeze();
                    unknown.write_raw(&data, timestamp_ns, output);
                    self.tell_no_requests(output);
                }
            }
        }
    }

    /// Starts a decoder. `first` are the known bytes that the stream begins with.
    fn start(
        &mut self,
        protocol: &'static Protocol,
        first: &[u8],
        backlog: &mut Backlog,
        output: &mut Output,
    ) {
        if !protocol.reports_requests {
            self.tell_no_requests(output);
        }
        let mut decoder = (protocol.start)(&self.options, first);
        if let State::Unknown(unknown) = &mut self.state {
            let is_late = unknown.place.after_loss || self.begins_late;
            decoder.begin_exchanges(self.exchanges, !is_late);
            unknown.raw.flush(output);
            if is_late && protocol.reports_requests && self.options.view.pairs() {
                output.notices.push(PeerNotice::BegunLate);
            }
            // If the capture does not begin with a message, requests may have been lost.
            if protocol.reports_requests && unknown.place.after_loss && unknown.middle.is_none() {
                output.notices.push(PeerNotice::RequestsLost);
            }
            for notice in &unknown.notices {
                decoder.notice(notice, output);
            }
            let mut held = std::mem::take(&mut unknown.held).freeze();
            let events = unknown
                .events
                .drain(..)
                .map(|(len, ns)| (held.split_to(len), ns))
                .collect();
            prepend(events, backlog);
        }
        self.state = State::Decoding(decoder);
    }

    /// Assigns messages that were emitted since `from` to the exchange that led to them.
    fn assign(&self, from: usize, output: &mut Output) {
        if self.under.is_some() && self.options.view.pairs() {
            for message in &mut output.messages[from..] {
                if message.exchange.is_none() && matches!(message.content, Content::WebSocket(_)) {
                    message.exchange = Exchange::numbered(self.under);
                }
            }
        }
    }

    fn tell_no_requests(&mut self, output: &mut Output) {
        if !self.has_reported_no_requests {
            self.has_reported_no_requests = true;
            output.notices.push(PeerNotice::NoRequests);
        }
    }

    fn work_off(&mut self, mut backlog: Backlog, output: &mut Output) {
        while let Some((payload, timestamp_ns)) = backlog.pop_front() {
            self.feed_one(&payload, timestamp_ns, &mut backlog, output);
        }
    }

    /// Decides about the held bytes. A decoder that takes some of them may return the rest to be
    /// held again.
    fn settle_held(&mut self, output: &mut Output) {
        let mut before = usize::MAX;
        loop {
            let mut backlog = Backlog::new();
            self.decide_held(true, &mut backlog, output);
            self.work_off(backlog, output);
            let State::Unknown(unknown) = &mut self.state else {
                return;
            };
            let held = unknown.held.len();
            if held == 0 {
                return;
            }
            if held >= before {
                unknown.write_held(output);
                return;
            }
            before = held;
        }
    }

    /// Decides about the held bytes, then lets the decoder act. Returns true if it handed over
    /// then.
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
        let from = output.messages.len();
        let mut backlog = Backlog::new();
        self.feed_one(payload, timestamp_ns, &mut backlog, output);
        self.work_off(backlog, output);
        self.assign(from, output);
        self.keep_early(from, output);
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        let from = output.messages.len();
        self.wake();
        // A new decoder continues a stream whose exchanges were numbered by another.
        if let (State::Unknown(unknown), GapReason::Restart | GapReason::Shed) = (&self.state, gap.reason)
            && unknown.events.is_empty()
        {
            self.exchanges = None;
        }
        if let State::Unknown(_) = &self.state {
            self.settle(output, |_, _| {});
        }
        match &mut self.state {
            State::Resting(_) => {}
            State::Decoding(_) => {
                self.settle(output, |decoder, output| decoder.gap(gap, timestamp_ns, output));
            }
            State::Unknown(unknown) if gap.reason == OPEN_BEFORE => {
                unknown.middle = Some((gap, timestamp_ns));
            }
            State::Unknown(unknown) => {
                unknown.raw.flush(output);
                output.messages.push(gap_message(gap, timestamp_ns));
            }
        }
        if let State::Unknown(unknown) = &mut self.state {
            unknown.place = Place {
                after_loss: true,
                mid_line: false,
            };
        }
        self.assign(from, output);
        self.keep_early(from, output);
    }

    fn begin_late(&mut self, last: Option<u32>) {
        self.begins_late = true;
        self.exchanges = last;
    }

    fn notice(&mut self, notice: &PeerNotice, output: &mut Output) {
        if self.end_early(notice, output) {
            return;
        }
        let from = output.messages.len();
        self.wake();
        match &mut self.state {
            State::Resting(_) => {}
            State::Decoding(_) => {
                self.settle(output, |decoder, output| decoder.notice(notice, output));
            }
            State::Unknown(unknown) => {
                let mut notice = notice.clone();
                if unknown.notice_bytes() + notice.held_bytes() > self.options.limits.joined_bytes {
                    exchange::release_from(&mut notice, output);
                }
                if unknown.notices.len() < self.options.limits.pending_requests {
                    unknown.notices.push(notice);
                }
            }
        }
        self.keep_early(from, output);
    }

    fn awaits_notice(&self) -> bool {
        matches!(&self.state, State::Decoding(decoder) if decoder.awaits_notice())
    }

    fn awaits_end(&self) -> bool {
        self.early.is_some()
    }

    fn notice_overdue(&mut self, output: &mut Output) {
        let from = output.messages.len();
        if let State::Decoding(_) = &self.state {
            self.settle(output, |decoder, output| decoder.notice_overdue(output));
        }
        self.keep_early(from, output);
    }

    fn has_more(&self) -> bool {
        matches!(&self.state, State::Decoding(decoder) if decoder.has_more())
    }

    fn go_on(&mut self, output: &mut Output) {
        let from = output.messages.len();
        if let State::Decoding(_) = &self.state {
            self.settle(output, |decoder, output| decoder.go_on(output));
        }
        self.keep_early(from, output);
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
        let from = output.messages.len();
        self.settle(output, |decoder, output| decoder.idle(output));
        if let State::Unknown(unknown) = &mut self.state {
            unknown.raw.flush(output);
        }
        self.assign(from, output);
        self.keep_early(from, output);
    }

    fn sleep(&mut self) {
        match &mut self.state {
            State::Decoding(decoder) => match decoder.as_new() {
                Some(protocol) => {
                    self.exchanges = decoder.exchanges().or(self.exchanges);
                    self.state = State::Resting(protocol);
                }
                None => decoder.sleep(),
            },
            State::Unknown(unknown) if unknown.events.is_empty() => {
                unknown.held = BytesMut::new();
                unknown.events = VecDeque::new();
                unknown.notices.shrink_to_fit();
            }
            State::Unknown(_) | State::Resting(_) => {}
        }
    }

    fn is_begun_anew(&self, payload: &[u8]) -> bool {
        if !table::begins_connection(payload) {
            return false;
        }
        match &self.state {
            State::Decoding(decoder) => !decoder.expects(payload),
            State::Resting(protocol) => !(protocol.start)(&self.options, &[]).expects(payload),
            // Every event is probed.
            State::Unknown(_) => false,
        }
    }

    fn close(&mut self, output: &mut Output) {
        self.release_early(output);
        // Bytes that a decoder hands over while closing are all that its successor sees.
        let from = output.messages.len();
        while self.settle(output, |decoder, output| decoder.close(output)) {}
        if let State::Unknown(unknown) = &mut self.state {
            unknown.raw.flush(output);
            if self.options.view.pairs() {
                exchange::unanswered_of(std::mem::take(&mut unknown.notices), output);
            }
        }
        self.assign(from, output);
    }

    fn buffered_bytes(&self) -> usize {
        let early = self.early.as_ref().map_or(0, |early| early.held_bytes());
        early
            + match &self.state {
                State::Resting(_) => 0,
                State::Decoding(decoder) => decoder.buffered_bytes(),
                State::Unknown(unknown) => {
                    unknown.held.len() + unknown.raw.held_bytes() + unknown.notice_bytes()
                }
            }
    }
}

fn prepend(events: Vec<(Bytes, u64)>, backlog: &mut Backlog) {
    for event in events.into_iter().rev() {
        backlog.push_front(event);
    }
}

#[cfg(test)]
mod tests;

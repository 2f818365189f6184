//! The part of a Worker that drives its decoder: feeds it in order, reports missing bytes to it,
//! formats what it puts out, and keeps what it holds within bounds.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use ecapture_protocols::message::{Content, Gap, GapReason, Message as Decoded};
use ecapture_protocols::{Observed, Output, StreamDecoder, printable};
use tokio::time::Instant;

use super::timing::Expiry;
use super::unparsed::Unparsed;
use super::{Formatted, Phase, Worker};
use crate::Clock;
use crate::loss::Loss;
use crate::messages::{Cause, End, Payload, Position, RecordKey, SequencedNotice, StreamEvent};
use crate::registry::Lifecycle;

impl Worker {
    fn decoder(&mut self) -> &mut dyn StreamDecoder {
        if self.decoder.is_none() {
            self.decoder = Some(self.new_decoder());
        }
        self.phase = Phase::Processing;
        self.decoder.as_mut().expect("just set").as_mut()
    }

    fn new_decoder(&self) -> Box<dyn StreamDecoder> {
        if self.quarantined {
            self.ports().decoder(|_| Box::new(Unparsed))
        } else {
            self.ports()
                .decoder(|view| (self.ports().decoders)(&self.origin, view))
        }
    }

    pub(super) fn take_gap(&mut self, gap: Gap, output: &mut Output) {
        // Each fact is whole in itself: those that were lost are in the ledger.
        if self.origin.stream.is_none() {
            return;
        }
        let position = self.guard.position;
        self.decoder().gap(gap, position.timestamp_ns, output);
        // A predecessor's position already lies behind what was lost with it.
        if gap.reason != GapReason::Restart {
            self.guard.skip_offset(gap.bytes);
        }
        self.emit(Cause::Event, position.sequence, 0, output);
    }

    pub(super) fn take_notices(&mut self, notices: Vec<SequencedNotice>, output: &mut Output) {
        for SequencedNotice { sequence, notice } in notices {
            self.decoder().notice(&notice, output);
            let sequence = sequence.max(self.guard.position.sequence);
            self.emit(Cause::Notice, sequence, 0, output);
        }
        self.forget_places();
    }

    /// Takes events in a turn that `began` at that time, until there are none or it has done enough. What the
    /// decoder need not hold any more comes first.
    pub(super) fn take_events(&mut self, began: Instant, output: &mut Output) {
        while !self.guard.is_spent() {
            if self.has_more() {
                self.decoder().go_on(output);
                self.emit(Cause::Event, self.guard.position.sequence, 0, output);
                self.guard.end_step();
            } else if !self.take_event(output) {
                break;
            }
            if began.elapsed() >= self.ports().timings.turn_time {
                self.guard.spend_turn();
            }
        }
    }

    /// Feeds the next event. Returns false if there is none.
    fn take_event(&mut self, output: &mut Output) -> bool {
        let Some(event) = self.guard.begin() else {
            return false;
        };
        match &event.payload {
            Payload::Bytes(payload) => self.take_payload(&event, payload, output),
            Payload::Fact(observed) => self.take_fact(observed, output),
        }
        self.emit(Cause::Event, event.sequence, 0, output);
        if self.ports().clock == Clock::Stream && self.awaits_notice() {
            let worker = self.guard.stream.worker;
            self.ports()
                .places
                .note(worker, event.timestamp_ns, event.sequence);
        }
        let held = self.buffered_bytes();
        self.guard.commit(&event, held);
        if held > self.ports().limits.buffered_per_connection {
            self.shed_held(output);
        }
        true
    }

    fn take_payload(&mut self, event: &StreamEvent, payload: &Bytes, output: &mut Output) {
        self.check_new_connection(event.sequence, payload, output);
        self.check_continuity(event, output);
        if !payload.is_empty() {
            self.decoder().feed(payload, event.timestamp_ns, output);
        }
    }

    /// A fact is a message as it is, in every view, and each has an origin of its own.
    fn take_fact(&mut self, observed: &Observed, output: &mut Output) {
        self.origin = Arc::new(observed.origin());
        self.emit_in_every_view(
            Decoded {
                first_ns: observed.timestamp_ns,
                last_ns: observed.timestamp_ns,
                exchange: None,
                content: Content::Fact(Box::new(observed.fact.clone())),
            },
            output,
        );
    }

    fn emit_in_every_view(&self, message: Decoded, output: &mut Output) {
        let others = self.ports().views.len().saturating_sub(1);
        output.other_views.resize_with(others, Vec::new);
        for messages in &mut output.other_views {
            messages.push(message.clone());
        }
        output.messages.push(message);
    }

    /// Lets the decoder continue with its held input.
    pub(super) fn has_more(&self) -> bool {
        self.decoder.as_ref().is_some_and(|decoder| decoder.has_more())
    }

    /// The end of a plain stream is not reported, and its key may belong to another connection by
    /// now. A decoder that was kept ends where one certainly begins.
    fn check_new_connection(&mut self, sequence: u64, payload: &Bytes, output: &mut Output) {
        if !std::mem::take(&mut self.just_woken) || self.quarantined {
            return;
        }
        if let Some(decoder) = self.decoder.as_mut()
            && decoder.is_begun_anew(payload)
        {
            decoder.close(output);
            self.decoder = None;
            self.emit(Cause::Event, sequence, 0, output);
            self.decoder().begin_late(None);
        }
    }

    /// Reports bytes that are missing before `event` to the decoder. The first event of a stream
    /// only sets where it starts: the capture may have come late.
    fn check_continuity(&mut self, event: &StreamEvent, output: &mut Output) {
        let (expected, offset) = match (self.guard.position.offset, event.stream_offset) {
            (Some(expected), Some(offset)) => (expected, offset),
            // A recording may begin in the middle of a connection.
            (None, Some(1..)) => return self.decoder().begin_late(Some(0)),
            _ => return,
        };
        let bytes = match offset.checked_sub(expected) {
            Some(0) => return,
            Some(missing) => Some(missing),
            // The offsets began again at 0, so the number of bytes in between is unknown.
            None => None,
        };
        let ledger = &self.guard.ports.ledger;
        ledger.miss_of(self.origin.name(), bytes.unwrap_or(0));
        let gap = Gap {
            bytes,
            reason: GapReason::KernelLoss,
        };
        self.decoder().gap(gap, event.timestamp_ns, output);
    }

    /// Formats the decoder's messages and passes on its notices.
    fn emit(&mut self, cause: Cause, sequence: u64, deadline_ns: u64, output: &mut Output) {
        let key = RecordKey {
            sequence,
            cause,
            deadline_ns,
            ..RecordKey::default()
        };
        self.format(key, output);
        for skipped in output.skipped.drain(..) {
            let ledger = &self.guard.ports.ledger;
            match Loss::from(skipped.reason) {
                // Nothing is missing from a connection that nobody asked for.
                Loss::Unwanted => ledger.lose_delivered(Loss::Unwanted, skipped.bytes),
                loss => ledger.lose_delivered_of(self.origin.name(), loss, skipped.bytes),
            }
        }
        let notices = output.notices.drain(..);
        let told = notices.map(|notice| SequencedNotice { sequence, notice });
        self.guard.turn().notices.extend(told);
    }

    /// Formats messages, for each output those of its view.
    fn format(&mut self, key: RecordKey, output: &mut Output) {
        if output.messages.is_empty() && output.other_views.iter().all(Vec::is_empty) {
            return;
        }
        let ports = Arc::clone(&self.guard.ports);
        let waited = ports.clock == Clock::Stream && ports.places.hold(self.guard.stream.worker);
        // Those with a place of their own come first: no place is before the last one.
        for is_placed in [true, false] {
            let mut shared = None;
            for (batch, formatted) in ports.formatted.iter().enumerate() {
                let messages = match formatted.view {
                    0 => Some(&output.messages),
                    view => output.other_views.get(view - 1),
                };
                let pairs = ports.views.get(formatted.view).is_some_and(|view| view.pairs());
                let Some(messages) = messages.filter(|_| (waited && pairs) == is_placed) else {
                    continue;
                };
                if is_placed {
                    self.format_placed(batch, formatted, messages, key);
                } else if !messages.is_empty() {
                    let key = *shared.get_or_insert_with(|| self.guard.place(key));
                    let out = self.guard.turn().records(batch);
                    formatted.format.write(&self.origin, messages, out);
                    self.guard.commit_records(batch, key);
                }
            }
        }
        output.messages.clear();
        output.other_views.iter_mut().for_each(Vec::clear);
    }

    fn forget_places(&self) {
        if self.ports().clock == Clock::Stream && !self.awaits_notice() && !self.has_more() {
            self.ports().places.forget(self.guard.stream.worker);
        }
    }

    /// Formats messages of a replay that waited for a notice, each at the place of the event that
    /// completed it.
    fn format_placed(&mut self, batch: usize, formatted: &Formatted, messages: &[Decoded], key: RecordKey) {
        let worker = self.guard.stream.worker;
        for message in messages {
            let held = self.guard.ports.places.sequence(worker, message.last_ns);
            let key = held.map_or(key, |sequence| RecordKey {
                sequence,
                cause: Cause::Event,
                ..key
            });
            let key = self.guard.place(key);
            let out = self.guard.turn().records(batch);
            formatted
                .format
                .write(&self.origin, std::slice::from_ref(message), out);
            self.guard.commit_records(batch, key);
        }
    }

    /// Shows the bytes held, and those that follow as they were captured: decoding this direction takes the
    /// time of all others.
    pub(super) fn quarantine(&mut self, output: &mut Output) {
        if self.quarantined || self.origin.stream.is_none() {
            return;
        }
        self.quarantined = true;
        tracing::warn!(
            "decoding {} takes too long: it is shown as captured from here on",
            printable(self.origin.name())
        );
        let gauges = &self.guard.ports.ledger.gauges;
        gauges.quarantined.fetch_add(1, Relaxed);
        self.decoder().close(output);
        self.decoder = None;
        let gap = Gap {
            bytes: None,
            reason: GapReason::Quarantined,
        };
        let Position {
            sequence,
            timestamp_ns,
            ..
        } = self.guard.position;
        self.decoder().gap(gap, timestamp_ns, output);
        self.emit(Cause::Event, sequence, 0, output);
    }

    pub(super) fn awaits_notice(&self) -> bool {
        self.decoder
            .as_ref()
            .is_some_and(|decoder| decoder.awaits_notice())
    }

    /// Returns true if the other direction may still decide about what is held.
    pub(super) fn awaits_other(&self) -> bool {
        let decoder = self.decoder.as_ref();
        decoder.is_some_and(|decoder| decoder.awaits_notice() || decoder.awaits_end())
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.decoder
            .as_ref()
            .map_or(0, |decoder| decoder.buffered_bytes())
    }

    /// Lets the decoder continue without notices that cannot come, and sets when it is to be looked
    /// at next.
    pub(super) fn settle(&mut self, now_ns: u64, output: &mut Output) {
        let Some(decoder) = self.decoder.as_mut() else {
            self.timing.touch(now_ns, false);
            return;
        };
        if decoder.awaits_notice() && !self.has_sibling {
            decoder.notice_overdue(output);
            self.emit(Cause::Event, self.guard.position.sequence, 0, output);
        }
        let awaits = self.awaits_notice();
        self.timing.touch(now_ns, awaits);
        self.forget_places();
        self.time_parts();
    }

    /// Sets the time at which the received parts of unfinished messages are shown.
    pub(super) fn time_parts(&mut self) {
        let has_parts = self.decoder.as_ref().is_some_and(|decoder| decoder.has_parts());
        self.timing.has_parts(has_parts);
    }

    /// The decoder holds more than it may: what it holds is shown as incomplete, and if that
    /// does not free it, it is replaced.
    fn shed_held(&mut self, output: &mut Output) {
        self.decoder().idle(output);
        self.emit(Cause::Event, self.guard.position.sequence, 0, output);
        if self.buffered_bytes() > self.ports().limits.buffered_per_connection {
            self.decoder = None;
            let lost = self.guard.lose_held(self.origin.name(), Loss::BufferLimit);
            let gap = Gap {
                bytes: Some(lost),
                reason: GapReason::Shed,
            };
            let timestamp_ns = self.guard.position.timestamp_ns;
            self.decoder().gap(gap, timestamp_ns, output);
            self.emit(Cause::Event, self.guard.position.sequence, 0, output);
        }
    }

    /// Handles in order all that has expired by `now_ns`.
    pub(super) fn expire(&mut self, now_ns: u64, sequence: u64, output: &mut Output) {
        while let Some((deadline_ns, expiry)) = self.next_expiry() {
            if deadline_ns > now_ns {
                break;
            }
            if expiry == Expiry::NoticeOverdue && self.ports().clock == Clock::Live {
                let question = self.timing.ask(now_ns);
                self.guard.turn().asks = Some(question);
                continue;
            }
            self.timing.handled(expiry);
            match (expiry, self.lifecycle) {
                (Expiry::NoticeOverdue, _) => self.end_wait(output),
                (Expiry::Parts, _) => self.decoder().emit_parts(output),
                (Expiry::Idle, Lifecycle::Connection) => self.decoder().idle(output),
                (Expiry::Idle, Lifecycle::Plain) => self.asks_to_end = true,
            }
            self.emit(Cause::Expiry, sequence, deadline_ns, output);
        }
    }

    /// The other direction has caught up with what was asked: no notice of it will come.
    pub(super) fn take_answer(&mut self, question: u16, output: &mut Output) {
        if self.timing.is_answered_by(question) {
            self.end_wait(output);
            self.emit(Cause::Expiry, self.guard.position.sequence, self.now_ns(), output);
        }
    }

    /// Lets the decoder continue without the notice that it waits for.
    pub(super) fn end_wait(&mut self, output: &mut Output) {
        self.timing.handled(Expiry::NoticeOverdue);
        self.decoder().notice_overdue(output);
        self.time_parts();
    }

    pub(super) fn next_expiry(&self) -> Option<(u64, Expiry)> {
        let ends_by_silence = self.lifecycle == Lifecycle::Plain;
        let waits_for_idle = ends_by_silence || self.guard.held() > 0;
        self.timing.next(&self.ports().timings, waits_for_idle)
    }

    /// Shows incomplete messages, unless that has been done; the decoder continues in the next
    /// Worker.
    pub(super) fn fall_asleep(&mut self, end: End, sequence: u64, output: &mut Output) {
        let Some(decoder) = self.decoder.as_mut() else {
            return self.close(end, sequence, output);
        };
        self.phase = Phase::Asleep;
        if decoder.awaits_notice() {
            decoder.notice_overdue(output);
        }
        while decoder.has_more() {
            decoder.go_on(output);
        }
        if end == End::Idle {
            decoder.idle(output);
        }
        decoder.sleep();
        self.emit_last(end, sequence, output);
        self.guard.closed = true;
    }

    /// Emits all that is held; the stream ends here.
    pub(super) fn close(&mut self, end: End, sequence: u64, output: &mut Output) {
        self.phase = Phase::Done;
        if let Some(decoder) = self.decoder.as_mut() {
            decoder.close(output);
        }
        if end == End::Shed {
            let marker = shed_marker(self.guard.position.timestamp_ns);
            self.emit_in_every_view(marker, output);
        }
        self.emit_last(end, sequence, output);
        self.guard.closed = true;
        self.guard.hold(0);
        self.decoder = None;
    }

    fn emit_last(&mut self, end: End, sequence: u64, output: &mut Output) {
        let sequence = sequence.max(self.guard.position.sequence);
        let deadline_ns = if end == End::Idle {
            self.timing.idle_deadline_ns(&self.ports().timings)
        } else {
            0
        };
        self.emit(Cause::Expiry, sequence, deadline_ns, output);
    }
}

/// Marks in the output that the pipeline shed a connection that may continue.
fn shed_marker(timestamp_ns: u64) -> Decoded {
    let gap = Gap {
        bytes: None,
        reason: GapReason::Shed,
    };
    Decoded {
        first_ns: timestamp_ns,
        last_ns: timestamp_ns,
        exchange: None,
        content: Content::Gap(gap),
    }
}

//! Replay in lockstep.
//!
//! A recording is processed in rounds, one per batch of the `RingReader`. Within a round the
//! Workers run in parallel until none of them has anything left to do; what depends on the order in
//! which they answer — replacements, notices — is only acted on then, in a fixed order. So the
//! records of a round are a function of the events alone, and the Sink, notified of the round's
//! end, writes them in the order of their [`RecordKey`](crate::messages::RecordKey).
//!
//! ```text
//! batch ─▶ expire what the clock passed ─▶ feed ─▶ exits, notices (until quiet) ─▶ RoundEnded
//! ```
//!
//! Time costs only what it changes: a heap holds the next deadline of each Worker, and a jump
//! of the clock wakes those whose deadline it passed, once each, with the time it jumped to.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use actix::prelude::*;
use ecapture_protocols::CapturedEvent;

use super::{Processor, Stream};
use crate::messages::{
    Advance, EventBatch, RoundEnded, SequencedNotice, StreamRef, TurnReport, WorkerExited,
};

/// Input from the `RingReader` that is not yet processed; bounded by the events in flight.
enum Input {
    Batch {
        first_sequence: u64,
        advance_ns: Option<u64>,
        events: VecDeque<CapturedEvent>,
    },
    End,
}

#[derive(Default)]
enum Stage {
    /// Between rounds.
    #[default]
    Idle,
    /// Workers act on the time; these events come next.
    Expiring {
        first_sequence: u64,
        events: VecDeque<CapturedEvent>,
    },
    /// Workers are fed.
    Feeding,
    /// Workers end, after the last round.
    Draining,
}

/// How much of its usual payload a round gets, by the output of the last ones. The Workers are
/// at rest when it learns, so it depends on the events alone.
#[derive(Debug)]
struct RoundSize {
    /// Halvings of the usual size.
    halved: u32,
    /// Bytes formatted up to the end of the last round.
    produced: u64,
}

impl Default for RoundSize {
    /// The first rounds are small: HPACK may make eight times as much of a byte as content codings, and
    /// nothing is known of the recording.
    fn default() -> Self {
        Self {
            halved: 3,
            produced: 0,
        }
    }
}

impl RoundSize {
    fn bytes(&self, usual: usize) -> usize {
        usual.checked_shr(self.halved).unwrap_or(0).max(1)
    }

    /// A round ends with `produced` bytes formatted since the start of the run. One that made more than
    /// a quarter of `most` makes the next smaller, one that made less than an eighth larger.
    fn learn(&mut self, produced: u64, most: u64) {
        let made = produced - std::mem::replace(&mut self.produced, produced);
        if made > most / 4 {
            self.halved = (self.halved + 1).min(usize::BITS);
        } else if made < most / 8 {
            self.halved = self.halved.saturating_sub(1);
        }
    }
}

/// The state of the lockstep.
#[derive(Default)]
pub(super) struct Rounds {
    size: RoundSize,
    waits_for_output: bool,
    queue: VecDeque<Input>,
    stage: Stage,
    /// Messages that Workers have not answered: the sum of `unanswered` of all streams.
    outstanding: u64,
    exits: Vec<WorkerExited>,
    notices: Vec<(StreamRef, Vec<SequencedNotice>)>,
    deadlines: BinaryHeap<Reverse<(u64, StreamRef)>>,
}

impl Rounds {
    pub(super) fn queue_batch(&mut self, batch: EventBatch) {
        self.queue.push_back(Input::Batch {
            first_sequence: batch.first_sequence,
            advance_ns: batch.advance_ns,
            events: batch.events.into(),
        });
    }

    pub(super) fn queue_end(&mut self) {
        self.queue.push_back(Input::End);
    }

    /// Counts a message that was sent to the stream's Worker, and that it will answer.
    pub(super) fn expect_answer(&mut self, stream: &mut Stream) {
        stream.unanswered = stream.unanswered.wrapping_add(1);
        self.outstanding += 1;
    }

    /// Counts an answer of the stream's Worker.
    fn take_answer(&mut self, stream: &mut Stream) {
        stream.unanswered = stream.unanswered.wrapping_sub(1);
        self.outstanding -= 1;
    }

    /// Expects no more answers of the stream's Worker, which has ended.
    fn give_up_answers(&mut self, stream: &mut Stream) {
        self.outstanding -= u64::from(std::mem::take(&mut stream.unanswered));
    }

    /// Queues the stream's deadline, unless an earlier one is queued.
    fn queue_deadline(&mut self, id: StreamRef, stream: &mut Stream) {
        if stream.deadline_ns < stream.queued_deadline_ns {
            stream.queued_deadline_ns = stream.deadline_ns;
            self.deadlines.push(Reverse((stream.deadline_ns, id)));
        }
    }
}

impl Processor {
    /// A Worker has answered one message.
    pub(super) fn note_report(&mut self, report: TurnReport) {
        let TurnReport {
            stream,
            notices,
            deadline_ns,
            answers,
            ..
        } = report;
        if !notices.is_empty() {
            self.rounds.notices.push((stream, notices));
        }
        if let Some(current) = self.registry.served_by(stream).filter(|_| answers) {
            self.rounds.take_answer(current);
            current.deadline_ns = deadline_ns.unwrap_or(u64::MAX);
            self.rounds.queue_deadline(stream, current);
        }
    }

    /// A Worker has ended; it will not answer what it has not answered.
    pub(super) fn note_exit(&mut self, exited: WorkerExited) {
        if let Some(current) = self.registry.served_by(exited.stream) {
            self.rounds.give_up_answers(current);
            current.addr = None;
            self.rounds.exits.push(exited);
        }
    }

    /// Takes every step of the current and the following rounds that can be taken now.
    pub(super) fn advance_rounds(&mut self, ctx: &mut Context<Self>) {
        while self.rounds.outstanding == 0 {
            if self.settle_round(ctx) {
                continue;
            }
            match std::mem::take(&mut self.rounds.stage) {
                Stage::Idle => {
                    if !self.begin_round(ctx) {
                        return;
                    }
                }
                Stage::Expiring {
                    first_sequence,
                    events,
                } => {
                    self.keep_limits();
                    self.take_round(first_sequence, events);
                    self.dispatch(ctx);
                    self.rounds.stage = Stage::Feeding;
                }
                Stage::Feeding => self.end_round(),
                Stage::Draining => {
                    self.rounds.stage = Stage::Draining;
                    self.finish_if_drained(ctx);
                    return;
                }
            }
        }
    }

    /// Acts on what the Workers of the round have caused, in a fixed order: notices first, since
    /// an exit may release a Worker that waits for the last of them. Returns false if there was nothing.
    fn settle_round(&mut self, ctx: &mut Context<Self>) -> bool {
        if !self.rounds.notices.is_empty() {
            for (stream, notices) in std::mem::take(&mut self.rounds.notices) {
                self.pass_notices(stream, notices);
            }
            return true;
        }
        if !self.rounds.exits.is_empty() {
            let mut exits = std::mem::take(&mut self.rounds.exits);
            exits.sort_by_key(|exited| exited.stream);
            for exited in exits {
                self.settle_exit(exited, ctx);
            }
            self.dispatch(ctx);
            return true;
        }
        false
    }

    /// Starts the next round. Returns false if there is none.
    fn begin_round(&mut self, ctx: &mut Context<Self>) -> bool {
        if !self.rounds.queue.is_empty() && !self.shared().ledger.output_has_room() {
            self.wait_for_output(ctx);
            return false;
        }
        match self.rounds.queue.pop_front() {
            None => false,
            Some(Input::Batch {
                first_sequence,
                advance_ns,
                events,
            }) => {
                if let Some(now_ns) = advance_ns {
                    self.now_ns = self.now_ns.max(now_ns);
                    self.expire();
                }
                self.rounds.stage = Stage::Expiring {
                    first_sequence,
                    events,
                };
                true
            }
            Some(Input::End) => {
                self.source_ended = true;
                self.rounds.stage = Stage::Draining;
                self.drain(ctx);
                self.registry.len() > 0
            }
        }
    }

    /// Wakes the Workers whose deadline has passed.
    #[expect(clippy::disallowed_methods, reason = "one per Worker and round")]
    fn expire(&mut self) {
        let (now_ns, sequence) = (self.now_ns, self.last_sequence);
        while let Some(&Reverse((deadline_ns, stream))) = self.rounds.deadlines.peek() {
            if deadline_ns > now_ns {
                return;
            }
            self.rounds.deadlines.pop();
            let Some(current) = self.registry.served_by(stream) else {
                continue;
            };
            current.queued_deadline_ns = u64::MAX;
            if current.ending.is_some() || current.deadline_ns == u64::MAX {
                continue;
            }
            if current.deadline_ns > now_ns {
                self.rounds.queue_deadline(stream, current);
                continue;
            }
            if let Some(addr) = &current.addr {
                addr.do_send(Advance { now_ns, sequence });
                self.rounds.expect_answer(current);
            }
        }
    }

    /// Looks again for room in the output after a moment.
    fn wait_for_output(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.rounds.waits_for_output, true) {
            ctx.run_later(self.shared().timings.retry_delay, |processor, ctx| {
                processor.rounds.waits_for_output = false;
                processor.advance_rounds(ctx);
            });
        }
    }

    /// Routes as many of the events as one round may have; the rest is the next round. How many
    /// depends on the events alone.
    fn take_round(&mut self, mut first_sequence: u64, mut events: VecDeque<CapturedEvent>) {
        let limits = self.shared().limits;
        let most_bytes = self.rounds.size.bytes(limits.round_bytes());
        let last_stream = self.next_worker + limits.round_streams() as u64;
        let mut bytes = 0;
        while bytes < most_bytes && self.next_worker < last_stream {
            let Some(event) = events.pop_front() else {
                return;
            };
            bytes += usize::try_from(event.payload_bytes()).unwrap_or(usize::MAX);
            self.take_event(first_sequence, event);
            first_sequence += 1;
        }
        if !events.is_empty() {
            self.rounds.queue.push_front(Input::Batch {
                first_sequence,
                advance_ns: None,
                events,
            });
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "one per round, and rounds wait for their events"
    )]
    fn end_round(&mut self) {
        let produced = self.shared().ledger.produced_bytes();
        let most = self.shared().limits.output_memory() as u64;
        self.rounds.size.learn(produced, most);
        let now_ns = self.now_ns;
        self.round_ports
            .iter()
            .for_each(|port| port.do_send(RoundEnded { now_ns }));
    }
}

//! The Worker: decodes and formats one direction of one connection.
//!
//! * receives: [`WorkerBatch`], [`Notices`], [`Advance`], [`Retire`] from the Processor
//! * sends: through the [`Outbox`] of its Arbiter, records to the Sink and reports and its exit
//!   notice to the Processor
//! * bound: `worker_mailbox` batches; while the outbox is full it takes nothing
//! * lost on restart: the decoder's state and the event that broke it; events of the same batch
//!   go to the successor
//!
//! ```text
//! Init ──first bytes──▶ Processing ──Retire──▶ Done
//!   └──────────────────────Retire───────────────▲
//! ```
//!
//! What has to survive a failure — unfed events, finished records, counters — is kept in the
//! [`ExitGuard`], whose drop hands it on.

mod guard;
mod outbox;
mod timing;
mod unparsed;

use std::sync::Arc;

use actix::prelude::*;
use ecapture_protocols::decoder::StreamDecoder;
use ecapture_protocols::message::{Content, Gap, GapReason, Message as Decoded};
use ecapture_protocols::{Format, Identity, Output};
use tokio::time::Instant;

pub(crate) use guard::{ExitGuard, Gauge};
pub(crate) use outbox::{Outbox, OutboxPorts};
use timing::{Expiry, Timing};
use unparsed::Unparsed;

use crate::ledger::{Ledger, Loss};
use crate::messages::{
    Advance, Cause, End, Notices, RecordKey, Retire, SequencedNotice, StreamEvent, WorkerBatch, WorkerReport,
};
use crate::registry::Lifecycle;
use crate::supervision::nanoseconds;
use crate::{Clock, DecoderFactory, PipelineLimits, Timings};

/// What all Workers of one Arbiter share.
pub(crate) struct WorkerPorts {
    pub(crate) clock: Clock,
    pub(crate) started_at: Instant,
    pub(crate) limits: PipelineLimits,
    pub(crate) timings: Timings,
    pub(crate) decoders: DecoderFactory,
    pub(crate) format: Arc<dyn Format>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) outbox: Arc<Outbox>,
}

impl WorkerPorts {
    /// The runtime's time since the start of the pipeline.
    fn now_ns(&self) -> u64 {
        nanoseconds(self.started_at.elapsed())
    }
}

/// What a new Worker is made of.
pub(crate) struct WorkerSeed {
    pub(crate) identity: Arc<Identity>,
    pub(crate) lifecycle: Lifecycle,
    /// No decoder: this connection's decoders failed too often.
    pub(crate) quarantined: bool,
    pub(crate) guard: ExitGuard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Init,
    Processing,
    Done,
}

/// See the module's documentation.
pub(crate) struct Worker {
    identity: Arc<Identity>,
    decoder: Option<Box<dyn StreamDecoder>>,
    timing: Timing,
    handled: u32,
    lifecycle: Lifecycle,
    phase: Phase,
    quarantined: bool,
    has_sibling: bool,
    tick_armed: bool,
    holds_on: bool,
    idle_after: Option<u64>,
    idle_deadline_ns: u64,
    /// Dropped last: the decoder is gone when the exit is told.
    guard: ExitGuard,
}

impl Worker {
    pub(crate) fn new(seed: WorkerSeed) -> Self {
        Self {
            identity: seed.identity,
            decoder: None,
            timing: Timing::default(),
            handled: 0,
            lifecycle: seed.lifecycle,
            phase: Phase::Init,
            quarantined: seed.quarantined,
            has_sibling: false,
            tick_armed: false,
            holds_on: false,
            idle_after: None,
            idle_deadline_ns: 0,
            guard: seed.guard,
        }
    }

    fn ports(&self) -> &WorkerPorts {
        &self.guard.ports
    }

    /// Handles one message: `work` with the Arbiter's turn, then the report on it.
    fn take_turn(
        &mut self,
        inbox: Vec<StreamEvent>,
        ctx: &mut Context<Self>,
        work: impl FnOnce(&mut Self, &mut Output),
    ) {
        let mut output = self.guard.begin_turn(inbox);
        work(self, &mut output);
        let held = self.buffered_bytes();
        self.guard.hold(held);
        let notices = self.guard.end_turn(output);
        self.report(notices);
        if self.phase == Phase::Done {
            ctx.stop();
            return;
        }
        self.arm_tick(ctx);
        self.wait_for_room(ctx);
    }

    fn decoder(&mut self) -> &mut dyn StreamDecoder {
        if self.decoder.is_none() {
            self.decoder = Some(self.new_decoder());
        }
        self.phase = Phase::Processing;
        self.decoder.as_mut().expect("just set").as_mut()
    }

    fn new_decoder(&self) -> Box<dyn StreamDecoder> {
        if self.quarantined {
            Box::new(Unparsed)
        } else {
            (self.ports().decoders)(&self.identity)
        }
    }

    fn take_gap(&mut self, gap: Gap, output: &mut Output) {
        let position = self.guard.position;
        self.decoder().gap(gap, position.timestamp_ns, output);
        // A predecessor's position already lies behind what was lost with it.
        if gap.reason != GapReason::Restart {
            self.guard.skip_offset(gap.bytes);
        }
        self.emit(Cause::Event, position.sequence, 0, output);
    }

    fn take_notices(&mut self, notices: Vec<SequencedNotice>, output: &mut Output) {
        for SequencedNotice { sequence, notice } in notices {
            self.decoder().notice(&notice, output);
            let sequence = sequence.max(self.guard.position.sequence);
            self.emit(Cause::Notice, sequence, 0, output);
        }
    }

    fn take_events(&mut self, output: &mut Output) {
        while let Some(event) = self.guard.begin() {
            self.check_continuity(&event, output);
            if !event.payload.is_empty() {
                self.decoder().feed(&event.payload, event.timestamp_ns, output);
            }
            self.emit(Cause::Event, event.sequence, 0, output);
            let held = self.buffered_bytes();
            self.guard.commit(&event, held);
            if held > self.ports().limits.buffered_per_connection {
                self.relieve(output);
            }
        }
    }

    /// Tells the decoder when bytes are missing before `event`. The first event of a stream only
    /// sets where it starts: the capture may have come late.
    fn check_continuity(&mut self, event: &StreamEvent, output: &mut Output) {
        let (Some(expected), Some(offset)) = (self.guard.position.offset, event.stream_offset) else {
            return;
        };
        let bytes = match offset.checked_sub(expected) {
            Some(0) => return,
            Some(missing) => Some(missing),
            // The count began anew, so what lies between is unknown.
            None => None,
        };
        let gap = Gap {
            bytes,
            reason: GapReason::KernelLoss,
        };
        self.decoder().gap(gap, event.timestamp_ns, output);
    }

    /// Formats what the decoder put out and passes on what it told.
    fn emit(&mut self, cause: Cause, sequence: u64, deadline_ns: u64, output: &mut Output) {
        if !output.messages.is_empty() {
            let format = Arc::clone(&self.guard.ports.format);
            let out = self.guard.turn().record_bytes();
            format.write(&self.identity, &output.messages, out);
            let key = RecordKey {
                sequence,
                cause,
                deadline_ns,
                ..RecordKey::default()
            };
            self.guard.commit_record(key, output.messages.len());
            output.messages.clear();
        }
        for skipped in output.skipped.drain(..) {
            self.guard
                .ports
                .ledger
                .lose_delivered(Loss::from(skipped.reason), skipped.bytes);
        }
        let notices = output.notices.drain(..);
        let told = notices.map(|notice| SequencedNotice { sequence, notice });
        self.guard.turn().notices.extend(told);
    }

    fn awaits_notice(&self) -> bool {
        self.decoder
            .as_ref()
            .is_some_and(|decoder| decoder.awaits_notice())
    }

    fn buffered_bytes(&self) -> usize {
        self.decoder
            .as_ref()
            .map_or(0, |decoder| decoder.buffered_bytes())
    }

    /// Lets the decoder go on without notices that cannot come, and sets when it is to be looked
    /// at next.
    fn settle(&mut self, now_ns: u64, output: &mut Output) {
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
    }

    /// The decoder holds more than it may: what it holds is shown as incomplete, and if that
    /// does not free it, it is replaced.
    fn relieve(&mut self, output: &mut Output) {
        self.decoder().idle(output);
        self.emit(Cause::Event, self.guard.position.sequence, 0, output);
        if self.buffered_bytes() > self.ports().limits.buffered_per_connection {
            self.decoder = None;
            let lost = self.guard.lose_held(Loss::BufferLimit);
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
    fn expire(&mut self, now_ns: u64, sequence: u64, output: &mut Output) {
        while let Some((deadline_ns, expiry)) = self.next_expiry() {
            if deadline_ns > now_ns {
                break;
            }
            self.timing.handled(expiry);
            match (expiry, self.lifecycle) {
                (Expiry::NoticeOverdue, _) => self.decoder().notice_overdue(output),
                (Expiry::Idle, Lifecycle::Connection) => self.decoder().idle(output),
                (Expiry::Idle, Lifecycle::Plain) => {
                    self.idle_after = Some(self.guard.fed());
                    self.idle_deadline_ns = deadline_ns;
                }
            }
            self.emit(Cause::Expiry, sequence, deadline_ns, output);
        }
    }

    fn next_expiry(&self) -> Option<(u64, Expiry)> {
        let ends_by_silence = self.lifecycle == Lifecycle::Plain;
        let waits_for_idle = ends_by_silence || self.guard.held() > 0;
        self.timing.next(&self.ports().timings, waits_for_idle)
    }

    fn now_ns(&self) -> u64 {
        match self.ports().clock {
            Clock::Live => self.ports().now_ns(),
            Clock::Stream => self.guard.position.timestamp_ns,
        }
    }

    /// Tells the Processor, in a replay always, in a capture when there is something to tell.
    fn report(&mut self, notices: Vec<SequencedNotice>) {
        let idle_after = self.idle_after.take();
        let holds_on = std::mem::take(&mut self.holds_on);
        let has_something = holds_on || idle_after.is_some() || !notices.is_empty();
        let answers = self.ports().clock == Clock::Stream && self.phase != Phase::Done;
        let report = (has_something || answers).then(|| WorkerReport {
            stream: self.guard.stream,
            notices,
            idle_after,
            holds_on,
            deadline_ns: self.next_expiry().map(|(deadline_ns, _)| deadline_ns),
        });
        self.ports().outbox.post(report);
    }

    /// Takes nothing while the Sink refuses; lets the others run after every `budget` messages.
    fn wait_for_room(&mut self, ctx: &mut Context<Self>) {
        if !self.ports().outbox.has_room() {
            let pause = tokio::time::sleep(self.ports().timings.retry_delay);
            ctx.wait(
                pause
                    .into_actor(self)
                    .map(|(), worker, ctx| worker.wait_for_room(ctx)),
            );
            return;
        }
        self.handled = self.handled.wrapping_add(1);
        if self.handled.is_multiple_of(self.ports().limits.budget) {
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }

    /// The run interval: only while something can expire, so that a silent connection costs
    /// nothing.
    fn arm_tick(&mut self, ctx: &mut Context<Self>) {
        if self.tick_armed || self.ports().clock == Clock::Stream || self.next_expiry().is_none() {
            return;
        }
        self.tick_armed = true;
        ctx.run_later(self.ports().timings.run_interval, |worker, ctx| {
            worker.tick_armed = false;
            // The Processor is gone, and a timer must not keep its Workers.
            if !ctx.connected() {
                ctx.stop();
                return;
            }
            let now_ns = worker.ports().now_ns();
            let sequence = worker.guard.position.sequence;
            worker.take_turn(Vec::new(), ctx, |worker, output| {
                worker.expire(now_ns, sequence, output);
            });
        });
    }

    /// Emits all that is held; the stream ends here.
    fn close(&mut self, end: End, sequence: u64, output: &mut Output) {
        self.phase = Phase::Done;
        if let Some(decoder) = self.decoder.as_mut() {
            decoder.close(output);
        }
        if end == End::Shed {
            output
                .messages
                .push(shed_marker(self.guard.position.timestamp_ns));
        }
        let sequence = sequence.max(self.guard.position.sequence);
        let deadline_ns = if end == End::Idle {
            self.idle_deadline_ns
        } else {
            0
        };
        self.emit(Cause::Expiry, sequence, deadline_ns, output);
        self.guard.closed = true;
        self.guard.hold(0);
        self.decoder = None;
    }
}

/// Says in the output that the pipeline let go of a connection that may go on.
fn shed_marker(timestamp_ns: u64) -> Decoded {
    let gap = Gap {
        bytes: None,
        reason: GapReason::Shed,
    };
    Decoded {
        first_ns: timestamp_ns,
        last_ns: timestamp_ns,
        content: Content::Gap(gap),
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    /// Reached without `Retire` only when the Processor is gone: what is held is still shown.
    fn stopping(&mut self, _ctx: &mut Self::Context) -> Running {
        if self.phase != Phase::Done && !std::thread::panicking() {
            let mut output = self.guard.begin_turn(Vec::new());
            self.close(End::Drained, self.guard.position.sequence, &mut output);
            self.guard.end_turn(output);
        }
        Running::Stop
    }
}

impl Handler<WorkerBatch> for Worker {
    type Result = ();

    fn handle(&mut self, batch: WorkerBatch, ctx: &mut Self::Context) {
        let WorkerBatch {
            events,
            identity,
            gap,
            notices,
            has_sibling,
        } = batch;
        if let Some(identity) = identity {
            self.identity = identity;
        }
        self.has_sibling = has_sibling;
        self.take_turn(events, ctx, |worker, output| {
            if let Some(gap) = gap {
                worker.take_gap(gap, output);
            }
            worker.take_notices(notices, output);
            worker.take_events(output);
            let now_ns = worker.now_ns();
            worker.settle(now_ns, output);
        });
    }
}

impl Handler<Notices> for Worker {
    type Result = ();

    fn handle(&mut self, Notices(notices): Notices, ctx: &mut Self::Context) {
        self.take_turn(Vec::new(), ctx, |worker, output| {
            worker.take_notices(notices, output);
            let awaits = worker.awaits_notice();
            worker.timing.awaits(awaits);
        });
    }
}

impl Handler<Advance> for Worker {
    type Result = ();

    fn handle(&mut self, Advance { now_ns, sequence }: Advance, ctx: &mut Self::Context) {
        self.take_turn(Vec::new(), ctx, |worker, output| {
            worker.expire(now_ns, sequence, output);
        });
    }
}

impl Handler<Retire> for Worker {
    type Result = ();

    fn handle(&mut self, Retire { end, sequence, last }: Retire, ctx: &mut Self::Context) {
        self.take_turn(Vec::new(), ctx, |worker, output| {
            if !last && worker.awaits_notice() {
                worker.holds_on = true;
            } else {
                worker.close(end, sequence, output);
            }
        });
    }
}

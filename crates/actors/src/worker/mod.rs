//! The Worker: decodes and formats one direction of one connection.
//!
//! * receives: `WorkerBatch`, `PeerNotices`, `CatchUp`, `PeerCaughtUp`, `Advance`, `Retire` from the
//!   Processor
//! * sends: through the `Outbox` of its Arbiter, records to the Sink and reports and its exit
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
//! One that ends because its stream is silent leaves its decoder to the next one, which begins in
//! `Processing`.
//!
//! Everything that has to survive a failure (unfed events, finished records, counters) is kept in the
//! `ExitGuard`, whose drop hands it on.

mod decoding;
mod desk;
mod guard;
mod outbox;
mod places;
mod timing;
mod unparsed;
mod views;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use actix::dev::channel::channel;
use actix::prelude::*;
use actix_rt::ArbiterHandle;
use ecapture_protocols::{Format, Origin, Output, StreamDecoder, View};
use tokio::time::Instant;

pub(crate) use desk::Desk;
pub(crate) use guard::{ExitGuard, Gauge};
pub(crate) use outbox::{Outbox, OutboxPorts, RecordPort};
pub(crate) use places::Places;
use timing::Timing;
use views::Views;

use crate::ledger::Ledger;
use crate::messages::{
    Advance, CatchUp, End, Kept, PeerCaughtUp, PeerNotices, Retire, StreamEvent, TurnReport, WorkerBatch,
};
use crate::registry::Lifecycle;
use crate::supervision::nanoseconds;
use crate::{Clock, DecoderFactory, PipelineLimits, Timings};

/// The ports that all Workers of one Arbiter share.
pub(crate) struct WorkerPorts {
    pub(crate) clock: Clock,
    pub(crate) started_at: Instant,
    pub(crate) limits: PipelineLimits,
    pub(crate) timings: Timings,
    pub(crate) decoders: DecoderFactory,
    /// The views that decoders emit: each that a format needs, once.
    pub(crate) views: Vec<View>,
    /// The outputs of formatted records.
    pub(crate) formatted: Vec<Formatted>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) places: Places,
}

/// One output of formatted records.
pub(crate) struct Formatted {
    /// Its number.
    pub(crate) output: usize,
    /// The number of its view.
    pub(crate) view: usize,
    pub(crate) format: Arc<dyn Format>,
}

impl WorkerPorts {
    /// The decoder of a stream, by those of each view.
    fn decoder(&self, make: impl Fn(View) -> Box<dyn StreamDecoder>) -> Box<dyn StreamDecoder> {
        match self.views.as_slice() {
            &[view] => make(view),
            views => {
                let first = |is_it: fn(View) -> bool| views.iter().position(|view| is_it(*view));
                let notifies = first(View::joins).or(first(View::pairs)).unwrap_or(0);
                Box::new(Views::new(
                    views.iter().map(|&view| make(view)).collect(),
                    notifies,
                ))
            }
        }
    }

    /// The runtime's time since the start of the pipeline.
    fn now_ns(&self) -> u64 {
        nanoseconds(self.started_at.elapsed())
    }
}

/// The parts of a new Worker.
pub(crate) struct WorkerSeed {
    pub(crate) origin: Arc<Origin>,
    pub(crate) lifecycle: Lifecycle,
    /// No decoder: this connection's decoders failed too often.
    pub(crate) quarantined: bool,
    /// The state that the Worker before left when it ended by silence.
    pub(crate) kept: Option<Box<Kept>>,
    pub(crate) guard: ExitGuard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Init,
    Processing,
    /// The decoder is left to the next Worker.
    Asleep,
    Done,
}

/// See the module's documentation.
pub(crate) struct Worker {
    origin: Arc<Origin>,
    decoder: Option<Box<dyn StreamDecoder>>,
    timing: Timing,
    handled: u32,
    lifecycle: Lifecycle,
    phase: Phase,
    quarantined: bool,
    has_sibling: bool,
    tick_armed: bool,
    holds_on: bool,
    asks_to_end: bool,
    /// A plain stream continues after silence: its first bytes decide whether it is the same one.
    just_woken: bool,
    /// Dropped last: the decoder is gone when the exit is reported.
    guard: ExitGuard,
}

impl Worker {
    /// Starts a Worker on `arbiter`, or here.
    ///
    /// As actix would, but for two things: the mailbox has its bound from the beginning, and the
    /// future is in a box, because a task is rounded up to a multiple of 128 bytes, and an allocator
    /// adds as much again to align that, unless it is small.
    pub(crate) fn start_on(arbiter: Option<&ArbiterHandle>, seed: WorkerSeed) -> Addr<Self> {
        let (sender, receiver) = channel(seed.guard.ports.limits.worker_mailbox);
        let run = move || {
            let future = Context::with_receiver(receiver).into_future(Self::new(seed));
            actix_rt::spawn(Box::new(future));
        };
        match arbiter {
            None => run(),
            // If the Worker has ended, the seed's guard reports it.
            Some(arbiter) => drop(arbiter.spawn_fn(run)),
        }
        Addr::new(sender)
    }

    fn new(seed: WorkerSeed) -> Self {
        let mut worker = Self {
            origin: seed.origin,
            decoder: None,
            timing: Timing::default(),
            handled: 0,
            lifecycle: seed.lifecycle,
            phase: Phase::Init,
            quarantined: seed.quarantined,
            has_sibling: false,
            tick_armed: false,
            holds_on: false,
            asks_to_end: false,
            just_woken: false,
            guard: seed.guard,
        };
        if let Some(kept) = seed.kept {
            worker.resume(*kept);
        }
        worker
    }

    /// Continues with the state that the previous Worker left.
    fn resume(&mut self, kept: Kept) {
        self.quarantined |= kept.quarantined;
        self.decoder = Some(kept.decoder);
        self.phase = Phase::Processing;
        self.just_woken = self.lifecycle == Lifecycle::Plain;
        self.timing.touch(self.now_ns(), false);
    }

    fn ports(&self) -> &WorkerPorts {
        &self.guard.ports
    }

    /// Handles one message, or a part of one: `work` with the Arbiter's turn, then the report on it.
    ///
    /// A turn that has taken or put out enough ends between two events; the rest is for the next one,
    /// when the other Workers have run and the records of this one are on their way.
    fn take_turn(
        &mut self,
        inbox: VecDeque<StreamEvent>,
        ctx: &mut Context<Self>,
        work: impl FnOnce(&mut Self, &mut Output),
    ) {
        let mut output = self.guard.begin_turn(inbox);
        work(self, &mut output);
        let held = self.buffered_bytes();
        self.guard.hold(held);
        let report = self.report();
        let goes_on = self.guard.is_spent() || self.has_rest();
        let has_room = self.guard.end_turn(output, report);
        if self.phase == Phase::Asleep
            && let Some(decoder) = self.decoder.take()
        {
            self.guard.keep(decoder, self.quarantined);
        }
        if self.has_ended() {
            ctx.stop();
            return;
        }
        self.arm_tick(ctx);
        if !has_room {
            self.wait_for_room(ctx);
            return;
        }
        if goes_on {
            let others = tokio::task::yield_now().into_actor(self);
            ctx.wait(others.map(|(), worker, ctx| worker.go_on(ctx)));
            return;
        }
        self.handled = self.handled.wrapping_add(1);
        if self.handled.is_multiple_of(self.ports().limits.budget) {
            // Lets the others run.
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }

    /// Continues with the rest of the last turn.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        if self.has_rest() {
            self.take_turn(VecDeque::new(), ctx, Self::work_off);
        }
    }

    /// Events, or what the decoder need not hold any more, are left for the next turn.
    fn has_rest(&self) -> bool {
        self.guard.has_rest() || self.has_more()
    }

    /// Takes events until there are none or the turn has done enough.
    fn work_off(&mut self, output: &mut Output) {
        self.guard.ports.desk.take_up(&self.origin);
        let began = Instant::now();
        self.take_events(began, output);
        if self.ports().clock == Clock::Live && began.elapsed() >= self.ports().timings.turn_limit {
            self.quarantine(output);
        }
        if !self.has_rest() {
            let now_ns = self.now_ns();
            self.settle(now_ns, output);
        }
    }

    fn now_ns(&self) -> u64 {
        match self.ports().clock {
            Clock::Live => self.ports().now_ns(),
            Clock::Stream => self.guard.position.timestamp_ns,
        }
    }

    /// Returns the report for the Processor: in a replay always, in a capture only if there is
    /// something to report.
    fn report(&mut self) -> Option<TurnReport> {
        let notices = self.guard.take_notices();
        let idle_after = std::mem::take(&mut self.asks_to_end).then(|| self.guard.fed());
        let holds_on = std::mem::take(&mut self.holds_on);
        let asks = self.guard.turn().asks.take();
        let caught_up = self.guard.turn().caught_up.take();
        let has_something =
            holds_on || idle_after.is_some() || asks.is_some() || caught_up.is_some() || !notices.is_empty();
        let has_rest = self.has_rest();
        let answers = self.ports().clock == Clock::Stream && !self.has_ended() && !has_rest;
        (has_something || answers).then(|| TurnReport {
            stream: self.guard.stream,
            notices,
            idle_after,
            holds_on,
            asks,
            caught_up,
            answers,
            deadline_ns: self.next_expiry().map(|(deadline_ns, _)| deadline_ns),
        })
    }

    fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Asleep | Phase::Done)
    }

    /// Takes nothing while the Sink refuses.
    fn wait_for_room(&mut self, ctx: &mut Context<Self>) {
        let pause = tokio::time::sleep(self.ports().timings.retry_delay);
        let waits = pause.into_actor(self).map(|(), worker: &mut Self, ctx: &mut _| {
            if worker.ports().outbox.has_room() {
                worker.go_on(ctx);
            } else {
                worker.wait_for_room(ctx);
            }
        });
        ctx.wait(waits);
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
            // actix polls timers once more after a message has asked to wait, before it waits.
            if worker.has_rest() {
                worker.arm_tick(ctx);
                return;
            }
            let now_ns = worker.ports().now_ns();
            let sequence = worker.guard.position.sequence;
            worker.take_turn(VecDeque::new(), ctx, |worker, output| {
                worker.expire(now_ns, sequence, output);
            });
        });
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    /// Reached without `Retire` only when the Processor is gone: the bytes held are still shown.
    fn stopping(&mut self, _ctx: &mut Self::Context) -> Running {
        if !self.has_ended() && !std::thread::panicking() {
            let mut output = self.guard.begin_turn(VecDeque::new());
            self.close(End::Drained, self.guard.position.sequence, &mut output);
            self.guard.end_turn(output, None);
        }
        Running::Stop
    }
}

impl Handler<WorkerBatch> for Worker {
    type Result = ();

    fn handle(&mut self, batch: WorkerBatch, ctx: &mut Self::Context) {
        let WorkerBatch {
            events,
            origin,
            gap,
            notices,
            has_sibling,
        } = batch;
        if let Some(origin) = origin {
            self.origin = origin;
        }
        self.has_sibling = has_sibling;
        self.take_turn(events.into(), ctx, |worker, output| {
            if let Some(gap) = gap {
                worker.take_gap(gap, output);
            }
            worker.take_notices(notices, output);
            worker.work_off(output);
        });
    }
}

impl Handler<PeerNotices> for Worker {
    type Result = ();

    fn handle(&mut self, PeerNotices(notices): PeerNotices, ctx: &mut Self::Context) {
        self.take_turn(VecDeque::new(), ctx, |worker, output| {
            worker.take_notices(notices, output);
            // Something was released: what is waited for now was not asked about. Notices that only come to what is
            // held must not put off the end of a wait for one that is missing.
            if worker.buffered_bytes() < worker.guard.held() {
                worker.timing.begin_wait();
            }
            if worker.ports().clock == Clock::Live && worker.timing.heard() {
                let gauges = &worker.guard.ports.ledger.gauges;
                gauges.late_notices.fetch_add(1, Relaxed);
            }
            let awaits = worker.awaits_notice();
            worker.timing.awaits(awaits);
            worker.time_parts();
        });
    }
}

impl Handler<CatchUp> for Worker {
    type Result = ();

    /// A turn's rest is worked off before the mailbox is read again, so nothing is left from before.
    fn handle(&mut self, CatchUp { question }: CatchUp, ctx: &mut Self::Context) {
        self.take_turn(VecDeque::new(), ctx, |worker, _| {
            worker.guard.turn().caught_up = Some(question);
        });
    }
}

impl Handler<PeerCaughtUp> for Worker {
    type Result = ();

    fn handle(&mut self, PeerCaughtUp { question }: PeerCaughtUp, ctx: &mut Self::Context) {
        self.take_turn(VecDeque::new(), ctx, |worker, output| {
            worker.take_answer(question, output);
        });
    }
}

impl Handler<Advance> for Worker {
    type Result = ();

    fn handle(&mut self, Advance { now_ns, sequence }: Advance, ctx: &mut Self::Context) {
        self.take_turn(VecDeque::new(), ctx, |worker, output| {
            worker.expire(now_ns, sequence, output);
        });
    }
}

impl Handler<Retire> for Worker {
    type Result = ();

    fn handle(&mut self, Retire { end, sequence, last }: Retire, ctx: &mut Self::Context) {
        self.take_turn(VecDeque::new(), ctx, |worker, output| {
            if !last && worker.awaits_other() {
                worker.holds_on = true;
            } else if end.keeps_decoder() {
                worker.fall_asleep(end, sequence, output);
            } else {
                worker.close(end, sequence, output);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use actix::dev::ContextFut;

    use super::*;

    /// One byte more takes 128 more: the next size that allocators have is 640.
    #[test]
    fn a_worker_with_its_context_fits_into_512_bytes() {
        assert!(size_of::<ContextFut<Worker, Context<Worker>>>() <= 512);
    }
}

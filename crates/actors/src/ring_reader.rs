//! The `RingReader`: takes batches from the source, numbers the events, passes them on.
//!
//! * receives: the source's batches, `StopReading`
//! * sends: `EventBatch`, `SourceEnded` to the Processor; `CapturedBatch` to the Sinks of outputs of
//!   captured events
//! * bound: what one source batch makes; while that is refused, or too much is in flight, the
//!   source is not polled, so that a capture's events stay in the kernel's ring
//! * lost on restart: it is not restarted; the run ends, and what was read is still shown

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context as TaskContext, Poll};

use actix::dev::SendError;
use actix::prelude::*;
use ecapture_protocols::{CapturedEvent, EventFormat};
use futures_util::Stream;
use tokio::time::Instant;

use crate::ledger::Ledger;
use crate::loss::Loss;
use crate::messages::{
    ActorGuard, ActorName, CapturedBatch, EventBatch, Incidents, SourceEnded, StopReading,
};
use crate::supervision::nanoseconds;
use crate::{Clock, PipelineLimits, Timings};

/// Where the `RingReader`'s messages go, and what it needs to know.
pub(crate) struct ReaderPorts {
    pub(crate) clock: Clock,
    pub(crate) limits: PipelineLimits,
    pub(crate) timings: Timings,
    pub(crate) ledger: Arc<Ledger>,
    /// `None` without an output of what Workers make: then what the taps have taken is delivered.
    pub(crate) batches: Option<Recipient<EventBatch>>,
    pub(crate) taps: Vec<EventTap>,
    pub(crate) ended: Recipient<SourceEnded>,
    pub(crate) incidents: Incidents,
}

/// The way to the Sink of an output of captured events.
pub(crate) struct EventTap {
    /// The number of the output.
    pub(crate) output: usize,
    format: Arc<dyn EventFormat>,
    pub(crate) sink: Recipient<CapturedBatch>,
    /// The events that it has not got yet.
    pending: VecDeque<Vec<CapturedEvent>>,
}

impl EventTap {
    pub(crate) const fn new(
        output: usize,
        format: Arc<dyn EventFormat>,
        sink: Recipient<CapturedBatch>,
    ) -> Self {
        Self {
            output,
            format,
            sink,
            pending: VecDeque::new(),
        }
    }

    fn push(&mut self, events: &[CapturedEvent], ledger: &Ledger) {
        let taken = events.iter().filter(|event| self.format.takes(event));
        let taken: Vec<_> = taken.cloned().collect();
        if taken.is_empty() {
            return;
        }
        let (count, bytes) = measure(&taken);
        ledger.column(self.output).produce(count, bytes);
        self.pending.push_back(taken);
    }

    /// Sends the pending events. Returns false if the Sink refuses and has to be waited for.
    fn send(&mut self, ledger: &Ledger) -> bool {
        let column = ledger.column(self.output);
        while let Some(events) = self.pending.pop_front() {
            let (count, bytes) = measure(&events);
            column.send(bytes);
            match self.sink.try_send(CapturedBatch(events)) {
                Ok(()) => {}
                Err(SendError::Full(CapturedBatch(events))) if column.holds_reading => {
                    column.take_back(bytes);
                    self.pending.push_front(events);
                    return false;
                }
                Err(SendError::Full(_)) => ledger.lose_output(self.output, Loss::SinkFull, count, bytes),
                Err(SendError::Closed(_)) => ledger.lose_output(self.output, Loss::SinkClosed, count, bytes),
            }
        }
        true
    }
}

/// How the source is asked to end.
#[derive(Debug, Default)]
struct StopFlags {
    /// End as soon as nothing is ready.
    when_empty: AtomicBool,
    /// End now.
    now: AtomicBool,
}

/// The source, able to end early.
struct Stoppable<S> {
    source: S,
    flags: Arc<StopFlags>,
}

impl<S: Stream + Unpin> Stream for Stoppable<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if self.flags.now.load(Relaxed) {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.source).poll_next(context) {
            Poll::Pending if self.flags.when_empty.load(Relaxed) => Poll::Ready(None),
            polled => polled,
        }
    }
}

/// See the module's documentation.
pub(crate) struct RingReader {
    ports: ReaderPorts,
    flags: Arc<StopFlags>,
    next_sequence: u64,
    /// Replay: events of the round being collected, and the time it begins with.
    round: Vec<CapturedEvent>,
    round_bytes: usize,
    round_advance_ns: Option<u64>,
    /// Replay: the time last sent to the clock.
    told_ns: Option<u64>,
    outgoing: VecDeque<EventBatch>,
    stalled_since: Option<Instant>,
    /// After a stop: there is no time left to decode the events that still come.
    only_counts: bool,
    source_ended: bool,
    _guard: ActorGuard,
}

impl RingReader {
    /// An actor that reads `source`; to be called within its `create`.
    pub(crate) fn new<S>(ports: ReaderPorts, source: S, ctx: &mut Context<Self>) -> Self
    where
        S: Stream<Item = Vec<CapturedEvent>> + Unpin + 'static,
    {
        let flags = Arc::new(StopFlags::default());
        ctx.add_stream(Stoppable {
            source,
            flags: Arc::clone(&flags),
        });
        Self {
            flags,
            next_sequence: 1,
            round: Vec::new(),
            round_bytes: 0,
            round_advance_ns: None,
            told_ns: None,
            outgoing: VecDeque::new(),
            stalled_since: None,
            only_counts: false,
            source_ended: false,
            _guard: ActorGuard {
                actor: ActorName::RingReader,
                incidents: ports.incidents.clone(),
            },
            ports,
        }
    }

    fn take(&mut self, events: Vec<CapturedEvent>) {
        let kinds = Kinds::of(&events);
        let ledger = &self.ports.ledger;
        ledger.see(kinds.accountable(), kinds.bytes);
        ledger.gauges.closes.fetch_add(kinds.closes, Relaxed);
        ledger.gauges.observed.fetch_add(kinds.observed, Relaxed);
        match self.ports.clock {
            Clock::Live => self.push_batch(None, events),
            Clock::Stream => events.into_iter().for_each(|event| self.collect(event)),
        }
    }

    /// Adds one event to the round. A round ends when it is full and before the clock moves on
    /// by a run interval: where rounds end depends on the events alone, not on how the source
    /// hands them over.
    fn collect(&mut self, event: CapturedEvent) {
        let timestamp_ns = event.timestamp_ns();
        let told_ns = *self.told_ns.get_or_insert(timestamp_ns);
        let interval_ns = nanoseconds(self.ports.timings.run_interval);
        if timestamp_ns >= told_ns.saturating_add(interval_ns) {
            self.end_round();
            self.told_ns = Some(timestamp_ns);
            self.round_advance_ns = Some(timestamp_ns);
        }
        self.round_bytes += usize::try_from(event.payload_bytes()).unwrap_or(usize::MAX);
        self.round.push(event);
        let limits = &self.ports.limits;
        if self.round.len() >= limits.round_events || self.round_bytes >= limits.in_flight_bytes() / 4 {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        if !self.round.is_empty() {
            let round = std::mem::take(&mut self.round);
            let advance_ns = self.round_advance_ns.take();
            self.round_bytes = 0;
            self.push_batch(advance_ns, round);
        }
    }

    fn push_batch(&mut self, advance_ns: Option<u64>, events: Vec<CapturedEvent>) {
        let first_sequence = self.next_sequence;
        self.next_sequence += events.len() as u64;
        for tap in &mut self.ports.taps {
            tap.push(&events, &self.ports.ledger);
        }
        self.outgoing.push_back(EventBatch {
            first_sequence,
            advance_ns,
            events,
        });
    }

    /// Passes on the batch. If it is refused, it is kept, and the source waits.
    fn forward(&mut self, ctx: &mut Context<Self>) {
        if !self.send_taps() {
            self.try_later(ctx);
            return;
        }
        while let Some(batch) = self.outgoing.pop_front() {
            let Some(batches) = &self.ports.batches else {
                let kinds = Kinds::of(&batch.events);
                self.ports.ledger.deliver(kinds.accountable(), kinds.bytes);
                continue;
            };
            match batches.try_send(batch) {
                Ok(()) => {}
                Err(SendError::Full(batch)) => {
                    self.outgoing.push_front(batch);
                    self.try_later(ctx);
                    return;
                }
                Err(SendError::Closed(_)) => {
                    tracing::error!("the processor is gone, reading ends");
                    ctx.stop();
                    return;
                }
            }
        }
        if self.source_ended {
            self.tell_end(ctx);
        } else if self.ports.ledger.has_room() {
            self.resume();
        } else {
            self.stall();
            let ledger = Arc::clone(&self.ports.ledger);
            let room = async move { ledger.room().await };
            ctx.wait(room.into_actor(self).map(|(), reader, _| reader.resume()));
        }
    }

    /// Sends the pending events to all taps; one that refuses keeps no other one waiting. Returns false if
    /// any does.
    fn send_taps(&mut self) -> bool {
        let ReaderPorts { taps, ledger, .. } = &mut self.ports;
        let mut all_sent = true;
        for tap in taps {
            all_sent &= tap.send(ledger);
        }
        all_sent
    }

    fn try_later(&mut self, ctx: &mut Context<Self>) {
        self.stall();
        let pause = tokio::time::sleep(self.ports.timings.retry_delay);
        ctx.wait(pause.into_actor(self).map(|(), reader, ctx| reader.forward(ctx)));
    }

    #[expect(clippy::disallowed_methods, reason = "the last message of the run")]
    fn tell_end(&mut self, ctx: &mut Context<Self>) {
        self.resume();
        self.ports.ended.do_send(SourceEnded);
        ctx.stop();
    }

    fn stall(&mut self) {
        if self.stalled_since.is_none() {
            self.stalled_since = Some(Instant::now());
            self.ports.ledger.gauges.stalls.fetch_add(1, Relaxed);
        }
    }

    fn resume(&mut self) {
        if let Some(since) = self.stalled_since.take() {
            self.ports
                .ledger
                .gauges
                .stall_ns
                .fetch_add(nanoseconds(since.elapsed()), Relaxed);
        }
    }
}

/// Numbers of events of each kind.
#[derive(Default)]
struct Kinds {
    data: u64,
    /// Bytes of payload in all.
    bytes: u64,
    closes: u64,
    observed: u64,
}

impl Kinds {
    fn of(events: &[CapturedEvent]) -> Self {
        let mut kinds = Self::default();
        for event in events {
            match event {
                CapturedEvent::Data(data) => {
                    kinds.data += 1;
                    kinds.bytes += data.payload.len() as u64;
                }
                CapturedEvent::Close { .. } => kinds.closes += 1,
                CapturedEvent::Observed(observed) => {
                    kinds.observed += 1;
                    kinds.bytes += observed.fact.payload_bytes();
                }
            }
        }
        kinds
    }

    /// Those that are delivered to somebody, or lost.
    const fn accountable(&self) -> u64 {
        self.data + self.observed
    }
}

/// The number of events, and that of their bytes of payload.
fn measure(events: &[CapturedEvent]) -> (u64, u64) {
    let bytes = events.iter().map(CapturedEvent::payload_bytes).sum();
    (events.len() as u64, bytes)
}

impl Actor for RingReader {
    type Context = Context<Self>;
}

impl StreamHandler<Vec<CapturedEvent>> for RingReader {
    fn handle(&mut self, events: Vec<CapturedEvent>, ctx: &mut Self::Context) {
        if self.only_counts {
            let kinds = Kinds::of(&events);
            let ledger = &self.ports.ledger;
            ledger.lose_before_reading(Loss::ShutdownDeadline, kinds.accountable(), kinds.bytes);
            ledger.gauges.observed.fetch_add(kinds.observed, Relaxed);
            return;
        }
        self.take(events);
        self.forward(ctx);
    }

    /// The default would stop the actor with what it still holds.
    fn finished(&mut self, ctx: &mut Self::Context) {
        self.end_round();
        self.source_ended = true;
        self.forward(ctx);
    }
}

impl Handler<StopReading> for RingReader {
    type Result = ();

    /// A capture's source may hold events from before the stop: it is read while it has
    /// something ready, for a third of the drain's time at most. For another third its events are
    /// counted as lost.
    fn handle(&mut self, StopReading: StopReading, ctx: &mut Self::Context) {
        match self.ports.clock {
            Clock::Stream => self.flags.now.store(true, Relaxed),
            Clock::Live => {
                self.flags.when_empty.store(true, Relaxed);
                let third = self.ports.timings.drain_deadline / 3;
                ctx.run_later(third, |reader, _| reader.only_counts = true);
                ctx.run_later(2 * third, |reader, _| reader.flags.now.store(true, Relaxed));
            }
        }
    }
}

//! The Sink: writes records.
//!
//! * receives: `RecordBatch` from Workers, or `CapturedBatch` from the `RingReader`; `RoundEnded`,
//!   `Finish` from the Processor; `Tend` when its target asks for it or somebody asks for a `Renewal`
//! * sends: nothing
//! * bound: `sink_mailbox` or `event_sink_mailbox` batches; what it collects is part of the output in flight, which the
//!   reader waits for, and while the target fails at most
//!   [`PipelineLimits::sink_buffer`](crate::PipelineLimits::sink_buffer)
//! * lost on restart: it is not restarted; the run ends, and what it had is counted
//!
//! There is one for each output. In a capture records are written as they come: in order per Worker, and in no promised order
//! between Workers. In a replay the records of a round are sorted first. A record that is one end of an exchange
//! or a message whose other end is captured, too, waits for that, within bounds, and both are written as one. Output is collected
//! into large writes and flushed whenever the mailbox is empty.

mod buffer;
mod ends;
mod failing;
mod joining;
mod message_ends;
mod target;
mod unwritten;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use ecapture_protocols::{CapturedEvent, Records};
use tokio::sync::watch;
use tokio::time::Instant;

use buffer::Buffer;
use ends::Ends;
use message_ends::MessageEnds;
pub use target::{ByteStream, Resumption, SinkPolicy, SinkWriter, Taken, Target};
use unwritten::Counted;
pub use unwritten::{Unwritten, UnwrittenRecords};

use crate::column::Column;
use crate::ledger::Ledger;
use crate::loss::Loss;
use crate::messages::{
    ActorGuard, ActorName, CapturedBatch, Finish, Incidents, RecordBatch, RecordKey, RoundEnded, Tend,
};
use crate::{Clock, PipelineLimits, Tap, Timings};

/// The parts of a Sink.
pub(crate) struct SinkPorts {
    pub(crate) clock: Clock,
    pub(crate) limits: PipelineLimits,
    pub(crate) timings: Timings,
    /// Its number and column in the ledger.
    pub(crate) output: usize,
    /// Its name, where there are others.
    pub(crate) name: Option<String>,
    pub(crate) tap: Tap,
    pub(crate) policy: SinkPolicy,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) renewal: watch::Receiver<()>,
    pub(crate) target: Box<dyn Target>,
    pub(crate) incidents: Incidents,
}

/// The state of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// To be re-opened.
    Failed {
        /// It failed because its reader went away.
        closed: bool,
    },
    /// Given up: everything is counted as this loss.
    Gone(Loss),
}

/// See the module's documentation.
pub(crate) struct Sink {
    ports: SinkPorts,
    state: State,
    /// The pause after the last failure, until all that was there has been written; none if
    /// some of it has.
    pause: Option<Duration>,
    buffer: Buffer,
    /// Records that may be joined with another.
    ends: Ends,
    /// The same of messages.
    message_ends: MessageEnds,
    ends_planned: bool,
    /// Replay: batches of the current round.
    round: Vec<RecordBatch>,
    flush_planned: bool,
    /// The target is at work on the first records of the buffer.
    busy: bool,
    /// No record follows, and there is no later.
    finishing: bool,
    handled: u32,
    started_at: Instant,
    guard: ActorGuard,
}

impl Sink {
    pub(crate) fn new(ports: SinkPorts) -> Self {
        Self {
            state: State::Open,
            pause: None,
            buffer: Buffer::default(),
            ends: Ends::new(&ports.limits),
            message_ends: MessageEnds::new(&ports.limits),
            ends_planned: false,
            round: Vec::new(),
            flush_planned: false,
            busy: false,
            finishing: false,
            handled: 0,
            started_at: Instant::now(),
            guard: ActorGuard {
                actor: ActorName::Sink(ports.output),
                incidents: ports.incidents.clone(),
            },
            ports,
        }
    }

    /// Takes the records of a capture. When nothing waits before them they are written from where
    /// they are.
    fn take(&mut self, batch: RecordBatch, ctx: &mut Context<Self>) {
        let has_ends = batch.records.has_ends();
        if self.state == State::Open && self.buffer.is_empty() && !has_ends {
            let (bytes, ends) = batch.records.into_parts();
            self.buffer.fill(bytes, &ends);
            self.write_chunk(ctx);
        } else {
            self.push_all(&batch.records, 0..batch.records.ends().len(), ctx);
        }
        self.plan_flush(ctx);
    }

    /// Takes captured events, each as one record.
    fn take_events(&mut self, events: &[CapturedEvent], ctx: &mut Context<Self>) {
        let Tap::Events(format) = self.ports.tap.clone() else {
            return;
        };
        let mut bytes = Vec::new();
        for event in events {
            bytes.clear();
            format.write(event, &mut bytes);
            let counted = Counted {
                messages: 1,
                bytes: event.payload_bytes(),
            };
            if bytes.is_empty() {
                self.pass(counted);
            } else {
                self.push(&bytes, counted, ctx);
            }
        }
        self.plan_flush(ctx);
    }

    /// An event that the format does not show is as good as written.
    fn pass(&self, counted: Counted) {
        if let Some(loss) = self.refusal(0) {
            self.lose(loss, counted);
        } else {
            let Counted { messages, bytes } = counted;
            self.ports.ledger.write(self.ports.output, messages, bytes);
        }
    }

    fn push(&mut self, bytes: &[u8], counted: Counted, ctx: &mut Context<Self>) {
        if let Some(loss) = self.refusal(bytes.len()) {
            self.lose(loss, counted);
            return;
        }
        self.buffer.push(bytes, counted);
        self.write_chunk(ctx);
    }

    fn lose(&self, loss: Loss, counted: Counted) {
        let Counted { messages, bytes } = counted;
        self.ports
            .ledger
            .lose_output(self.ports.output, loss, messages, bytes);
    }

    /// Writes when there is enough for it.
    fn write_chunk(&mut self, ctx: &mut Context<Self>) {
        if self.buffer.len() >= self.ports.limits.write_chunk {
            self.write(ctx);
        }
    }

    /// The loss to count a record of `bytes` under, if it cannot be taken now.
    fn refusal(&self, bytes: usize) -> Option<Loss> {
        match (self.state, self.ports.policy) {
            // A replay waits for it.
            (State::Open, _) if self.busy && self.ports.clock == Clock::Live => {
                self.is_full(bytes).then_some(Loss::SinkFull)
            }
            (State::Open, _) => None,
            (State::Gone(loss), _) => Some(loss),
            (State::Failed { .. }, SinkPolicy::Retry) => self.is_full(bytes).then_some(Loss::SinkFull),
            (State::Failed { .. }, SinkPolicy::Stop | SinkPolicy::Drop) => Some(Loss::SinkError),
        }
    }

    fn is_full(&self, bytes: usize) -> bool {
        self.buffer.len() + bytes > self.ports.limits.sink_buffer()
    }

    /// Sorts and writes the records of a round, which ended at this time.
    fn end_round(&mut self, now_ns: u64, ctx: &mut Context<Self>) {
        let round = std::mem::take(&mut self.round);
        let mut sorted: Vec<(RecordKey, &Records, Range<usize>)> = round.iter().flat_map(spans).collect();
        sorted.sort_unstable_by_key(|&(key, ..)| key);
        for (_, records, range) in sorted {
            self.push_all(records, range, ctx);
        }
        let now_ns = self.ends.advance(now_ns);
        self.release_ends(now_ns, ctx);
        self.plan_flush(ctx);
    }

    /// Flushes as soon as the mailbox is empty: futures of the context run only then. Later if the target
    /// collects.
    fn plan_flush(&mut self, ctx: &mut Context<Self>) {
        if self.flush_planned {
            return;
        }
        self.flush_planned = true;
        let flush = |sink: &mut Self, ctx: &mut Context<Self>| {
            sink.flush_planned = false;
            sink.write(ctx);
            sink.flush(ctx);
        };
        if let Some(interval) = self.ports.target.collecting_interval() {
            ctx.run_later(interval, flush);
        } else {
            let now = std::future::ready(()).into_actor(self);
            ctx.spawn(now.map(move |(), sink, ctx| flush(sink, ctx)));
        }
    }

    fn write(&mut self, ctx: &mut Context<Self>) {
        self.renew();
        self.write_buffer(ctx);
        // It may have completed a record that was begun.
        self.renew();
    }

    /// Lets the target begin again if that was asked for, between two records only. A target that failed is
    /// opened again anyway.
    fn renew(&mut self) {
        let is_asked = self.ports.renewal.has_changed().unwrap_or(false);
        if is_asked && self.state == State::Open && self.buffer.unwritten().begun() == 0 {
            self.ports.renewal.mark_unchanged();
            self.ports.target.renew();
        }
    }

    fn write_buffer(&mut self, ctx: &mut Context<Self>) {
        if self.state != State::Open || self.buffer.is_empty() || self.busy {
            return;
        }
        let before = self.buffer.unwritten().bytes().len();
        let result = self.write_all();
        self.buffer.compact();
        let done = before - self.buffer.unwritten().bytes().len();
        match result {
            Ok(()) if self.pause.take().is_some() => {
                tracing::info!(output = self.name(), "output works again");
            }
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.finishing => {
                if done > 0 {
                    self.pause = self.pause.and(Some(Duration::ZERO));
                }
                self.busy = true;
                ctx.run_later(self.ports.timings.busy_delay, |sink, ctx| {
                    sink.busy = false;
                    sink.write(ctx);
                });
            }
            Err(error) => {
                if done > 0 {
                    self.pause = self.pause.and(Some(Duration::ZERO));
                }
                self.fail(error, ctx);
            }
        }
    }

    /// Writes until nothing is left, or an error.
    fn write_all(&mut self) -> io::Result<()> {
        let Self { ports, buffer, .. } = self;
        while !buffer.is_empty() {
            match ports.target.write(buffer.unwritten()) {
                Ok(taken) if taken.bytes() == 0 => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    let Counted { messages, bytes } = buffer.complete(taken.bytes());
                    match taken.loss() {
                        None => ports.ledger.write(ports.output, messages, bytes),
                        Some(loss) => ports.ledger.lose_output(ports.output, loss, messages, bytes),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn flush(&mut self, ctx: &mut Context<Self>) {
        if self.state == State::Open
            && let Err(error) = self.ports.target.flush()
        {
            self.fail(error, ctx);
        }
    }

    fn column(&self) -> &Column {
        self.ports.ledger.column(self.ports.output)
    }

    /// For the log, where it could be another output.
    fn name(&self) -> Option<&str> {
        self.ports.name.as_deref()
    }

    /// Writes the rest; no record will follow. A target that fails is tried again as long as that
    /// makes progress.
    fn finish(&mut self, ctx: &mut Context<Self>) {
        self.finishing = true;
        self.busy = false;
        // Enough is left to count what the target does not take.
        self.ports
            .target
            .conclude(self.ports.timings.drain_deadline * 2 / 3);
        self.end_round(u64::MAX, ctx);
        self.release_all_ends(ctx);
        self.write(ctx);
        self.flush(ctx);
        let mut fewest_left = usize::MAX;
        while let State::Failed { .. } = self.state
            && self.buffer.unwritten().bytes().len() < fewest_left
        {
            fewest_left = self.buffer.unwritten().bytes().len();
            self.reopen(ctx);
        }
        let counted = self.buffer.clear();
        if counted != Counted::default() {
            self.lose(Loss::SinkError, counted);
        }
        self.state = State::Gone(Loss::SinkClosed);
        let unread = self.ports.target.finish();
        self.column().doubt(unread);
    }
}

/// The keys that the records of a batch are sorted by, each with its records.
fn spans(batch: &RecordBatch) -> impl Iterator<Item = (RecordKey, &Records, Range<usize>)> {
    let starts = std::iter::once(0).chain(batch.spans.iter().map(|span| span.records));
    let spans = batch.spans.iter().zip(starts);
    spans.map(|(span, start)| (span.key, &batch.records, start..span.records))
}

impl Actor for Sink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let beginning = self.ports.tap.beginning();
        if !beginning.is_empty() {
            self.buffer.begin(&beginning);
            self.plan_flush(ctx);
        }
    }

    /// Reached without [`Finish`] when the Processor is gone and with it, one by one, all
    /// Workers.
    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        if !std::thread::panicking() && !matches!(self.state, State::Gone(_)) {
            self.finish(ctx);
        }
        Running::Stop
    }
}

impl Handler<RecordBatch> for Sink {
    type Result = ();

    fn handle(&mut self, batch: RecordBatch, ctx: &mut Self::Context) {
        match self.ports.clock {
            Clock::Stream => self.round.push(batch),
            Clock::Live => self.take(batch, ctx),
        }
        self.handled = self.handled.wrapping_add(1);
        if self.handled.is_multiple_of(self.ports.limits.budget) {
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }
}

impl Handler<CapturedBatch> for Sink {
    type Result = ();

    fn handle(&mut self, CapturedBatch(events): CapturedBatch, ctx: &mut Self::Context) {
        self.take_events(&events, ctx);
    }
}

impl Handler<Tend> for Sink {
    type Result = ();

    fn handle(&mut self, Tend: Tend, ctx: &mut Self::Context) {
        self.renew();
        if self.state == State::Open
            && self.buffer.unwritten().begun() == 0
            && let Err(error) = self.ports.target.tend()
        {
            self.fail(error, ctx);
        }
    }
}

impl Handler<RoundEnded> for Sink {
    type Result = ();

    fn handle(&mut self, RoundEnded { now_ns }: RoundEnded, ctx: &mut Self::Context) {
        self.end_round(now_ns, ctx);
    }
}

impl Handler<Finish> for Sink {
    type Result = ();

    fn handle(&mut self, Finish: Finish, ctx: &mut Self::Context) {
        self.finish(ctx);
        ctx.stop();
    }
}

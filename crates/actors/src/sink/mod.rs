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
//! between Workers. In a replay the records of a round are sorted first. Output is collected
//! into large writes and flushed whenever the mailbox is empty.

mod buffer;
mod target;
mod unwritten;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use ecapture_protocols::{CapturedEvent, RecordEnd, Records};
use tokio::sync::watch;

use buffer::Buffer;
pub use target::{ByteStream, Resumption, SinkPolicy, SinkWriter, Taken, Target};
use unwritten::Counted;
pub use unwritten::{Unwritten, UnwrittenRecords};

use crate::column::Column;
use crate::ledger::Ledger;
use crate::loss::Loss;
use crate::messages::{
    ActorGuard, ActorName, CapturedBatch, Finish, Incident, Incidents, RecordBatch, RecordKey, RoundEnded,
    Tend,
};
use crate::{Clock, PipelineLimits, Tap, Timings};

/// What the Sink is made of.
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

/// Whether the target takes output.
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
    /// Replay: batches of the current round.
    round: Vec<RecordBatch>,
    flush_planned: bool,
    /// No record follows, and there is no later.
    finishing: bool,
    handled: u32,
    guard: ActorGuard,
}

impl Sink {
    pub(crate) fn new(ports: SinkPorts) -> Self {
        Self {
            state: State::Open,
            pause: None,
            buffer: Buffer::default(),
            round: Vec::new(),
            flush_planned: false,
            finishing: false,
            handled: 0,
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
        if self.state == State::Open && self.buffer.is_empty() {
            let (bytes, ends) = batch.records.into_parts();
            self.buffer.fill(bytes, &ends);
            self.write_chunk(ctx);
        } else {
            self.push_all(&batch.records, 0..batch.records.ends().len(), ctx);
        }
        self.plan_flush(ctx);
    }

    /// Takes the records of `range` one by one.
    fn push_all(&mut self, records: &Records, range: Range<usize>, ctx: &mut Context<Self>) {
        let last = range.start.checked_sub(1);
        let mut start = last.map_or_else(RecordEnd::default, |last| records.ends()[last]);
        for &end in &records.ends()[range] {
            let bytes = &records.as_bytes()[start.bytes..end.bytes];
            self.push(bytes, Counted::between(start, end), ctx);
            start = end;
        }
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
            self.push(&bytes, counted, ctx);
        }
        self.plan_flush(ctx);
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
            (State::Open, _) => None,
            (State::Gone(loss), _) => Some(loss),
            (State::Failed { .. }, SinkPolicy::Retry) => {
                let fits = self.buffer.len() + bytes <= self.ports.limits.sink_buffer();
                (!fits).then_some(Loss::SinkFull)
            }
            (State::Failed { .. }, SinkPolicy::Stop | SinkPolicy::Drop) => Some(Loss::SinkError),
        }
    }

    /// Sorts and writes the records of a round.
    fn end_round(&mut self, ctx: &mut Context<Self>) {
        let round = std::mem::take(&mut self.round);
        let mut sorted: Vec<(RecordKey, &Records, Range<usize>)> = round.iter().flat_map(spans).collect();
        sorted.sort_unstable_by_key(|&(key, ..)| key);
        for (_, records, range) in sorted {
            self.push_all(records, range, ctx);
        }
        self.plan_flush(ctx);
    }

    /// Flushes as soon as the mailbox is empty: futures of the context run only then.
    fn plan_flush(&mut self, ctx: &mut Context<Self>) {
        if !self.flush_planned {
            self.flush_planned = true;
            ctx.spawn(std::future::ready(()).into_actor(self).map(|(), sink, ctx| {
                sink.flush_planned = false;
                sink.write(ctx);
                sink.flush(ctx);
            }));
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
        if self.state != State::Open || self.buffer.is_empty() {
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

    /// Does what the policy says about a failed write.
    fn fail(&mut self, error: io::Error, ctx: &mut Context<Self>) {
        self.column().doubt(self.ports.target.unacknowledged());
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        match self.ports.policy {
            SinkPolicy::Stop => return self.give_up(error),
            SinkPolicy::Drop if closed => return self.give_up(error),
            SinkPolicy::Drop => {
                let counted = self.buffer.clear_unbegun();
                self.lose(Loss::SinkError, counted);
            }
            SinkPolicy::Retry => {}
        }
        self.state = State::Failed { closed };
        self.plan_reopening(&error, ctx);
    }

    /// Pauses grow while nothing can be written; what is news is the first until all is.
    fn plan_reopening(&mut self, error: &io::Error, ctx: &mut Context<Self>) {
        let timings = &self.ports.timings;
        let pause = match (self.pause, self.ports.policy) {
            (Some(Duration::ZERO), _) | (None, SinkPolicy::Retry) => timings.sink_retry_delay,
            (Some(last), _) => (last * 2).min(timings.sink_retry_delay_max),
            // What comes in a pause is lost, so the first one is none.
            (None, _) => Duration::ZERO,
        };
        match (self.pause.replace(pause), self.ports.policy) {
            (Some(_), _) => tracing::debug!(output = self.name(), %error, ?pause, "output still fails"),
            (None, SinkPolicy::Retry) => {
                tracing::warn!(output = self.name(), %error, "output failed; trying again");
            }
            (None, _) => {
                tracing::warn!(output = self.name(), %error, "output failed; events that cannot be written are dropped");
            }
        }
        if !self.finishing {
            ctx.run_later(pause, Self::reopen);
        }
    }

    fn column(&self) -> &Column {
        self.ports.ledger.column(self.ports.output)
    }

    /// For the log, where it could be another output.
    fn name(&self) -> Option<&str> {
        self.ports.name.as_deref()
    }

    fn give_up(&mut self, error: io::Error) {
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        let loss = if closed { Loss::SinkClosed } else { Loss::SinkError };
        self.state = State::Gone(loss);
        let counted = self.buffer.clear();
        self.lose(loss, counted);
        let ends_run = self.ports.policy == SinkPolicy::Stop;
        if !ends_run && self.ports.name.is_some() {
            tracing::warn!(output = self.name(), %error, "output is closed; the others continue");
        }
        // Nobody listens any more when the run was ended by force.
        let _ = self.guard.incidents.send(Incident::SinkGone { error, ends_run });
    }

    fn reopen(&mut self, ctx: &mut Context<Self>) {
        let State::Failed { closed } = self.state else {
            return;
        };
        self.column().retry();
        match self.ports.target.reopen() {
            Ok(resumption) => {
                self.state = State::Open;
                if resumption == Resumption::NewPlace {
                    self.buffer.begin(&self.ports.tap.beginning());
                }
                self.write(ctx);
                self.flush(ctx);
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.give_up(if closed {
                    io::ErrorKind::BrokenPipe.into()
                } else {
                    error
                });
            }
            Err(error) => self.plan_reopening(&error, ctx),
        }
    }

    /// Writes what is there; no record will follow. A target that fails is tried as long as that
    /// brings it nearer to the end.
    fn finish(&mut self, ctx: &mut Context<Self>) {
        self.finishing = true;
        self.end_round(ctx);
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

/// What the records of a batch are sorted by, and which records each key has.
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

    fn handle(&mut self, RoundEnded: RoundEnded, ctx: &mut Self::Context) {
        self.end_round(ctx);
    }
}

impl Handler<Finish> for Sink {
    type Result = ();

    fn handle(&mut self, Finish: Finish, ctx: &mut Self::Context) {
        self.finish(ctx);
        ctx.stop();
    }
}

//! The Sink: writes records.
//!
//! * receives: `RecordBatch` from Workers; `RoundEnded`, `Finish` from the Processor
//! * sends: nothing
//! * bound: `sink_mailbox` batches; what it collects is part of the output in flight, which the
//!   reader waits for, and while the target fails at most
//!   [`PipelineLimits::sink_buffer`](crate::PipelineLimits::sink_buffer)
//! * lost on restart: it is not restarted; the run ends, and what it had is counted
//!
//! In a capture records are written as they come: in order per Worker, and in no promised order
//! between Workers. In a replay the records of a round are sorted first. Output is collected
//! into large writes and flushed whenever the mailbox is empty.

mod buffer;
mod writer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use actix::prelude::*;

use buffer::Buffer;
pub use writer::{Resumption, SinkPolicy, SinkWriter};

use crate::ledger::Ledger;
use crate::loss::Loss;
use crate::messages::{ActorGuard, Finish, Incident, Incidents, RecordBatch, RoundEnded, Span};
use crate::{Clock, PipelineLimits, Timings};

/// What the Sink is made of.
pub(crate) struct SinkPorts {
    pub(crate) clock: Clock,
    pub(crate) limits: PipelineLimits,
    pub(crate) timings: Timings,
    pub(crate) policy: SinkPolicy,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) writer: Box<dyn SinkWriter>,
    pub(crate) incidents: Incidents,
}

/// Whether the target takes output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
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
    target: Target,
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
            target: Target::Open,
            pause: None,
            buffer: Buffer::default(),
            round: Vec::new(),
            flush_planned: false,
            finishing: false,
            handled: 0,
            guard: ActorGuard {
                actor: "Sink",
                incidents: ports.incidents.clone(),
            },
            ports,
        }
    }

    /// Takes the records of a capture. When nothing waits before them they are written from where
    /// they are.
    fn take(&mut self, batch: RecordBatch, ctx: &mut Context<Self>) {
        if self.target == Target::Open && self.buffer.is_empty() {
            let starts = std::iter::once(0).chain(batch.spans.iter().map(|span| span.end));
            let parts = batch.spans.iter().zip(starts);
            let parts = parts.map(|(span, start)| (span.end - start, span.messages));
            self.buffer.fill(batch.bytes, parts);
            self.write_chunk(ctx);
        } else {
            for (span, bytes) in records(&batch) {
                self.push(bytes, span.messages, ctx);
            }
        }
        self.plan_flush(ctx);
    }

    fn push(&mut self, bytes: &[u8], messages: u64, ctx: &mut Context<Self>) {
        if let Some(loss) = self.refusal(bytes.len()) {
            self.ports.ledger.lose_output(loss, messages, bytes.len() as u64);
            return;
        }
        self.buffer.push(bytes, messages);
        self.write_chunk(ctx);
    }

    /// Writes when there is enough for it.
    fn write_chunk(&mut self, ctx: &mut Context<Self>) {
        if self.buffer.len() >= self.ports.limits.write_chunk {
            self.write(ctx);
        }
    }

    /// As what a record of `bytes` is lost, if it cannot be taken now.
    fn refusal(&self, bytes: usize) -> Option<Loss> {
        match (self.target, self.ports.policy) {
            (Target::Open, _) => None,
            (Target::Gone(loss), _) => Some(loss),
            (Target::Failed { .. }, SinkPolicy::Retry) => {
                let fits = self.buffer.len() + bytes <= self.ports.limits.sink_buffer();
                (!fits).then_some(Loss::SinkFull)
            }
            (Target::Failed { .. }, SinkPolicy::Stop | SinkPolicy::Drop) => Some(Loss::SinkError),
        }
    }

    /// Sorts and writes the records of a round.
    fn end_round(&mut self, ctx: &mut Context<Self>) {
        let round = std::mem::take(&mut self.round);
        let mut records: Vec<(Span, &[u8])> = round.iter().flat_map(records).collect();
        records.sort_unstable_by_key(|(span, _)| span.key);
        for (span, bytes) in records {
            self.push(bytes, span.messages, ctx);
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
        if self.target != Target::Open || self.buffer.is_empty() {
            return;
        }
        let (done, result) = write_all(self.ports.writer.as_mut(), &self.buffer);
        let (messages, bytes) = self.buffer.complete(done);
        self.ports.ledger.write(messages, bytes);
        match result {
            Ok(()) if self.pause.take().is_some() => tracing::info!("output goes on"),
            Ok(()) => {}
            Err(error) => {
                if done > 0 {
                    self.pause = self.pause.and(Some(Duration::ZERO));
                }
                self.fail(error, ctx);
            }
        }
    }

    fn flush(&mut self, ctx: &mut Context<Self>) {
        if self.target == Target::Open
            && let Err(error) = self.ports.writer.flush()
        {
            self.fail(error, ctx);
        }
    }

    /// Does what the policy says about a failed write.
    fn fail(&mut self, error: io::Error, ctx: &mut Context<Self>) {
        let unacknowledged = self.ports.writer.unacknowledged();
        let gauges = &self.ports.ledger.gauges;
        gauges.sink_unacknowledged.fetch_add(unacknowledged, Relaxed);
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        match self.ports.policy {
            SinkPolicy::Stop => return self.give_up(error),
            SinkPolicy::Drop if closed => return self.give_up(error),
            SinkPolicy::Drop => {
                let (messages, bytes) = self.buffer.clear_unbegun();
                self.ports.ledger.lose_output(Loss::SinkError, messages, bytes);
            }
            SinkPolicy::Retry => {}
        }
        self.target = Target::Failed { closed };
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
            (Some(_), _) => tracing::debug!(%error, ?pause, "output still fails"),
            (None, SinkPolicy::Retry) => tracing::warn!(%error, "output failed, trying again"),
            (None, _) => tracing::warn!(%error, "output failed, what cannot be written is dropped"),
        }
        if !self.finishing {
            ctx.run_later(pause, Self::reopen);
        }
    }

    fn give_up(&mut self, error: io::Error) {
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        let loss = if closed { Loss::SinkClosed } else { Loss::SinkError };
        self.target = Target::Gone(loss);
        let (messages, bytes) = self.buffer.clear();
        self.ports.ledger.lose_output(loss, messages, bytes);
        let incident = if closed {
            Incident::SinkClosed
        } else {
            Incident::SinkFailed(error)
        };
        // Nobody listens any more when the run was ended by force.
        let _ = self.guard.incidents.send(incident);
    }

    fn reopen(&mut self, ctx: &mut Context<Self>) {
        let Target::Failed { closed } = self.target else {
            return;
        };
        self.ports.ledger.gauges.sink_retries.fetch_add(1, Relaxed);
        match self.ports.writer.reopen() {
            Ok(resumption) => {
                self.target = Target::Open;
                if resumption == Resumption::NewPlace {
                    self.buffer.rewind();
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
        while let Target::Failed { .. } = self.target
            && self.buffer.unwritten(0).len() < fewest_left
        {
            fewest_left = self.buffer.unwritten(0).len();
            self.reopen(ctx);
        }
        let (messages, bytes) = self.buffer.clear();
        if bytes > 0 {
            self.ports.ledger.lose_output(Loss::SinkError, messages, bytes);
        }
        self.target = Target::Gone(Loss::SinkClosed);
    }
}

/// The records of a batch.
fn records(batch: &RecordBatch) -> impl Iterator<Item = (Span, &[u8])> {
    let starts = std::iter::once(0).chain(batch.spans.iter().map(|span| span.end));
    batch
        .spans
        .iter()
        .zip(starts)
        .map(|(&span, start)| (span, &batch.bytes[start..span.end]))
}

/// Writes until done or failed; returns how far it came.
fn write_all(writer: &mut dyn SinkWriter, buffer: &Buffer) -> (usize, io::Result<()>) {
    let mut done = 0;
    while !buffer.unwritten(done).is_empty() {
        match writer.write(buffer.unwritten(done)) {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(written) => done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

impl Actor for Sink {
    type Context = Context<Self>;

    /// Reached without [`Finish`] when the Processor is gone and with it, one by one, all
    /// Workers.
    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        if !std::thread::panicking() && !matches!(self.target, Target::Gone(_)) {
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

//! Outside of the actors: stops the run, notices failures and stuck Arbiters, and publishes the
//! summary.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::WeakRecipient;
use actix::prelude::*;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::Timings;
use crate::ledger::{KernelCounterSource, Ledger};
use crate::loss::Loss;
use crate::messages::{ActorName, Finish, Incident, SourceEnded, StopReading};
use crate::summary::{Outcome, PipelineError, Statistics, Summary};
use crate::tally::Tally;
use crate::worker::Desk;

/// An Arbiter and whose it is.
pub(crate) struct NamedArbiter {
    pub(crate) name: &'static str,
    pub(crate) arbiter: Arbiter,
    /// Where its Workers say what they work on, if it has any.
    pub(crate) desk: Option<Arc<Desk>>,
}

/// A Sink, by its output's number.
pub(crate) struct ConductedSink {
    pub(crate) finish: Recipient<Finish>,
    /// It gets its output from the `RingReader`.
    pub(crate) takes_events: bool,
}

/// See the module's documentation.
pub(crate) struct Conductor {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) kernel_counters: Option<Arc<dyn KernelCounterSource>>,
    pub(crate) timings: Timings,
    pub(crate) stop_reading: WeakRecipient<StopReading>,
    /// Also what keeps the Processor going when the reader has ended.
    pub(crate) source_ended: Recipient<SourceEnded>,
    /// Keep the Sinks going until they have taken [`Finish`]: actix ends an actor whose last address
    /// is dropped, and forgets what came into its mailbox since it last looked. Used for those of records
    /// when the Processor fails, who would have sent it, and for those of captured events.
    pub(crate) sinks: Vec<ConductedSink>,
    /// Outboxes of Workers that may still send records.
    pub(crate) outboxes: usize,
    pub(crate) stop: Arc<Notify>,
    pub(crate) incidents: mpsc::UnboundedReceiver<Incident>,
    pub(crate) arbiters: Vec<NamedArbiter>,
    pub(crate) summary: watch::Sender<Option<Summary>>,
}

/// The known state of a run.
struct Course {
    outcome: Outcome,
    /// `RingReader` and Processor, if they have not ended.
    actors_left: usize,
    /// Sinks that have not ended, by their outputs.
    sinks_left: BTreeSet<usize>,
    /// Outputs whose targets are not given up.
    targets_left: usize,
    /// Time at which outputs are given up that drop records when they are too slow; nothing else is left.
    grace: Option<Instant>,
    /// The Processor has failed and its Workers are ending.
    orphaned: bool,
    deadline: Option<Instant>,
}

impl Course {
    /// The first failure decides; a closed output is only an end while nothing has failed.
    fn fail(&mut self, error: PipelineError) {
        if !matches!(self.outcome, Outcome::Failed(_)) {
            tracing::error!(%error, "the run fails");
            self.outcome = Outcome::Failed(error);
        }
    }
}

impl Course {
    /// The output that failed ends the run, in order if its reader went away.
    fn end_by(&mut self, error: std::io::Error) {
        if error.kind() != std::io::ErrorKind::BrokenPipe {
            let source = Arc::new(error);
            self.fail(PipelineError::Sink { source });
        } else if matches!(self.outcome, Outcome::Complete) {
            self.outcome = Outcome::SinkClosed;
        }
    }
}

impl Conductor {
    /// Follows the run to its end.
    pub(crate) async fn run(mut self) {
        let mut course = Course {
            outcome: Outcome::Complete,
            actors_left: 2,
            sinks_left: (0..self.sinks.len()).collect(),
            targets_left: self.sinks.len(),
            grace: None,
            orphaned: false,
            deadline: None,
        };
        let mut watchdog = Watchdog::new(&self.arbiters, self.timings.watchdog_interval);
        let stop = Arc::clone(&self.stop);
        while course.actors_left > 0 || !course.sinks_left.is_empty() {
            let grace = course.grace;
            let deadline = course.deadline.filter(|_| grace.is_none());
            tokio::select! {
                Some(incident) = self.incidents.recv() => self.on_incident(incident, &mut course),
                () = stop.notified() => self.begin_stop(&mut course),
                () = until(deadline) => {
                    course.fail(PipelineError::DrainDeadline { deadline: self.timings.drain_deadline });
                    break;
                }
                () = until(grace) => break,
                error = watchdog.wait() => {
                    course.fail(error);
                    break;
                }
            }
        }
        self.end(course);
    }

    fn on_incident(&mut self, incident: Incident, course: &mut Course) {
        match incident {
            Incident::Exited { actor, panicked } => {
                if panicked {
                    let actor = actor.as_str();
                    course.fail(PipelineError::ActorFailed { actor });
                    self.begin_stop(course);
                }
                self.note_exit(actor, panicked, course);
            }
            Incident::OutboxClosed => {
                self.outboxes -= 1;
                self.finish_orphans(course);
            }
            Incident::RestartLimit { failures } => {
                let window = self.timings.failure_window;
                course.fail(PipelineError::RestartLimit { failures, window });
                self.begin_stop(course);
            }
            Incident::SinkGone { error, ends_run } => {
                course.targets_left -= 1;
                if ends_run || course.targets_left == 0 {
                    course.end_by(error);
                    self.begin_stop(course);
                }
            }
        }
    }

    fn note_exit(&self, actor: ActorName, panicked: bool, course: &mut Course) {
        match actor {
            ActorName::RingReader => {
                course.actors_left -= 1;
                self.end_source(course);
            }
            ActorName::Processor => {
                course.actors_left -= 1;
                course.orphaned |= panicked;
                self.finish_orphans(course);
            }
            ActorName::Sink(output) => {
                course.sinks_left.remove(&output);
            }
        }
        let waits_for = |&output: &usize| self.ledger.column(output).holds_reading;
        if course.actors_left == 0 && !course.sinks_left.iter().any(waits_for) {
            let grace = self.timings.drain_deadline;
            course.grace.get_or_insert_with(|| Instant::now() + grace);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "one message per stop")]
    fn begin_stop(&self, course: &mut Course) {
        course
            .deadline
            .get_or_insert_with(|| Instant::now() + self.timings.drain_deadline);
        if let Some(reader) = self.stop_reading.upgrade() {
            reader.do_send(StopReading);
        }
    }

    /// Without the Processor the Workers end by themselves, and nobody else notifies the Sink that
    /// the last of their records has been sent.
    #[expect(clippy::disallowed_methods, reason = "the last message of the run")]
    fn finish_orphans(&self, course: &mut Course) {
        if course.orphaned && self.outboxes == 0 {
            course.orphaned = false;
            let sinks = self.sinks.iter().filter(|sink| !sink.takes_events);
            sinks.for_each(|sink| sink.finish.do_send(Finish));
        }
    }

    /// The reader is gone. It has notified the Processor unless it failed; a second notification is
    /// harmless.
    #[expect(clippy::disallowed_methods, reason = "one message per run and Sink")]
    fn end_source(&self, course: &mut Course) {
        self.source_ended.do_send(SourceEnded);
        let sinks = self.sinks.iter().filter(|sink| sink.takes_events);
        sinks.for_each(|sink| sink.finish.do_send(Finish));
        if matches!(course.outcome, Outcome::Failed(_)) {
            course
                .deadline
                .get_or_insert_with(|| Instant::now() + self.timings.drain_deadline);
        }
    }

    /// The outputs with something that nobody will write any more.
    fn unfinished(&self, course: &Course) -> Vec<usize> {
        if matches!(course.outcome, Outcome::Failed(_)) {
            return (0..self.sinks.len()).collect();
        }
        course.sinks_left.iter().copied().collect()
    }

    /// Counts everything undelivered as lost, ends the Arbiters, publishes the summary. A thread that is
    /// blocked in a write is left behind; it ends with the process.
    fn end(self, course: Course) {
        if let Outcome::Failed(error) = &course.outcome {
            let late = matches!(error, PipelineError::DrainDeadline { .. });
            let loss = if late {
                Loss::ShutdownDeadline
            } else {
                Loss::Unfinished
            };
            let Tally { events, bytes } = self.ledger.in_flight();
            self.ledger.lose(loss, events, bytes);
            self.ledger.lose_delivered(loss, self.ledger.held_captured());
        }
        for output in self.unfinished(&course) {
            let Tally { events, bytes } = self.ledger.column(output).unwritten();
            self.ledger.lose_unsent(output, Loss::SinkDeadline, events, bytes);
        }
        let statistics = Statistics::of(&self.ledger, self.kernel_counters.as_deref());
        for named in &self.arbiters {
            named.arbiter.stop();
        }
        self.summary.send_replace(Some(Summary {
            outcome: course.outcome,
            statistics,
        }));
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

struct Watched {
    name: &'static str,
    handle: actix_rt::ArbiterHandle,
    desk: Option<Arc<Desk>>,
}

/// Asks every Arbiter in turn to run something, and expects it to happen.
struct Watchdog {
    arbiters: Vec<Watched>,
    interval: tokio::time::Interval,
    patience: Duration,
}

impl Watchdog {
    /// Rounds without an answer after which an Arbiter counts as stuck.
    const MISSES: u32 = 2;

    fn new(arbiters: &[NamedArbiter], interval: Duration) -> Self {
        // A writer may block as long as its reader wants; the rest of the pipeline then waits
        // for the Sink without being blocked itself.
        let watched = arbiters.iter().filter(|named| named.name != "Sink");
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            arbiters: watched
                .map(|named| Watched {
                    name: named.name,
                    handle: named.arbiter.handle(),
                    desk: named.desk.clone(),
                })
                .collect(),
            interval: ticks,
            patience: interval,
        }
    }

    /// Returns when an Arbiter is stuck.
    async fn wait(&mut self) -> PipelineError {
        if self.arbiters.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            self.interval.tick().await;
            for Watched { name, handle, desk } in &self.arbiters {
                let silence = self.patience * Self::MISSES;
                if !answers(handle, silence).await {
                    let connection = desk.as_ref().and_then(|desk| desk.connection());
                    return PipelineError::Stuck {
                        arbiter: name,
                        silence,
                        connection: connection.unwrap_or_else(|| "no connection".into()),
                    };
                }
            }
        }
    }
}

/// Returns true if the Arbiter runs something within `patience`, or has ended in order.
async fn answers(arbiter: &actix_rt::ArbiterHandle, patience: Duration) -> bool {
    let (answer, answered) = oneshot::channel();
    let asked = arbiter.spawn_fn(move || {
        // The watchdog may have been cancelled in the meantime.
        let _ = answer.send(());
    });
    !asked || tokio::time::timeout(patience, answered).await.is_ok()
}

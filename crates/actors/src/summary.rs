//! A run's figures, at any moment and at its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::by_connection::ConnectionLosses;
use crate::column::{Column, OutputStatistics};
use crate::ledger::{KernelCounterSource, Ledger};
use crate::loss::{LossRow, Stage};
use crate::tally::Tally;

/// A snapshot of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Data events, with their bytes of payload, and observed facts that were taken from the source.
    pub seen: Tally,
    /// Those of them that decoders took.
    pub delivered: Tally,
    /// Those of them that are on their way.
    pub in_flight: Tally,
    /// Messages and formatted bytes that Workers made, for all outputs together.
    pub produced: Tally,
    /// Those of them that the outputs took.
    pub written: Tally,
    /// Those of them that are on their way.
    pub unwritten: Tally,
    /// The same for each output, in their order.
    pub outputs: Vec<OutputStatistics>,
    /// Every loss that is not zero, from the kernel to the outputs; those of all outputs together.
    pub losses: Vec<LossRow>,
    /// Losses per connection where the connection is known, largest first. They are in
    /// [`Self::losses`] as well.
    pub by_connection: Vec<ConnectionLosses>,
    /// The losses of connections beyond
    /// [`PipelineLimits::CONNECTIONS_WITH_LOSSES`](crate::PipelineLimits::CONNECTIONS_WITH_LOSSES).
    pub other_connections: Tally,
    /// Bytes held by decoders.
    pub held_bytes: u64,
    /// Close events. They are not in [`Self::seen`].
    pub closes: u64,
    /// Observed facts in [`Self::seen`].
    pub observed: u64,
    /// Workers alive.
    pub live_workers: u64,
    /// Most Workers alive at once.
    pub peak_workers: u64,
    /// Workers started, restarts included.
    pub started_workers: u64,
    /// Workers that failed and were replaced.
    pub restarts: u64,
    /// Connections that lost their decoders for good.
    pub quarantined: u64,
    /// Connections shed because of limits.
    pub shed_connections: u64,
    /// Silent streams without a Worker, whose decoders are kept.
    pub sleeping: u64,
    /// Plain streams whose decoders were kept and then given up for the limits' sake.
    pub given_up: u64,
    /// Times that a response waited in vain for its request, which was decoded later.
    pub late_notices: u64,
    /// Times the reader had to wait, and how long altogether.
    pub stalls: u64,
    /// See [`Self::stalls`].
    pub stall_time: Duration,
    /// Tries to open an output again.
    pub sink_retries: u64,
    /// Bytes that an output's target had not confirmed when it failed: they count as written and
    /// may be lost nevertheless.
    pub sink_unacknowledged: u64,
}

impl Statistics {
    /// Reads the counters. Between actors at work the figures may be a few events apart.
    pub(crate) fn of(ledger: &Ledger, kernel: Option<&dyn KernelCounterSource>) -> Self {
        let gauges = &ledger.gauges;
        let mut losses: Vec<LossRow> = kernel.map(KernelCounterSource::rows).unwrap_or_default();
        losses.retain(|row| row.events > 0 || row.bytes > 0);
        losses.extend(ledger.loss_rows());
        let (by_connection, other_connections) = ledger.losses_by_connection();
        let outputs: Vec<_> = ledger.columns().iter().map(Column::statistics).collect();
        let sum =
            |of: fn(&OutputStatistics) -> Tally| outputs.iter().map(of).fold(Tally::default(), Tally::plus);
        Self {
            seen: ledger.seen(),
            delivered: ledger.delivered(),
            in_flight: ledger.in_flight(),
            produced: sum(|output| output.produced),
            written: sum(|output| output.written),
            unwritten: sum(|output| output.unwritten),
            losses,
            by_connection,
            other_connections,
            held_bytes: ledger.held_bytes(),
            closes: gauges.closes.load(Relaxed),
            observed: gauges.observed.load(Relaxed),
            live_workers: gauges.live_workers.load(Relaxed),
            peak_workers: gauges.peak_workers.load(Relaxed),
            started_workers: gauges.started_workers.load(Relaxed),
            restarts: gauges.restarts.load(Relaxed),
            quarantined: gauges.quarantined.load(Relaxed),
            shed_connections: gauges.shed_connections.load(Relaxed),
            sleeping: gauges.sleeping.load(Relaxed),
            given_up: gauges.given_up.load(Relaxed),
            late_notices: gauges.late_notices.load(Relaxed),
            stalls: gauges.stalls.load(Relaxed),
            stall_time: Duration::from_nanos(gauges.stall_ns.load(Relaxed)),
            sink_retries: outputs.iter().map(|output| output.retries).sum(),
            sink_unacknowledged: outputs.iter().map(|output| output.unacknowledged).sum(),
            outputs,
        }
    }

    /// Returns true if the equations of the ledger hold with nothing in flight.
    pub fn balanced(&self) -> bool {
        let lost_input = self.lost(|stage| !matches!(stage, Stage::Kernel | Stage::Sink));
        self.seen == self.delivered.plus(lost_input) && self.outputs.iter().all(OutputStatistics::balanced)
    }

    /// True if no captured bytes were delivered, and no data event.
    pub fn is_without_data(&self) -> bool {
        self.delivered.events <= self.observed && self.delivered.bytes == 0
    }

    /// Returns true if something was lost, or may have been, that the user did not ask to leave out.
    pub fn has_unintended_loss(&self) -> bool {
        self.sink_unacknowledged > 0 || self.losses.iter().any(|row| !row.intended)
    }

    fn lost(&self, at: impl Fn(Stage) -> bool) -> Tally {
        let rows = self.losses.iter().filter(|row| at(row.stage));
        rows.map(LossRow::tally).fold(Tally::default(), Tally::plus)
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The source ended, or a stop was asked for, and everything was written.
    Complete,
    /// The reader of the output went away: an orderly end.
    SinkClosed,
    /// The run could not continue, or could not be completed.
    Failed(PipelineError),
}

/// Why a run failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PipelineError {
    /// An actor that is not replaced failed.
    #[error("the {actor} failed")]
    ActorFailed {
        /// Its name.
        actor: &'static str,
    },
    /// Not everything was written before the deadline.
    #[error("the output was not written within {deadline:?}")]
    DrainDeadline {
        /// [`Timings::drain_deadline`](crate::Timings::drain_deadline).
        deadline: Duration,
    },
    /// Workers failed too often to be a matter of single connections.
    #[error("{failures} workers failed within {window:?}")]
    RestartLimit {
        /// How many.
        failures: usize,
        /// [`Timings::failure_window`](crate::Timings::failure_window).
        window: Duration,
    },
    /// The output could not be written.
    #[error("writing the output failed: {source}")]
    Sink {
        /// The writer's error.
        source: Arc<io::Error>,
    },
    /// An Arbiter did not answer the watchdog.
    #[error("the arbiter of the {arbiter} has not answered for {silence:?} while working on {connection}")]
    Stuck {
        /// The owner of the Arbiter.
        arbiter: &'static str,
        /// Time without an answer.
        silence: Duration,
        /// The stream that its Worker was, or last, at work on.
        connection: String,
    },
}

/// The end of a run.
#[derive(Debug, Clone)]
pub struct Summary {
    /// How it ended.
    pub outcome: Outcome,
    /// The ledger at that moment.
    pub statistics: Statistics,
}

impl Summary {
    /// See [`Statistics::balanced`].
    pub fn balanced(&self) -> bool {
        self.statistics.balanced()
    }
}

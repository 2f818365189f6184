//! A collector of OTLP: spans as records, and this run's figures as metrics.
//!
//! ```text
//! Sink ─► OtlpOutput (Target) ─► Exporter: one thread, one connection ─► collector
//!           one batch in flight ◄─ answer
//! ```
//!
//! Records stay in the Sink's buffer until the collector has answered, so each counts as written when it was
//! taken, as `rejected` when it was refused for good, and comes again when the collector asks for that. The
//! Sink waits between two tries as its policy says, and at least as long as the collector asks for.

mod answer;
mod endpoint;
mod exporter;
mod figures;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use ecapture_actors::{Loss, Resumption, Taken, Target, Unwritten};
use tokio::time::Instant;

use answer::Answer;
pub(crate) use endpoint::Endpoint;
pub(crate) use exporter::ConnectError;
use exporter::{Exporter, Signal, Times};

use super::run_figures::RunFigures;

/// Spans of one request: as many as the SDKs send.
const BATCH_RECORDS: usize = 512;
/// Bytes of one request before compression; a collector takes 4 MiB unless told otherwise.
const BATCH_BYTES: usize = 1024 * 1024;
/// How long spans are collected for one request.
const COLLECTING: Duration = Duration::from_millis(500);
/// How often the figures are sent.
const METRICS: Duration = Duration::from_secs(10);
/// How long an answer is waited for before others have their turn.
const PATIENCE: Duration = Duration::from_millis(5);
/// How long the last figures are waited for.
const LAST_METRICS: Duration = Duration::from_millis(500);

/// See the module's documentation.
pub(crate) struct OtlpOutput {
    exporter: Exporter,
    figures: RunFigures,
    /// The batch that the collector has not answered.
    in_flight: Option<Batch>,
    /// Records at the front that were rejected from the last batch.
    rejected: usize,
    /// The collector asked for no request before this time.
    not_before: Option<Instant>,
    /// The end of the time for the last records.
    deadline: Option<Instant>,
    /// Metrics that the collector has not answered.
    metrics: Option<Receiver<Answer>>,
    /// The last request got no answer, or one that asks to try again.
    has_failed: bool,
    /// A refusal was logged, and nothing was taken since.
    has_warned: bool,
}

/// The records of one request, the first of those that are unwritten.
struct Batch {
    records: usize,
    /// The exporter sends it again while there is time.
    repeats: bool,
    answer: Receiver<Answer>,
}

impl OtlpOutput {
    /// Connects to the collector.
    pub(crate) fn connect(endpoint: Endpoint, figures: RunFigures) -> Result<Self, ConnectError> {
        Ok(Self {
            exporter: Exporter::start(endpoint)?,
            figures,
            in_flight: None,
            rejected: 0,
            not_before: None,
            deadline: None,
            metrics: None,
            has_failed: false,
            has_warned: false,
        })
    }

    /// Sends the first of `records`.
    fn send(&mut self, records: Unwritten<'_>) -> Batch {
        let (mut count, mut bytes) = (0, 0);
        for record in records.records().take(BATCH_RECORDS) {
            if count > 0 && bytes + record.len() > BATCH_BYTES {
                break;
            }
            count += 1;
            bytes += record.len();
        }
        let body = records.bytes()[..bytes].to_vec();
        let times = Times {
            from: self.not_before.take(),
            until: self.deadline,
        };
        Batch {
            records: count,
            repeats: self.deadline.is_some(),
            answer: self.exporter.send(Signal::Traces, body, times),
        }
    }

    fn patience(&self) -> Duration {
        match self.deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => PATIENCE,
        }
    }

    /// Returns true if the last records can still be sent after this time.
    fn has_time(&self, after: Option<Duration>) -> bool {
        let time = Instant::now() + after.unwrap_or_default();
        self.deadline.is_some_and(|deadline| time < deadline)
    }

    /// What becomes of the batch of `count` records that was answered.
    fn settle(&mut self, answer: Answer, count: usize, records: Unwritten<'_>) -> io::Result<Taken> {
        let bytes = |count: usize| records.records().take(count).map(<[u8]>::len).sum();
        match answer {
            Answer::Taken { rejected, message } => {
                self.has_failed = false;
                let rejected = usize::try_from(rejected).unwrap_or(usize::MAX).min(count);
                self.note(rejected, &message);
                if rejected == count {
                    return Ok(Taken::lost(bytes(count), Loss::Rejected));
                }
                // Which of them is not known, so the last ones count as rejected.
                self.rejected = rejected;
                Ok(Taken::written(bytes(count - rejected)))
            }
            Answer::Refused(reason) => {
                self.has_failed = false;
                self.note(count, &reason);
                Ok(Taken::lost(bytes(count), Loss::Rejected))
            }
            Answer::Again { reason, after } => {
                self.has_failed = true;
                self.not_before = after.map(|after| Instant::now() + after);
                Err(io::Error::other(format!(
                    "{}: {reason}",
                    self.exporter.endpoint()
                )))
            }
        }
    }

    /// Logs what the collector says beside its answer; once until it takes everything.
    fn note(&mut self, rejected: usize, message: &str) {
        if rejected == 0 && message.is_empty() {
            self.has_warned = false;
            return;
        }
        let endpoint = self.exporter.endpoint();
        if std::mem::replace(&mut self.has_warned, true) {
            tracing::debug!("{endpoint} rejected {rejected} spans: {message}");
        } else {
            tracing::warn!("{endpoint} rejected {rejected} spans: {message}");
        }
    }

    /// Sends the figures unless earlier ones are under way.
    fn send_metrics(&mut self) {
        if let Some(answer) = &self.metrics {
            match answer.try_recv() {
                Ok(answer) => log_metrics(&answer),
                Err(std::sync::mpsc::TryRecvError::Empty) => return,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => {}
            }
        }
        let figures = figures::encode(&self.figures);
        self.metrics = figures.map(|figures| self.exporter.send(Signal::Metrics, figures, Times::default()));
    }
}

fn log_metrics(answer: &Answer) {
    match answer {
        Answer::Taken { rejected: 0, .. } => {}
        other => tracing::debug!("metrics were not taken: {other:?}"),
    }
}

impl Target for OtlpOutput {
    fn write(&mut self, records: Unwritten<'_>) -> io::Result<Taken> {
        if self.rejected > 0 {
            let (count, bytes) = records
                .records()
                .take(std::mem::take(&mut self.rejected))
                .fold((0, 0), |(count, bytes), record| (count + 1, bytes + record.len()));
            debug_assert!(count > 0, "they stay until they are counted");
            return Ok(Taken::lost(bytes, Loss::Rejected));
        }
        if records.bytes().is_empty() {
            return Ok(Taken::written(0));
        }
        let batch = match self.in_flight.take() {
            Some(batch) => batch,
            None => self.send(records),
        };
        match batch.answer.recv_timeout(self.patience()) {
            // It was sent before there was a deadline. What is left of the time is for another try.
            Ok(Answer::Again { after, .. }) if self.has_time(after) && !batch.repeats => {
                self.not_before = after.map(|after| Instant::now() + after);
                self.in_flight = Some(self.send(records));
                self.write(records)
            }
            Ok(answer) => self.settle(answer, batch.records, records),
            Err(RecvTimeoutError::Timeout) if self.deadline.is_none() => {
                self.in_flight = Some(batch);
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => {
                self.has_failed = true;
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{}: no answer: {error}", self.exporter.endpoint()),
                ))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn collecting_interval(&self) -> Option<Duration> {
        Some(COLLECTING)
    }

    fn conclude(&mut self, within: Duration) {
        self.deadline = Some(Instant::now() + within);
    }

    /// The next request connects.
    fn reopen(&mut self) -> io::Result<Resumption> {
        let now = Instant::now();
        let wait = self.not_before.map(|time| time.saturating_duration_since(now));
        if let Some(wait) = wait
            && !wait.is_zero()
            && !self.has_time(Some(wait))
        {
            let seconds = wait.as_secs_f64();
            return Err(io::Error::other(format!(
                "the collector asked to wait {seconds:.1} s more"
            )));
        }
        self.in_flight = None;
        Ok(Resumption::NewPlace)
    }

    fn tending_interval(&self) -> Option<Duration> {
        Some(METRICS)
    }

    fn tend(&mut self) -> io::Result<()> {
        self.send_metrics();
        Ok(())
    }

    /// Sends the last figures.
    fn finish(&mut self) -> u64 {
        if self.has_failed {
            return 0;
        }
        self.metrics = None;
        self.send_metrics();
        if let Some(answer) = &self.metrics {
            match answer.recv_timeout(LAST_METRICS) {
                Ok(answer) => log_metrics(&answer),
                Err(error) => tracing::debug!("the last metrics were not taken: {error}"),
            }
        }
        0
    }
}

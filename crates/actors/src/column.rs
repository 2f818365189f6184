//! The ledger's figures of one output.
//!
//! ```text
//! produced = written + Σ losses at the Sink
//! ```
//!
//! Messages and formatted bytes; for an output of captured events, these and the bytes of their payloads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::loss::{Loss, LossRow};
use crate::tally::{Count, Tally};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Column {
    name: String,
    /// It is an output of captured events.
    of_events: bool,
    /// Reading waits while it has no room.
    pub(crate) holds_reading: bool,
    produced: Count,
    written: Count,
    unwritten: Count,
    losses: [Count; Loss::ALL.len()],
    at_sink: AtomicU64,
    retries: AtomicU64,
    unacknowledged: AtomicU64,
    left_out: AtomicU64,
}

impl Column {
    pub(crate) fn new(name: String, of_events: bool, holds_reading: bool) -> Self {
        Self {
            name,
            of_events,
            holds_reading,
            ..Self::default()
        }
    }

    pub(crate) fn produce(&self, messages: u64, bytes: u64) {
        self.produced.add(messages, bytes);
        self.unwritten.add(messages, bytes);
    }

    pub(crate) fn write(&self, messages: u64, bytes: u64) {
        self.written.add(messages, bytes);
        self.unwritten.sub(messages, bytes);
        self.at_sink.fetch_sub(bytes, Relaxed);
    }

    /// Counts output that the Sink never got.
    pub(crate) fn lose_unsent(&self, loss: Loss, messages: u64, bytes: u64) {
        self.losses[loss.index()].add(messages, bytes);
        self.unwritten.sub(messages, bytes);
    }

    /// Counts output that was sent to the Sink and that its target never got.
    pub(crate) fn lose(&self, loss: Loss, messages: u64, bytes: u64) {
        self.at_sink.fetch_sub(bytes, Relaxed);
        self.lose_unsent(loss, messages, bytes);
    }

    /// Counts output that is about to be sent to the Sink.
    pub(crate) fn send(&self, bytes: u64) {
        self.at_sink.fetch_add(bytes, Relaxed);
    }

    /// The Sink refused what was about to be sent.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.at_sink.fetch_sub(bytes, Relaxed);
    }

    /// Bytes that were sent to the Sink and are neither written nor lost.
    pub(crate) fn at_sink(&self) -> u64 {
        self.at_sink.load(Relaxed)
    }

    pub(crate) fn produced_bytes(&self) -> u64 {
        self.produced.get().bytes
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        self.written.get().bytes
    }

    /// Produced and neither written nor lost yet.
    pub(crate) fn unwritten(&self) -> Tally {
        self.unwritten.get()
    }

    /// Counts a try to open the target again.
    pub(crate) fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// Counts written bytes that the target had not confirmed when it failed.
    pub(crate) fn doubt(&self, bytes: u64) {
        self.unacknowledged.fetch_add(bytes, Relaxed);
    }

    /// Counts messages that the output's filter does not select.
    pub(crate) fn leave_out(&self, messages: u64) {
        self.left_out.fetch_add(messages, Relaxed);
    }

    /// Counts messages that the format has no records for.
    pub(crate) fn pass_over(&self, messages: u64) {
        self.produced.add(messages, 0);
        self.losses[Loss::NoRecord.index()].add(messages, 0);
    }

    pub(crate) fn lost(&self, loss: Loss) -> Tally {
        self.losses[loss.index()].get()
    }

    pub(crate) fn statistics(&self) -> OutputStatistics {
        OutputStatistics {
            name: self.name.clone(),
            of_events: self.of_events,
            produced: self.produced.get(),
            written: self.written.get(),
            unwritten: self.unwritten.get(),
            losses: Loss::rows(|loss| self.lost(loss)),
            retries: self.retries.load(Relaxed),
            unacknowledged: self.unacknowledged.load(Relaxed),
            left_out: self.left_out.load(Relaxed),
        }
    }
}

/// The figures of one output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputStatistics {
    /// [`Output::name`](crate::Output::name).
    pub name: String,
    /// It gets events as they are captured.
    pub of_events: bool,
    /// Messages and formatted bytes that Workers made for it; for an output of captured events these, and
    /// the bytes of their payloads.
    pub produced: Tally,
    /// Those of them that its target took.
    pub written: Tally,
    /// Those of them that are on their way.
    pub unwritten: Tally,
    /// Those of them that were lost, by reason.
    pub losses: Vec<LossRow>,
    /// Tries to open its target again.
    pub retries: u64,
    /// Bytes that its target had not confirmed when it failed: they count as written and may be lost
    /// nevertheless.
    pub unacknowledged: u64,
    /// Messages that its filter does not select; they are not produced, and not lost.
    pub left_out: u64,
}

impl OutputStatistics {
    /// Returns true if the output's equation holds with nothing on its way.
    pub fn balanced(&self) -> bool {
        let sum = self
            .losses
            .iter()
            .map(LossRow::tally)
            .fold(self.written, Tally::plus);
        sum == self.produced
    }
}

//! The ledger: what was seen, what became of it, and every loss by name.
//!
//! Two equations hold whenever nothing is in flight, and each side is counted where it happens:
//!
//! ```text
//! captured:   seen     = delivered + Σ losses before and in the decoders   (events and bytes)
//! formatted:  produced = written   + Σ losses at the Sink    (messages and bytes, for each output)
//! ```
//!
//! Events are those with bytes and observed facts, which have none; closes are on neither side.
//! *Seen* is what the `RingReader` (or an adapter before it) took from the source. *Delivered*
//! is what a decoder took without failing, minus the bytes it reported as skipped and the bytes
//! it held when it failed. Losses before the source, in the kernel, are listed with their own
//! counters and are on neither side.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use tokio::sync::Notify;

use crate::PipelineLimits;
use crate::by_connection::{ByConnection, ConnectionLosses};
use crate::column::Column;
use crate::loss::{Loss, LossRow};
use crate::tally::{Count, Tally};

/// Provides the kernel side's counters of events that never reached user space.
pub trait KernelCounterSource: Send + Sync {
    /// The current rows, in a fixed order. Called for every snapshot.
    fn rows(&self) -> Vec<LossRow>;
}

/// The counters of one run, shared by all its actors. Adding is wait-free; the actors add once
/// per batch.
#[derive(Debug, Default)]
pub struct Ledger {
    seen: Count,
    delivered: Count,
    /// Losses before the outputs.
    losses: [Count; Loss::ALL.len()],
    /// One for each output.
    columns: OnceLock<Vec<Column>>,
    /// The same losses again, where it is known whose they are.
    by_connection: ByConnection,
    in_flight: Count,
    held: AtomicU64,
    held_captured: AtomicU64,
    pub(crate) gauges: Gauges,
    reader_waits: AtomicBool,
    room: Notify,
    room_below: RoomBelow,
}

/// Reading continues while less than this is in flight.
#[derive(Debug)]
struct RoomBelow {
    events: AtomicU64,
    bytes: AtomicU64,
    output_bytes: AtomicU64,
}

impl Default for RoomBelow {
    fn default() -> Self {
        let unlimited = || AtomicU64::new(u64::MAX);
        Self {
            events: unlimited(),
            bytes: unlimited(),
            output_bytes: unlimited(),
        }
    }
}

/// Figures that are on no side of an equation.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) closes: AtomicU64,
    pub(crate) observed: AtomicU64,
    pub(crate) live_workers: AtomicU64,
    pub(crate) peak_workers: AtomicU64,
    pub(crate) started_workers: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) quarantined: AtomicU64,
    pub(crate) shed_connections: AtomicU64,
    pub(crate) sleeping: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) late_notices: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) stall_ns: AtomicU64,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts events taken from the source.
    pub(crate) fn see(&self, events: u64, bytes: u64) {
        self.in_flight.add(events, bytes);
        self.seen.add(events, bytes);
    }

    /// Counts events that an adapter before the pipeline saw and did not pass on.
    pub fn lose_before_reading(&self, loss: Loss, events: u64, bytes: u64) {
        self.seen.add(events, bytes);
        self.losses[loss.index()].add(events, bytes);
    }

    /// Counts events that a decoder took.
    pub(crate) fn deliver(&self, events: u64, bytes: u64) {
        self.delivered.add(events, bytes);
        self.settle(events, bytes);
    }

    /// Counts events that never reached a decoder, or failed in one.
    pub(crate) fn lose(&self, loss: Loss, events: u64, bytes: u64) {
        self.losses[loss.index()].add(events, bytes);
        self.settle(events, bytes);
    }

    /// Counts bytes that were delivered and then not emitted.
    pub(crate) fn lose_delivered(&self, loss: Loss, bytes: u64) {
        self.delivered.sub(0, bytes);
        self.losses[loss.index()].add(0, bytes);
    }

    /// Like [`Self::lose`], where the connection is known. Every loss of a known connection goes through
    /// one of the methods with `_of`, so that the two accounts agree.
    pub(crate) fn lose_of(&self, uuid: &str, loss: Loss, events: u64, bytes: u64) {
        self.lose(loss, events, bytes);
        self.by_connection.add(uuid, loss, events, bytes);
    }

    /// Like [`Self::lose_delivered`], where the connection is known.
    pub(crate) fn lose_delivered_of(&self, uuid: &str, loss: Loss, bytes: u64) {
        self.lose_delivered(loss, bytes);
        self.by_connection.add(uuid, loss, 0, bytes);
    }

    /// Like [`Self::lose_before_reading`], where the connection is known.
    pub(crate) fn lose_before_reading_of(&self, uuid: &str, loss: Loss, events: u64, bytes: u64) {
        self.lose_before_reading(loss, events, bytes);
        self.by_connection.add(uuid, loss, events, bytes);
    }

    /// Counts bytes of a connection that never came from the kernel, which counts them itself.
    pub(crate) fn miss_of(&self, uuid: &str, bytes: u64) {
        self.by_connection.add_missing(uuid, bytes);
    }

    /// The losses by connection; see [`ByConnection::snapshot`].
    pub(crate) fn losses_by_connection(&self) -> (Vec<ConnectionLosses>, Tally) {
        self.by_connection.snapshot()
    }

    /// Makes the columns of the run's outputs. A ledger counts one run.
    pub(crate) fn open_columns(&self, columns: Vec<Column>) {
        let opened = self.columns.set(columns);
        debug_assert!(opened.is_ok(), "a ledger counts one run");
    }

    /// The columns of all outputs.
    pub(crate) fn columns(&self) -> &[Column] {
        self.columns.get().map_or(&[], Vec::as_slice)
    }

    /// The column of one output.
    pub(crate) fn column(&self, output: usize) -> &Column {
        &self.columns()[output]
    }

    /// Counts output that its target took.
    pub(crate) fn write(&self, output: usize, messages: u64, bytes: u64) {
        self.column(output).write(messages, bytes);
    }

    /// Counts output that was sent to the Sink and that its target never got.
    pub(crate) fn lose_output(&self, output: usize, loss: Loss, messages: u64, bytes: u64) {
        self.column(output).lose(loss, messages, bytes);
    }

    /// Counts output that the Sink never got.
    pub(crate) fn lose_unsent(&self, output: usize, loss: Loss, messages: u64, bytes: u64) {
        self.column(output).lose_unsent(loss, messages, bytes);
    }

    /// True while the output's Sink has less than its share of the memory.
    pub(crate) fn sink_has_room(&self, output: usize) -> bool {
        self.column(output).at_sink() < self.room_below.output_bytes.load(Relaxed)
    }

    /// True while every Sink that the run waits for has less than its share of the memory.
    pub(crate) fn sinks_have_room(&self) -> bool {
        let most = self.room_below.output_bytes.load(Relaxed);
        self.awaited().all(|column| column.at_sink() < most)
    }

    /// True while less is formatted and not yet written than the share of the memory, in every output that
    /// the run waits for.
    pub(crate) fn output_has_room(&self) -> bool {
        let most = self.room_below.output_bytes.load(Relaxed);
        self.awaited().all(|column| column.unwritten().bytes < most)
    }

    /// Bytes that were written to the output that the run waits for most: the one with most at its Sink.
    pub(crate) fn slowest_written_bytes(&self) -> u64 {
        let slowest = self.awaited().max_by_key(|column| column.at_sink());
        slowest.map_or(0, Column::written_bytes)
    }

    fn awaited(&self) -> impl Iterator<Item = &Column> {
        self.columns().iter().filter(|column| column.holds_reading)
    }

    /// Replaces what one decoder holds in the sum of all.
    pub(crate) fn hold(&self, before: usize, now: usize) {
        if now >= before {
            self.held.fetch_add((now - before) as u64, Relaxed);
        } else {
            self.held.fetch_sub((before - now) as u64, Relaxed);
        }
    }

    /// Replaces how many captured bytes one decoder holds back in the sum of all.
    pub(crate) fn hold_captured(&self, before: u64, now: u64) {
        if now >= before {
            self.held_captured.fetch_add(now - before, Relaxed);
        } else {
            self.held_captured.fetch_sub(before - now, Relaxed);
        }
    }

    /// Captured bytes that count as delivered and that decoders hold back.
    pub(crate) fn held_captured(&self) -> u64 {
        self.held_captured.load(Relaxed)
    }

    /// Bytes that all decoders hold.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Read and neither delivered nor lost yet.
    pub(crate) fn in_flight(&self) -> Tally {
        self.in_flight.get()
    }

    pub(crate) fn seen(&self) -> Tally {
        self.seen.get()
    }

    pub(crate) fn delivered(&self) -> Tally {
        self.delivered.get()
    }

    /// Bytes that were formatted for all outputs.
    pub(crate) fn produced_bytes(&self) -> u64 {
        self.columns().iter().map(Column::produced_bytes).sum()
    }

    /// The losses that are not zero, those of all outputs together.
    pub(crate) fn loss_rows(&self) -> Vec<LossRow> {
        Loss::rows(|loss| {
            let columns = self.columns().iter().map(|column| column.lost(loss));
            columns.fold(self.losses[loss.index()].get(), Tally::plus)
        })
    }

    /// Counts one more live Worker.
    pub(crate) fn worker_started(&self) {
        let live = self.gauges.live_workers.fetch_add(1, Relaxed) + 1;
        self.gauges.peak_workers.fetch_max(live, Relaxed);
        self.gauges.started_workers.fetch_add(1, Relaxed);
    }

    /// Counts one live Worker less.
    pub(crate) fn worker_ended(&self) {
        self.gauges.live_workers.fetch_sub(1, Relaxed);
    }

    /// Sets what [`Self::has_room`] compares with.
    pub(crate) fn limit(&self, limits: &PipelineLimits) {
        // A replay collects a whole round before it passes it on.
        let events = limits.in_flight_events.max(2 * limits.round_events);
        self.room_below.events.store(events as u64, Relaxed);
        self.room_below
            .bytes
            .store(limits.in_flight_bytes() as u64, Relaxed);
        self.room_below
            .output_bytes
            .store(limits.output_bytes() as u64, Relaxed);
    }

    /// True while more may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.has_quarters(4)
    }

    /// Returns true if less is in flight than this many quarters of the limit.
    pub(crate) fn has_quarters(&self, quarters: u64) -> bool {
        let is_below =
            |now: u64, most: &AtomicU64| now.saturating_mul(4) < most.load(Relaxed).saturating_mul(quarters);
        let in_flight = self.in_flight.get();
        is_below(in_flight.events, &self.room_below.events)
            && is_below(in_flight.bytes, &self.room_below.bytes)
    }

    /// Returns once more may be read. One waiter at a time: the `RingReader`.
    pub(crate) async fn room(&self) {
        loop {
            // The flag goes up before the look and the figures change before the flag is read,
            // so that either side sees the other.
            self.reader_waits.store(true, SeqCst);
            if self.has_room() {
                self.reader_waits.store(false, SeqCst);
                return;
            }
            self.room.notified().await;
        }
    }

    fn settle(&self, events: u64, bytes: u64) {
        self.in_flight.sub(events, bytes);
        if self.reader_waits.load(SeqCst) && self.has_room() {
            self.room.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_bytes_move_from_delivered_to_a_loss() {
        let ledger = Ledger::new();
        ledger.see(2, 30);
        ledger.deliver(2, 30);
        ledger.lose_delivered(Loss::BodyLimit, 12);
        assert_eq!(ledger.delivered().bytes, 18);
        assert_eq!(ledger.in_flight(), Tally::default());
        assert_eq!(ledger.loss_rows()[0].bytes, 12);
    }
}

//! What of a Worker must outlive it, however it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::WorkerPorts;
use crate::Clock;
use crate::ledger::Loss;
use crate::messages::{
    Position, RecordBatch, RecordKey, SequencedNotice, Span, StreamEvent, StreamRef, WorkerExited,
};

/// Bytes a Worker's decoder holds, for the Processor to read.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// Tells the Processor that its Worker is gone and hands over what it left. Its drop runs on an
/// orderly stop, on a panic and at the end of an Arbiter alike; it is made by the Processor, so
/// that even a Worker that never started is reported.
pub(crate) struct ExitGuard {
    pub(crate) ports: Arc<WorkerPorts>,
    pub(crate) stream: StreamRef,
    /// Events of the current batch, not fed yet.
    pub(super) inbox: VecDeque<StreamEvent>,
    pub(super) position: Position,
    /// The Worker has emitted all it had.
    pub(super) closed: bool,
    /// Not reported yet.
    pub(super) notices: Vec<SequencedNotice>,
    gauge: Arc<Gauge>,
    /// Bytes of the event being fed.
    feeding: Option<u64>,
    fed: u64,
    fed_bytes: u64,
    counted: u64,
    counted_bytes: u64,
    held: usize,
    /// Captured bytes that may be in what is held: never more than was fed.
    held_captured: u64,
    records: RecordBatch,
    /// Length of the finished records; what is beyond was being written.
    finished: usize,
    records_counted: bool,
    record_index: u64,
    last_key: RecordKey,
}

impl ExitGuard {
    pub(crate) fn new(
        ports: Arc<WorkerPorts>,
        stream: StreamRef,
        gauge: Arc<Gauge>,
        position: Position,
    ) -> Self {
        ports.ledger.worker_started();
        Self {
            ports,
            stream,
            inbox: VecDeque::new(),
            position,
            closed: false,
            notices: Vec::new(),
            gauge,
            feeding: None,
            fed: 0,
            fed_bytes: 0,
            counted: 0,
            counted_bytes: 0,
            held: 0,
            held_captured: 0,
            records: RecordBatch::default(),
            finished: 0,
            records_counted: false,
            record_index: 0,
            last_key: RecordKey {
                sequence: position.sequence,
                ..RecordKey::default()
            },
        }
    }

    /// The next event to feed; it counts as failed until [`Self::commit`].
    pub(super) fn begin(&mut self) -> Option<StreamEvent> {
        let event = self.inbox.pop_front()?;
        self.feeding = Some(event.payload.len() as u64);
        self.position.sequence = event.sequence;
        self.position.timestamp_ns = event.timestamp_ns;
        Some(event)
    }

    /// The event was fed, and the decoder now holds `held` bytes.
    pub(super) fn commit(&mut self, event: &StreamEvent, held: usize) {
        let bytes = event.payload.len() as u64;
        self.feeding = None;
        self.fed += 1;
        self.fed_bytes += bytes;
        self.held_captured = (self.held_captured + bytes).min(held as u64);
        if let Some(offset) = event.stream_offset {
            self.position.offset = Some(offset.saturating_add(bytes));
        }
    }

    /// Bytes that the pipeline lost will not be missed again.
    pub(super) fn skip_offset(&mut self, bytes: Option<u64>) {
        if let (Some(expected), Some(bytes)) = (self.position.offset, bytes) {
            self.position.offset = Some(expected.saturating_add(bytes));
        }
    }

    pub(super) fn fed(&self) -> u64 {
        self.fed
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// The decoder now holds `held` bytes.
    pub(super) fn hold(&mut self, held: usize) {
        if held != self.held {
            self.ports.ledger.hold(self.held, held);
            self.gauge.0.store(held, Relaxed);
            self.held = held;
        }
        self.held_captured = self.held_captured.min(held as u64);
    }

    /// Counts what the decoder held as lost; returns how many captured bytes that were.
    pub(super) fn lose_held(&mut self, loss: Loss) -> u64 {
        let bytes = std::mem::take(&mut self.held_captured);
        self.ports.ledger.lose_delivered(loss, bytes);
        self.hold(0);
        bytes
    }

    /// Brings the ledger up to date with what was fed.
    pub(super) fn count_fed(&mut self) {
        let (events, bytes) = (self.fed - self.counted, self.fed_bytes - self.counted_bytes);
        if events > 0 {
            self.ports.ledger.deliver(events, bytes);
            self.counted = self.fed;
            self.counted_bytes = self.fed_bytes;
        }
    }

    /// Where the formatter writes.
    pub(super) fn record_bytes(&mut self) -> &mut Vec<u8> {
        &mut self.records.bytes
    }

    /// What was written since the last call is one finished record of `messages` messages.
    pub(super) fn commit_record(&mut self, key: RecordKey, messages: usize) {
        let end = self.records.bytes.len();
        self.records.messages += messages as u64;
        if self.ports.clock == Clock::Stream {
            // One Worker's records never change places, whatever made them complete.
            self.last_key = self.last_key.max(key);
            let key = RecordKey {
                worker: self.stream.worker,
                index: self.record_index,
                ..self.last_key
            };
            self.record_index += 1;
            self.records.spans.push(Span {
                key,
                end,
                messages: messages as u64,
            });
        }
        self.finished = end;
    }

    /// The finished records, counted as produced.
    pub(super) fn take_records(&mut self) -> Option<RecordBatch> {
        self.records.bytes.truncate(self.finished);
        if self.records.messages == 0 {
            return None;
        }
        let records = std::mem::take(&mut self.records);
        self.finished = 0;
        if !self.records_counted {
            self.ports
                .ledger
                .produce(records.messages, records.bytes.len() as u64);
        }
        self.records_counted = false;
        Some(records)
    }

    /// Takes back records that the Sink refused.
    pub(super) fn keep_records(&mut self, records: RecordBatch) {
        self.finished = records.bytes.len();
        self.records = records;
        self.records_counted = true;
    }
}

impl Drop for ExitGuard {
    #[expect(
        clippy::disallowed_methods,
        reason = "one record batch and one notice at the end of a Worker's life"
    )]
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        self.count_fed();
        self.ports.ledger.hold(self.held, 0);
        if let Some(records) = self.take_records() {
            self.ports.records.do_send(records);
        }
        self.ports.ledger.worker_ended();
        let exited = WorkerExited {
            stream: self.stream,
            panicked,
            fed: self.fed,
            fed_bytes: self.fed_bytes,
            failed_bytes: self.feeding,
            leftover: std::mem::take(&mut self.inbox).into(),
            closed: self.closed,
            position: self.position,
            held_bytes: if panicked { self.held_captured } else { 0 },
            notices: std::mem::take(&mut self.notices),
        };
        if let Some(exits) = self.ports.exits.upgrade() {
            exits.do_send(exited);
        }
    }
}

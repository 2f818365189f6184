//! The part of a Worker's state that must survive its end, orderly or not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use ecapture_protocols::{Output, Records, StreamDecoder};

use super::WorkerPorts;
use crate::Clock;
use crate::loss::Loss;
use crate::messages::{
    Cause, Kept, Position, RecordBatch, RecordKey, SequencedNotice, StreamEvent, StreamRef, TurnReport,
    WorkerExited,
};

/// Figures of a Worker that the Processor may read at any time. Only the Worker changes them.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    held: AtomicUsize,
    fed_bytes: AtomicU64,
    /// Captured bytes in the held bytes, as the ledger counts them.
    held_captured: AtomicU64,
}

impl Gauge {
    /// Creates the gauge of a Worker that continues with the state of another one.
    pub(crate) fn of(kept: &Kept) -> Self {
        Self {
            held: kept.held.into(),
            fed_bytes: AtomicU64::default(),
            held_captured: kept.held_captured.into(),
        }
    }

    /// Returns the number of bytes that the decoder holds.
    pub(crate) fn bytes(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Returns the number of bytes of the events fed to the decoder.
    pub(crate) fn fed_bytes(&self) -> u64 {
        self.fed_bytes.load(Relaxed)
    }
}

/// The state that a Worker needs while it handles one message. Workers of one Arbiter run one after
/// the other, so a single one serves them all: an idle Worker owns none.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Events of the current batch, not fed yet.
    pub(super) inbox: VecDeque<StreamEvent>,
    /// Not reported yet.
    pub(super) notices: Vec<SequencedNotice>,
    /// A question to the other direction, and one of it that has been reached; not reported yet.
    pub(super) asks: Option<u16>,
    pub(super) caught_up: Option<u16>,
    /// The Arbiter's records that the Sinks have not received yet, for each output that Workers
    /// format; this Worker's are last.
    pub(super) batches: Vec<RecordBatch>,
    /// Bytes of the event being fed.
    feeding: Option<u64>,
    /// The turn has done enough.
    is_spent: bool,
    fed: u64,
    fed_bytes: u64,
    /// Bytes formatted in this turn.
    formatted: u64,
}

impl Turn {
    /// Returns the records to which the formatter of one output writes.
    pub(super) fn records(&mut self, batch: usize) -> &mut Records {
        &mut self.batch(batch).records
    }

    fn batch(&mut self, batch: usize) -> &mut RecordBatch {
        if batch >= self.batches.len() {
            self.batches.resize_with(batch + 1, RecordBatch::default);
        }
        &mut self.batches[batch]
    }
}

/// Notifies the Processor that its Worker is gone, and hands over the state that it left. Its drop
/// runs on an orderly stop, on a panic and at the end of an Arbiter alike. It is created by the
/// Processor, so that even a Worker that never started is reported.
pub(crate) struct ExitGuard {
    pub(crate) ports: Arc<WorkerPorts>,
    pub(crate) stream: StreamRef,
    pub(super) position: Position,
    /// The Worker has emitted everything.
    pub(super) closed: bool,
    gauge: Arc<Gauge>,
    fed: u64,
    /// Captured bytes that may be among the held bytes: never more than were fed.
    held_captured: u64,
    /// The place of its last record, without its own number.
    last: (u64, Cause, u64),
    records: u64,
    turn: Option<Box<Turn>>,
    /// The decoder, for the successor.
    kept: Option<Box<Kept>>,
    /// Events that the last turn did not reach.
    #[expect(
        clippy::box_collection,
        reason = "a silent Worker has none: 8 bytes instead of 32"
    )]
    rest: Option<Box<VecDeque<StreamEvent>>>,
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
            position,
            closed: false,
            fed: 0,
            held_captured: gauge.held_captured.load(Relaxed),
            gauge,
            last: (position.sequence, Cause::default(), 0),
            records: 0,
            turn: None,
            kept: None,
            rest: None,
        }
    }

    /// Leaves the decoder, and what it holds, to the next Worker of this stream. Comes after the last turn.
    pub(super) fn keep(&mut self, decoder: Box<dyn StreamDecoder>, quarantined: bool) {
        self.kept = Some(Box::new(Kept {
            decoder,
            position: self.position,
            held: self.held(),
            held_captured: self.held_captured,
            quarantined,
        }));
    }

    /// Takes the Arbiter's turn, and its output vectors.
    pub(super) fn begin_turn(&mut self, inbox: VecDeque<StreamEvent>) -> Output {
        let (mut turn, output) = self.ports.outbox.lend();
        // Before the events just received: a turn that takes no events puts them back.
        turn.inbox = self.take_rest();
        turn.inbox.extend(inbox);
        turn.is_spent = false;
        turn.formatted = 0;
        self.turn = Some(turn);
        output
    }

    /// Takes the notices that the decoder sent in this turn.
    pub(super) fn take_notices(&mut self) -> Vec<SequencedNotice> {
        std::mem::take(&mut self.turn().notices)
    }

    /// Returns the turn with its results. Returns false if Workers have to wait for the Sink.
    pub(super) fn end_turn(&mut self, output: Output, report: Option<TurnReport>) -> bool {
        let mut turn = self.turn.take().unwrap_or_default();
        self.count(&mut turn);
        let rest = std::mem::take(&mut turn.inbox);
        self.rest = (!rest.is_empty()).then(|| Box::new(rest));
        self.ports.outbox.take_back(turn, output, report)
    }

    /// Returns the current turn.
    pub(super) fn turn(&mut self) -> &mut Turn {
        self.turn.get_or_insert_default()
    }

    /// Returns true if the turn has done enough, so that other Workers on the Arbiter must run.
    pub(super) fn is_spent(&mut self) -> bool {
        self.turn().is_spent
    }

    /// Makes the current event the last of this turn.
    pub(super) fn spend_turn(&mut self) {
        self.turn().is_spent = true;
    }

    /// Returns true if events of the current batch are left for the next turn.
    pub(super) fn has_rest(&self) -> bool {
        match &self.turn {
            Some(turn) => !turn.inbox.is_empty(),
            None => self.rest.is_some(),
        }
    }

    /// Takes the events that the last turn left.
    pub(super) fn take_rest(&mut self) -> VecDeque<StreamEvent> {
        self.rest.take().map_or_else(VecDeque::new, |rest| *rest)
    }

    /// Takes the next event to feed in this turn. It counts as failed until [`Self::commit`].
    pub(super) fn begin(&mut self) -> Option<StreamEvent> {
        let turn = self.turn();
        if turn.is_spent {
            return None;
        }
        let event = turn.inbox.pop_front()?;
        turn.feeding = Some(event.payload.len() as u64);
        self.position.sequence = event.sequence;
        self.position.timestamp_ns = event.timestamp_ns;
        Some(event)
    }

    /// Notes that the event was fed and that the decoder now holds `held` bytes.
    pub(super) fn commit(&mut self, event: &StreamEvent, held: usize) {
        let bytes = event.payload.len() as u64;
        let most = self.ports.limits.turn_bytes() as u64;
        let turn = self.turn();
        turn.feeding = None;
        turn.fed += 1;
        turn.fed_bytes += bytes;
        turn.is_spent |= turn.fed_bytes >= most || turn.formatted >= most;
        self.held_captured = (self.held_captured + bytes).min(held as u64);
        if let Some(offset) = event.stream_offset {
            self.position.offset = Some(offset.saturating_add(bytes));
        }
    }

    /// Notes that the decoder has decoded a part of its held input.
    pub(super) fn end_step(&mut self) {
        let most = self.ports.limits.turn_bytes() as u64;
        let turn = self.turn();
        turn.is_spent |= turn.formatted >= most;
    }

    /// Skips bytes that the pipeline lost, so that they are not reported missing again.
    pub(super) fn skip_offset(&mut self, bytes: Option<u64>) {
        if let (Some(expected), Some(bytes)) = (self.position.offset, bytes) {
            self.position.offset = Some(expected.saturating_add(bytes));
        }
    }

    /// Returns the number of events fed before this turn.
    pub(super) fn fed(&self) -> u64 {
        self.fed
    }

    pub(super) fn held(&self) -> usize {
        self.gauge.bytes()
    }

    /// Notes that the decoder now holds `held` bytes.
    pub(super) fn hold(&mut self, held: usize) {
        let before = self.held();
        if held != before {
            self.ports.ledger.hold(before, held);
            self.gauge.held.store(held, Relaxed);
        }
        self.held_captured = self.held_captured.min(held as u64);
    }

    /// Brings the ledger up to date with the captured bytes that are held.
    fn count_held(&self, held: u64) {
        let before = self.gauge.held_captured.swap(held, Relaxed);
        if before != held {
            self.ports.ledger.hold_captured(before, held);
        }
    }

    /// Counts the bytes that the decoder held as lost; returns how many captured ones these were.
    pub(super) fn lose_held(&mut self, uuid: &str, loss: Loss) -> u64 {
        let bytes = std::mem::take(&mut self.held_captured);
        self.ports.ledger.lose_delivered_of(uuid, loss, bytes);
        self.hold(0);
        bytes
    }

    /// The place of the records that are written next.
    pub(super) fn place(&mut self, key: RecordKey) -> RecordKey {
        // The Sink sorts the records of a round by this place, and a Worker's records must keep the
        // order in which it wrote them. But a notice has the sequence of the other direction's event,
        // which may be older than the event whose records were written last: its records then get the
        // place of those, and `index` orders them.
        self.last = self.last.max((key.sequence, key.cause, key.deadline_ns));
        self.records += 1;
        let (sequence, cause, deadline_ns) = self.last;
        RecordKey {
            sequence,
            cause,
            deadline_ns,
            worker: self.stream.worker,
            index: self.records,
        }
    }

    /// Finishes the records written for one output since the last call; their place is `key`.
    pub(super) fn commit_records(&mut self, batch: usize, key: RecordKey) {
        let is_replay = self.ports.clock == Clock::Stream;
        let turn = self.turn();
        let left_out = turn.records(batch).take_left_out();
        let passed_over = turn.records(batch).take_passed_over();
        let bytes = turn.batch(batch).finish(is_replay.then_some(key));
        turn.formatted += bytes as u64;
        let output = self.ports.formatted[batch].output;
        if left_out > 0 {
            self.ports.ledger.column(output).leave_out(left_out);
        }
        if passed_over > 0 {
            self.ports.ledger.column(output).pass_over(passed_over);
        }
    }

    /// Brings the ledger up to date with the turn.
    fn count(&mut self, turn: &mut Turn) {
        let ledger = &self.ports.ledger;
        let (fed, fed_bytes) = (std::mem::take(&mut turn.fed), std::mem::take(&mut turn.fed_bytes));
        self.fed += fed;
        for (batch, formatted) in turn.batches.iter_mut().zip(&self.ports.formatted) {
            let (messages, bytes) = batch.count();
            if bytes > 0 {
                ledger.column(formatted.output).produce(messages, bytes);
            }
        }
        if fed > 0 {
            ledger.deliver(fed, fed_bytes);
            self.gauge.fed_bytes.fetch_add(fed_bytes, Relaxed);
        }
        self.count_held(self.held_captured);
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        let mut exited = WorkerExited {
            stream: self.stream,
            panicked,
            fed: 0,
            fed_bytes: 0,
            failed_bytes: None,
            leftover: Vec::new(),
            closed: self.closed,
            position: self.position,
            held_bytes: if panicked { self.held_captured } else { 0 },
            notices: Vec::new(),
            kept: self.kept.take(),
        };
        // A turn that is still here was broken off.
        if let Some(mut turn) = self.turn.take() {
            self.count(&mut turn);
            turn.batches.iter_mut().for_each(RecordBatch::break_off);
            exited.failed_bytes = turn.feeding.take();
            exited.leftover = std::mem::take(&mut turn.inbox).into();
            exited.notices = std::mem::take(&mut turn.notices);
            self.ports.outbox.give_back(turn, Output::default());
        }
        exited.leftover.extend(self.take_rest());
        if exited.kept.is_none() {
            self.count_held(0);
            self.ports.ledger.hold(self.held(), 0);
        }
        (exited.fed, exited.fed_bytes) = (self.fed, self.gauge.fed_bytes());
        if self.ports.clock == Clock::Stream {
            self.ports.places.forget(self.stream.worker);
        }
        self.ports.ledger.worker_ended();
        self.ports.outbox.tell_exit(exited);
    }
}

//! Every message that crosses actors.

use std::fmt;
use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use ecapture_protocols::message::Gap;
use ecapture_protocols::{
    CapturedEvent, Direction, Observed, Origin, PeerNotice, RecordEnd, Records, StreamDecoder,
};

/// Names one Worker for ever: never used twice, so it is its generation as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct WorkerId(pub(crate) u64);

/// Place of a connection in the registry. Reused after the connection's end; a [`StreamRef`]
/// distinguishes old from new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u32);

/// One Worker and the place it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamRef {
    pub(crate) connection: ConnectionId,
    pub(crate) direction: Direction,
    pub(crate) worker: WorkerId,
}

/// `RingReader` → Processor: events in source order, numbered from `first_sequence` on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EventBatch {
    pub(crate) first_sequence: u64,
    /// [`Clock::Stream`](crate::Clock::Stream): the time has come to this before the first
    /// event, and something may have expired.
    pub(crate) advance_ns: Option<u64>,
    pub(crate) events: Vec<CapturedEvent>,
}

/// `RingReader` → Processor: no batch follows.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SourceEnded;

/// The part of an event that a Worker needs; the rest is in its [`Origin`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StreamEvent {
    pub(crate) sequence: u64,
    pub(crate) timestamp_ns: u64,
    pub(crate) stream_offset: Option<u64>,
    pub(crate) payload: Payload,
}

/// The content of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// The next bytes of a stream.
    Bytes(Bytes),
    /// A fact, which needs no decoder.
    Fact(Box<Observed>),
}

impl Payload {
    /// Its captured bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Fact(observed) => usize::try_from(observed.fact.payload_bytes()).unwrap_or(usize::MAX),
        }
    }
}

/// How far a stream has been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// The last event that was begun, failed or not.
    pub(crate) sequence: u64,
    /// Its time.
    pub(crate) timestamp_ns: u64,
    /// Where the next byte is expected, by the last event that did not fail.
    pub(crate) offset: Option<u64>,
}

/// A notice and the event that caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SequencedNotice {
    pub(crate) sequence: u64,
    pub(crate) notice: PeerNotice,
}

/// Processor → Worker: the events of one batch that belong to its stream.
#[derive(Message, Default)]
#[rtype(result = "()")]
pub(crate) struct WorkerBatch {
    pub(crate) events: Vec<StreamEvent>,
    /// More is known about the connection than before.
    pub(crate) origin: Option<Arc<Origin>>,
    /// Bytes the pipeline itself lost before these events.
    pub(crate) gap: Option<Gap>,
    /// Notices that waited for this Worker.
    pub(crate) notices: Vec<SequencedNotice>,
    /// The other direction has a Worker, so notices may come.
    pub(crate) has_sibling: bool,
}

/// Processor → Worker: the notices of the other direction.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PeerNotices(pub(crate) Vec<SequencedNotice>);

/// Processor → Worker, [`Clock::Live`](crate::Clock::Live) only: the other direction waits for notices; report
/// that everything before this message has been processed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CatchUp {
    pub(crate) question: u16,
}

/// Processor → Worker, [`Clock::Live`](crate::Clock::Live) only: the other direction has processed everything
/// that it had when the Worker asked this, and its notices were passed on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PeerCaughtUp {
    pub(crate) question: u16,
}

/// Processor → Worker, [`Clock::Stream`](crate::Clock::Stream) only: the time is now `now_ns`;
/// `sequence` is the last event before it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Advance {
    pub(crate) now_ns: u64,
    pub(crate) sequence: u64,
}

/// Why a Worker is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its connection was closed.
    Closed,
    /// The source has ended.
    Drained,
    /// A plain stream was silent for the idle time: it goes to sleep.
    Idle,
    /// A connection was silent for long: it goes to sleep.
    Hibernated,
    /// The limits ask for its place.
    Shed,
    /// The limits require the place of a sleeping plain stream. It is unknown whether the stream
    /// continues.
    GivenUp,
}

impl End {
    /// The stream may continue: its decoder is kept for the next Worker.
    pub(crate) const fn keeps_decoder(self) -> bool {
        matches!(self, Self::Idle | Self::Hibernated)
    }
}

/// The state that a Worker leaves to the next one of its stream when it ends by silence. The ledger
/// still counts what the decoder holds.
pub(crate) struct Kept {
    pub(crate) decoder: Box<dyn StreamDecoder>,
    pub(crate) position: Position,
    /// Bytes that the decoder holds, and how many captured ones may be in them.
    pub(crate) held: usize,
    pub(crate) held_captured: u64,
    /// The decoder replaces one that took too long.
    pub(crate) quarantined: bool,
}

impl fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Kept")
            .field("position", &self.position)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

/// Processor → Worker: emit what is held and stop.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Retire {
    pub(crate) end: End,
    /// The event, or the last event before the moment, that caused it.
    pub(crate) sequence: u64,
    /// No notice will come any more. Without this, a Worker whose decoder waits for one says so and
    /// stays until it is retired again.
    pub(crate) last: bool,
}

/// The answer to one message in a replay; in a capture only sent when there
/// is something to say.
#[derive(Debug)]
pub(crate) struct TurnReport {
    pub(crate) stream: StreamRef,
    /// For the Worker of the other direction.
    pub(crate) notices: Vec<SequencedNotice>,
    /// A plain stream has been idle since its `n`th event: may it end?
    pub(crate) idle_after: Option<u64>,
    /// It was retired and waits for the last notices of the other direction.
    pub(crate) holds_on: bool,
    /// Capture: its decoder has waited long enough for a notice if the other direction has caught up. The
    /// number of the wait.
    pub(crate) asks: Option<u16>,
    /// Capture: this question of the other direction has been reached: see [`CatchUp`].
    pub(crate) caught_up: Option<u16>,
    /// Replay: the message has been processed, not only a part of it.
    pub(crate) answers: bool,
    /// The next moment at which something expires.
    pub(crate) deadline_ns: Option<u64>,
}

/// Sent by the guard of every Worker that ends, however it ends.
#[derive(Debug)]
pub(crate) struct WorkerExited {
    pub(crate) stream: StreamRef,
    pub(crate) panicked: bool,
    /// Events taken from its mailbox and fed without failure, since it started.
    pub(crate) fed: u64,
    pub(crate) fed_bytes: u64,
    /// Bytes of the event during which it failed.
    pub(crate) failed_bytes: Option<u64>,
    /// Events of its last batch that it had not come to.
    pub(crate) leftover: Vec<StreamEvent>,
    /// Everything it held has been emitted: nothing is lost even if it panicked since.
    pub(crate) closed: bool,
    /// How far it had come.
    pub(crate) position: Position,
    /// Captured bytes the decoder held when it failed.
    pub(crate) held_bytes: u64,
    /// Notices it had not passed on.
    pub(crate) notices: Vec<SequencedNotice>,
    /// Its decoder, when it ended by silence.
    pub(crate) kept: Option<Box<Kept>>,
}

/// A Worker's report to the Processor.
#[derive(Debug)]
pub(crate) enum WorkerReport {
    Exited(Box<WorkerExited>),
    Turn(TurnReport),
}

/// Workers of one Arbiter → Processor: their reports, in the order in which they were made.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub(crate) struct WorkerReports(pub(crate) Vec<WorkerReport>);

/// Orders the records of a replay: by the event that completed them, then events before notices
/// before expiries, then by the moment of expiry, then by Worker, then as produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct RecordKey {
    pub(crate) sequence: u64,
    pub(crate) cause: Cause,
    pub(crate) deadline_ns: u64,
    pub(crate) worker: WorkerId,
    pub(crate) index: u64,
}

/// The cause of a record's completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Cause {
    #[default]
    Event,
    Notice,
    Expiry,
}

/// The records that one event completed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) key: RecordKey,
    /// Records of the batch up to its end.
    pub(crate) records: usize,
}

/// Workers of one Arbiter → Sink: formatted records, in order per Worker.
#[derive(Message, Debug, Default)]
#[rtype(result = "()")]
pub(crate) struct RecordBatch {
    pub(crate) records: Records,
    /// Replay: what the records are sorted by.
    pub(crate) spans: Vec<Span>,
    /// Records that are finished; what is beyond is being written.
    pub(crate) finished: usize,
    /// How far they count as produced.
    pub(crate) counted: RecordEnd,
}

impl RecordBatch {
    /// Creates a batch with room for the records after `self`: probably as many bytes again, but at
    /// most `most`.
    pub(crate) fn next(&self, most: usize) -> Self {
        let bytes = self.records.as_bytes().len();
        Self {
            records: Records::with_capacity((bytes + bytes / 2).min(most), self.records.ends().len()),
            spans: Vec::with_capacity(self.spans.len()),
            ..Self::default()
        }
    }

    /// Finishes the records written since the last call. Returns their length in bytes.
    pub(crate) fn finish(&mut self, key: Option<RecordKey>) -> usize {
        // A format that forgets to end its last record has still written it.
        self.records.end(0);
        let ends = self.records.ends();
        let before = self.finished.checked_sub(1).map_or(0, |last| ends[last].bytes);
        let is_empty = self.finished == ends.len();
        self.finished = ends.len();
        let key = key.filter(|_| !is_empty);
        self.spans.extend(key.map(|key| Span {
            key,
            records: self.finished,
        }));
        self.records.last_end().bytes - before
    }

    /// Messages and bytes that were finished since the last call.
    pub(crate) fn count(&mut self) -> (u64, u64) {
        let last = self.finished.checked_sub(1);
        let end = last.map_or_else(RecordEnd::default, |last| self.records.ends()[last]);
        let before = std::mem::replace(&mut self.counted, end);
        (end.messages - before.messages, (end.bytes - before.bytes) as u64)
    }

    /// Forgets what is not finished.
    pub(crate) fn break_off(&mut self) {
        self.records.truncate(self.finished);
    }

    /// True without any record.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.records.as_bytes().len()
    }

    /// Forgets all records.
    pub(crate) fn clear(&mut self) {
        self.records.truncate(0);
        self.spans.clear();
        self.finished = 0;
        self.counted = RecordEnd::default();
    }

    /// Its messages and bytes.
    pub(crate) fn total(&self) -> (u64, u64) {
        let end = self.records.last_end();
        (end.messages, end.bytes as u64)
    }
}

/// `RingReader` → Sink of an output of captured events: the events, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CapturedBatch(pub(crate) Vec<CapturedEvent>);

/// Processor → Sink: all records of the round have been sent.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RoundEnded {
    /// The time that the recording has come to.
    pub(crate) now_ns: u64,
}

/// To a Sink: look after the target, see [`Target::tend`](crate::Target::tend).
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Tend;

/// Processor or conductor → Sink: nothing follows; write everything and stop.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Finish;

/// Handle → `RingReader`: take what the source has ready, then end.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StopReading;

/// Any actor → handle: something that decides how the run continues.
#[derive(Debug)]
pub(crate) enum Incident {
    /// An actor is gone.
    Exited { actor: ActorName, panicked: bool },
    /// The Workers of one Arbiter, and the Processor with them, have sent their last.
    OutboxClosed,
    /// Workers failed too often.
    RestartLimit { failures: usize },
    /// An output's target is given up: its reader has gone away, or it failed.
    SinkGone {
        error: std::io::Error,
        /// The run is to end, whatever the other outputs do.
        ends_run: bool,
    },
}

/// An actor that exists once, or once for each output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActorName {
    RingReader,
    Processor,
    /// The Sink of the output with this number.
    Sink(usize),
}

impl ActorName {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::RingReader => "RingReader",
            Self::Processor => "Processor",
            Self::Sink(_) => "Sink",
        }
    }
}

/// Way of incidents to the handle: control only, a handful per run.
pub(crate) type Incidents = tokio::sync::mpsc::UnboundedSender<Incident>;

/// Reports the end of a singular actor, however it ends.
#[derive(Debug)]
pub(crate) struct ActorGuard {
    pub(crate) actor: ActorName,
    pub(crate) incidents: Incidents,
}

impl Drop for ActorGuard {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        // Nobody listens any more when the run was ended by force.
        let _ = self.incidents.send(Incident::Exited {
            actor: self.actor,
            panicked,
        });
    }
}

//! The Processor: routes events to Workers, and spawns, supervises and retires them.
//!
//! * receives: `EventBatch`, `SourceEnded` from the `RingReader`; `WorkerReports` from Workers
//! * sends: `WorkerBatch`, `PeerNotices`, `CatchUp`, `PeerCaughtUp`, `Advance`, `Retire` to Workers;
//!   `RoundEnded`, `Finish` to the Sinks
//! * bound: `processor_mailbox` batches and the limits on events in flight; what a Worker refuses for too
//!   long is dropped, and earlier when reading waits for it (`backlog`)
//! * lost on restart: it is not restarted; the run ends and the Workers show what they hold
//!
//! It never examines a payload. It alone decides who serves a stream, so there is one Worker per
//! stream at any moment: while one ends, events that come for its stream wait for its
//! `WorkerExited`. A stream that is silent has no Worker: its decoder is kept for the next one
//! (`asleep`).

mod asleep;
mod backlog;
mod ended;
mod ending;
mod notices;
mod rounds;
mod routing;
mod supervision;

use std::collections::VecDeque;
use std::sync::Arc;

use actix::prelude::*;
use actix_rt::ArbiterHandle;
use ecapture_protocols::message::Gap;
use ecapture_protocols::{DataEvent, Direction, JoinedLate, Observed, Origin};

use asleep::{Asleep, Sleepers};
use backlog::Backlog;
use rounds::Rounds;

use crate::Clock;
use crate::kept_notices::NoticeRoom;
use crate::loss::Loss;
use crate::messages::{
    ActorGuard, ActorName, ConnectionId, End, EventBatch, Finish, Incidents, Position, RoundEnded,
    SourceEnded, StreamEvent, StreamRef, TurnReport, WorkerExited, WorkerId, WorkerReport, WorkerReports,
};
use crate::registry::Registry;
use crate::supervision::{FailureWindow, nanoseconds};
use crate::worker::{Gauge, Worker, WorkerPorts};
use ended::Ended;

/// Where Workers of one share of the connections run.
pub(crate) struct Shard {
    /// `None`: on the Processor's own Arbiter.
    pub(crate) arbiter: Option<ArbiterHandle>,
    pub(crate) ports: Arc<WorkerPorts>,
}

/// Where the Processor's messages go.
pub(crate) struct ProcessorPorts {
    pub(crate) shards: Vec<Shard>,
    pub(crate) rounds: Vec<Recipient<RoundEnded>>,
    pub(crate) finish: Vec<Recipient<Finish>>,
    pub(crate) incidents: Incidents,
}

/// A stream with something in its outbox.
#[derive(Debug, Clone, Copy)]
struct Touched {
    id: ConnectionId,
    direction: Direction,
    /// Since when its Worker has refused that.
    refused_since_ns: Option<u64>,
}

impl Touched {
    fn new(id: ConnectionId, direction: Direction) -> Self {
        Self {
            id,
            direction,
            refused_since_ns: None,
        }
    }
}

/// One direction of a connection.
enum Place {
    Awake(Box<Stream>),
    Asleep(Box<Asleep>),
}

/// A stream's Worker and the events on their way to it.
struct Stream {
    worker: WorkerId,
    /// The connection's when the stream's first event came.
    epoch: u32,
    /// `None` when the Worker is gone and its place is not settled yet.
    addr: Option<Addr<Worker>>,
    origin: Arc<Origin>,
    gauge: Arc<Gauge>,
    /// Events of the current batch for it.
    outbox: Vec<StreamEvent>,
    /// Sent with the next batch.
    origin_changed: bool,
    gap: Option<Gap>,
    sent: u64,
    sent_bytes: u64,
    /// Replay: messages it has not answered.
    unanswered: u32,
    /// Replay: the deadline it last reported, and the earliest one queued for it.
    deadline_ns: u64,
    queued_deadline_ns: u64,
    ending: Option<Box<Ending>>,
}

impl Stream {
    fn new(worker: WorkerId, epoch: u32, addr: Addr<Worker>, origin: Arc<Origin>, gauge: Arc<Gauge>) -> Self {
        Self {
            worker,
            epoch,
            addr: Some(addr),
            origin,
            gauge,
            outbox: Vec::new(),
            origin_changed: false,
            gap: None,
            sent: 0,
            sent_bytes: 0,
            unanswered: 0,
            deadline_ns: u64::MAX,
            queued_deadline_ns: u64::MAX,
            ending: None,
        }
    }

    /// Returns true if the connection `epoch` may still have notices from this place: those of its
    /// Worker, or of the one for events that wait until another connection under the same key has ended.
    fn may_notify(&self, epoch: u32) -> bool {
        let Some(ending) = &self.ending else {
            return self.epoch == epoch;
        };
        let waits =
            |waiting: &Waiting| matches!(waiting, Waiting::Event { arrival, .. } if arrival.epoch == epoch);
        self.epoch == epoch && !ending.holding || ending.pending.iter().any(waits)
    }

    /// Notes that a connection may have lost its beginning, which can be found out after its first events.
    fn learn_lateness(&mut self, joined_late: Option<JoinedLate>) {
        if joined_late.is_none() || self.origin.joined_late().is_some() {
            return;
        }
        if let Some(stream) = &mut Arc::make_mut(&mut self.origin).stream {
            stream.joined_late = joined_late;
            self.origin_changed = true;
        }
    }
}

/// The state of a stream whose Worker was retired, or has failed.
#[derive(Default)]
struct Ending {
    /// Why it was retired; `None` if it failed by itself.
    end: Option<End>,
    /// The event that caused it.
    sequence: u64,
    /// Its Worker waits for the last notices of the other direction.
    holding: bool,
    /// Events that the dead mailbox refused: for the successor.
    refused: Vec<StreamEvent>,
    /// Everything that came for this place since.
    pending: VecDeque<Waiting>,
    /// The state that a delayed successor starts with.
    successor: Option<Successor>,
}

/// An entry that waits for a place whose Worker has not ended yet. It belongs to this direction alone:
/// the effects of an event on others were applied when it came.
enum Waiting {
    /// Bytes of the stream that was there when they came.
    Event { arrival: Arrival, data: Box<DataEvent> },
    /// A fact.
    Fact {
        arrival: Arrival,
        observed: Box<Observed>,
    },
    /// The stream of the events before ends here.
    End { end: End, sequence: u64 },
}

/// An event's connection and number, as known when it came.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    /// The connection's epoch, which distinguishes its bytes from those of others under the same
    /// key.
    epoch: u32,
    /// The number shown for it.
    connection: u64,
    sequence: u64,
    /// It belongs to a session that was ended here. `None`: to be looked up.
    goes_on: Option<bool>,
    /// The other end of its connection is captured, too, or may be.
    other_end: bool,
}

/// The state that a new generation takes over.
struct Successor {
    gap: Gap,
    position: Position,
    events: Vec<StreamEvent>,
}

/// See the module's documentation.
pub(crate) struct Processor {
    clock: Clock,
    shards: Vec<Shard>,
    round_ports: Vec<Recipient<RoundEnded>>,
    finish_ports: Vec<Recipient<Finish>>,
    incidents: Incidents,
    registry: Registry<Place>,
    notice_room: NoticeRoom,
    next_worker: u64,
    /// Workers that have not been retired.
    serving: usize,
    /// Workers retired because of limits that have not exited yet.
    shedding: usize,
    /// A connection that may continue was shed at some time.
    has_shed: bool,
    ended: Ended,
    sleepers: Sleepers,
    now_ns: u64,
    last_sequence: u64,
    /// Streams with something in their outbox, in order of first arrival.
    touched: VecDeque<Touched>,
    retry_planned: bool,
    backlog: Backlog,
    rounds: Rounds,
    failures: FailureWindow,
    next_sweep_ns: u64,
    source_ended: bool,
    /// The connections that are still to be ended then.
    draining: VecDeque<ConnectionId>,
    handled: u32,
    _guard: ActorGuard,
}

impl Processor {
    pub(crate) fn new(ports: ProcessorPorts) -> Self {
        Self {
            clock: ports.shards[0].ports.clock,
            backlog: Backlog::new(&ports.shards[0].ports.limits),
            shards: ports.shards,
            round_ports: ports.rounds,
            finish_ports: ports.finish,
            registry: Registry::default(),
            notice_room: NoticeRoom::default(),
            next_worker: 0,
            serving: 0,
            shedding: 0,
            has_shed: false,
            ended: Ended::default(),
            sleepers: Sleepers::default(),
            now_ns: 0,
            last_sequence: 0,
            touched: VecDeque::new(),
            retry_planned: false,
            rounds: Rounds::default(),
            failures: FailureWindow::default(),
            next_sweep_ns: 0,
            source_ended: false,
            draining: VecDeque::new(),
            handled: 0,
            _guard: ActorGuard {
                actor: ActorName::Processor,
                incidents: ports.incidents.clone(),
            },
            incidents: ports.incidents,
        }
    }

    /// The ports that all shards share.
    fn shared(&self) -> &WorkerPorts {
        &self.shards[0].ports
    }

    /// Counts the bytes of requests that could not be kept for their responses.
    fn count_unkept(ports: &WorkerPorts, stream: Option<&Stream>, bytes: u64) {
        if let Some(stream) = stream.filter(|_| bytes > 0) {
            let name = stream.origin.name();
            ports.ledger.lose_delivered_of(name, Loss::BufferLimit, bytes);
        }
    }

    fn is_replay(&self) -> bool {
        self.clock == Clock::Stream
    }

    fn live_now_ns(&self) -> u64 {
        nanoseconds(self.shared().started_at.elapsed())
    }

    /// Lets the others on this Arbiter run after every `budget` messages.
    fn spend_budget(&mut self, ctx: &mut Context<Self>) {
        self.handled = self.handled.wrapping_add(1);
        if self.handled.is_multiple_of(self.shared().limits.budget) {
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }

    /// A Worker asks to end because its stream is idle; granted when no event is on its way.
    fn consider_idle(&mut self, stream: StreamRef, fed: u64) {
        let granted = self.registry.served_by(stream).is_some_and(|current| {
            current.ending.is_none() && current.sent == fed && current.outbox.is_empty()
        });
        if granted {
            self.retire(stream.connection, stream.direction, End::Idle, self.last_sequence);
        }
    }

    fn take_report(&mut self, report: TurnReport) {
        let stream = report.stream;
        if let Some(fed) = report.idle_after {
            self.consider_idle(stream, fed);
        }
        if report.holds_on {
            self.note_holding(stream);
        }
        if self.is_replay() {
            self.note_report(report);
            return;
        }
        if self.registry.served_by(stream).is_none() {
            return;
        }
        if !report.notices.is_empty() {
            self.pass_notices(stream, report.notices);
        }
        if let Some(question) = report.asks {
            self.pass_question(stream, question);
        }
        if let Some(question) = report.caught_up {
            self.pass_answer(stream, question);
        }
    }

    fn take_exit(&mut self, exited: WorkerExited, ctx: &mut Context<Self>) {
        if self.is_replay() {
            self.note_exit(exited);
        } else {
            self.settle_exit(exited, ctx);
        }
    }

    /// Ends the remaining streams when the source has ended, and the Processor with the last Worker.
    fn drain(&mut self, ctx: &mut Context<Self>) {
        self.draining = self.registry.iter().map(|(id, _)| id).collect();
        for _ in 0..self.shared().limits.round_events {
            self.drain_next();
        }
        self.finish_if_drained(ctx);
    }

    /// Ends one more connection of those that were there at the source's end. Each exit calls
    /// for the next, so that few are ending at a time.
    fn drain_next(&mut self) {
        if let Some(id) = self.draining.pop_front() {
            self.end_connection(id, End::Drained, self.last_sequence);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the last message of the run")]
    fn finish_if_drained(&mut self, ctx: &mut Context<Self>) {
        if self.source_ended && self.registry.len() == 0 {
            for shard in &self.shards {
                shard.ports.outbox.flush_at_once();
            }
            self.finish_ports.iter().for_each(|port| port.do_send(Finish));
            ctx.stop();
        }
    }
}

impl Actor for Processor {
    type Context = Context<Self>;
}

impl Handler<EventBatch> for Processor {
    type Result = ();

    fn handle(&mut self, batch: EventBatch, ctx: &mut Self::Context) {
        if self.is_replay() {
            self.rounds.queue_batch(batch);
            self.advance_rounds(ctx);
        } else {
            self.now_ns = self.live_now_ns();
            self.take_batch(batch.first_sequence, batch.events);
            self.dispatch(ctx);
            self.keep_limits();
            self.plan_look(ctx);
        }
        self.spend_budget(ctx);
    }
}

impl Handler<SourceEnded> for Processor {
    type Result = ();

    fn handle(&mut self, SourceEnded: SourceEnded, ctx: &mut Self::Context) {
        if self.is_replay() {
            self.rounds.queue_end();
            self.advance_rounds(ctx);
        } else if !self.source_ended {
            self.source_ended = true;
            self.drain(ctx);
        }
    }
}

impl Handler<WorkerReports> for Processor {
    type Result = ();

    fn handle(&mut self, WorkerReports(reports): WorkerReports, ctx: &mut Self::Context) {
        if !self.is_replay() {
            self.now_ns = self.live_now_ns();
        }
        for report in reports {
            match report {
                WorkerReport::Exited(exited) => self.take_exit(*exited, ctx),
                WorkerReport::Turn(report) => self.take_report(report),
            }
        }
        if self.is_replay() {
            self.advance_rounds(ctx);
        } else {
            self.dispatch(ctx);
            self.finish_if_drained(ctx);
        }
        self.spend_budget(ctx);
    }
}

/// Makes the Processor take no message for a time.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stall(pub(crate) std::time::Duration);

#[cfg(test)]
impl Handler<Stall> for Processor {
    type Result = ();

    fn handle(&mut self, Stall(time): Stall, ctx: &mut Self::Context) {
        ctx.wait(tokio::time::sleep(time).into_actor(self));
    }
}

/// Makes the Processor fail.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Poison;

#[cfg(test)]
impl Handler<Poison> for Processor {
    type Result = ();

    fn handle(&mut self, Poison: Poison, _ctx: &mut Self::Context) {
        panic!("told to");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Connection;

    /// A byte more takes as much as the next size that allocators have: 224 and 192.
    #[test]
    fn a_connection_and_its_streams_fit_into_sizes_of_allocators() {
        assert!(
            size_of::<Connection<Place>>() <= 192,
            "{}",
            size_of::<Connection<Place>>()
        );
        assert!(size_of::<Stream>() <= 160, "{}", size_of::<Stream>());
        assert!(size_of::<Asleep>() <= 112, "{}", size_of::<Asleep>());
    }
}

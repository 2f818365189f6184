//! From events to Workers' mailboxes.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::dev::SendError;
use actix::prelude::*;
use ecapture_protocols::message::{Gap, GapReason};
use ecapture_protocols::{CapturedEvent, DataEvent, Direction, Identity};

use super::{Ending, Processor, Stream, Waiting};
use crate::Clock;
use crate::ledger::Loss;
use crate::messages::{
    ConnectionId, End, Notices, Position, Retire, SequencedNotice, StreamEvent, StreamRef, WorkerBatch,
    WorkerId,
};
use crate::registry::Admission;
use crate::supervision::nanoseconds;
use crate::worker::{ExitGuard, Gauge, Worker, WorkerSeed};

const BOTH: [Direction; 2] = [Direction::Read, Direction::Write];

impl Processor {
    /// Routes the events of one batch into the outboxes of their streams.
    pub(super) fn take_batch(&mut self, first_sequence: u64, events: Vec<CapturedEvent>) {
        for (sequence, event) in (first_sequence..).zip(events) {
            if self.clock == Clock::Stream {
                self.now_ns = self.now_ns.max(event.timestamp_ns());
            }
            self.last_sequence = sequence;
            self.route(sequence, event);
        }
    }

    pub(super) fn route(&mut self, sequence: u64, event: CapturedEvent) {
        match event {
            CapturedEvent::Data(data) => self.route_data(sequence, data),
            CapturedEvent::Close { close, .. } => {
                for id in self.registry.ended_by(close) {
                    self.end_connection(id, End::Closed, sequence);
                }
            }
        }
    }

    fn route_data(&mut self, sequence: u64, data: DataEvent) {
        let (id, admission) = self.registry.admit(&data);
        match admission {
            Admission::Known => {}
            Admission::Replaced => self.end_connection(id, End::Closed, sequence),
            Admission::SocketLearned => self.complete_identities(id),
        }
        let now_ns = self.now_ns;
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        connection.last_active_ns = now_ns;
        let epoch = connection.epoch;
        self.place(id, epoch, sequence, data);
    }

    /// Puts an event into its stream's outbox, or lets it wait for the stream's place.
    fn place(&mut self, id: ConnectionId, epoch: u64, sequence: u64, data: DataEvent) {
        let direction = data.direction;
        let vacant = self
            .registry
            .get(id)
            .is_some_and(|connection| connection.stream(direction).is_none());
        if vacant {
            self.make_room_for(id);
            let identity = Arc::new(self.identity_of(id, &data));
            self.start_worker(id, direction, epoch, identity, Position::default());
        }
        let Some(stream) = self
            .registry
            .get_mut(id)
            .and_then(|found| found.stream_mut(direction).as_mut())
        else {
            return;
        };
        if let Some(ending) = &mut stream.ending {
            ending.pending.push_back(Waiting::Event {
                epoch,
                sequence,
                data: Box::new(data),
            });
            return;
        }
        if stream.outbox.is_empty() {
            self.touched.push_back((id, direction));
        }
        stream.outbox.push(StreamEvent {
            sequence,
            timestamp_ns: data.timestamp_ns,
            stream_offset: data.stream_offset,
            payload: data.payload,
        });
    }

    /// What the stream's first event establishes, with the socket that the other direction may
    /// have learned before.
    fn identity_of(&self, id: ConnectionId, data: &DataEvent) -> Identity {
        let mut identity = Identity::of(data);
        if let Some(socket) = self.registry.get(id).and_then(|connection| connection.socket) {
            identity.complete(socket);
        }
        identity
    }

    /// The connection's socket became known: its streams' identities are completed.
    fn complete_identities(&mut self, id: ConnectionId) {
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        let Some(socket) = connection.socket else { return };
        for direction in BOTH {
            if let Some(stream) = connection.stream_mut(direction) {
                let mut identity = Identity::clone(&stream.identity);
                identity.complete(socket);
                stream.identity = Arc::new(identity);
                stream.identity_changed = true;
            }
        }
    }

    /// Puts a Worker into a vacant place.
    pub(super) fn start_worker(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        epoch: u64,
        identity: Arc<Identity>,
        position: Position,
    ) {
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        let shard = &self.shards[id.0 as usize % self.shards.len()];
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        let gauge = Arc::new(Gauge::default());
        let stream_ref = StreamRef {
            connection: id,
            direction,
            worker,
        };
        let guard = ExitGuard::new(Arc::clone(&shard.ports), stream_ref, Arc::clone(&gauge), position);
        let seed = WorkerSeed {
            identity: Arc::clone(&identity),
            lifecycle: connection.key.lifecycle(),
            quarantined: connection.quarantined,
            guard,
        };
        let mailbox = shard.ports.limits.worker_mailbox;
        let create = move |ctx: &mut Context<Worker>| {
            ctx.set_mailbox_capacity(mailbox);
            Worker::new(seed)
        };
        let addr = match &shard.arbiter {
            None => Worker::create(create),
            Some(arbiter) => Worker::start_in_arbiter(arbiter, create),
        };
        *connection.stream_mut(direction) = Some(Stream {
            worker,
            epoch,
            addr: Some(addr),
            identity,
            gauge,
            outbox: Vec::new(),
            identity_changed: false,
            gap: None,
            sent: 0,
            sent_bytes: 0,
            unanswered: 0,
            deadline_ns: u64::MAX,
            queued_deadline_ns: u64::MAX,
            ending: None,
        });
        self.serving += 1;
    }

    /// Sends every outbox; when a Worker refuses, waits and goes on later.
    pub(super) fn dispatch(&mut self, ctx: &mut Context<Self>) {
        while let Some(&(id, direction)) = self.touched.front() {
            if self.send_outbox(id, direction).is_ok() || self.give_up_on(id, direction) {
                self.touched.pop_front();
                self.refused_since_ns = None;
                continue;
            }
            let pause = tokio::time::sleep(self.shared().timings.retry_delay);
            ctx.wait(
                pause
                    .into_actor(self)
                    .map(|(), processor, ctx| processor.dispatch(ctx)),
            );
            return;
        }
    }

    /// Sends one stream's outbox. `Err` when its Worker is full: the outbox is as it was.
    pub(super) fn send_outbox(&mut self, id: ConnectionId, direction: Direction) -> Result<(), ()> {
        let Some(connection) = self.registry.get_mut(id) else {
            return Ok(());
        };
        if connection
            .stream(direction)
            .is_none_or(|stream| stream.ending.is_some())
        {
            return Ok(());
        }
        let has_sibling = connection.stream(direction.opposite()).is_some();
        let epoch = connection.stream(direction).map_or(0, |stream| stream.epoch);
        let notices = connection.take_notices(direction, epoch);
        let Some(stream) = connection.stream_mut(direction) else {
            return Ok(());
        };
        if stream.outbox.is_empty() && notices.is_empty() && stream.gap.is_none() {
            return Ok(());
        }
        let events = std::mem::take(&mut stream.outbox);
        let (count, bytes) = measure(&events);
        let batch = WorkerBatch {
            events,
            identity: stream.identity_changed.then(|| Arc::clone(&stream.identity)),
            gap: stream.gap.take(),
            notices,
            has_sibling,
        };
        let Some(addr) = &stream.addr else { return Ok(()) };
        match addr.try_send(batch) {
            Ok(()) => {
                stream.identity_changed = false;
                stream.sent += count;
                stream.sent_bytes += bytes;
                stream.unanswered = stream.unanswered.wrapping_add(1);
                self.rounds.outstanding += 1;
                Ok(())
            }
            Err(SendError::Full(batch)) => {
                stream.outbox = batch.events;
                stream.gap = batch.gap;
                let limit = self.shards[0].ports.limits.notice_backlog;
                if !batch.notices.is_empty() {
                    connection.keep_notices(direction, epoch, batch.notices, limit);
                }
                Err(())
            }
            // It has failed and its exit notice is on the way.
            Err(SendError::Closed(batch)) => {
                stream.gap = batch.gap;
                stream.ending.get_or_insert_default().refused.extend(batch.events);
                self.serving -= 1;
                Ok(())
            }
        }
    }

    /// True when the Worker has refused for so long that its events are dropped.
    fn give_up_on(&mut self, id: ConnectionId, direction: Direction) -> bool {
        let now_ns = self.live_now_ns();
        let since_ns = *self.refused_since_ns.get_or_insert(now_ns);
        let patience_ns = nanoseconds(self.shared().timings.worker_stall);
        let Some(connection) = self.registry.get_mut(id) else {
            return true;
        };
        let Some(stream) = connection.stream_mut(direction) else {
            return true;
        };
        // One that has just been given up on gets no second period.
        if stream.gap.is_none() && now_ns.saturating_sub(since_ns) < patience_ns {
            return false;
        }
        let (count, bytes) = measure(&std::mem::take(&mut stream.outbox));
        stream.gap = Some(add_gap(stream.gap, bytes, GapReason::Shed));
        self.shared().ledger.lose(Loss::WorkerFull, count, bytes);
        true
    }

    /// Hands notices to the other direction's Worker, or keeps them for it.
    #[expect(
        clippy::disallowed_methods,
        reason = "at most one per report, and reports are bounded"
    )]
    pub(super) fn pass_notices(&mut self, from: StreamRef, notices: Vec<SequencedNotice>) {
        let limit = self.shared().limits.notice_backlog;
        let Some(connection) = self.registry.get_mut(from.connection) else {
            return;
        };
        let Some(epoch) = connection.stream(from.direction).map(|stream| stream.epoch) else {
            return;
        };
        let direction = from.direction.opposite();
        match connection.stream_mut(direction) {
            Some(stream) if stream.epoch > epoch => {}
            Some(Stream {
                epoch: same,
                addr: Some(addr),
                unanswered,
                ..
            }) if *same == epoch => {
                *unanswered = unanswered.wrapping_add(1);
                self.rounds.outstanding += 1;
                addr.do_send(Notices(notices));
            }
            // Without a Worker, or with one of an earlier connection.
            _ => connection.keep_notices(direction, epoch, notices, limit),
        }
    }

    /// A Worker that was told to end waits for the last notices.
    pub(super) fn note_holding(&mut self, stream: StreamRef) {
        if let Some(ending) = self
            .stream_mut(stream)
            .and_then(|current| current.ending.as_mut())
        {
            ending.holding = true;
            self.release_holders(stream.connection);
        }
    }

    /// Tells Workers that wait for the last notices that none will come, where that is so: the
    /// other direction has no Worker, or one that waits as well.
    #[expect(clippy::disallowed_methods, reason = "one per retirement")]
    pub(super) fn release_holders(&mut self, id: ConnectionId) {
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        let may_tell = BOTH.map(|direction| {
            connection
                .stream(direction)
                .is_some_and(|stream| stream.ending.as_ref().is_none_or(|ending| !ending.holding))
        });
        for (direction, other_may_tell) in BOTH.into_iter().zip([may_tell[1], may_tell[0]]) {
            let Some(Stream {
                ending: Some(ending),
                addr: Some(addr),
                unanswered,
                ..
            }) = connection.stream_mut(direction)
            else {
                continue;
            };
            if let (true, false, Some(end)) = (ending.holding, other_may_tell, ending.end) {
                ending.holding = false;
                *unanswered = unanswered.wrapping_add(1);
                self.rounds.outstanding += 1;
                addr.do_send(Retire {
                    end,
                    sequence: ending.sequence,
                    last: true,
                });
            }
        }
    }

    /// Ends both directions of a connection because of the event `sequence`; what comes later
    /// under its key is another connection.
    pub(super) fn end_connection(&mut self, id: ConnectionId, end: End, sequence: u64) {
        if let Some(connection) = self.registry.get_mut(id) {
            connection.epoch += 1;
        }
        for direction in BOTH {
            self.end_stream(id, direction, end, sequence);
        }
        // A place may have been made by an event whose Worker never came to be.
        self.registry.remove_if_vacant(id);
    }

    /// Ends one direction: its Worker, or the last of those that are still to come to its place.
    fn end_stream(&mut self, id: ConnectionId, direction: Direction, end: End, sequence: u64) {
        let stream = self
            .registry
            .get_mut(id)
            .and_then(|connection| connection.stream_mut(direction).as_mut());
        let Some(stream) = stream else { return };
        match &mut stream.ending {
            None => self.retire(id, direction, end, sequence),
            Some(ending) => match ending.pending.back() {
                Some(Waiting::Event { .. }) => ending.pending.push_back(Waiting::End { end, sequence }),
                Some(Waiting::End { .. }) => {}
                None => {
                    ending.end.get_or_insert(end);
                    ending.sequence = ending.sequence.max(sequence);
                }
            },
        }
    }

    /// Lets what waited for a stream's place take it, in order.
    pub(super) fn admit_waiting(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        waiting: VecDeque<Waiting>,
    ) {
        for next in waiting {
            match next {
                Waiting::Event {
                    epoch,
                    sequence,
                    data,
                } => self.place(id, epoch, sequence, *data),
                Waiting::End { end, sequence } => self.end_stream(id, direction, end, sequence),
            }
        }
    }

    /// Tells a Worker to end after what has been sent to it.
    #[expect(
        clippy::disallowed_methods,
        reason = "one retirement per Worker, after at most one batch past the bound"
    )]
    pub(super) fn retire(&mut self, id: ConnectionId, direction: Direction, end: End, sequence: u64) {
        if self.send_outbox(id, direction).is_err() {
            self.force_outbox(id, direction);
        }
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        // A plain stream that was idle for long has nothing to wait for.
        let last = end == End::Idle || connection.stream(direction.opposite()).is_none();
        let Some(stream) = connection.stream_mut(direction) else {
            return;
        };
        if let Some(ending) = &mut stream.ending {
            // The outbox has just been refused by a dead mailbox.
            ending.end = Some(end);
            return;
        }
        if let Some(addr) = &stream.addr {
            addr.do_send(Retire { end, sequence, last });
        }
        stream.unanswered = stream.unanswered.wrapping_add(1);
        stream.ending = Some(Box::new(Ending {
            end: Some(end),
            sequence,
            ..Ending::default()
        }));
        self.rounds.outstanding += 1;
        self.serving -= 1;
        self.shedding += usize::from(end == End::Shed);
    }

    #[expect(clippy::disallowed_methods, reason = "the last batch before a retirement")]
    fn force_outbox(&mut self, id: ConnectionId, direction: Direction) {
        let Some(stream) = self
            .registry
            .get_mut(id)
            .and_then(|found| found.stream_mut(direction).as_mut())
        else {
            return;
        };
        let events = std::mem::take(&mut stream.outbox);
        let (count, bytes) = measure(&events);
        stream.sent += count;
        stream.sent_bytes += bytes;
        stream.unanswered = stream.unanswered.wrapping_add(1);
        self.rounds.outstanding += 1;
        if let Some(addr) = &stream.addr {
            addr.do_send(WorkerBatch {
                events,
                gap: stream.gap.take(),
                has_sibling: true,
                ..WorkerBatch::default()
            });
        }
    }
}

/// How many events, and how many bytes of payload.
pub(super) fn measure(events: &[StreamEvent]) -> (u64, u64) {
    let bytes = events.iter().map(|event| event.payload.len() as u64).sum();
    (events.len() as u64, bytes)
}

/// Adds lost bytes to a gap that has not been told yet.
pub(super) fn add_gap(gap: Option<Gap>, bytes: u64, reason: GapReason) -> Gap {
    let earlier = gap.map_or(Some(0), |gap| gap.bytes);
    Gap {
        bytes: earlier.map(|earlier| earlier + bytes),
        reason,
    }
}

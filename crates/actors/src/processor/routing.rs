//! From events to Workers' mailboxes.

use std::sync::Arc;

use actix::dev::SendError;
use actix::prelude::*;
use ecapture_protocols::message::{Gap, GapReason};
use ecapture_protocols::{
    AddressSource, CapturedEvent, Close, DataEvent, Direction, Observed, Origin, Socket,
};

use super::ended::Ended;
use super::{Arrival, Place, Processor, Stream, Touched, Waiting};
use crate::Clock;
use crate::messages::{
    ConnectionId, End, Kept, Payload, Position, StreamEvent, StreamRef, WorkerBatch, WorkerId,
};
use crate::registry::{Admission, ConnectionKey};
use crate::worker::{ExitGuard, Gauge, Worker, WorkerSeed};

pub(super) const BOTH: [Direction; 2] = [Direction::Read, Direction::Write];

impl Processor {
    /// Routes the events of one batch into the outboxes of their streams.
    pub(super) fn take_batch(&mut self, first_sequence: u64, events: Vec<CapturedEvent>) {
        for (sequence, event) in (first_sequence..).zip(events) {
            self.take_event(sequence, event);
        }
    }

    pub(super) fn take_event(&mut self, sequence: u64, event: CapturedEvent) {
        if self.clock == Clock::Stream {
            self.now_ns = self.now_ns.max(event.timestamp_ns());
        }
        self.last_sequence = sequence;
        self.route(sequence, event);
    }

    pub(super) fn route(&mut self, sequence: u64, event: CapturedEvent) {
        match event {
            CapturedEvent::Data(data) => self.route_data(sequence, data),
            CapturedEvent::Observed(observed) => self.route_fact(sequence, observed),
            CapturedEvent::Close { close, .. } => {
                for id in self.registry.ended_by(close) {
                    self.end_connection(id, End::Closed, sequence);
                    self.registry.forget_socket(id);
                }
                match close {
                    Close::Session { pid, session } => self.ended.forget_session(pid, session),
                    Close::Process { pid } => self.ended.forget_process(pid),
                    Close::Socket { .. } => {}
                }
            }
        }
    }

    fn route_data(&mut self, sequence: u64, data: DataEvent) {
        let (id, admission) = self.registry.admit(&data);
        match admission {
            Admission::Known => {}
            Admission::Replaced => self.end_connection(id, End::Closed, sequence),
            Admission::SocketLearned => self.complete_origins(id),
        }
        if let Some(other) = self.registry.find_other_end(id) {
            self.note_other_end(id);
            self.note_other_end(other);
        }
        let now_ns = self.now_ns;
        let number = self.registry.number(id);
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        connection.last_active_ns = now_ns;
        let arrival = Arrival {
            epoch: connection.epoch,
            connection: number,
            sequence,
            goes_on: None,
            other_end: connection.has_other_end(),
        };
        self.place(id, arrival, data);
    }

    fn route_fact(&mut self, sequence: u64, observed: Box<Observed>) {
        let id = self.registry.admit_facts();
        let now_ns = self.now_ns;
        let Some(place) = self.registry.get_mut(id) else {
            return;
        };
        place.last_active_ns = now_ns;
        let arrival = Arrival {
            epoch: place.epoch,
            connection: 0,
            sequence,
            goes_on: None,
            other_end: false,
        };
        self.place_fact(id, arrival, observed);
    }

    /// Like [`Self::place`]. Facts have a Worker like a stream's, in the place of one direction, and nothing
    /// can be missing before them.
    pub(super) fn place_fact(&mut self, id: ConnectionId, arrival: Arrival, observed: Box<Observed>) {
        const PLACE: Direction = Direction::Read;
        let Arrival { epoch, sequence, .. } = arrival;
        let timestamp_ns = observed.timestamp_ns;
        if self.registry.awake_mut(id, PLACE).is_none() {
            self.make_room_for(id);
            let position = Position {
                sequence,
                timestamp_ns,
                offset: None,
            };
            self.start_worker(id, PLACE, epoch, Arc::new(observed.origin()), position, None);
        }
        let Some(stream) = self.registry.awake_mut(id, PLACE) else {
            return;
        };
        if let Some(ending) = &mut stream.ending {
            ending.pending.push_back(Waiting::Fact { arrival, observed });
            return;
        }
        if stream.outbox.is_empty() {
            self.touched.push_back(Touched::new(id, PLACE));
        }
        stream.outbox.push(StreamEvent {
            sequence,
            timestamp_ns,
            stream_offset: None,
            payload: Payload::Fact(observed),
        });
    }

    /// Puts an event into its stream's outbox, or lets it wait for the stream's place.
    pub(super) fn place(&mut self, id: ConnectionId, arrival: Arrival, data: DataEvent) {
        let Arrival {
            sequence, goes_on, ..
        } = arrival;
        let direction = data.direction;
        let vacant = self.have_worker(id, arrival, &data);
        let goes_on = |ended: &Ended| {
            let key = ConnectionKey::of(&data);
            goes_on.unwrap_or_else(|| ended.has_session(data.process.pid, key))
        };
        let beginning = if vacant {
            self.missing_beginning(&data, goes_on(&self.ended))
        } else {
            None
        };
        let Some(stream) = self.registry.awake_mut(id, direction) else {
            return;
        };
        if let Some(ending) = &mut stream.ending {
            let goes_on = Some(goes_on(&self.ended));
            ending.pending.push_back(Waiting::Event {
                arrival: Arrival { goes_on, ..arrival },
                data: Box::new(data),
            });
            return;
        }
        if vacant {
            stream.gap = beginning;
            if let Some(Gap {
                bytes: Some(bytes), ..
            }) = stream.gap
            {
                let ledger = &self.shards[0].ports.ledger;
                ledger.miss_of(stream.origin.name(), bytes);
            }
        } else {
            stream.learn_lateness(data.joined_late);
        }
        if stream.outbox.is_empty() {
            self.touched.push_back(Touched::new(id, direction));
        }
        stream.outbox.push(StreamEvent {
            sequence,
            timestamp_ns: data.timestamp_ns,
            stream_offset: data.stream_offset,
            payload: Payload::Bytes(data.payload),
        });
    }

    /// Starts or wakes the Worker of the stream of `data`, if it has none. Returns true if the stream is new.
    fn have_worker(&mut self, id: ConnectionId, arrival: Arrival, data: &DataEvent) -> bool {
        let direction = data.direction;
        let place = self.registry.get(id).map(|found| found.stream(direction));
        let vacant = place.is_some_and(|place| place.is_none());
        if !matches!(place, Some(Some(Place::Awake(_)))) {
            self.make_room_for(id);
        }
        if vacant {
            let origin = Arc::new(self.origin_of(id, arrival, data));
            let position = Position {
                sequence: arrival.sequence,
                timestamp_ns: data.timestamp_ns,
                offset: None,
            };
            self.start_worker(id, direction, arrival.epoch, origin, position, None);
        } else {
            self.wake(id, direction);
        }
        vacant
    }

    /// The gap before a stream's first event: bytes that the kernel counted and could not hand over, or
    /// unknown ones where the capture came after its beginning. `goes_on`: it is a session that was ended
    /// here, and nothing of it is missing.
    fn missing_beginning(&mut self, data: &DataEvent, goes_on: bool) -> Option<Gap> {
        let (pid, key) = (data.process.pid, ConnectionKey::of(data));
        let shed = Gap {
            bytes: None,
            reason: GapReason::Shed,
        };
        if self.ended.take_plain(pid, key, data.direction) {
            return Some(shed);
        }
        if goes_on {
            return None;
        }
        let offset = data.stream_offset.filter(|_| data.session.is_some());
        if let Some(bytes) = offset.filter(|&bytes| bytes > 0) {
            // They may also have been those of a Worker that was shed.
            let may_be_shed = self.has_shed || self.ended.has_forgotten;
            return Some(if may_be_shed {
                shed
            } else {
                Gap {
                    bytes: Some(bytes),
                    reason: GapReason::KernelLoss,
                }
            });
        }
        let late = data.joined_late.filter(|_| data.stream_offset == Some(0))?;
        Some(Gap {
            bytes: None,
            reason: GapReason::JoinedLate(late),
        })
    }

    /// The origin that the stream's first event establishes, with the socket that the other direction may
    /// have learned before.
    fn origin_of(&self, id: ConnectionId, arrival: Arrival, data: &DataEvent) -> Origin {
        let mut origin = Origin::of(data, arrival.connection);
        let is_exact = |socket: Socket| socket.address_source == AddressSource::Exact;
        let connection = self.registry.get(id).filter(|found| found.epoch == arrival.epoch);
        if let Some(socket) = connection.and_then(|connection| connection.socket)
            && !data.socket.is_some_and(is_exact)
        {
            origin.complete(socket);
        }
        if let Some(stream) = &mut origin.stream {
            stream.other_end = arrival.other_end;
        }
        origin
    }

    /// The other end of the connection is captured, too: its streams' origins say so.
    fn note_other_end(&mut self, id: ConnectionId) {
        self.change_origins(id, |origin| {
            if let Some(stream) = &mut origin.stream {
                stream.other_end = true;
            }
        });
    }

    /// The connection's socket became known: its streams' origins are completed.
    fn complete_origins(&mut self, id: ConnectionId) {
        let socket = self.registry.get(id).and_then(|connection| connection.socket);
        if let Some(socket) = socket {
            self.change_origins(id, |origin| origin.complete(socket));
        }
    }

    /// Changes the origins of the streams that a connection has now.
    fn change_origins(&mut self, id: ConnectionId, change: impl Fn(&mut Origin)) {
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        let epoch = connection.epoch;
        for direction in BOTH {
            let origin = match connection.stream_mut(direction) {
                Some(Place::Awake(stream)) if stream.epoch == epoch => {
                    stream.origin_changed = true;
                    &mut stream.origin
                }
                Some(Place::Asleep(asleep)) if asleep.epoch == epoch => &mut asleep.origin,
                _ => continue,
            };
            change(Arc::make_mut(origin));
        }
    }

    /// Puts a Worker into a vacant place.
    pub(super) fn start_worker(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        epoch: u32,
        origin: Arc<Origin>,
        position: Position,
        kept: Option<Box<Kept>>,
    ) {
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        let shard = &self.shards[id.0 as usize % self.shards.len()];
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        let gauge = Arc::new(kept.as_deref().map_or_else(Gauge::default, Gauge::of));
        let stream_ref = StreamRef {
            connection: id,
            direction,
            worker,
        };
        let guard = ExitGuard::new(Arc::clone(&shard.ports), stream_ref, Arc::clone(&gauge), position);
        let seed = WorkerSeed {
            origin: Arc::clone(&origin),
            lifecycle: connection.key.lifecycle(),
            quarantined: connection.is_quarantined(epoch),
            kept,
            guard,
        };
        let addr = Worker::start_on(shard.arbiter.as_ref(), seed);
        let stream = Stream::new(worker, epoch, addr, origin, gauge);
        *connection.stream_mut(direction) = Some(Place::Awake(Box::new(stream)));
        self.serving += 1;
    }

    /// Sends every outbox. What a Worker refuses is tried again later; the others do not wait for it.
    pub(super) fn dispatch(&mut self, ctx: &mut Context<Self>) {
        for touched in std::mem::take(&mut self.touched) {
            let Touched { id, direction, .. } = touched;
            if self.send_outbox(id, direction).is_err()
                && let Some(touched) = self.keep_waiting(touched)
            {
                self.touched.push_back(touched);
            }
        }
        let reading_waits = self.clock == Clock::Live && self.make_room();
        if (reading_waits || !self.touched.is_empty()) && !std::mem::replace(&mut self.retry_planned, true) {
            ctx.run_later(self.shared().timings.retry_delay, |processor, ctx| {
                processor.retry_planned = false;
                processor.dispatch(ctx);
            });
        }
    }

    /// Sends one stream's outbox. `Err` when its Worker is full: the outbox is as it was.
    pub(super) fn send_outbox(&mut self, id: ConnectionId, direction: Direction) -> Result<(), ()> {
        let Some(connection) = self.registry.get_mut(id) else {
            return Ok(());
        };
        if connection
            .awake(direction)
            .is_none_or(|stream| stream.ending.is_some())
        {
            return Ok(());
        }
        let has_sibling = connection.stream(direction.opposite()).is_some();
        let epoch = connection.awake(direction).map_or(0, |stream| stream.epoch);
        let notices = connection.take_notices(direction, epoch);
        let Some(stream) = connection.awake_mut(direction) else {
            return Ok(());
        };
        let Some(addr) = &stream.addr else { return Ok(()) };
        if stream.outbox.is_empty() && notices.is_empty() && stream.gap.is_none() {
            return Ok(());
        }
        let limits = &self.shards[0].ports.limits;
        if self.clock == Clock::Live && stream.sent_bytes - stream.gauge.fed_bytes() >= self.backlog.share() {
            let lost = connection.keep_notices(direction, epoch, notices, (limits, &self.notice_room));
            Self::count_unkept(&self.shards[0].ports, connection.awake(direction), lost);
            return Err(());
        }
        let events = std::mem::take(&mut stream.outbox);
        let (count, bytes) = measure(&events);
        let origin = stream.origin_changed.then(|| Arc::clone(&stream.origin));
        let gap = stream.gap.take();
        let refused = match addr.try_send(WorkerBatch {
            events,
            origin,
            gap,
            notices,
            has_sibling,
        }) {
            Ok(()) => {
                stream.origin_changed = false;
                stream.sent += count;
                stream.sent_bytes += bytes;
                self.rounds.expect_answer(stream);
                return Ok(());
            }
            Err(refused) => refused,
        };
        let is_full = matches!(refused, SendError::Full(_));
        let batch = refused.into_inner();
        stream.gap = batch.gap;
        if is_full {
            stream.outbox = batch.events;
        } else {
            // It has failed and its exit notice is on the way.
            stream.ending.get_or_insert_default().refused.extend(batch.events);
            self.serving -= 1;
        }
        let limits = &self.shards[0].ports.limits;
        let lost = connection.keep_notices(direction, epoch, batch.notices, (limits, &self.notice_room));
        Self::count_unkept(&self.shards[0].ports, connection.awake(direction), lost);
        if is_full { Err(()) } else { Ok(()) }
    }
}

/// The number of events, and that of their bytes of payload.
pub(super) fn measure(events: &[StreamEvent]) -> (u64, u64) {
    let bytes = events.iter().map(|event| event.payload.len() as u64).sum();
    (events.len() as u64, bytes)
}

/// Adds lost bytes to a gap that has not been reported yet.
pub(super) fn add_gap(gap: Option<Gap>, bytes: u64, reason: GapReason) -> Gap {
    let earlier = gap.map_or(Some(0), |gap| gap.bytes);
    Gap {
        bytes: earlier.map(|earlier| earlier + bytes),
        reason,
    }
}

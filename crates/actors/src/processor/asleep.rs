//! Streams without a Worker: their kept state, and who wakes them.
//!
//! A plain stream goes to sleep after the idle time, a connection after
//! [`Timings::hibernate`](crate::Timings::hibernate). An event or a notice wakes it: a new Worker
//! continues with the decoder, as if there had been no pause. A close wakes it too, because what
//! its decoder holds is shown then; of those that are closed at the same time only a bounded number
//! is awake at once.
//!
//! The kept state counts as Workers do ([`PipelineLimits::ASLEEP_BYTES`]), and the bytes that decoders hold
//! count as if they were awake. The limits ask for the longest silent first, whether asleep or not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use actix::prelude::*;
use ecapture_protocols::{Direction, Origin};

use super::routing::BOTH;
use super::{Place, Processor, Stream};
use crate::PipelineLimits;
use crate::messages::{ConnectionId, End, Kept, StreamRef};
use crate::registry::{Connection, Lifecycle, Registry};
use crate::supervision::nanoseconds;

/// The kept state of a stream without a Worker.
pub(super) struct Asleep {
    pub(super) origin: Arc<Origin>,
    /// The origin is the other direction's, and its mirror image is meant.
    is_mirrored: bool,
    pub(super) kept: Kept,
    pub(super) epoch: u32,
    /// It has been closed, by the event of this number, and is still to show what it holds.
    pub(super) ended: Option<(End, u64)>,
}

/// The Processor's account of the streams that sleep.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    /// Those that have not been closed.
    count: usize,
    /// Those that have.
    closing: VecDeque<(ConnectionId, Direction)>,
    /// Workers that have been asked to end and are still there.
    pub(super) ending_workers: usize,
    /// The place from which on connections are looked at next, and when.
    next_place: usize,
    next_look_ns: u64,
    look_planned: bool,
}

impl Sleepers {
    /// Their memory, as a number of Workers.
    pub(super) fn as_workers(&self) -> usize {
        (self.count * PipelineLimits::ASLEEP_BYTES).div_ceil(PipelineLimits::WORKER_BYTES)
    }
}

impl Connection<Place> {
    /// The Worker of a direction.
    pub(super) fn awake(&self, direction: Direction) -> Option<&Stream> {
        match self.stream(direction)? {
            Place::Awake(stream) => Some(stream),
            Place::Asleep(_) => None,
        }
    }

    /// See [`Self::awake`].
    pub(super) fn awake_mut(&mut self, direction: Direction) -> Option<&mut Stream> {
        match self.stream_mut(direction) {
            Some(Place::Awake(stream)) => Some(stream),
            Some(Place::Asleep(_)) | None => None,
        }
    }

    /// The kept state of a direction without a Worker.
    pub(super) fn asleep(&self, direction: Direction) -> Option<&Asleep> {
        match self.stream(direction)? {
            Place::Awake(_) => None,
            Place::Asleep(asleep) => Some(asleep),
        }
    }
}

impl Registry<Place> {
    /// The Worker of a direction of a connection.
    pub(super) fn awake_mut(&mut self, id: ConnectionId, direction: Direction) -> Option<&mut Stream> {
        self.get_mut(id)?.awake_mut(direction)
    }

    /// The stream that this Worker still serves.
    pub(super) fn served_by(&mut self, worker: StreamRef) -> Option<&mut Stream> {
        self.awake_mut(worker.connection, worker.direction)
            .filter(|stream| stream.worker == worker.worker)
    }

    /// Takes a Worker's place.
    pub(super) fn take_awake(&mut self, id: ConnectionId, direction: Direction) -> Option<Box<Stream>> {
        let place = self.get_mut(id)?.stream_mut(direction);
        match place.take_if(|place| matches!(place, Place::Awake(_)))? {
            Place::Awake(stream) => Some(stream),
            Place::Asleep(_) => None,
        }
    }

    fn take_asleep(&mut self, id: ConnectionId, direction: Direction) -> Option<Box<Asleep>> {
        let place = self.get_mut(id)?.stream_mut(direction);
        match place.take_if(|place| matches!(place, Place::Asleep(_)))? {
            Place::Asleep(asleep) => Some(asleep),
            Place::Awake(_) => None,
        }
    }
}

impl Processor {
    /// Keeps the state that the Worker of `stream` left.
    pub(super) fn keep_asleep(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        stream: &Stream,
        kept: Kept,
    ) {
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        // Mostly the directions differ in nothing else, and then they share it.
        let mirror = connection
            .asleep(direction.opposite())
            .filter(|other| !other.is_mirrored && other.origin.mirrored() == *stream.origin);
        let is_mirrored = mirror.is_some();
        let origin = mirror.map_or(&stream.origin, |other| &other.origin);
        *connection.stream_mut(direction) = Some(Place::Asleep(Box::new(Asleep {
            origin: Arc::clone(origin),
            is_mirrored,
            kept,
            epoch: stream.epoch,
            ended: None,
        })));
        self.sleepers.count += 1;
        self.note_sleepers();
    }

    /// Starts a Worker that continues where the last one of a sleeping stream ended. Of one that
    /// has been closed it shows the end.
    pub(super) fn wake(&mut self, id: ConnectionId, direction: Direction) {
        let Some(asleep) = self.registry.take_asleep(id, direction) else {
            return;
        };
        let Asleep {
            mut origin,
            is_mirrored,
            kept,
            epoch,
            ended,
        } = *asleep;
        if is_mirrored {
            origin = Arc::new(origin.mirrored());
        }
        if ended.is_none() {
            self.sleepers.count -= 1;
            self.note_sleepers();
        }
        let position = kept.position;
        self.start_worker(id, direction, epoch, origin, position, Some(Box::new(kept)));
        if let Some((end, sequence)) = ended {
            self.retire(id, direction, end, sequence);
        }
    }

    /// A stream that sleeps was closed by the event `sequence`: it is woken when there is room, or when its
    /// place is needed.
    pub(super) fn close_asleep(&mut self, id: ConnectionId, direction: Direction, end: End, sequence: u64) {
        let Some(Place::Asleep(asleep)) = self.registry.stream_mut(id, direction) else {
            return;
        };
        if asleep.ended.is_none() {
            asleep.ended = Some((end, sequence));
            self.sleepers.count -= 1;
            self.sleepers.closing.push_back((id, direction));
            self.note_sleepers();
        }
        self.wake_closing();
    }

    /// Wakes streams that have been closed, as long as few Workers are ending.
    pub(super) fn wake_closing(&mut self) {
        while self.sleepers.ending_workers < self.shared().limits.round_events {
            let Some((id, direction)) = self.sleepers.closing.pop_front() else {
                return;
            };
            let is_closed = self
                .registry
                .get(id)
                .and_then(|connection| connection.asleep(direction))
                .is_some_and(|asleep| asleep.ended.is_some());
            if is_closed {
                self.wake(id, direction);
            }
        }
    }

    fn note_sleepers(&self) {
        let gauges = &self.shared().ledger.gauges;
        gauges.sleeping.store(self.sleepers.count as u64, Relaxed);
    }

    /// Looks, every run interval, at some connections in turn, and sends those to sleep that have been
    /// silent for long.
    pub(super) fn look_for_silence(&mut self) {
        if self.now_ns < self.sleepers.next_look_ns {
            return;
        }
        let timings = self.shared().timings;
        self.sleepers.next_look_ns = self.now_ns.saturating_add(nanoseconds(timings.run_interval));
        let silent_since = self.now_ns.checked_sub(nanoseconds(timings.hibernate));
        let first = self.sleepers.next_place;
        let count = PipelineLimits::looked_at(self.registry.places());
        let Some(some) = self.registry.some(first, count) else {
            self.sleepers.next_place = 0;
            return;
        };
        let silent = some.filter(|(_, connection)| {
            connection.key.lifecycle() == Lifecycle::Connection
                && silent_since.is_some_and(|since| connection.last_active_ns <= since)
                && BOTH
                    .iter()
                    .any(|&direction| connection.awake(direction).is_some())
        });
        let silent: Vec<ConnectionId> = silent.map(|(id, _)| id).collect();
        self.sleepers.next_place = first + count;
        for id in silent {
            self.hibernate(id);
        }
    }

    fn hibernate(&mut self, id: ConnectionId) {
        for direction in BOTH {
            let may_sleep = self
                .registry
                .get(id)
                .and_then(|connection| connection.awake(direction))
                .is_some_and(|stream| stream.ending.is_none() && stream.outbox.is_empty());
            if may_sleep {
                self.retire(id, direction, End::Hibernated, self.last_sequence);
            }
        }
    }

    /// A capture looks also when no events come, as long as there are Workers.
    pub(super) fn plan_look(&mut self, ctx: &mut Context<Self>) {
        if self.serving == 0 || std::mem::replace(&mut self.sleepers.look_planned, true) {
            return;
        }
        ctx.run_later(self.shared().timings.run_interval, |processor, ctx| {
            processor.sleepers.look_planned = false;
            processor.now_ns = processor.live_now_ns();
            processor.look_for_silence();
            processor.plan_look(ctx);
        });
    }
}

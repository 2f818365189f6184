//! Ends streams, and lets their Workers stay for the last notices of the other direction.
//!
//! A connection ends as a whole: both Workers are retired. One whose decoder still waits for the
//! other direction reports this and stays. It is retired again once the other Worker has exited and
//! all notices of that Worker have been passed on. If both wait, neither will send a notice, and
//! both are released.

use std::collections::VecDeque;
use std::sync::Arc;

use ecapture_protocols::Direction;

use super::routing::{BOTH, measure};
use super::{Ending, Place, Processor, Stream, Waiting};
use crate::messages::{ConnectionId, End, Position, Retire, StreamRef, WorkerBatch};

impl Processor {
    /// Notes that a retired Worker waits for the last notices.
    pub(super) fn note_holding(&mut self, stream: StreamRef) {
        if let Some(ending) = self
            .registry
            .served_by(stream)
            .and_then(|current| current.ending.as_mut())
        {
            ending.holding = true;
            self.release_holders(stream.connection);
        }
    }

    /// Releases Workers that wait for the last notices if none will come: the other direction has
    /// no Worker, or one that waits as well. A sleeping direction has already sent all its notices.
    #[expect(clippy::disallowed_methods, reason = "one per retirement")]
    pub(super) fn release_holders(&mut self, id: ConnectionId) {
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        // Taken before anything is changed: if both wait for each other, both are released, and not only
        // the first one, whose release would make it look like a Worker that may send notices.
        let may_be_notified = BOTH.map(|direction| {
            let stream = connection.awake(direction)?;
            let peer = connection.awake(direction.opposite())?;
            Some(peer.may_notify(stream.epoch))
        });
        for (direction, may_be_notified) in BOTH.into_iter().zip(may_be_notified) {
            let Some(stream) = connection.awake_mut(direction) else {
                continue;
            };
            let (Some(ending), Some(addr)) = (&mut stream.ending, &stream.addr) else {
                continue;
            };
            let may_be_notified = may_be_notified.unwrap_or(false);
            if let (true, false, Some(end)) = (ending.holding, may_be_notified, ending.end) {
                ending.holding = false;
                addr.do_send(Retire {
                    end,
                    sequence: ending.sequence,
                    last: true,
                });
                self.rounds.expect_answer(stream);
            }
        }
    }

    /// Ends both directions of a connection because of the event `sequence`; what comes later
    /// under its key is another connection.
    pub(super) fn end_connection(&mut self, id: ConnectionId, end: End, sequence: u64) {
        if let Some(connection) = self.registry.get_mut(id) {
            connection.begin_epoch();
            self.ended.add_session(connection.pid, connection.key);
        }
        for direction in BOTH {
            self.end_stream(id, direction, end, sequence);
        }
        // A place may have been made by an event whose Worker never came to be.
        self.registry.remove_if_vacant(id);
    }

    /// Reports the requests of a direction that has ended if the other one, which would have answered
    /// them, never had a byte: a Worker takes their notices, and ends.
    pub(super) fn report_unanswered(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        stream: &Stream,
        sequence: u64,
    ) {
        let other = direction.opposite();
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        if connection.stream(other).is_some() || !connection.keeps_requests(other, stream.epoch) {
            return;
        }
        let origin = Arc::new(stream.origin.mirrored());
        let position = Position {
            sequence,
            timestamp_ns: self.now_ns,
            offset: None,
        };
        self.start_worker(id, other, stream.epoch, origin, position, None);
        self.retire(id, other, End::Closed, sequence);
    }

    /// Ends one direction: its Worker, or the last of those that are still to come to its place.
    fn end_stream(&mut self, id: ConnectionId, direction: Direction, end: End, sequence: u64) {
        let stream = match self.registry.stream_mut(id, direction) {
            None => return,
            Some(Place::Asleep(_)) => return self.close_asleep(id, direction, end, sequence),
            Some(Place::Awake(stream)) => stream,
        };
        let Some(ending) = &mut stream.ending else {
            return self.retire(id, direction, end, sequence);
        };
        let falls_asleep = ending.end.is_some_and(End::keeps_decoder);
        match ending.pending.back() {
            Some(Waiting::End { .. }) => {}
            Some(Waiting::Event { .. } | Waiting::Fact { .. }) => {
                ending.pending.push_back(Waiting::End { end, sequence });
            }
            None if falls_asleep => ending.pending.push_back(Waiting::End { end, sequence }),
            None => {
                ending.end.get_or_insert(end);
                ending.sequence = ending.sequence.max(sequence);
            }
        }
    }

    /// Lets the entries that waited for a stream's place take it, in order.
    pub(super) fn admit_waiting(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        waiting: VecDeque<Waiting>,
    ) {
        for next in waiting {
            match next {
                Waiting::Event { arrival, data } => self.place(id, arrival, *data),
                Waiting::Fact { arrival, observed } => self.place_fact(id, arrival, observed),
                Waiting::End { end, sequence } => self.end_stream(id, direction, end, sequence),
            }
        }
    }

    /// Retires a Worker: it ends after the events that were sent to it.
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
        // A stream that was silent for long has nothing to wait for.
        let last = end.keeps_decoder() || connection.awake(direction.opposite()).is_none();
        let Some(stream) = connection.awake_mut(direction) else {
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
        self.rounds.expect_answer(stream);
        stream.ending = Some(Box::new(Ending {
            end: Some(end),
            sequence,
            ..Ending::default()
        }));
        self.serving -= 1;
        self.sleepers.ending_workers += 1;
        self.shedding += usize::from(end == End::Shed);
        self.has_shed |= end == End::Shed;
    }

    #[expect(clippy::disallowed_methods, reason = "the last batch before a retirement")]
    fn force_outbox(&mut self, id: ConnectionId, direction: Direction) {
        let Some(stream) = self.registry.awake_mut(id, direction) else {
            return;
        };
        let events = std::mem::take(&mut stream.outbox);
        let (count, bytes) = measure(&events);
        stream.sent += count;
        stream.sent_bytes += bytes;
        self.rounds.expect_answer(stream);
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

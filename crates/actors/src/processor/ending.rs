//! How streams end, and how the two directions of a connection tell each other the last things.
//!
//! A connection ends as a whole: both Workers are told. One whose decoder still waits for the
//! other direction says so and stays; it is told again when the other one has exited, by when
//! everything that one told has been passed on. If both wait, neither will tell.

use std::collections::VecDeque;

use ecapture_protocols::Direction;

use super::routing::{BOTH, measure};
use super::{Ending, Place, Processor, Waiting};
use crate::messages::{ConnectionId, End, PeerNotices, Retire, SequencedNotice, StreamRef, WorkerBatch};

impl Processor {
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
        let Some(epoch) = connection.awake(from.direction).map(|stream| stream.epoch) else {
            return;
        };
        let direction = from.direction.opposite();
        if connection
            .asleep(direction)
            .is_some_and(|asleep| asleep.epoch == epoch)
        {
            self.make_room_for(from.connection);
            self.wake(from.connection, direction);
        }
        let Some(connection) = self.registry.get_mut(from.connection) else {
            return;
        };
        if let Some(stream) = connection.awake_mut(direction) {
            if stream.epoch > epoch {
                return;
            }
            if let (true, Some(addr)) = (stream.epoch == epoch, &stream.addr) {
                addr.do_send(PeerNotices(notices));
                return self.rounds.expect_answer(stream);
            }
        }
        // Without a Worker, or with one of an earlier connection.
        connection.keep_notices(direction, epoch, notices, limit);
    }

    /// A Worker that was told to end waits for the last notices.
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

    /// Tells Workers that wait for the last notices that none will come, where that is so: the
    /// other direction has no Worker, or one that waits as well. One that sleeps has told all it knew.
    #[expect(clippy::disallowed_methods, reason = "one per retirement")]
    pub(super) fn release_holders(&mut self, id: ConnectionId) {
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        let may_tell = BOTH.map(|direction| {
            let stream = connection.awake(direction)?;
            let holding = stream.ending.as_ref().is_some_and(|ending| ending.holding);
            (!holding).then_some(stream.epoch)
        });
        for (direction, teller_epoch) in BOTH.into_iter().zip([may_tell[1], may_tell[0]]) {
            let Some(stream) = connection.awake_mut(direction) else {
                continue;
            };
            let (Some(ending), Some(addr)) = (&mut stream.ending, &stream.addr) else {
                continue;
            };
            let will_be_told = teller_epoch == Some(stream.epoch);
            if let (true, false, Some(end)) = (ending.holding, will_be_told, ending.end) {
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

    /// Lets what waited for a stream's place take it, in order.
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

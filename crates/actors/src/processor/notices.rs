//! Passes notices between the two directions of a connection, and tells one whether the other has caught up.
//!
//! A decoder that waits for a notice does not wait for ever: the other direction may not be captured. But time
//! alone proves nothing where the processors are busy: the event may be in a mailbox. So a Worker that has
//! waited long enough asks. The question follows the events to the other Worker, and the answer follows
//! that Worker's notices back:
//!
//! ```text
//! Worker ─asks─▶ Processor ─CatchUp─▶ other Worker ─caught_up─▶ Processor ─PeerCaughtUp─▶ Worker
//! ```

use super::Processor;
use crate::messages::{CatchUp, PeerCaughtUp, PeerNotices, SequencedNotice, StreamRef};

impl Processor {
    /// Hands notices to the other direction's Worker, or keeps them for it.
    #[expect(
        clippy::disallowed_methods,
        reason = "at most one per report, and reports are bounded"
    )]
    pub(super) fn pass_notices(&mut self, from: StreamRef, notices: Vec<SequencedNotice>) {
        let limits = self.shared().limits;
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
        let lost = connection.keep_notices(direction, epoch, notices, (&limits, &self.notice_room));
        Self::count_unkept(&self.shards[0].ports, connection.awake(from.direction), lost);
    }

    /// A Worker asks whether the other direction has processed everything. It is not answered while that has
    /// events which its Worker has not got; it asks again.
    #[expect(
        clippy::disallowed_methods,
        reason = "one per question, at most one in a run interval"
    )]
    pub(super) fn pass_question(&mut self, from: StreamRef, question: u16) {
        let Some(connection) = self.registry.get_mut(from.connection) else {
            return;
        };
        let Some(asker) = connection.awake(from.direction) else {
            return;
        };
        match connection.awake(from.direction.opposite()) {
            Some(other) if other.may_notify(asker.epoch) => {
                if let (None, true, Some(addr)) = (&other.ending, other.outbox.is_empty(), &other.addr) {
                    // A full mailbox has an answer later.
                    let _ = addr.try_send(CatchUp { question });
                }
            }
            _ => {
                if let Some(addr) = &asker.addr {
                    addr.do_send(PeerCaughtUp { question });
                }
            }
        }
    }

    /// A Worker has processed everything up to a question of the other direction, and its notices were passed
    /// on.
    #[expect(clippy::disallowed_methods, reason = "one per question")]
    pub(super) fn pass_answer(&mut self, from: StreamRef, question: u16) {
        let Some(connection) = self.registry.get_mut(from.connection) else {
            return;
        };
        let Some(epoch) = connection.awake(from.direction).map(|stream| stream.epoch) else {
            return;
        };
        if let Some(asker) = connection.awake(from.direction.opposite())
            && let (true, Some(addr)) = (asker.epoch == epoch, &asker.addr)
        {
            addr.do_send(PeerCaughtUp { question });
        }
    }
}

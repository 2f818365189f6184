//! Handles the exits of Workers, and chooses the Workers that must end because of limits.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use actix::prelude::*;
use ecapture_protocols::Direction;
use ecapture_protocols::message::GapReason;

use super::routing::{BOTH, add_gap, measure};
use super::{Ending, Place, Processor, Stream, Successor, Touched};
use crate::loss::Loss;
use crate::messages::{ConnectionId, End, Incident, StreamRef, WorkerExited};
use crate::registry::{ConnectionKey, Lifecycle};
use crate::supervision::{Verdict, judge, nanoseconds};

impl Processor {
    /// Takes the place of a Worker that has ended: vacates it, or starts its successor.
    pub(super) fn settle_exit(&mut self, mut exited: WorkerExited, ctx: &mut Context<Self>) {
        let stream_ref = exited.stream;
        let StreamRef {
            connection: id,
            direction,
            ..
        } = stream_ref;
        if self.registry.served_by(stream_ref).is_none() {
            return;
        }
        let notices = std::mem::take(&mut exited.notices);
        if !notices.is_empty() {
            self.pass_notices(stream_ref, notices);
        }
        let Some(mut stream) = self.registry.take_awake(id, direction) else {
            return;
        };
        match &stream.ending {
            None => self.serving -= 1,
            Some(ending) if ending.end.is_some() => {
                self.sleepers.ending_workers = self.sleepers.ending_workers.saturating_sub(1);
            }
            Some(_) => {}
        }
        let ending = *stream.ending.take().unwrap_or_default();
        let was_shed = ending.end == Some(End::Shed);
        self.shedding = self.shedding.saturating_sub(usize::from(was_shed));
        if ending.end.is_none() || exited.panicked && !exited.closed {
            self.replace(*stream, ending, exited, ctx);
        } else {
            if let Some(kept) = exited.kept.take() {
                self.keep_asleep(id, direction, &stream, *kept);
            } else {
                self.report_unanswered(id, direction, &stream, ending.sequence);
            }
            // The events that waited for its place may bring notices to the other direction.
            self.vacate(id, direction, ending);
            self.release_holders(id);
        }
        self.wake_closing();
    }

    /// Vacates the place of a Worker that ended when retired: the events that waited for the place
    /// are admitted.
    fn vacate(&mut self, id: ConnectionId, direction: Direction, ending: Ending) {
        self.admit_waiting(id, direction, ending.pending);
        self.registry.remove_if_vacant(id);
        if self.source_ended {
            self.end_newcomers();
            self.drain_next();
        }
    }

    /// Ends streams that were started after the source had ended: nobody else will end them.
    fn end_newcomers(&mut self) {
        for touched in self.touched.clone() {
            self.end_connection(touched.id, End::Drained, self.last_sequence);
        }
    }

    /// Replaces a Worker that failed: its losses are counted and a new generation takes over.
    fn replace(&mut self, stream: Stream, mut ending: Ending, exited: WorkerExited, ctx: &mut Context<Self>) {
        let StreamRef {
            connection: id,
            direction,
            worker,
        } = exited.stream;
        let mut successor = self.count_failure(&stream, exited);
        successor.events.append(&mut ending.refused);
        successor.events.extend(stream.outbox);
        ending.successor = Some(successor);
        let delay = self.judge_failure(id, stream.epoch);
        let Some(connection) = self.registry.get_mut(id) else {
            return;
        };
        *connection.stream_mut(direction) = Some(Place::Awake(Box::new(Stream {
            addr: None,
            outbox: Vec::new(),
            unanswered: 0,
            ending: Some(Box::new(ending)),
            ..stream
        })));
        if delay.is_zero() || self.is_replay() {
            self.start_successor(StreamRef {
                connection: id,
                direction,
                worker,
            });
        } else {
            ctx.run_later(delay, move |processor, ctx| {
                processor.start_successor(StreamRef {
                    connection: id,
                    direction,
                    worker,
                });
                processor.dispatch(ctx);
                processor.finish_if_drained(ctx);
            });
        }
    }

    /// Counts the losses of a failed Worker. Returns the state with which its successor starts.
    fn count_failure(&self, stream: &Stream, exited: WorkerExited) -> Successor {
        let ledger = &self.shared().ledger;
        // Every event that was sent and not fed is in exactly one of three places: the event that
        // failed, the rest of the last batch (`leftover`), or batches in the mailbox (`queued`). Only
        // the leftover comes back, so the number of the queued ones is what remains of the sum.
        let unfed = stream.sent - exited.fed;
        let unfed_bytes = stream.sent_bytes - exited.fed_bytes;
        let (leftover, leftover_bytes) = measure(&exited.leftover);
        let failed = u64::from(exited.failed_bytes.is_some());
        let failed_bytes = exited.failed_bytes.unwrap_or(0);
        let queued = unfed - leftover - failed;
        let uuid = stream.origin.name();
        ledger.lose_of(uuid, Loss::WorkerFailed, failed, failed_bytes);
        ledger.lose_delivered_of(uuid, Loss::WorkerRestart, exited.held_bytes);
        // Events queued after the leftover were lost with the mailbox, so feeding the leftover
        // would leave two gaps close together. Both are dropped, and one gap covers them.
        let (missing_bytes, events) = if queued == 0 {
            (unfed_bytes - leftover_bytes, exited.leftover)
        } else {
            let (lost, lost_bytes) = (queued + leftover, unfed_bytes - failed_bytes);
            ledger.lose_of(uuid, Loss::WorkerRestart, lost, lost_bytes);
            (unfed_bytes, Vec::new())
        };
        // Neither the failed event nor lost ones advanced the offset. Without this step the successor
        // would find the same bytes missing again, in addition to the gap.
        let mut position = exited.position;
        position.offset = position.offset.map(|offset| offset.saturating_add(missing_bytes));
        let gap = add_gap(stream.gap, missing_bytes + exited.held_bytes, GapReason::Restart);
        Successor {
            gap,
            position,
            events,
        }
    }

    /// Records the failure. Returns the pause before the next generation.
    fn judge_failure(&mut self, id: ConnectionId, epoch: u32) -> Duration {
        let (limits, timings) = (self.shared().limits, self.shared().timings);
        let ledger = Arc::clone(&self.shared().ledger);
        let gauges = &ledger.gauges;
        gauges.restarts.fetch_add(1, Relaxed);
        let failures = self.failures.add(self.now_ns, timings.failure_window);
        if failures == limits.failures_per_run {
            let _ = self.incidents.send(Incident::RestartLimit { failures });
        }
        let now_ns = self.now_ns;
        let Some(connection) = self.registry.get_mut(id) else {
            return Duration::ZERO;
        };
        let failures = connection.failures(epoch);
        let count = failures.window.add(now_ns, timings.failure_window);
        match judge(count, limits.failures_per_connection, timings.restart_delay) {
            Verdict::Restart { delay } => delay,
            Verdict::Quarantine => {
                let is_new = !std::mem::replace(&mut failures.quarantined, true);
                gauges.quarantined.fetch_add(u64::from(is_new), Relaxed);
                Duration::ZERO
            }
        }
    }

    /// Starts the new generation with the state that the old one left, and routes the events that
    /// waited.
    fn start_successor(&mut self, failed: StreamRef) {
        let StreamRef {
            connection: id,
            direction,
            ..
        } = failed;
        let Some(stream) = self.registry.served_by(failed) else {
            return;
        };
        let (origin, epoch) = (Arc::clone(&stream.origin), stream.epoch);
        let Some(mut ending) = stream.ending.take() else {
            return;
        };
        let Some(successor) = ending.successor.take() else {
            return;
        };
        self.start_worker(id, direction, epoch, origin, successor.position, None);
        if let Some(stream) = self.registry.awake_mut(id, direction) {
            stream.gap = Some(successor.gap);
            stream.outbox = successor.events;
        }
        self.touched.push_back(Touched::new(id, direction));
        if let Some(end) = ending.end {
            self.retire(id, direction, end, ending.sequence);
        }
        self.admit_waiting(id, direction, ending.pending);
        if self.source_ended {
            self.end_newcomers();
            self.end_connection(id, End::Drained, self.last_sequence);
        }
    }

    /// Sheds connections while the limits are exceeded and ends those whose close was missed.
    pub(super) fn keep_limits(&mut self) {
        let (limits, timings) = (self.shared().limits, self.shared().timings);
        let held = self.shared().ledger.held_bytes() + self.notice_room.taken() as u64;
        let allowed = limits.held_bytes() as u64;
        if held > allowed && self.shedding == 0 {
            self.shed_holders(held - allowed);
        }
        self.look_for_silence();
        if self.now_ns >= self.next_sweep_ns {
            let age_ns = nanoseconds(timings.age_limit);
            self.next_sweep_ns = self.now_ns.saturating_add(age_ns / 10);
            let limit_ns = self.now_ns.saturating_sub(age_ns);
            let aged = self
                .registry
                .iter()
                .filter(|(_, found)| found.last_active_ns < limit_ns);
            for id in aged.map(|(id, _)| id).collect::<Vec<_>>() {
                self.has_shed = true;
                self.end_connection(id, End::Closed, self.last_sequence);
            }
        }
    }

    /// Makes room for one more Worker, at the cost of the connections that were idle longest, whether
    /// they have Workers or sleep. Several go at once, so that looking for them costs little per new Worker.
    pub(super) fn make_room_for(&mut self, newcomer: ConnectionId) {
        let limits = self.shared().limits;
        let allowed = limits.workers();
        let is_crowded = self.serving >= allowed;
        if !is_crowded && self.serving + self.sleepers.as_workers() < limits.fitting_workers() {
            return;
        }
        let frees_room = |place: Option<&Place>| match place {
            Some(Place::Awake(stream)) => stream.ending.is_none(),
            Some(Place::Asleep(asleep)) => !is_crowded && asleep.ended.is_none(),
            None => false,
        };
        let candidates = self.registry.iter().filter(|&(id, _)| id != newcomer);
        let mut candidates: Vec<(u64, ConnectionId)> = candidates
            .filter(|(_, found)| BOTH.iter().any(|&direction| frees_room(found.stream(direction))))
            .map(|(id, found)| (found.last_active_ns, id))
            .collect();
        let count = (allowed / 100).max(1).min(candidates.len());
        if count < candidates.len() {
            candidates.select_nth_unstable(count);
            candidates.truncate(count);
        }
        candidates.sort_unstable();
        for (_, id) in candidates {
            self.shed(id);
        }
    }

    /// Sheds the connections that were idle longest until `excess` held bytes are freed.
    fn shed_holders(&mut self, mut excess: u64) {
        let holders = self.registry.iter().map(|(id, found)| {
            let held = |direction| match found.stream(direction) {
                None => 0,
                Some(Place::Awake(stream)) => stream.gauge.bytes() as u64,
                Some(Place::Asleep(asleep)) => asleep.kept.held as u64,
            };
            (
                found.last_active_ns,
                id,
                held(Direction::Read) + held(Direction::Write),
            )
        });
        let mut holders: Vec<_> = holders.filter(|&(_, _, held)| held > 0).collect();
        holders.sort_unstable();
        for (_, id, held) in holders {
            self.shed(id);
            excess = excess.saturating_sub(held);
            if excess == 0 {
                return;
            }
        }
    }

    /// Sheds a connection. Sleeping plain streams may have ended long ago, so their output is not
    /// marked; a stream that continues under the same key is.
    fn shed(&mut self, id: ConnectionId) {
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        let (pid, key) = (connection.pid, connection.key);
        // Their Worker holds nothing, and the next fact gets another one.
        if key == ConnectionKey::Facts {
            self.end_connection(id, End::Closed, self.last_sequence);
            return;
        }
        let asleep = BOTH.map(|direction| {
            let asleep = connection.asleep(direction);
            asleep.is_some_and(|asleep| asleep.ended.is_none())
        });
        let is_awake = BOTH
            .iter()
            .any(|&direction| connection.awake(direction).is_some());
        let gauges = &self.shared().ledger.gauges;
        if key.lifecycle() == Lifecycle::Connection || is_awake {
            gauges.shed_connections.fetch_add(1, Relaxed);
            self.end_connection(id, End::Shed, self.last_sequence);
            return;
        }
        for direction in BOTH
            .into_iter()
            .zip(asleep)
            .filter_map(|(direction, is)| is.then_some(direction))
        {
            self.shared().ledger.gauges.given_up.fetch_add(1, Relaxed);
            self.ended.add_plain(pid, key, direction);
        }
        self.end_connection(id, End::GivenUp, self.last_sequence);
    }
}

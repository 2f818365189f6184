//! Gathers what the Workers of one Arbiter send: one message per destination and pass over the
//! Workers instead of one per Worker.
//!
//! In a replay records leave before the reports of the Workers that made them, so whoever has a
//! Worker's report or exit notice knows that its records are in the Sink's mailbox. In a capture
//! the reports leave first: what they release, such as a response that waited for its request, goes
//! with the same records, and the Sink's thread is woken once. While the Sink refuses, everything stays
//! here and the Workers wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::WeakRecipient;
use actix::dev::SendError;
use actix::prelude::*;
use ecapture_protocols::Output;

use super::guard::Turn;
use crate::Clock;
use crate::ledger::Ledger;
use crate::loss::Loss;
use crate::messages::{
    Incident, Incidents, RecordBatch, TurnReport, WorkerExited, WorkerReport, WorkerReports,
};

/// The parts of an [`Outbox`].
pub(crate) struct OutboxPorts {
    pub(crate) clock: Clock,
    pub(crate) records: Vec<RecordPort>,
    pub(crate) reports: WeakRecipient<WorkerReports>,
    pub(crate) incidents: Incidents,
    pub(crate) ledger: Arc<Ledger>,
    /// Bytes of records that are sent without waiting for more.
    pub(crate) chunk: usize,
    pub(crate) retry_delay: Duration,
}

/// The way to one Sink.
pub(crate) struct RecordPort {
    /// The number of its output.
    pub(crate) output: usize,
    /// The Arbiter's one sender to it: that is what makes the bound of its mailbox hold.
    pub(crate) sink: Recipient<RecordBatch>,
}

/// See the module's documentation.
pub(crate) struct Outbox {
    state: Mutex<State>,
    ports: OutboxPorts,
}

#[derive(Default)]
struct State {
    turn: Option<Box<Turn>>,
    output: Output,
    /// One for each of the ports.
    batches: Vec<RecordBatch>,
    reports: Vec<WorkerReport>,
    flush_planned: bool,
}

impl State {
    fn put_back(&mut self, mut turn: Box<Turn>, output: Output) {
        self.batches = std::mem::take(&mut turn.batches);
        self.turn = Some(turn);
        self.output = output;
    }
}

impl Outbox {
    pub(crate) fn new(ports: OutboxPorts) -> Self {
        Self {
            state: Mutex::default(),
            ports,
        }
    }

    /// Nothing that runs under the lock panics.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn, with the records gathered so far, and the output vectors.
    pub(super) fn lend(&self) -> (Box<Turn>, Output) {
        let mut state = self.state();
        let mut turn = state.turn.take().unwrap_or_default();
        turn.batches = std::mem::take(&mut state.batches);
        (turn, std::mem::take(&mut state.output))
    }

    /// Takes both back from a turn that was broken off.
    pub(super) fn give_back(&self, turn: Box<Turn>, output: Output) {
        self.state().put_back(turn, output);
    }

    /// Takes both back and passes on a report, and the records with it, when the Workers that are
    /// awake have run. Returns false if Workers have to wait.
    pub(super) fn take_back(
        self: &Arc<Self>,
        turn: Box<Turn>,
        output: Output,
        report: Option<TurnReport>,
    ) -> bool {
        let mut state = self.state();
        state.put_back(turn, output);
        state.reports.extend(report.map(WorkerReport::Turn));
        let is_empty = state.reports.is_empty() && state.batches.iter().all(RecordBatch::is_empty);
        for (port, batch) in self.ports.records.iter().zip(&mut state.batches) {
            if batch.len() >= self.ports.chunk {
                self.send_batch(port, batch);
            }
        }
        let has_room = self.fits(&state.batches);
        if !is_empty && !std::mem::replace(&mut state.flush_planned, true) {
            drop(state);
            self.plan_flush();
        }
        has_room
    }

    fn plan_flush(self: &Arc<Self>) {
        let outbox = Arc::clone(self);
        actix_rt::spawn(async move {
            tokio::task::yield_now().await;
            if outbox.ports.clock == Clock::Live && outbox.send_reports() {
                tokio::task::yield_now().await;
            }
            while !outbox.flush() {
                tokio::time::sleep(outbox.ports.retry_delay).await;
            }
        });
    }

    /// True while Workers need not wait.
    pub(super) fn has_room(&self) -> bool {
        self.fits(&self.state().batches)
    }

    fn fits(&self, batches: &[RecordBatch]) -> bool {
        batches.iter().all(|batch| batch.len() < 2 * self.ports.chunk)
    }

    /// Passes on an exit notice. It goes with the flush that is planned or else at once: a guard
    /// may be dropped where nothing can be planned any more.
    pub(super) fn tell_exit(&self, exited: WorkerExited) {
        let mut state = self.state();
        state.reports.push(WorkerReport::Exited(Box::new(exited)));
        if !state.flush_planned {
            drop(state);
            self.flush_at_once();
        }
    }

    /// Sends everything. Returns false if the Sink refuses.
    fn flush(&self) -> bool {
        let mut state = self.state();
        if !self.send_records(&mut state) {
            return false;
        }
        state.flush_planned = false;
        drop(state);
        self.send_reports();
        true
    }

    /// Sends the reports. Returns false when there are none.
    #[expect(
        clippy::disallowed_methods,
        reason = "two per pass over the Workers, whose reports are bounded"
    )]
    fn send_reports(&self) -> bool {
        let mut state = self.state();
        if state.reports.is_empty() {
            return false;
        }
        // The next pass probably brings as many.
        let next = Vec::with_capacity(state.reports.len());
        let reports = std::mem::replace(&mut state.reports, next);
        drop(state);
        if let Some(processor) = self.ports.reports.upgrade() {
            processor.do_send(WorkerReports(reports));
        }
        true
    }

    /// Sends the records. Returns false if a Sink refuses that has to be waited for.
    fn send_records(&self, state: &mut State) -> bool {
        let mut all_sent = true;
        for (port, batch) in self.ports.records.iter().zip(&mut state.batches) {
            all_sent &= self.send_batch(port, batch);
        }
        all_sent
    }

    /// Sends the records of one output. Returns false if its Sink refuses and has to be waited for.
    fn send_batch(&self, port: &RecordPort, batch: &mut RecordBatch) -> bool {
        if batch.is_empty() {
            return true;
        }
        let ledger = &self.ports.ledger;
        let column = ledger.column(port.output);
        // A replay's rounds wait for room before they begin, except for that of outputs that drop.
        let needs_room = self.ports.clock == Clock::Live || !column.holds_reading;
        if needs_room && !ledger.sink_has_room(port.output) {
            return self.refused(port, batch);
        }
        let (_, bytes) = batch.total();
        column.send(bytes);
        let next = batch.next(2 * self.ports.chunk);
        match port.sink.try_send(std::mem::replace(batch, next)) {
            Ok(()) => true,
            Err(SendError::Full(refused)) => {
                column.take_back(bytes);
                *batch = refused;
                self.refused(port, batch)
            }
            Err(SendError::Closed(refused)) => {
                self.lose(port, &refused);
                true
            }
        }
    }

    /// The Sink takes nothing now: drops the records if nobody is to wait for it. Returns false otherwise.
    fn refused(&self, port: &RecordPort, batch: &mut RecordBatch) -> bool {
        let ledger = &self.ports.ledger;
        if ledger.column(port.output).holds_reading {
            return false;
        }
        let (messages, bytes) = batch.total();
        ledger.lose_unsent(port.output, Loss::SinkFull, messages, bytes);
        batch.clear();
        true
    }

    /// Like `flush`, but also when a Sink refuses that has to be waited for.
    #[expect(
        clippy::disallowed_methods,
        reason = "once per Worker that ended outside of a turn, and at the end"
    )]
    pub(crate) fn flush_at_once(&self) {
        let mut state = self.state();
        self.send_records(&mut state);
        let batches = std::mem::take(&mut state.batches);
        drop(state);
        for (port, batch) in self.ports.records.iter().zip(batches) {
            if !batch.is_empty() {
                self.ports.ledger.column(port.output).send(batch.total().1);
                if port.sink.connected() {
                    port.sink.do_send(batch);
                } else {
                    self.lose(port, &batch);
                }
            }
        }
        self.flush();
    }

    fn lose(&self, port: &RecordPort, batch: &RecordBatch) {
        let (messages, bytes) = batch.total();
        self.ports
            .ledger
            .lose_output(port.output, Loss::SinkClosed, messages, bytes);
    }
}

impl Drop for Outbox {
    /// The Arbiter may have ended before a planned flush.
    fn drop(&mut self) {
        self.flush_at_once();
        // Nobody listens any more when the run was ended by force.
        let _ = self.ports.incidents.send(Incident::OutboxClosed);
    }
}

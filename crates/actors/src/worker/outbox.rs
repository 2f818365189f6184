//! What the Workers of one Arbiter send, gathered: one message per destination and pass over the
//! Workers instead of one per Worker.
//!
//! In a replay records leave before the news of the Workers that made them, so whoever has a
//! Worker's report or exit notice knows that its records are in the Sink's mailbox. In a capture
//! the news leave first: what they bring, a response that waited for its request say, goes with
//! the same records, and the Sink's thread is woken once. While the Sink refuses, everything stays
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
use crate::messages::{Incident, Incidents, News, RecordBatch, WorkerExited, WorkerNews, WorkerReport};

/// What an [`Outbox`] is made of.
pub(crate) struct OutboxPorts {
    pub(crate) clock: Clock,
    /// The Arbiter's one sender to the Sink: that is what makes the bound of its mailbox hold.
    pub(crate) records: Recipient<RecordBatch>,
    pub(crate) news: WeakRecipient<WorkerNews>,
    pub(crate) incidents: Incidents,
    pub(crate) ledger: Arc<Ledger>,
    /// Bytes of records that are sent without waiting for more.
    pub(crate) chunk: usize,
    pub(crate) retry_delay: Duration,
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
    records: RecordBatch,
    news: Vec<News>,
    flush_planned: bool,
}

impl State {
    fn put_back(&mut self, mut turn: Box<Turn>, output: Output) {
        self.records = std::mem::take(&mut turn.records);
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
        turn.records = std::mem::take(&mut state.records);
        (turn, std::mem::take(&mut state.output))
    }

    /// Takes both back from a turn that was broken off.
    pub(super) fn give_back(&self, turn: Box<Turn>, output: Output) {
        self.state().put_back(turn, output);
    }

    /// Takes both back and passes on a report, and the records with it, when the Workers that are
    /// awake have run. False when Workers have to wait.
    pub(super) fn take_back(
        self: &Arc<Self>,
        turn: Box<Turn>,
        output: Output,
        report: Option<WorkerReport>,
    ) -> bool {
        let mut state = self.state();
        state.put_back(turn, output);
        state.news.extend(report.map(News::Report));
        let is_empty = state.news.is_empty() && state.records.records.is_empty();
        if state.records.records.as_bytes().len() >= self.ports.chunk {
            self.send_records(&mut state);
        }
        let has_room = self.fits(&state.records);
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
            if outbox.ports.clock == Clock::Live && outbox.send_news() {
                tokio::task::yield_now().await;
            }
            while !outbox.flush() {
                tokio::time::sleep(outbox.ports.retry_delay).await;
            }
        });
    }

    /// True while Workers need not wait.
    pub(super) fn has_room(&self) -> bool {
        self.fits(&self.state().records)
    }

    fn fits(&self, records: &RecordBatch) -> bool {
        records.records.as_bytes().len() < 2 * self.ports.chunk
    }

    /// Passes on an exit notice. It goes with the flush that is planned or else at once: a guard
    /// may be dropped where nothing can be planned any more.
    pub(super) fn tell_exit(&self, exited: WorkerExited) {
        let mut state = self.state();
        state.news.push(News::Exited(Box::new(exited)));
        if !state.flush_planned {
            drop(state);
            self.flush_at_once();
        }
    }

    /// Sends all there is. False when the Sink refuses.
    fn flush(&self) -> bool {
        let mut state = self.state();
        if !self.send_records(&mut state) {
            return false;
        }
        state.flush_planned = false;
        drop(state);
        self.send_news();
        true
    }

    /// Sends the news. False when there are none.
    #[expect(
        clippy::disallowed_methods,
        reason = "two per pass over the Workers, whose reports are bounded"
    )]
    fn send_news(&self) -> bool {
        let mut state = self.state();
        if state.news.is_empty() {
            return false;
        }
        // The next pass probably brings as many.
        let next = Vec::with_capacity(state.news.len());
        let news = std::mem::replace(&mut state.news, next);
        drop(state);
        if let Some(processor) = self.ports.news.upgrade() {
            processor.do_send(WorkerNews(news));
        }
        true
    }

    /// Sends the records. False when the Sink refuses.
    fn send_records(&self, state: &mut State) -> bool {
        if !state.records.records.is_empty() {
            // A replay's rounds wait for room before they begin.
            if self.ports.clock == Clock::Live && !self.ports.ledger.sink_has_room() {
                return false;
            }
            let (_, bytes) = state.records.total();
            self.ports.ledger.send_to_sink(bytes);
            let next = state.records.next(2 * self.ports.chunk);
            match self
                .ports
                .records
                .try_send(std::mem::replace(&mut state.records, next))
            {
                Ok(()) => {}
                Err(SendError::Full(records)) => {
                    self.ports.ledger.take_from_sink(bytes);
                    state.records = records;
                    return false;
                }
                Err(SendError::Closed(records)) => self.lose(&records),
            }
        }
        true
    }

    /// As `flush`, even if the Sink refuses.
    #[expect(
        clippy::disallowed_methods,
        reason = "once per Worker that ended outside of a turn, and at the end"
    )]
    pub(crate) fn flush_at_once(&self) {
        let records = std::mem::take(&mut self.state().records);
        if !records.records.is_empty() {
            self.ports.ledger.send_to_sink(records.total().1);
            if self.ports.records.connected() {
                self.ports.records.do_send(records);
            } else {
                self.lose(&records);
            }
        }
        self.flush();
    }

    fn lose(&self, records: &RecordBatch) {
        let (messages, bytes) = records.total();
        self.ports.ledger.lose_output(Loss::SinkClosed, messages, bytes);
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

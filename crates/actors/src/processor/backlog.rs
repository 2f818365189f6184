//! The events that Workers refuse: how long they wait, and whose go first when reading waits for them.
//!
//! Captured bytes that are read and not decoded have one bound for all streams. If a stream that takes long to
//! decode filled it, nothing would be read any more, the kernel's ring would be full, and what is lost there is
//! everybody's. So a Worker is sent no more than its share, the rest waits here, and once reading has waited
//! for [`Timings::reading_patience`](crate::Timings::reading_patience) it is dropped and counted. Where
//! many streams share the blame, so that none has more than its share, the share becomes smaller.

use std::sync::Arc;

use ecapture_protocols::message::GapReason;

use super::routing::{add_gap, measure};
use super::{Processor, Stream, Touched};
use crate::ledger::Ledger;
use crate::loss::Loss;
use crate::supervision::nanoseconds;
use crate::{PipelineLimits, Timings};

/// The limit on the bytes of one stream that may be on their way.
pub(super) struct Backlog {
    /// Captured bytes of one stream that its Worker has got and not decoded.
    share: usize,
    most: usize,
    /// Set while as much is in flight as is allowed, or hardly less.
    full: Option<Full>,
}

/// Time for which as much was in flight as is allowed.
#[derive(Clone, Copy)]
struct Full {
    /// Since when, or since the output took something again after it had taken nothing.
    since_ns: u64,
    /// When the current period of `reading_patience` began, and how much the output had taken then.
    period_ns: u64,
    written: u64,
    /// The output had no room at some time in the period: reading waits for it.
    waits_for_output: bool,
}

impl Backlog {
    pub(super) fn new(limits: &PipelineLimits) -> Self {
        let most = limits.stream_bytes();
        Self {
            share: most,
            most,
            full: None,
        }
    }

    /// Captured bytes of one stream that its Worker may have got and not decoded.
    pub(super) fn share(&self) -> u64 {
        self.share as u64
    }

    /// Nobody keeps reading waiting.
    fn grow(&mut self) {
        self.full = None;
        self.share = self.share.saturating_mul(2).min(self.most);
    }

    /// Notes that as much is in flight as is allowed. Returns true if that has been so for too long: for the
    /// decoders a short time, for an output that continues, a longer one. An output that takes nothing is the
    /// user's wish, and all wait for it.
    fn has_waited(&mut self, now_ns: u64, ledger: &Ledger, timings: &Timings) -> bool {
        let written = ledger.slowest_written_bytes();
        let begin = Full {
            since_ns: now_ns,
            period_ns: now_ns,
            written,
            waits_for_output: false,
        };
        let full = self.full.get_or_insert(begin);
        full.waits_for_output |= !ledger.sinks_have_room();
        if now_ns - full.period_ns < nanoseconds(timings.reading_patience) {
            return false;
        }
        if full.waits_for_output && written == full.written {
            full.since_ns = now_ns;
        }
        let has_waited =
            !full.waits_for_output || now_ns - full.since_ns >= nanoseconds(timings.worker_stall);
        *full = Full {
            since_ns: full.since_ns,
            ..begin
        };
        has_waited
    }

    /// Nobody has more than the share.
    fn shrink(&mut self) {
        let least = PipelineLimits::LEAST_STREAM_BYTES.min(self.most);
        self.share = (self.share / 2).max(least);
    }
}

impl Processor {
    /// Lets the events that a Worker refuses wait for a while; then they are dropped: `None`. As long as the
    /// output takes nothing, that is the user's wish, and all wait.
    pub(super) fn keep_waiting(&mut self, touched: Touched) -> Option<Touched> {
        let now_ns = self.live_now_ns();
        let ports = Arc::clone(&self.shards[0].ports);
        if !ports.ledger.sinks_have_room() {
            return Some(Touched {
                refused_since_ns: None,
                ..touched
            });
        }
        let since_ns = touched.refused_since_ns.unwrap_or(now_ns);
        let patience_ns = nanoseconds(ports.timings.worker_stall);
        let stream = self.waiting_stream(touched)?;
        // One that has just been given up on gets no second period.
        if stream.gap.is_none() && now_ns.saturating_sub(since_ns) < patience_ns {
            return Some(Touched {
                refused_since_ns: Some(since_ns),
                ..touched
            });
        }
        self.drop_backlog(touched);
        None
    }

    /// Drops the backlogs when reading has waited for them. True while it waits, or soon may.
    pub(super) fn make_room(&mut self) -> bool {
        let ports = Arc::clone(&self.shards[0].ports);
        let ledger = &ports.ledger;
        // Decoding one event makes room for one more to read: that does not end the waiting.
        if ledger.has_quarters(3) || (self.backlog.full.is_none() && ledger.has_room()) {
            self.backlog.grow();
            return false;
        }
        let now_ns = self.live_now_ns();
        if !self.backlog.has_waited(now_ns, ledger, &ports.timings) {
            return true;
        }
        if self.touched.is_empty() {
            self.backlog.shrink();
        }
        for touched in std::mem::take(&mut self.touched) {
            self.drop_backlog(touched);
        }
        true
    }

    fn waiting_stream(&mut self, touched: Touched) -> Option<&mut Stream> {
        self.registry.awake_mut(touched.id, touched.direction)
    }

    /// Counts the events that wait for a stream's Worker as lost; the decoder learns of the gap.
    fn drop_backlog(&mut self, touched: Touched) {
        let ports = Arc::clone(&self.shards[0].ports);
        let Some(stream) = self.waiting_stream(touched) else {
            return;
        };
        let (count, bytes) = measure(&std::mem::take(&mut stream.outbox));
        stream.gap = Some(add_gap(stream.gap, bytes, GapReason::Shed));
        let ledger = &ports.ledger;
        ledger.lose_of(stream.origin.name(), Loss::WorkerFull, count, bytes);
    }
}

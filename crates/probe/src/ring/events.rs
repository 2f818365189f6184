//! The ring buffer as a stream of batches.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use ecapture_protocols::{CapturedEvent, Close, Fact, Observed};
use futures_util::Stream;
use tokio::time::{Instant, Sleep};

use crate::find::discovery::Discoverer;
use crate::handle::CaptureHandle;
use crate::kernel::detach::Programs;
use crate::ring::buffer::Ring;
use crate::ring::decode::{Decoded, Decoders};
use crate::ring::excluded::Excluded;
use crate::ring::joined_late::CountedConnections;
use crate::ring::origin::Origins;
use crate::ring::secrets::{KnownSecrets, News};
use crate::tally::{PacketFigures, Tally};

/// Most events in one batch.
const BATCH_EVENTS: usize = 512;
/// A batch ends with the event that makes its payloads reach this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// How often the ring is looked at while records keep coming: a wake-up costs the captured
/// process more than a record does.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// The same after a look that found [`BUSY_RECORDS`] or more: larger batches cost the pipeline, and the
/// program whose processor it shares, a good deal less per record. Much data wakes the reader sooner.
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(4);
const BUSY_RECORDS: usize = 16;
/// Calls that return when the capture is stopped have this time for it; writes have longer, see
/// [`CaptureConfig::drain`](crate::CaptureConfig::drain). Then programs that run in the kernel have it once more:
/// they may wait for a processor in the midst of a record.
const RETURNING: Duration = Duration::from_millis(10);
/// After so long without a record the reader sleeps until the kernel wakes it.
const IDLE_AFTER: Duration = Duration::from_millis(20);

/// The events of a capture, in the order of the ring: per session and direction in the order of
/// the bytes. Ends after [`CaptureHandle::stop`], when everything captured was delivered.
///
/// Must be polled inside a tokio runtime with I/O and time enabled. Dropping it detaches the
/// probes.
pub struct Events {
    ring: Ring,
    decoders: Decoders,
    // Ends before the programs do.
    discoverer: Option<Discoverer>,
    packets: Option<Box<dyn Beside>>,
    programs: Arc<Programs>,
    handle: CaptureHandle,
    excluded: Excluded,
    origins: Origins,
    secrets: KnownSecrets,
    counted: CountedConnections,
    /// How long writes in progress are waited for after the stop.
    drain: Duration,
    state: State,
    /// When a look found nothing, and all since.
    idle_since: Option<Instant>,
    /// Records since the last timer was set.
    found: usize,
    /// Room for the events of the next batch: as many as the last one had.
    room: usize,
}

/// Events that are read beside the ring, and handed over with those of the ring.
pub(crate) trait Beside: Send {
    /// Notes events of the ring, which are handed over before any further event of this source.
    fn note(&mut self, events: &[CapturedEvent]);

    /// The next events. Pending when there are none: then something wakes the task.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Vec<CapturedEvent>>;

    /// After the end of the ring's events: hands over what is left. `None` when all was handed over.
    fn finish(&mut self) -> Option<Vec<CapturedEvent>>;

    /// The figures so far.
    fn figures(&self) -> PacketFigures;
}

/// The event that the next look at the ring waits for.
enum State {
    /// Nothing.
    Looking,
    /// The timer since the last look, or much data.
    Polling(Pin<Box<Sleep>>),
    /// The kernel was asked to wake us with the next record; one more look is needed, because a
    /// record may have come before it knew.
    Announced,
    /// The kernel wakes us with the next record.
    Waiting,
    /// Stopped at that time; calls in progress may still deliver.
    Draining {
        /// None after a look that found something.
        timer: Option<Pin<Box<Sleep>>>,
        since: Instant,
    },
    /// They may no longer; what runs in the kernel just now gets the time to come to its end.
    Ending(Pin<Box<Sleep>>),
    /// The next look that finds nothing is the last one.
    Ended,
}

impl State {
    fn draining(since: Instant) -> Self {
        Self::Draining {
            timer: Some(pause(POLL_INTERVAL)),
            since,
        }
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Draining { .. } | Self::Ending(_) | Self::Ended)
    }
}

fn pause(length: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(length))
}

impl Drop for Events {
    fn drop(&mut self) {
        self.programs.stop();
        self.discoverer = None;
        self.packets = None;
        self.programs.end();
    }
}

impl Events {
    pub(crate) fn new(
        ring: RingBuf<MapData>,
        decoders: Decoders,
        programs: Arc<Programs>,
        discoverer: Option<Discoverer>,
        handle: CaptureHandle,
        excluded: Excluded,
        drain: Duration,
    ) -> Self {
        Self {
            ring: Ring::new(ring),
            decoders,
            discoverer,
            packets: None,
            programs,
            handle,
            excluded,
            origins: Origins::default(),
            secrets: KnownSecrets::default(),
            counted: CountedConnections::default(),
            drain,
            state: State::Looking,
            idle_since: None,
            found: 0,
            room: 0,
        }
    }

    /// With what is captured beside the functions.
    pub(crate) fn beside(mut self, packets: Option<Box<dyn Beside>>) -> Self {
        self.packets = packets;
        self
    }

    /// The next events, and the number of records that were read for them: records of a long event may complete
    /// none.
    fn next_batch(&mut self) -> (Vec<CapturedEvent>, usize) {
        let mut batch = Vec::with_capacity(self.room);
        let (mut records, mut bytes) = (0, 0);
        let Some(ring) = self.ring.get_mut() else {
            return (batch, 0);
        };
        let mut looked_at = 0;
        let tally = self.handle.tally();
        while batch.len() < BATCH_EVENTS && bytes < BATCH_BYTES {
            let Some(record) = ring.next() else { break };
            looked_at += 1;
            let Decoded {
                event,
                payload,
                beyond,
            } = match self.decoders.decode(&record) {
                Ok(decoded) => decoded,
                Err(error) => {
                    tally.count_undecodable();
                    tracing::debug!(%error, "record skipped");
                    continue;
                }
            };
            if let Some(payload) = payload {
                records += 1;
                bytes += usize::try_from(payload).unwrap_or(usize::MAX);
            }
            tally.count_beyond(beyond);
            let Some(mut event) = event else { continue };
            if let CapturedEvent::Observed(observed) = &event
                && !is_news(observed, tally, &mut self.excluded, &mut self.secrets)
            {
                continue;
            }
            if is_excluded(&event, &mut self.excluded) {
                tally.count_excluded(event.payload_bytes());
                continue;
            }
            if let CapturedEvent::Close {
                close: Close::Process { pid },
                ..
            } = &event
            {
                self.excluded.forget(*pid);
                tally.facts().forget(*pid);
            }
            let is_first = self.origins.complete(&mut event, tally);
            if let CapturedEvent::Data(data) = &event
                && is_first
            {
                tally.facts().first_event(data);
                batch.extend(known_facts(tally, &mut self.excluded));
            }
            self.counted.note(&event, tally);
            batch.push(event);
        }
        if records != 0 {
            tally.count_read(records, bytes as u64);
        }
        self.room = batch.len();
        (batch, looked_at)
    }

    /// Ready when a look at the ring is due, pending when something will wake the task.
    fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.handle.is_stopped() && !self.state.is_last() {
            self.state = State::draining(Instant::now());
        }
        self.state = match &mut self.state {
            State::Looking | State::Announced | State::Ended => return Poll::Ready(()),
            State::Polling(timer) => {
                if self.ring.poll_readable(context).is_pending() {
                    ready!(timer.as_mut().poll(context));
                }
                State::Looking
            }
            State::Waiting => {
                ready!(self.ring.poll_readable(context));
                State::Looking
            }
            State::Draining { timer, since } => {
                if let Some(timer) = timer {
                    ready!(timer.as_mut().poll(context));
                }
                let since = *since;
                if self.is_drained(since.elapsed()) {
                    self.end();
                    State::Ending(pause(RETURNING))
                } else {
                    State::draining(since)
                }
            }
            State::Ending(timer) => {
                ready!(timer.as_mut().poll(context));
                State::Ended
            }
        };
        Poll::Ready(())
    }

    /// Returns true if there is nothing left to wait for, `elapsed` after the stop.
    fn is_drained(&self, elapsed: Duration) -> bool {
        let writes = || {
            self.handle
                .counters()
                .map_or(0, |counters| counters.writes_in_progress)
        };
        elapsed >= RETURNING && (elapsed >= self.drain || writes() == 0)
    }

    fn end(&self) {
        if let Err(error) = self.handle.end() {
            tracing::warn!(%error, "calls that return from now on are captured in part");
        }
    }

    fn found(&mut self, records: usize) {
        self.found += records;
        self.idle_since = None;
        if let State::Draining { timer, .. } = &mut self.state {
            *timer = None;
        } else if !self.state.is_last() {
            self.state = State::Looking;
        }
    }

    /// Decides what the next look waits for, after one that found nothing.
    fn found_nothing(&mut self) {
        let now = Instant::now();
        let idle_since = *self.idle_since.get_or_insert(now);
        self.state = if matches!(self.state, State::Announced) {
            State::Waiting
        } else if now.duration_since(idle_since) >= IDLE_AFTER && self.handle.reader_waits().is_ok() {
            State::Announced
        } else {
            let interval = if self.found >= BUSY_RECORDS {
                BUSY_POLL_INTERVAL
            } else {
                POLL_INTERVAL
            };
            self.found = 0;
            State::Polling(Box::pin(tokio::time::sleep_until(now + interval)))
        };
    }
}

impl Stream for Events {
    type Item = Vec<CapturedEvent>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.handle.register_reader(context.waker());
        this.handle.tally().facts().register_reader(context.waker());
        let facts = known_facts(this.handle.tally(), &mut this.excluded);
        if !facts.is_empty() {
            return Poll::Ready(Some(facts));
        }
        if let Some(packets) = &mut this.packets
            && !matches!(this.state, State::Ended)
            && let Poll::Ready(batch) = packets.poll_next(context)
        {
            this.handle.tally().set_packets(packets.figures());
            return Poll::Ready(Some(batch));
        }
        loop {
            ready!(this.poll_due(context));
            let (batch, records) = this.next_batch();
            if records != 0 {
                this.found(records);
            }
            if !batch.is_empty() {
                if let Some(packets) = &mut this.packets {
                    packets.note(&batch);
                }
                return Poll::Ready(Some(batch));
            }
            if records != 0 {
                continue;
            }
            if matches!(this.state, State::Ended) {
                // What it finds last is counted before the figures are read.
                this.discoverer = None;
                let mut last = known_facts(this.handle.tally(), &mut this.excluded);
                let mut unfinished = this.decoders.finish();
                unfinished.retain(|event| !is_excluded(event, &mut this.excluded));
                last.append(&mut unfinished);
                if !last.is_empty() {
                    return Poll::Ready(Some(last));
                }
                let rest = this.packets.as_mut().and_then(|packets| packets.finish());
                if let Some(packets) = &this.packets {
                    this.handle.tally().set_packets(packets.figures());
                }
                return Poll::Ready(rest);
            }
            if !this.state.is_last() {
                this.found_nothing();
            }
        }
    }
}

/// Returns true for a fact that is to be passed on: a secret that is not known yet.
fn is_news(observed: &Observed, tally: &Tally, excluded: &mut Excluded, known: &mut KnownSecrets) -> bool {
    let Fact::Secret(secret) = &observed.fact else {
        return true;
    };
    if excluded.has(observed.process.pid) {
        return false;
    }
    let news = known.note(secret);
    tally.count_secret(news);
    news != News::None
}

/// The facts learned about processes since the last call, without those that are not captured.
fn known_facts(tally: &Tally, excluded: &mut Excluded) -> Vec<CapturedEvent> {
    let mut facts = tally.facts().take();
    facts.retain(|event| !is_excluded(event, excluded));
    facts
}

/// Returns true if the process of an event is not captured.
fn is_excluded(event: &CapturedEvent, excluded: &mut Excluded) -> bool {
    match event {
        CapturedEvent::Data(data) => excluded.has(data.process.pid),
        CapturedEvent::Observed(observed) => excluded.has(observed.process.pid),
        CapturedEvent::Close { .. } => false,
    }
}

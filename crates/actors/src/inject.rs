//! Fault injection: wrappers around the ends of a pipeline that make it fail on purpose.
//!
//! Each takes what it wraps and can be combined with the others. What they drop or break is in
//! the ledger like any other loss, so a run under injection must balance as well.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ecapture_protocols::message::Gap;
use ecapture_protocols::{CapturedEvent, Origin, Output, PeerNotice, StreamDecoder};
use futures_util::Stream;
use tokio::time::Sleep;

use crate::{DecoderFactory, Ledger, Loss, Resumption, SinkWriter, Unwritten};

/// `worker-panic:every=N`: the decoder that is fed every `every`th event of the run panics.
///
/// Which event that is depends on the order in which Workers run: with one Worker Arbiter a
/// replay is the same on every run.
pub fn worker_panic(decoders: DecoderFactory, every: u64) -> DecoderFactory {
    let fed = Arc::new(AtomicU64::new(0));
    Arc::new(move |origin, view| {
        Box::new(Panicking {
            decoder: decoders(origin, view),
            fed: Arc::clone(&fed),
            every: every.max(1),
        })
    })
}

struct Panicking {
    decoder: Box<dyn StreamDecoder>,
    fed: Arc<AtomicU64>,
    every: u64,
}

impl StreamDecoder for Panicking {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        let number = self.fed.fetch_add(1, Relaxed) + 1;
        assert!(
            !number.is_multiple_of(self.every),
            "injected failure at event {number}"
        );
        self.decoder.feed(payload, timestamp_ns, output);
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        self.decoder.gap(gap, timestamp_ns, output);
    }

    fn notice(&mut self, notice: &PeerNotice, output: &mut Output) {
        self.decoder.notice(notice, output);
    }

    fn awaits_notice(&self) -> bool {
        self.decoder.awaits_notice()
    }

    fn awaits_end(&self) -> bool {
        self.decoder.awaits_end()
    }

    fn notice_overdue(&mut self, output: &mut Output) {
        self.decoder.notice_overdue(output);
    }

    fn has_more(&self) -> bool {
        self.decoder.has_more()
    }

    fn go_on(&mut self, output: &mut Output) {
        self.decoder.go_on(output);
    }

    fn idle(&mut self, output: &mut Output) {
        self.decoder.idle(output);
    }

    fn close(&mut self, output: &mut Output) {
        self.decoder.close(output);
    }

    fn buffered_bytes(&self) -> usize {
        self.decoder.buffered_bytes()
    }
}

/// `sink-error:after=N`: every write fails after `after` bytes were written, until the target is
/// reopened; then it accepts `after` bytes again.
pub struct SinkError<W> {
    writer: W,
    after: u64,
    left: u64,
    writer_failed: bool,
}

impl<W> SinkError<W> {
    /// A writer that fails after `after` bytes.
    pub fn new(writer: W, after: u64) -> Self {
        Self {
            writer,
            after,
            left: after,
            writer_failed: false,
        }
    }
}

impl<W: SinkWriter> SinkError<W> {
    fn write_within(&mut self, write: impl FnOnce(&mut W, usize) -> io::Result<usize>) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("injected failure"));
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let written = write(&mut self.writer, room);
        self.writer_failed = written.is_err();
        self.left -= *written.as_ref().unwrap_or(&0) as u64;
        written
    }
}

impl<W: SinkWriter> SinkWriter for SinkError<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_within(|writer, room| writer.write(&bytes[..bytes.len().min(room)]))
    }

    fn write_records(&mut self, records: Unwritten<'_>) -> io::Result<usize> {
        self.write_within(|writer, room| writer.write_records(records.cut(room)))
    }

    fn renew(&mut self) {
        self.writer.renew();
    }

    fn tending_interval(&self) -> Option<Duration> {
        self.writer.tending_interval()
    }

    fn tend(&mut self) -> io::Result<()> {
        self.writer.tend()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        self.left = self.after;
        if self.writer_failed {
            return self.writer.reopen();
        }
        Ok(Resumption::SamePlace)
    }

    fn unacknowledged(&self) -> u64 {
        if self.writer_failed {
            self.writer.unacknowledged()
        } else {
            0
        }
    }
}

/// `slow-sink:MS`: every write blocks the Sink's Arbiter for a while first.
pub struct SlowSink<W> {
    writer: W,
    pause: Duration,
}

impl<W> SlowSink<W> {
    /// A writer that blocks for `pause` at every write. Not for [`Placement::Inline`](crate::Placement::Inline).
    pub fn new(writer: W, pause: Duration) -> Self {
        Self { writer, pause }
    }
}

impl<W: SinkWriter> SinkWriter for SlowSink<W> {
    #[expect(clippy::disallowed_methods, reason = "to block is its purpose")]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        std::thread::sleep(self.pause);
        self.writer.write(bytes)
    }

    #[expect(clippy::disallowed_methods, reason = "to block is its purpose")]
    fn write_records(&mut self, records: Unwritten<'_>) -> io::Result<usize> {
        std::thread::sleep(self.pause);
        self.writer.write_records(records)
    }

    fn renew(&mut self) {
        self.writer.renew();
    }

    fn tending_interval(&self) -> Option<Duration> {
        self.writer.tending_interval()
    }

    fn tend(&mut self) -> io::Result<()> {
        self.writer.tend()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        self.writer.reopen()
    }

    fn unacknowledged(&self) -> u64 {
        self.writer.unacknowledged()
    }
}

/// `reader-stall:MS`: the source is silent for a while before every batch.
pub struct ReaderStall<S> {
    source: S,
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<S> ReaderStall<S> {
    /// A source that waits `pause` before it hands over each batch.
    pub fn new(source: S, pause: Duration) -> Self {
        Self {
            source,
            pause,
            sleep: None,
        }
    }
}

impl<S> Stream for ReaderStall<S>
where
    S: Stream<Item = Vec<CapturedEvent>> + Unpin,
{
    type Item = Vec<CapturedEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let pause = self.pause;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        if sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.source).poll_next(context);
        if polled.is_ready() {
            self.sleep = None;
        }
        polled
    }
}

/// `drop-event:every=N`: every `every`th data event is lost before the reader sees it.
pub struct DropEvent<S> {
    source: S,
    every: u64,
    seen: u64,
    ledger: Arc<Ledger>,
}

impl<S> DropEvent<S> {
    /// A source that loses events and counts them in `ledger`, which has to be the pipeline's.
    pub fn new(source: S, every: u64, ledger: Arc<Ledger>) -> Self {
        Self {
            source,
            every: every.max(1),
            seen: 0,
            ledger,
        }
    }

    fn keeps(&mut self, event: &CapturedEvent) -> bool {
        let CapturedEvent::Data(data) = event else {
            return true;
        };
        self.seen += 1;
        let keeps = !self.seen.is_multiple_of(self.every);
        if !keeps {
            let bytes = data.payload.len() as u64;
            // A numbered stream's Worker misses the bytes, and reports whose they were.
            if data.stream_offset.is_some() {
                self.ledger.lose_before_reading(Loss::Injected, 1, bytes);
            } else {
                let origin = Origin::of(data, 0);
                self.ledger
                    .lose_before_reading_of(origin.name(), Loss::Injected, 1, bytes);
            }
        }
        keeps
    }
}

impl<S> Stream for DropEvent<S>
where
    S: Stream<Item = Vec<CapturedEvent>> + Unpin,
{
    type Item = Vec<CapturedEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.source).poll_next(context);
        polled.map(|batch| {
            batch.map(|mut events| {
                events.retain(|event| self.keeps(event));
                events
            })
        })
    }
}

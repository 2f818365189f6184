//! The ring buffer as a stream of batches.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use ecapture_protocols::CapturedEvent;
use futures_util::Stream;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};

use crate::container::Containers;
use crate::decode;
use crate::detach::Programs;
use crate::discovery::Discoverer;
use crate::handle::CaptureHandle;

/// Most events in one batch.
const BATCH_EVENTS: usize = 512;
/// A batch ends with the event that makes its payloads reach this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// How often the ring is looked at while records keep coming: a wake-up costs the captured
/// process more than a record does.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// After so long without a record the reader sleeps until the kernel wakes it.
const IDLE_AFTER: Duration = Duration::from_millis(20);

/// The events of a capture, in the order of the ring: per session and direction in the order of
/// the bytes. Ends after [`CaptureHandle::stop`], when everything captured was delivered.
///
/// Must be polled inside a tokio runtime with I/O and time enabled. Dropping it detaches the
/// probes.
pub struct Events {
    ring: Ring,
    // Ends before the programs do.
    _discoverer: Option<Discoverer>,
    _programs: Arc<Programs>,
    handle: CaptureHandle,
    containers: Containers,
    state: State,
}

/// The ring registers with the runtime when it is first polled.
enum Ring {
    Plain(Option<RingBuf<MapData>>),
    Registered(AsyncFd<RingBuf<MapData>>),
}

enum State {
    /// Looking at the ring on a timer since the last record.
    Polling {
        sleep: Option<Pin<Box<Sleep>>>,
        idle_since: Option<Instant>,
    },
    /// The kernel wakes us with the next record.
    Waiting,
    /// Stopped; one more look is due after calls in progress have delivered.
    Draining(Pin<Box<Sleep>>),
    Ended,
}

impl Events {
    pub(crate) fn new(
        ring: RingBuf<MapData>,
        programs: Arc<Programs>,
        discoverer: Option<Discoverer>,
        handle: CaptureHandle,
    ) -> Self {
        Self {
            ring: Ring::Plain(Some(ring)),
            _discoverer: discoverer,
            _programs: programs,
            handle,
            containers: Containers::default(),
            state: State::Polling {
                sleep: None,
                idle_since: None,
            },
        }
    }

    fn next_batch(&mut self) -> Vec<CapturedEvent> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let Some(ring) = self.ring.get_mut() else {
            return batch;
        };
        while batch.len() < BATCH_EVENTS && bytes < BATCH_BYTES {
            let Some(record) = ring.next() else { break };
            match decode::event(&record) {
                Ok(mut event) => {
                    self.containers.complete(&mut event, &self.handle);
                    if let CapturedEvent::Data(data) = &event {
                        bytes += data.payload.len();
                    }
                    batch.push(event);
                }
                Err(error) => {
                    self.handle.count_undecodable();
                    tracing::debug!(%error, "record skipped");
                }
            }
        }
        batch
    }

    /// Ready when the ring may have records, pending when something will wake the task.
    fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.handle.is_stopping() && !matches!(self.state, State::Draining(_)) {
            self.state = State::Draining(Box::pin(tokio::time::sleep(POLL_INTERVAL)));
        }
        match &mut self.state {
            State::Polling { sleep, idle_since } => {
                let now = Instant::now();
                let since = *idle_since.get_or_insert(now);
                if now.duration_since(since) >= IDLE_AFTER && self.handle.reader_waits().is_ok() {
                    // A record may have come before the kernel knew: look once more.
                    self.state = State::Waiting;
                    return Poll::Ready(());
                }
                let timer =
                    sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(now + POLL_INTERVAL)));
                std::task::ready!(timer.as_mut().poll(context));
                *sleep = None;
                Poll::Ready(())
            }
            State::Waiting => {
                std::task::ready!(self.ring.poll_readable(context));
                self.state = State::Polling {
                    sleep: None,
                    idle_since: None,
                };
                Poll::Ready(())
            }
            State::Draining(sleep) => {
                std::task::ready!(sleep.as_mut().poll(context));
                self.state = State::Ended;
                Poll::Ready(())
            }
            State::Ended => Poll::Ready(()),
        }
    }
}

impl Stream for Events {
    type Item = Vec<CapturedEvent>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.handle.register_reader(context.waker());
        loop {
            let batch = this.next_batch();
            if !batch.is_empty() {
                if let State::Polling { idle_since, .. } = &mut this.state {
                    *idle_since = None;
                }
                return Poll::Ready(Some(batch));
            }
            if matches!(this.state, State::Ended) {
                return Poll::Ready(None);
            }
            std::task::ready!(this.poll_wait(context));
        }
    }
}

impl Ring {
    fn get_mut(&mut self) -> Option<&mut RingBuf<MapData>> {
        match self {
            Self::Plain(ring) => ring.as_mut(),
            Self::Registered(ring) => Some(ring.get_mut()),
        }
    }

    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Self::Plain(ring) = self
            && let Some(ring) = ring.take()
        {
            *self = register(ring);
        }
        match self {
            Self::Plain(_) => Poll::Ready(()),
            Self::Registered(ring) => match std::task::ready!(ring.poll_read_ready(context)) {
                Ok(mut guard) => {
                    guard.clear_ready();
                    Poll::Ready(())
                }
                Err(_) => Poll::Ready(()),
            },
        }
    }
}

/// Without a registration the ring is polled on the timer only.
fn register(ring: RingBuf<MapData>) -> Ring {
    // SAFETY: the ring owns its descriptor and never closes or replaces it while it lives.
    #[expect(unsafe_code, reason = "tokio asks for this promise about the descriptor")]
    let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    match registered {
        Ok(ring) => Ring::Registered(ring),
        Err(error) => {
            let (ring, error) = error.into_parts();
            tracing::warn!(%error, "the ring buffer is polled only");
            Ring::Plain(Some(ring))
        }
    }
}

//! A ring buffer that wakes the task that reads it.

use std::task::{Context, Poll, ready};

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The ring registers with the runtime when it is first polled.
pub(crate) enum Ring {
    Plain(Option<RingBuf<MapData>>),
    Registered(AsyncFd<RingBuf<MapData>>),
}

impl Ring {
    pub(crate) const fn new(ring: RingBuf<MapData>) -> Self {
        Self::Plain(Some(ring))
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut RingBuf<MapData>> {
        match self {
            Self::Plain(ring) => ring.as_mut(),
            Self::Registered(ring) => Some(ring.get_mut()),
        }
    }

    /// Ready when the kernel has asked for the reader.
    pub(crate) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Self::Plain(ring) = self
            && let Some(ring) = ring.take()
        {
            *self = register(ring);
        }
        match self {
            Self::Plain(_) => Poll::Ready(()),
            Self::Registered(ring) => match ready!(ring.poll_read_ready(context)) {
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

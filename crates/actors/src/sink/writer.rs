//! The output's target, as the Sink sees it.

use std::io;

/// Takes formatted bytes. Called on the Sink's own Arbiter, where it may block.
pub trait SinkWriter: Send {
    /// Writes some of `bytes` and returns how many, as [`io::Write::write`] does.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Makes everything written so far visible to the reader of the output.
    fn flush(&mut self) -> io::Result<()>;

    /// After an error: makes the target ready again, by connecting or opening anew. Says how a
    /// record that was half written goes on, so that no other is ever joined to the half.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] when the target cannot be had again; then the Sink gives
    /// up. Any other error makes it try later.
    fn reopen(&mut self) -> io::Result<Resumption> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Bytes it took that its target has not confirmed. Asked after an error: they may be lost,
    /// although they count as written.
    fn unacknowledged(&self) -> u64 {
        0
    }
}

impl<W: SinkWriter + ?Sized> SinkWriter for Box<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (**self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        (**self).reopen()
    }

    fn unacknowledged(&self) -> u64 {
        (**self).unacknowledged()
    }
}

/// How output goes on in a target that was opened anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    /// Behind what was written before: with the rest of a half-written record.
    SamePlace,
    /// At a beginning of its own: a half-written record is written again from its start.
    NewPlace,
}

/// What the Sink does when its target fails. A record that was half written is never dropped
/// while the target may come back: it is completed, or written again, before any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SinkPolicy {
    /// End the run.
    #[default]
    Stop,
    /// Re-open the target with growing pauses and count the output of that time as lost.
    Drop,
    /// Re-open the target with growing pauses and keep the output of that time within a bound.
    Retry,
}

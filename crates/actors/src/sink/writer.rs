//! The output's target, as the Sink sees it.

use std::io;

/// Takes formatted bytes. Called on the Sink's own Arbiter, where it may block.
pub trait SinkWriter: Send {
    /// Writes some of `bytes` and returns how many, as [`io::Write::write`] does.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Makes everything written so far visible to the reader of the output.
    fn flush(&mut self) -> io::Result<()>;

    /// After an error: makes the target ready again, by connecting or opening anew. Output
    /// continues at the first record that was not written as a whole.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] when the target cannot be had again; then the Sink gives
    /// up. Any other error makes it try later.
    fn reopen(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl<W: SinkWriter + ?Sized> SinkWriter for Box<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (**self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }

    fn reopen(&mut self) -> io::Result<()> {
        (**self).reopen()
    }
}

/// What the Sink does when its target fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SinkPolicy {
    /// End the run.
    #[default]
    Stop,
    /// Count the output as lost and try again with the next.
    Drop,
    /// Keep the output within a bound, re-open the target with growing pauses.
    Retry,
}

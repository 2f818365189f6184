//! The output's target, as the Sink sees it.

use std::io;
use std::time::Duration;

use super::unwritten::Unwritten;
use crate::loss::Loss;

/// Takes records. Called on the Sink's own Arbiter, where it may block.
pub trait Target: Send {
    /// Takes some of `records`, from the first on: whole records, unless it can continue within a record.
    /// Those that it does not take come again with the next call.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from taking any. Nothing of what was offered in this call counts as taken.
    /// [`io::ErrorKind::WouldBlock`] is no failure: the target is at work on the first of `records`, which
    /// come again in the same order in a moment.
    fn write(&mut self, records: Unwritten<'_>) -> io::Result<Taken>;

    /// Makes everything written so far visible to the reader of the output.
    fn flush(&mut self) -> io::Result<()>;

    /// How long records may be collected before they are written; `None` for no longer than others wait to be
    /// handled.
    fn collecting_interval(&self) -> Option<Duration> {
        None
    }

    /// The last records come within the next calls, and there is so much time for them: from now on
    /// [`Self::write`] waits for its result instead of [`io::ErrorKind::WouldBlock`].
    fn conclude(&mut self, _within: Duration) {}

    /// After an error: makes the target ready again, by connecting or opening it again. Says how a
    /// half-written record is completed, so that no other record is ever joined to the half.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] when the target cannot be had again; then the Sink gives
    /// up. Any other error makes it try later.
    fn reopen(&mut self) -> io::Result<Resumption> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Begins again in the same place, on request ([`Renewal`](crate::Renewal)): a file is opened again by
    /// its path, which may lead to another file by now. Called between two records, while the target
    /// is open. A target that cannot begin again continues as before, and logs why.
    fn renew(&mut self) {}

    /// How often it wants [`Self::tend`] to be called; `None` for never.
    fn tending_interval(&self) -> Option<Duration> {
        None
    }

    /// Does what is due while nothing is written, such as to answer the other side. Called between two
    /// records, while the target is open.
    ///
    /// # Errors
    ///
    /// Those of [`Self::write`].
    fn tend(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Bytes it took that its target has not confirmed. Asked after an error: they may be lost,
    /// although they count as written.
    fn unacknowledged(&self) -> u64 {
        0
    }

    /// No record follows: gives its readers a moment to read what it took. Returns the bytes that they
    /// did not read, which count as written.
    fn finish(&mut self) -> u64 {
        0
    }
}

/// The result of offering records to a [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    bytes: usize,
    loss: Option<Loss>,
}

impl Taken {
    /// It wrote this many bytes, from the first record's on.
    pub const fn written(bytes: usize) -> Self {
        Self { bytes, loss: None }
    }

    /// It took this many bytes of whole records, and somebody who was to get them did not.
    pub const fn lost(bytes: usize, loss: Loss) -> Self {
        Self {
            bytes,
            loss: Some(loss),
        }
    }

    /// Bytes of records that are done with.
    pub const fn bytes(self) -> usize {
        self.bytes
    }

    /// Why they are lost, if they are.
    pub const fn loss(self) -> Option<Loss> {
        self.loss
    }
}

/// A [`Target`] that takes bytes and has no notion of records: a file, a pipe, a connection.
#[derive(Debug)]
pub struct ByteStream<W>(pub W);

impl<W: SinkWriter> Target for ByteStream<W> {
    fn write(&mut self, records: Unwritten<'_>) -> io::Result<Taken> {
        self.0.write_records(records).map(Taken::written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        self.0.reopen()
    }

    fn renew(&mut self) {
        self.0.renew();
    }

    fn tending_interval(&self) -> Option<Duration> {
        self.0.tending_interval()
    }

    fn tend(&mut self) -> io::Result<()> {
        self.0.tend()
    }

    fn unacknowledged(&self) -> u64 {
        self.0.unacknowledged()
    }
}

/// Takes bytes. Called on the Sink's own Arbiter, where it may block.
pub trait SinkWriter: Send {
    /// Writes some of `bytes` and returns how many, as [`io::Write::write`] does.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Like [`Self::write`], for a writer to which it matters where records end.
    fn write_records(&mut self, records: Unwritten<'_>) -> io::Result<usize> {
        self.write(records.bytes())
    }

    /// Like [`Target::flush`].
    fn flush(&mut self) -> io::Result<()>;

    /// Like [`Target::reopen`].
    ///
    /// # Errors
    ///
    /// Those of [`Target::reopen`].
    fn reopen(&mut self) -> io::Result<Resumption> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Like [`Target::renew`].
    fn renew(&mut self) {}

    /// Like [`Target::tending_interval`].
    fn tending_interval(&self) -> Option<Duration> {
        None
    }

    /// Like [`Target::tend`].
    ///
    /// # Errors
    ///
    /// Those of [`Target::tend`].
    fn tend(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Like [`Target::unacknowledged`].
    fn unacknowledged(&self) -> u64 {
        0
    }
}

impl<W: SinkWriter + ?Sized> SinkWriter for Box<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (**self).write(bytes)
    }

    fn write_records(&mut self, records: Unwritten<'_>) -> io::Result<usize> {
        (**self).write_records(records)
    }

    fn renew(&mut self) {
        (**self).renew();
    }

    fn tending_interval(&self) -> Option<Duration> {
        (**self).tending_interval()
    }

    fn tend(&mut self) -> io::Result<()> {
        (**self).tend()
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

/// How output continues in a target that was reopened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    /// Behind what was written before: with the rest of a half-written record.
    SamePlace,
    /// At a beginning of its own: a half-written record is written again from its start.
    NewPlace,
}

/// The Sink's policy on failures of its target. A record that was half written is never dropped
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

//! Targets as the log uses them: line by line.

use std::io::{self, Write};
use std::time::Duration;

use ecapture_actors::SinkWriter;

/// Takes log lines.
pub(crate) trait LogTarget: Send {
    /// Takes a line with its end, all of it.
    fn write_line(&mut self, line: &[u8]) -> io::Result<()>;

    /// Makes it ready again after an error.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Begins again in the same place, as [`ecapture_actors::Target::renew`].
    fn renew(&mut self) {}

    /// How often it wants [`Self::tend`] to be called while there are no lines; `None` for never.
    fn tending_interval(&self) -> Option<Duration> {
        None
    }

    /// Does what is due in the meantime.
    fn tend(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One that takes bytes, and is never opened again.
pub(crate) struct Plain<W>(pub(crate) W);

impl<W: Write + Send> LogTarget for Plain<W> {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.0.write_all(line)?;
        self.0.flush()
    }
}

/// The target of an output that takes bytes.
pub(super) struct Bytes<W>(pub(super) W);

impl<W: SinkWriter> LogTarget for Bytes<W> {
    fn write_line(&mut self, mut line: &[u8]) -> io::Result<()> {
        while !line.is_empty() {
            match self.0.write(line) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => line = &line[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.0.flush()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.0.reopen().map(|_| ())
    }

    fn renew(&mut self) {
        self.0.renew();
    }
}

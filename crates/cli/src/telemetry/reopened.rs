//! Log targets that fail are opened again.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::outputs::LogTarget;

/// A target that failed is not opened again before so long.
const RETRY: Duration = Duration::from_secs(1);

/// Opens its target again when it has failed: for the next line, but not too often.
pub(super) struct Reopened {
    target: Box<dyn LogTarget>,
    failed_at: Option<Instant>,
}

impl Reopened {
    pub(super) fn new(target: Box<dyn LogTarget>) -> Self {
        Self {
            target,
            failed_at: None,
        }
    }

    fn try_to(&mut self, action: impl FnOnce(&mut dyn LogTarget) -> io::Result<()>) -> io::Result<()> {
        let done = action(&mut *self.target);
        self.failed_at = done.is_err().then(Instant::now);
        done
    }
}

impl LogTarget for Reopened {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        match self.failed_at {
            Some(failed_at) if failed_at.elapsed() < RETRY => {
                return Err(io::ErrorKind::NotConnected.into());
            }
            Some(_) => {}
            None => {
                if self.try_to(|target| target.write_line(line)).is_ok() {
                    return Ok(());
                }
                // A collector that was started again has closed the connection before.
            }
        }
        self.try_to(|target| target.reopen())?;
        self.try_to(|target| target.write_line(line))
    }

    fn renew(&mut self) {
        self.target.renew();
    }

    fn tending_interval(&self) -> Option<Duration> {
        self.target.tending_interval()
    }

    fn tend(&mut self) -> io::Result<()> {
        if self.failed_at.is_some() {
            return Ok(());
        }
        self.try_to(|target| target.tend())
    }
}

//! Standard output.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use ecapture_actors::{Resumption, SinkWriter};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Written to directly: what a buffer of its own took would count as written before it is.
pub(super) struct StandardOutput {
    file: File,
    reader_gone: bool,
}

impl StandardOutput {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            file: io::stdout().as_fd().try_clone_to_owned()?.into(),
            reader_gone: false,
        })
    }

    /// Another program at the same terminal or pipe may have made it one that does not wait.
    fn write_when_ready(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut ready = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut ready, PollTimeout::NONE)?;
                }
                written => return written,
            }
        }
    }
}

impl SinkWriter for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.write_when_ready(bytes);
        self.reader_gone = matches!(&written, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// A full disk may have room again; a pipe's reader does not come back.
    fn reopen(&mut self) -> io::Result<Resumption> {
        if self.reader_gone {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Resumption::SamePlace)
    }
}

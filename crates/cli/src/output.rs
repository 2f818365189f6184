//! Where formatted events go.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ecapture_actors::SinkWriter;

use crate::settings::Target;

/// A collector that takes longer than this to answer or to take data counts as failed.
const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the target of the events.
pub(crate) fn open(target: &Target) -> Result<Box<dyn SinkWriter>> {
    Ok(match target {
        Target::StandardOutput => Box::new(StandardOutput::open().context("standard output is closed")?),
        Target::File(path) => {
            let file = open_file(path).with_context(|| {
                format!(
                    "--eventaddr: cannot write {}; give a path in an existing folder you may write to",
                    path.display()
                )
            })?;
            Box::new(FileOutput {
                path: path.clone(),
                file,
            })
        }
        Target::Tcp(address) => {
            let stream = connect(address).with_context(|| {
                format!("--eventaddr: nobody listens on {address}; start the collector first")
            })?;
            Box::new(TcpOutput {
                address: address.clone(),
                stream,
            })
        }
    })
}

fn open_file(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn connect(address: &str) -> io::Result<TcpStream> {
    use std::net::ToSocketAddrs as _;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, COLLECTOR_TIMEOUT) {
            Ok(stream) => {
                stream.set_write_timeout(Some(COLLECTOR_TIMEOUT))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Written to directly: what a buffer of its own took would count as written before it is.
struct StandardOutput {
    file: File,
    reader_gone: bool,
}

impl StandardOutput {
    fn open() -> io::Result<Self> {
        Ok(Self {
            file: io::stdout().as_fd().try_clone_to_owned()?.into(),
            reader_gone: false,
        })
    }
}

impl SinkWriter for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        self.reader_gone = matches!(&written, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// A full disk may have room again; a pipe's reader does not come back.
    fn reopen(&mut self) -> io::Result<()> {
        if self.reader_gone {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(())
    }
}

struct FileOutput {
    path: PathBuf,
    file: File,
}

impl FileOutput {
    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}

impl SinkWriter for FileOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| self.named(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.named(&error))
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = open_file(&self.path).map_err(|error| self.named(&error))?;
        Ok(())
    }
}

struct TcpOutput {
    address: String,
    stream: TcpStream,
}

impl TcpOutput {
    /// The collector's end is not the end of a pipe: a closed connection is a failure here.
    fn named(&self, error: &io::Error) -> io::Error {
        let kind = match error.kind() {
            io::ErrorKind::BrokenPipe => io::ErrorKind::ConnectionReset,
            kind => kind,
        };
        io::Error::new(kind, format!("collector {}: {error}", self.address))
    }
}

impl TcpOutput {
    /// Notices a collector that has closed the connection: the kernel would take one more write and
    /// drop it. What a collector says is passed over.
    fn check(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(true)?;
        let heard = self.stream.read(&mut [0; 512]);
        self.stream.set_nonblocking(false)?;
        match heard {
            Ok(0) => Err(io::ErrorKind::ConnectionReset.into()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl SinkWriter for TcpOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check().map_err(|error| self.named(&error))?;
        self.stream.write(bytes).map_err(|error| self.named(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().map_err(|error| self.named(&error))
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.stream = connect(&self.address).map_err(|error| self.named(&error))?;
        Ok(())
    }
}

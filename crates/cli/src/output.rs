//! Where formatted events go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ecapture_actors::{ByteStream, Resumption, SinkWriter};
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::ecaptureq::Feed;
use crate::private_file::{self, Replacement};
use crate::settings::{OutputTarget, Target};

/// A collector that takes longer than this to answer or to take data counts as failed.
const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(5);

/// An open target.
pub(crate) enum OpenTarget {
    /// It takes a stream of bytes.
    Bytes(Box<dyn SinkWriter>),
    /// It takes records.
    Records(Box<dyn ecapture_actors::Target>),
}

impl From<OpenTarget> for Box<dyn ecapture_actors::Target> {
    fn from(target: OpenTarget) -> Self {
        match target {
            OpenTarget::Bytes(writer) => Box::new(ByteStream(writer)),
            OpenTarget::Records(target) => target,
        }
    }
}

/// Opens the target of an output.
pub(crate) fn open(output: &OutputTarget) -> Result<OpenTarget> {
    let flag = output.flag;
    let writer: Box<dyn SinkWriter> = match &output.target {
        Target::StandardOutput => Box::new(StandardOutput::open().context("standard output is closed")?),
        Target::File(path) => {
            let file = FileOutput::open(path, output.is_replaced()).with_context(|| {
                format!(
                    "{flag}: cannot write {}; give a path in an existing directory that you may write to",
                    path.display()
                )
            })?;
            Box::new(file)
        }
        Target::Tcp(address) => {
            let stream = connect(address).with_context(|| {
                format!("{flag}: nothing listens on {address}; start the collector first")
            })?;
            Box::new(TcpOutput {
                address: address.clone(),
                stream,
            })
        }
        Target::Ecaptureq(address) => {
            let feed = Feed::start(address).with_context(|| {
                format!("{flag}: cannot listen on {address}; give an address of this host and a free port")
            })?;
            return Ok(OpenTarget::Records(Box::new(feed)));
        }
    };
    Ok(OpenTarget::Bytes(writer))
}

/// Returns true if the target is this very file.
pub(crate) fn is_same_file(target: &Target, file: &fs::Metadata) -> bool {
    let Target::File(path) = target else {
        return false;
    };
    fs::metadata(path)
        .is_ok_and(|target| target.is_file() && (target.dev(), target.ino()) == (file.dev(), file.ino()))
}

/// As [`private_file::append`], but a named pipe without a reader is an error instead of a long wait.
fn open_file_again(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        let mut without_waiting = OpenOptions::new();
        without_waiting.write(true).custom_flags(O_NONBLOCK);
        // Held while the pipe is opened once more, for writes that wait.
        let _reader_is_there = without_waiting.open(path)?;
        return private_file::append(path);
    }
    private_file::append(path)
}

/// True when a run before this one could not complete its last line. Of what is no regular file, or may
/// not be read, nothing is known.
fn ends_within_a_line(path: &Path) -> bool {
    let last_byte = || -> io::Result<u8> {
        let mut last = [0];
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    path.is_file() && last_byte().is_ok_and(|last| last != b'\n')
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

struct FileOutput {
    path: PathBuf,
    file: File,
    /// Empties the file with the first write.
    replacement: Option<Replacement>,
    /// Its length at the last failure.
    broke_at: u64,
    /// The next record is not the continuation of what the file ends with.
    within_a_line: bool,
}

impl FileOutput {
    /// Opens it to append to it, or to replace what is there.
    fn open(path: &Path, replaces: bool) -> io::Result<Self> {
        let replacement = replaces.then(|| Replacement::open(path)).transpose()?;
        Ok(Self {
            path: path.to_owned(),
            file: match &replacement {
                Some(replacement) => replacement.file()?,
                None => private_file::append(path)?,
            },
            within_a_line: replacement.is_none() && ends_within_a_line(path),
            replacement,
            broke_at: 0,
        })
    }

    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(replacement) = self.replacement.take() {
            self.file = replacement.begin()?;
        }
        if self.within_a_line {
            self.file.write_all(b"\n")?;
            self.within_a_line = false;
        }
        self.file.write(bytes)
    }

    /// True when `other` is the same file and nobody has cut it since the failure. What is no regular
    /// file, such as a named pipe, has another reader by now.
    fn is_continued_by(&self, other: &File) -> io::Result<bool> {
        let (own, other) = (self.file.metadata()?, other.metadata()?);
        let place = |file: &fs::Metadata| (file.dev(), file.ino());
        Ok(own.is_file() && place(&own) == place(&other) && other.len() >= self.broke_at)
    }
}

impl SinkWriter for FileOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes).map_err(|error| {
            self.broke_at = self.file.metadata().map_or(0, |file| file.len());
            self.named(&error)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.named(&error))
    }

    /// The path may lead to another file by now, or the file may have been emptied to make room.
    fn reopen(&mut self) -> io::Result<Resumption> {
        let file = open_file_again(&self.path).map_err(|error| self.named(&error))?;
        let is_same = self.is_continued_by(&file)?;
        self.file = file;
        if is_same {
            return Ok(Resumption::SamePlace);
        }
        self.within_a_line = ends_within_a_line(&self.path);
        Ok(Resumption::NewPlace)
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
        self.check().map_err(|error| self.named(&error))
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        self.stream = connect(&self.address).map_err(|error| self.named(&error))?;
        Ok(Resumption::NewPlace)
    }

    fn unacknowledged(&self) -> u64 {
        ecapture_probe::socket::unacknowledged(self.stream.as_fd()).unwrap_or(0)
    }
}

//! A collector that takes bytes over a connection: TCP, or a Unix socket.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ecapture_actors::{Resumption, SinkWriter};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};

use crate::private_file;

/// A collector that takes longer than this to answer or to take data counts as failed.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to `host:port`, trying each of its addresses.
pub(super) fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, TIMEOUT) {
            Ok(stream) => {
                stream.set_write_timeout(Some(TIMEOUT))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    private_file::check_socket(path)?;
    // While its queue of connections is full, a listener would be waited for without a limit.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl Address {
    fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => connect_tcp(address).map(Stream::Tcp),
            Self::Unix(path) => connect_unix(path).map(|stream| Stream::Unix {
                stream,
                written: 0,
                was_reset: false,
            }),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix {
        stream: UnixStream,
        written: u64,
        /// The other side ended with bytes that it had not read.
        was_reset: bool,
    },
}

/// An open connection to a collector, which can be made again.
pub(super) struct CollectorOutput {
    address: Address,
    stream: Stream,
}

impl CollectorOutput {
    /// Connects to `host:port`.
    pub(super) fn tcp(address: &str) -> io::Result<Self> {
        Self::connect(Address::Tcp(address.to_owned()))
    }

    /// Connects to a Unix socket.
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        Self::connect(Address::Unix(path.to_owned()))
    }

    fn connect(address: Address) -> io::Result<Self> {
        let stream = address.connect()?;
        Ok(Self { address, stream })
    }

    /// Notices a collector that has closed the connection: the kernel would take one more write and
    /// drop it. What a collector says is passed over.
    fn check(&mut self) -> io::Result<()> {
        let mut said = [0; 512];
        let heard = match &mut self.stream {
            Stream::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                let heard = stream.read(&mut said);
                stream.set_nonblocking(false)?;
                heard
            }
            Stream::Unix { stream, .. } => {
                stream.set_nonblocking(true)?;
                let heard = stream.read(&mut said);
                stream.set_nonblocking(false)?;
                heard
            }
        };
        match heard {
            Ok(0) => Err(io::ErrorKind::ConnectionReset.into()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(self.noted(error)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn noted(&mut self, error: io::Error) -> io::Error {
        if let Stream::Unix { was_reset, .. } = &mut self.stream {
            *was_reset |= error.kind() == io::ErrorKind::ConnectionReset;
        }
        error
    }

    /// The collector's end is not the end of a pipe: a closed connection is a failure here.
    fn named(&self, error: &io::Error) -> io::Error {
        let kind = match error.kind() {
            io::ErrorKind::BrokenPipe => io::ErrorKind::ConnectionReset,
            kind => kind,
        };
        let error = match &self.address {
            Address::Tcp(address) => format!("collector {address}: {error}"),
            Address::Unix(path) => format!("collector {}: {error}", path.display()),
        };
        io::Error::new(kind, error)
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix { stream, written, .. } => {
                let taken = stream.write(bytes)?;
                *written += taken as u64;
                Ok(taken)
            }
        }
        .map_err(|error| self.noted(error))
    }
}

impl SinkWriter for CollectorOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes).map_err(|error| self.named(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check().map_err(|error| self.named(&error))
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        self.stream = self.address.connect().map_err(|error| self.named(&error))?;
        Ok(Resumption::NewPlace)
    }

    /// A Unix socket forgets the unread bytes; there were no more than the socket holds.
    fn unacknowledged(&self) -> u64 {
        match &self.stream {
            Stream::Tcp(stream) => ecapture_probe::socket::unacknowledged(stream.as_fd()).unwrap_or(0),
            Stream::Unix { was_reset: false, .. } => 0,
            Stream::Unix { stream, written, .. } => {
                let room = getsockopt(stream, sockopt::SndBuf).unwrap_or(0);
                (*written).min(room as u64)
            }
        }
    }
}

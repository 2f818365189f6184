//! A TCP collector.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::Duration;

use ecapture_actors::{Resumption, SinkWriter};

/// A collector that takes longer than this to answer or to take data counts as failed.
const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct TcpOutput {
    address: String,
    stream: TcpStream,
}

impl TcpOutput {
    /// Connects to the collector at `address`, `host:port`.
    pub(super) fn open(address: String) -> io::Result<Self> {
        let stream = connect(&address)?;
        Ok(Self { address, stream })
    }

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

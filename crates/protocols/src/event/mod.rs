//! The vocabulary of captured events that probes, actors and formatters share.

mod observed;
mod origin;
mod packet;
mod secret;
mod shell;
mod sql;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

pub use observed::{Fact, Observed, ProcessTls};
pub use origin::{Origin, StreamOrigin};
pub use packet::{Interface, InterfaceFigures, Packet, PacketFact};
pub use secret::{CLIENT_RANDOM_BYTES, Secret, SecretLabel, SecretValue};
pub use shell::{CommandEnd, Login, Shell, ShellCommand};
pub use sql::{Missing, SqlError, SqlOutcome, SqlParameter, SqlQuery, SqlRequest, SqlServer};

use crate::text::printable;

/// Direction of captured bytes as the captured process sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The process received the bytes (`SSL_read`); data type 0 of the original.
    Read,
    /// The process sent the bytes (`SSL_write`); data type 1 of the original.
    Write,
}

impl Direction {
    /// Returns the original's data type number: 0 for read, 1 for write.
    pub const fn data_type(self) -> u8 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
        }
    }

    /// Returns the other direction of the same connection.
    pub const fn opposite(self) -> Self {
        match self {
            Self::Read => Self::Write,
            Self::Write => Self::Read,
        }
    }

    /// Returns `read` or `write`, as JSON Lines names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// A thread's name as the kernel keeps it (`task_struct.comm`): at most 15 bytes and a NUL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Comm([u8; 16]);

impl Comm {
    /// Makes a name of the kernel's 16 bytes; everything from the first NUL on is ignored.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes up to the first NUL.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// Returns the kernel's 16 bytes.
    pub const fn raw(&self) -> [u8; 16] {
        self.0
    }
}

impl Comm {
    /// Appends the name as displayed: trimmed, with bytes that are not UTF-8 replaced and
    /// characters that would steer a terminal escaped, because a thread chooses its own name.
    pub(crate) fn push_shown(self, out: &mut Vec<u8>) {
        let name = self.as_bytes();
        if name.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            out.extend_from_slice(name.trim_ascii());
        } else {
            out.extend_from_slice(printable(String::from_utf8_lossy(name).trim()).as_bytes());
        }
    }
}

impl From<&str> for Comm {
    fn from(name: &str) -> Self {
        let mut bytes = [0; 16];
        let kept = name.len().min(15);
        bytes[..kept].copy_from_slice(&name.as_bytes()[..kept]);
        Self(bytes)
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(String::from_utf8_lossy(self.as_bytes()).trim())
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// The thread that made the captured call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Process {
    /// Thread group id, which user space calls the process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Real user id, when the source of the event knows it.
    pub uid: Option<u32>,
    /// Thread name.
    pub comm: Comm,
}

/// How the addresses of a connection were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressSource {
    /// From the socket that the captured call itself used.
    Exact,
    /// From the socket that the thread most probably used (memory BIO).
    Heuristic,
}

impl AddressSource {
    /// Returns `exact` or `heuristic`, as JSON Lines names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Heuristic => "heuristic",
        }
    }
}

/// The two addresses of a connection: the one that opened it and the one that accepted it, if that
/// is known; otherwise local and remote. See [`Socket::local`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Shown as `Src`.
    pub source: SocketAddr,
    /// Shown as `Dest`.
    pub destination: SocketAddr,
}

impl fmt::Display for Tuple {
    /// Writes `a.b.c.d:p-a.b.c.d:p`, for IPv6 `[a]:p-[b]:p`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.source, self.destination)
    }
}

/// One end of a [`Tuple`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// [`Tuple::source`].
    Source,
    /// [`Tuple::destination`].
    Destination,
}

/// A kernel socket and its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Socket {
    /// Address of the kernel's `struct sock`: identifies the socket while it lives.
    pub sock: u64,
    /// Its addresses.
    pub tuple: Tuple,
    /// Which end is the captured process; `None` if a recording does not say.
    pub local: Option<Side>,
    /// How far the addresses can be trusted.
    pub address_source: AddressSource,
}

impl Socket {
    /// Returns sender and receiver of bytes that went in `direction`, if the local end is known.
    pub fn endpoints(&self, direction: Direction) -> Option<(SocketAddr, SocketAddr)> {
        let Tuple { source, destination } = self.tuple;
        match (self.local?, direction) {
            (Side::Source, Direction::Write) | (Side::Destination, Direction::Read) => {
                Some((source, destination))
            }
            (Side::Source, Direction::Read) | (Side::Destination, Direction::Write) => {
                Some((destination, source))
            }
        }
    }
}

/// A TLS protocol version as on the wire, such as 0x0304.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TlsVersion(pub u16);

impl fmt::Display for TlsVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0x0002 => formatter.write_str("SSL2_VERSION"),
            0x0300 => formatter.write_str("SSL3_VERSION"),
            0x0301 => formatter.write_str("TLS1_VERSION"),
            0x0302 => formatter.write_str("TLS1_1_VERSION"),
            0x0303 => formatter.write_str("TLS1_2_VERSION"),
            0x0304 => formatter.write_str("TLS1_3_VERSION"),
            0xFEFF => formatter.write_str("DTLS1_VERSION"),
            0xFEFD => formatter.write_str("DTLS1_2_VERSION"),
            other => write!(formatter, "TLS_VERSION_UNKNOWN_{other}"),
        }
    }
}

/// Why a connection's first bytes may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinedLate {
    /// The connection was open before the capture began.
    OpenBeforeCapture,
    /// It was opened during the capture, before the probes were attached to its library.
    BeforeProbes,
}

impl JoinedLate {
    /// Returns `open_before_capture` or `before_probes`, as JSON Lines and recordings name
    /// it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenBeforeCapture => "open_before_capture",
            Self::BeforeProbes => "before_probes",
        }
    }
}

/// Plaintext of one TLS library call, or of a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataEvent {
    /// Kernel monotonic time in nanoseconds: entry of a write, return of a read.
    pub timestamp_ns: u64,
    /// The thread that made the call.
    pub process: Process,
    /// The container that the process runs in, as its runtime names it. `None` when there is none or it is not
    /// known.
    pub container_id: Option<Arc<str>>,
    /// File name of the program that the process runs, when known.
    pub program: Option<Arc<str>>,
    /// Sent or received.
    pub direction: Direction,
    /// File descriptor of the connection, when known.
    pub fd: Option<u32>,
    /// Address of the library's session object (`SSL *`), unique within a process while the
    /// session lives. `None` in recordings of the original.
    pub session: Option<u64>,
    /// The kernel socket, when known.
    pub socket: Option<Socket>,
    /// Negotiated version, when known.
    pub tls_version: Option<TlsVersion>,
    /// Position of the payload's first byte in this direction of the session since the
    /// capture first saw it. A jump means that bytes in between were lost.
    pub stream_offset: Option<u64>,
    /// Set if the connection's first bytes may be missing, in all its events from the moment this
    /// is known.
    pub joined_late: Option<JoinedLate>,
    /// The plaintext.
    pub payload: Bytes,
}

/// A socket or session that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Close {
    /// The kernel socket with this `struct sock` address was closed.
    Socket {
        /// Address of the kernel's `struct sock`.
        sock: u64,
    },
    /// The library freed the session object (`SSL_free`).
    Session {
        /// Process that owned it.
        pid: u32,
        /// Address of the session object.
        session: u64,
    },
    /// The process ended, and with it everything it had open.
    Process {
        /// Thread group id.
        pid: u32,
    },
}

/// One event of a capture or of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all events are data, and a box would be an allocation for each"
)]
pub enum CapturedEvent {
    /// Plaintext.
    Data(DataEvent),
    /// An end of life.
    Close {
        /// Kernel monotonic time in nanoseconds.
        timestamp_ns: u64,
        /// The socket or session that ended.
        close: Close,
    },
    /// A fact about a process.
    Observed(Box<Observed>),
}

impl CapturedEvent {
    /// Kernel monotonic time in nanoseconds.
    pub const fn timestamp_ns(&self) -> u64 {
        match self {
            Self::Data(data) => data.timestamp_ns,
            Self::Close { timestamp_ns, .. } => *timestamp_ns,
            Self::Observed(observed) => observed.timestamp_ns,
        }
    }

    /// Returns the number of captured bytes in the event.
    pub const fn payload_bytes(&self) -> u64 {
        match self {
            Self::Data(data) => data.payload.len() as u64,
            Self::Close { .. } => 0,
            Self::Observed(observed) => observed.fact.payload_bytes(),
        }
    }
}

//! Records in the ring buffer, in the host's byte order.

use core::fmt;
use core::mem::offset_of;

/// [`DataHeader::kind`] of plaintext.
pub const KIND_DATA: u32 = 1;
/// [`CloseRecord::kind`]: a kernel socket closed; the object is its `struct sock`.
pub const KIND_CLOSE_SOCKET: u32 = 2;
/// [`CloseRecord::kind`]: a library session was freed; the object is its address.
pub const KIND_CLOSE_SESSION: u32 = 3;
/// [`CloseRecord::kind`]: a process ended.
pub const KIND_CLOSE_PROCESS: u32 = 4;
/// [`ShellHeader::kind`] of bash.
pub const KIND_BASH: u32 = 5;
/// [`ShellHeader::kind`] of zsh.
pub const KIND_ZSH: u32 = 6;

/// [`DataHeader::direction`]: the process received the bytes.
pub const DIRECTION_READ: u8 = 0;
/// [`DataHeader::direction`]: the process sent the bytes.
pub const DIRECTION_WRITE: u8 = 1;

/// [`DataHeader::role`]: who opened the connection is not known.
pub const ROLE_UNKNOWN: u8 = 0;
/// [`DataHeader::role`]: the local end opened the connection.
pub const ROLE_CONNECTOR: u8 = 1;
/// [`DataHeader::role`]: the local end accepted the connection.
pub const ROLE_ACCEPTOR: u8 = 2;

/// [`DataHeader::socket_source`]: no socket is known.
pub const SOCKET_UNKNOWN: u8 = 0;
/// [`DataHeader::socket_source`]: the socket that the session's calls used.
pub const SOCKET_EXACT: u8 = 1;
/// [`DataHeader::socket_source`]: the socket that the thread most probably used.
pub const SOCKET_HEURISTIC: u8 = 2;

/// [`DataHeader::family`] of IPv4, as `AF_INET`.
pub const FAMILY_V4: u16 = 2;
/// [`DataHeader::family`] of IPv6, as `AF_INET6`.
pub const FAMILY_V6: u16 = 10;

/// [`DataHeader::joined_late`]: nothing is known to be missing.
pub const NOT_JOINED_LATE: u8 = 0;
/// [`DataHeader::joined_late`]: the connection was open before the capture began.
pub const OPEN_BEFORE_CAPTURE: u8 = 1;
/// [`DataHeader::joined_late`]: the connection was opened before the probes were attached to its library, and
/// its handshake was not seen.
pub const BEFORE_PROBES: u8 = 2;

/// [`DataHeader::fd`] when no descriptor is known.
pub const NO_FD: i32 = -1;
/// [`DataHeader::stream_offset`] when the offset could not be kept.
pub const NO_OFFSET: u64 = u64::MAX;

/// The header before the payload of a data record.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHeader {
    /// [`KIND_DATA`].
    pub kind: u32,
    /// Valid payload bytes after the header; the rest of the record means nothing.
    pub payload_length: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds: entry of a write, return of a read.
    pub timestamp_ns: u64,
    /// Thread group id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// File descriptor, [`NO_FD`] when unknown.
    pub fd: i32,
    /// Thread name.
    pub comm: [u8; 16],
    /// Address of the library's session object.
    pub session: u64,
    /// Position of the first payload byte in this direction of the session.
    pub stream_offset: u64,
    /// Address of the kernel's `struct sock`, 0 when unknown.
    pub sock: u64,
    /// Local address in network order; an IPv4 address takes the first four bytes.
    pub local_address: [u8; 16],
    /// Remote address, as the local one.
    pub remote_address: [u8; 16],
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// [`FAMILY_V4`], [`FAMILY_V6`], or 0 when the addresses are not known.
    pub family: u16,
    /// TLS version as on the wire, 0 when unknown.
    pub tls_version: u16,
    /// [`DIRECTION_READ`] or [`DIRECTION_WRITE`].
    pub direction: u8,
    /// [`ROLE_UNKNOWN`], [`ROLE_CONNECTOR`] or [`ROLE_ACCEPTOR`].
    pub role: u8,
    /// [`SOCKET_UNKNOWN`], [`SOCKET_EXACT`] or [`SOCKET_HEURISTIC`].
    pub socket_source: u8,
    /// [`NOT_JOINED_LATE`], [`OPEN_BEFORE_CAPTURE`] or [`BEFORE_PROBES`].
    pub joined_late: u8,
    /// Bytes of content that the record stands for and does not have; see
    /// [`crate::config::WITHOUT_CONTENT`]. The payload is empty if it is not 0. At most
    /// [`crate::limits::CHUNK_PAYLOAD`].
    pub left_out: u32,
}

/// The end of something that user space may be following.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseRecord {
    /// [`KIND_CLOSE_SOCKET`], [`KIND_CLOSE_SESSION`] or [`KIND_CLOSE_PROCESS`].
    pub kind: u32,
    /// Thread group id; meaningless for a socket.
    pub pid: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub timestamp_ns: u64,
    /// What ended, by address; 0 for a process.
    pub object: u64,
}

/// [`ShellHeader::step`]: the working directory, before the first line of a command. The payload is its path.
pub const STEP_DIRECTORY: u32 = 1;
/// [`ShellHeader::step`]: a line was typed. The payload is its text, as all that follows up to the next step.
pub const STEP_TYPED: u32 = 2;
/// [`ShellHeader::step`]: the text that is executed for the line, with [`SHELL_REFUSED`] none.
pub const STEP_EXPANDED: u32 = 3;
/// [`ShellHeader::step`]: the command is complete and begins to run, with [`SHELL_REFUSED`] it does not.
pub const STEP_BEGUN: u32 = 4;
/// [`ShellHeader::step`]: the shell is ready for the next command; the status is that of the last one.
pub const STEP_ENDED: u32 = 5;
/// [`ShellHeader::step`]: what was being typed is not executed. The payload is what is in the line.
pub const STEP_ABANDONED: u32 = 6;
/// [`ShellHeader::step`]: the process ends; the status is `task_struct.exit_code`.
pub const STEP_EXITED: u32 = 7;
/// [`ShellHeader::step`]: the process executes another program.
pub const STEP_REPLACED: u32 = 8;

/// [`ShellHeader::step`]: a line is about to be edited for the first time. The process is new, or the capture is.
pub const STEP_PROMPT: u32 = 9;

/// [`ShellHeader::flags`]: another record with the next bytes of the same text follows.
pub const SHELL_MORE: u32 = 1;
/// [`ShellHeader::flags`]: nothing is executed.
pub const SHELL_REFUSED: u32 = 1 << 1;
/// [`ShellHeader::flags`]: [`ShellHeader::status`] is known.
pub const SHELL_STATUS: u32 = 1 << 2;
/// [`ShellHeader::flags`]: the text is longer than [`crate::limits::SHELL_CHUNKS`] records, and cut.
pub const SHELL_CUT: u32 = 1 << 3;

/// A step of an interactive shell, or of a program that reads lines as one does, with a text behind it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShellHeader {
    /// [`KIND_BASH`] or [`KIND_ZSH`].
    pub kind: u32,
    /// Bytes of text behind the header; the rest of the record means nothing.
    pub payload_length: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub timestamp_ns: u64,
    /// Thread group id.
    pub pid: u32,
    /// Real user id.
    pub uid: u32,
    /// A constant of this module.
    pub step: u32,
    /// A sum of constants of this module.
    pub flags: u32,
    /// Thread name.
    pub comm: [u8; 16],
    /// Position of the text's first byte in the whole text.
    pub offset: u32,
    /// Exit status, see [`Self::step`].
    pub status: i32,
}

/// Bytes of a [`ShellHeader`].
pub const SHELL_HEADER_BYTES: usize = size_of::<ShellHeader>();
const _: () = assert!(SHELL_HEADER_BYTES == 56);

impl ShellHeader {
    /// Reads one record as it lies in the ring: the header and its text.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut fields = Fields::new(bytes, SHELL_HEADER_BYTES)?;
        let header = Self {
            kind: fields.u32(),
            payload_length: fields.u32(),
            timestamp_ns: fields.u64(),
            pid: fields.u32(),
            uid: fields.u32(),
            step: fields.u32(),
            flags: fields.u32(),
            comm: fields.array(),
            offset: fields.u32(),
            status: fields.i32(),
        };
        let expected = SHELL_HEADER_BYTES.saturating_add(header.payload_length as usize);
        match bytes.get(SHELL_HEADER_BYTES..expected) {
            Some(text) => Ok((header, text)),
            None => Err(DecodeError::Short {
                expected,
                observed: bytes.len(),
            }),
        }
    }
}

/// Bytes of a [`DataHeader`].
pub const DATA_HEADER_BYTES: usize = size_of::<DataHeader>();
/// Bytes of a [`CloseRecord`].
pub const CLOSE_RECORD_BYTES: usize = size_of::<CloseRecord>();

const _: () = assert!(DATA_HEADER_BYTES == 120);
const _: () = assert!(offset_of!(DataHeader, comm) == 32);
const _: () = assert!(offset_of!(DataHeader, sock) == 64);
const _: () = assert!(offset_of!(DataHeader, local_port) == 104);
const _: () = assert!(offset_of!(DataHeader, left_out) == 116);
const _: () = assert!(CLOSE_RECORD_BYTES == 24);

/// One decoded record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'ring> {
    /// Plaintext.
    Data(DataHeader, &'ring [u8]),
    /// An end of life.
    Close(CloseRecord),
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The record ends too early.
    Short {
        /// Bytes the record must have.
        expected: usize,
        /// Bytes it has.
        observed: usize,
    },
    /// The kind is unknown.
    UnknownKind(u32),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { expected, observed } => {
                write!(
                    formatter,
                    "record of {observed} bytes, at least {expected} expected"
                )
            }
            Self::UnknownKind(kind) => write!(formatter, "unknown record kind {kind}"),
        }
    }
}

impl core::error::Error for DecodeError {}

impl<'ring> Record<'ring> {
    /// Reads one record as it lies in the ring.
    pub fn decode(bytes: &'ring [u8]) -> Result<Self, DecodeError> {
        let kind = Fields::new(bytes, size_of::<u32>())?.u32();
        match kind {
            KIND_DATA => Self::decode_data(bytes),
            KIND_CLOSE_SOCKET | KIND_CLOSE_SESSION | KIND_CLOSE_PROCESS => {
                let mut fields = Fields::new(bytes, CLOSE_RECORD_BYTES)?;
                Ok(Self::Close(CloseRecord {
                    kind: fields.u32(),
                    pid: fields.u32(),
                    timestamp_ns: fields.u64(),
                    object: fields.u64(),
                }))
            }
            unknown => Err(DecodeError::UnknownKind(unknown)),
        }
    }

    fn decode_data(bytes: &'ring [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(bytes, DATA_HEADER_BYTES)?;
        let header = DataHeader {
            kind: fields.u32(),
            payload_length: fields.u32(),
            timestamp_ns: fields.u64(),
            pid: fields.u32(),
            tid: fields.u32(),
            uid: fields.u32(),
            fd: fields.i32(),
            comm: fields.array(),
            session: fields.u64(),
            stream_offset: fields.u64(),
            sock: fields.u64(),
            local_address: fields.array(),
            remote_address: fields.array(),
            local_port: fields.u16(),
            remote_port: fields.u16(),
            family: fields.u16(),
            tls_version: fields.u16(),
            direction: fields.u8(),
            role: fields.u8(),
            socket_source: fields.u8(),
            joined_late: fields.u8(),
            left_out: fields.u32(),
        };
        let expected = DATA_HEADER_BYTES.saturating_add(header.payload_length as usize);
        match bytes.get(DATA_HEADER_BYTES..expected) {
            Some(payload) => Ok(Self::Data(header, payload)),
            None => Err(DecodeError::Short {
                expected,
                observed: bytes.len(),
            }),
        }
    }
}

/// Takes fields in their order of declaration from bytes that are known to be long enough.
pub(crate) struct Fields<'ring> {
    rest: &'ring [u8],
}

impl<'ring> Fields<'ring> {
    pub(crate) fn new(bytes: &'ring [u8], expected: usize) -> Result<Self, DecodeError> {
        match bytes.get(..expected) {
            Some(rest) => Ok(Self { rest }),
            None => Err(DecodeError::Short {
                expected,
                observed: bytes.len(),
            }),
        }
    }

    /// Takes the next `N` bytes; zeros if there are none, which `new` rules out.
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk() {
            Some((field, rest)) => {
                self.rest = rest;
                *field
            }
            None => [0; N],
        }
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_ne_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.array())
    }

    fn i32(&mut self) -> i32 {
        i32::from_ne_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.array())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    fn data_record(payload_length: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(KIND_DATA.to_ne_bytes());
        bytes.extend(payload_length.to_ne_bytes());
        bytes.extend(7u64.to_ne_bytes());
        for word in [10u32, 11, 1000] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(5i32.to_ne_bytes());
        bytes.extend(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
        for word in [0x51u64, 42, 0x50] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend([1; 16]);
        bytes.extend([2; 16]);
        for word in [40000u16, 443, FAMILY_V4, 0x0304] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend([DIRECTION_WRITE, ROLE_CONNECTOR, SOCKET_EXACT, BEFORE_PROBES]);
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn data_fields_stand_where_the_kernel_writes_them() {
        let bytes = data_record(3, b"abcdef");
        let Record::Data(header, payload) = Record::decode(&bytes).unwrap() else {
            panic!("not data");
        };
        assert_eq!(payload, b"abc");
        let DataHeader {
            timestamp_ns,
            pid,
            tid,
            uid,
            fd,
            comm,
            ..
        } = header;
        assert_eq!((timestamp_ns, pid, tid, uid, fd), (7, 10, 11, 1000, 5));
        assert_eq!(&comm[..5], b"curl\0");
        assert_eq!(
            (header.session, header.stream_offset, header.sock),
            (0x51, 42, 0x50)
        );
        assert_eq!((header.local_address, header.remote_address), ([1; 16], [2; 16]));
        assert_eq!((header.local_port, header.remote_port), (40000, 443));
        assert_eq!((header.family, header.tls_version), (FAMILY_V4, 0x0304));
        assert_eq!(header.direction, DIRECTION_WRITE);
        assert_eq!(
            (header.role, header.socket_source, header.joined_late),
            (ROLE_CONNECTOR, SOCKET_EXACT, BEFORE_PROBES)
        );
    }

    #[test]
    fn every_shorter_record_is_refused() {
        let bytes = data_record(6, b"abcdef");
        for length in 0..bytes.len() {
            assert!(matches!(
                Record::decode(&bytes[..length]),
                Err(DecodeError::Short { observed, .. }) if observed == length
            ));
        }
        assert!(Record::decode(&bytes).is_ok());
    }

    #[test]
    fn a_length_beyond_the_record_is_refused() {
        let bytes = data_record(u32::MAX, b"abcdef");
        assert!(matches!(Record::decode(&bytes), Err(DecodeError::Short { .. })));
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let bytes = [9, 0, 0, 0].map(|byte: u8| byte);
        let kind = u32::from_ne_bytes(bytes);
        assert_eq!(Record::decode(&bytes), Err(DecodeError::UnknownKind(kind)));
    }
}

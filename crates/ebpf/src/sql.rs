//! Records of statements that database servers execute.
//!
//! A statement is several records with the same [`Header::statement`] of the same thread: its text
//! in parts, what belongs to it, and its end. Each of them may be missing if the ring was full.

use core::mem::offset_of;

use crate::record::DecodeError;

/// [`Header::kind`] of MariaDB and MySQL.
pub const KIND_MYSQL: u32 = 24;
/// [`Header::kind`] of PostgreSQL.
pub const KIND_POSTGRES: u32 = 25;

/// [`Header::step`]: the user and the database of a connection, in [`NAME_BYTES`] each.
pub const STEP_SESSION: u32 = 1;
/// [`Header::step`]: a part of the text.
pub const STEP_TEXT: u32 = 2;
/// [`Header::step`]: a part of the client's message with the values of parameters.
pub const STEP_PARAMETERS: u32 = 3;
/// [`Header::step`]: the server's message about an error.
pub const STEP_ERROR: u32 = 4;
/// [`Header::step`]: the statement has ended. The payload, if there is one, is as that of [`STEP_COMPLETED`].
pub const STEP_END: u32 = 5;
/// [`Header::step`]: one of the commands of a query has been completed. The payload is PostgreSQL's
/// `QueryCompletion`, or before version 13 the tag as a string, and what is behind it in memory.
pub const STEP_COMPLETED: u32 = 6;
/// [`Header::step`]: the thread has ended.
pub const STEP_EXIT: u32 = 7;
/// [`Header::step`]: MariaDB received a parameter's value before the statement is executed. The payload begins
/// with the number of the prepared statement.
pub const STEP_VALUE_APART: u32 = 8;

/// [`Header::flags`]: the number of rows and the error are known.
pub const HAS_RESULT: u32 = 1;
/// [`Header::flags`]: the number of rows is not known.
pub const ROWS_UNKNOWN: u32 = 1 << 1;
/// [`Header::flags`]: no text was sent.
pub const NO_TEXT: u32 = 1 << 2;
/// [`Header::flags`]: the text goes on behind what was sent, and it is not known how far.
pub const TEXT_CUT: u32 = 1 << 3;
/// [`Header::flags`]: MariaDB returned a result and counted no rows in it: it is empty, or is that of a statement
/// whose rows are not counted, such as `SHOW WARNINGS`.
pub const NO_ROW_COUNTED: u32 = 1 << 4;

/// Bytes of a name in a record of [`STEP_SESSION`], NUL-terminated: user names of MariaDB have up to 128
/// characters, names of databases up to 64 characters of three bytes.
pub const NAME_BYTES: usize = 256;
/// Most bytes of an error message that are sent.
pub const ERROR_BYTES: usize = 4096;
/// Bytes of PostgreSQL's completion that are sent.
pub const COMPLETION_BYTES: usize = 64;

/// The header before the payload.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// [`KIND_MYSQL`] or [`KIND_POSTGRES`].
    pub kind: u32,
    /// Valid payload bytes after the header.
    pub payload_length: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds: of [`STEP_END`] when the statement ended.
    pub timestamp_ns: u64,
    /// Thread group id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Which record of the statement it is.
    pub step: u32,
    /// Thread name.
    pub comm: [u8; 16],
    /// When the statement began, `CLOCK_MONOTONIC` in nanoseconds; unique in its thread.
    pub statement: u64,
    /// The server's number of the connection; 0: not known.
    pub connection: u64,
    /// Position of the payload in the text or the message.
    pub offset: u64,
    /// Bytes of the whole text or message; of a string until its end is found, 0.
    pub total: u64,
    /// Rows, for [`STEP_END`] with [`HAS_RESULT`].
    pub rows: u64,
    /// Number of the error, 0 without one.
    pub error: u32,
    /// The server's number of the command, or the type of the message.
    pub command: u32,
    /// A sum of the constants of this module.
    pub flags: u32,
    /// What the server's function returned.
    pub returned: i32,
}

/// Bytes of a [`Header`].
pub const HEADER_BYTES: usize = size_of::<Header>();

const _: () = assert!(HEADER_BYTES == 104);
const _: () = assert!(offset_of!(Header, comm) == 32);
const _: () = assert!(offset_of!(Header, rows) == 80);
const _: () = assert!(offset_of!(Header, returned) == 100);

/// Where MariaDB keeps what belongs to a connection: read by the accessors that it exports, and passed as
/// the cookie of the probe at the beginning of a command. Offsets in `THD`, 0 if not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connection {
    /// `thread_id`
    pub number: u16,
    /// `db`, a pointer and a length
    pub database: u16,
    /// The pointer to the security context.
    pub security: u16,
    /// `user`, a pointer in that.
    pub user: u16,
}

/// The same for the probe at the end of a command: where `THD` points to the diagnostics area, and offsets
/// in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Diagnostics {
    /// The pointer in `THD`; 0: nothing is known.
    pub area: u16,
    /// `m_sql_errno`
    pub error: u8,
    /// `m_message`
    pub message: u8,
    /// `m_affected_rows`; 0: not known
    pub rows: u16,
    /// `m_status`
    pub status: u16,
}

/// The same for the probe at the end of each result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Results {
    /// The pointer in `THD` to the diagnostics area; 0: nothing is known.
    pub area: u16,
    /// `m_affected_rows` in that
    pub rows: u16,
    /// `m_status` in that
    pub status: u16,
    /// `m_sent_row_count` in `THD`
    pub sent: u16,
}

impl Connection {
    /// As a cookie.
    pub const fn cookie(self) -> u64 {
        (self.number as u64)
            | (self.database as u64) << 16
            | (self.security as u64) << 32
            | (self.user as u64) << 48
    }

    /// Reads a cookie.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each number has its bits in the cookie"
    )]
    pub const fn of(cookie: u64) -> Self {
        Self {
            number: cookie as u16,
            database: (cookie >> 16) as u16,
            security: (cookie >> 32) as u16,
            user: (cookie >> 48) as u16,
        }
    }
}

impl Diagnostics {
    /// As a cookie.
    pub const fn cookie(self) -> u64 {
        (self.area as u64)
            | (self.error as u64) << 16
            | (self.message as u64) << 24
            | (self.rows as u64) << 32
            | (self.status as u64) << 48
    }

    /// Reads a cookie.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each number has its bits in the cookie"
    )]
    pub const fn of(cookie: u64) -> Self {
        Self {
            area: cookie as u16,
            error: (cookie >> 16) as u8,
            message: (cookie >> 24) as u8,
            rows: (cookie >> 32) as u16,
            status: (cookie >> 48) as u16,
        }
    }
}

impl Results {
    /// As a cookie.
    pub const fn cookie(self) -> u64 {
        (self.area as u64) | (self.rows as u64) << 16 | (self.status as u64) << 32 | (self.sent as u64) << 48
    }

    /// Reads a cookie.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each number has its bits in the cookie"
    )]
    pub const fn of(cookie: u64) -> Self {
        Self {
            area: cookie as u16,
            rows: (cookie >> 16) as u16,
            status: (cookie >> 32) as u16,
            sent: (cookie >> 48) as u16,
        }
    }
}

/// Reads one record as it lies in the ring.
pub fn decode(bytes: &[u8]) -> Result<(Header, &[u8]), DecodeError> {
    let short = |expected| DecodeError::Short {
        expected,
        observed: bytes.len(),
    };
    let Some((fields, payload)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(short(HEADER_BYTES));
    };
    let header = read_header(fields);
    if header.kind != KIND_MYSQL && header.kind != KIND_POSTGRES {
        return Err(DecodeError::UnknownKind(header.kind));
    }
    match payload.get(..header.payload_length as usize) {
        Some(payload) => Ok((header, payload)),
        None => Err(short(HEADER_BYTES.saturating_add(header.payload_length as usize))),
    }
}

/// Reads the fields where [`Header`] has them; zeros if there are none, which the caller rules out.
fn read_header(bytes: &[u8]) -> Header {
    Header {
        kind: u32::from_ne_bytes(field(bytes, offset_of!(Header, kind))),
        payload_length: u32::from_ne_bytes(field(bytes, offset_of!(Header, payload_length))),
        timestamp_ns: u64::from_ne_bytes(field(bytes, offset_of!(Header, timestamp_ns))),
        pid: u32::from_ne_bytes(field(bytes, offset_of!(Header, pid))),
        tid: u32::from_ne_bytes(field(bytes, offset_of!(Header, tid))),
        uid: u32::from_ne_bytes(field(bytes, offset_of!(Header, uid))),
        step: u32::from_ne_bytes(field(bytes, offset_of!(Header, step))),
        comm: field(bytes, offset_of!(Header, comm)),
        statement: u64::from_ne_bytes(field(bytes, offset_of!(Header, statement))),
        connection: u64::from_ne_bytes(field(bytes, offset_of!(Header, connection))),
        offset: u64::from_ne_bytes(field(bytes, offset_of!(Header, offset))),
        total: u64::from_ne_bytes(field(bytes, offset_of!(Header, total))),
        rows: u64::from_ne_bytes(field(bytes, offset_of!(Header, rows))),
        error: u32::from_ne_bytes(field(bytes, offset_of!(Header, error))),
        command: u32::from_ne_bytes(field(bytes, offset_of!(Header, command))),
        flags: u32::from_ne_bytes(field(bytes, offset_of!(Header, flags))),
        returned: i32::from_ne_bytes(field(bytes, offset_of!(Header, returned))),
    }
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let field = bytes.get(offset..).and_then(<[u8]>::first_chunk);
    field.copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    #[test]
    fn a_record_is_read_as_it_lies_in_the_ring_and_a_short_one_is_refused() {
        let mut bytes: Vec<u8> = (0..).take(HEADER_BYTES).collect();
        bytes[..4].copy_from_slice(&KIND_MYSQL.to_ne_bytes());
        bytes[4..8].copy_from_slice(&3u32.to_ne_bytes());
        bytes.extend(b"abcdef");
        let (header, payload) = decode(&bytes).unwrap();
        assert_eq!(payload, b"abc");
        assert_eq!(header.pid, u32::from_ne_bytes([16, 17, 18, 19]));
        assert_eq!(header.rows, u64::from_ne_bytes([80, 81, 82, 83, 84, 85, 86, 87]));
        assert_eq!(header.returned, i32::from_ne_bytes([100, 101, 102, 103]));
        for length in 0..HEADER_BYTES + 3 {
            assert!(matches!(decode(&bytes[..length]), Err(DecodeError::Short { .. })));
        }
        bytes[0] = 1;
        assert!(matches!(decode(&bytes), Err(DecodeError::UnknownKind(_))));
    }

    #[test]
    fn a_cookie_keeps_what_is_in_it() {
        let connection = Connection {
            number: 0x3f18,
            database: 0xa0,
            security: 0x25f8,
            user: 8,
        };
        assert_eq!(Connection::of(connection.cookie()), connection);
        let diagnostics = Diagnostics {
            area: 0x62e0,
            error: 8,
            message: 0x1a,
            rows: 0x220,
            status: 0x234,
        };
        assert_eq!(Diagnostics::of(diagnostics.cookie()), diagnostics);
        let results = Results {
            area: 0x62e0,
            rows: 0x220,
            status: 0x234,
            sent: 0x3b98,
        };
        assert_eq!(Results::of(results.cookie()), results);
    }
}

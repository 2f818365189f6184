//! What the programs remember of a statement between two of its functions.

use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use ecapture_ebpf::sql::Header;
use ecapture_ebpf::{limits, table};

use super::super::maps::PROCESSES;
use super::super::tables::{entered, left};

/// By `pid_tgid`. A server's thread executes one statement at a time.
#[map]
static STATEMENTS: LruHashMap<u64, Statement> = LruHashMap::with_max_entries(limits::STATEMENTS, 0);

/// The statement that a thread executes, or the message that a process of PostgreSQL reads.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Statement {
    /// When it began; 0: none is being executed.
    pub began_ns: u64,
    pub connection: u64,
    /// MariaDB: the `THD`. PostgreSQL: the `StringInfo` with the client's message.
    pub object: u64,
    /// PostgreSQL: the statement's text, as the server has it.
    pub text: u64,
    /// Bytes of the text sent or to be sent.
    pub text_bytes: u64,
    /// MariaDB: rows of the results so far.
    pub rows: u64,
    /// The server's number of the command, or the type of the client's last message; 0: none.
    pub command: u32,
    /// As in the record, with those of [`Statement`].
    pub flags: u32,
    /// As in the record.
    pub kind: u32,
    pub padding: u32,
}

/// The initial state. A static, so that it takes no stack.
static NONE: Statement = Statement {
    began_ns: 0,
    connection: 0,
    object: 0,
    text: 0,
    text_bytes: 0,
    rows: 0,
    command: 0,
    flags: 0,
    kind: 0,
    padding: 0,
};

impl Statement {
    /// The text was sent.
    pub(super) const TEXT_SENT: u32 = 1 << 8;
    /// The server's command that it belongs to has begun.
    pub(super) const BEGUN: u32 = 1 << 9;
    /// An error was sent.
    pub(super) const FAILED: u32 = 1 << 10;
    /// The rows are left to a cursor.
    pub(super) const OPENS_CURSOR: u32 = 1 << 11;
    /// The rows of a result were counted.
    pub(super) const COUNTED: u32 = 1 << 12;

    /// Returns the thread's entry, which is created if it is new.
    #[inline(always)]
    pub(super) fn current(pid_tgid: u64) -> Option<&'static mut Self> {
        if let Some(statement) = Self::known(pid_tgid) {
            return Some(statement);
        }
        if STATEMENTS.insert(pid_tgid, &NONE, 0).is_ok() {
            entered(table::STATEMENTS);
        }
        let _full = PROCESSES.insert((pid_tgid >> 32) as u32, 1, 0);
        Self::known(pid_tgid)
    }

    #[inline(always)]
    pub(super) fn known(pid_tgid: u64) -> Option<&'static mut Self> {
        // SAFETY: the map lookup succeeded, and only this thread uses its entry.
        STATEMENTS
            .get_ptr_mut(pid_tgid)
            .map(|statement| unsafe { &mut *statement })
    }

    /// Forgets a thread's statement.
    #[inline(always)]
    pub(super) fn forget(pid_tgid: u64) {
        if STATEMENTS.remove(pid_tgid).is_ok() {
            left(table::STATEMENTS);
        }
    }

    /// The header of its records.
    #[inline(always)]
    pub(super) fn header(&self, pid_tgid: u64, step: u32) -> Header {
        let mut header = Header {
            kind: self.kind,
            payload_length: 0,
            // SAFETY: the helper has no preconditions.
            timestamp_ns: unsafe { bpf_ktime_get_ns() },
            pid: (pid_tgid >> 32) as u32,
            tid: pid_tgid as u32,
            uid: bpf_get_current_uid_gid() as u32,
            step,
            comm: [0; 16],
            statement: self.began_ns,
            connection: self.connection,
            offset: 0,
            total: 0,
            rows: 0,
            error: 0,
            command: self.command,
            flags: 0,
            returned: 0,
        };
        let name = &raw mut header.comm;
        // SAFETY: the helper writes as many bytes as it is given.
        unsafe { bpf_get_current_comm(name.cast(), size_of_val(&header.comm) as u32) };
        header
    }
}

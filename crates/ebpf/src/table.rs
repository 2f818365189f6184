//! How full the kernel's tables have been. A full table forgets its least recently used entries
//! without reporting it.

/// `CALLS`.
pub const CALLS: u32 = 0;
/// `THREADS`.
pub const THREADS: u32 = 1;
/// `SESSIONS`.
pub const SESSIONS: u32 = 2;
/// `SOCKETS`.
pub const SOCKETS: u32 = 3;
/// `SHELLS`.
pub const SHELLS: u32 = 4;
/// `STATEMENTS`.
pub const STATEMENTS: u32 = 5;
/// Number of tables.
pub const COUNT: u32 = 6;

/// How full one table is, an entry of `TABLES`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Entries that were created and not removed; no longer exact once [`Self::overflowed`] is set.
    pub entries: u64,
    /// Number of entries from which the kernel may begin to forget some. Written by user space
    /// before anything is attached.
    pub room: u64,
    /// Not 0: it may have forgotten some.
    pub overflowed: u64,
}

const _: () = assert!(size_of::<Table>() == 24);

//! What each process has put into the ring buffer while it was filling up, so that one that floods it is
//! named, and loses its own records before those of others.

use core::mem::offset_of;

/// What one process has put into the ring while more than three quarters of it waited for the reader.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The time under pressure that [`Self::bytes`] belongs to; each ends when less waits.
    pub episode: u64,
    /// Bytes of the ring that it took in this one.
    pub bytes: u64,
    /// Bytes of payload in all of them.
    pub total_bytes: u64,
    /// Calls that found the process's share used up, in all of them.
    pub refused_calls: u64,
    /// Bytes of payload of these.
    pub refused_bytes: u64,
    /// Name of the thread that came first.
    pub comm: [u8; 16],
}

/// Whether the ring is filling up, the only entry of `PRESSURE`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// Number of the time under pressure that goes on, or of the next one.
    pub episode: u64,
    /// Not 0: it has begun.
    pub begun: u64,
}

const _: () = assert!(size_of::<Share>() == 56);
const _: () = assert!(offset_of!(Share, comm) == 40);
const _: () = assert!(size_of::<Pressure>() == 16);

//! Indices of the per-CPU `COUNTERS` map. All counters only grow.

/// Payload records handed to user space.
pub const DATA_RECORDS: u32 = 0;
/// Payload bytes handed to user space.
pub const DATA_BYTES: u32 = 1;
/// Library calls that a filter excluded.
pub const FILTERED_CALLS: u32 = 2;
/// Payload records lost because the ring was full.
pub const RING_FULL_RECORDS: u32 = 3;
/// Payload bytes lost because the ring was full.
pub const RING_FULL_BYTES: u32 = 4;
/// Payload records lost because the process's memory could not be read.
pub const FAULT_RECORDS: u32 = 5;
/// Payload bytes lost because the process's memory could not be read.
pub const FAULT_BYTES: u32 = 6;
/// Payload bytes lost because one call had more than [`crate::limits::CALL_CHUNKS`] records; with
/// [`crate::config::WITHOUT_CONTENT`], because it took more than [`crate::limits::FRAMING_STEPS`], or another call of the
/// same direction was being followed.
pub const CUT_BYTES: u32 = 7;
/// Calls lost because they could not be remembered until they returned.
pub const CALLS_FULL: u32 = 8;
/// Returns without a known entry: the call began before the capture.
pub const UNMATCHED_RETURNS: u32 = 9;
/// Sessions whose stream offset could not be kept; their records have no offset.
pub const SESSIONS_FULL: u32 = 10;
/// Close records handed to user space.
pub const CLOSE_RECORDS: u32 = 11;
/// Close records lost because the ring was full.
pub const CLOSE_LOST: u32 = 12;
/// Files that were not reported to user space because the ring was full.
pub const FILES_LOST: u32 = 13;
/// Payload bytes that the kernel sent from files and encrypted itself: no probe can see them.
pub const FILE_BYTES: u32 = 14;
/// Calls of functions without a stable interface whose arguments or result are not plausible.
pub const UNINTELLIGIBLE_CALLS: u32 = 15;
/// Threads that ended inside a call that writes: it is unknown how much the call had sent.
pub const UNFINISHED_WRITES: u32 = 16;
/// Calls that write and are tracked until they return.
pub const WRITES_BEGUN: u32 = 17;
/// Of those, the ones that have returned, or whose thread has ended. Calls that were left by a long jump, and
/// those of Go programs that were killed, never do.
pub const WRITES_ENDED: u32 = 18;
/// Payload records of processes that had used up their share of the ring, see [`crate::share`].
pub const RING_SHARE_RECORDS: u32 = 19;
/// Payload bytes of processes that had used up their share of the ring.
pub const RING_SHARE_BYTES: u32 = 20;
/// Returns without a known entry when the table of calls or that of threads had been full: calls that were
/// forgotten, or began before the capture.
pub const FORGOTTEN_CALLS: u32 = 21;
/// Sessions that began to use a socket which had been used before, when the table of sessions had been full: they
/// were forgotten, and are counted from their beginning again.
pub const FORGOTTEN_SESSIONS: u32 = 22;
/// Connections whose opening time is unknown because the table of sockets had been full.
pub const FORGOTTEN_SOCKETS: u32 = 23;
/// Owners of sockets that were not reported to user space because the ring of packets was full.
pub const OWNERS_LOST: u32 = 24;
/// Secrets handed to user space.
pub const SECRETS: u32 = 25;
/// Secrets lost because the ring was full or the process's memory could not be read.
pub const SECRETS_LOST: u32 = 26;
/// Secrets that were derived outside of the calls that are followed, or in a library that keeps the client's random
/// at an unknown place.
pub const SECRETS_WITHOUT_RANDOM: u32 = 27;
/// Those of [`DATA_BYTES`] that were left out because only heads are wanted: user space knows their number.
pub const LEFT_OUT_BYTES: u32 = 28;
/// Number of counters.
pub const COUNT: u32 = 29;

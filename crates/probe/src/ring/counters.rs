//! The counters of the kernel programs.

use aya::maps::{MapData, MapError, PerCpuArray};
use ecapture_ebpf::counter;

/// Totals over all CPUs since the capture began. Every byte that a captured call moved is in
/// exactly one of `data_bytes`, `ring_full_bytes`, `ring_share_bytes`, `fault_bytes`, `cut_bytes` and `file_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelCounters {
    /// Payload records handed to user space.
    pub data_records: u64,
    /// Payload bytes handed to user space.
    pub data_bytes: u64,
    /// Those of `data_bytes` whose number alone was handed over, because content is not wanted
    /// ([`CaptureConfig::without_content`](crate::CaptureConfig::without_content)).
    pub left_out_bytes: u64,
    /// Library calls that a filter kept out.
    pub filtered_calls: u64,
    /// Payload records lost because the ring was full.
    pub ring_full_records: u64,
    /// Payload bytes lost because the ring was full.
    pub ring_full_bytes: u64,
    /// Payload records lost because their process had used up its share of the ring.
    pub ring_share_records: u64,
    /// Payload bytes lost because their process had used up its share of the ring.
    pub ring_share_bytes: u64,
    /// Payload records lost because the process's memory could not be read.
    pub fault_records: u64,
    /// Payload bytes lost because the process's memory could not be read.
    pub fault_bytes: u64,
    /// Payload bytes lost because one call moved more than 2 GiB (before Linux 5.17,
    /// 1 MiB); where content is left out, also because several calls of one direction moved data at once.
    pub cut_bytes: u64,
    /// Payload bytes that the kernel sent from files (`SSL_sendfile`): no program had them in its memory.
    pub file_bytes: u64,
    /// Calls lost because they could not be remembered until they returned.
    pub calls_full: u64,
    /// Calls lost because they began before the capture.
    pub unmatched_returns: u64,
    /// Calls that were forgotten because too many were followed at once, or began before the
    /// capture: from when their table is full these are not distinguished.
    pub forgotten_calls: u64,
    /// Sessions that were forgotten because there were too many, and go on: nothing of them is lost, but a gap may
    /// be shown.
    pub forgotten_sessions: u64,
    /// Connections that were forgotten because there were too many: it is not known whether their beginning was
    /// captured.
    pub forgotten_sockets: u64,
    /// Calls lost because their session could not be remembered.
    pub sessions_full: u64,
    /// Calls of functions inside rustls that could not be understood: its calling convention is no
    /// stable one.
    pub unintelligible_calls: u64,
    /// Threads that ended inside a call that writes: the bytes that it had sent by then are not known.
    pub unfinished_writes: u64,
    /// Calls that write and have not returned: they are in progress, or were left by a long jump, or their Go
    /// program was killed.
    pub writes_in_progress: u64,
    /// Secrets of handshakes handed to user space.
    pub secrets: u64,
    /// Secrets lost because the ring was full or the process's memory could not be read.
    pub secrets_lost: u64,
    /// Times that it was not reported which process uses a socket, because the ring of packets was full.
    pub owners_lost: u64,
    /// Secrets lost because it is not known to which handshake they belong.
    pub secrets_without_random: u64,
    /// Close records handed to user space.
    pub close_records: u64,
    /// Close records lost because the ring was full.
    pub close_lost: u64,
    /// Files that processes began to execute and that were not reported; all processes were
    /// inspected once more instead.
    pub files_lost: u64,
}

impl KernelCounters {
    /// Payload bytes that are known to be lost.
    pub const fn lost_bytes(&self) -> u64 {
        self.ring_full_bytes + self.ring_share_bytes + self.fault_bytes + self.cut_bytes + self.file_bytes
    }

    /// Losses by name, in a fixed order, for a summary. Names end in their unit.
    pub const fn losses(&self) -> [(&'static str, u64); 17] {
        [
            ("ring full, records", self.ring_full_records),
            ("ring full, bytes", self.ring_full_bytes),
            ("share of the ring used up, records", self.ring_share_records),
            ("share of the ring used up, bytes", self.ring_share_bytes),
            ("memory not readable, records", self.fault_records),
            ("memory not readable, bytes", self.fault_bytes),
            ("call too long, bytes", self.cut_bytes),
            ("sent from files by the kernel, bytes", self.file_bytes),
            ("too many calls at once, calls", self.calls_full),
            ("call began before the capture, calls", self.unmatched_returns),
            ("call forgotten, calls", self.forgotten_calls),
            ("too many sessions, calls", self.sessions_full),
            ("call not understood, calls", self.unintelligible_calls),
            ("thread ended while it wrote, calls", self.unfinished_writes),
            ("ring full, close records", self.close_lost),
            ("secrets not handed over", self.secrets_lost),
            ("secrets of unknown handshakes", self.secrets_without_random),
        ]
    }

    pub(crate) fn read(map: &PerCpuArray<MapData, u64>) -> Result<Self, MapError> {
        let total = |index| -> Result<u64, MapError> {
            Ok(map.get(&index, 0)?.iter().copied().fold(0, u64::wrapping_add))
        };
        Ok(Self {
            data_records: total(counter::DATA_RECORDS)?,
            data_bytes: total(counter::DATA_BYTES)?,
            left_out_bytes: total(counter::LEFT_OUT_BYTES)?,
            filtered_calls: total(counter::FILTERED_CALLS)?,
            ring_full_records: total(counter::RING_FULL_RECORDS)?,
            ring_full_bytes: total(counter::RING_FULL_BYTES)?,
            ring_share_records: total(counter::RING_SHARE_RECORDS)?,
            ring_share_bytes: total(counter::RING_SHARE_BYTES)?,
            fault_records: total(counter::FAULT_RECORDS)?,
            fault_bytes: total(counter::FAULT_BYTES)?,
            cut_bytes: total(counter::CUT_BYTES)?,
            file_bytes: total(counter::FILE_BYTES)?,
            calls_full: total(counter::CALLS_FULL)?,
            unmatched_returns: total(counter::UNMATCHED_RETURNS)?,
            forgotten_calls: total(counter::FORGOTTEN_CALLS)?,
            forgotten_sessions: total(counter::FORGOTTEN_SESSIONS)?,
            forgotten_sockets: total(counter::FORGOTTEN_SOCKETS)?,
            sessions_full: total(counter::SESSIONS_FULL)?,
            unintelligible_calls: total(counter::UNINTELLIGIBLE_CALLS)?,
            unfinished_writes: total(counter::UNFINISHED_WRITES)?,
            // Read in this order, calls that end in between cannot make the difference larger than
            // it was.
            writes_in_progress: total(counter::WRITES_BEGUN)?.saturating_sub(total(counter::WRITES_ENDED)?),
            secrets: total(counter::SECRETS)?,
            secrets_lost: total(counter::SECRETS_LOST)?,
            owners_lost: total(counter::OWNERS_LOST)?,
            secrets_without_random: total(counter::SECRETS_WITHOUT_RANDOM)?,
            close_records: total(counter::CLOSE_RECORDS)?,
            close_lost: total(counter::CLOSE_LOST)?,
            files_lost: total(counter::FILES_LOST)?,
        })
    }
}

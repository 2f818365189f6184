//! The counts and facts that this program collects during a capture, beside the kernel's counters.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ecapture_protocols::packet::Handshakes;
use ecapture_protocols::{DataEvent, JoinedLate};

use crate::find::facts::Facts;
use crate::ring::secrets::News;
use crate::{KernelCounters, LateConnections};

/// Most processes that are remembered as active.
const ACTIVE: usize = 64 * 1024;

/// What was counted of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketFigures {
    /// Packets that passed the interfaces.
    pub received: u64,
    /// Lost because their ring was full.
    pub dropped: u64,
    /// Lost because their bytes could not be read.
    pub unreadable: u64,
    /// Left out by the filter expression.
    pub not_matching: u64,
    /// Left out because they are of processes that the filters keep out.
    pub of_others: u64,
    /// Left out because it is not known whose they are.
    pub of_unknown: u64,
    /// Handed over.
    pub captured: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// TLS handshakes among them.
    pub handshakes: Handshakes,
}

/// Figures of a running capture. All threads add to one.
#[derive(Debug, Default)]
pub struct Tally {
    undecodable: Counter,
    read: PayloadCounter,
    excluded: PayloadCounter,
    beyond: PayloadCounter,
    too_short: Counter,
    not_captured: Counter,
    not_inspected: Counter,
    files_without_room: Counter,
    files_given_up: Counter,
    active: Mutex<HashSet<u32>>,
    late: Mutex<LateConnections>,
    packets: Mutex<Option<PacketFigures>>,
    handshakes: Counter,
    secrets: Counter,
    facts: Facts,
}

impl Tally {
    pub(crate) fn new(facts: Facts) -> Self {
        Self {
            facts,
            ..Self::default()
        }
    }

    /// The facts about the processes that use TLS.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The figures of the packets; `None` if none are captured.
    pub fn packets(&self) -> Option<PacketFigures> {
        *lock(&self.packets)
    }

    pub(crate) fn set_packets(&self, figures: PacketFigures) {
        *lock(&self.packets) = Some(figures);
    }

    /// Number of facts about processes that are not among the events, because too many came at once.
    pub fn facts_without_room(&self) -> u64 {
        self.facts.lost()
    }

    /// Records of the ring that this version does not understand. Always 0 unless the object
    /// was overridden.
    pub fn undecodable_records(&self) -> u64 {
        self.undecodable.get()
    }

    pub(crate) fn count_undecodable(&self) {
        self.undecodable.add(1);
    }

    /// Handshakes whose secrets were observed, at least one of them.
    pub fn handshakes(&self) -> u64 {
        self.handshakes.get()
    }

    /// Secrets that were observed, each once.
    pub fn secrets(&self) -> u64 {
        self.secrets.get()
    }

    pub(crate) fn count_secret(&self, news: News) {
        self.handshakes.add((news == News::Handshake).into());
        self.secrets.add((news != News::None).into());
    }

    /// Processes that produced events; `None` when there were more than are remembered.
    pub fn active_pids(&self) -> Option<HashSet<u32>> {
        let active = lock(&self.active);
        (active.len() < ACTIVE).then(|| active.clone())
    }

    /// Remembers a process that produces events.
    pub(crate) fn note_active(&self, pid: u32) {
        let mut active = lock(&self.active);
        if active.len() < ACTIVE {
            active.insert(pid);
        }
    }

    /// Forgets a process that has ended: its number goes to another one.
    pub(crate) fn forget_active(&self, pid: u32) {
        lock(&self.active).remove(&pid);
    }

    /// Processes that connected, or listened, and ended before the probes were attached to the file with
    /// TLS that they executed: their data was not seen.
    pub fn too_short(&self) -> u64 {
        self.too_short.get()
    }

    pub(crate) fn count_too_short(&self) {
        self.too_short.add(1);
    }

    /// Processes whose program has TLS that cannot be captured: those among the processes that are captured, or
    /// that connected while the whole host was.
    pub fn not_captured(&self) -> u64 {
        self.not_captured.get()
    }

    pub(crate) fn count_not_captured(&self) {
        self.not_captured.add(1);
    }

    /// Programs among the processes that are captured that could not be inspected before the end: they may have
    /// TLS that cannot be captured.
    pub fn not_inspected(&self) -> u64 {
        self.not_inspected.get()
    }

    pub(crate) fn count_not_inspected(&self, programs: u64) {
        self.not_inspected.add(programs);
    }

    /// Records and bytes of payload of processes that are excluded.
    pub fn excluded(&self) -> (u64, u64) {
        self.excluded.get()
    }

    pub(crate) fn count_excluded(&self, bytes: u64) {
        self.excluded.add(1, bytes);
    }

    /// Records of statements and commands whose text is beyond the limits, and its bytes. It is marked where it is
    /// missing.
    pub fn beyond_limits(&self) -> (u64, u64) {
        self.beyond.get()
    }

    /// Counts what of a record was beyond the limits.
    pub(crate) fn count_beyond(&self, bytes: u64) {
        if bytes > 0 {
            self.beyond.add(1, bytes);
        }
    }

    /// How often a new file of a program found no room among those that wait to be inspected.
    pub fn files_without_room(&self) -> u64 {
        self.files_without_room.get()
    }

    pub(crate) fn count_without_room(&self) {
        self.files_without_room.add(1);
    }

    /// Files of programs that were beyond the bounds of what is read of a file, or damaged.
    pub fn files_given_up(&self) -> u64 {
        self.files_given_up.get()
    }

    /// Counts one more; returns how many they are with it.
    pub(crate) fn count_given_up(&self) -> u64 {
        self.files_given_up.add(1)
    }

    /// The connections whose first bytes may be missing.
    pub fn late_connections(&self) -> LateConnections {
        lock(&self.late).clone()
    }

    /// Counts a connection whose first bytes may be missing.
    pub(crate) fn count_late(&self, data: &DataEvent, reason: JoinedLate) {
        lock(&self.late).count(data, reason);
    }

    /// Counts payload records that were taken out of the ring.
    pub(crate) fn count_read(&self, records: u64, bytes: u64) {
        self.read.add(records, bytes);
    }

    /// Records of payload and of secrets, and the bytes of payload, that are in the ring according to `counters`. The records of ended
    /// connections that are there, too, lose nothing.
    pub fn left_in_ring(&self, counters: &KernelCounters) -> (u64, u64) {
        let (records, bytes) = self.read.get();
        (
            (counters.data_records + counters.secrets).saturating_sub(records),
            counters.data_bytes.saturating_sub(bytes),
        )
    }
}

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    /// Returns the sum.
    fn add(&self, more: u64) -> u64 {
        self.0.fetch_add(more, Ordering::Relaxed) + more
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Records of payload, and their bytes.
#[derive(Debug, Default)]
struct PayloadCounter {
    records: Counter,
    bytes: Counter,
}

impl PayloadCounter {
    fn add(&self, records: u64, bytes: u64) {
        self.records.add(records);
        self.bytes.add(bytes);
    }

    fn get(&self) -> (u64, u64) {
        (self.records.get(), self.bytes.get())
    }
}

/// Locks also after a panic elsewhere: it can break no invariant of the kept state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

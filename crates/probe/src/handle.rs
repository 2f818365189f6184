//! Control of a running capture, from anywhere.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use ecapture_ebpf::config::{Control, ENDED, STOPPED};
use ecapture_ebpf::share::Share;
use ecapture_protocols::{Comm, DataEvent, JoinedLate};
use futures_util::task::AtomicWaker;

use crate::{Error, KernelCounters, LateConnections};

/// Most processes that are remembered as heard.
const HEARD: usize = 64 * 1024;

/// [`Control`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct ControlValue(Control);

// SAFETY: `Control` is `repr(C)`, has only integer fields and no padding.
#[expect(unsafe_code, reason = "aya asks for this promise about map values")]
unsafe impl aya::Pod for ControlValue {}

/// [`Share`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct ShareValue(Share);

// SAFETY: `Share` is `repr(C)`, has only integer fields and no padding.
#[expect(unsafe_code, reason = "aya asks for this promise about map values")]
unsafe impl aya::Pod for ShareValue {}

/// A process that has put something into the ring while more than an eighth of it was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingUser {
    /// Process id.
    pub pid: u32,
    /// Name of the thread that came first.
    pub comm: Comm,
    /// Bytes of payload that it put in then.
    pub filled_bytes: u64,
    /// Bytes of payload that were lost because the process had used up its share.
    pub refused_bytes: u64,
}

impl RingUser {
    fn of(pid: u32, share: &Share) -> Self {
        Self {
            pid,
            comm: Comm::new(share.comm),
            filled_bytes: share.total_bytes,
            refused_bytes: share.refused_bytes,
        }
    }
}

/// Stops a capture, reads its counters and changes its set of processes.
#[derive(Clone)]
pub struct CaptureHandle {
    shared: Arc<Shared>,
}

struct Shared {
    control: Mutex<Array<MapData, ControlValue>>,
    pids: Mutex<HashMap<MapData, u32, u32>>,
    counters: PerCpuArray<MapData, u64>,
    shares: HashMap<MapData, u32, ShareValue>,
    /// As in [`Control::end`].
    end: AtomicU32,
    undecodable: AtomicU64,
    /// Payload records, and their bytes, that were taken out of the ring.
    read: [AtomicU64; 2],
    heard: Mutex<HashSet<u32>>,
    too_short: AtomicU64,
    not_captured: AtomicU64,
    not_inspected: AtomicU64,
    files_without_room: AtomicU64,
    files_given_up: AtomicU64,
    /// Records and bytes of payload of excluded processes.
    excluded: [AtomicU64; 2],
    late: Mutex<LateConnections>,
    reader: AtomicWaker,
}

impl CaptureHandle {
    /// Takes its maps out of the loaded object.
    pub(crate) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let control = take_map(ebpf, "CONTROL", Array::try_from)?;
        let pids = take_map(ebpf, "PIDS", HashMap::try_from)?;
        let counters = take_map(ebpf, "COUNTERS", PerCpuArray::try_from)?;
        let ring_shares = take_map(ebpf, "SHARES", HashMap::try_from)?;
        let shared = Shared {
            control: Mutex::new(control),
            pids: Mutex::new(pids),
            counters,
            shares: ring_shares,
            end: AtomicU32::new(0),
            undecodable: AtomicU64::new(0),
            read: Default::default(),
            heard: Mutex::default(),
            too_short: AtomicU64::new(0),
            not_captured: AtomicU64::new(0),
            not_inspected: AtomicU64::new(0),
            files_without_room: AtomicU64::new(0),
            files_given_up: AtomicU64::new(0),
            excluded: Default::default(),
            late: Mutex::default(),
            reader: AtomicWaker::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Captures nothing new from now on. What is already in the ring is still delivered, and what calls in
    /// progress move that return soon, then the stream of events ends. May be called more than once.
    pub fn stop(&self) -> Result<(), Error> {
        let stopped = self.advance(STOPPED);
        self.shared.reader.wake();
        stopped
    }

    /// Captures nothing at all from now on.
    pub(crate) fn end(&self) -> Result<(), Error> {
        self.advance(ENDED)
    }

    fn advance(&self, end: u32) -> Result<(), Error> {
        self.shared.end.fetch_max(end, Ordering::AcqRel);
        self.tell_kernel(0)
    }

    /// What the kernel has counted so far. Takes some microseconds.
    pub fn counters(&self) -> Result<KernelCounters, Error> {
        KernelCounters::read(&self.shared.counters).map_err(|source| Error::Map {
            map: "COUNTERS",
            source,
        })
    }

    /// The processes that filled the ring, those first that put most into it while more than an eighth of it was full.
    pub fn ring_users(&self) -> Vec<RingUser> {
        let users = self.shared.shares.iter().flatten();
        let mut users: Vec<_> = users.map(|(pid, share)| RingUser::of(pid, &share.0)).collect();
        users.sort_by_key(|user| (u64::MAX - user.filled_bytes, user.pid));
        users
    }

    /// Records of the ring that this version does not understand. Always 0 unless the object
    /// was overridden.
    pub fn undecodable_records(&self) -> u64 {
        self.shared.undecodable.load(Ordering::Relaxed)
    }

    /// Processes that events came from; `None` when there were more than are remembered.
    pub fn heard(&self) -> Option<HashSet<u32>> {
        let heard = lock(&self.shared.heard);
        (heard.len() < HEARD).then(|| heard.clone())
    }

    /// Processes that connected, or listened, and ended before the probes stood in the file with TLS that
    /// they executed: what they sent was not seen.
    pub fn too_short(&self) -> u64 {
        self.shared.too_short.load(Ordering::Relaxed)
    }

    pub(crate) fn count_too_short(&self) {
        self.shared.too_short.fetch_add(1, Ordering::Relaxed);
    }

    /// Processes whose program has TLS that cannot be captured: those among the processes that are captured, or
    /// that connected while the whole host was.
    pub fn not_captured(&self) -> u64 {
        self.shared.not_captured.load(Ordering::Relaxed)
    }

    /// Records and bytes of payload of processes that are excluded.
    pub fn excluded(&self) -> (u64, u64) {
        let [records, bytes] = self.shared.excluded.each_ref();
        (records.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn count_excluded(&self, bytes: u64) {
        self.shared.excluded[0].fetch_add(1, Ordering::Relaxed);
        self.shared.excluded[1].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Programs among the processes that are captured that could not be inspected before the end: they may have TLS that
    /// cannot be captured.
    pub fn not_inspected(&self) -> u64 {
        self.shared.not_inspected.load(Ordering::Relaxed)
    }

    pub(crate) fn count_not_inspected(&self, programs: u64) {
        self.shared.not_inspected.fetch_add(programs, Ordering::Relaxed);
    }

    pub(crate) fn count_not_captured(&self) {
        self.shared.not_captured.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a new file of a program found no room among those that wait to be looked into.
    pub fn files_without_room(&self) -> u64 {
        self.shared.files_without_room.load(Ordering::Relaxed)
    }

    pub(crate) fn count_without_room(&self) {
        self.shared.files_without_room.fetch_add(1, Ordering::Relaxed);
    }

    /// Files of programs that were beyond the bounds of what is read of a file, or damaged.
    pub fn files_given_up(&self) -> u64 {
        self.shared.files_given_up.load(Ordering::Relaxed)
    }

    /// Counts one more; gives how many they are with it.
    pub(crate) fn count_given_up(&self) -> u64 {
        self.shared.files_given_up.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The connections whose first bytes may be missing.
    pub fn late_connections(&self) -> LateConnections {
        lock(&self.shared.late).clone()
    }

    /// Counts a connection whose first bytes may be missing.
    pub(crate) fn count_late(&self, data: &DataEvent, reason: JoinedLate) {
        lock(&self.shared.late).count(data, reason);
    }

    /// Remembers a process that events come from.
    pub(crate) fn hear(&self, pid: u32) {
        let mut heard = lock(&self.shared.heard);
        if heard.len() < HEARD {
            heard.insert(pid);
        }
    }

    /// Forgets a process that has ended: its number goes to another one.
    pub(crate) fn forget(&self, pid: u32) {
        lock(&self.shared.heard).remove(&pid);
    }

    /// Lets a process through, with its threads; see [`crate::Processes::Set`].
    pub fn add_pid(&self, pid: u32) -> Result<(), Error> {
        lock(&self.shared.pids)
            .insert(pid, 1, 0)
            .map_err(|source| Error::Map { map: "PIDS", source })
    }

    /// No longer lets a process through. A process that is not in the set is no error.
    pub fn remove_pid(&self, pid: u32) -> Result<(), Error> {
        match lock(&self.shared.pids).remove(&pid) {
            Ok(()) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::Map { map: "PIDS", source }),
        }
    }

    /// Whether [`Self::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.shared.end.load(Ordering::Acquire) != 0
    }

    /// Asks the kernel to wake the reader with the next record. It forgets this by itself.
    pub(crate) fn reader_waits(&self) -> Result<(), Error> {
        self.tell_kernel(1)
    }

    /// Whom [`Self::stop`] wakes.
    pub(crate) fn register_reader(&self, waker: &std::task::Waker) {
        self.shared.reader.register(waker);
    }

    /// Counts payload records that were taken out of the ring.
    pub(crate) fn count_read(&self, records: u64, bytes: u64) {
        self.shared.read[0].fetch_add(records, Ordering::Relaxed);
        self.shared.read[1].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Payload records, and their bytes, that are in the ring, as far as `counters` know. The records of ended
    /// connections that are there, too, lose nothing.
    pub fn left_in_ring(&self, counters: &KernelCounters) -> (u64, u64) {
        let put = [counters.data_records, counters.data_bytes];
        let read = self
            .shared
            .read
            .each_ref()
            .map(|read| read.load(Ordering::Relaxed));
        (put[0].saturating_sub(read[0]), put[1].saturating_sub(read[1]))
    }

    pub(crate) fn count_undecodable(&self) {
        self.shared.undecodable.fetch_add(1, Ordering::Relaxed);
    }

    fn tell_kernel(&self, reader_waits: u32) -> Result<(), Error> {
        let mut map = lock(&self.shared.control);
        // A reader that begins to wait must not undo a stop; both hold the lock.
        let end = self.shared.end.load(Ordering::Acquire);
        map.set(0, ControlValue(Control { end, reader_waits }), 0)
            .map_err(|source| Error::Map {
                map: "CONTROL",
                source,
            })
    }
}

/// A map of the loaded object as `T`.
pub(crate) fn take_map<T>(
    ebpf: &mut Ebpf,
    name: &'static str,
    convert: impl FnOnce(Map) -> Result<T, MapError>,
) -> Result<T, Error> {
    let map = ebpf
        .take_map(name)
        .ok_or(Error::ObjectIncomplete { what: "map", name })?;
    convert(map).map_err(|source| Error::Map { map: name, source })
}

/// The maps stay usable after a panic elsewhere: they hold no invariant of ours.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

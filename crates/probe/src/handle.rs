//! Control of a running capture, from anywhere.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use ecapture_ebpf::config::{self, ENDED, STOPPED};
use ecapture_ebpf::share::Share;
use ecapture_protocols::Comm;
use futures_util::task::AtomicWaker;

use crate::filters::{Filters, Places};
use crate::find::facts::Facts;
use crate::find::survey::Survey;
use crate::map::take_map;
use crate::{Error, KernelCounters, Tally, proc};

/// [`config::Control`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct ControlValue(config::Control);

// SAFETY: `config::Control` is `repr(C)`, has only integer fields and no padding.
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
    control: Arc<Control>,
    tally: Arc<Tally>,
}

/// The maps by which a capture is controlled.
struct Control {
    state: Mutex<Array<MapData, ControlValue>>,
    pids: Mutex<HashMap<MapData, u32, u32>>,
    counters: PerCpuArray<MapData, u64>,
    shares: HashMap<MapData, u32, ShareValue>,
    /// As in [`config::Control::end`].
    end: AtomicU32,
    /// As in [`config::Control::place`].
    place: AtomicU32,
    /// With filters that may change.
    places: Option<Mutex<Places>>,
    /// Attaches to the files that a process executes.
    search: OnceLock<Box<dyn Fn(u32) + Send + Sync>>,
    reader: AtomicWaker,
}

impl CaptureHandle {
    /// Takes its maps out of the loaded object.
    /// `live`: the filters may change.
    pub(crate) fn new(ebpf: &mut Ebpf, facts: Facts, live: bool) -> Result<Self, Error> {
        let state = take_map(ebpf, "CONTROL", Array::try_from)?;
        let pids = take_map(ebpf, "PIDS", HashMap::try_from)?;
        let counters = take_map(ebpf, "COUNTERS", PerCpuArray::try_from)?;
        let ring_shares = take_map(ebpf, "SHARES", HashMap::try_from)?;
        let control = Control {
            state: Mutex::new(state),
            pids: Mutex::new(pids),
            counters,
            shares: ring_shares,
            end: AtomicU32::new(0),
            place: AtomicU32::new(0),
            search: OnceLock::new(),
            places: live.then(|| Places::new(ebpf).map(Mutex::new)).transpose()?,
            reader: AtomicWaker::new(),
        };
        Ok(Self {
            control: Arc::new(control),
            tally: Arc::new(Tally::new(facts)),
        })
    }

    /// Captures nothing new from now on. What is already in the ring is still delivered, and what calls in
    /// progress move that return soon, then the stream of events ends. May be called more than once.
    pub fn stop(&self) -> Result<(), Error> {
        let stopped = self.advance(STOPPED);
        self.control.reader.wake();
        stopped
    }

    /// Captures nothing at all from now on.
    pub(crate) fn end(&self) -> Result<(), Error> {
        self.advance(ENDED)
    }

    fn advance(&self, end: u32) -> Result<(), Error> {
        self.control.end.fetch_max(end, Ordering::AcqRel);
        self.tell_kernel(0)
    }

    /// Reads the kernel's counters. Takes some microseconds.
    pub fn counters(&self) -> Result<KernelCounters, Error> {
        KernelCounters::read(&self.control.counters).map_err(|source| Error::Map {
            map: "COUNTERS",
            source,
        })
    }

    /// The processes that filled the ring, those first that put most into it while more than an eighth of it was full.
    pub fn ring_users(&self) -> Vec<RingUser> {
        let users = self.control.shares.iter().flatten();
        let mut users: Vec<_> = users.map(|(pid, share)| RingUser::of(pid, &share.0)).collect();
        users.sort_by_key(|user| (u64::MAX - user.filled_bytes, user.pid));
        users
    }

    /// Reports the processes that were running when the capture began, as events, if facts are wanted.
    pub fn surveyed(&self, survey: &Survey) {
        self.tally.facts().surveyed(survey);
    }

    /// The tally of this program, beside the kernel's counters.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Lets a process through, with its threads; see [`crate::Processes::Set`].
    pub fn add_pid(&self, pid: u32) -> Result<(), Error> {
        let place = self.control.place.load(Ordering::Acquire);
        lock(&self.control.pids)
            .insert(pid, 1 << place, 0)
            .map_err(|source| Error::Map { map: "PIDS", source })
    }

    /// No longer lets a process through. A process that is not in the set is not an error.
    pub fn remove_pid(&self, pid: u32) -> Result<(), Error> {
        match lock(&self.control.pids).remove(&pid) {
            Ok(()) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::Map { map: "PIDS", source }),
        }
    }

    /// The filters in force, if they may change.
    pub fn filters(&self) -> Option<Filters> {
        let places = self.control.places.as_ref()?;
        lock(places).in_force().cloned()
    }

    /// Captures under other filters from now on: all of them are switched at once. After an error the old ones are
    /// in force. An error without [`CaptureConfig::live`](crate::CaptureConfig::live).
    pub fn change_filters(&self, filters: &Filters) -> Result<(), Error> {
        let places = self.control.places.as_ref().ok_or(Error::FixedFilters)?;
        let mut places = lock(places);
        let mut pids = lock(&self.control.pids);
        let place = places.prepare(filters, &mut pids)?;
        let before = self.control.place.swap(place, Ordering::AcqRel);
        // The reader may be waiting; being woken once without need does no harm.
        if let Err(error) = self.tell_kernel(1) {
            self.control.place.store(before, Ordering::Release);
            return Err(error);
        }
        places.switched(place, filters, &mut pids)
    }

    /// Attaches to the files with TLS that these processes execute, where that is not done yet; to those of all
    /// processes for `None`. Returns when it is done. Nothing is found without
    /// [`Capture::discover`](crate::Capture::discover).
    pub fn attach_to(&self, processes: Option<&[u32]>) {
        let Some(search) = self.control.search.get() else {
            return;
        };
        match processes {
            Some(pids) => pids.iter().for_each(|pid| search(*pid)),
            None => proc::pids().into_iter().for_each(search),
        }
    }

    /// Sets the search that [`Self::attach_to`] makes in each process.
    pub(crate) fn search_with(&self, search: impl Fn(u32) + Send + Sync + 'static) {
        // A capture discovers once.
        let _discovers_already = self.control.search.set(Box::new(search));
    }

    /// Returns true if [`Self::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.control.end.load(Ordering::Acquire) != 0
    }

    /// Asks the kernel to wake the reader with the next record. It forgets this by itself.
    pub(crate) fn reader_waits(&self) -> Result<(), Error> {
        self.tell_kernel(1)
    }

    /// Registers the task that [`Self::stop`] wakes.
    pub(crate) fn register_reader(&self, waker: &std::task::Waker) {
        self.control.reader.register(waker);
    }

    fn tell_kernel(&self, reader_waits: u32) -> Result<(), Error> {
        let mut map = lock(&self.control.state);
        // A reader that begins to wait must not undo a stop; both hold the lock.
        let end = self.control.end.load(Ordering::Acquire);
        map.set(
            0,
            ControlValue(config::Control {
                end,
                reader_waits,
                place: self.control.place.load(Ordering::Acquire),
            }),
            0,
        )
        .map_err(|source| Error::Map {
            map: "CONTROL",
            source,
        })
    }
}

/// The maps stay usable after a panic elsewhere: they hold no invariant of ours.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

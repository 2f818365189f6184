//! Where the events of a replay are that a decoder holds back: a response is printed at the place
//! of the event that completed it, although it had to wait for the notice of its request.

use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;

use crate::messages::WorkerId;

/// The times and numbers of the held events of all Workers of one Arbiter. Only a replay needs them.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<HashMap<WorkerId, Vec<(u64, u64)>>>);

impl Places {
    /// Nothing that runs under the lock panics.
    fn all(&self) -> MutexGuard<'_, HashMap<WorkerId, Vec<(u64, u64)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the event `sequence` from `timestamp_ns` is held back, at least in part.
    pub(super) fn note(&self, worker: WorkerId, timestamp_ns: u64, sequence: u64) {
        self.all()
            .entry(worker)
            .or_default()
            .push((timestamp_ns, sequence));
    }

    /// Returns true if the Worker holds events back.
    pub(super) fn hold(&self, worker: WorkerId) -> bool {
        self.all().contains_key(&worker)
    }

    /// Returns the number of the latest held event from `timestamp_ns`.
    pub(super) fn sequence(&self, worker: WorkerId, timestamp_ns: u64) -> Option<u64> {
        let all = self.all();
        let mut held = all.get(&worker)?.iter().rev();
        held.find(|held| held.0 == timestamp_ns).map(|held| held.1)
    }

    /// Forgets the events of a Worker that holds none back.
    pub(super) fn forget(&self, worker: WorkerId) {
        self.all().remove(&worker);
    }
}

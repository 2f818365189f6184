//! Filters that change while a capture runs.
//!
//! The kernel has two places for them. The next filters are prepared in the place that is not in force, and one
//! write switches all of them at once: a call is captured under the old filters or under the new ones, and what
//! both let through is never missed. A call that began under the old ones is captured when it returns.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::{Array, CgroupArray, HashMap, MapData, MapError};
use ecapture_ebpf::config::{self, FILTER_CGROUP, FILTER_PID_SET, FILTER_UID, FOLLOW_CHILDREN, PLACES};

use crate::Error;
use crate::host::cgroup;
use crate::map::take_map;
use crate::proc::{self, process};

/// The processes whose calls are captured; see
/// [`CaptureHandle::change_filters`](crate::CaptureHandle::change_filters).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters {
    /// Only these processes, with all their threads; `None`: all.
    pub processes: Option<Vec<u32>>,
    /// Also the children of these processes, those that run and those that start later.
    pub follow_children: bool,
    /// Only threads with this real user id.
    pub uid: Option<u32>,
    /// Only processes in the cgroup of this folder (version 2) or below it.
    pub cgroup: Option<PathBuf>,
}

/// [`config::Filters`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct FiltersValue(config::Filters);

// SAFETY: `config::Filters` is `repr(C)`, has only integer fields and no padding.
#[expect(unsafe_code, reason = "aya asks for this promise about map values")]
unsafe impl aya::Pod for FiltersValue {}

/// Only entries that are there are changed (`BPF_EXIST` of include/uapi/linux/bpf.h).
const BPF_EXIST: u64 = 2;

/// The processes of `PIDS`: for each the places whose filters let it through.
pub(crate) type Pids = HashMap<MapData, u32, u32>;

/// The maps that the filters are in.
pub(crate) struct Places {
    filters: Array<MapData, FiltersValue>,
    groups: CgroupArray<MapData>,
    in_force: u32,
    last: Option<Filters>,
}

impl Places {
    /// Takes the maps out of the loaded object.
    pub(crate) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            filters: take_map(ebpf, "FILTERS", Array::try_from)?,
            groups: take_map(ebpf, "CGROUPS", CgroupArray::try_from)?,
            in_force: 0,
            last: None,
        })
    }

    /// The filters in force.
    pub(crate) fn in_force(&self) -> Option<&Filters> {
        self.last.as_ref()
    }

    /// Prepares filters in the place that is not in force. What is in force stays as it is, also after an error.
    /// Returns the place.
    pub(crate) fn prepare(&mut self, filters: &Filters, pids: &mut Pids) -> Result<u32, Error> {
        let folder = filters.open()?;
        let next = (self.in_force + 1) % PLACES;
        let prepared = self.fill(next, filters, folder, pids);
        if prepared.is_err() {
            leave(pids, next)?;
        }
        prepared.map(|()| next)
    }

    /// The filters of `place` are in force now.
    pub(crate) fn switched(&mut self, place: u32, filters: &Filters, pids: &mut Pids) -> Result<(), Error> {
        let before = self.in_force;
        self.in_force = place;
        self.last = Some(filters.clone());
        // Children that were started before the switch by a process that the old filters did not follow.
        if filters.follow_children {
            join_descendants(pids, filters.processes.as_deref().unwrap_or_default(), place)?;
        }
        leave(pids, before)
    }

    fn fill(
        &mut self,
        place: u32,
        filters: &Filters,
        folder: Option<File>,
        pids: &mut Pids,
    ) -> Result<(), Error> {
        let mut value = config::Filters::default();
        if let Some(uid) = filters.uid {
            value.filters |= FILTER_UID;
            value.uid = uid;
        }
        if let Some(folder) = folder {
            value.filters |= FILTER_CGROUP;
            self.groups.set(place, folder, 0).map_err(error("CGROUPS"))?;
        }
        if let Some(processes) = &filters.processes {
            value.filters |= FILTER_PID_SET;
            if filters.follow_children {
                value.filters |= FOLLOW_CHILDREN;
            }
            if self
                .last
                .as_ref()
                .is_some_and(|last| last.has_same_processes(filters))
            {
                keep(pids, self.in_force, place)?;
            } else {
                join(pids, processes, place)?;
            }
        }
        self.filters
            .set(place, FiltersValue(value), 0)
            .map_err(error("FILTERS"))
    }
}

impl Filters {
    /// Returns an error if they cannot be in force, because there is no such process or cgroup.
    pub fn check(&self) -> Result<(), Error> {
        self.open().map(|_| ())
    }

    fn open(&self) -> Result<Option<File>, Error> {
        let mut processes = self.processes.iter().flatten();
        if let Some(&pid) = processes.find(|pid| !proc::exists(**pid)) {
            return Err(Error::NoProcess { pid });
        }
        Ok(self.cgroup.as_deref().map(cgroup::open).transpose()?)
    }

    fn has_same_processes(&self, other: &Self) -> bool {
        (&self.processes, self.follow_children) == (&other.processes, other.follow_children)
    }
}

/// Adds all processes of one place to the set of another, with those that they start in the meantime.
fn keep(pids: &mut Pids, from: u32, to: u32) -> Result<(), Error> {
    loop {
        let is_missing = |(_, places): &(u32, u32)| places >> from & 1 != 0 && places >> to & 1 == 0;
        let missing: Vec<_> = pids.iter().flatten().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        for (pid, places) in missing {
            still_there(pids.insert(pid, places | 1 << to, BPF_EXIST))?;
        }
    }
}

/// The kernel removes processes that end.
fn still_there(changed: Result<(), MapError>) -> Result<(), Error> {
    match changed {
        Err(MapError::SyscallError(failed)) if failed.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        changed => changed.map_err(error("PIDS")),
    }
}

/// Adds processes to the set of a place.
fn join<'pid>(pids: &mut Pids, new: impl IntoIterator<Item = &'pid u32>, place: u32) -> Result<(), Error> {
    for pid in new {
        let places = pids.get(pid, 0).unwrap_or(0) | 1 << place;
        pids.insert(pid, places, 0).map_err(error("PIDS"))?;
    }
    Ok(())
}

/// Adds the processes that these have started, until no new ones are found.
fn join_descendants(pids: &mut Pids, parents: &[u32], place: u32) -> Result<(), Error> {
    let mut known = BTreeSet::new();
    loop {
        let found = process::descendants(parents);
        if found.is_subset(&known) {
            return Ok(());
        }
        join(pids, found.difference(&known), place)?;
        known.extend(found);
    }
}

/// Empties the set of a place.
fn leave(pids: &mut Pids, place: u32) -> Result<(), Error> {
    let members: Vec<_> = pids.iter().flatten().collect();
    for (pid, places) in members {
        let rest = places & !(1 << place);
        let changed = match rest {
            0 => pids.remove(&pid),
            rest => pids.insert(pid, rest, BPF_EXIST),
        };
        still_there(changed)?;
    }
    Ok(())
}

fn error(map: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map { map, source }
}

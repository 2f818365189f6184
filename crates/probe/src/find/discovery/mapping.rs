//! The files that a process executes, from `/proc/PID`.

use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ecapture_ebpf::discovery::{EVENT_EXECUTED, FileRecord};

use super::Executor;
use crate::file::library::Located;
use crate::find::target;
use crate::limits;
use crate::proc;
use crate::proc::maps::{Mapping, Maps};

/// The name of a record's file, or its path when it was executed; cut where the record cuts it.
pub(super) fn name(record: &FileRecord) -> &[u8] {
    until_zero(&record.name)
}

/// The process of a record.
pub(super) fn executor(record: &FileRecord) -> Executor {
    Executor {
        pid: record.pid,
        command: String::from_utf8_lossy(until_zero(&record.comm)).into_owned(),
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// A file that a process executes, and which was not opened for reading.
#[derive(Debug)]
pub(super) struct Sighting {
    pub(super) process: Executor,
    pub(super) located: Located,
    /// Leads to the very file as long as the process executes it.
    reached: PathBuf,
    /// As the process sees it.
    shown: PathBuf,
}

/// The outcome of the search for a record's file.
pub(super) enum Sought {
    Found(Box<Sighting>),
    /// The process does not execute it, not yet or not any more.
    Absent,
    /// The process has mapped so much that it takes long to find.
    Long,
}

impl Sighting {
    /// The file of a record, when its process still executes it. At most `most` bytes of the list of its
    /// mappings are read.
    pub(super) fn of(record: &FileRecord, most: u64) -> Sought {
        let process = executor(record);
        if record.event == EVENT_EXECUTED {
            return Self::program(process)
                .map_or(Sought::Absent, |sighting| Sought::Found(Box::new(sighting)));
        }
        let Ok(maps) = Maps::read(record.pid, most) else {
            return Sought::Absent;
        };
        let name = name(record);
        let mut same_name = maps.files().filter(|mapping| mapping.name().starts_with(name));
        let found = same_name.next().map(|first| {
            // Some file systems show another number here.
            if first.inode.number == record.file.inode {
                first
            } else {
                same_name
                    .find(|mapping| mapping.inode.number == record.file.inode)
                    .unwrap_or(first)
            }
        });
        match found.map(|mapping| Self::mapped(&mapping, process)) {
            Some(Ok(sighting)) => Sought::Found(Box::new(sighting)),
            None if maps.cut => Sought::Long,
            None | Some(Err(_)) => Sought::Absent,
        }
    }

    /// The file of a record whose process has ended, if it is still at the path that `execve` was
    /// given.
    pub(super) fn by_path(record: &FileRecord) -> Option<Self> {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(name(record)));
        if record.event != EVENT_EXECUTED || !path.is_absolute() {
            return None;
        }
        let sighting = Self::at(path, executor(record)).ok()?;
        let metadata = sighting.located.metadata();
        let is_same = (metadata.ino(), metadata.len()) == (record.file.inode, record.file.size);
        is_same.then_some(sighting)
    }

    /// The file at a path that the user gave, whoever executes it.
    pub(super) fn at(path: PathBuf, process: Executor) -> io::Result<Self> {
        Ok(Self {
            process,
            located: Located::at(&path)?,
            reached: path.clone(),
            shown: path,
        })
    }

    /// Every file that a process executes now, one after the other.
    pub(super) fn all(pid: u32, mut look: impl FnMut(Self)) {
        let (Ok(command), Ok(maps)) = (proc::command(pid), Maps::read(pid, limits::MAPS_BYTES)) else {
            return;
        };
        if maps.cut {
            tracing::warn!(
                "{command} ({pid}) has more mappings than can be listed: the rest was not inspected"
            );
        }
        let process = Executor { pid, command };
        let mut inodes = HashSet::new();
        for mapping in maps.executed() {
            if inodes.insert(mapping.inode)
                && let Ok(sighting) = Self::mapped(&mapping, process.clone())
            {
                look(sighting);
            }
        }
        if let Some(program) = Self::program(process) {
            look(program);
        }
    }

    fn program(process: Executor) -> Option<Self> {
        let reached = proc::executable(process.pid);
        Some(Self {
            located: Located::at(&reached).ok()?,
            shown: proc::Program::of(process.pid).ok()?.path,
            process,
            reached,
        })
    }

    fn mapped(mapping: &Mapping<'_>, process: Executor) -> io::Result<Self> {
        Ok(Self {
            located: mapping.locate(process.pid)?,
            reached: mapping.link(process.pid),
            shown: mapping.path(),
            process,
        })
    }

    /// Its path as the process sees it.
    pub(super) fn shown(&self) -> &Path {
        &self.shown
    }

    /// A path to show, which leads to the file from here when there is such a path.
    pub(super) fn path(&self) -> PathBuf {
        target::plain_path(&self.reached, &self.located)
            .unwrap_or_else(|| proc::inside(self.process.pid, &self.shown))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn this_process_executes_its_program_once() {
        let own = fs::canonicalize("/proc/self/exe").unwrap();
        let mut paths = Vec::new();
        Sighting::all(std::process::id(), |sighting| paths.push(sighting.path()));
        // Once as a mapping and once as the program.
        assert_eq!(paths.iter().filter(|path| **path == own).count(), 2);
    }
}

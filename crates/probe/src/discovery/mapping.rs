//! What a process executes, from `/proc/PID` (kernel documentation, `filesystems/proc.rst`).

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ecapture_ebpf::discovery::{EVENT_EXECUTED, FileRecord};

use super::Executor;
use crate::target;

/// The name of a record's file, or its path when it was executed; cut where the record cuts it.
pub(super) fn name(record: &FileRecord) -> String {
    text(&record.name)
}

/// The process of a record.
pub(super) fn executor(record: &FileRecord) -> Executor {
    Executor {
        pid: record.pid,
        command: text(&record.comm),
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A file that a process executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) process: Executor,
    /// Leads to the very file, also when it was deleted or is in another mount namespace.
    pub(super) reached: PathBuf,
    /// As the process sees it.
    pub(super) shown: PathBuf,
}

impl Sighting {
    /// The file of a record, when its process still executes it.
    pub(super) fn of(record: &FileRecord) -> Option<Self> {
        let process = executor(record);
        if record.event == EVENT_EXECUTED {
            return Self::program(process);
        }
        let maps = fs::read_to_string(format!("/proc/{}/maps", record.pid)).ok()?;
        let name = name(record);
        let mut same_name = maps
            .lines()
            .filter_map(Mapping::read)
            .filter(|mapping| mapping.name().as_bytes().starts_with(name.as_bytes()));
        let first = same_name.next()?;
        // Some file systems show another number here.
        let mapping = if first.inode == record.file.inode {
            first
        } else {
            same_name
                .find(|mapping| mapping.inode == record.file.inode)
                .unwrap_or(first)
        };
        Some(mapping.sighting(process))
    }

    /// The file of a record whose process has ended, when it is still where `execve` was told that it is.
    pub(super) fn by_path(record: &FileRecord) -> Option<Self> {
        let path = PathBuf::from(name(record));
        if record.event != EVENT_EXECUTED || !path.is_absolute() {
            return None;
        }
        let metadata = fs::metadata(&path).ok()?;
        let is_same = (metadata.ino(), metadata.len()) == (record.file.inode, record.file.size);
        is_same.then(|| Self {
            process: executor(record),
            reached: path.clone(),
            shown: path,
        })
    }

    /// Every file that a process executes now.
    pub(super) fn all(pid: u32) -> Vec<Self> {
        let Ok(command) = fs::read_to_string(format!("/proc/{pid}/comm")) else {
            return Vec::new();
        };
        let process = Executor {
            pid,
            command: command.trim_end().to_owned(),
        };
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let mut inodes = HashSet::new();
        let libraries = maps
            .lines()
            .filter_map(Mapping::read)
            .filter(|mapping| mapping.executable && inodes.insert((mapping.device, mapping.inode)));
        let libraries = libraries.map(|mapping| mapping.sighting(process.clone()));
        libraries.chain(Self::program(process.clone())).collect()
    }

    fn program(process: Executor) -> Option<Self> {
        let reached = PathBuf::from(format!("/proc/{}/exe", process.pid));
        let shown = fs::read_link(&reached).ok()?;
        Some(Self {
            process,
            reached,
            shown,
        })
    }

    /// A path for people, that leads to the file from here when there is such a path.
    pub(super) fn path(&self) -> PathBuf {
        target::plain_path(&self.reached).unwrap_or_else(|| {
            let inside = self.shown.strip_prefix("/").unwrap_or(&self.shown);
            Path::new(&format!("/proc/{}/root", self.process.pid)).join(inside)
        })
    }
}

/// A line of `/proc/PID/maps` with a file.
struct Mapping<'maps> {
    range: &'maps str,
    executable: bool,
    device: &'maps str,
    inode: u64,
    path: &'maps str,
}

impl<'maps> Mapping<'maps> {
    fn read(line: &'maps str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let range = fields.next()?;
        let executable = fields.next()?.contains('x');
        let device = fields.nth(1)?;
        let inode = fields.next()?.parse().ok().filter(|&inode| inode != 0)?;
        let path = fields.next()?.trim_start();
        Some(Self {
            range,
            executable,
            device,
            inode,
            path: path.strip_suffix(" (deleted)").unwrap_or(path),
        })
    }

    fn name(&self) -> &'maps str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    fn sighting(&self, process: Executor) -> Sighting {
        Sighting {
            reached: PathBuf::from(format!("/proc/{}/map_files/{}", process.pid, self.range)),
            shown: PathBuf::from(self.path),
            process,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_file_is_read() {
        let line = "7f00-7f10 r-xp 0001f000 fe:00 1234    /opt/a b/libssl-9f.so.3 (deleted)";
        let mapping = Mapping::read(line).unwrap();
        assert_eq!(
            (mapping.range, mapping.device, mapping.inode),
            ("7f00-7f10", "fe:00", 1234)
        );
        assert!(mapping.executable);
        assert_eq!(mapping.name(), "libssl-9f.so.3");
        assert_eq!(mapping.path, "/opt/a b/libssl-9f.so.3");
        assert!(Mapping::read("7f00-7f10 rw-p 00000000 00:00 0 ").is_none());
        assert!(Mapping::read("7f00-7f10 rw-p 00000000 00:00 0     [heap]").is_none());
    }

    #[test]
    fn this_process_executes_its_program_once() {
        let own = fs::canonicalize("/proc/self/exe").unwrap();
        let sightings = Sighting::all(std::process::id());
        let reached = sightings.iter().map(Sighting::path);
        // Once as a mapping and once as the program.
        assert_eq!(reached.filter(|path| *path == own).count(), 2);
    }
}

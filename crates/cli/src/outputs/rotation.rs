//! When a file is rotated, how the old one is called then, and how many are kept.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ecapture_probe::local_time;
use ecapture_protocols::format::push_local_time;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::geteuid;
use tokio::time::Instant;

/// Time from a rotation that failed to the next try.
const RETRY: Duration = Duration::from_secs(1);
/// Names that are tried for a rotated file, a millisecond apart.
const NAMES: i64 = 1000;
/// The form of the time in the name of a rotated file: any digits in the places of these.
const STAMP: &[u8] = b"2006-01-02T15-04-05.000";

/// When a file is rotated, and how many rotated ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rotation {
    /// Bytes that a file has at most; only a single record may be larger.
    pub(crate) size: Option<u64>,
    /// From the first record of a file.
    pub(crate) age: Option<Duration>,
    /// Rotated files; all, unless it is given.
    pub(crate) keep: Option<usize>,
}

/// The clock by which files age.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum FileClock {
    /// The runtime's.
    #[default]
    Runtime,
    /// For tests: one that advances by this much each time it is read.
    Steps(Duration),
}

/// Decides when one file is rotated.
#[derive(Debug)]
pub(super) struct Rotator {
    rotation: Rotation,
    clock: FileClock,
    now: Instant,
    /// When the file got its first record.
    since: Option<Instant>,
    /// The last rotation failed.
    retry_at: Option<Instant>,
    /// The time in the name of the last rotated file, in milliseconds: names are in the order of rotation.
    last_stamp: i64,
}

impl Rotator {
    pub(super) fn new(rotation: Rotation, clock: FileClock) -> Self {
        Self {
            rotation,
            clock,
            now: Instant::now(),
            since: None,
            retry_at: None,
            last_stamp: 0,
        }
    }

    /// Returns true if the file has to be looked at while nothing is written.
    pub(super) fn has_age(&self) -> bool {
        self.rotation.age.is_some()
    }

    /// Returns true if the file, of `size` bytes, is to be rotated before the next `bytes` are written.
    pub(super) fn is_due(&mut self, size: u64, bytes: usize) -> bool {
        self.now = match self.clock {
            FileClock::Runtime => Instant::now(),
            FileClock::Steps(step) => self.now + step,
        };
        let Some(since) = self.since else {
            return false;
        };
        let is_full = !self.fits(size, bytes);
        let is_old = self.rotation.age.is_some_and(|age| self.now - since >= age);
        (is_full || is_old) && self.retry_at.is_none_or(|retry| self.now >= retry)
    }

    /// Returns true if a file of `size` bytes has room for `bytes` more. One that could not be rotated has.
    pub(super) fn fits(&self, size: u64, bytes: usize) -> bool {
        let limit = self.rotation.size.filter(|_| self.retry_at.is_none());
        limit.is_none_or(|limit| size + bytes as u64 <= limit)
    }

    /// The file has records now.
    pub(super) fn has_records(&mut self) {
        self.since.get_or_insert(self.now);
    }

    /// The file is another one, without records.
    pub(super) fn begin(&mut self) {
        self.since = None;
        self.retry_at = None;
    }

    /// The rotation failed. Returns true when that is news.
    pub(super) fn fail(&mut self) -> bool {
        self.retry_at.replace(self.now + RETRY).is_none()
    }

    /// Renames the file to what it is called when it is rotated. Replaces nothing.
    pub(super) fn move_away(&mut self, path: &Path) -> io::Result<PathBuf> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let first = now.max(self.last_stamp + 1);
        for stamp in first..first + NAMES {
            let rotated = rotated_name(path, stamp);
            match rename(path, &rotated) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.last_stamp = stamp;
                    return Ok(rotated);
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Removes the oldest rotated files of this name, until no more are left than are kept.
    pub(super) fn remove_oldest(&self, path: &Path) -> io::Result<()> {
        let Some(keep) = self.rotation.keep else {
            return Ok(());
        };
        let mut rotated = rotated_files(path)?;
        rotated.sort();
        let surplus = rotated.len().saturating_sub(keep);
        rotated[..surplus]
            .iter()
            .try_for_each(|(_, file)| fs::remove_file(file))
    }
}

/// As rename(2), but an error when there is something of the new name.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // Not every file system can do that in one step.
        Err(Errno::EINVAL | Errno::ENOSYS) if fs::symlink_metadata(to).is_err() => fs::rename(from, to),
        Err(Errno::EINVAL | Errno::ENOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        renamed => Ok(renamed?),
    }
}

/// `name-2006-01-02T15-04-05.000.ext`, in local time, as the original's.
fn rotated_name(path: &Path, milliseconds: i64) -> PathBuf {
    let utc_offset_s = local_time::utc_offset_s(milliseconds.div_euclid(1000));
    let mut time = Vec::new();
    push_local_time(milliseconds.saturating_mul(1_000_000), utc_offset_s, &mut time);
    let stamp = String::from_utf8_lossy(&time[..STAMP.len()]).replace(':', "-");
    let (stem, extension) = name_parts(path);
    let mut name = stem.to_owned();
    name.push("-");
    name.push(stamp);
    name.push(extension);
    path.with_file_name(name)
}

/// The name up to its last dot, and from there on.
fn name_parts(path: &Path) -> (&OsStr, OsString) {
    let stem = path.file_stem().unwrap_or_default();
    let mut extension = OsString::new();
    if let Some(found) = path.extension() {
        extension.push(".");
        extension.push(found);
    }
    (stem, extension)
}

/// The rotated files of this name that are this user's, with the time of their last change.
fn rotated_files(path: &Path) -> io::Result<Vec<((i64, i64), PathBuf)>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let (stem, extension) = name_parts(path);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let stamp = name
            .as_bytes()
            .strip_prefix(stem.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"-"))
            .and_then(|rest| rest.strip_suffix(extension.as_bytes()));
        if !stamp.is_some_and(is_stamp) {
            continue;
        }
        let metadata = entry.metadata()?;
        if metadata.is_file() && metadata.uid() == geteuid().as_raw() {
            found.push(((metadata.mtime(), metadata.mtime_nsec()), entry.path()));
        }
    }
    Ok(found)
}

fn is_stamp(text: &[u8]) -> bool {
    let is_like = |(byte, model): (&u8, &u8)| {
        if model.is_ascii_digit() {
            byte.is_ascii_digit()
        } else {
            byte == model
        }
    };
    text.len() == STAMP.len() && text.iter().zip(STAMP).all(is_like)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn rotator(rotation: Rotation) -> Rotator {
        Rotator::new(rotation, FileClock::Steps(Duration::from_secs(1)))
    }

    #[test]
    fn a_file_is_full_before_it_would_exceed_its_size() {
        let mut rotator = rotator(Rotation {
            size: Some(10),
            ..Rotation::default()
        });
        assert!(!rotator.is_due(0, 100), "the only record of a file may be larger");
        rotator.has_records();
        assert!(!rotator.is_due(4, 6));
        assert!(rotator.is_due(4, 7));
    }

    #[test]
    fn an_age_is_that_of_the_first_record() {
        let mut rotator = rotator(Rotation {
            age: Some(Duration::from_secs(3)),
            ..Rotation::default()
        });
        for _ in 0..10 {
            assert!(!rotator.is_due(0, 1), "without a record it has no age");
        }
        rotator.has_records();
        assert_eq!([(); 4].map(|()| rotator.is_due(1, 1)), [false, false, true, true]);
        rotator.begin();
        assert!(!rotator.is_due(0, 1));
    }

    #[test]
    fn a_rotation_that_failed_is_tried_again_later_and_takes_everything_until_then() {
        let rotation = Rotation {
            size: Some(10),
            ..Rotation::default()
        };
        let mut rotator = Rotator::new(rotation, FileClock::Steps(RETRY / 4));
        rotator.has_records();
        assert!(rotator.is_due(10, 1));
        assert!(rotator.fail(), "news");
        assert!(rotator.fits(10, 1000));
        assert_eq!(
            [(); 4].map(|()| rotator.is_due(10, 1)),
            [false, false, false, false]
        );
    }

    #[test]
    fn names_are_in_order_and_replace_nothing() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("events.tar.jsonl");
        let mut rotator = rotator(Rotation::default());
        let mut names = Vec::new();
        for content in 0..20 {
            fs::write(&path, content.to_string()).unwrap();
            names.push(rotator.move_away(&path).unwrap());
        }
        assert!(names.is_sorted());
        for (content, name) in names.iter().enumerate() {
            assert_eq!(fs::read_to_string(name).unwrap(), content.to_string());
            let name = name.file_name().unwrap().to_str().unwrap();
            let stamp = name
                .strip_prefix("events.tar-")
                .and_then(|rest| rest.strip_suffix(".jsonl"));
            assert!(is_stamp(stamp.unwrap().as_bytes()), "{name}");
        }
        // What is there keeps its name.
        fs::write(&path, "new").unwrap();
        let error = rename(&path, &names[0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn only_the_oldest_rotated_files_of_this_name_are_removed() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("events.jsonl");
        let others = [
            "events.jsonl",
            "events-2026-01-02T03-04-05.006.jsonl.gz",
            "events-2026-01-02T03-04-05.jsonl",
            "other-2026-01-02T03-04-05.006.jsonl",
            "events-backup.jsonl",
        ];
        let rotated = |number: u32| {
            folder
                .path()
                .join(format!("events-2026-01-02T03-04-05.00{number}.jsonl"))
        };
        for name in others {
            fs::write(folder.path().join(name), "").unwrap();
        }
        for number in 0..5 {
            fs::write(rotated(number), "").unwrap();
        }
        let rotator = rotator(Rotation {
            keep: Some(2),
            ..Rotation::default()
        });
        rotator.remove_oldest(&path).unwrap();
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
        assert_eq!(
            [0, 1, 2, 3, 4].map(|number| rotated(number).exists()),
            [false, false, false, true, true]
        );
    }
}

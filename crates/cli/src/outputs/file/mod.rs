//! A file, or a device or named pipe that has a path. Files are appended to, opened again on request, and
//! rotated.

mod chained;
mod document;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ecapture_actors::{Resumption, SinkWriter, Unwritten};
use nix::libc::O_NONBLOCK;

pub(super) use chained::ChainedFile;
pub(super) use document::DocumentFile;

use super::beginning::Beginning;
use super::rotation::{self, FileClock, Rotation, Rotator};
use crate::private_file::{self, Replacement};

/// How often a file that is rotated by age is looked at while nothing is written.
const LOOKING: Duration = Duration::from_secs(1);

/// What is special about a file.
#[derive(Debug, Default)]
pub(crate) struct FileOptions {
    /// What is there is replaced when the run begins.
    pub(crate) replaces: bool,
    /// Every record is one or more lines.
    pub(crate) has_lines: bool,
    /// What stands at the beginning of every file.
    pub(crate) beginning: Beginning,
    /// A reader cannot do with a part of a record: what is left of one is cut off at the end.
    pub(crate) whole_records: bool,
    pub(crate) rotation: Option<Rotation>,
    /// Its lines are a chain.
    pub(crate) chain: bool,
    pub(crate) clock: FileClock,
}

pub(super) struct FileOutput {
    path: PathBuf,
    file: File,
    /// It is not a device or a pipe.
    is_regular: bool,
    has_lines: bool,
    /// Empties the file with the first write.
    replacement: Option<Replacement>,
    /// Its length at the last failure.
    broke_at: u64,
    /// The next record is not the continuation of what the file ends with.
    within_a_line: bool,
    beginning: Beginning,
    /// The file can only be continued from its beginning: it is a whole, not a list of records.
    replaces: bool,
    /// The next record is the fixed beginning of a file, and what is repeated follows it.
    begins: bool,
    whole_records: bool,
    /// Bytes of a record that the file ends with and whose rest is not written.
    partial: u64,
    /// Bytes in the file, as far as they are ours.
    size: u64,
    rotator: Option<Rotator>,
    /// How often it became another file.
    generation: u64,
}

impl FileOutput {
    /// Opens it to append to it, or to replace what is there.
    pub(super) fn open(path: &Path, options: FileOptions) -> io::Result<Self> {
        let replacement = options.replaces.then(|| Replacement::open(path)).transpose()?;
        let file = match &replacement {
            Some(replacement) => replacement.file()?,
            None => private_file::append(path)?,
        };
        let metadata = file.metadata()?;
        let mut path = path.to_owned();
        let mut rotator = None;
        if let Some(rotation) = options.rotation {
            if !metadata.is_file() {
                return Err(io::Error::other("only a regular file can be rotated"));
            }
            // A link to the file would be renamed in place of the file.
            path = fs::canonicalize(&path)?;
            rotator = Some(Rotator::new(rotation, options.clock));
        }
        let mut output = Self {
            is_regular: metadata.is_file(),
            within_a_line: options.has_lines && replacement.is_none() && ends_within_a_line(&path),
            has_lines: options.has_lines,
            path,
            file,
            replaces: options.replaces,
            begins: !options.beginning.is_empty(),
            beginning: options.beginning,
            whole_records: options.whole_records,
            partial: 0,
            size: if replacement.is_some() { 0 } else { metadata.len() },
            replacement,
            broke_at: 0,
            rotator,
            generation: 0,
        };
        output.note_records();
        Ok(output)
    }

    /// It is not a device or a pipe.
    pub(super) const fn is_regular(&self) -> bool {
        self.is_regular
    }

    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(replacement) = self.replacement.take() {
            self.file = replacement.begin()?;
        }
        if self.within_a_line {
            self.file.write_all(b"\n")?;
            self.within_a_line = false;
            self.size += 1;
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        self.note_records();
        Ok(written)
    }

    fn note_records(&mut self) {
        if let Some(rotator) = &mut self.rotator
            && self.size > self.beginning.len()
        {
            rotator.has_records();
        }
    }

    /// True when `other` is the same file and nobody has cut it since the failure. What is no regular
    /// file, such as a named pipe, has another reader by now.
    fn is_continued_by(&self, other: &File) -> io::Result<bool> {
        let other = other.metadata()?;
        Ok(self.is_same(&other)? && other.len() >= self.broke_at)
    }

    fn is_same(&self, other: &Metadata) -> io::Result<bool> {
        let own = self.file.metadata()?;
        Ok(own.is_file() && (own.dev(), own.ino()) == (other.dev(), other.ino()))
    }

    /// Notes which of `records` were begun with the `written` bytes, and how much of the last one is written.
    fn note(&mut self, records: Unwritten<'_>, written: usize) {
        let (mut start, mut begun) = (0, records.begun());
        for record in records.records() {
            if start >= written {
                break;
            }
            if begun == 0 {
                self.beginning.note(record);
            }
            let end = start + record.len();
            self.partial = if end > written {
                (begun + written - start) as u64
            } else {
                0
            };
            (start, begun) = (end, 0);
        }
    }

    /// Bytes of `records` that may be written before the file is rotated: whole records, at least one.
    fn fitting(&self, records: Unwritten<'_>) -> usize {
        let all = records.bytes().len();
        match &self.rotator {
            Some(rotator) if !rotator.fits(self.size, all) => {
                let mut lengths = records.records().map(<[u8]>::len);
                let first = lengths.next().unwrap_or(0);
                lengths
                    .scan(first, |sum, length| {
                        *sum += length;
                        Some(*sum)
                    })
                    .take_while(|&sum| rotator.fits(self.size, sum))
                    .last()
                    .unwrap_or(first)
            }
            _ => all,
        }
    }

    /// Rotates the file if it is full or old. If that is not possible, it goes on growing.
    pub(super) fn rotate_if_due(&mut self, bytes: usize) {
        let size = self.size;
        if !self
            .rotator
            .as_mut()
            .is_some_and(|rotator| rotator.is_due(size, bytes))
        {
            return;
        }
        match self.rotate() {
            Ok(()) => {}
            Err(error) => {
                if self.rotator.as_mut().is_some_and(Rotator::fail) {
                    tracing::warn!(
                        "{} cannot be rotated and keeps growing; trying again every second: {error}",
                        self.path.display()
                    );
                }
            }
        }
    }

    /// The new file is open before the old one is closed.
    fn rotate(&mut self) -> io::Result<()> {
        // Somebody else may have renamed it.
        let is_in_place =
            fs::symlink_metadata(&self.path).is_ok_and(|found| self.is_same(&found).unwrap_or(false));
        if !is_in_place {
            return self.open_again().map(|_| ());
        }
        let Some(rotator) = &mut self.rotator else {
            return Ok(());
        };
        let rotated = rotator.move_away(&self.path)?;
        let beginning = self.next_beginning();
        let file = private_file::create(&self.path).and_then(|file| match (&file).write_all(&beginning) {
            Ok(()) => Ok(file),
            Err(error) => {
                fs::remove_file(&self.path)?;
                Err(error)
            }
        });
        match file {
            Ok(file) => self.adopt(file, beginning.len() as u64),
            Err(error) => {
                // If it fails, the records are where they are: in the file with the other name.
                let _moved_back = rotation::rename(&rotated, &self.path);
                return Err(error);
            }
        }
        tracing::debug!("{} was rotated to {}", self.path.display(), rotated.display());
        if let Some(rotator) = &self.rotator
            && let Err(error) = rotator.remove_oldest(&self.path)
        {
            tracing::warn!("old files of {} cannot be removed: {error}", self.path.display());
        }
        Ok(())
    }

    /// The first bytes of the next file, unless they are the next record.
    fn next_beginning(&self) -> Vec<u8> {
        if self.begins {
            Vec::new()
        } else {
            self.beginning.bytes()
        }
    }

    /// Goes on in the file to which the path leads now. Returns false if it is the same.
    fn open_again(&mut self) -> io::Result<bool> {
        let mut file = private_file::append(&self.path)?;
        let metadata = file.metadata()?;
        if self.is_same(&metadata)? {
            return Ok(false);
        }
        let size = metadata.len();
        if self.replaces && size > 0 {
            return Err(io::Error::other(
                "a file of that name has content that cannot be appended to",
            ));
        }
        let mut beginning = Vec::new();
        if self.has_lines && ends_within_a_line(&self.path) {
            beginning.push(b'\n');
        }
        beginning.extend_from_slice(&self.next_beginning());
        if let Err(error) = file.write_all(&beginning) {
            file.set_len(size)?;
            return Err(error);
        }
        self.adopt(file, size + beginning.len() as u64);
        self.within_a_line = false;
        Ok(true)
    }

    fn adopt(&mut self, file: File, size: u64) {
        self.cut_partial_record();
        self.file = file;
        self.size = size;
        self.generation += 1;
        if let Some(rotator) = &mut self.rotator {
            rotator.begin();
        }
        self.note_records();
    }
}

impl FileOutput {
    /// As after a full disk.
    fn cut_partial_record(&mut self) {
        let partial = std::mem::take(&mut self.partial);
        if partial == 0 || !self.whole_records || !self.is_regular {
            return;
        }
        let cut = self
            .file
            .metadata()
            .and_then(|file| self.file.set_len(file.len().saturating_sub(partial)));
        if let Err(error) = cut {
            tracing::warn!("{} ends with a part of a record: {error}", self.path.display());
        }
    }
}

impl Drop for FileOutput {
    fn drop(&mut self) {
        self.cut_partial_record();
    }
}

impl SinkWriter for FileOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes).map_err(|error| {
            self.broke_at = self.file.metadata().map_or(0, |file| file.len());
            self.named(&error)
        })
    }

    fn write_records(&mut self, records: Unwritten<'_>) -> io::Result<usize> {
        if records.begun() == 0 {
            self.rotate_if_due(records.records().next().map_or(0, <[u8]>::len));
        }
        let fitting = if self.begins {
            records.records().next().map_or(0, <[u8]>::len)
        } else {
            self.fitting(records)
        };
        let written = self.write(&records.bytes()[..fitting])?;
        self.note(records, written);
        if self.begins && written == fitting {
            self.begins = false;
            let mut repeated = Vec::new();
            self.beginning.write_repeated(&mut repeated);
            self.file
                .write_all(&repeated)
                .map_err(|error| self.named(&error))?;
            self.size += repeated.len() as u64;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.named(&error))
    }

    /// The path may lead to another file by now, or the file may have been emptied to make room.
    fn reopen(&mut self) -> io::Result<Resumption> {
        let file = open_file_again(&self.path).map_err(|error| self.named(&error))?;
        let is_same = self.is_continued_by(&file)?;
        let size = file.metadata()?.len();
        if is_same {
            self.file = file;
            self.size = size;
            return Ok(Resumption::SamePlace);
        }
        self.adopt(file, size);
        self.begins = true;
        self.within_a_line = self.has_lines && ends_within_a_line(&self.path);
        Ok(Resumption::NewPlace)
    }

    fn renew(&mut self) {
        if !self.is_regular || self.replacement.is_some() {
            return;
        }
        let path = self.path.display().to_string();
        match self.open_again() {
            Ok(true) => tracing::info!("{path} was reopened"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(
                    "{path} cannot be reopened; writing continues in the file that had that name: {error}"
                );
            }
        }
    }

    fn tending_interval(&self) -> Option<Duration> {
        let has_age = self.rotator.as_ref().is_some_and(Rotator::has_age);
        has_age.then_some(LOOKING)
    }

    fn tend(&mut self) -> io::Result<()> {
        self.rotate_if_due(0);
        Ok(())
    }
}

/// As [`private_file::append`], but a named pipe without a reader is an error instead of a long wait.
fn open_file_again(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        let mut without_waiting = OpenOptions::new();
        without_waiting.write(true).custom_flags(O_NONBLOCK);
        // Held while the pipe is opened once more, for writes that wait.
        let _reader_is_there = without_waiting.open(path)?;
        return private_file::append(path);
    }
    private_file::append(path)
}

/// True when a run before this one could not complete its last line. Of what is no regular file, or may
/// not be read, nothing is known.
fn ends_within_a_line(path: &Path) -> bool {
    let last_byte = || -> io::Result<u8> {
        let mut last = [0];
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    path.is_file() && last_byte().is_ok_and(|last| last != b'\n')
}

//! A file, appended to or replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ecapture_actors::{Resumption, SinkWriter};
use nix::libc::O_NONBLOCK;

use crate::private_file::{self, Replacement};

pub(super) struct FileOutput {
    path: PathBuf,
    file: File,
    /// Empties the file with the first write.
    replacement: Option<Replacement>,
    /// Its length at the last failure.
    broke_at: u64,
    /// The next record is not the continuation of what the file ends with.
    within_a_line: bool,
}

impl FileOutput {
    /// Opens it to append to it, or to replace what is there.
    pub(super) fn open(path: &Path, replaces: bool) -> io::Result<Self> {
        let replacement = replaces.then(|| Replacement::open(path)).transpose()?;
        Ok(Self {
            path: path.to_owned(),
            file: match &replacement {
                Some(replacement) => replacement.file()?,
                None => private_file::append(path)?,
            },
            within_a_line: replacement.is_none() && ends_within_a_line(path),
            replacement,
            broke_at: 0,
        })
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
        }
        self.file.write(bytes)
    }

    /// True when `other` is the same file and nobody has cut it since the failure. What is no regular
    /// file, such as a named pipe, has another reader by now.
    fn is_continued_by(&self, other: &File) -> io::Result<bool> {
        let (own, other) = (self.file.metadata()?, other.metadata()?);
        let place = |file: &fs::Metadata| (file.dev(), file.ino());
        Ok(own.is_file() && place(&own) == place(&other) && other.len() >= self.broke_at)
    }
}

impl SinkWriter for FileOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes).map_err(|error| {
            self.broke_at = self.file.metadata().map_or(0, |file| file.len());
            self.named(&error)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.named(&error))
    }

    /// The path may lead to another file by now, or the file may have been emptied to make room.
    fn reopen(&mut self) -> io::Result<Resumption> {
        let file = open_file_again(&self.path).map_err(|error| self.named(&error))?;
        let is_same = self.is_continued_by(&file)?;
        self.file = file;
        if is_same {
            return Ok(Resumption::SamePlace);
        }
        self.within_a_line = ends_within_a_line(&self.path);
        Ok(Resumption::NewPlace)
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

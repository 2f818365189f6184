//! A file whose lines are a chain ([`crate::chain`]).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ecapture_actors::{Resumption, SinkWriter as _, Taken, Target, Unwritten};

use super::{FileOptions, FileOutput};
use crate::chain::{self, Chain};

/// Longest last line of a file that is appended to; a body may be in it.
const LAST_LINE_BYTES: usize = 256 * 1024 * 1024;

/// Records are taken whole, because what is written of each is longer than the record.
pub(in crate::outputs) struct ChainedFile {
    path: PathBuf,
    file: FileOutput,
    chain: Chain,
    /// What every file begins with, as lines of the chain.
    beginning: Vec<u8>,
    /// The number of the file that has its beginning.
    generation: u64,
    /// The lines of the record that was taken last, as they are in the file.
    lines: Vec<u8>,
    /// How much of them is written.
    written: usize,
    /// Bytes of that record.
    record: u64,
}

impl ChainedFile {
    /// Opens it to append to it: its last line is the one that the chain goes on from.
    pub(in crate::outputs) fn open(path: &Path, mut options: FileOptions) -> io::Result<Self> {
        let beginning = std::mem::take(&mut options.beginning).bytes();
        let file = FileOutput::open(path, options)?;
        if !file.is_regular() {
            return Err(io::Error::other(
                "only the lines of a regular file can be a chain",
            ));
        }
        let last = chain::last_line(&mut File::open(path)?, LAST_LINE_BYTES)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            beginning,
            generation: 0,
            chain: last.map_or_else(Chain::default, |line| Chain::after(&line)),
            lines: Vec::new(),
            written: 0,
            record: 0,
        })
    }

    /// Writes what is left of the lines that were taken before.
    fn complete(&mut self) -> io::Result<()> {
        while self.written < self.lines.len() {
            match self.file.write(&self.lines[self.written..])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.written += written,
            }
        }
        Ok(())
    }

    fn link(&mut self, record: &[u8]) {
        let lines = record.split(|&byte| byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            self.chain.add(line, &mut self.lines);
        }
    }

    fn link_beginning(&mut self) {
        let beginning = std::mem::take(&mut self.beginning);
        self.link(&beginning);
        self.beginning = beginning;
    }

    /// Writes the lines of a record. After an error they count as taken if a part of them is in the file, which
    /// the next call completes, and otherwise not.
    fn add(&mut self, record: &[u8]) -> io::Result<()> {
        let before = (self.chain, self.generation);
        self.lines.clear();
        self.written = 0;
        self.record = record.len() as u64;
        self.link(record);
        self.file.rotate_if_due(self.lines.len());
        if self.generation != self.file.generation && record != self.beginning {
            (self.chain, _) = before;
            self.lines.clear();
            self.link_beginning();
            self.link(record);
        }
        self.generation = self.file.generation;
        match self.complete() {
            Err(error) if self.written == 0 => {
                (self.chain, self.generation) = before;
                self.lines.clear();
                Err(error)
            }
            // The next call meets the same error.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Target for ChainedFile {
    fn write(&mut self, records: Unwritten<'_>) -> io::Result<Taken> {
        self.complete()?;
        let mut taken = 0;
        for record in records.records() {
            match self.add(record) {
                Ok(()) => taken += record.len(),
                Err(error) if taken == 0 => return Err(error),
                Err(_) => break,
            }
            if self.written < self.lines.len() {
                break;
            }
        }
        Ok(Taken::written(taken))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.complete()?;
        self.file.flush()
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        let resumption = self.file.reopen()?;
        if resumption == Resumption::NewPlace {
            self.written = 0;
            // It is the next record.
            self.generation = self.file.generation;
        }
        Ok(resumption)
    }

    fn renew(&mut self) {
        self.file.renew();
    }

    fn tending_interval(&self) -> Option<Duration> {
        self.file.tending_interval()
    }

    fn tend(&mut self) -> io::Result<()> {
        self.complete()?;
        self.file.tend()
    }

    fn finish(&mut self) -> u64 {
        let path = self.path.display().to_string();
        if self.complete().is_err() {
            return self.record;
        }
        self.lines.clear();
        self.written = 0;
        if self.generation != self.file.generation {
            self.link_beginning();
        }
        self.chain.close(&mut self.lines);
        match self.complete().and_then(|()| self.file.flush()) {
            Ok(()) => tracing::info!(
                "{path}: line {} closes the chain; its hash is {}: keep it elsewhere for `ecapture verify --last`",
                self.chain.lines(),
                self.chain.last()
            ),
            Err(error) => tracing::warn!("{path}: the line that closes the chain is not written: {error}"),
        }
        0
    }
}

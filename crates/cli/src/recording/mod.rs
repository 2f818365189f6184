//! Recorded event streams on disk: recordings of events, and captures of packets.

mod error;
mod packets;
mod reader;

use std::fs::{File, Metadata};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ecapture_protocols::{CapturedEvent, dissect::Tally, pcapng};

pub use error::RecordingError;
use packets::Packets;
use reader::Lines;

/// Events per batch: what one read of the kernel's ring delivers under load.
const BATCH_EVENTS: usize = 256;
/// Payload bytes after which a batch ends, so that batches that are read ahead are bounded in bytes.
const BATCH_BYTES: usize = 1024 * 1024;

/// What became of the packets of a capture; set when all of it was read.
pub(crate) type PacketFigures = Arc<OnceLock<Tally>>;

/// A recording being read.
#[derive(Debug)]
pub struct Recording(Source);

#[derive(Debug)]
enum Source {
    /// Events, one per line.
    Lines(Box<Lines>),
    /// Packets.
    Packets(Box<Packets>),
}

impl Recording {
    /// Opens `path` and determines the format from its first bytes.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Self::with_key_logs(path, &[])
    }

    /// The same for a capture of packets, with the key logs that decrypt it.
    pub fn with_key_logs(path: &Path, key_logs: &[PathBuf]) -> Result<Self, RecordingError> {
        let io = |source| RecordingError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let mut input = BufReader::with_capacity(256 * 1024, file);
        let source = if pcapng::is_capture(input.fill_buf().map_err(io)?) {
            Source::Packets(Box::new(Packets::begin(path, input, key_logs)?))
        } else if key_logs.is_empty() {
            Source::Lines(Box::new(Lines::begin(path, input)?))
        } else {
            return Err(RecordingError::NoPackets {
                path: path.to_owned(),
            });
        };
        Ok(Self(source))
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Source::Lines(lines) => lines.path(),
            Source::Packets(packets) => packets.path(),
        }
    }

    /// Of the opened file.
    pub fn metadata(&self) -> io::Result<Metadata> {
        match &self.0 {
            Source::Lines(lines) => lines.metadata(),
            Source::Packets(packets) => packets.metadata(),
        }
    }

    /// Wall clock minus kernel clock, when the recording says it.
    pub fn wall_clock_offset_ns(&self) -> Option<i64> {
        match &self.0 {
            Source::Lines(lines) => lines.wall_clock_offset_ns(),
            // Packets have the time of the wall clock.
            Source::Packets(_) => Some(0),
        }
    }

    /// What becomes of its packets, if it has packets.
    pub(crate) fn packet_figures(&self) -> Option<PacketFigures> {
        match &self.0 {
            Source::Lines(_) => None,
            Source::Packets(packets) => Some(packets.figures()),
        }
    }
}

impl Iterator for Recording {
    type Item = Result<Vec<CapturedEvent>, RecordingError>;

    /// The next batch. An error ends the recording; the events before it are delivered first.
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Lines(lines) => lines.next(),
            Source::Packets(packets) => packets.next(),
        }
    }
}

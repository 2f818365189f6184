//! Reads a capture of packets as batches of events.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use ecapture_protocols::CapturedEvent;
use ecapture_protocols::dissect::Capture;
use ecapture_protocols::pcapng::{Block, Reader, SecretsType, Step};

use super::{BATCH_BYTES, BATCH_EVENTS, PacketFigures, RecordingError};

/// Bytes that are read from the file at once.
const READ_BYTES: usize = 256 * 1024;
/// Largest key log that is read.
const KEY_LOG_BYTES: u64 = 1 << 30;

/// A capture being read.
#[derive(Debug)]
pub(super) struct Packets {
    file: Blocks,
    capture: Capture,
    /// Events of packets that were read, not delivered yet.
    events: VecDeque<CapturedEvent>,
    failed: Option<RecordingError>,
    damaged_blocks: u64,
    ended: bool,
    figures: PacketFigures,
}

impl Packets {
    pub(super) fn begin(
        path: &Path,
        input: BufReader<File>,
        key_logs: &[PathBuf],
    ) -> Result<Self, RecordingError> {
        let mut capture = Capture::default();
        for key_log in key_logs {
            add_key_log(&mut capture, key_log)?;
        }
        let mut file = Blocks::new(path, input);
        // Secrets decrypt what is before them as well, where the file can be read twice.
        if file.input.get_ref().metadata().is_ok_and(|file| file.is_file()) {
            add_secrets(&mut capture, &mut file);
            file = file.again()?;
            capture.put_in_order();
        }
        Ok(Self {
            file,
            capture,
            events: VecDeque::new(),
            failed: None,
            damaged_blocks: 0,
            ended: false,
            figures: PacketFigures::default(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.input.get_ref().metadata()
    }

    pub(super) fn figures(&self) -> PacketFigures {
        PacketFigures::clone(&self.figures)
    }

    /// Reads until there are events for a batch, or to the end.
    fn fill(&mut self) {
        let (mut events, mut bytes) = (Vec::new(), 0);
        while !self.ended && self.events.len() + events.len() < BATCH_EVENTS && bytes < BATCH_BYTES {
            let before = events.len();
            let capture = &mut self.capture;
            let damaged = &mut self.damaged_blocks;
            let went_on = self.file.read(|block| match block {
                Block::Packet(packet) => capture.packet(&packet, &mut events),
                Block::Secrets {
                    kind: SecretsType::TLS_KEY_LOG,
                    secrets,
                } => {
                    capture.add_keys(secrets);
                }
                Block::Damaged(_) => *damaged += 1,
                _ => {}
            });
            bytes += payload_bytes(&events[before..]);
            match went_on {
                Ok(true) => {}
                Ok(false) => self.finish(&mut events),
                Err(error) => {
                    self.failed = Some(error);
                    self.finish(&mut events);
                }
            }
        }
        self.events.extend(events);
    }

    fn finish(&mut self, events: &mut Vec<CapturedEvent>) {
        self.ended = true;
        let rest = self.file.buffer.len() - self.file.taken;
        if rest > 0 && self.failed.is_none() {
            tracing::warn!(
                "{} ends in the middle of a block: its last {rest} bytes are not read",
                self.file.path.display()
            );
        }
        let mut tally = self.capture.finish(events);
        tally.damaged += self.damaged_blocks;
        // Set once: the end comes once.
        let _set = self.figures.set(tally);
    }
}

impl Iterator for Packets {
    type Item = Result<Vec<CapturedEvent>, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.events.len() < BATCH_EVENTS {
            self.fill();
        }
        let mut batch = Vec::with_capacity(BATCH_EVENTS.min(self.events.len()));
        let mut bytes = 0;
        while batch.len() < BATCH_EVENTS
            && bytes < BATCH_BYTES
            && let Some(event) = self.events.pop_front()
        {
            bytes += payload_bytes(std::slice::from_ref(&event));
            batch.push(event);
        }
        if batch.is_empty() {
            self.failed.take().map(Err)
        } else {
            Some(Ok(batch))
        }
    }
}

fn payload_bytes(events: &[CapturedEvent]) -> usize {
    let bytes: u64 = events.iter().map(CapturedEvent::payload_bytes).sum();
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The blocks of a file.
#[derive(Debug)]
struct Blocks {
    path: PathBuf,
    input: BufReader<File>,
    reader: Reader,
    buffer: Vec<u8>,
    /// Bytes at the beginning of the buffer that were read.
    taken: usize,
    /// Bytes of the file before the buffer.
    before: u64,
}

impl Blocks {
    fn new(path: &Path, input: BufReader<File>) -> Self {
        Self {
            path: path.to_owned(),
            input,
            reader: Reader::default(),
            buffer: Vec::new(),
            taken: 0,
            before: 0,
        }
    }

    /// From the beginning of the file.
    fn again(mut self) -> Result<Self, RecordingError> {
        self.input.rewind().map_err(|source| RecordingError::Io {
            path: self.path.clone(),
            source,
        })?;
        Ok(Self::new(&self.path, self.input))
    }

    /// Hands over the next block. False at the end of the file.
    fn read(&mut self, take: impl FnOnce(Block<'_>)) -> Result<bool, RecordingError> {
        loop {
            let offset = self.before + self.taken as u64;
            let needed = match self.reader.read(&self.buffer[self.taken..]) {
                Ok(Step::Block { length, block }) => {
                    take(block);
                    self.taken += length;
                    return Ok(true);
                }
                Ok(Step::Need(needed)) => needed,
                Err(source) => {
                    return Err(RecordingError::Capture {
                        path: self.path.clone(),
                        offset,
                        source,
                    });
                }
            };
            if !self.read_on(needed)? {
                return Ok(false);
            }
        }
    }

    /// Reads more of the file, until there are `needed` bytes or it ends. False if it ended before.
    fn read_on(&mut self, needed: usize) -> Result<bool, RecordingError> {
        self.buffer.drain(..self.taken);
        self.before += self.taken as u64;
        self.taken = 0;
        while self.buffer.len() < needed {
            let wanted = (needed - self.buffer.len()).max(READ_BYTES) as u64;
            let read = (&mut self.input).take(wanted).read_to_end(&mut self.buffer);
            let read = read.map_err(|source| RecordingError::Io {
                path: self.path.clone(),
                source,
            })?;
            if read == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Adds the secrets of the whole file. What is wrong with it is said when it is read for its packets.
fn add_secrets(capture: &mut Capture, file: &mut Blocks) {
    let mut is_more = true;
    while is_more {
        let read = file.read(|block| {
            if let Block::Secrets {
                kind: SecretsType::TLS_KEY_LOG,
                secrets,
            } = block
            {
                capture.add_keys(secrets);
            }
        });
        is_more = read.unwrap_or(false);
    }
}

fn add_key_log(capture: &mut Capture, path: &Path) -> Result<(), RecordingError> {
    let io = |source| RecordingError::Io {
        path: path.to_owned(),
        source,
    };
    let mut lines = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(KEY_LOG_BYTES).read_to_end(&mut lines).map_err(io)?;
    let added = capture.add_keys(&lines);
    if added.secrets == 0 {
        return Err(RecordingError::NoSecrets {
            path: path.to_owned(),
        });
    }
    if added.malformed > 0 {
        tracing::warn!(
            "{}: {} lines are not of a key log",
            path.display(),
            added.malformed
        );
    }
    if added.refused > 0 {
        tracing::warn!(
            "{}: {} secrets beyond the limit are not used",
            path.display(),
            added.refused
        );
    }
    Ok(())
}

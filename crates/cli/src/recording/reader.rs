//! Reads a recording of lines, the product's own or the original's, as batches of events.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ecapture_protocols::CapturedEvent;
use ecapture_protocols::recording::line::{self, Header};
use ecapture_protocols::recording::{LineError, original::OriginalLine};
use nix::libc;

use super::{BATCH_BYTES, BATCH_EVENTS, RecordingError};

/// Longest line accepted; a line holds one event of at most 16 KiB.
const LINE_BYTES: u64 = 1024 * 1024;
/// Largest payload file of the original's format, whose events have at most 16 KiB.
const PAYLOAD_BYTES: u64 = 1024 * 1024;

/// How each line of `--format jsonl` begins.
const MESSAGE: &[u8] = b"{\"v\":";

#[derive(Debug)]
enum LineFormat {
    Own,
    Original { delay_ns: u64 },
}

/// A recording being read.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    input: BufReader<File>,
    buffer: Vec<u8>,
    line: u64,
    format: LineFormat,
    header: Option<Header>,
    /// The first line when it was an event and not a header.
    first: Option<CapturedEvent>,
    /// An error met after events of the same batch.
    failed: Option<RecordingError>,
    ended: bool,
}

impl Lines {
    /// Determines the format from the first line.
    pub(super) fn begin(path: &Path, input: BufReader<File>) -> Result<Self, RecordingError> {
        let mut recording = Self {
            path: path.to_owned(),
            input,
            buffer: Vec::new(),
            line: 0,
            format: LineFormat::Own,
            header: None,
            first: None,
            failed: None,
            ended: false,
        };
        recording.read_first_line()?;
        Ok(recording)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn metadata(&self) -> std::io::Result<std::fs::Metadata> {
        self.input.get_ref().metadata()
    }

    /// Wall clock minus kernel clock, when the recording says it.
    pub(super) fn wall_clock_offset_ns(&self) -> Option<i64> {
        self.header?.wall_clock_offset_ns
    }

    fn read_first_line(&mut self) -> Result<(), RecordingError> {
        let read = self.read_line();
        // Before the length is looked at: a message may be longer than any event.
        if self.buffer.starts_with(MESSAGE) {
            return Err(RecordingError::Messages {
                path: self.path.clone(),
            });
        }
        if !read? {
            return Err(RecordingError::Empty {
                path: self.path.clone(),
            });
        }
        self.header = Header::parse(&self.buffer).map_err(|source| self.line_error(source))?;
        if self.header.is_none() {
            self.format = LineFormat::Original { delay_ns: 0 };
            self.first = Some(self.event()?);
        }
        Ok(())
    }

    /// The next event, `None` at the end of the file.
    fn next_event(&mut self) -> Result<Option<CapturedEvent>, RecordingError> {
        if let Some(event) = self.first.take() {
            return Ok(Some(event));
        }
        while self.read_line()? {
            if !self.buffer.trim_ascii().is_empty() {
                return self.event().map(Some);
            }
        }
        Ok(None)
    }

    /// Reads one line into the buffer; false at the end of the file.
    fn read_line(&mut self) -> Result<bool, RecordingError> {
        self.buffer.clear();
        self.line += 1;
        let mut limited = (&mut self.input).take(LINE_BYTES + 1);
        let read = limited
            .read_until(b'\n', &mut self.buffer)
            .map_err(|source| RecordingError::Io {
                path: self.path.clone(),
                source,
            })?;
        if read as u64 > LINE_BYTES {
            return Err(RecordingError::LineTooLong {
                path: self.path.clone(),
                line: self.line,
            });
        }
        Ok(read > 0)
    }

    fn event(&mut self) -> Result<CapturedEvent, RecordingError> {
        match self.format {
            LineFormat::Own => line::parse(&self.buffer).map_err(|source| self.line_error(source)),
            LineFormat::Original { delay_ns } => {
                let parsed = OriginalLine::parse(&self.buffer).map_err(|source| self.line_error(source))?;
                let delay_ns = delay_ns.saturating_add(parsed.delay_ns());
                self.format = LineFormat::Original { delay_ns };
                let payload = self.payload(&parsed)?;
                parsed
                    .event(payload, delay_ns)
                    .map_err(|source| self.line_error(source))
            }
        }
    }

    fn payload(&self, line: &OriginalLine) -> Result<Bytes, RecordingError> {
        let Some(name) = line.payload_file() else {
            return Ok(Bytes::new());
        };
        let path = self.path.with_file_name(name);
        let io = |source| RecordingError::Io {
            path: path.clone(),
            source,
        };
        let file = open_payload(&path).map_err(io)?;
        let mut payload = Vec::new();
        let expected = line.payload_len();
        file.take(PAYLOAD_BYTES.min(expected))
            .read_to_end(&mut payload)
            .map_err(io)?;
        if expected > payload.len() as u64 {
            // The original's own test data has such files.
            tracing::warn!(
                "{}: expected {expected} bytes according to the recording, observed {}",
                path.display(),
                payload.len()
            );
        }
        Ok(Bytes::from(payload))
    }

    fn line_error(&self, source: LineError) -> RecordingError {
        RecordingError::Line {
            path: self.path.clone(),
            line: self.line,
            source,
        }
    }
}

/// Opens a payload file. Whoever made the recording chose what is there: a link may lead to any
/// file of the reader, a FIFO would never end.
fn open_payload(path: &Path) -> std::io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(std::io::Error::other("expected a regular file"))
    }
}

impl Iterator for Lines {
    type Item = Result<Vec<CapturedEvent>, RecordingError>;

    /// The next batch. An error ends the recording; the events before it are delivered first.
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            self.ended = true;
            return Some(Err(error));
        }
        let mut batch = Vec::with_capacity(BATCH_EVENTS);
        let mut bytes = 0;
        while batch.len() < BATCH_EVENTS && bytes < BATCH_BYTES && !self.ended && self.failed.is_none() {
            match self.next_event() {
                Ok(Some(event)) => {
                    if let CapturedEvent::Data(data) = &event {
                        bytes += data.payload.len();
                    }
                    batch.push(event);
                }
                Ok(None) => self.ended = true,
                Err(error) => self.failed = Some(error),
            }
        }
        match (batch.is_empty(), self.failed.is_some()) {
            (false, _) => Some(Ok(batch)),
            (true, true) => self.next(),
            (true, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::recording::Recording;

    fn read(path: &Path) -> Result<Vec<CapturedEvent>, RecordingError> {
        let batches: Result<Vec<_>, _> = Recording::open(path)?.collect();
        Ok(batches?.concat())
    }

    const ORIGINAL: &str = r#"{"DataType":1,"Timestamp":20,"Pid":7,"Tid":8,"DataLen":3,"Comm":[99,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"Fd":5,"Version":772}"#;

    #[test]
    fn the_original_format_takes_its_payload_from_the_file_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, format!("{ORIGINAL}\n\n")).unwrap();
        assert!(matches!(read(&path), Err(RecordingError::Io { path, .. }) if path.ends_with("20.bin")));
        fs::write(folder.path().join("20.bin"), "ab").unwrap();
        let events = read(&path).unwrap();
        assert!(matches!(&events[..], [CapturedEvent::Data(event)] if event.payload == "ab"));
        fs::write(folder.path().join("20.bin"), "abcd").unwrap();
        let events = read(&path).unwrap();
        assert!(matches!(&events[..], [CapturedEvent::Data(event)] if event.payload == "abc"));
    }

    /// A file of zeros that takes no room on the disk; a link to a file of the reader; a FIFO.
    #[test]
    fn payload_files_are_regular_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let payload = folder.path().join("20.bin");
        let line = ORIGINAL.replace("\"DataLen\":3", "\"DataLen\":2000000000");
        fs::write(&path, format!("{line}\n").repeat(1000)).unwrap();
        File::create(&payload).unwrap().set_len(1 << 40).unwrap();
        let batch = Recording::open(&path).unwrap().next().unwrap().unwrap();
        let lengths = batch.iter().map(|event| match event {
            CapturedEvent::Data(event) => event.payload.len(),
            CapturedEvent::Close { .. } => 0,
            CapturedEvent::Observed(observed) => {
                usize::try_from(observed.fact.payload_bytes()).expect("bytes in memory")
            }
        });
        assert!(lengths.sum::<usize>() <= 2 << 20);
        fs::remove_file(&payload).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &payload).unwrap();
        assert!(matches!(read(&path), Err(RecordingError::Io { .. })));
        fs::remove_file(&payload).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&payload).status();
        assert!(made.unwrap().success());
        assert!(matches!(read(&path), Err(RecordingError::Io { .. })));
    }

    #[test]
    fn events_before_a_bad_line_are_delivered_and_the_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let good = r#"{"ts":1,"dir":"read","pid":1,"text":"x"}"#;
        fs::write(
            &path,
            format!("{{\"ecapture_recording\":1}}\n{good}\n{good}\nnonsense\n{good}\n"),
        )
        .unwrap();
        let mut recording = Recording::open(&path).unwrap();
        assert_eq!(recording.next().unwrap().unwrap().len(), 2);
        let error = recording.next().unwrap().unwrap_err();
        assert!(matches!(error, RecordingError::Line { line: 4, .. }), "{error}");
        assert!(recording.next().is_none());
    }

    #[test]
    fn files_that_are_no_recording_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        assert!(matches!(Recording::open(&path), Err(RecordingError::Io { .. })));
        fs::write(&path, "").unwrap();
        assert!(matches!(
            Recording::open(&path),
            Err(RecordingError::Empty { .. })
        ));
        fs::write(&path, "plain text").unwrap();
        assert!(matches!(
            Recording::open(&path),
            Err(RecordingError::Line { line: 1, .. })
        ));
        fs::write(&path, vec![b'x'; 2 * 1024 * 1024]).unwrap();
        assert!(matches!(
            Recording::open(&path),
            Err(RecordingError::LineTooLong { line: 1, .. })
        ));
    }
}

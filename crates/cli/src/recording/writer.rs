//! Writes a recording.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use ecapture_protocols::CapturedEvent;
use ecapture_protocols::recording::line::{self, Header};

/// A recording being written.
#[derive(Debug)]
pub struct RecordingWriter {
    output: BufWriter<File>,
    line: Vec<u8>,
}

impl RecordingWriter {
    /// Creates or replaces `path` and writes the header.
    pub fn create(path: &Path, wall_clock_offset_ns: i64) -> io::Result<Self> {
        let mut output = BufWriter::with_capacity(256 * 1024, File::create(path)?);
        let mut line = Vec::new();
        Header::new(Some(wall_clock_offset_ns)).write(&mut line);
        output.write_all(&line)?;
        Ok(Self { output, line })
    }

    /// Appends events.
    pub fn write(&mut self, events: &[CapturedEvent]) -> io::Result<()> {
        for event in events {
            self.line.clear();
            line::write(event, &mut self.line);
            self.output.write_all(&self.line)?;
        }
        Ok(())
    }

    /// Writes what is buffered to the file.
    pub fn finish(mut self) -> io::Result<()> {
        self.output.flush()
    }
}

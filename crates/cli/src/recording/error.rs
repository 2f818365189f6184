//! Why a recording could not be read.

use std::path::PathBuf;

use ecapture_protocols::pcapng::CaptureError;
use ecapture_protocols::recording::LineError;

/// Why a recording could not be read. Each message names the file and the line.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Opening or reading failed.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not an event.
    #[error("{}, line {line}: {source}; expected a file made by `ecapture record` or the original's events.jsonl", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// What is wrong with it.
        source: LineError,
    },
    /// A line is longer than any event.
    #[error("{}, line {line}: expected at most 1048576 bytes; the file is not a recording", path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
    },
    /// Messages that were decoded already.
    #[error(
        "{} is output of `--format jsonl`, not a recording: its messages are already decoded, and `jq` or any JSON \
         reader reads them; `ecapture record FILE` makes a recording", path.display()
    )]
    Messages {
        /// The file.
        path: PathBuf,
    },
    /// Events of a user are wanted, and the events do not say whose they are.
    #[error("--uid: {} does not say which user's the events are; leave --uid out", path.display())]
    NoUser {
        /// The file.
        path: PathBuf,
    },
    /// There is no line in the file.
    #[error("{} is empty: nothing was recorded", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A capture of packets is damaged.
    #[error("{}, byte {offset}: {source}", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// Where, in bytes from its beginning.
        offset: u64,
        /// What is wrong there.
        source: CaptureError,
    },
    /// A key log is of use for packets only.
    #[error("--keylog: {} is not a capture of packets (pcap or pcapng); leave --keylog out", path.display())]
    NoPackets {
        /// The file.
        path: PathBuf,
    },
    /// A key log has no secrets.
    #[error(
        "--keylog: {} has no secrets; give the file that SSLKEYLOGFILE named when the program ran",
        path.display()
    )]
    NoSecrets {
        /// The key log.
        path: PathBuf,
    },
}

//! Recorded event streams on disk.

mod reader;
mod writer;

pub use reader::{Recording, RecordingError};
pub(crate) use writer::{RecordingWriter, payload_len};

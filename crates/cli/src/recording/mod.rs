//! Recorded event streams on disk.

mod reader;

pub use reader::{Recording, RecordingError};

//! One JSON object per message and line.

use crate::event::Identity;
use crate::format::Format;
use crate::message::Message;

/// The `--format jsonl` writer.
#[derive(Debug, Clone, Default)]
pub struct JsonLines {
    /// Wall clock minus kernel monotonic clock in nanoseconds; without it `time` is absent.
    pub wall_clock_offset_ns: Option<i64>,
    /// `--tsize`: cut bodies and data after this many bytes.
    pub truncate: Option<usize>,
}

impl Format for JsonLines {
    fn write(&self, _identity: &Identity, _messages: &[Message], _out: &mut Vec<u8>) {}
}

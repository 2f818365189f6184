//! The original's text format.

use crate::event::Identity;
use crate::format::Format;
use crate::message::Message;

/// The `--format text` writer.
#[derive(Debug, Clone, Default)]
pub struct Text {
    /// `--hex`: dump the formatted output.
    pub hex: bool,
    /// Colour the header line.
    pub color: bool,
    /// `--tsize`: cut each message after this many bytes.
    pub truncate: Option<usize>,
}

impl Format for Text {
    fn write(&self, _identity: &Identity, _messages: &[Message], _out: &mut Vec<u8>) {}
}

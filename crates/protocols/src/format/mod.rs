//! Turns messages into bytes for the reader: text as the original prints it, or JSON Lines.

mod json_lines;
mod text;

pub use json_lines::JsonLines;
pub use text::Text;

use crate::event::Identity;
use crate::message::Message;

/// Formats the messages that one event completed. Pure: the same input gives the same bytes.
pub trait Format: Send + Sync {
    /// Appends `messages`, all of the stream `identity`, to `out`.
    fn write(&self, identity: &Identity, messages: &[Message], out: &mut Vec<u8>);
}

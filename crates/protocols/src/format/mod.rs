//! Turns messages into bytes for the reader: text as the original prints it, JSON Lines, or protobuf.

mod json_lines;
pub mod protobuf;
mod records;
mod text;
mod time;

pub use json_lines::JsonLines;
pub use protobuf::Protobuf;
pub use records::{RecordEnd, Records};
pub use text::{Heading, Text, WallClock};
pub use time::push_local as push_local_time;

use crate::decoder::View;
use crate::event::{CapturedEvent, Origin};
use crate::message::Message;

/// Formats the messages that one event completed. Pure: the same input gives the same bytes.
pub trait Format: Send + Sync {
    /// Returns the view that decoders must emit for this format.
    fn view(&self) -> View;

    /// Appends the bytes that precede the first record of a new target.
    fn begin(&self, _out: &mut Vec<u8>) {}

    /// Appends `messages`, all of the stream `origin`, to `out`, and ends every record there: the
    /// smallest unit that makes sense to a reader by itself. A message may be in no record.
    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records);

    /// Returns the bytes that [`Self::write`] appends.
    fn formatted(&self, origin: &Origin, messages: &[Message]) -> Vec<u8> {
        let mut out = Records::default();
        self.write(origin, messages, &mut out);
        out.into_parts().0
    }
}

/// Formats events as they were captured, each as one record. Pure.
pub trait EventFormat: Send + Sync {
    /// Appends the bytes that precede the first record of a new target.
    fn begin(&self, _out: &mut Vec<u8>) {}

    /// Appends `event` to `out`.
    fn write(&self, event: &CapturedEvent, out: &mut Vec<u8>);
}

//! Turns messages into bytes for the reader: text as the original prints it, JSON Lines, or protobuf; and captured events
//! into recordings, key logs and packets.

mod audit;
mod ends;
mod exchange_lines;
mod filtered;
pub mod har;
mod json_lines;
pub mod keylog;
mod message_ends;
pub mod otlp;
mod packets;
mod pcapng;
mod private;
pub mod protobuf;
mod records;
mod text;
mod time;

pub use audit::{Audit, User, command_line};
pub use ends::{Ends, ExchangeEnd, ExchangePlace};
pub use exchange_lines::ExchangeLines;
pub use filtered::Filtered;
pub use har::Har;
pub use json_lines::JsonLines;
pub(crate) use json_lines::push_figures;
pub use keylog::KeyLog;
pub use message_ends::{MessageEnd, MessagePlace};
pub use otlp::Otlp;
pub use packets::Packets;
pub use pcapng::Pcapng;
pub use private::Private;
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

    /// Appends the record of an exchange whose two ends are these, each with its own record.
    fn join_ends(&self, client: (&ExchangeEnd, &[u8]), _server: (&ExchangeEnd, &[u8]), out: &mut Vec<u8>) {
        out.extend_from_slice(client.1);
    }

    /// Appends the record of a message whose two ends are these: `shown` with its own record.
    fn join_messages(&self, shown: (&MessageEnd, &[u8]), _other: &MessageEnd, out: &mut Vec<u8>) {
        out.extend_from_slice(shown.1);
    }

    /// Returns the bytes that [`Self::write`] appends.
    fn formatted(&self, origin: &Origin, messages: &[Message]) -> Vec<u8> {
        let mut out = Records::default();
        self.write(origin, messages, &mut out);
        out.into_parts().0
    }
}

/// Formats events as they were captured, each as one record. The same events in the same order give the
/// same bytes: a format may remember the events before.
pub trait EventFormat: Send + Sync {
    /// Appends the bytes that precede the first record of a new target.
    fn begin(&self, _out: &mut Vec<u8>) {}

    /// Returns true if [`Self::write`] writes a record for `event`. Others are not handed to the output.
    fn takes(&self, _event: &CapturedEvent) -> bool {
        true
    }

    /// Appends `event` to `out`; nothing if it is not shown.
    fn write(&self, event: &CapturedEvent, out: &mut Vec<u8>);
}

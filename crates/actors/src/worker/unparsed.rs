//! The stand-in for a decoder, for connections in quarantine.

use bytes::Bytes;
use ecapture_protocols::message::{Content, Gap, Message, Raw};
use ecapture_protocols::{Output, PeerNotice, StreamDecoder};

/// Shows every payload as it came and holds nothing.
pub(super) struct Unparsed;

fn message(timestamp_ns: u64, content: Content) -> Message {
    Message {
        first_ns: timestamp_ns,
        last_ns: timestamp_ns,
        exchange: None,
        content,
    }
}

impl StreamDecoder for Unparsed {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        let data = payload.clone();
        output
            .messages
            .push(message(timestamp_ns, Content::Raw(Raw { data })));
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        // The other direction may wait for requests that this one will never name.
        output.notices.push(PeerNotice::NoRequests);
        output.messages.push(message(timestamp_ns, Content::Gap(gap)));
    }

    fn notice(&mut self, _notice: &PeerNotice, _output: &mut Output) {}

    fn idle(&mut self, _output: &mut Output) {}

    fn close(&mut self, _output: &mut Output) {}

    fn buffered_bytes(&self) -> usize {
        0
    }
}

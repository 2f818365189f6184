//! Chooses the protocol of a stream from its first bytes.

use bytes::Bytes;

use crate::decoder::{Options, Output, PeerNotice, StreamDecoder};
use crate::message::{Content, Gap, Message, Raw};

/// A stream whose protocol is detected first and then decoded.
pub(crate) struct Detecting {
    #[expect(dead_code, reason = "placeholder until detection is built")]
    options: Options,
}

impl Detecting {
    pub(crate) fn new(options: Options) -> Self {
        Self { options }
    }
}

impl StreamDecoder for Detecting {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        output.messages.push(Message {
            first_ns: timestamp_ns,
            last_ns: timestamp_ns,
            content: Content::Raw(Raw {
                data: payload.clone(),
            }),
        });
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        output.messages.push(Message {
            first_ns: timestamp_ns,
            last_ns: timestamp_ns,
            content: Content::Gap(gap),
        });
    }

    fn notice(&mut self, _notice: &PeerNotice, _output: &mut Output) {}

    fn idle(&mut self, _output: &mut Output) {}

    fn close(&mut self, _output: &mut Output) {}

    fn buffered_bytes(&self) -> usize {
        0
    }
}

//! Implements the contract with the code that feeds the decoder.

use bytes::Bytes;

use super::{Phase, WebSocketDecoder};
use crate::decoder::{Output, PeerNotice, StreamDecoder};
use crate::detect::{self, HandOver, Protocol, ProtocolDecoder, joined};
use crate::http1::Upgrade;
use crate::message::{Content, Gap, Message};
use crate::websocket::assembly::Assembly;

impl ProtocolDecoder for WebSocketDecoder {
    fn hand_over(&mut self) -> Option<HandOver> {
        let Phase::Over(over) = &mut self.phase else {
            return None;
        };
        let rest = std::mem::take(over);
        Some(HandOver {
            next: None,
            rest: joined(rest),
            exchange: None,
        })
    }

    fn as_new(&self) -> Option<&'static Protocol> {
        let is_new = matches!(&self.phase, Phase::Header(partial) if partial.length == 0)
            && !self.after_loss
            && self.stream.is_none()
            && self.data.is_none()
            && self.window.is_new()
            && self.expansion.is_new();
        self.masked
            .filter(|_| is_new)
            .and_then(|masked| detect::upgraded(Upgrade::WebSocket, masked))
    }
}

impl StreamDecoder for WebSocketDecoder {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        self.emit_over(output);
        self.decode(payload, timestamp_ns, output);
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        if !self.step_over(gap.bytes, output) {
            self.abandon(true, output);
            self.after_loss = true;
        }
        output.messages.push(Message {
            first_ns: timestamp_ns,
            last_ns: timestamp_ns,
            exchange: None,
            content: Content::Gap(gap),
        });
    }

    fn notice(&mut self, _notice: &PeerNotice, _output: &mut Output) {}

    fn idle(&mut self, output: &mut Output) {
        if let Phase::Searching(search) = &mut self.phase
            && let Some(found) = search.settle(self.masked, &self.options.limits)
        {
            let timestamp_ns = found.timestamp_ns;
            self.resume(found, 0, timestamp_ns, output);
        }
        if self.options.view.is_text() {
            self.emit_data_part(output);
        }
    }

    fn close(&mut self, output: &mut Output) {
        self.idle(output);
        self.abandon(false, output);
    }

    fn buffered_bytes(&self) -> usize {
        let data = self.data.as_ref().map_or(0, Assembly::held) + self.window.held();
        data + match &self.phase {
            Phase::Header(partial) => partial.length,
            Phase::Payload(frame) => frame.own.as_ref().map_or(0, Assembly::held),
            Phase::Searching(search) => search.len(),
            Phase::Over(over) => over.iter().map(|(bytes, _)| bytes.len()).sum(),
        }
    }
}

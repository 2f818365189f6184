//! Implements the contract with the code that feeds the decoder.

use bytes::Bytes;

use super::{Http2Decoder, Phase};
use crate::decoder::{Output, PeerNotice, StreamDecoder};
use crate::detect::{HandOver, ProtocolDecoder, joined};
use crate::http2::frame::PREFACE;
use crate::http2::resync::Resync;
use crate::message::Gap;

impl ProtocolDecoder for Http2Decoder {
    fn hand_over(&mut self) -> Option<HandOver> {
        let Phase::Over(over) = &mut self.phase else {
            return None;
        };
        let rest = joined(std::mem::take(over));
        Some(HandOver { next: None, rest })
    }

    /// Returns true if `payload` may follow here: an endpoint sends its preface once, and its
    /// SETTINGS seldom more than once (RFC 9113 §3.4).
    fn expects(&self, payload: &[u8]) -> bool {
        !self.has_settings && !payload.starts_with(PREFACE)
    }
}

impl StreamDecoder for Http2Decoder {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        self.last_ns = timestamp_ns;
        if let Some(hold) = &mut self.hold {
            hold.keep(payload.clone(), timestamp_ns);
            if hold.bytes > self.options.limits.http2_awaiting_bytes {
                self.release_all(output);
            }
            return;
        }
        self.emit_over(output);
        if let Phase::Searching(resync) = &mut self.phase {
            resync.event_starts();
        }
        self.run(payload.clone(), output);
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        self.release_all(output);
        self.has_lost = true;
        self.last_ns = timestamp_ns;
        let span = self.now();
        self.close_section(span, output);
        self.sections.forget();
        self.presenter.gap(gap, self.splitter.open_frame(), span, output);
        self.abandon(true, output);
        self.splitter.lose_step();
        self.phase = Phase::Searching(Resync::new(&self.options.limits));
    }

    fn notice(&mut self, notice: &PeerNotice, output: &mut Output) {
        if let PeerNotice::WebSocketStream { stream } = *notice {
            self.presenter.expect_websocket(stream);
            if self.hold.as_ref().is_some_and(|hold| hold.stream == stream) {
                self.release(output);
            }
        }
    }

    fn awaits_notice(&self) -> bool {
        self.hold.is_some()
    }

    fn notice_overdue(&mut self, output: &mut Output) {
        self.release_all(output);
    }

    fn has_parts(&self) -> bool {
        self.options.parts && self.presenter.has_parts()
    }

    fn emit_parts(&mut self, output: &mut Output) {
        self.presenter
            .emit_parts(self.splitter.open_frame(), self.now(), output);
    }

    fn idle(&mut self, output: &mut Output) {
        self.release_all(output);
        if let Phase::Searching(resync) = &mut self.phase
            && let Some(synced) = resync.settle()
        {
            let rest = self.synced(synced, output);
            self.run(rest, output);
        }
        self.presenter
            .pause(self.splitter.open_frame(), self.now(), output);
    }

    fn close(&mut self, output: &mut Output) {
        self.idle(output);
        let span = self.now();
        self.close_section(span, output);
        self.presenter.close(self.splitter.open_frame(), span, output);
        self.abandon(false, output);
    }

    fn buffered_bytes(&self) -> usize {
        let searching = match &self.phase {
            Phase::Searching(resync) => resync.held_bytes(),
            Phase::Preface(matched) => *matched,
            Phase::InStep => 0,
            Phase::Over(over) => over.iter().map(|(bytes, _)| bytes.len()).sum(),
        };
        let waiting = self.hold.as_ref().map_or(0, |hold| hold.bytes);
        waiting
            + searching
            + self.splitter.held_bytes()
            + self.sections.held_bytes()
            + self.presenter.held_bytes()
    }
}

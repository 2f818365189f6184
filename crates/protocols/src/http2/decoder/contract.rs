//! Implements the contract with the code that feeds the decoder.

use std::sync::Arc;

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
        Some(HandOver {
            next: None,
            rest,
            exchange: None,
        })
    }

    fn begin_exchanges(&mut self, last: Option<u32>, _is_complete: bool) {
        if let Some(pairs) = self.presenter.pairs() {
            pairs.begin_after(last);
        }
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
        self.act(output, |decoder, output| decoder.take(payload, output));
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        self.act(output, |decoder, output| decoder.lose(gap, timestamp_ns, output));
    }

    fn notice(&mut self, notice: &PeerNotice, output: &mut Output) {
        self.act(output, |decoder, output| decoder.take_notice(notice, output));
    }

    fn awaits_notice(&self) -> bool {
        self.hold.is_some()
    }

    fn notice_overdue(&mut self, output: &mut Output) {
        self.act(output, |decoder, output| {
            // If one response waits in vain, those after it would too.
            if let Some(pairs) = decoder.presenter.pairs() {
                pairs.note_overdue();
            }
            decoder.release_all(output);
        });
    }

    fn has_parts(&self) -> bool {
        self.options.parts && self.presenter.has_parts()
    }

    fn emit_parts(&mut self, output: &mut Output) {
        self.act(output, |decoder, output| {
            let span = decoder.now();
            decoder
                .presenter
                .emit_parts(decoder.splitter.open_frame(), span, output);
        });
    }

    fn idle(&mut self, output: &mut Output) {
        self.act(output, Self::settle);
    }

    fn close(&mut self, output: &mut Output) {
        self.act(output, |decoder, output| {
            decoder.settle(output);
            let span = decoder.now();
            decoder.close_section(span, output);
            decoder
                .presenter
                .close(decoder.splitter.open_frame(), span, output);
            decoder.abandon(false, output);
        });
        if let Some(pairs) = self.presenter.pairs() {
            pairs.close(self.last_ns, output);
        }
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

impl Http2Decoder {
    /// Acts, and assigns the messages that are emitted to exchanges.
    fn act(&mut self, output: &mut Output, act: impl FnOnce(&mut Self, &mut Output)) {
        let from = output.messages.len();
        act(self, output);
        self.assign(from, output);
    }

    fn take(&mut self, payload: &Bytes, output: &mut Output) {
        let limit = self.hold_limit();
        if let Some(hold) = &mut self.hold {
            hold.keep(payload.clone(), self.last_ns);
            if hold.bytes > limit {
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

    fn lose(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
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

    fn take_notice(&mut self, notice: &PeerNotice, output: &mut Output) {
        let stream = match *notice {
            PeerNotice::WebSocketStream { stream } => {
                self.presenter.expect_websocket(stream);
                Some(stream)
            }
            PeerNotice::Asked(ref asked) => {
                if let Some(pairs) = self.presenter.pairs() {
                    pairs.add(Arc::clone(asked), &self.options.limits, output);
                }
                asked.stream
            }
            PeerNotice::RequestEnd(ref end) => {
                if let Some(pairs) = self.presenter.pairs() {
                    pairs.end(end, &self.options.limits, output);
                }
                None
            }
            _ => None,
        };
        if stream.is_some() && self.hold.as_ref().map(|hold| hold.stream) == stream {
            self.release(output);
        }
    }

    /// Decides what is undecided, because nothing was received for long.
    fn settle(&mut self, output: &mut Output) {
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
}

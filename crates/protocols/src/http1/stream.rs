//! Implements the contract with the code that feeds the decoder.

use bytes::Bytes;

use crate::decoder::{Output, PeerNotice, StreamDecoder};
use crate::detect::{HandOver, Protocol, ProtocolDecoder, gap_message};
use crate::http1::decoder::Http1Decoder;
use crate::http1::head::Side;
use crate::http1::open::Reached;
use crate::http1::state::State;
use crate::http1::{REQUESTS, RESPONSES};
use crate::message::Gap;

impl ProtocolDecoder for Http1Decoder {
    fn hand_over(&mut self) -> Option<HandOver> {
        let mut hand_over = self.state.take_hand_over()?;
        hand_over.rest.extend(self.held.take());
        Some(*hand_over)
    }

    fn as_new(&self) -> Option<&'static Protocol> {
        self.is_as_new().then_some(match self.side {
            Side::Requests => &REQUESTS,
            Side::Responses => &RESPONSES,
        })
    }

    fn begin_exchanges(&mut self, last: Option<u32>, is_complete: bool) {
        self.begin_exchanges_after(last, is_complete);
    }

    fn exchanges(&self) -> Option<u32> {
        self.exchanges.as_ref()?.last()
    }

    fn expects(&self, payload: &[u8]) -> bool {
        self.expects_message(payload)
    }
}

impl StreamDecoder for Http1Decoder {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        if !matches!(self.state, State::Awaiting(_)) && self.held.is_empty() {
            self.decode(payload, timestamp_ns, output);
            if !matches!(self.state, State::Awaiting(_)) {
                return;
            }
        } else if !payload.is_empty() {
            self.held.push_back(payload.clone(), timestamp_ns);
        }
        // Beyond this limit no held response waits any longer.
        self.overdue |= self.held.cost() > self.awaiting_limit();
        self.work_off(false, output);
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        let awaited = matches!(self.state, State::Awaiting(_)) && self.held.is_empty();
        self.work_off(true, output);
        if matches!(self.state, State::Over(_)) {
            output.messages.push(gap_message(gap, timestamp_ns));
            return;
        }
        // It is unknown whether a body follows a head that still waits, and so where the message
        // ends.
        let bytes = if awaited { None } else { gap.bytes };
        let reached = match &mut self.state {
            State::Body(open) => open.lose(bytes),
            State::Awaiting(_)
            | State::LongHead(_)
            | State::Over(_)
            | State::Searching { .. }
            | State::Start => Reached::Lost,
        };
        if reached != Reached::More {
            self.end(false, output);
        }
        output.messages.push(gap_message(gap, timestamp_ns));
        if reached == Reached::Lost {
            self.begin_search(true, output);
        }
    }

    fn notice(&mut self, notice: &PeerNotice, output: &mut Output) {
        self.take_exchange_notice(notice, output);
        match *notice {
            PeerNotice::RequestHead { method, timestamp_ns } => {
                self.requests
                    .add(method, timestamp_ns, self.options.limits.pending_requests);
            }
            PeerNotice::RequestsLost => self.requests.lose(),
            PeerNotice::NoRequests => self.requests.expect_none(),
            PeerNotice::Asked(_)
            | PeerNotice::BegunLate
            | PeerNotice::RequestEnd { .. }
            | PeerNotice::WebSocketStream { .. } => {}
        }
        self.work_off(false, output);
    }

    fn awaits_notice(&self) -> bool {
        matches!(&self.state, State::Awaiting(awaiting) if !awaiting.overdue)
    }

    fn notice_overdue(&mut self, output: &mut Output) {
        if self.awaits_notice() {
            self.overdue = true;
            self.work_off(false, output);
        }
    }

    fn has_more(&self) -> bool {
        self.has_more
    }

    fn go_on(&mut self, output: &mut Output) {
        self.work_off(false, output);
    }

    fn has_parts(&self) -> bool {
        self.options.parts && matches!(&self.state, State::Body(open) if open.has_part(self.options.view))
    }

    fn emit_parts(&mut self, output: &mut Output) {
        if let State::Body(open) = &mut self.state
            && open.has_part(self.options.view)
        {
            open.emit_received(self.options.view, self.last_ns, output);
        }
    }

    fn idle(&mut self, output: &mut Output) {
        self.notice_overdue(output);
        if !self.options.view.is_text() {
            return;
        }
        match &mut self.state {
            State::Awaiting(awaiting) => awaiting.open.emit_part(self.last_ns, output),
            State::Body(open) => open.emit_part(self.last_ns, output),
            State::Searching { .. } => self.end(false, output),
            State::LongHead(_) | State::Over(_) | State::Start => {}
        }
    }

    fn sleep(&mut self) {
        self.give_back_room();
    }

    fn close(&mut self, output: &mut Output) {
        self.work_off(true, output);
        self.end(true, output);
        self.emit_unanswered(output);
    }

    fn buffered_bytes(&self) -> usize {
        let open = match &self.state {
            State::Awaiting(awaiting) => awaiting.open.held_bytes(),
            State::Body(open) => open.held_bytes(),
            State::LongHead(long) => long.held_bytes(),
            State::Over(_) | State::Searching { .. } | State::Start => 0,
        };
        let exchanges = self
            .exchanges
            .as_ref()
            .map_or(0, |exchanges| exchanges.held_bytes());
        open + exchanges + self.empty_line_bytes() + self.pending.len() + self.held.bytes()
    }
}

impl Http1Decoder {
    /// Ends the current message. `closed` is true if the connection has ended.
    fn end(&mut self, closed: bool, output: &mut Output) {
        let pending = self.take_pending();
        match &self.state {
            State::Body(open) => {
                let complete = closed && open.ends_with_connection();
                self.finish_body(complete, output);
            }
            State::Searching { lost, .. } => self.pass_over(pending, *lost, output),
            // The beginning of a head.
            State::Start => self.pass_over(pending, false, output),
            State::LongHead(_) => {
                if let Some((_, kept)) = self.end_long_head(output) {
                    self.pass_over(kept, false, output);
                }
            }
            State::Awaiting(_) | State::Over(_) => {}
        }
    }
}

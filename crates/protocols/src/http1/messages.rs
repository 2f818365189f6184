//! Reads a message from its head to its last byte.

use bytes::Bytes;

use crate::decoder::{MethodClass, Output, PeerNotice};
use crate::detect::{self, HandOver, Protocol};
use crate::exchange::Exchange;
use crate::http1::awaiting::Awaiting;
use crate::http1::decoder::Http1Decoder;
use crate::http1::framing::{self, Framing};
use crate::http1::head::{Head, Side};
use crate::http1::heads::Asked;
use crate::http1::open::{self, Open, Reached};
use crate::http1::peer::Answered;
use crate::http1::state::{Flow, State};
use crate::message::{Body, Http1Kind};

impl Http1Decoder {
    pub(super) fn begin_message(
        &mut self,
        mut head: Head,
        mut bytes: Bytes,
        input: &mut Bytes,
        output: &mut Output,
    ) -> Flow {
        if !self.empty_lines.is_empty() {
            bytes = Bytes::from([&std::mem::take(&mut self.empty_lines)[..], &bytes].concat());
            head.is_changed();
        }
        head.anomalies.extend(framing::anomalies(&head));
        // A response waits for its request here, and is only then assigned to it.
        let waits = matches!(head.kind, Http1Kind::Response { .. }) && self.awaits_request();
        let answered = if waits {
            Answered::Wait
        } else {
            self.method_of(&head, &bytes, output)
        };
        let method = match answered {
            Answered::Known(method) => method,
            answered @ (Answered::Unknown | Answered::Wait) => {
                let overdue = answered == Answered::Unknown;
                let open = self.open(&mut head, bytes);
                self.state.await_method(Awaiting::new(open, head, overdue));
                return Flow::Continue;
            }
        };
        if let Some(body) = self.whole_body(&mut head, method, input) {
            self.state.start();
            let times = (self.start_ns, self.last_ns);
            let exchange = self.exchange_of(&head);
            open::emit_whole(head, bytes, body, times, exchange, output);
            self.report_end(output);
            self.end_exchange();
            return Flow::Continue;
        }
        let mut open = self.open(&mut head, bytes);
        open.assign(self.exchange_of(&head));
        self.frame(open, &head, method, input, output)
    }

    /// Returns the method that the framing after `head` depends on. If it depends on none, the
    /// method counts as known.
    pub(super) fn method_of(&mut self, head: &Head, bytes: &[u8], output: &mut Output) -> Answered {
        match head.kind {
            Http1Kind::Request => {
                self.ask(head, bytes, output);
                output.notices.push(PeerNotice::RequestHead {
                    method: head.method,
                    timestamp_ns: self.start_ns,
                });
                self.asked = Asked::by(head);
                Answered::Known(MethodClass::Other)
            }
            // An interim response answers nothing (RFC 9110 §15.2).
            Http1Kind::Response {
                status: 100 | 102..=199,
            } => Answered::Known(MethodClass::Other),
            Http1Kind::Response { .. } => {
                let answered = self.requests.take(self.start_ns);
                if framing::depends_on_method(head) {
                    return answered;
                }
                if answered == Answered::Wait {
                    let most = self.options.limits.pending_requests;
                    self.requests.owe(self.start_ns, most);
                }
                match answered {
                    Answered::Known(_) => answered,
                    Answered::Unknown | Answered::Wait => Answered::Known(MethodClass::Other),
                }
            }
        }
    }

    /// Returns the body in the usual case that it is not decoded and was received with the head.
    pub(super) fn whole_body(&self, head: &mut Head, method: MethodClass, input: &mut Bytes) -> Option<Body> {
        let length = match framing::of(head, self.side, method) {
            Framing::None => {
                return Some(Body {
                    complete: true,
                    ..Body::default()
                });
            }
            Framing::Sized(length) => length,
            Framing::Chunked | Framing::Tunnel | Framing::Unframed | Framing::UntilClose => return None,
        };
        let most = input.len().min(self.options.limits.body_bytes) as u64;
        let is_plain = head.content_encoding.is_none() && !head.is_event_stream;
        if length > most || !is_plain && !self.options.without_content {
            return None;
        }
        let mut data = input.split_to(usize::try_from(length).ok()?);
        if self.options.without_content {
            data = Bytes::new();
        }
        Some(Body {
            data,
            wire_len: length,
            len: length,
            expected: Some(length),
            content_type: head.content_type.take(),
            complete: true,
            ..Body::default()
        })
    }

    /// Returns the exchange of the message with this head, which begins now.
    pub(super) fn exchange_of(&mut self, head: &Head) -> Option<Exchange> {
        if let Http1Kind::Response { status } = head.kind {
            self.take_exchange(self.start_ns, is_interim(status));
        }
        self.exchange()
    }

    pub(super) fn open(&mut self, head: &mut Head, bytes: Bytes) -> Open {
        Open::new(head, bytes, self.start_ns, &self.options, &mut self.expansion)
    }

    /// Continues after a head whose message is framed as an answer to `method`.
    pub(super) fn frame(
        &mut self,
        mut open: Open,
        head: &Head,
        method: MethodClass,
        input: &mut Bytes,
        output: &mut Output,
    ) -> Flow {
        let framing = framing::of(head, self.side, method);
        open.frame(framing);
        self.state.start();
        match framing {
            Framing::None => {
                open.finish(true, self.last_ns, output);
                self.report_end(output);
            }
            Framing::Tunnel => {
                open.finish(true, self.last_ns, output);
                self.report_end(output);
                let next = head
                    .upgrade
                    .filter(|_| method != MethodClass::Connect)
                    .and_then(|upgrade| detect::upgraded(upgrade, self.side == Side::Requests));
                self.hand_over_to(next);
            }
            Framing::Unframed => {
                open.finish(false, self.last_ns, output);
                self.report_end(output);
                return self.begin_search(false, output);
            }
            Framing::Chunked | Framing::Sized(_) | Framing::UntilClose => {
                if head.is_event_stream && !self.options.without_content {
                    open.watch_events(&self.options, output);
                }
                if open.read(input, &self.options.limits) == Reached::End {
                    open.settle(self.options.view, self.last_ns, output);
                    open.finish(true, self.last_ns, output);
                    self.report_end(output);
                } else {
                    self.state.begin_body(open);
                }
            }
        }
        Flow::Continue
    }

    pub(super) fn read_body(&mut self, input: &mut Bytes, output: &mut Output) -> Flow {
        let State::Body(open) = &mut self.state else {
            return Flow::Continue;
        };
        let reached = open.read(input, &self.options.limits);
        open.settle(self.options.view, self.last_ns, output);
        match reached {
            Reached::More => Flow::NeedMore,
            Reached::End => {
                self.finish_body(true, output);
                Flow::Continue
            }
            Reached::Lost => {
                self.finish_body(false, output);
                self.begin_search(false, output)
            }
        }
    }

    /// Ends the open message, if there is one. Its remaining framing bytes belong to it.
    pub(super) fn finish_body(&mut self, complete: bool, output: &mut Output) {
        if let Some(open) = self.state.take_body() {
            open.finish(complete, self.last_ns, output);
            self.report_end(output);
            self.end_exchange();
        }
    }

    pub(super) fn hand_over_to(&mut self, next: Option<&'static Protocol>) {
        let empty_lines = std::mem::take(&mut self.empty_lines);
        let rest = if empty_lines.is_empty() {
            Vec::new()
        } else {
            vec![(empty_lines, self.start_ns)]
        };
        let exchange = self.exchange();
        self.state.hand_over(HandOver { next, exchange, rest });
    }
}

/// Returns true for an interim response other than 101, which is the last one (RFC 9110 §15.2).
pub(super) const fn is_interim(status: u16) -> bool {
    matches!(status, 100 | 102..=199)
}

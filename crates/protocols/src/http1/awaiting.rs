//! A response that cannot be framed until the method of its request is known.

use bytes::Bytes;

use crate::decoder::{Detection, MethodClass, Output};
use crate::http1::decoder::Http1Decoder;
use crate::http1::framing::{self, Framing};
use crate::http1::head::{Head, Side};
use crate::http1::messages::is_interim;
use crate::http1::open::Open;
use crate::http1::peer::Answered;
use crate::http1::recognize;
use crate::http1::state::State;
use crate::message::{Anomaly, Http1Kind};

/// A response head whose body cannot be framed until the request's method is known.
pub(super) struct Awaiting {
    pub(super) open: Open,
    head: Head,
    /// No notice will come.
    pub(super) overdue: bool,
}

impl Awaiting {
    pub(super) fn new(open: Open, head: Head, overdue: bool) -> Self {
        Self { open, head, overdue }
    }
}

impl Http1Decoder {
    /// Decodes held events while methods are known, and not much more than one step. `closing` is
    /// true if nothing more comes: then all of them are decoded.
    pub(super) fn work_off(&mut self, closing: bool, output: &mut Output) {
        let step = self.options.limits.http1_step_bytes;
        let end = self.held.bytes().saturating_sub(step);
        self.has_more = false;
        loop {
            if let State::Awaiting(awaiting) = &mut self.state {
                // If one response waits in vain, those held after it would too.
                awaiting.overdue |= self.overdue;
                if !self.decide(closing, output) {
                    break;
                }
            }
            self.has_more = !closing && !self.held.is_empty() && self.held.bytes() <= end;
            if self.has_more {
                return;
            }
            let Some((payload, timestamp_ns)) = self.held.pop_front() else {
                break;
            };
            self.decode(&payload, timestamp_ns, output);
        }
        self.overdue = false;
    }

    /// Frames the response that waits for its request's method. Returns false if it still waits.
    fn decide(&mut self, closing: bool, output: &mut Output) -> bool {
        let State::Awaiting(awaiting) = &mut self.state else {
            return true;
        };
        let start_ns = awaiting.open.start_ns();
        let depends = framing::depends_on_method(&awaiting.head);
        let is_interim = matches!(awaiting.head.kind, Http1Kind::Response { status } if is_interim(status));
        let overdue = awaiting.overdue;
        if !overdue && !closing && self.awaits_request() {
            return false;
        }
        let answered = match overdue {
            _ if is_interim => Answered::Known(MethodClass::Other),
            true => Answered::Unknown,
            false => self.requests.take(start_ns),
        };
        let method = match answered {
            Answered::Known(method) => method,
            Answered::Unknown | Answered::Wait if !depends => {
                self.requests.owe(start_ns, self.options.limits.pending_requests);
                MethodClass::Other
            }
            Answered::Wait if !closing => return false,
            Answered::Unknown | Answered::Wait => {
                self.set_overdue();
                let Some(method) = self.guess(start_ns, closing) else {
                    return false;
                };
                method
            }
        };
        if let Some(awaiting) = self.state.take_awaiting() {
            let Awaiting { mut open, head, .. } = *awaiting;
            self.take_exchange(start_ns, is_interim);
            open.assign(self.exchange());
            self.frame(open, &head, method, &mut Bytes::new(), output);
        }
        true
    }

    fn set_overdue(&mut self) {
        if let State::Awaiting(awaiting) = &mut self.state {
            awaiting.overdue = true;
        }
    }

    /// Guesses the method of the request that the response from `start_ns` answers, by the bytes
    /// alone. `None` if more bytes are needed.
    fn guess(&mut self, start_ns: u64, closing: bool) -> Option<MethodClass> {
        let may_be_head = self.requests.may_answer_head(start_ns);
        let State::Awaiting(awaiting) = &self.state else {
            return None;
        };
        let is_bodiless = framing::of(&awaiting.head, Side::Responses, MethodClass::Other) == Framing::None;
        let method = match self.guess_method() {
            Some(method) => method,
            None if is_bodiless => MethodClass::Other,
            None if !closing => return None,
            None if may_be_head => MethodClass::Head,
            None => MethodClass::Other,
        };
        self.requests.guessed(method, start_ns);
        self.requests.owe(start_ns, self.options.limits.pending_requests);
        if let (MethodClass::Head, State::Awaiting(awaiting)) = (method, &mut self.state)
            && !is_bodiless
        {
            awaiting.open.mark(Anomaly::GuessedHead);
        }
        Some(method)
    }

    /// Guesses the method by the bytes after the head: if they begin like another response head,
    /// there was no body, so the method was HEAD. `None` if there are too few bytes.
    fn guess_method(&self) -> Option<MethodClass> {
        let first = self.held.first(recognize::VERSION.len());
        match recognize::prefix(&first, recognize::VERSION) {
            None => Some(MethodClass::Head),
            Some(Detection::NeedMore) => None,
            Some(Detection::No | Detection::Yes) => Some(MethodClass::Other),
        }
    }
}

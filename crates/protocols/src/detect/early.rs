//! Responses that ended before their requests, such as a refusal of an upload. In views that join
//! they wait for the request's end, which they bring along.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::decoder::{Output, PeerNotice};
use crate::detect::Detecting;
use crate::exchange::Asked;
use crate::limits::Limits;
use crate::message::Message;

/// The responses that wait, oldest first.
#[derive(Default)]
pub(super) struct Early {
    waiting: VecDeque<Message>,
    bytes: usize,
}

impl Early {
    /// Takes those of the messages emitted since `from` whose request has not ended. The oldest are
    /// emitted if too much would wait.
    pub(super) fn take(&mut self, from: usize, limits: &Limits, output: &mut Output) {
        if !output.messages[from..].iter().any(is_early) {
            return;
        }
        for message in output.messages.split_off(from) {
            if is_early(&message) {
                self.bytes += message.held_bytes();
                self.waiting.push_back(message);
            } else {
                output.messages.push(message);
            }
        }
        while self.bytes > limits.joined_bytes || self.waiting.len() > limits.pending_requests {
            let Some(oldest) = self.waiting.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(oldest.held_bytes());
            output.messages.push(oldest);
        }
    }

    /// Emits the response whose request has ended, with that end. Returns false if none waits for it.
    pub(super) fn end(&mut self, notice: &PeerNotice, output: &mut Output) -> bool {
        let PeerNotice::RequestEnd(notice) = notice else {
            return false;
        };
        let Some(number) = notice.number else {
            return false;
        };
        let is_its = |response: &Message| request_of(response).and_then(|asked| asked.number) == Some(number);
        let Some(mut response) = self
            .waiting
            .iter()
            .position(is_its)
            .and_then(|index| self.waiting.remove(index))
        else {
            return false;
        };
        self.bytes = self.bytes.saturating_sub(response.held_bytes());
        let exchange = response.exchange.as_mut();
        if let Some(request) = exchange.and_then(|exchange| exchange.request.as_mut()) {
            let request = Arc::make_mut(request);
            request.end = Some(notice.end);
            request.message.clone_from(&notice.message);
        }
        output.messages.push(response);
        true
    }

    /// Emits all: no more ends of requests come.
    pub(super) fn release(&mut self, output: &mut Output) {
        self.bytes = 0;
        output.messages.extend(self.waiting.drain(..));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.bytes
    }
}

impl Detecting {
    /// Keeps the responses emitted since `from` whose requests have not ended.
    pub(super) fn keep_early(&mut self, from: usize, output: &mut Output) {
        if self.options.view.joins() && output.messages.len() > from {
            let early = self.early.get_or_insert_default();
            early.take(from, &self.options.limits, output);
            self.early.take_if(|early| early.is_empty());
        }
    }

    /// Emits the responses that wait for ends of requests: none come any more.
    pub(super) fn release_early(&mut self, output: &mut Output) {
        if let Some(mut early) = self.early.take() {
            early.release(output);
        }
    }

    /// Takes a notice that a waiting response waits for. Returns false for others.
    pub(super) fn end_early(&mut self, notice: &PeerNotice, output: &mut Output) -> bool {
        let Some(early) = &mut self.early else {
            return false;
        };
        if matches!(notice, PeerNotice::RequestsLost) {
            early.release(output);
        }
        let has_ended = early.end(notice, output);
        self.early.take_if(|early| early.is_empty());
        has_ended
    }
}

fn request_of(response: &Message) -> Option<&Asked> {
    response.exchange.as_ref()?.request.as_deref()
}

/// Returns true for a response whose request is known, and whose end is not.
fn is_early(message: &Message) -> bool {
    let is_last = message
        .status()
        .is_some_and(|status| status == 101 || status >= 200);
    is_last && request_of(message).is_some_and(|asked| asked.end.is_none() && asked.number.is_some())
}

//! Pairs responses with the requests that they answer.
//!
//! The request direction reports its heads in wire order. The times of both directions come from
//! the same clock, so a request that is newer than a response is not the one it answers.

use std::collections::VecDeque;

use crate::decoder::MethodClass;

/// The known requests that wait for their responses.
#[derive(Default)]
pub(super) struct Requests {
    waiting: VecDeque<(MethodClass, u64)>,
    /// Times of responses that were framed without their request's notice, which may still come.
    owed: VecDeque<u64>,
    /// No notices are expected.
    none: bool,
    /// Bytes were lost since the last certain pairing, so the order alone is not enough.
    uncertain: bool,
}

/// The knowledge of the request that a response answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    Known(MethodClass),
    /// It will never be known.
    Unknown,
    /// A notice may still come.
    Wait,
}

impl Requests {
    pub(super) fn add(&mut self, method: MethodClass, timestamp_ns: u64, most: usize) {
        self.none = false;
        while self.owed.front().is_some_and(|&response| response < timestamp_ns) {
            self.owed.pop_front();
        }
        if self.owed.pop_front().is_some() {
            return;
        }
        if self.waiting.len() >= most {
            self.waiting.pop_front();
            self.uncertain = true;
        }
        if self.waiting.capacity() == 0 {
            // Mostly a single one waits, and a silent stream keeps this room.
            self.waiting.reserve_exact(1);
        }
        self.waiting.push_back((method, timestamp_ns));
    }

    /// Returns true if no state affects later responses.
    pub(super) fn is_new(&self) -> bool {
        self.waiting.is_empty() && self.owed.is_empty() && !self.none && !self.uncertain
    }

    /// Releases memory that is reserved and not used.
    pub(super) fn give_back_room(&mut self) {
        self.waiting.shrink_to_fit();
        self.owed.shrink_to_fit();
    }

    /// Expects no notices, until one comes.
    pub(super) fn expect_none(&mut self) {
        self.none = true;
    }

    /// Notes that bytes of either direction were lost.
    pub(super) fn lose(&mut self) {
        self.uncertain = true;
    }

    /// Takes the request answered by a response whose first byte was received at `timestamp_ns`.
    /// Each response calls this once, or again after `Wait`.
    pub(super) fn take(&mut self, timestamp_ns: u64) -> Answered {
        let is_older = |request: &(MethodClass, u64)| request.1 <= timestamp_ns;
        match self.waiting.front() {
            None if self.none => Answered::Unknown,
            None => Answered::Wait,
            Some(request) if !is_older(request) => Answered::Unknown,
            Some(_) if self.uncertain => self.take_all(timestamp_ns),
            Some(&(method, _)) => {
                self.waiting.pop_front();
                Answered::Known(method)
            }
        }
    }

    /// Notes that a response continues without its request's notice.
    pub(super) fn owe(&mut self, timestamp_ns: u64, most: usize) {
        if self.none || !self.waiting.is_empty() {
            return;
        }
        if self.owed.len() >= most {
            self.owed.pop_front();
        }
        self.owed.push_back(timestamp_ns);
    }

    /// Takes all older requests: after a loss, the response may answer any of them, or a lost one.
    /// They decide only if they agree, and never on HEAD or CONNECT, because answers to these are
    /// framed differently.
    fn take_all(&mut self, timestamp_ns: u64) -> Answered {
        let older = self
            .waiting
            .iter()
            .take_while(|request| request.1 <= timestamp_ns)
            .count();
        let agree = self
            .waiting
            .iter()
            .take(older)
            .all(|&(method, _)| method == MethodClass::Other);
        if !agree {
            return Answered::Unknown;
        }
        self.waiting.drain(..older);
        self.uncertain = false;
        Answered::Known(MethodClass::Other)
    }

    /// Returns true if, after a loss, the oldest request that a response from `timestamp_ns` may
    /// answer is a HEAD request.
    pub(super) fn may_answer_head(&self, timestamp_ns: u64) -> bool {
        let first = self.waiting.front();
        first.is_some_and(|&(method, asked_ns)| method == MethodClass::Head && asked_ns <= timestamp_ns)
    }

    /// Notes that the response from `timestamp_ns` was found by its bytes to answer a request of
    /// class `method`: the first one that waits, if any; the requests before it will have no
    /// answer.
    pub(super) fn guessed(&mut self, method: MethodClass, timestamp_ns: u64) {
        if !self.uncertain {
            return;
        }
        let answered = self
            .waiting
            .iter()
            .take_while(|request| request.1 <= timestamp_ns)
            .position(|request| request.0 == method);
        if let Some(answered) = answered {
            self.waiting.drain(..=answered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answered::{Known, Unknown, Wait};
    use MethodClass::{Head, Other};

    fn with(requests: &[(MethodClass, u64)]) -> Requests {
        let mut all = Requests::default();
        for &(method, timestamp_ns) in requests {
            all.add(method, timestamp_ns, 10);
        }
        all
    }

    #[test]
    fn responses_answer_in_order() {
        let mut requests = with(&[(Head, 1), (Other, 1)]);
        assert_eq!(
            [requests.take(2), requests.take(2), requests.take(3)],
            [Known(Head), Known(Other), Wait]
        );
    }

    #[test]
    fn a_newer_request_is_not_the_answered_one() {
        let mut requests = with(&[(Head, 5)]);
        assert_eq!(requests.take(3), Unknown);
        assert_eq!(requests.take(6), Known(Head));
    }

    #[test]
    fn a_late_notice_of_an_answered_request_is_dropped() {
        let mut requests = Requests::default();
        requests.owe(3, 10);
        requests.add(Head, 2, 10);
        assert_eq!(requests.take(9), Wait);
    }

    #[test]
    fn a_response_to_an_unseen_request_does_not_affect_later_ones() {
        let mut requests = Requests::default();
        requests.owe(3, 10);
        requests.add(Head, 4, 10);
        assert_eq!(requests.take(5), Known(Head));
    }

    #[test]
    fn without_requests_no_response_waits() {
        let mut requests = Requests::default();
        requests.expect_none();
        assert_eq!(requests.take(1), Unknown);
    }

    #[test]
    fn after_a_loss_older_requests_decide_only_if_they_agree() {
        let mut requests = with(&[(Other, 1), (Other, 2), (Head, 9)]);
        requests.lose();
        assert_eq!(requests.take(3), Known(Other));
        assert_eq!(requests.take(9), Known(Head));
        let mut requests = with(&[(Other, 1), (Head, 2)]);
        requests.lose();
        assert_eq!(requests.take(3), Unknown);
    }

    #[test]
    fn the_oldest_are_dropped_at_the_limit() {
        let mut requests = Requests::default();
        for timestamp_ns in 0..100 {
            requests.add(Other, timestamp_ns, 4);
        }
        assert_eq!(requests.waiting.len(), 4);
        let mut requests = Requests::default();
        for timestamp_ns in 0..100 {
            requests.owe(timestamp_ns, 4);
        }
        assert_eq!(requests.owed.len(), 4);
    }
}

//! Which request a response answers.
//!
//! The request direction tells of its heads in wire order. Both directions' times come from
//! the same clock, so a request that is newer than a response is not the one it answers.

use std::collections::VecDeque;

use crate::decoder::MethodClass;

/// The requests that wait for their responses, as far as they are known.
#[derive(Default)]
pub(super) struct Requests {
    waiting: VecDeque<(MethodClass, u64)>,
    /// Times of responses that went without their request's notice; it may still come.
    owed: VecDeque<u64>,
    /// No notice is to be expected.
    none: bool,
    /// Bytes were lost since the last certain pairing, so that the order alone says nothing.
    uncertain: bool,
}

/// What is known of the request that a response answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    Known(MethodClass),
    /// It will never be known.
    Unknown,
    /// A notice may still tell.
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
            // Mostly a single one waits, and the room for it stays with a silent stream.
            self.waiting.reserve_exact(1);
        }
        self.waiting.push_back((method, timestamp_ns));
    }

    /// Nothing is known that concerns responses to come.
    pub(super) fn is_new(&self) -> bool {
        self.waiting.is_empty() && self.owed.is_empty() && !self.none && !self.uncertain
    }

    /// Gives back what is reserved and not used.
    pub(super) fn give_back_room(&mut self) {
        self.waiting.shrink_to_fit();
        self.owed.shrink_to_fit();
    }

    /// No notices will come, until one comes.
    pub(super) fn expect_none(&mut self) {
        self.none = true;
    }

    /// Bytes of either direction were lost.
    pub(super) fn lose(&mut self) {
        self.uncertain = true;
    }

    /// The request that a response whose first byte came at `timestamp_ns` answers. What is
    /// known is taken: a response asks once, or again after `Wait`.
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

    /// The response goes on without its request's notice.
    pub(super) fn owe(&mut self, timestamp_ns: u64, most: usize) {
        if self.none || !self.waiting.is_empty() {
            return;
        }
        if self.owed.len() >= most {
            self.owed.pop_front();
        }
        self.owed.push_back(timestamp_ns);
    }

    /// After a loss any older request may be the one, or one that was lost. They decide only when they
    /// agree, and never on HEAD or CONNECT, whose answers are framed as no other's.
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

    /// After a loss: the oldest request that a response from `timestamp_ns` may answer asks for a head
    /// without a body.
    pub(super) fn may_answer_head(&self, timestamp_ns: u64) -> bool {
        let first = self.waiting.front();
        first.is_some_and(|&(method, asked_ns)| method == MethodClass::Head && asked_ns <= timestamp_ns)
    }

    /// The bytes told that the response from `timestamp_ns` answers a request of class `method`: the
    /// first such one that waits, if any, and those before it will have no answer.
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
    fn a_response_to_an_unseen_request_owes_nothing_to_later_ones() {
        let mut requests = Requests::default();
        requests.owe(3, 10);
        requests.add(Head, 4, 10);
        assert_eq!(requests.take(5), Known(Head));
    }

    #[test]
    fn without_requests_nothing_is_waited_for() {
        let mut requests = Requests::default();
        requests.expect_none();
        assert_eq!(requests.take(1), Unknown);
    }

    #[test]
    fn after_a_loss_only_agreement_counts() {
        let mut requests = with(&[(Other, 1), (Other, 2), (Head, 9)]);
        requests.lose();
        assert_eq!(requests.take(3), Known(Other));
        assert_eq!(requests.take(9), Known(Head));
        let mut requests = with(&[(Other, 1), (Head, 2)]);
        requests.lose();
        assert_eq!(requests.take(3), Unknown);
    }

    #[test]
    fn the_oldest_give_way_at_the_bound() {
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

//! Assigns requests to the responses that answer them, in the order of both (RFC 9112 §9.3.2).
//!
//! The order alone decides while every head of both directions is known. Once some may be missing,
//! it does not, because a client may have sent several requests ahead: then nothing is certain
//! until only one request can be outstanding, or the connection was quiet for long.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::exchange::{Asked, Exchange, Pairing, RequestEnd};
use crate::limits::{Limits, PAIRING_QUIET_NS};
use crate::message::Message;

/// The requests that wait for their responses.
pub(super) struct Pairs {
    waiting: VecDeque<Arc<Asked>>,
    /// Times of responses whose request was not reported in time, and may still be.
    owed: VecDeque<u64>,
    /// Number of the last request reported; 0 if none was, and `None` if that is not known.
    last: Option<u32>,
    trust: Trust,
    /// No requests are expected.
    none: bool,
    /// Requests were lost directly before the next one.
    just_lost: bool,
    /// Kernel time of the latest message of either direction.
    latest_ns: u64,
    /// Bytes kept of the waiting requests.
    bytes: usize,
    /// Those of whole requests among them.
    requests: usize,
}

/// What the order of messages says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Which response answers which request.
    Full,
    /// Responses may be missing, and no requests.
    NoResponses,
    /// Requests may be missing.
    Nothing,
}

impl Pairs {
    /// Begins after the request `last`: `Some(0)` if nothing of the connection is missing.
    pub(super) fn new(last: Option<u32>) -> Self {
        Self {
            waiting: VecDeque::new(),
            owed: VecDeque::new(),
            last,
            trust: if last.is_some() {
                Trust::Full
            } else {
                Trust::Nothing
            },
            none: false,
            just_lost: false,
            latest_ns: 0,
            bytes: 0,
            requests: 0,
        }
    }

    /// Returns the number of the last request reported.
    pub(super) const fn last(&self) -> Option<u32> {
        self.last
    }

    /// Returns true if no state but the number of the last request affects later responses.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty()
            && self.owed.is_empty()
            && !self.none
            && (self.trust == Trust::Full && self.last.is_some())
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn give_back_room(&mut self) {
        self.waiting.shrink_to_fit();
        self.owed.shrink_to_fit();
    }

    pub(super) fn expect_none(&mut self) {
        self.none = true;
    }

    /// Notes that requests may be missing before the next one.
    pub(super) fn lose_requests(&mut self) {
        self.trust = Trust::Nothing;
        self.just_lost = true;
    }

    /// Notes that responses may be missing before the next one.
    pub(super) fn lose_responses(&mut self) {
        if self.trust == Trust::Full {
            self.trust = Trust::NoResponses;
        }
    }

    /// Adds a request. Returns the time of the response that was taken for one without a request,
    /// if it answers this one.
    pub(super) fn add(&mut self, asked: Arc<Asked>, limits: &Limits) -> Option<(u64, Exchange)> {
        self.none = false;
        self.add_unreported(asked.number, limits);
        self.settle(asked.first_ns);
        self.latest_ns = self.latest_ns.max(asked.first_ns);
        while self
            .owed
            .front()
            .is_some_and(|&response| response < asked.first_ns)
        {
            self.owed.pop_front();
        }
        if let Some(response) = self.owed.pop_front() {
            let pairing = self.pairing();
            return Some((response, Exchange::answering(asked, pairing)));
        }
        self.push(asked, limits);
        None
    }

    /// Requests are numbered without a break, so a number left out is a request whose notice was
    /// dropped on its way.
    fn add_unreported(&mut self, number: Option<u32>, limits: &Limits) {
        let (Some(last), Some(number)) = (self.last, number) else {
            self.last = number;
            return;
        };
        let unreported = number.wrapping_sub(last).wrapping_sub(1);
        self.last = Some(number);
        if unreported as usize > limits.pending_requests {
            self.lose_requests();
            return;
        }
        for index in 1..=unreported {
            let asked = Asked {
                number: Some(last.wrapping_add(index)),
                ..Asked::default()
            };
            self.push(Arc::new(asked), limits);
        }
    }

    fn push(&mut self, mut asked: Arc<Asked>, limits: &Limits) {
        if self.waiting.len() >= limits.pending_requests {
            self.pop();
            self.lose_requests();
        }
        if asked.message.is_none() && self.bytes - self.requests + asked.bytes() > limits.asked_total_bytes {
            Arc::make_mut(&mut asked).target = None;
        }
        self.bytes += asked.bytes();
        self.requests += asked.request_bytes();
        self.waiting.push_back(asked);
    }

    fn pop(&mut self) -> Option<Arc<Asked>> {
        let asked = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(asked.bytes());
        self.requests = self.requests.saturating_sub(asked.request_bytes());
        Some(asked)
    }

    /// After a long silence no request is outstanding.
    fn settle(&mut self, now_ns: u64) {
        let was_quiet = now_ns.saturating_sub(self.latest_ns) >= PAIRING_QUIET_NS;
        let just_lost = std::mem::take(&mut self.just_lost);
        if self.trust != Trust::Full
            && self.latest_ns > 0
            && was_quiet
            && !just_lost
            && self.waiting.is_empty()
        {
            self.trust = Trust::Full;
        }
    }

    /// Notes the end of a request, and keeps the request itself if there is one and at most `most`
    /// bytes are held then. Returns false if the request does not wait, and takes what it keeps.
    pub(super) fn end(
        &mut self,
        number: Option<u32>,
        end: RequestEnd,
        message: &mut Option<Arc<Message>>,
        most: usize,
    ) -> bool {
        let Some(asked) = self.waiting.iter_mut().rev().find(|asked| asked.number == number) else {
            return false;
        };
        let asked = Arc::make_mut(asked);
        asked.end = Some(end);
        let bytes = message.as_ref().map_or(0, |message| message.held_bytes());
        if self.bytes + bytes <= most {
            self.bytes += bytes;
            self.requests += bytes;
            asked.message = message.take();
        }
        true
    }

    /// Returns true if the request of a response may still be reported.
    pub(super) fn may_wait(&self) -> bool {
        self.waiting.is_empty() && !self.none
    }

    /// Returns the exchange of an interim response (RFC 9110 §15.2): that of the next response.
    pub(super) fn interim(&self, start_ns: u64) -> Option<Exchange> {
        let asked = self.waiting.front().filter(|asked| asked.first_ns <= start_ns)?;
        match self.trust {
            Trust::Full => Exchange::numbered(asked.number),
            Trust::NoResponses | Trust::Nothing => None,
        }
    }

    /// Takes the request that the response from `start_ns` answers.
    pub(super) fn take(&mut self, start_ns: u64, limits: &Limits) -> Exchange {
        self.latest_ns = self.latest_ns.max(start_ns);
        let candidates = self
            .waiting
            .iter()
            .take_while(|asked| asked.first_ns <= start_ns)
            .count();
        let pairing = self.pairing();
        if self.trust == Trust::Full || candidates == 1 {
            let taken = if candidates > 0 { self.pop() } else { None };
            return match taken {
                Some(asked) => {
                    if self.trust == Trust::NoResponses {
                        self.trust = Trust::Full;
                    }
                    Exchange::answering(asked, pairing)
                }
                None => self.take_none(start_ns, limits),
            };
        }
        if candidates == 0 {
            return self.take_none(start_ns, limits);
        }
        // It may answer any of them. How many are outstanding is not known any more.
        self.pop();
        self.trust = Trust::Nothing;
        Exchange::unanswering(Pairing::Uncertain)
    }

    fn take_none(&mut self, start_ns: u64, limits: &Limits) -> Exchange {
        if !self.none && self.waiting.is_empty() {
            if self.owed.len() >= limits.pending_requests {
                self.owed.pop_front();
                self.lose_requests();
            }
            self.owed.push_back(start_ns);
        } else if !self.waiting.is_empty() {
            // Its request was before all that are known.
            self.trust = Trust::Nothing;
        }
        Exchange::unanswering(Pairing::NoRequest)
    }

    const fn pairing(&self) -> Pairing {
        match self.trust {
            Trust::Full => Pairing::Certain,
            Trust::NoResponses | Trust::Nothing => Pairing::Uncertain,
        }
    }

    /// Takes the requests that were not answered.
    pub(super) fn take_unanswered(&mut self) -> VecDeque<Arc<Asked>> {
        (self.bytes, self.requests) = (0, 0);
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Target;
    use Pairing::{Certain, NoRequest, Uncertain};

    fn asked(number: u32, first_ns: u64) -> Arc<Asked> {
        Arc::new(Asked {
            number: Some(number),
            first_ns,
            ..Asked::default()
        })
    }

    fn pairs(requests: &[(u32, u64)]) -> Pairs {
        let mut pairs = Pairs::new(Some(0));
        for &(number, first_ns) in requests {
            assert_eq!(pairs.add(asked(number, first_ns), &Limits::default()), None);
        }
        pairs
    }

    fn take(pairs: &mut Pairs, start_ns: u64) -> (Option<u32>, Option<Pairing>) {
        let exchange = pairs.take(start_ns, &Limits::default());
        (exchange.number, exchange.pairing)
    }

    #[test]
    fn responses_answer_in_order() {
        let mut pairs = pairs(&[(1, 1), (2, 1), (3, 9)]);
        assert_eq!(take(&mut pairs, 2), (Some(1), Some(Certain)));
        assert_eq!(take(&mut pairs, 3), (Some(2), Some(Certain)));
        assert_eq!(
            take(&mut pairs, 4),
            (None, Some(NoRequest)),
            "it is older than the request"
        );
        assert_eq!(take(&mut pairs, 10), (Some(3), Some(Uncertain)));
    }

    #[test]
    fn notices_dropped_on_the_way_are_noticed_by_their_numbers() {
        let mut pairs = pairs(&[(4, 7)]);
        for number in 1..=4 {
            assert_eq!(take(&mut pairs, 8), (Some(number), Some(Certain)));
        }
    }

    #[test]
    fn after_lost_responses_a_single_candidate_restores_the_order() {
        let mut pairs = pairs(&[(1, 1)]);
        pairs.lose_responses();
        assert_eq!(take(&mut pairs, 2), (Some(1), Some(Uncertain)));
        pairs.add(asked(2, 3), &Limits::default());
        assert_eq!(take(&mut pairs, 4), (Some(2), Some(Certain)));
    }

    #[test]
    fn after_lost_responses_one_of_several_is_not_chosen() {
        let mut pairs = pairs(&[(1, 1), (2, 1)]);
        pairs.lose_responses();
        assert_eq!(take(&mut pairs, 2), (None, Some(Uncertain)));
        assert_eq!(take(&mut pairs, 3), (Some(2), Some(Uncertain)));
        pairs.add(asked(3, 4), &Limits::default());
        assert_eq!(take(&mut pairs, 5), (Some(3), Some(Uncertain)));
    }

    #[test]
    fn after_lost_requests_only_silence_restores_the_order() {
        let limits = Limits::default();
        let mut pairs = pairs(&[(1, 1)]);
        pairs.lose_requests();
        pairs.add(asked(2, 2), &limits);
        assert_eq!(take(&mut pairs, 2), (None, Some(Uncertain)));
        assert_eq!(take(&mut pairs, 3), (Some(2), Some(Uncertain)));
        pairs.add(asked(3, 4), &limits);
        assert_eq!(take(&mut pairs, 5), (Some(3), Some(Uncertain)));
        pairs.add(asked(4, 5 + PAIRING_QUIET_NS), &limits);
        assert_eq!(take(&mut pairs, u64::MAX), (Some(4), Some(Certain)));
    }

    #[test]
    fn a_late_notice_belongs_to_the_response_that_was_released() {
        let mut pairs = pairs(&[]);
        assert_eq!(take(&mut pairs, 3), (None, Some(NoRequest)));
        let (response_ns, exchange) = pairs.add(asked(1, 2), &Limits::default()).unwrap();
        assert_eq!((response_ns, exchange.number), (3, Some(1)));
        pairs.add(asked(2, 4), &Limits::default());
        assert_eq!(take(&mut pairs, 5), (Some(2), Some(Certain)));
    }

    #[test]
    fn what_waits_is_bounded() {
        let limits = Limits {
            pending_requests: 4,
            asked_total_bytes: 1000,
            ..Limits::default()
        };
        let mut pairs = Pairs::new(Some(0));
        for number in 1..100 {
            let mut asked = asked(number, 1);
            let target = Target::new([Some(&[b'x'; 600]), None, None], &limits);
            Arc::make_mut(&mut asked).target = Some(target);
            pairs.add(asked, &limits);
        }
        assert_eq!(pairs.waiting.len(), 4);
        assert!(pairs.held_bytes() < 1000 + 4 * size_of::<Asked>());
        assert_eq!(take(&mut pairs, 2), (None, Some(Uncertain)));
    }
}

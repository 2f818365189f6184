//! Numbers requests, reports them to the other direction, and assigns responses to them.

use std::sync::Arc;

use crate::decoder::{Output, PeerNotice};
use crate::exchange::{self, Asked, EndOfRequest, Exchange, Target};
use crate::http1::decoder::Http1Decoder;
use crate::http1::head::{Head, Side};
use crate::http1::pairs::Pairs;
use crate::http1::state::State;

/// What a direction knows about exchanges, if the view pairs.
pub(super) struct Exchanges {
    /// Of requests: number of the last one, if it is known.
    last: Option<u32>,
    /// Of responses: the requests that wait for them.
    pairs: Option<Pairs>,
    /// The exchange of the message that is being read, or that may change the protocol.
    current: Option<Exchange>,
}

impl Exchanges {
    /// Returns true if no state but the number of the last request affects later messages.
    pub(super) fn is_settled(&self) -> bool {
        self.pairs.as_ref().is_none_or(Pairs::is_settled)
    }

    /// Returns the number of the last request.
    pub(super) fn last(&self) -> Option<u32> {
        self.pairs.as_ref().map_or(self.last, Pairs::last)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.pairs.as_ref().map_or(0, Pairs::held_bytes)
    }

    /// Releases memory that is reserved and not used.
    pub(super) fn give_back_room(&mut self) {
        if let Some(pairs) = &mut self.pairs {
            pairs.give_back_room();
        }
    }
}

impl Http1Decoder {
    /// Begins to number, or to pair, after the request `last`.
    pub(super) fn begin_exchanges_after(&mut self, last: Option<u32>, is_complete: bool) {
        if !self.options.view.pairs() {
            return;
        }
        let pairs = match self.side {
            Side::Requests => None,
            Side::Responses => Some(Pairs::new(last.filter(|_| is_complete))),
        };
        self.exchanges = Some(Box::new(Exchanges {
            last,
            pairs,
            current: None,
        }));
    }

    fn pairs(&mut self) -> Option<&mut Pairs> {
        self.exchanges.as_mut()?.pairs.as_mut()
    }

    /// Numbers a request and reports it to the other direction.
    pub(super) fn ask(&mut self, head: &Head, bytes: &[u8], output: &mut Output) {
        let Some(exchanges) = &mut self.exchanges else {
            return;
        };
        exchanges.last = exchanges.last.map(|last| last.wrapping_add(1));
        let limits = &self.options.limits;
        let target = head
            .request_line(bytes)
            .map(|line| Target::new([Some(line.method), line.authority, line.path], limits));
        output.notices.push(PeerNotice::Asked(Arc::new(Asked {
            number: exchanges.last,
            stream: None,
            target,
            first_ns: self.start_ns,
            end: None,
            message: None,
        })));
        exchanges.current = Exchange::numbered(exchanges.last);
    }

    /// Reports the end of a request that was emitted.
    pub(super) fn report_end(&self, output: &mut Output) {
        if self.exchanges.is_some() {
            let joins = self.options.view.joins();
            if let Some(message) = output.messages.last() {
                exchange::report_end(message, joins, &mut output.notices);
            }
        }
    }

    /// Returns true if a response that begins here waits for its request's notice.
    pub(super) fn awaits_request(&self) -> bool {
        let pairs = self
            .exchanges
            .as_ref()
            .and_then(|exchanges| exchanges.pairs.as_ref());
        pairs.is_some_and(Pairs::may_wait)
    }

    /// Takes the exchange that the response from `start_ns` belongs to.
    pub(super) fn take_exchange(&mut self, start_ns: u64, is_interim: bool) {
        let options = Arc::clone(&self.options);
        let Some(pairs) = self.pairs() else { return };
        let exchange = if is_interim {
            pairs.interim(start_ns)
        } else {
            Some(pairs.take(start_ns, &options.limits))
        };
        self.set_exchange(exchange);
    }

    fn set_exchange(&mut self, exchange: Option<Exchange>) {
        if let Some(exchanges) = &mut self.exchanges {
            exchanges.current = exchange;
        }
    }

    /// Returns the exchange of the message that is being read.
    pub(super) fn exchange(&self) -> Option<Exchange> {
        self.exchanges.as_ref()?.current.clone()
    }

    /// Forgets the exchange of a message that has ended, unless the protocol may change with it.
    pub(super) fn end_exchange(&mut self) {
        if self.asked.is_none() {
            self.set_exchange(None);
        }
    }

    /// Bytes held after a response's head until its request is known.
    pub(super) fn awaiting_limit(&self) -> usize {
        let limits = &self.options.limits;
        if self.exchanges.is_some() {
            limits.paired_awaiting_bytes
        } else {
            limits.http1_awaiting_bytes
        }
    }

    /// Takes a notice that concerns exchanges.
    pub(super) fn take_exchange_notice(&mut self, notice: &PeerNotice, output: &mut Output) {
        match notice {
            PeerNotice::Asked(asked) => self.take_asked(Arc::clone(asked), output),
            PeerNotice::RequestEnd(end) => self.take_request_end(end, output),
            PeerNotice::BegunLate | PeerNotice::RequestsLost => {
                if let Some(pairs) = self.pairs() {
                    pairs.lose_requests();
                }
            }
            PeerNotice::NoRequests => {
                if let Some(pairs) = self.pairs() {
                    pairs.expect_none();
                }
            }
            PeerNotice::RequestHead { .. } | PeerNotice::WebSocketStream { .. } => {}
        }
    }

    fn take_asked(&mut self, mut asked: Arc<Asked>, output: &mut Output) {
        let options = Arc::clone(&self.options);
        let Some(pairs) = self.pairs() else { return };
        if pairs.held_bytes() + asked.bytes() > options.limits.joined_bytes {
            exchange::release(&mut asked, output);
        }
        let Some((response_ns, mut exchange)) = pairs.add(asked, &options.limits) else {
            return;
        };
        // The response that went ahead may not have ended.
        if let State::Body(open) = &mut self.state
            && open.start_ns() == response_ns
        {
            open.assign(Some(exchange.clone()));
            self.set_exchange(Some(exchange));
            return;
        }
        // The response has ended without its request.
        if let Some(asked) = &mut exchange.request {
            exchange::release(asked, output);
        }
    }

    fn take_request_end(&mut self, notice: &EndOfRequest, output: &mut Output) {
        let EndOfRequest { number, end, .. } = *notice;
        let mut message = notice.message.clone();
        let most = self.options.limits.joined_bytes;
        let Some(exchanges) = &mut self.exchanges else {
            return;
        };
        let Some(pairs) = &mut exchanges.pairs else { return };
        let waits = pairs.end(number, end, &mut message, most);
        if let (State::Body(open), Some(exchange)) = (&mut self.state, &mut exchanges.current)
            && exchange.number == number
            && !waits
        {
            if let Some(asked) = &mut exchange.request {
                let asked = Arc::make_mut(asked);
                asked.end = Some(end);
                asked.message = message;
            }
            open.assign(Some(exchange.clone()));
        } else if let Some(message) = message {
            output.messages.push(exchange::released(number, message));
        }
    }

    /// Notes that responses may be missing before the next one.
    pub(super) fn lose_responses(&mut self) {
        if let Some(pairs) = self.pairs() {
            pairs.lose_responses();
        }
    }

    /// Emits the requests that had no response until the connection ended.
    pub(super) fn emit_unanswered(&mut self, output: &mut Output) {
        let last_ns = self.last_ns;
        let Some(pairs) = self.pairs() else { return };
        for request in pairs.take_unanswered() {
            output.messages.push(exchange::unanswered(request, last_ns));
        }
    }
}

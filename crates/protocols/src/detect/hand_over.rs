//! Goes on with another protocol when one gives way to it.

use std::sync::Arc;

use super::{Backlog, Detecting, HandOver, State, Unknown, prepend};
use crate::decoder::{Output, PeerNotice};
use crate::exchange::{Asked, Exchange, Pairing};

impl Detecting {
    pub(super) fn follow_hand_over(&mut self, backlog: &mut Backlog, output: &mut Output) -> bool {
        let State::Decoding(decoder) = &mut self.state else {
            return false;
        };
        let Some(HandOver { next, rest, exchange }) = decoder.hand_over() else {
            return false;
        };
        self.exchanges = decoder.exchanges().or(self.exchanges);
        prepend(rest, backlog);
        self.state = State::Unknown(Box::new(Unknown::new(&self.options)));
        if let Some(protocol) = next {
            self.start(protocol, &[], backlog, output);
        }
        self.continue_under(exchange.as_ref(), output);
        true
    }

    /// Notes the exchange that led to the current protocol. HTTP/2 answers its request on stream 1
    /// (RFC 7540 §3.2).
    fn continue_under(&mut self, exchange: Option<&Exchange>, output: &mut Output) {
        let is_certain = |exchange: &&Exchange| matches!(exchange.pairing, None | Some(Pairing::Certain));
        let exchange = exchange.filter(is_certain);
        self.under = exchange.and_then(|exchange| exchange.number);
        if let (State::Decoding(decoder), Some(request)) = (
            &mut self.state,
            exchange.and_then(|exchange| exchange.request.as_ref()),
        ) {
            let asked = Asked {
                stream: Some(1),
                ..Asked::clone(request)
            };
            decoder.notice(&PeerNotice::Asked(Arc::new(asked)), output);
        }
    }
}

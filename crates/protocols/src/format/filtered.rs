//! Only the messages that a filter selects.

use std::sync::Arc;

use super::{ExchangeEnd, Format, MessageEnd, Records};
use crate::decoder::View;
use crate::event::Origin;
use crate::exchange::{Asked, Exchange, Pairing};
use crate::filter::{Filter, Subject};
use crate::message::{Content, Message};

/// Hands the messages that a filter selects to another format.
///
/// A request that only its response can decide is held by the decoder of the other direction
/// ([`View::Joined`]) and printed before that response. If it cannot be held it is printed with the
/// mark [`Pairing::Undecided`].
pub struct Filtered {
    /// The format.
    pub format: Arc<dyn Format>,
    /// What is selected.
    pub filter: Arc<Filter>,
}

impl Format for Filtered {
    fn view(&self) -> View {
        match self.format.view() {
            _ if self.filter.needs_response() => View::Joined,
            View::Text | View::TextMessages if self.filter.needs_exchange() => {
                View::Structured { frames: false }
            }
            view => view,
        }
    }

    fn begin(&self, out: &mut Vec<u8>) {
        self.format.begin(out);
    }

    fn join_ends(&self, client: (&ExchangeEnd, &[u8]), server: (&ExchangeEnd, &[u8]), out: &mut Vec<u8>) {
        self.format.join_ends(client, server, out);
    }

    fn join_messages(&self, shown: (&MessageEnd, &[u8]), other: &MessageEnd, out: &mut Vec<u8>) {
        self.format.join_messages(shown, other, out);
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        // Neighbours stay in one call, because some formats write one record for them.
        let mut rest = messages;
        while let Some(message) = rest.first() {
            let run = rest
                .iter()
                .take_while(|message| self.is_plain(origin, message))
                .count();
            if run > 0 {
                self.format.write(origin, &rest[..run], out);
                rest = &rest[run..];
                continue;
            }
            self.write_other(origin, message, out);
            rest = &rest[1..];
        }
    }
}

impl Filtered {
    fn verdict(&self, origin: &Origin, message: &Message) -> Option<bool> {
        self.filter.verdict(&Subject::new(origin, message))
    }

    /// Returns true if the message is printed, and nothing else with it.
    fn is_plain(&self, origin: &Origin, message: &Message) -> bool {
        match message.content {
            // What is missing is reported unless it is of something that is not selected.
            Content::Gap(_) => self.verdict(origin, message) != Some(false),
            Content::Unanswered => false,
            _ => held_request(message).is_none() && self.verdict(origin, message) == Some(true),
        }
    }

    fn write_other(&self, origin: &Origin, message: &Message, out: &mut Records) {
        let request = held_request(message).filter(|request| {
            let alone = Subject::of_request(origin, request, None);
            self.filter.verdict(&alone).is_none()
        });
        if matches!(message.content, Content::Unanswered) {
            return self.write_unanswered(origin, message, request, out);
        }
        if let Some(request) = request {
            let verdict = self
                .filter
                .verdict(&Subject::of_request(origin, request, Some(message)));
            if verdict == Some(true) {
                self.format
                    .write(&origin.mirrored(), std::slice::from_ref(request), out);
            } else {
                out.leave_out(1);
            }
        }
        if self.verdict(origin, message) == Some(true) {
            self.format.write(origin, std::slice::from_ref(message), out);
        } else if !self.is_held(message) {
            out.leave_out(1);
        }
    }

    /// Returns true for a request that comes again with its response.
    fn is_held(&self, message: &Message) -> bool {
        let exchange = message.exchange.as_ref();
        self.filter.needs_response()
            && message.is_request()
            && exchange.is_some_and(|exchange| exchange.number.is_some())
    }

    /// A request without a response has none of its fields, so what they decide is not selected.
    fn write_unanswered(
        &self,
        origin: &Origin,
        message: &Message,
        request: Option<&Message>,
        out: &mut Records,
    ) {
        let pairing = message.exchange.as_ref().and_then(|exchange| exchange.pairing);
        match (pairing, request) {
            (None, Some(request)) => {
                let mut request = request.clone();
                request.exchange = Some(Exchange {
                    number: message.exchange.as_ref().and_then(|exchange| exchange.number),
                    pairing: Some(Pairing::Undecided),
                    request: None,
                });
                self.format.write(&origin.mirrored(), &[request], out);
            }
            (Some(_), None) if self.verdict(origin, message) == Some(true) => {
                self.format.write(origin, std::slice::from_ref(message), out);
            }
            // It was printed, or left out, when it was complete.
            (None, None) => {}
            (Some(_), _) => out.leave_out(1),
        }
    }
}

/// Returns the whole request that a response brings along.
fn held_request(message: &Message) -> Option<&Message> {
    let exchange: &Exchange = message.exchange.as_ref()?;
    let asked: &Asked = exchange.request.as_deref()?;
    asked.message.as_deref()
}

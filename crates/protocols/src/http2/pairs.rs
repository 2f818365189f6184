//! Assigns the messages of a connection to exchanges: by stream, since an id is never used twice
//! (RFC 9113 §5.1.1).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::decoder::{Output, PeerNotice, View};
use crate::exchange::{self, Asked, EndOfRequest, Exchange, Pairing, RequestEnd, Target};
use crate::http2::carried::Span;
use crate::http2::section::Section;
use crate::limits::Limits;
use crate::message::{Content, Http2Kind, Message, Part};

/// The requests whose responses are expected in this direction, and the numbers of all exchanges.
#[derive(Default)]
pub(super) struct Pairs {
    /// The view pairs.
    is_on: bool,
    /// The view joins.
    joins: bool,
    /// What is added to a stream id: other exchanges precede those of an upgraded connection.
    base: u32,
    asked: BTreeMap<u32, Arc<Asked>>,
    /// Streams whose response ended before their request was reported.
    owed: VecDeque<u32>,
    bytes: usize,
    /// Those of whole requests among them.
    requests: usize,
    /// How many times a response waited in vain since the last request was reported.
    overdue: u8,
}

/// After so many responses that waited in vain no more wait.
const PATIENCE: u8 = 4;

impl Pairs {
    pub(super) fn new(view: View) -> Self {
        Self {
            is_on: view.pairs(),
            joins: view.joins(),
            ..Self::default()
        }
    }

    /// Continues after the exchange `last` of the protocol before: its last request is that of
    /// stream 1 (RFC 7540 §3.2).
    pub(super) fn begin_after(&mut self, last: Option<u32>) {
        self.base = last.unwrap_or(0).saturating_sub(1);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Reports a request of this direction.
    pub(super) fn ask(
        &self,
        section: Option<&Section>,
        stream: u32,
        span: Span,
        limits: &Limits,
        output: &mut Output,
    ) {
        if self.is_on {
            let asked = self.request(section, stream, span, limits);
            output.notices.push(PeerNotice::Asked(Arc::new(asked)));
        }
    }

    /// Notes a pushed request, which this direction answers itself.
    pub(super) fn promise(&mut self, section: &Section, stream: u32, span: Span, limits: &Limits) {
        if self.is_on {
            let mut asked = self.request(Some(section), stream, span, limits);
            asked.end = Some(RequestEnd {
                last_ns: span.last_ns,
                wire_len: 0,
                complete: true,
            });
            self.add(Arc::new(asked), limits, &mut Output::default());
        }
    }

    fn request(&self, section: Option<&Section>, stream: u32, span: Span, limits: &Limits) -> Asked {
        let target = section.map(|section| {
            let part = |name: &[u8]| section.value(name).map(|value| &value[..]);
            Target::new([part(b":method"), part(b":authority"), part(b":path")], limits)
        });
        Asked {
            number: Some(self.number(stream)),
            stream: Some(stream),
            // Without its field section the request began at an unknown time.
            first_ns: section.map_or(0, |_| span.first_ns),
            target,
            end: None,
            message: None,
        }
    }

    /// Adds a request whose response is expected.
    pub(super) fn add(&mut self, mut asked: Arc<Asked>, limits: &Limits, output: &mut Output) {
        let Some(stream) = asked.stream.filter(|_| self.is_on) else {
            return;
        };
        self.overdue = 0;
        if let Some(answered) = self.owed.iter().position(|&owed| owed == stream) {
            self.owed.remove(answered);
            return exchange::release(&mut asked, output);
        }
        if self.bytes + asked.bytes() > limits.joined_bytes {
            exchange::release(&mut asked, output);
        }
        if asked.message.is_none() && self.bytes - self.requests + asked.bytes() > limits.asked_total_bytes {
            Arc::make_mut(&mut asked).target = None;
        }
        self.bytes += asked.bytes();
        self.requests += asked.request_bytes();
        if let Some(earlier) = self.asked.insert(stream, asked) {
            self.forget(&earlier);
        }
        if self.asked.len() > limits.pending_requests
            && let Some((_, oldest)) = self.asked.pop_first()
        {
            self.forget(&oldest);
        }
    }

    /// Takes a request that is not held any more out of the sums.
    fn forget(&mut self, asked: &Asked) {
        self.bytes = self.bytes.saturating_sub(asked.bytes());
        self.requests = self.requests.saturating_sub(asked.request_bytes());
    }

    /// Notes the end of a request.
    pub(super) fn end(&mut self, notice: &EndOfRequest, limits: &Limits, output: &mut Output) {
        let Some(stream) = notice.stream else { return };
        let (end, message) = (notice.end, notice.message.clone());
        let number = Some(self.number(stream));
        let bytes = message.as_ref().map_or(0, |message| message.held_bytes());
        let has_room = self.bytes + bytes <= limits.joined_bytes;
        let asked = self.asked.get_mut(&stream).map(Arc::make_mut);
        match (asked, message) {
            (Some(asked), message) if has_room => {
                asked.end = Some(end);
                asked.message = message;
                self.bytes += bytes;
                self.requests += bytes;
            }
            (_, Some(message)) => output.messages.push(exchange::released(number, message)),
            (_, None) => {}
        }
    }

    /// Notes that a response waited in vain.
    pub(super) const fn note_overdue(&mut self) {
        self.overdue = self.overdue.saturating_add(1);
    }

    /// Returns true if a response on `stream` has to wait for its request's notice.
    pub(super) fn awaits(&self, stream: u32) -> bool {
        let is_clients = !stream.is_multiple_of(2);
        self.is_on && is_clients && self.overdue < PATIENCE && !self.asked.contains_key(&stream)
    }

    /// Assigns the messages emitted since `from`.
    pub(super) fn assign(&mut self, from: usize, limits: &Limits, output: &mut Output) {
        if !self.is_on {
            return;
        }
        for index in from..output.messages.len() {
            let Some(message) = output.messages.get_mut(index) else {
                return;
            };
            message.exchange = self.exchange_of(message, limits);
            if is_end_of_request(message) {
                exchange::report_end(message, self.joins, &mut output.notices);
            }
        }
    }

    fn exchange_of(&mut self, message: &Message, limits: &Limits) -> Option<Exchange> {
        match &message.content {
            Content::Http2(http2) if http2.kind == Http2Kind::Response => {
                let is_interim = message_status(http2.fields.first()).is_some_and(|status| status < 200);
                let is_last = matches!(http2.part, Part::Whole | Part::Continued { final_part: true });
                Some(self.answer(http2.stream, message.first_ns, is_last && !is_interim, limits))
            }
            Content::Http2(http2) => Exchange::numbered(Some(self.number(http2.stream))),
            Content::Grpc(grpc) => Exchange::numbered(Some(self.number(grpc.stream))),
            Content::WebSocket(message) => Exchange::numbered(Some(self.number(message.stream?))),
            Content::ServerSentEvent(event) => Exchange::numbered(Some(self.number(event.stream?))),
            _ => message.exchange.clone(),
        }
    }

    fn answer(&mut self, stream: u32, first_ns: u64, is_last: bool, limits: &Limits) -> Exchange {
        // No response precedes its request.
        let asked = self.asked.get(&stream).filter(|asked| asked.first_ns <= first_ns);
        let exchange = match asked {
            Some(asked) => Exchange::answering(Arc::clone(asked), Pairing::Certain),
            None => Exchange {
                number: Some(self.number(stream)),
                pairing: Some(Pairing::NoRequest),
                request: None,
            },
        };
        if is_last {
            if let Some(asked) = self.asked.remove(&stream) {
                self.forget(&asked);
            } else {
                if self.owed.len() >= limits.http2_streams {
                    self.owed.pop_front();
                }
                self.owed.push_back(stream);
            }
        }
        exchange
    }

    /// Emits the requests that had no response until the connection ended.
    pub(super) fn close(&mut self, last_ns: u64, output: &mut Output) {
        (self.bytes, self.requests) = (0, 0);
        for request in std::mem::take(&mut self.asked).into_values() {
            output.messages.push(exchange::unanswered(request, last_ns));
        }
    }

    const fn number(&self, stream: u32) -> u32 {
        self.base.wrapping_add(stream)
    }
}

fn message_status(first: Option<&crate::message::Field>) -> Option<u16> {
    let field = first.filter(|field| field.name.as_deref() == Some(b":status"))?;
    str::from_utf8(field.value.as_deref()?).ok()?.parse().ok()
}

fn is_end_of_request(message: &Message) -> bool {
    matches!(&message.content, Content::Http2(http2) if http2.kind == Http2Kind::Request
        && !http2.pushed && matches!(http2.part, Part::Whole | Part::Continued { final_part: true }))
}

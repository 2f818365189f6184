//! Exchanges: which response answers which request.
//!
//! The direction of the requests numbers them and reports each with a notice ([`Asked`]); the
//! direction of the responses assigns them. Whoever knows less than that says so: [`Pairing`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits::Limits;
use crate::message::{Content, Http1Kind, Http2Kind, Message};
use crate::{Output, PeerNotice};

/// The exchange that a message belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exchange {
    /// Number of the exchange in its connection, from 1; of HTTP/2 the stream id. `None` if it is
    /// unknown.
    pub number: Option<u32>,
    /// Of a response: how it was paired.
    pub pairing: Option<Pairing>,
    /// Of a response: its request, if one was assigned.
    pub request: Option<Arc<Asked>>,
}

impl Exchange {
    /// Returns the exchange of a request, or of a message under it.
    pub(crate) fn numbered(number: Option<u32>) -> Option<Self> {
        let number = Some(number?);
        Some(Self {
            number,
            ..Self::default()
        })
    }

    /// Returns the exchange of a response that `request` asked for.
    pub(crate) fn answering(request: Arc<Asked>, pairing: Pairing) -> Self {
        Self {
            number: request.number,
            pairing: Some(pairing),
            request: Some(request),
        }
    }

    /// Returns true if the times of both messages can be compared: the response answers the
    /// request, as far as is known, and the request's time is.
    pub fn has_times(&self) -> bool {
        let is_paired = matches!(self.pairing, Some(Pairing::Certain | Pairing::Uncertain));
        is_paired && self.request.as_ref().is_some_and(|request| request.first_ns > 0)
    }

    /// Returns the exchange of a response without a request.
    pub(crate) fn unanswering(pairing: Pairing) -> Self {
        Self {
            pairing: Some(pairing),
            ..Self::default()
        }
    }
}

/// How certain it is that a response answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Nothing that affects the pairing is missing.
    Certain,
    /// A gap, a late attach or a restart lies between, so the response may answer another request.
    /// Without a request there is more than one that it may answer.
    Uncertain,
    /// No request is known that the response may answer: it was not captured, or not known in time.
    NoRequest,
    /// Of a request: a filter waited for its response, and could not wait any longer.
    Undecided,
    /// No response was captured by the end of the connection.
    NoResponse,
}

impl Pairing {
    /// Returns its name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Uncertain => "uncertain",
            Self::NoRequest => "no_request",
            Self::NoResponse => "no_response",
            Self::Undecided => "undecided",
        }
    }
}

/// A request, as its response shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// Number of the exchange; see [`Exchange::number`].
    pub number: Option<u32>,
    /// HTTP/2 stream id.
    pub stream: Option<u32>,
    /// Method, authority and path; `None` if they are unknown or were dropped under a limit.
    pub target: Option<Target>,
    /// Kernel time of its first byte.
    pub first_ns: u64,
    /// Its end, if it was seen before the response's.
    pub end: Option<RequestEnd>,
    /// The whole request, in views that join ([`View::joins`](crate::View::joins)).
    pub message: Option<Arc<Message>>,
}

/// Where a request is directed, in one piece of memory. Each part is cut at [`Limits::asked_bytes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The parts, without anything between them.
    text: Box<[u8]>,
    /// Their lengths; `None` of those that are unknown.
    lengths: [Option<u32>; 3],
}

/// The end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestEnd {
    /// Kernel time of its last byte.
    pub last_ns: u64,
    /// Bytes of its body on the wire.
    pub wire_len: u64,
    /// All of them were seen.
    pub complete: bool,
}

/// The notice of the end of a request ([`PeerNotice::RequestEnd`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndOfRequest {
    /// Number of its exchange.
    pub number: Option<u32>,
    /// HTTP/2 stream id.
    pub stream: Option<u32>,
    /// Its end.
    pub end: RequestEnd,
    /// The whole request, in views that join.
    pub message: Option<Arc<Message>>,
}

impl Target {
    /// Copies method, authority and path, each cut at the limit.
    pub(crate) fn new(parts: [Option<&[u8]>; 3], limits: &Limits) -> Self {
        Self::of(parts.map(|part| part.map(|part| &part[..part.len().min(limits.asked_bytes)])))
    }

    /// Copies method, authority and path.
    pub(crate) fn of(parts: [Option<&[u8]>; 3]) -> Self {
        let mut text = Vec::with_capacity(parts.iter().flatten().map(|part| part.len()).sum());
        for part in parts.into_iter().flatten() {
            text.extend_from_slice(part);
        }
        Self {
            text: text.into_boxed_slice(),
            lengths: parts.map(|part| part.map(|part| u32::try_from(part.len()).unwrap_or(u32::MAX))),
        }
    }

    /// Returns the method.
    pub fn method(&self) -> Option<&[u8]> {
        self.part(0)
    }

    /// Returns the authority (RFC 9110 §7.1).
    pub fn authority(&self) -> Option<&[u8]> {
        self.part(1)
    }

    /// Returns the path with its query.
    pub fn path(&self) -> Option<&[u8]> {
        self.part(2)
    }

    fn part(&self, index: usize) -> Option<&[u8]> {
        let length = self.lengths[index]? as usize;
        let start: usize = self.lengths[..index]
            .iter()
            .flatten()
            .map(|&length| length as usize)
            .sum();
        self.text.get(start..start + length)
    }
}

impl Asked {
    /// Returns the memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.target.as_ref().map_or(0, |target| target.text.len()) + self.request_bytes()
    }

    /// Returns the part of them that the whole request takes.
    pub(crate) fn request_bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.held_bytes())
    }
}

/// Makes the message that reports a request without a response.
pub(crate) fn unanswered(request: Arc<Asked>, last_ns: u64) -> Message {
    let first_ns = request.first_ns;
    Message {
        first_ns,
        last_ns: last_ns.max(first_ns),
        exchange: Some(Exchange::answering(request, Pairing::NoResponse)),
        content: Content::Unanswered,
    }
}

/// Emits the requests of `notices` that no decoder took: the direction of the responses has ended and
/// had none.
pub(crate) fn unanswered_of(mut notices: Vec<PeerNotice>, output: &mut Output) {
    let mut ends: BTreeMap<Option<u32>, EndOfRequest> = BTreeMap::new();
    for notice in notices.extract_if(.., |notice| matches!(notice, PeerNotice::RequestEnd(_))) {
        if let PeerNotice::RequestEnd(end) = notice {
            ends.insert(end.number, *end);
        }
    }
    for notice in notices {
        if let PeerNotice::Asked(mut asked) = notice {
            if let Some(end) = ends.remove(&asked.number) {
                let asked = Arc::make_mut(&mut asked);
                asked.end = Some(end.end);
                asked.message = end.message;
            }
            let last_ns = asked.end.map_or(asked.first_ns, |end| end.last_ns);
            output.messages.push(unanswered(asked, last_ns));
        }
    }
    for end in ends.into_values() {
        if let Some(message) = end.message {
            output.messages.push(released(end.number, message));
        }
    }
}

/// Makes the message that releases a request from the wait for its response.
pub(crate) fn released(number: Option<u32>, request: Arc<Message>) -> Message {
    let (first_ns, last_ns) = (request.first_ns, request.last_ns);
    let asked = Asked {
        number,
        first_ns,
        message: Some(request),
        ..Asked::default()
    };
    Message {
        first_ns,
        last_ns,
        exchange: Some(Exchange {
            number,
            pairing: None,
            request: Some(Arc::new(asked)),
        }),
        content: Content::Unanswered,
    }
}

/// Releases a request that cannot be held.
pub(crate) fn release(asked: &mut Arc<Asked>, output: &mut Output) {
    if asked.message.is_some()
        && let Some(request) = Arc::make_mut(asked).message.take()
    {
        output.messages.push(released(asked.number, request));
    }
}

/// Releases the request that a notice brings, which cannot be held.
pub(crate) fn release_from(notice: &mut PeerNotice, output: &mut Output) {
    match notice {
        PeerNotice::Asked(asked) => release(asked, output),
        PeerNotice::RequestEnd(end) => {
            let message = end.message.take();
            output
                .messages
                .extend(message.map(|message| released(end.number, message)));
        }
        _ => {}
    }
}

/// So many notices are searched for that of a request's head.
const HEADS_SEARCHED: usize = 64;

/// Reports the end of the request that `message` is, or the last part of: with the notice of its
/// head if that is among `notices`, so that a response that waits for the head has both.
pub(crate) fn report_end(message: &Message, joins: bool, notices: &mut Vec<PeerNotice>) {
    let Some(exchange) = message.exchange.as_ref() else {
        return;
    };
    let (stream, body) = match &message.content {
        Content::Http1(request) if request.kind == Http1Kind::Request => (None, &request.body),
        Content::Http2(request) if request.kind == Http2Kind::Request => {
            (Some(request.stream), &request.body)
        }
        _ => return,
    };
    let number = exchange.number;
    let end = RequestEnd {
        last_ns: message.last_ns,
        wire_len: body.wire_len,
        complete: body.complete,
    };
    let message = joins.then(|| Arc::new(message.clone()));
    let asked = notices
        .iter_mut()
        .rev()
        .take(HEADS_SEARCHED)
        .find_map(|notice| match notice {
            PeerNotice::Asked(asked) if asked.number == number && asked.stream == stream => Some(asked),
            _ => None,
        });
    match asked {
        Some(asked) => {
            let asked = Arc::make_mut(asked);
            asked.end = Some(end);
            asked.message = message;
        }
        None => notices.push(PeerNotice::RequestEnd(Box::new(EndOfRequest {
            number,
            stream,
            end,
            message,
        }))),
    }
}

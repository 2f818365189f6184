//! The state machine; see the [module](super) for its diagram.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr_iter;

use crate::decoder::{Detection, MethodClass, Options, Output, PeerNotice, SkipReason, Skipped};
use crate::detect::{self, HandOver};
use crate::expansion::Expansion;
use crate::http1::awaiting::Awaiting;
use crate::http1::framing::{self, Framing};
use crate::http1::head::{self, Head, HeadScan, Side, Upgrade};
use crate::http1::held::Held;
use crate::http1::long_head::{self, Ended, LongHead};
use crate::http1::open::{self, Open, Reached};
use crate::http1::peer::{Answered, Requests};
use crate::http1::search::Next;
use crate::http1::{probe, search};
use crate::message::{Anomaly, Body, Http1Kind};
use crate::raw;

/// Decodes one direction of HTTP/1.
pub(super) struct Http1Decoder {
    pub(super) options: Arc<Options>,
    pub(super) side: Side,
    pub(super) state: State,
    /// The beginning of a head or of a line.
    pub(super) pending: BytesMut,
    /// Empty lines before it, which go with it.
    empty_lines: Bytes,
    scan: HeadScan,
    /// Time of the event that brought the first byte of the message to come.
    start_ns: u64,
    /// Time of the latest event.
    pub(super) last_ns: u64,
    /// What the latest request asked for; the bytes behind it may be of another protocol.
    asked: Option<Asked>,
    pub(super) requests: Requests,
    /// Events that wait behind a head in [`State::Awaiting`], and those of them that need not wait any more.
    pub(super) held: Held,
    /// What is held can be decoded.
    pub(super) has_more: bool,
    /// For nothing that is held a notice comes.
    pub(super) overdue: bool,
    expansion: Expansion,
}

pub(super) enum State {
    /// The method that the response answers is not known.
    Awaiting(Box<Awaiting>),
    Body(Box<Open>),
    LongHead(Box<LongHead>),
    Over(Box<HandOver>),
    /// `lost`: bytes were lost, so that what is passed over is counted and not shown.
    /// `open`: what is pending begins with a start line whose head has not ended.
    Searching {
        lost: bool,
        open: bool,
    },
    Start,
}

/// What a request asks the connection to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Tunnel,
    Upgrade(Upgrade),
}

/// Whether a state can go on with the input that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    NeedMore,
}

impl Http1Decoder {
    pub(super) fn new(options: &Arc<Options>, side: Side) -> Self {
        Self {
            options: Arc::clone(options),
            side,
            state: State::Start,
            pending: BytesMut::new(),
            empty_lines: Bytes::new(),
            scan: HeadScan::default(),
            start_ns: 0,
            last_ns: 0,
            asked: None,
            requests: Requests::default(),
            held: Held::default(),
            has_more: false,
            overdue: false,
            expansion: Expansion::default(),
        }
    }

    /// Decodes an event that follows all earlier ones.
    pub(super) fn decode(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        self.last_ns = timestamp_ns;
        let mut input = if self.pending.is_empty() {
            self.start_ns = timestamp_ns;
            payload.clone()
        } else {
            self.pending.extend_from_slice(payload);
            if self.is_open_head() {
                return;
            }
            std::mem::take(&mut self.pending).freeze()
        };
        loop {
            let flow = match &mut self.state {
                State::Start => self.read_head(&mut input, output),
                State::Body(_) => self.read_body(&mut input, output),
                State::LongHead(_) => self.read_long_head(&mut input, output),
                State::Searching { lost, .. } => {
                    let lost = *lost;
                    self.search(&mut input, lost, output)
                }
                State::Awaiting(_) => {
                    if !input.is_empty() {
                        self.held.push_front(input, timestamp_ns);
                    }
                    return;
                }
                State::Over(hand_over) => {
                    if !input.is_empty() {
                        hand_over.rest.push((input, timestamp_ns));
                    }
                    return;
                }
            };
            if flow == Flow::NeedMore {
                break;
            }
            self.start_ns = timestamp_ns;
        }
        if !input.is_empty() {
            self.pending.extend_from_slice(&input);
        }
    }

    /// Whether what is pending is certainly no more than the beginning of a head, so that it
    /// need not be looked at again from its start.
    fn is_open_head(&mut self) -> bool {
        let may_begin = match self.state {
            State::Start => self.asked.is_none() && (self.scan.is_known(&self.pending) || self.begins_head()),
            State::Searching { open, .. } => open,
            State::Awaiting(_) | State::Body(_) | State::LongHead(_) | State::Over(_) => false,
        };
        may_begin
            && self.pending.len() <= self.options.limits.http1_head_bytes
            && self.scan.end(&self.pending).is_none()
    }

    /// Whether `payload` is a message of this side, and one may begin.
    pub(super) fn expects_message(&self, payload: &[u8]) -> bool {
        matches!(self.state, State::Start | State::Searching { .. })
            && self.pending.is_empty()
            && self.probe(payload) == Detection::Yes
    }

    /// Between two messages, with nothing that concerns the next one.
    pub(super) fn is_as_new(&self) -> bool {
        matches!(self.state, State::Start)
            && self.pending.is_empty()
            && self.empty_lines.is_empty()
            && self.scan.is_new()
            && self.asked.is_none()
            && self.held.is_empty()
            && (matches!(self.side, Side::Requests) || self.requests.is_new())
            && self.expansion.is_new()
    }

    /// Gives back what is reserved and not used.
    pub(super) fn give_back_room(&mut self) {
        if self.pending.is_empty() {
            self.pending = BytesMut::new();
        }
        self.held.give_back_room();
        self.requests.give_back_room();
    }

    fn begins_head(&mut self) -> bool {
        let probed = self.probe(&self.pending);
        self.scan.note(&self.pending, self.side, probed == Detection::Yes);
        probed != Detection::No
    }

    fn read_head(&mut self, input: &mut Bytes, output: &mut Output) -> Flow {
        if matches!(input[..], [b'\r' | b'\n', ..]) {
            self.take_empty_lines(input, output);
        }
        // A lone CR begins one more empty line.
        if matches!(input[..], [] | [b'\r']) {
            return Flow::NeedMore;
        }
        if let Some(asked) = self.asked {
            match Self::still_http1(asked, input) {
                Detection::Yes => {}
                Detection::NeedMore => return Flow::NeedMore,
                Detection::No => return self.hand_over_asked(asked),
            }
        }
        let limit = self.options.limits.http1_head_bytes;
        if self.scan.is_new()
            && let Some((head, end)) = head::parse_plain(input, self.side)
            && end <= limit
        {
            return self.begin_message(head, input.split_to(end), input, output);
        }
        match self.scan.end(input) {
            Some(end) if end <= limit => {
                let bare_lf = self.scan.has_bare_lf();
                self.scan = HeadScan::default();
                let bytes = input.slice(..end);
                let Some(mut head) = head::parse(&bytes, self.side, &self.options.limits) else {
                    let most = self.options.limits.http1_header_fields;
                    return if memchr_iter(b'\n', &bytes).count() > most {
                        self.begin_long_head()
                    } else {
                        self.begin_search(false, output)
                    };
                };
                input.advance(end);
                if bare_lf {
                    head.anomalies.push(Anomaly::BareLf);
                }
                self.begin_message(head, bytes, input, output)
            }
            None if self.probe(input) == Detection::No => self.begin_search(false, output),
            None if input.len() <= limit => Flow::NeedMore,
            _ => self.begin_long_head(),
        }
    }

    /// Empty lines may stand before a start line (RFC 9112 §2.2).
    fn take_empty_lines(&mut self, input: &mut Bytes, output: &mut Output) {
        self.scan = HeadScan::default();
        let lines = long_head::take_empty_lines(input);
        self.empty_lines = if self.empty_lines.is_empty() {
            lines
        } else {
            Bytes::from([&self.empty_lines[..], &lines].concat())
        };
        if self.empty_lines.len() > self.options.limits.http1_chunk_line_bytes {
            raw::emit(
                std::mem::take(&mut self.empty_lines),
                self.start_ns,
                self.last_ns,
                output,
            );
        }
    }

    fn begin_long_head(&mut self) -> Flow {
        self.scan = HeadScan::default();
        self.state = State::LongHead(Box::new(LongHead::new(self.start_ns)));
        Flow::Continue
    }

    fn read_long_head(&mut self, input: &mut Bytes, output: &mut Output) -> Flow {
        let State::LongHead(long) = &mut self.state else {
            return Flow::Continue;
        };
        if !long.read(input, &self.options.limits) {
            return Flow::NeedMore;
        }
        self.start_ns = long.start_ns;
        match self.end_long_head(output) {
            Some((head, bytes)) => self.begin_message(head, bytes, input, output),
            None => self.begin_search(false, output),
        }
    }

    /// What was kept of a long head, when it is one; otherwise it is raw.
    pub(super) fn end_long_head(&mut self, output: &mut Output) -> Option<(Head, Bytes)> {
        let State::LongHead(long) = std::mem::replace(&mut self.state, State::Start) else {
            return None;
        };
        let start_ns = long.start_ns;
        let Ended { kept, cut, head } = long.end(self.side, &self.options.limits);
        skip(SkipReason::HeaderLimit, cut, output);
        let Some(mut head) = head else {
            raw::emit(kept, start_ns, self.last_ns, output);
            return None;
        };
        if cut > 0 {
            head.anomalies.push(Anomaly::HeadTooLong);
        }
        Some((head, kept))
    }

    fn begin_message(
        &mut self,
        mut head: Head,
        mut bytes: Bytes,
        input: &mut Bytes,
        output: &mut Output,
    ) -> Flow {
        if !self.empty_lines.is_empty() {
            bytes = Bytes::from([&std::mem::take(&mut self.empty_lines)[..], &bytes].concat());
        }
        head.anomalies.extend(framing::anomalies(&head));
        let method = match self.method_of(&head, output) {
            Answered::Known(method) => method,
            answered @ (Answered::Unknown | Answered::Wait) => {
                let overdue = answered == Answered::Unknown;
                let open = self.open(&mut head, bytes);
                self.state = State::Awaiting(Box::new(Awaiting::new(open, head, overdue)));
                return Flow::Continue;
            }
        };
        if let Some(body) = self.whole_body(&mut head, method, input) {
            self.state = State::Start;
            open::emit_whole(head, bytes, body, (self.start_ns, self.last_ns), output);
            return Flow::Continue;
        }
        let open = self.open(&mut head, bytes);
        self.frame(open, &head, method, input, output)
    }

    /// The method that the framing behind `head` depends on; known whenever it does not depend.
    fn method_of(&mut self, head: &Head, output: &mut Output) -> Answered {
        match head.kind {
            Http1Kind::Request => {
                output.notices.push(PeerNotice::RequestHead {
                    method: head.method,
                    timestamp_ns: self.start_ns,
                });
                self.asked = Asked::by(head);
                Answered::Known(MethodClass::Other)
            }
            // An interim response answers nothing (RFC 9110 §15.2).
            Http1Kind::Response {
                status: 100 | 102..=199,
            } => Answered::Known(MethodClass::Other),
            Http1Kind::Response { .. } => {
                let answered = self.requests.take(self.start_ns);
                if framing::depends_on_method(head) {
                    return answered;
                }
                if answered == Answered::Wait {
                    let most = self.options.limits.pending_requests;
                    self.requests.owe(self.start_ns, most);
                }
                match answered {
                    Answered::Known(_) => answered,
                    Answered::Unknown | Answered::Wait => Answered::Known(MethodClass::Other),
                }
            }
        }
    }

    /// The body, in the usual case that it needs no decoding and has come with the head.
    fn whole_body(&self, head: &mut Head, method: MethodClass, input: &mut Bytes) -> Option<Body> {
        let length = match framing::of(head, self.side, method) {
            Framing::None => {
                return Some(Body {
                    complete: true,
                    ..Body::default()
                });
            }
            Framing::Sized(length) => length,
            Framing::Chunked | Framing::Tunnel | Framing::Unframed | Framing::UntilClose => return None,
        };
        let most = input.len().min(self.options.limits.body_bytes) as u64;
        if length > most || head.content_encoding.is_some() || head.is_event_stream {
            return None;
        }
        Some(Body {
            data: input.split_to(usize::try_from(length).ok()?),
            wire_len: length,
            len: length,
            expected: Some(length),
            content_type: head.content_type.take(),
            complete: true,
            ..Body::default()
        })
    }

    fn open(&mut self, head: &mut Head, bytes: Bytes) -> Open {
        Open::new(
            head,
            bytes,
            self.start_ns,
            &self.options.limits,
            &mut self.expansion,
        )
    }

    /// Goes on behind a head whose message is framed as one that answers `method`.
    pub(super) fn frame(
        &mut self,
        mut open: Open,
        head: &Head,
        method: MethodClass,
        input: &mut Bytes,
        output: &mut Output,
    ) -> Flow {
        let framing = framing::of(head, self.side, method);
        open.frame(framing);
        self.state = State::Start;
        match framing {
            Framing::None => open.finish(true, self.last_ns, output),
            Framing::Tunnel => {
                open.finish(true, self.last_ns, output);
                let next = head
                    .upgrade
                    .filter(|_| method != MethodClass::Connect)
                    .and_then(|upgrade| detect::upgraded(upgrade, self.side == Side::Requests));
                self.hand_over_to(next);
            }
            Framing::Unframed => {
                open.finish(false, self.last_ns, output);
                return self.begin_search(false, output);
            }
            Framing::Chunked | Framing::Sized(_) | Framing::UntilClose => {
                if head.is_event_stream {
                    open.watch_events(&self.options, output);
                }
                if open.read(input, &self.options.limits) == Reached::End {
                    open.settle(self.options.view, self.last_ns, output);
                    open.finish(true, self.last_ns, output);
                } else {
                    self.state = State::Body(Box::new(open));
                }
            }
        }
        Flow::Continue
    }

    fn read_body(&mut self, input: &mut Bytes, output: &mut Output) -> Flow {
        let State::Body(open) = &mut self.state else {
            return Flow::Continue;
        };
        let reached = open.read(input, &self.options.limits);
        open.settle(self.options.view, self.last_ns, output);
        match reached {
            Reached::More => Flow::NeedMore,
            Reached::End => {
                self.finish_body(true, output);
                Flow::Continue
            }
            Reached::Lost => {
                self.finish_body(false, output);
                self.begin_search(false, output)
            }
        }
    }

    /// Ends the open message, if there is one. Its remaining framing bytes go with it.
    pub(super) fn finish_body(&mut self, complete: bool, output: &mut Output) {
        match std::mem::replace(&mut self.state, State::Start) {
            State::Body(open) => open.finish(complete, self.last_ns, output),
            other => self.state = other,
        }
    }

    fn search(&mut self, input: &mut Bytes, lost: bool, output: &mut Output) -> Flow {
        self.scan = HeadScan::default();
        let (passed, next) = search::next_head(input, self.side, &self.options.limits);
        self.pass_over(passed, lost, output);
        if next == Next::Head {
            self.state = State::Start;
            return Flow::Continue;
        }
        self.state = State::Searching {
            lost,
            open: next == Next::OpenHead,
        };
        Flow::NeedMore
    }

    pub(super) fn pass_over(&self, bytes: Bytes, lost: bool, output: &mut Output) {
        if lost {
            skip(SkipReason::Resync, bytes.len(), output);
        } else {
            raw::emit(bytes, self.start_ns, self.last_ns, output);
        }
    }

    /// What comes next cannot be framed, so it is not known either which message answers which.
    pub(super) fn begin_search(&mut self, lost: bool, output: &mut Output) -> Flow {
        let empty_lines = std::mem::take(&mut self.empty_lines);
        self.pass_over(empty_lines, lost, output);
        self.lose_pairing(output);
        self.state = State::Searching { lost, open: false };
        self.scan = HeadScan::default();
        Flow::Continue
    }

    /// The beginning of a head or of a line, which nothing will complete.
    pub(super) fn take_pending(&mut self) -> Bytes {
        self.scan = HeadScan::default();
        let pending = std::mem::take(&mut self.pending).freeze();
        let empty_lines = std::mem::take(&mut self.empty_lines);
        if empty_lines.is_empty() {
            pending
        } else {
            Bytes::from([&empty_lines[..], &pending].concat())
        }
    }

    pub(super) fn empty_line_bytes(&self) -> usize {
        self.empty_lines.len()
    }

    /// After lost bytes the order of messages no longer says which response answers what.
    fn lose_pairing(&mut self, output: &mut Output) {
        self.asked = None;
        match self.side {
            Side::Requests => output.notices.push(PeerNotice::RequestsLost),
            Side::Responses => self.requests.lose(),
        }
    }

    fn probe(&self, input: &[u8]) -> Detection {
        match self.side {
            Side::Requests => probe::request(input),
            Side::Responses => probe::response(input),
        }
    }

    /// Whether the bytes behind a request that asked for another protocol are a further
    /// request: only the other direction knows what was answered.
    fn still_http1(asked: Asked, input: &[u8]) -> Detection {
        match (asked, input) {
            // A masked frame's second byte; no method has one like it.
            (Asked::Upgrade(Upgrade::WebSocket), [_, second, ..]) if *second >= 0x80 => Detection::No,
            _ => probe::request(input),
        }
    }

    fn hand_over_asked(&mut self, asked: Asked) -> Flow {
        self.hand_over_to(match asked {
            Asked::Tunnel => None,
            Asked::Upgrade(upgrade) => detect::upgraded(upgrade, self.side == Side::Requests),
        });
        Flow::Continue
    }

    fn hand_over_to(&mut self, next: Option<&'static detect::Protocol>) {
        let empty_lines = std::mem::take(&mut self.empty_lines);
        let rest = if empty_lines.is_empty() {
            Vec::new()
        } else {
            vec![(empty_lines, self.start_ns)]
        };
        self.state = State::Over(Box::new(HandOver { next, rest }));
    }
}

impl Asked {
    fn by(head: &Head) -> Option<Self> {
        match head.method {
            MethodClass::Connect => Some(Self::Tunnel),
            MethodClass::Head | MethodClass::Other => head.upgrade.map(Self::Upgrade),
        }
    }
}

pub(super) fn skip(reason: SkipReason, bytes: usize, output: &mut Output) {
    if bytes > 0 {
        output.skipped.push(Skipped {
            reason,
            bytes: bytes as u64,
        });
    }
}

//! The state machine; see the [module](super) for its diagram.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::decoder::{Detection, Options, Output, PeerNotice, SkipReason, Skipped};
use crate::expansion::Expansion;
use crate::http1::exchanges::Exchanges;
use crate::http1::head::{HeadScan, Side};
use crate::http1::heads::Asked;
use crate::http1::held::Held;
use crate::http1::peer::Requests;
use crate::http1::search::Next;
use crate::http1::state::{Flow, State};
use crate::http1::{recognize, search};
use crate::raw;

/// Decodes one direction of HTTP/1.
pub(super) struct Http1Decoder {
    pub(super) options: Arc<Options>,
    pub(super) side: Side,
    pub(super) state: State,
    /// The beginning of a head or of a line.
    pub(super) pending: BytesMut,
    /// Empty lines before it, which are shown with it.
    pub(super) empty_lines: Bytes,
    pub(super) scan: HeadScan,
    /// Time of the event that brought the first byte of the next message.
    pub(super) start_ns: u64,
    /// Time of the latest event.
    pub(super) last_ns: u64,
    /// The protocol that the latest request asked for; the bytes after it may belong to that.
    pub(super) asked: Option<Asked>,
    pub(super) requests: Requests,
    /// If the view pairs.
    pub(super) exchanges: Option<Box<Exchanges>>,
    /// Events that wait after a head in [`State::Awaiting`], and those of them that need not wait
    /// any longer.
    pub(super) held: Held,
    /// The held events can be decoded.
    pub(super) has_more: bool,
    /// No notice will come for the held events.
    pub(super) overdue: bool,
    pub(super) expansion: Expansion,
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
            exchanges: None,
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

    /// Returns true if the pending bytes are known to be the beginning of a head, so that they need
    /// not be examined again from the start.
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

    /// Returns true if `payload` begins a message of this side, and one may begin here.
    pub(super) fn expects_message(&self, payload: &[u8]) -> bool {
        matches!(self.state, State::Start | State::Searching { .. })
            && self.pending.is_empty()
            && self.recognize(payload) == Detection::Yes
    }

    /// Returns true between two messages, if no state affects the next one.
    pub(super) fn is_as_new(&self) -> bool {
        matches!(self.state, State::Start)
            && self.pending.is_empty()
            && self.empty_lines.is_empty()
            && self.scan.is_new()
            && self.asked.is_none()
            && self.held.is_empty()
            && (matches!(self.side, Side::Requests) || self.requests.is_new())
            && self
                .exchanges
                .as_ref()
                .is_none_or(|exchanges| exchanges.is_settled())
            && self.expansion.is_new()
    }

    /// Releases memory that is reserved and not used.
    pub(super) fn give_back_room(&mut self) {
        if self.pending.is_empty() {
            self.pending = BytesMut::new();
        }
        self.held.give_back_room();
        self.requests.give_back_room();
        if let Some(exchanges) = &mut self.exchanges {
            exchanges.give_back_room();
        }
    }

    fn begins_head(&mut self) -> bool {
        let recognized = self.recognize(&self.pending);
        self.scan
            .note(&self.pending, self.side, recognized == Detection::Yes);
        recognized != Detection::No
    }

    fn search(&mut self, input: &mut Bytes, lost: bool, output: &mut Output) -> Flow {
        self.scan = HeadScan::default();
        let (passed, next) = search::next_head(input, self.side, &self.options.limits);
        self.pass_over(passed, lost, output);
        if next == Next::Head {
            self.state.start();
            return Flow::Continue;
        }
        self.state.search(lost, next == Next::OpenHead);
        Flow::NeedMore
    }

    pub(super) fn pass_over(&self, bytes: Bytes, lost: bool, output: &mut Output) {
        if lost {
            skip(SkipReason::Resync, bytes.len(), output);
        } else {
            raw::emit(bytes, self.start_ns, self.last_ns, output);
        }
    }

    /// Begins to search for the next message: the following bytes cannot be framed, so it is
    /// unknown which response answers which request.
    pub(super) fn begin_search(&mut self, lost: bool, output: &mut Output) -> Flow {
        let empty_lines = std::mem::take(&mut self.empty_lines);
        self.pass_over(empty_lines, lost, output);
        self.lose_pairing(output);
        self.state.search(lost, false);
        self.scan = HeadScan::default();
        Flow::Continue
    }

    /// Takes the beginning of a head or of a line, which will not be completed.
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

    /// Forgets the pairing: after lost bytes, the order of messages no longer says which response
    /// answers which request.
    fn lose_pairing(&mut self, output: &mut Output) {
        self.asked = None;
        match self.side {
            Side::Requests => output.notices.push(PeerNotice::RequestsLost),
            Side::Responses => {
                self.requests.lose();
                self.lose_responses();
            }
        }
    }

    pub(super) fn recognize(&self, input: &[u8]) -> Detection {
        match self.side {
            Side::Requests => recognize::request(input),
            Side::Responses => recognize::response(input),
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

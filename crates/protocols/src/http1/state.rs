//! The states of the decoder and the transitions between them; see the [module](super) for the
//! diagram.

use crate::detect::HandOver;
use crate::http1::awaiting::Awaiting;
use crate::http1::long_head::LongHead;
use crate::http1::open::Open;

pub(super) enum State {
    /// The method that the response answers is not known.
    Awaiting(Box<Awaiting>),
    Body(Box<Open>),
    LongHead(Box<LongHead>),
    Over(Box<HandOver>),
    /// `lost`: bytes were lost, so skipped bytes are counted, not shown. `open`: the pending bytes
    /// begin with a start line whose head has not ended.
    Searching {
        lost: bool,
        open: bool,
    },
    Start,
}

impl State {
    /// Begins the next message.
    pub(super) fn start(&mut self) {
        *self = Self::Start;
    }

    /// Begins the body of a message whose head was read.
    pub(super) fn begin_body(&mut self, open: Open) {
        *self = Self::Body(Box::new(open));
    }

    /// Waits for the request on which the body of a response depends.
    pub(super) fn await_method(&mut self, awaiting: Awaiting) {
        *self = Self::Awaiting(Box::new(awaiting));
    }

    /// Begins a head that exceeds its limit.
    pub(super) fn begin_long_head(&mut self, long: LongHead) {
        *self = Self::LongHead(Box::new(long));
    }

    /// Begins to search for the next message; see [`State::Searching`].
    pub(super) fn search(&mut self, lost: bool, open: bool) {
        *self = Self::Searching { lost, open };
    }

    /// Hands over: the bytes that follow belong to another protocol.
    pub(super) fn hand_over(&mut self, hand_over: HandOver) {
        *self = Self::Over(Box::new(hand_over));
    }

    /// Ends the body, if one is being read.
    pub(super) fn take_body(&mut self) -> Option<Box<Open>> {
        match self.take_if(|state| matches!(state, Self::Body(_)))? {
            Self::Body(open) => Some(open),
            _ => None,
        }
    }

    /// Ends the long head, if one is being read.
    pub(super) fn take_long_head(&mut self) -> Option<Box<LongHead>> {
        match self.take_if(|state| matches!(state, Self::LongHead(_)))? {
            Self::LongHead(long) => Some(long),
            _ => None,
        }
    }

    /// Ends the wait for a method.
    pub(super) fn take_awaiting(&mut self) -> Option<Box<Awaiting>> {
        match self.take_if(|state| matches!(state, Self::Awaiting(_)))? {
            Self::Awaiting(awaiting) => Some(awaiting),
            _ => None,
        }
    }

    /// Ends the protocol, if it is over.
    pub(super) fn take_hand_over(&mut self) -> Option<Box<HandOver>> {
        match self.take_if(|state| matches!(state, Self::Over(_)))? {
            Self::Over(hand_over) => Some(hand_over),
            _ => None,
        }
    }

    /// Takes the state if it is `wanted`, and sets [`State::Start`].
    fn take_if(&mut self, wanted: impl FnOnce(&Self) -> bool) -> Option<Self> {
        wanted(self).then(|| std::mem::replace(self, Self::Start))
    }
}

/// The outcome of a state: whether it can continue with the rest of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    NeedMore,
}

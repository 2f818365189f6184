//! The states of the decoder and the ways between them; see the [module](super) for the diagram.

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
    /// `lost`: bytes were lost, so that what is passed over is counted and not shown.
    /// `open`: what is pending begins with a start line whose head has not ended.
    Searching {
        lost: bool,
        open: bool,
    },
    Start,
}

impl State {
    /// A message is over: the next one begins.
    pub(super) fn start(&mut self) {
        *self = Self::Start;
    }

    /// A head has been read whose body goes on.
    pub(super) fn begin_body(&mut self, open: Open) {
        *self = Self::Body(Box::new(open));
    }

    /// A response's head has been read whose body depends on its request.
    pub(super) fn await_method(&mut self, awaiting: Awaiting) {
        *self = Self::Awaiting(Box::new(awaiting));
    }

    /// A head is over its limit.
    pub(super) fn begin_long_head(&mut self, long: LongHead) {
        *self = Self::LongHead(Box::new(long));
    }

    /// Where the next message begins is not known; see [`State::Searching`].
    pub(super) fn search(&mut self, lost: bool, open: bool) {
        *self = Self::Searching { lost, open };
    }

    /// What follows is of another protocol.
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

    /// The state, if it is `wanted`; the next is [`State::Start`] then.
    fn take_if(&mut self, wanted: impl FnOnce(&Self) -> bool) -> Option<Self> {
        wanted(self).then(|| std::mem::replace(self, Self::Start))
    }
}

/// Whether a state can go on with the input that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    NeedMore,
}

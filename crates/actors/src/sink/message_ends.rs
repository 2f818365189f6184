//! Records that wait for the record of the other end of their message. A plain table: no actor, no clock.
//!
//! Both ends see the messages of one direction in the same order. So the records that wait in a direction are all of one
//! end, the one that is ahead, and stay in order: one that is written makes those before it be written, too.

use std::collections::VecDeque;

use ecapture_protocols::format::{MessageEnd, MessagePlace};
use foldhash::HashMap;

use super::unwritten::Counted;
use crate::PipelineLimits;

/// A record that waits.
pub(super) struct HeldMessage {
    pub(super) end: MessageEnd,
    pub(super) bytes: Box<[u8]>,
    pub(super) counted: Counted,
    /// Since when it waits.
    pub(super) since_ns: u64,
}

/// What to do with a record.
pub(super) enum Next {
    /// It waits.
    Waits,
    /// It is written by itself, after these.
    Alone(Vec<HeldMessage>),
    /// It is joined with another one, after these.
    Joined(Vec<HeldMessage>, Box<HeldMessage>),
}

/// Records of one direction, each with its number.
type Queue = VecDeque<(u64, HeldMessage)>;

/// All records that wait.
#[derive(Default)]
pub(super) struct MessageEnds {
    by_place: HashMap<MessagePlace, Queue>,
    /// The same in the order in which they came, and those that are gone.
    order: VecDeque<(u64, MessagePlace)>,
    /// Number of the next one.
    next: u64,
    count: usize,
    bytes: usize,
    most_count: usize,
    most_bytes: usize,
}

impl MessageEnds {
    /// So many of the oldest records of a direction are compared with one of the other end. Usually it is the first.
    const COMPARED: usize = 16;

    pub(super) fn new(limits: &PipelineLimits) -> Self {
        Self {
            most_count: limits.waiting_ends,
            // The rest of an output's memory is for what does not wait.
            most_bytes: limits.output_bytes() / 4,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Decides what to do with a record. Takes what is to be written before it.
    pub(super) fn next(&mut self, end: &MessageEnd, bytes: &[u8]) -> Next {
        let waiting = self.by_place.get(&end.place);
        let Some(waiting) = waiting.filter(|waiting| !waiting.is_empty()) else {
            return if end.is_whole {
                Next::Waits
            } else {
                Next::Alone(Vec::new())
            };
        };
        if !end.is_whole {
            // What may be missing here was never seen by one end: nothing before it has another end any more.
            return Next::Alone(self.take_first(&end.place, usize::MAX));
        }
        if waiting[0].1.end.is_sender == end.is_sender {
            return Next::Waits;
        }
        let found = waiting
            .iter()
            .take(Self::COMPARED)
            .position(|(_, held)| held.end.belongs_to(&held.bytes, end, bytes));
        match found {
            None => Next::Alone(Vec::new()),
            Some(index) => {
                let mut first = self.take_first(&end.place, index + 1);
                match first.pop() {
                    Some(other) => Next::Joined(first, Box::new(other)),
                    None => Next::Alone(first),
                }
            }
        }
    }

    /// Lets a record wait. Returns those that have to be written for that, in order.
    pub(super) fn hold(&mut self, held: HeldMessage) -> Vec<HeldMessage> {
        let place = held.end.place;
        if held.bytes.len() > self.most_bytes || self.most_count == 0 {
            let mut all = self.take_first(&place, usize::MAX);
            all.push(held);
            return all;
        }
        self.count += 1;
        self.bytes += held.bytes.len();
        self.next += 1;
        if self.order.len() > 4 * self.most_count {
            let Self { order, by_place, .. } = self;
            order.retain(|entry| is_there(by_place, entry));
        }
        self.order.push_back((self.next, place));
        self.by_place
            .entry(place)
            .or_default()
            .push_back((self.next, held));
        let mut written = Vec::new();
        while (self.count > self.most_count || self.bytes > self.most_bytes)
            && let Some(oldest) = self.release(u64::MAX)
        {
            written.push(oldest);
        }
        written
    }

    /// Takes the oldest one if it waits since `since_ns` or longer.
    pub(super) fn release(&mut self, since_ns: u64) -> Option<HeldMessage> {
        while let Some(entry) = self.order.front() {
            if is_there(&self.by_place, entry) {
                break;
            }
            self.order.pop_front();
        }
        let &(_, place) = self.order.front()?;
        // The oldest of all is the oldest of its direction.
        let oldest = self.by_place.get(&place)?.front()?;
        if oldest.1.since_ns > since_ns {
            return None;
        }
        self.order.pop_front();
        self.take_first(&place, 1).pop()
    }

    /// Takes the `count` oldest records of a direction.
    fn take_first(&mut self, place: &MessagePlace, count: usize) -> Vec<HeldMessage> {
        let Some(waiting) = self.by_place.get_mut(place) else {
            return Vec::new();
        };
        let count = count.min(waiting.len());
        let taken: Vec<_> = waiting.drain(..count).map(|(_, held)| held).collect();
        if waiting.is_empty() {
            self.by_place.remove(place);
        }
        self.count -= taken.len();
        self.bytes -= taken.iter().map(|held| held.bytes.len()).sum::<usize>();
        taken
    }
}

/// Records leave a direction from its front.
fn is_there(by_place: &HashMap<MessagePlace, Queue>, (number, place): &(u64, MessagePlace)) -> bool {
    let first = by_place.get(place).and_then(VecDeque::front);
    first.is_some_and(|(first, _)| first <= number)
}

#[cfg(test)]
mod tests;

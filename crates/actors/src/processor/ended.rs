//! Streams that were ended here and may continue.
//!
//! A session may continue after the end of its socket, or after its connection was dropped. Its next event
//! does not begin at offset 0, and nothing is missing before it; so nothing is claimed there. A plain stream
//! whose decoder was given up may continue in the middle of something, which is marked.

use std::collections::{BTreeMap, VecDeque};

use ecapture_protocols::Direction;

use crate::limits::PipelineLimits;
use crate::registry::ConnectionKey;

/// A session, or a direction of a plain stream.
type Key = (ConnectionKey, Option<Direction>);

/// The latest of them, at most [`PipelineLimits::ENDED`].
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// By process, so that the end of one is found; with the number of its entry in `order`.
    keys: BTreeMap<(u32, Key), u64>,
    /// The oldest first. An entry whose number is no longer in `keys` is void.
    order: VecDeque<(u64, u32, Key)>,
    added: u64,
    /// Some had to be forgotten, so a stream that is not here may have been one of them.
    pub(super) has_forgotten: bool,
}

impl Ended {
    /// A connection was ended while the kernel may continue to count its bytes.
    pub(super) fn add_session(&mut self, pid: u32, key: ConnectionKey) {
        if matches!(key, ConnectionKey::Session { .. }) {
            self.add(pid, (key, None));
        }
    }

    /// The kept state of a plain stream was given up.
    pub(super) fn add_plain(&mut self, pid: u32, key: ConnectionKey, direction: Direction) {
        self.add(pid, (key, Some(direction)));
    }

    fn add(&mut self, pid: u32, key: Key) {
        self.added += 1;
        self.keys.insert((pid, key), self.added);
        self.order.push_back((self.added, pid, key));
        while self.order.len() > PipelineLimits::ENDED
            && let Some((number, pid, key)) = self.order.pop_front()
        {
            if self.keys.get(&(pid, key)) == Some(&number) {
                self.keys.remove(&(pid, key));
                self.has_forgotten = true;
            }
        }
    }

    /// Returns true if this session was ended here and continues.
    pub(super) fn has_session(&self, pid: u32, key: ConnectionKey) -> bool {
        self.keys.contains_key(&(pid, (key, None)))
    }

    /// Returns true if this stream continues without its kept state, which must be marked once.
    pub(super) fn take_plain(&mut self, pid: u32, key: ConnectionKey, direction: Direction) -> bool {
        self.keys.remove(&(pid, (key, Some(direction)))).is_some()
    }

    /// The session has ended: another one may get its address.
    pub(super) fn forget_session(&mut self, pid: u32, session: u64) {
        let key = ConnectionKey::Session { pid, session };
        self.keys.remove(&(pid, (key, None)));
    }

    /// The process has ended, and everything of it.
    pub(super) fn forget_process(&mut self, pid: u32) {
        let first = ConnectionKey::Session { pid: 0, session: 0 };
        let of_process = self.keys.range((pid, (first, None))..);
        let gone: Vec<_> = of_process
            .map(|(&key, _)| key)
            .take_while(|key| key.0 == pid)
            .collect();
        for key in gone {
            self.keys.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(session: u64) -> ConnectionKey {
        ConnectionKey::Session { pid: 7, session }
    }

    #[test]
    fn a_session_that_ended_says_nothing_of_another() {
        let mut ended = Ended::default();
        ended.add_session(7, session(1));
        assert!(ended.has_session(7, session(1)));
        assert!(!ended.has_session(7, session(2)));
        ended.forget_session(7, 1);
        assert!(!ended.has_session(7, session(1)));
    }

    #[test]
    fn the_end_of_a_process_is_the_end_of_all_of_it() {
        let mut ended = Ended::default();
        let plain = ConnectionKey::Descriptor { pid: 7, fd: 3 };
        ended.add_session(7, session(1));
        ended.add_plain(7, plain, Direction::Read);
        ended.add_plain(8, ConnectionKey::Descriptor { pid: 8, fd: 3 }, Direction::Read);
        ended.forget_process(7);
        assert!(!ended.has_session(7, session(1)));
        assert!(!ended.take_plain(7, plain, Direction::Read));
        assert_eq!(ended.keys.len(), 1);
    }

    #[test]
    fn a_plain_stream_is_marked_once() {
        let mut ended = Ended::default();
        let plain = ConnectionKey::Descriptor { pid: 7, fd: 3 };
        ended.add_plain(7, plain, Direction::Read);
        assert!(!ended.take_plain(7, plain, Direction::Write));
        assert!(ended.take_plain(7, plain, Direction::Read));
        assert!(!ended.take_plain(7, plain, Direction::Read));
    }

    #[test]
    fn it_is_bounded_and_knows_that_it_forgot() {
        let mut ended = Ended::default();
        for number in 0..PipelineLimits::ENDED as u64 {
            ended.add_session(7, session(number));
        }
        assert!(!ended.has_forgotten);
        ended.add_session(7, session(u64::MAX));
        assert!(ended.has_forgotten);
        assert!(!ended.has_session(7, session(0)) && ended.has_session(7, session(1)));
        assert_eq!(ended.order.len(), PipelineLimits::ENDED);
    }

    #[test]
    fn what_is_added_again_is_as_new() {
        let mut ended = Ended::default();
        ended.add_session(7, session(0));
        for number in 1..PipelineLimits::ENDED as u64 {
            ended.add_session(7, session(number));
        }
        ended.add_session(7, session(0));
        ended.add_session(7, session(u64::MAX));
        assert!(ended.has_session(7, session(0)));
    }
}

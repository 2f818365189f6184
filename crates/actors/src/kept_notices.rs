//! Notices for a Worker that is still to come: mostly requests whose response has not begun. Plain: no actor, no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ecapture_protocols::{Direction, PeerNotice};

use crate::PipelineLimits;
use crate::messages::SequencedNotice;

/// The room that the kept notices of all connections share, beyond what each of them has for itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct NoticeRoom(Arc<AtomicUsize>);

impl NoticeRoom {
    /// Returns the bytes that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.0.load(Relaxed)
    }

    fn take(&self, bytes: usize, most: usize) -> bool {
        let has_room = self.taken() + bytes <= most;
        if has_room {
            self.0.fetch_add(bytes, Relaxed);
        }
        has_room
    }
}

/// The notices of all connections under one key, those that began first in front: together at most
/// [`PipelineLimits::notice_backlog`]. The first one has a little room of its own.
#[derive(Debug, Default)]
pub(crate) struct Backlog(Vec<KeptNotices>);

impl Backlog {
    /// Keeps notices for a direction of the connection `epoch`. Returns the bytes of requests for which there is no
    /// room.
    pub(crate) fn keep(
        &mut self,
        (direction, epoch): (Direction, u32),
        notices: Vec<SequencedNotice>,
        (limits, room): (&PipelineLimits, &NoticeRoom),
    ) -> u64 {
        let known = self.0.iter_mut().find(|kept| kept.are_for(direction, epoch));
        if let Some(kept) = known {
            return kept.keep(notices, limits);
        }
        let mut kept = KeptNotices::new(direction, epoch, room.clone());
        if !self.0.is_empty() {
            kept.own = PipelineLimits::NOTICE_BACKLOG_BYTES;
        }
        let mut lost = kept.keep(notices, limits);
        self.0.push(kept);
        while self.0.len() > 1 && self.len() > limits.notice_backlog {
            lost += self.0.remove(0).lose();
        }
        lost
    }

    /// Returns true if there are requests among those for a direction of the connection `epoch`.
    pub(crate) fn has_requests(&self, (direction, epoch): (Direction, u32)) -> bool {
        let mut all = self.0.iter();
        all.any(|kept| kept.are_for(direction, epoch) && kept.have_requests())
    }

    /// Takes those for a direction of the connection `epoch`.
    pub(crate) fn take(&mut self, (direction, epoch): (Direction, u32)) -> Vec<SequencedNotice> {
        let found = self.0.iter().position(|kept| kept.are_for(direction, epoch));
        found.map_or_else(Vec::new, |found| self.0.remove(found).take())
    }

    /// Number of notices.
    fn len(&self) -> usize {
        self.0.iter().map(|kept| kept.notices.len()).sum()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The notices for one direction of a connection.
#[derive(Debug)]
struct KeptNotices {
    direction: Direction,
    epoch: u32,
    notices: VecDeque<SequencedNotice>,
    /// Bytes in its own room, and in the shared one.
    own: usize,
    shared: usize,
    room: NoticeRoom,
}

impl KeptNotices {
    fn new(direction: Direction, epoch: u32, room: NoticeRoom) -> Self {
        Self {
            direction,
            epoch,
            notices: VecDeque::new(),
            own: 0,
            shared: 0,
            room,
        }
    }

    /// Returns true if they are for `direction` of the connection `epoch`.
    fn are_for(&self, direction: Direction, epoch: u32) -> bool {
        (self.direction, self.epoch) == (direction, epoch)
    }

    /// Keeps `notices`; of more than [`PipelineLimits::notice_backlog`] the newest. A request for which there is no
    /// room goes on by its target alone, or by its number. Returns the bytes of such requests.
    fn keep(&mut self, notices: Vec<SequencedNotice>, limits: &PipelineLimits) -> u64 {
        let mut lost = 0;
        for mut notice in notices {
            if !self.takes(&notice.notice, limits) {
                lost += notice.notice.drop_message();
                if !self.takes(&notice.notice, limits) {
                    notice.notice.drop_target();
                }
            }
            self.notices.push_back(notice);
            if self.notices.len() > limits.notice_backlog
                && let Some(mut oldest) = self.notices.pop_front()
            {
                lost += oldest.notice.drop_message();
            }
        }
        lost
    }

    fn takes(&mut self, notice: &PeerNotice, limits: &PipelineLimits) -> bool {
        let bytes = notice.held_bytes();
        if self.own + bytes <= PipelineLimits::NOTICE_BACKLOG_BYTES {
            self.own += bytes;
            return true;
        }
        let has_room = self.room.take(bytes, limits.notice_bytes());
        if has_room {
            self.shared += bytes;
        }
        has_room
    }

    /// Returns true if there are requests among them.
    fn have_requests(&self) -> bool {
        self.notices.iter().any(|kept| match &kept.notice {
            PeerNotice::Asked(_) => true,
            PeerNotice::RequestEnd(end) => end.message.is_some(),
            _ => false,
        })
    }

    /// Gives them up. Returns the bytes of the requests among them.
    fn lose(mut self) -> u64 {
        self.notices
            .iter_mut()
            .map(|kept| kept.notice.drop_message())
            .sum()
    }

    /// Takes all of them.
    fn take(&mut self) -> Vec<SequencedNotice> {
        std::mem::take(&mut self.notices).into()
    }
}

impl Drop for KeptNotices {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.shared, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ecapture_protocols::{Options, Output, View, stream_decoder};

    /// The notices of a request with a body of so many bytes.
    fn request(bytes: usize) -> Vec<SequencedNotice> {
        let mut decoder = stream_decoder(Options {
            view: View::Joined,
            ..Options::default()
        });
        let head = format!("POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n");
        let mut output = Output::default();
        decoder.feed(
            &[head.into_bytes(), vec![b'x'; bytes]].concat().into(),
            1,
            &mut output,
        );
        let notices = output.notices.into_iter();
        notices
            .map(|notice| SequencedNotice { sequence: 1, notice })
            .collect()
    }

    /// Whether each request is there, and whether its path is.
    fn known(notices: &[SequencedNotice]) -> Vec<(bool, bool)> {
        let asked = notices.iter().filter_map(|notice| match &notice.notice {
            PeerNotice::Asked(asked) => Some((asked.message.is_some(), asked.target.is_some())),
            _ => None,
        });
        asked.collect()
    }

    fn limits(max_memory: usize) -> PipelineLimits {
        PipelineLimits {
            max_memory,
            ..PipelineLimits::default()
        }
    }

    #[test]
    fn a_large_request_is_kept_whole_while_there_is_room() {
        let (room, limits) = (NoticeRoom::default(), limits(32 * 1024 * 1024));
        assert_eq!(limits.notice_bytes(), 1024 * 1024);
        let mut kept = KeptNotices::new(Direction::Read, 1, room.clone());
        assert_eq!(kept.keep(request(500_000), &limits), 0);
        assert_eq!(kept.keep(request(400_000), &limits), 0);
        assert!(room.taken() > 900_000 && room.taken() <= limits.notice_bytes());
        let lost = kept.keep(request(200_000), &limits);
        assert!((200_000..200_100).contains(&lost), "{lost}");
        assert_eq!(known(&kept.take()), [(true, true), (true, true), (false, true)]);
        drop(kept);
        assert_eq!(room.taken(), 0);
    }

    #[test]
    fn the_room_is_shared_and_a_little_is_everybodys_own() {
        let (room, limits) = (NoticeRoom::default(), limits(32 * 1024 * 1024));
        let mut first = KeptNotices::new(Direction::Read, 1, room.clone());
        assert_eq!(first.keep(request(1_000_000), &limits), 0);
        let mut second = KeptNotices::new(Direction::Read, 1, room);
        assert_eq!(second.keep(request(3000), &limits), 0);
        assert!(second.keep(request(60_000), &limits) > 0);
        drop(first);
        assert_eq!(second.keep(request(60_000), &limits), 0);
        assert_eq!(known(&second.take()), [(true, true), (false, true), (true, true)]);
    }

    #[test]
    fn without_any_room_requests_are_paired_by_their_numbers() {
        let limits = limits(0);
        let mut kept = KeptNotices::new(Direction::Read, 1, NoticeRoom::default());
        for _ in 0..50 {
            kept.keep(request(10), &limits);
        }
        let known = known(&kept.take());
        assert_eq!((known[0], known[49]), ((true, true), (false, false)));
    }

    #[test]
    fn of_too_many_the_oldest_are_lost_and_counted() {
        let limits = PipelineLimits {
            notice_backlog: 3,
            ..PipelineLimits::default()
        };
        let mut kept = KeptNotices::new(Direction::Read, 1, NoticeRoom::default());
        assert_eq!(
            request(10).len(),
            2,
            "a notice of the head for the framing, and the request"
        );
        let whole = "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nxxxxxxxxxx".len() as u64;
        let lost: u64 = (0..10).map(|_| kept.keep(request(10), &limits)).sum();
        let left = known(&kept.take()).len() as u64;
        assert_eq!(lost, (10 - left) * whole);
        assert!((1..=2).contains(&left), "{left}");
    }
}

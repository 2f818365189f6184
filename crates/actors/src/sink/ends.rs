//! Records that wait for the record of the other end of their exchange. A plain table: no actor, no clock.

use std::collections::VecDeque;

use ecapture_protocols::format::{ExchangeEnd, ExchangePlace};
use foldhash::HashMap;

use super::unwritten::Counted;
use crate::PipelineLimits;

/// Records by their exchange, each with its number.
type ByPlace = HashMap<ExchangePlace, VecDeque<(u64, Held)>>;

/// A record that waits.
pub(super) struct Held {
    pub(super) end: ExchangeEnd,
    pub(super) bytes: Box<[u8]>,
    pub(super) counted: Counted,
    /// Since when it waits.
    pub(super) since_ns: u64,
}

/// All records that wait. Each exchange of a connection has at most [`Self::PER_EXCHANGE`].
#[derive(Default)]
pub(super) struct Ends {
    by_place: ByPlace,
    /// The same in the order in which they came, and those that are gone.
    order: VecDeque<(u64, ExchangePlace)>,
    /// Number of the next one.
    next: u64,
    count: usize,
    bytes: usize,
    most_count: usize,
    most_bytes: usize,
    /// Replay: the latest time.
    now_ns: u64,
}

impl Ends {
    /// Exchanges whose number is not known, and both ends of one whose contents differ, share a place.
    const PER_EXCHANGE: usize = 16;

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

    /// Notes that the time has come to `now_ns`. Returns the latest time so far.
    pub(super) fn advance(&mut self, now_ns: u64) -> u64 {
        self.now_ns = self.now_ns.max(now_ns);
        self.now_ns
    }

    /// Takes the other end of the same exchange. Where several may be, none is chosen.
    pub(super) fn take_other(&mut self, end: &ExchangeEnd) -> Option<Held> {
        let waiting = self.by_place.get_mut(&end.place)?;
        let mut fitting = waiting
            .iter()
            .enumerate()
            .filter(|(_, (_, held))| held.end.belongs_to(end))
            .map(|(index, _)| index);
        let index = fitting.next()?;
        if fitting.next().is_some() {
            return None;
        }
        let (_, held) = waiting.remove(index)?;
        if waiting.is_empty() {
            self.by_place.remove(&end.place);
        }
        self.forget(&held);
        Some(held)
    }

    /// Lets a record wait. Returns one that has to go on alone for that.
    pub(super) fn hold(&mut self, held: Held) -> Option<Held> {
        if held.bytes.len() > self.most_bytes || self.most_count == 0 {
            return Some(held);
        }
        self.count += 1;
        self.bytes += held.bytes.len();
        self.next += 1;
        if self.order.len() > 4 * self.most_count {
            let Self { order, by_place, .. } = self;
            order.retain(|entry| is_there(by_place, entry));
        }
        self.order.push_back((self.next, held.end.place));
        let waiting = self.by_place.entry(held.end.place).or_default();
        waiting.push_back((self.next, held));
        if waiting.len() > Self::PER_EXCHANGE
            && let Some((_, oldest)) = waiting.pop_front()
        {
            self.forget(&oldest);
            return Some(oldest);
        }
        let is_over = self.count > self.most_count || self.bytes > self.most_bytes;
        if is_over { self.pop_oldest() } else { None }
    }

    /// Takes the oldest one if it waits since `since_ns` or longer.
    pub(super) fn release(&mut self, since_ns: u64) -> Option<Held> {
        self.skip_gone();
        let &(number, place) = self.order.front()?;
        let oldest = self.by_place.get(&place)?.front()?;
        let has_waited = oldest.0 == number && oldest.1.since_ns <= since_ns;
        if has_waited { self.pop_oldest() } else { None }
    }

    fn pop_oldest(&mut self) -> Option<Held> {
        self.skip_gone();
        let (_, place) = self.order.pop_front()?;
        let waiting = self.by_place.get_mut(&place)?;
        let (_, held) = waiting.pop_front()?;
        if waiting.is_empty() {
            self.by_place.remove(&place);
        }
        self.forget(&held);
        Some(held)
    }

    /// Forgets the order of those that are gone.
    fn skip_gone(&mut self) {
        while self
            .order
            .front()
            .is_some_and(|entry| !is_there(&self.by_place, entry))
        {
            self.order.pop_front();
        }
    }

    fn forget(&mut self, held: &Held) {
        self.count -= 1;
        self.bytes -= held.bytes.len();
    }
}

fn is_there(by_place: &ByPlace, (number, place): &(u64, ExchangePlace)) -> bool {
    let waiting = by_place.get(place);
    waiting.is_some_and(|waiting| waiting.iter().any(|(held, _)| held == number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ecapture_protocols::{
        AddressSource, DataEvent, Direction, Options, Origin, Output, Process, Side, Socket, Tuple, View,
        stream_decoder,
    };

    /// An end of the exchange `number` of the connection from `port`; those of a connection that was joined late are
    /// not numbered.
    fn end(port: u16, number: usize, path: &str, side: Side, is_late: bool) -> ExchangeEnd {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let mut decoders = [(); 2].map(|()| {
            stream_decoder(Options {
                view: View::Joined,
                ..Options::default()
            })
        });
        let mut output = Output::default();
        let (requests, responses) = decoders.split_at_mut(1);
        for at in 1..=number as u64 {
            output.clear();
            requests[0].feed(&request.clone().into(), 10 * at, &mut output);
            let notices = std::mem::take(&mut output.notices);
            output.clear();
            for notice in &notices {
                responses[0].notice(notice, &mut output);
            }
            responses[0].feed(&response.into(), 10 * at + 4, &mut output);
        }
        let message = output.messages.last().expect("a response");
        let mut origin = Origin::of(&event(port, side), 1);
        let stream = origin.stream.as_mut().expect("it has a stream");
        stream.other_end = true;
        if is_late {
            stream.joined_late = Some(ecapture_protocols::JoinedLate::OpenBeforeCapture);
        }
        ExchangeEnd::of(&origin, message).expect("it can have another end")
    }

    fn event(port: u16, side: Side) -> DataEvent {
        let address = |port| ([127, 0, 0, 1], port).into();
        let pid = if side == Side::Source { 10 } else { 20 };
        DataEvent {
            timestamp_ns: 0,
            process: Process {
                pid,
                tid: pid,
                uid: None,
                comm: "app".into(),
            },
            container_id: None,
            program: None,
            // The client reads responses.
            direction: if side == Side::Source {
                Direction::Read
            } else {
                Direction::Write
            },
            fd: Some(5),
            session: None,
            socket: Some(Socket {
                sock: 1,
                tuple: Tuple {
                    source: address(port),
                    destination: address(443),
                },
                local: Some(side),
                address_source: AddressSource::Exact,
            }),
            tls_version: None,
            stream_offset: None,
            joined_late: None,
            payload: Vec::new().into(),
        }
    }

    fn held(end: ExchangeEnd, bytes: usize, since_ns: u64) -> Held {
        Held {
            end,
            bytes: vec![b'x'; bytes].into(),
            counted: Counted::default(),
            since_ns,
        }
    }

    fn with_room_for(most_count: usize, most_bytes: usize) -> Ends {
        Ends {
            most_count,
            most_bytes,
            ..Ends::default()
        }
    }

    fn assert_empty(ends: &mut Ends) {
        ends.skip_gone();
        assert!(ends.is_empty());
        assert_eq!((ends.bytes, ends.by_place.len(), ends.order.len()), (0, 0, 0));
    }

    fn orders(count: usize) -> Vec<Vec<usize>> {
        let Some(last) = count.checked_sub(1) else {
            return vec![Vec::new()];
        };
        let insert = |order: Vec<usize>| {
            (0..=order.len()).map(move |place| {
                let mut longer = order.clone();
                longer.insert(place, last);
                longer
            })
        };
        orders(last).into_iter().flat_map(insert).collect()
    }

    /// Three exchanges of a connection, with the same content.
    #[test]
    fn each_end_finds_its_own_in_every_order() {
        let all: Vec<_> = (1..=3)
            .flat_map(|number| {
                [Side::Source, Side::Destination].map(|side| end(5000, number, "/a", side, false))
            })
            .collect();
        for order in orders(all.len()) {
            let mut ends = with_room_for(100, 1000);
            let mut joined = Vec::new();
            for &index in &order {
                let end = &all[index];
                match ends.take_other(end) {
                    Some(other) => {
                        assert_ne!(other.end.is_client, end.is_client);
                        assert_eq!(other.end.place.number, end.place.number);
                        joined.push(end.place.number);
                    }
                    None => assert!(ends.hold(held(end.clone(), 1, 0)).is_none()),
                }
            }
            joined.sort_unstable();
            assert_eq!(joined, [Some(1), Some(2), Some(3)], "{order:?}");
            assert_empty(&mut ends);
        }
    }

    #[test]
    fn where_several_may_be_the_other_end_none_is_taken() {
        let unnumbered = |side| end(5000, 1, "/a", side, true);
        assert_eq!(unnumbered(Side::Source).place.number, None);
        let mut ends = with_room_for(100, 1000);
        assert!(ends.hold(held(unnumbered(Side::Destination), 1, 0)).is_none());
        assert!(
            ends.take_other(&unnumbered(Side::Destination)).is_none(),
            "the same side"
        );
        assert!(ends.take_other(&unnumbered(Side::Source)).is_some());
        for _ in 0..2 {
            assert!(ends.hold(held(unnumbered(Side::Destination), 1, 0)).is_none());
        }
        assert!(ends.take_other(&unnumbered(Side::Source)).is_none());
        let other = end(5000, 1, "/b", Side::Source, true);
        assert!(ends.take_other(&other).is_none(), "another path");
    }

    #[test]
    fn the_number_and_the_bytes_that_wait_are_bounded() {
        let of_port = |port| end(port, 1, "/a", Side::Source, false);
        let mut ends = with_room_for(4, 1000);
        for port in 1..=20 {
            let alone = ends.hold(held(of_port(port), 1, u64::from(port)));
            let port_of = |held: Held| held.end.place.client.port();
            assert_eq!(alone.map(port_of), port.checked_sub(4).filter(|&port| port > 0));
        }
        let mut ends = with_room_for(100, 1000);
        assert!(
            ends.hold(held(of_port(1), 1001, 0)).is_some(),
            "larger than all that may wait"
        );
        for port in 1..=3 {
            assert!(ends.hold(held(of_port(port), 300, 0)).is_none());
        }
        let alone = ends.hold(held(of_port(4), 300, 0)).expect("the oldest");
        assert_eq!(alone.end.place.client.port(), 1);
        assert!(with_room_for(0, 1000).hold(held(of_port(1), 1, 0)).is_some());
    }

    #[test]
    fn an_exchange_that_nobody_counts_has_a_bound_of_its_own() {
        let mut ends = with_room_for(1000, 1000);
        for since_ns in 0..100 {
            let alone = ends.hold(held(end(5000, 1, "/a", Side::Source, true), 1, since_ns));
            let oldest = since_ns.checked_sub(Ends::PER_EXCHANGE as u64);
            assert_eq!(alone.map(|alone| alone.since_ns), oldest);
        }
        assert_eq!(ends.count, Ends::PER_EXCHANGE);
    }

    #[test]
    fn the_oldest_is_released_first_and_at_the_end_all_are() {
        let mut ends = with_room_for(100, 1000);
        for port in 1..=5 {
            let at = u64::from(port) * 100;
            assert!(
                ends.hold(held(end(port, 1, "/a", Side::Source, false), 1, at))
                    .is_none()
            );
        }
        // The second one is joined before.
        assert!(
            ends.take_other(&end(2, 1, "/a", Side::Destination, false))
                .is_some()
        );
        let mut released = |until| {
            let mut ports = Vec::new();
            while let Some(held) = ends.release(until) {
                ports.push(held.end.place.client.port());
            }
            ports
        };
        assert_eq!(released(99), [] as [u16; 0]);
        assert_eq!(released(300), [1, 3]);
        assert_eq!(released(u64::MAX), [4, 5]);
        assert_empty(&mut ends);
    }

    /// What was joined leaves its place in the order, which is cleared from time to time.
    #[test]
    fn the_order_of_those_that_are_gone_is_bounded() {
        let (near, far) = (
            end(1, 1, "/a", Side::Source, false),
            end(1, 1, "/a", Side::Destination, false),
        );
        let mut ends = with_room_for(10, 1000);
        let waits = end(2, 1, "/a", Side::Source, false);
        assert!(ends.hold(held(waits, 1, 0)).is_none());
        for since_ns in 0..1000 {
            assert!(ends.hold(held(near.clone(), 1, since_ns)).is_none());
            assert!(ends.take_other(&far).is_some());
            assert!(ends.order.len() <= 4 * 10 + 2);
        }
        assert_eq!(
            ends.release(u64::MAX).map(|held| held.end.place.client.port()),
            Some(2)
        );
        assert_empty(&mut ends);
    }
}

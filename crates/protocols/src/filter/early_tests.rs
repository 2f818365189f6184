//! What is decided early is never selected: random expressions over random messages.

use std::net::SocketAddr;

use super::tests::{origin, request, response};
use super::*;
use crate::{AddressSource, Direction, Message, Origin};

/// Expressions of each seed.
const ROUNDS: usize = 20_000;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let high = usize::try_from(self.0 >> 33).expect("31 bits");
        high % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn expression(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 4 } else { 8 }) {
            0..=3 => self.comparison(),
            4 => format!(
                "{} and {}",
                self.expression(depth - 1),
                self.expression(depth - 1)
            ),
            5 => format!(
                "({} or {})",
                self.expression(depth - 1),
                self.expression(depth - 1)
            ),
            6 => format!("not ({})", self.expression(depth - 1)),
            _ => format!(
                "({} xor {})",
                self.expression(depth - 1),
                self.expression(depth - 1)
            ),
        }
    }

    fn comparison(&mut self) -> String {
        self.one_of(&[
            "proc.pid == 12",
            "proc.pid == 13",
            "proc.pid != 12",
            "all proc.pid == 14",
            "proc.pid in {13, 14..20}",
            "proc.pid in {-5..14}",
            "proc.pid not in {12}",
            "proc.pid",
            "proc.uid == 7",
            "proc.comm == \"nginx\"",
            "tcp.port == 443",
            "tcp.port != 8443",
            "all tcp.port > 1000",
            "tcp.port !== 443",
            "tcp.dstport == 443",
            "not tcp.port",
            "ip.addr == 10.0.0.0/8",
            "ip.addr != 192.0.2.1",
            "ip.src == 10.1.2.3",
            "ipv6",
            "ipv6.addr == ::1",
            "tcp.stream == 6",
            "connection in {7, 8}",
            "http.request",
            "http.response.code == 503",
            "http.request.method == \"POST\"",
            "len(http.host) > 3",
            "body contains \"hello\"",
            "sorry",
        ])
        .to_owned()
    }

    fn origin(&mut self) -> Origin {
        let mut origin = origin();
        origin.process.pid = self.one_of(&[12, 13, 14]);
        origin.process.uid = self.one_of(&[None, Some(7)]);
        let stream = origin.stream.as_mut().expect("a stream");
        stream.session = self.one_of(&[0, 1, 1, 1]);
        stream.connection = self.one_of(&[7, 8]);
        stream.direction = self.one_of(&[Direction::Read, Direction::Write]);
        let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        if let Some(socket) = &mut stream.socket {
            socket.address_source = self.one_of(&[AddressSource::Exact, AddressSource::Heuristic]);
            socket.tuple.source = address(self.one_of(&["10.1.2.3:40000", "[::1]:40000"]));
            socket.tuple.destination = address(self.one_of(&["192.0.2.1:443", "[::ffff:192.0.2.1]:8443"]));
        }
        origin
    }
}

/// The origins that messages of the same connection may have: the other direction's, and that from before its
/// socket was known.
fn of_connection(origin: &Origin) -> [Origin; 4] {
    let mirrored = origin.mirrored();
    let unknown = |origin: &Origin| {
        let mut earlier = origin.clone();
        if let Some(stream) = &mut earlier.stream {
            stream.socket = None;
        }
        earlier
    };
    [unknown(origin), unknown(&mirrored), mirrored, origin.clone()]
}

fn is_selected(filter: &Filter, origin: &Origin, messages: &[Message; 2]) -> bool {
    let [request, response] = messages;
    [
        Subject::new(origin, request),
        Subject::new(origin, response),
        Subject::of_request(origin, request, None),
        Subject::of_request(origin, request, Some(response)),
    ]
    .iter()
    .any(|subject| filter.verdict(subject) == Some(true))
}

#[test]
fn what_is_decided_early_is_never_selected() {
    let messages = [request(), response()];
    let mut random = Random(1);
    let (mut ruled_out, mut pushed, mut selected) = (0, 0, 0);
    for _ in 0..ROUNDS {
        let text = random.expression(3);
        let filter = Filter::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let origin = random.origin();
        let is_selected = of_connection(&origin)
            .iter()
            .any(|origin| is_selected(&filter, origin, &messages));
        selected += usize::from(is_selected);
        if filter.rules_out(&origin) {
            ruled_out += 1;
            assert!(!is_selected, "{text}: {origin:?}");
        }
        if let Some(pids) = filter.processes()
            && !pids.contains(&origin.process.pid)
        {
            pushed += 1;
            assert!(!is_selected, "{text}: {origin:?}");
        }
    }
    assert!(
        ruled_out > ROUNDS / 10 && pushed > ROUNDS / 20 && selected > ROUNDS / 4,
        "{ruled_out} {pushed} {selected}"
    );
}

#[test]
fn processes_are_those_that_every_selected_message_has() {
    for (text, pids) in [
        ("proc.pid == 7", Some(&[7][..])),
        ("proc.pid == 7 and http.request.uri contains \"x\"", Some(&[7])),
        (
            "http and (proc.pid in {7, 9..11} && proc.pid != 9)",
            Some(&[7, 9, 10, 11]),
        ),
        ("proc.pid == 7 or proc.pid == 8", Some(&[7, 8])),
        ("proc.pid in {7, 8} and proc.pid in {8, 9}", Some(&[8])),
        ("proc.pid == -7", Some(&[])),
        ("proc.pid == 7 or http", None),
        ("not proc.pid == 7", None),
        ("proc.pid != 7", None),
        ("proc.pid > 7", None),
        ("proc.pid in {1..1000}", None),
        ("proc.pid == 7 and tcp.stream == 0", None),
        ("proc.uid == 7", None),
    ] {
        let found = Filter::parse(text).expect(text).processes();
        let found: Option<Vec<u32>> = found.map(|pids| pids.into_iter().collect());
        assert_eq!(found.as_deref(), pids, "{text}");
    }
}

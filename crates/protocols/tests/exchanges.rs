//! Which response answers which request: recordings and synthetic connections, whole, with each
//! event lost, and joined at each event. No certain pair may be a wrong one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the shares are reported")]

#[path = "support/fixture.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ecapture_protocols::message::{Gap, GapReason, Http1Kind, Http2Kind};
use ecapture_protocols::recording::line::{self, Header};
use ecapture_protocols::{
    CapturedEvent, Content, Direction, JoinedLate, Message, Options, Output, Pairing, StreamDecoder, View,
    stream_decoder,
};

const STRUCTURED: View = View::Structured { frames: false };

#[derive(Clone, Debug)]
struct Event {
    direction: Direction,
    timestamp_ns: u64,
    payload: Bytes,
}

/// What happens to a connection's events.
#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    /// The event of this number is lost; whether the number of bytes is known.
    Lost(usize, bool),
    /// The capture begins at the event of this number.
    Joined(usize),
}

/// A response: the time of its first byte, and its head and body.
type Response = (u64, Vec<u8>);

/// What a response was paired with: the time and the path of the request.
type Request = (u64, Vec<u8>);

/// A message that belongs to an exchange without being its request or response: kind, direction, time and content.
type Under = (&'static str, usize, u64, Vec<u8>);

#[derive(Default)]
struct Pairs {
    certain: Vec<(Response, Request)>,
    uncertain: Vec<(Response, Option<Request>)>,
    orphans: usize,
    /// With the numbers of their exchanges, where they are known.
    under: Vec<(Under, Option<u32>)>,
    /// The responses by the numbers of their exchanges. Numbers count from the first request that is known.
    numbered: BTreeMap<u32, Vec<Response>>,
    /// Numbers of the exchanges that changed the protocol to WebSocket.
    upgrades: Vec<Option<u32>>,
}

struct Connection {
    decoders: [Box<dyn StreamDecoder>; 2],
    /// Each with its direction.
    messages: Vec<(usize, Message)>,
}

impl Connection {
    fn new() -> Self {
        let options = Options {
            view: STRUCTURED,
            ..Options::default()
        };
        Self {
            decoders: [stream_decoder(options), stream_decoder(options)],
            messages: Vec::new(),
        }
    }

    fn act(&mut self, direction: usize, act: &dyn Fn(&mut dyn StreamDecoder, &mut Output)) {
        let mut output = Output::default();
        act(&mut *self.decoders[direction], &mut output);
        let messages = output.messages.drain(..).map(|message| (direction, message));
        self.messages.extend(messages);
        for notice in output.notices {
            self.act(1 - direction, &|decoder, output| decoder.notice(&notice, output));
        }
    }
}

fn index(direction: Direction) -> usize {
    usize::from(direction == Direction::Read)
}

fn play(events: &[Event], damage: Damage) -> Pairs {
    let mut connection = Connection::new();
    let first = match damage {
        Damage::Joined(first) => first,
        Damage::None | Damage::Lost(..) => 0,
    };
    let mut gaps = [None; 2];
    if first > 0 {
        let gap = Gap {
            bytes: None,
            reason: GapReason::JoinedLate(JoinedLate::OpenBeforeCapture),
        };
        gaps = [Some(gap); 2];
    }
    for (number, event) in events.iter().enumerate().skip(first) {
        let direction = index(event.direction);
        if let Damage::Lost(lost, is_known) = damage
            && lost == number
        {
            gaps[direction] = Some(Gap {
                bytes: is_known.then_some(event.payload.len() as u64),
                reason: GapReason::KernelLoss,
            });
            continue;
        }
        if let Some(gap) = gaps[direction].take() {
            connection.act(direction, &|decoder, output| {
                decoder.gap(gap, event.timestamp_ns, output);
            });
        }
        connection.act(direction, &|decoder, output| {
            decoder.feed(&event.payload, event.timestamp_ns, output);
        });
    }
    for direction in 0..2 {
        connection.act(direction, &|decoder, output| decoder.notice_overdue(output));
    }
    for direction in 0..2 {
        connection.act(direction, &|decoder, output| decoder.close(output));
    }
    pairs_of(&connection.messages)
}

fn response_of(message: &Message) -> Option<Response> {
    let bytes = match &message.content {
        Content::Http1(http1) => match http1.kind {
            Http1Kind::Response { status } if status == 101 || status >= 200 => http1.head.to_vec(),
            _ => return None,
        },
        Content::Http2(http2) if http2.kind == Http2Kind::Response => {
            format!("{}", http2.stream).into_bytes()
        }
        _ => return None,
    };
    Some((message.first_ns, bytes))
}

fn under_of(direction: usize, message: &Message) -> Option<Under> {
    let (kind, content) = match &message.content {
        Content::WebSocket(message) => ("websocket", message.data.to_vec()),
        Content::Grpc(message) => ("grpc", message.data.to_vec()),
        Content::ServerSentEvent(event) => ("sse", event.data.clone().into_bytes()),
        _ => return None,
    };
    Some((kind, direction, message.first_ns, content))
}

fn pairs_of(messages: &[(usize, Message)]) -> Pairs {
    let mut pairs = Pairs::default();
    for (direction, message) in messages {
        let number = message.exchange.as_ref().and_then(|exchange| exchange.number);
        if let Some(under) = under_of(*direction, message) {
            pairs.under.push((under, number));
        }
        let Some(response) = response_of(message) else {
            continue;
        };
        if message.status() == Some(101) {
            pairs.upgrades.push(number);
        }
        if let Some(number) = number {
            pairs.numbered.entry(number).or_default().push(response.clone());
        }
        let exchange = message.exchange.as_ref().expect("a response has an exchange");
        let request = exchange.request.as_ref().map(|request| {
            let path = request.target.as_ref().and_then(|target| target.path());
            (request.first_ns, path.map_or_else(Vec::new, <[u8]>::to_vec))
        });
        match exchange.pairing.expect("a response has a pairing") {
            Pairing::Certain => pairs.certain.push((response, request.expect("it is certain"))),
            Pairing::Uncertain => pairs.uncertain.push((response, request)),
            Pairing::NoRequest => pairs.orphans += 1,
            Pairing::NoResponse | Pairing::Undecided => panic!("of a response"),
        }
    }
    pairs
}

impl Pairs {
    /// The messages under exchanges whose one response is known, with that response.
    fn under_responses(&self) -> BTreeMap<&Under, Response> {
        let known = self.under.iter().filter_map(|(under, number)| {
            let [response] = self.numbered.get(&(*number)?)?.as_slice() else {
                return None;
            };
            Some((under, response.clone()))
        });
        known.collect()
    }
}

/// The figures over all damages of a set of connections.
#[derive(Default, Debug)]
struct Tally {
    responses: usize,
    certain: usize,
    wrong: usize,
    uncertain: usize,
    uncertain_wrong: usize,
    orphans: usize,
    /// Messages under an exchange, and those whose exchange is known.
    under: usize,
    under_known: usize,
    under_wrong: usize,
}

impl Tally {
    /// The figures, and the shares that the documents speak of.
    fn print(&self, name: &str) {
        let share = |part: usize, all: usize| {
            let per_mille = 1000 * part / all.max(1);
            format!("{}.{}", per_mille / 10, per_mille % 10)
        };
        println!(
            "{name}: {} responses: {} % certain ({} wrong), {} % uncertain ({} of them wrong), {} % without a request; \
             {} messages under exchanges: {} % with its number ({} wrong)",
            self.responses,
            share(self.certain, self.responses),
            self.wrong,
            share(self.uncertain, self.responses),
            self.uncertain_wrong,
            share(self.orphans, self.responses),
            self.under,
            share(self.under_known, self.under),
            self.under_wrong,
        );
    }

    /// Compares the responses that messages are under with those of the whole connection.
    fn add_under(&mut self, pairs: &Pairs, whole: &BTreeMap<&Under, Response>) {
        for (under, number) in &pairs.under {
            self.under += 1;
            self.under_known += usize::from(number.is_some());
            let responses = number.and_then(|number| pairs.numbered.get(&number));
            if let (Some(truth), Some(responses)) = (whole.get(under), responses) {
                // The head of a stream's response may be lost: then it began later, as far as is known.
                let is_its = |response: &Response| {
                    response == truth || !truth.1.starts_with(b"HTTP/1") && response.1 == truth.1
                };
                self.under_wrong += usize::from(!responses.iter().any(is_its));
            }
        }
    }

    fn add(&mut self, pairs: &Pairs, truth: impl Fn(&Response, &Request) -> Option<bool>) {
        self.responses += pairs.certain.len() + pairs.uncertain.len() + pairs.orphans;
        self.orphans += pairs.orphans;
        for (response, request) in &pairs.certain {
            self.certain += 1;
            self.wrong += usize::from(truth(response, request) == Some(false));
        }
        for (response, request) in &pairs.uncertain {
            self.uncertain += 1;
            let is_wrong = request
                .as_ref()
                .is_some_and(|request| truth(response, request) == Some(false));
            self.uncertain_wrong += usize::from(is_wrong);
        }
    }
}

/// All ways to lose one event, or to join late.
fn damages(events: usize) -> impl Iterator<Item = Damage> {
    let lost = (0..events).flat_map(|event| [Damage::Lost(event, true), Damage::Lost(event, false)]);
    lost.chain((1..events).map(Damage::Joined))
}

/// Checks the connections; `oracle` says what the bytes themselves say of a pair, if anything. Returns the figures of the
/// whole ones.
fn check(
    name: &str,
    connections: &[Vec<Event>],
    oracle: impl Fn(&Response, &Request) -> Option<bool>,
) -> Tally {
    let (mut whole, mut damaged) = (Tally::default(), Tally::default());
    for events in connections {
        let pairs = play(events, Damage::None);
        whole.add(&pairs, &oracle);
        let under = pairs.under_responses();
        whole.add_under(&pairs, &under);
        let known: BTreeMap<&Response, &Request> = pairs
            .certain
            .iter()
            .map(|(response, request)| (response, request))
            .collect();
        let truth = |response: &Response, request: &Request| {
            // Only the number of the stream is known of a request without a head.
            let is_headless = request.0 == 0;
            let is_known = || {
                let known = known.get(response)?;
                // A path may depend on lost HPACK state.
                let is_same_path = request.1.is_empty() || known.1 == request.1;
                // A search for the next frame may date its start to the event that ended the search.
                let is_late =
                    !response.1.starts_with(b"HTTP/1") && (known.0..=response.0).contains(&request.0);
                Some(is_headless || (known.0 == request.0 || is_late) && is_same_path)
            };
            oracle(response, request).or_else(is_known)
        };
        for damage in damages(events.len()) {
            let pairs = play(events, damage);
            damaged.add(&pairs, truth);
            damaged.add_under(&pairs, &under);
            let wrong = pairs
                .certain
                .iter()
                .find(|(response, request)| truth(response, request) == Some(false));
            if let Some((response, request)) = wrong {
                panic!(
                    "{name}: {damage:?}: {} {} is not the answer to {} {}, but to {:?}",
                    response.0,
                    String::from_utf8_lossy(&response.1),
                    request.0,
                    String::from_utf8_lossy(&request.1),
                    known.get(response),
                );
            }
        }
    }
    whole.print(&format!("{name}, whole"));
    damaged.print(&format!("{name}, damaged"));
    for tally in [&whole, &damaged] {
        assert_eq!((tally.wrong, tally.under_wrong), (0, 0), "{name}: {tally:?}");
    }
    whole
}

/// Checks connections whose beginnings were captured: nothing is uncertain in them, and every message under an
/// exchange has its number.
fn check_whole(name: &str, connections: &[Vec<Event>], oracle: impl Fn(&Response, &Request) -> Option<bool>) {
    let whole = check(name, connections, oracle);
    assert_eq!(whole.uncertain, 0, "{name}: {whole:?}");
    assert_eq!(whole.under_known, whole.under, "{name}: {whole:?}");
}

fn own_recordings() -> Vec<Vec<Event>> {
    let mut cases: Vec<PathBuf> = Vec::new();
    for folder in ["tests/fixtures", "../../tests/fixtures"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        cases.extend(cases_in(&folder));
    }
    assert!(cases.len() > 10);
    cases.iter().flat_map(|case| connections_of(case)).collect()
}

fn cases_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.join("events.jsonl").exists())
        .collect()
}

fn connections_of(case: &Path) -> Vec<Vec<Event>> {
    let text = fs::read_to_string(case.join("events.jsonl")).unwrap();
    let (header, lines) = text.split_once('\n').unwrap();
    Header::parse(header.as_bytes()).unwrap().unwrap();
    let mut connections: Vec<Vec<Event>> = Vec::new();
    // By session, or by descriptor without one: the connection, and its socket once that is known.
    let mut open: BTreeMap<_, (usize, Option<u64>)> = BTreeMap::new();
    for line in lines.lines() {
        if let CapturedEvent::Data(event) = line::parse(line.as_bytes()).unwrap() {
            let sock = event.socket.map(|socket| socket.sock);
            let descriptor = event.fd.filter(|_| event.session.is_none());
            let place = open
                .entry((event.process.pid, event.session, descriptor))
                .or_insert((usize::MAX, sock));
            // A session's address and a descriptor are used again.
            let is_another = matches!((place.1, sock), (Some(known), Some(sock)) if known != sock);
            if place.0 == usize::MAX || is_another {
                connections.push(Vec::new());
                *place = (connections.len() - 1, sock);
            }
            place.1 = place.1.or(sock);
            connections[place.0].push(Event {
                direction: event.direction,
                timestamp_ns: event.timestamp_ns,
                payload: event.payload,
            });
        }
    }
    connections
}

#[test]
fn own_recordings_have_no_wrong_pair() {
    check_whole("own recordings", &own_recordings(), |_, _| None);
}

/// Recordings of what is unusual, some without their beginnings.
#[test]
fn the_recordings_from_the_field_have_no_wrong_pair() {
    let Ok(shared) = std::env::var("ECAPTURE_SHARED") else {
        println!("not run: ECAPTURE_SHARED does not name the folder with the recorded fixtures");
        return;
    };
    let cases = cases_in(&Path::new(&shared).join("fixtures/field"));
    let connections: Vec<_> = cases.iter().flat_map(|case| connections_of(case)).collect();
    check("recordings from the field", &connections, |_, _| None);
}

/// HTTP/1 numbers the upgrade, and so the conversation under it.
#[test]
fn a_web_socket_conversation_is_under_its_upgrade() {
    let mut conversations = 0;
    for events in own_recordings() {
        let pairs = play(&events, Damage::None);
        let &[upgrade] = pairs.upgrades.as_slice() else {
            continue;
        };
        let of_web_socket = |(under, _): &&(Under, Option<u32>)| under.0 == "websocket";
        let numbers: Vec<_> = pairs
            .under
            .iter()
            .filter(of_web_socket)
            .map(|(_, number)| *number)
            .collect();
        if !numbers.is_empty() {
            conversations += 1;
            assert!(upgrade.is_some());
            assert!(
                numbers.iter().all(|&number| number == upgrade),
                "{upgrade:?}: {numbers:?}"
            );
        }
    }
    assert!(conversations >= 3, "{conversations}");
}

#[test]
fn the_oracle_recordings_have_no_wrong_pair() {
    let Some(cases) = fixture::oracle("") else {
        return;
    };
    let mut all = Vec::new();
    for case in cases {
        let mut connections: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for &(stream, event) in &case.order {
            let stream = &case.streams[stream];
            let event = &stream.events[event];
            let direction = stream.origin.stream.as_ref().unwrap().direction;
            connections
                .entry(stream.connection.clone())
                .or_default()
                .push(Event {
                    direction,
                    timestamp_ns: event.timestamp_ns,
                    payload: event.payload.clone(),
                });
        }
        all.extend(connections.into_values());
    }
    check_whole("oracle recordings", &all, |_, _| None);
}

fn request(id: usize) -> String {
    match id % 4 {
        0 => format!("HEAD /{id} HTTP/1.1\r\nHost: a\r\n\r\n"),
        1 => format!("POST /{id} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"),
        _ => format!("GET /{id} HTTP/1.1\r\nHost: a\r\n\r\n"),
    }
}

fn response(id: usize) -> String {
    let early = if id % 4 == 1 {
        "HTTP/1.1 100 Continue\r\n\r\n"
    } else {
        ""
    };
    let body = if id.is_multiple_of(4) { "" } else { "hello" };
    format!("{early}HTTP/1.1 200 OK\r\nId: {id}\r\nContent-Length: 5\r\n\r\n{body}")
}

/// A client that sends `depth` requests ahead: each batch in one event or several.
fn pipelined(exchanges: usize, depth: usize, batched: bool) -> Vec<Event> {
    let mut events = Vec::new();
    let mut push = |direction, text: String| {
        let timestamp_ns = 1_000_000 * (events.len() as u64 + 1);
        events.push(Event {
            direction,
            timestamp_ns,
            payload: text.into(),
        });
    };
    if batched {
        for batch in (0..exchanges).collect::<Vec<_>>().chunks(depth) {
            push(Direction::Write, batch.iter().map(|&id| request(id)).collect());
            push(Direction::Read, batch.iter().map(|&id| response(id)).collect());
        }
        return events;
    }
    for id in 0..exchanges + depth - 1 {
        if id < exchanges {
            push(Direction::Write, request(id));
        }
        if id + 1 >= depth {
            push(Direction::Read, response(id + 1 - depth));
        }
    }
    events
}

/// The response repeats the number in the path of its request.
fn by_id(response: &Response, request: &Request) -> Option<bool> {
    let head = String::from_utf8_lossy(&response.1);
    let id = head.lines().find_map(|line| line.strip_prefix("Id: "))?;
    Some(format!("/{id}").as_bytes() == request.1)
}

#[test]
fn clients_that_wait_or_send_ahead_have_no_wrong_pair() {
    for depth in 1..=4 {
        for batched in [true, false] {
            let events = pipelined(10, depth, batched);
            check_whole(&format!("depth {depth}, batched {batched}"), &[events], by_id);
        }
    }
}

#[test]
fn every_whole_pair_is_certain() {
    for depth in 1..=4 {
        let pairs = play(&pipelined(12, depth, false), Damage::None);
        assert_eq!(pairs.certain.len(), 12);
        assert!(
            pairs
                .certain
                .iter()
                .all(|(response, request)| by_id(response, request) == Some(true))
        );
    }
}

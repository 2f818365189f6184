//! HTTP/1 and raw streams recorded from real programs, compared with their known content; and
//! streams of all protocols through detection, in any split.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use ecapture_protocols::format::{Format, Text};
use ecapture_protocols::message::{Gap, GapReason, Http1Kind, Http1Message};
use ecapture_protocols::{Content, Message, Options, View};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::fixture::{Fixture, oracle};
use support::player::{Played, Player, Split, play};
use support::random::Random;

const VIEWS: [View; 2] = [View::Text, View::Structured { frames: false }];

/// Streams up to this length are cut at every point.
const SMALL: usize = 4096;

fn options(view: View) -> Options {
    Options {
        view,
        ..Options::default()
    }
}

fn http1(messages: &[Message]) -> Vec<&Http1Message> {
    let one = |message| match message {
        &Message {
            content: Content::Http1(ref http1),
            ..
        } => Some(&**http1),
        _ => None,
    };
    messages.iter().filter_map(one).collect()
}

/// A message as `truth.json` describes it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Summary {
    kind: String,
    start: String,
    length: u64,
    sha256: String,
    incomplete: bool,
    trailers: Vec<(String, String)>,
}

impl Summary {
    fn of(message: &Http1Message) -> Self {
        let kind = match message.kind {
            Http1Kind::Request => "req",
            Http1Kind::Response { .. } => "resp",
        };
        Self {
            kind: kind.to_owned(),
            start: lines(&message.head).next().unwrap(),
            length: message.body.data.len() as u64,
            sha256: format!("{:x}", Sha256::digest(&message.body.data)),
            incomplete: !message.body.complete,
            trailers: fields(&message.trailers),
        }
    }

    fn expected(truth: &Value) -> Self {
        let text = |key: &str| truth[key].as_str().unwrap().to_owned();
        let trailers = truth["trailers"].as_array().into_iter().flatten();
        let string = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            kind: text("kind"),
            start: text("start"),
            length: truth["body_len"].as_u64().unwrap(),
            sha256: text("body_sha256"),
            incomplete: truth["incomplete"].as_bool().unwrap_or(false),
            trailers: trailers
                .map(|field| (string(&field[0]), string(&field[1])))
                .collect(),
        }
    }
}

fn lines(head: &[u8]) -> impl Iterator<Item = String> {
    head.split(|&byte| byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).trim_end().to_owned())
}

fn fields(section: &[u8]) -> Vec<(String, String)> {
    let field = |line: String| {
        line.split_once(':')
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
    };
    lines(section).filter_map(field).collect()
}

fn summaries(played: &[Played]) -> Vec<Summary> {
    let mut all: Vec<_> = played
        .iter()
        .flat_map(|stream| http1(&stream.messages))
        .map(Summary::of)
        .collect();
    all.sort();
    all
}

#[test]
fn every_http1_message_is_what_was_sent() {
    for fixture in oracle("h1-").into_iter().flatten() {
        let Some(truth) = fixture.truth() else { continue };
        let known = |entry: &&Value| matches!(entry["kind"].as_str(), Some("req" | "resp"));
        let mut expected: Vec<_> = truth
            .as_array()
            .unwrap()
            .iter()
            .filter(known)
            .map(Summary::expected)
            .collect();
        expected.sort();
        for view in VIEWS {
            let played = play(&fixture, options(view), Split::Whole);
            assert_eq!(summaries(&played), expected, "{}", fixture.name);
        }
    }
}

#[test]
fn names_keep_their_order_and_case() {
    for fixture in oracle("h1-32").into_iter().flatten() {
        let played = play(&fixture, Options::default(), Split::Whole);
        let truth = fixture.truth().unwrap();
        let observed: Vec<_> = played.iter().flat_map(|stream| http1(&stream.messages)).collect();
        for (message, expected) in observed.iter().zip(truth.as_array().unwrap()) {
            let fields_start = message.head.iter().position(|&byte| byte == b'\n').unwrap();
            let section = fields(&message.head[fields_start..]);
            let names: Vec<_> = section
                .into_iter()
                .map(|(name, _)| name.trim().to_owned())
                .collect();
            assert_eq!(serde_json::json!(names), expected["header_names"]);
        }
    }
}

#[test]
fn any_split_gives_the_same_messages() {
    let protocols = ["grpc-", "h1-", "h2-", "up-"];
    for fixture in protocols.into_iter().filter_map(oracle).flatten() {
        for view in VIEWS {
            let whole = contents(&play(&fixture, options(view), Split::Whole));
            for split in splits(&fixture) {
                let again = contents(&play(&fixture, options(view), split));
                assert!(
                    again == whole,
                    "{} {view:?} {split:?}: {again:#?}\n{whole:#?}",
                    fixture.name
                );
            }
        }
    }
}

fn splits(fixture: &Fixture) -> Vec<Split> {
    let longest = fixture
        .streams
        .iter()
        .map(|stream| stream.bytes().len())
        .max()
        .unwrap_or(0);
    let mut splits = vec![Split::Bytes];
    splits.extend((1..50).map(Split::Random));
    if longest <= SMALL {
        splits.extend((1..longest).map(Split::At));
    }
    splits
}

fn contents(played: &[Played]) -> Vec<Vec<Content>> {
    let content = |message: &Message| message.content.clone();
    played
        .iter()
        .map(|stream| stream.messages.iter().map(content).collect())
        .collect()
}

#[test]
fn raw_streams_are_all_there_in_any_split() {
    for fixture in oracle("raw-").into_iter().flatten() {
        for split in splits(&fixture).into_iter().chain([Split::Whole]) {
            for (stream, played) in fixture
                .streams
                .iter()
                .zip(play(&fixture, Options::default(), split))
            {
                let raw = |message: &Message| match &message.content {
                    Content::Raw(raw) => raw.data.to_vec(),
                    other => panic!("{} {split:?}: {other:?}", fixture.name),
                };
                let data: Vec<u8> = played.messages.iter().flat_map(raw).collect();
                assert_eq!(data, stream.bytes(), "{} {split:?}", fixture.name);
                assert_eq!(played.skipped, []);
            }
        }
    }
}

/// Cases whose text is right in the original, except for the spelling and the order of header
/// fields.
const TEXT_AS_THE_ORIGINAL: &[&str] = &[
    "h1-01-get-cl",
    "h1-02-post-split-body",
    "h1-04-resp-chunked-split",
    "h1-06-resp-gzip-chunked",
    "h1-10-req-gzip",
    "h1-11-head",
    "h1-16-split-headers",
    "h1-18-keepalive-gap",
    "h1-20-keepalive-sock-gap",
    "h1-22-huge-header",
    "h1-25-http10-until-close",
    "h1-26-large-body",
    "h1-27-truncated",
    "h1-30-corrupt-gzip",
    "h1-31-utf8",
    "h1-35-lf-only",
    "h1-36-two-uuid-interleaved",
];

/// Cases where the original adds or folds fields; the rest of the text is compared.
const ADDED_FIELDS: &[&str] = &["connection: close"];

#[test]
fn text_matches_the_original() {
    for name in TEXT_AS_THE_ORIGINAL {
        for fixture in oracle(name).into_iter().flatten() {
            let observed = formatted(&fixture, &Text::default());
            let expected = fixture.file("original.text.txt").unwrap();
            assert_eq!(records(&observed), records(&expected), "{name}");
        }
    }
}

#[test]
fn raw_text_and_dump_match_the_original() {
    for name in [
        "raw-01-text",
        "raw-02-binary",
        "raw-05-empty",
        "raw-08-json-lines",
    ] {
        for fixture in oracle(name).into_iter().flatten() {
            for (file, hex) in [("original.text.txt", false), ("original.hex.txt", true)] {
                let text = Text {
                    hex,
                    ..Text::default()
                };
                let mut observed = Vec::new();
                for (stream, played) in fixture.streams.iter().zip(play_batches(&fixture)) {
                    observed.extend(text.formatted(&stream.origin, &played));
                }
                let expected = fixture.file(file).unwrap();
                assert_eq!(records(&observed), records(&expected), "{name} {file}");
            }
        }
    }
}

/// Returns the raw messages of each stream. As in the original, events within a second are one
/// message.
fn play_batches(fixture: &Fixture) -> Vec<Vec<Message>> {
    let mut played = play(fixture, Options::default(), Split::Whole);
    let batches = played.iter_mut().map(|stream| {
        let mut batches: Vec<Message> = Vec::new();
        for message in stream.messages.drain(..) {
            let end_ns = message.last_ns;
            match (batches.last_mut(), message.content) {
                (
                    Some(Message {
                        last_ns,
                        exchange: None,
                        content: Content::Raw(batch),
                        ..
                    }),
                    Content::Raw(raw),
                ) if end_ns - *last_ns < 1_000_000_000 => {
                    batch.data = [&batch.data[..], &raw.data].concat().into();
                    *last_ns = end_ns;
                }
                (_, content) => batches.push(Message { content, ..message }),
            }
        }
        batches
    });
    batches.collect()
}

#[test]
fn tsize_cuts_every_record() {
    for fixture in oracle("raw-10").into_iter().flatten() {
        let text = Text {
            truncate: Some(500),
            ..Text::default()
        };
        let observed = String::from_utf8(formatted(&fixture, &text)).unwrap();
        let cut = observed.lines().filter(|line| line.len() == 500).count();
        let marks = observed
            .lines()
            .filter(|line| *line == "[ecapture: truncated at 500 of 900 bytes]");
        assert_eq!((cut, marks.count()), (3, 3), "{observed}");
    }
}

fn formatted(fixture: &Fixture, text: &Text) -> Vec<u8> {
    let mut out = Vec::new();
    for (stream, played) in fixture
        .streams
        .iter()
        .zip(play(fixture, Options::default(), Split::Whole))
    {
        out.extend(text.formatted(&stream.origin, &played.messages));
    }
    out
}

/// Records in order of their text: header line, lines of the head in order of their names,
/// body.
fn records(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text).replace("\r\n", "\n");
    let text = text.replace("PID:", "\n\u{1}PID:");
    let mut records: Vec<String> = text
        .split("\n\u{1}")
        .map(normalised)
        .filter(|one| !one.is_empty())
        .collect();
    records.sort();
    records
}

fn normalised(record: &str) -> String {
    let (head, body) = record.split_once("\n\n").unwrap_or((record, ""));
    let mut lines: Vec<String> = head.lines().map(str::to_ascii_lowercase).collect();
    lines.retain(|line| !ADDED_FIELDS.contains(&line.as_str()));
    if let Some(fields) = lines.get_mut(2..) {
        fields.sort();
    }
    let unmarked = body.lines().filter(|line| !line.starts_with("[ecapture: "));
    let body: Vec<&str> = unmarked.collect();
    format!("{}\n\n{}", lines.join("\n"), body.join("\n"))
        .trim_end()
        .to_owned()
}

/// Drops any one event of any connection: the later messages must be found, each whole and true,
/// and the gap must be shown.
#[test]
fn after_a_lost_event_later_messages_are_found() {
    for fixture in oracle("h1-").into_iter().flatten() {
        let true_messages = exact(&play(&fixture, options(View::Text), Split::Whole));
        for dropped in 0..fixture.order.len() {
            for known in [true, false] {
                let played = play_without(&fixture, dropped, known);
                for summary in exact(&played) {
                    let name = &fixture.name;
                    assert!(
                        true_messages.contains(&summary),
                        "{name} without {dropped}: {summary:#?}"
                    );
                }
                check_recovered(&fixture, dropped, &played);
            }
        }
    }
}

/// Returns the messages that are marked complete.
fn exact(played: &[Played]) -> Vec<Summary> {
    let whole = |message: &&&Http1Message| message.body.complete;
    let messages = played.iter().flat_map(|stream| http1(&stream.messages));
    messages
        .collect::<Vec<_>>()
        .iter()
        .filter(whole)
        .map(|message| Summary::of(message))
        .collect()
}

fn play_without(fixture: &Fixture, dropped: usize, known: bool) -> Vec<Played> {
    let mut player = Player::new(fixture, options(View::Text));
    for (index, &(stream, event)) in fixture.order.iter().enumerate() {
        let event = &fixture.streams[stream].events[event];
        if index == dropped {
            let bytes = known.then_some(event.payload.len() as u64);
            player.gap(
                stream,
                Gap {
                    bytes,
                    reason: GapReason::KernelLoss,
                },
                event.timestamp_ns,
            );
        } else {
            player.feed(stream, &event.payload, event.timestamp_ns);
        }
    }
    player.close()
}

/// Checks that every event after the lost one that begins with a start line begins a message.
fn check_recovered(fixture: &Fixture, dropped: usize, played: &[Played]) {
    let (stream, _) = fixture.order[dropped];
    let later = fixture.order[dropped + 1..]
        .iter()
        .filter(|(other, _)| *other == stream);
    let starts = later
        .map(|&(stream, event)| &fixture.streams[stream].events[event].payload)
        .filter(|payload| payload.starts_with(b"HTTP/1.") || payload.starts_with(b"GET "));
    let heads: Vec<_> = http1(&played[stream].messages)
        .iter()
        .map(|message| message.head.clone())
        .collect();
    for start in starts {
        let found = heads.iter().any(|head| start.starts_with(head));
        assert!(found, "{} without {dropped}: {heads:?}", fixture.name);
    }
    let gaps = played[stream]
        .messages
        .iter()
        .filter(|message| matches!(message.content, Content::Gap(_)));
    assert_eq!(gaps.count(), 1, "{} without {dropped}", fixture.name);
}

/// Damaged streams, too, decode to the same messages in any split, if their protocol is found.
#[test]
fn damage_is_decoded_the_same_in_any_split() {
    // How much of a damaged brotli body is decoded depends on its pieces, and a damaged
    // WebSocket direction is searched from the starts of events.
    const DEPENDS_ON_PIECES: [&str; 2] = ["h1-08-resp-br", "h1-23-websocket"];
    for fixture in oracle("h1-").into_iter().flatten() {
        let longest = fixture.streams.iter().map(|stream| stream.bytes().len()).max();
        if DEPENDS_ON_PIECES.contains(&fixture.name.as_str()) || longest > Some(SMALL) {
            continue;
        }
        for seed in 1..40 {
            let damaged = damage(&fixture, seed);
            let whole = joined(&play(&damaged, Options::default(), Split::Whole));
            for split in [Split::Bytes, Split::Random(seed), Split::Random(seed + 1000)] {
                let again = joined(&play(&damaged, Options::default(), split));
                assert!(
                    again == whole,
                    "{} {seed} {split:?}: {again:#?}\n{whole:#?}",
                    fixture.name
                );
            }
        }
    }
}

/// Returns the fixture with some bytes after the first line of each stream changed.
fn damage(fixture: &Fixture, seed: u64) -> Fixture {
    let mut random = Random::new(seed);
    let mut damaged = fixture.clone();
    for stream in &mut damaged.streams {
        let mut bytes = stream.bytes();
        let start = bytes
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        for _ in 0..=random.below(4) {
            let at = start + random.below(bytes.len() - start);
            let with = b"\r\n 0:;,G\0\xFFHTTP/1.1"[random.below(18)];
            bytes[at] = with;
        }
        let mut rest = Bytes::from(bytes);
        for event in &mut stream.events {
            event.payload = rest.split_to(event.payload.len());
        }
    }
    damaged
}

/// Returns the contents, with consecutive raw ones joined.
fn joined(played: &[Played]) -> Vec<Vec<Content>> {
    let mut streams = contents(played);
    for contents in &mut streams {
        contents.dedup_by(|next, previous| match (previous, next) {
            (Content::Raw(previous), Content::Raw(next)) => {
                previous.data = [&previous.data[..], &next.data[..]].concat().into();
                true
            }
            _ => false,
        });
    }
    streams
}

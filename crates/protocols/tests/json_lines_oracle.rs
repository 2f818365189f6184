//! JSON Lines of everything recorded from real programs, compared with the schema and the known
//! content.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ecapture_protocols::format::JsonLines;
use ecapture_protocols::{Format, Options, View};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::fixture::{Fixture, oracle};
use support::player::{Split, play};

const SCHEMA: &str = include_str!("../schema/jsonl.schema.json");

/// All lines of a case, read back.
fn lines(fixture: &Fixture, split: Split) -> Vec<Value> {
    let options = Options {
        view: View::Structured { frames: true },
        ..Options::default()
    };
    let mut written = Vec::new();
    for (stream, played) in fixture.streams.iter().zip(play(fixture, options, split)) {
        written.extend(JsonLines::default().formatted(&stream.origin, &played.messages));
    }
    let lines = std::str::from_utf8(&written).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_line_is_as_the_schema_says() {
    let Some(cases) = oracle("") else { return };
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    let mut count = 0;
    for fixture in cases {
        for line in lines(&fixture, Split::Random(1)) {
            let errors: Vec<String> = validator
                .iter_errors(&line)
                .map(|error| error.to_string())
                .collect();
            assert!(errors.is_empty(), "{}: {line}: {errors:?}", fixture.name);
            count += 1;
        }
    }
    assert!(count > 400, "{count} lines");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn content(body: &Value) -> Vec<u8> {
    match body.get("text") {
        Some(plain) => text(plain).as_bytes().to_vec(),
        None => STANDARD.decode(text(&body["base64"])).unwrap(),
    }
}

/// Kind, start line and hash of the content of every HTTP/1 message, sorted.
fn http1(lines: &[Value]) -> Vec<(&str, String, String)> {
    let of = |line: &'_ Value| {
        let kind = match text(&line["kind"]) {
            "http1.request" => "req",
            "http1.response" => "resp",
            _ => return None,
        };
        let hash = format!("{:x}", Sha256::digest(content(&line["body"])));
        Some((kind, text(&line["start_line"]).to_owned(), hash))
    };
    let mut all: Vec<_> = lines.iter().filter_map(of).collect();
    all.sort();
    all
}

#[test]
fn http1_lines_have_the_true_values() {
    let Some(cases) = oracle("h1-") else { return };
    let mut compared = 0;
    for fixture in cases {
        let Some(truth) = fixture.truth() else { continue };
        let of = |message: &Value| {
            let kind = ["req", "resp"]
                .into_iter()
                .find(|kind| message["kind"] == *kind)?;
            let part = |name: &str| text(&message[name]).to_owned();
            Some((kind, part("start"), part("body_sha256")))
        };
        let mut expected: Vec<_> = truth.as_array().unwrap().iter().filter_map(of).collect();
        expected.sort();
        assert_eq!(
            http1(&lines(&fixture, Split::Whole)),
            expected,
            "{}",
            fixture.name
        );
        compared += 1;
    }
    assert!(compared > 20, "{compared} cases");
}

#[test]
fn web_socket_lines_have_the_true_values_in_every_split() {
    let Some(cases) = oracle("h1-23-websocket") else {
        return;
    };
    let fixture = &cases[0];
    let bytes = |length: u8| STANDARD.encode((0..length).collect::<Vec<u8>>());
    let client = [
        (1, "Hello from client".to_owned()),
        (9, "ping".to_owned()),
        (8, "bye".to_owned()),
    ];
    let server = [
        (1, "Hello from server 你好".to_owned()),
        (1, "frag1 frag2".to_owned()),
        (10, "ping".to_owned()),
        (2, bytes(200)),
        (8, "bye".to_owned()),
    ];
    let longest = fixture
        .streams
        .iter()
        .map(|stream| stream.bytes().len())
        .max()
        .unwrap();
    let cuts = (0..longest).map(Split::At);
    for split in [Split::Whole, Split::Bytes]
        .into_iter()
        .chain(cuts)
        .chain((0..50).map(Split::Random))
    {
        let lines = lines(fixture, split);
        let of = |direction: &str| -> Vec<(u64, String)> {
            let frames = lines.iter().filter(|line| line["kind"] == "websocket.message");
            let sent = frames.filter(|line| line["direction"] == direction);
            sent.map(|line| {
                let message = &line["message"];
                let shown = message.get("text").unwrap_or(&message["base64"]);
                (message["opcode"].as_u64().unwrap(), text(shown).to_owned())
            })
            .collect()
        };
        assert_eq!(of("write"), client, "{split:?}");
        assert_eq!(of("read"), server, "{split:?}");
    }
}

//! HTTP/1 made and read by hyper, compared with the decoder's messages of the same bytes.
//!
//! `ECAPTURE_DIFFERENTIAL` sets how many messages are compared (default 4000).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/random.rs"]
#[expect(dead_code, reason = "shared; no file needs all of it")]
mod random;
mod traffic;

use std::collections::BTreeMap;

use bytes::Bytes;
use ecapture_protocols::message::{Http1Kind, Http1Message};
use ecapture_protocols::{Content, Options, Output, StreamDecoder, View, stream_decoder};
use random::Random;
use traffic::{Side, Traffic};

/// A message as hyper read it, or as the decoder did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `METHOD target` or the status code.
    pub(crate) start: String,
    /// Values of each field in order.
    pub(crate) fields: BTreeMap<String, Vec<String>>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: BTreeMap<String, Vec<String>>,
}

#[test]
fn the_decoder_and_hyper_agree() {
    let wanted: usize = std::env::var("ECAPTURE_DIFFERENTIAL").map_or(4000, |count| count.parse().unwrap());
    let mut compared = 0;
    let mut rare = [0; 4];
    let mut seed = 0;
    while compared < wanted {
        seed += 1;
        let traffic = traffic::make(seed);
        let view = if seed % 2 == 0 {
            View::Text
        } else {
            View::Structured { frames: false }
        };
        let decoded = decode(&traffic, view, seed);
        for (side, expected) in [
            (Side::Client, &traffic.requests),
            (Side::Server, &traffic.responses),
        ] {
            let observed = &decoded[usize::from(side == Side::Server)];
            assert_eq!(observed.len(), expected.len(), "seed {seed}, {side:?}");
            for (observed, expected) in observed.iter().zip(expected) {
                assert_eq!(observed, expected, "seed {seed}, {side:?}");
            }
            compared += observed.len();
        }
        let messages = || traffic.requests.iter().chain(&traffic.responses);
        rare[0] += messages().filter(|seen| !seen.trailers.is_empty()).count();
        rare[1] += messages().filter(|seen| seen.has("transfer-encoding")).count();
        rare[2] += traffic
            .responses
            .iter()
            .filter(|seen| seen.ends_by_closing())
            .count();
        rare[3] += traffic
            .responses
            .iter()
            .filter(|seen| seen.has("content-length") && seen.body.is_empty())
            .count();
    }
    assert!(
        rare.iter().all(|&count| count > 0),
        "not all kinds of traffic came up: {rare:?}"
    );
}

impl Seen {
    fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    fn ends_by_closing(&self) -> bool {
        !self.has("content-length") && !self.has("transfer-encoding") && !self.body.is_empty()
    }
}

/// Decodes requests and responses from the bytes, cut at random.
fn decode(traffic: &Traffic, view: View, seed: u64) -> [Vec<Seen>; 2] {
    let mut random = Random::new(seed);
    let mut decoders = [(); 2].map(|()| {
        stream_decoder(Options {
            view,
            ..Options::default()
        })
    });
    let mut messages = [Vec::new(), Vec::new()];
    for (time, (side, written)) in traffic.written.iter().enumerate() {
        let mut rest = written.clone();
        while !rest.is_empty() {
            let longest = rest.len();
            let piece = rest.split_to(1 + random.length(longest - 1));
            act(*side, &mut decoders, &mut messages, |decoder, output| {
                decoder.feed(&piece, time as u64, output);
            });
        }
    }
    for side in [Side::Client, Side::Server] {
        act(side, &mut decoders, &mut messages, |decoder, output| {
            decoder.close(output);
        });
    }
    messages
}

fn act(
    side: Side,
    decoders: &mut [Box<dyn StreamDecoder>; 2],
    seen: &mut [Vec<Seen>; 2],
    act: impl FnOnce(&mut dyn StreamDecoder, &mut Output),
) {
    let index = usize::from(side == Side::Server);
    let mut output = Output::default();
    act(&mut *decoders[index], &mut output);
    assert_eq!(output.skipped, []);
    let notices = std::mem::take(&mut output.notices);
    for notice in &notices {
        decoders[1 - index].notice(notice, &mut output);
    }
    for message in output.messages {
        let Content::Http1(message) = message.content else {
            panic!("{message:?}")
        };
        // A notice can complete a held message of the other side.
        seen[usize::from(message.kind != Http1Kind::Request)].push(read(&message));
    }
}

fn read(message: &Http1Message) -> Seen {
    assert!(message.body.complete, "{message:?}");
    assert_eq!(message.anomalies, []);
    let head = str::from_utf8(&message.head).unwrap();
    let (start, fields) = head.split_once("\r\n").unwrap();
    let words: Vec<&str> = start.split(' ').collect();
    Seen {
        start: match message.kind {
            Http1Kind::Request => format!("{} {}", words[0], words[1]),
            Http1Kind::Response { status } => status.to_string(),
        },
        fields: grouped(fields),
        body: Bytes::clone(&message.body.data).to_vec(),
        trailers: grouped(str::from_utf8(&message.trailers).unwrap()),
    }
}

fn grouped(section: &str) -> BTreeMap<String, Vec<String>> {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in section.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        fields
            .entry(name.to_ascii_lowercase())
            .or_default()
            .push(value.trim().to_owned());
    }
    fields
}

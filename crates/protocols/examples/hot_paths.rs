//! Runs one hot path a number of times, for counting its instructions:
//! `hot_paths PATH ROUNDS`. `tests/bench/instructions` runs all of them under callgrind.

use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use ecapture_protocols::format::{Filtered, JsonLines, Text};
use ecapture_protocols::{
    Comm, DataEvent, Direction, Filter, Format, Options, Origin, Output, Process, Records, stream_decoder,
};

const REQUEST: &[u8] = b"GET /index.html?q=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: curl/8.5.0\r\n\
    Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nCookie: session=0123456789abcdef\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (path, rounds) = (
        arguments.next(),
        arguments.next().and_then(|rounds| rounds.parse().ok()),
    );
    match (path.as_deref(), rounds) {
        (Some("http1-request-text"), Some(rounds)) => decode(&text(), &[], REQUEST, rounds),
        (Some("http1-request-json"), Some(rounds)) => decode(&json(), &[], REQUEST, rounds),
        (Some("http2-request-text"), Some(rounds)) => decode(&text(), PREFACE, &http2_request(), rounds),
        (Some("http2-request-json"), Some(rounds)) => decode(&json(), PREFACE, &http2_request(), rounds),
        (Some("raw-text"), Some(rounds)) => decode(&text(), &[], &[b'x'; 1024], rounds),
        (Some(path), Some(rounds)) => {
            let Some((_, expression)) = FILTERS.into_iter().find(|(name, _)| *name == path) else {
                return ExitCode::from(2);
            };
            decode(&filtered(expression), &[], REQUEST, rounds);
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// `http1-request-json` with a filter that selects the request.
const FILTERS: [(&str, &str); 3] = [
    (
        "http1-json-filter-process",
        "proc.pid == 1 && proc.comm == \"bench\"",
    ),
    (
        "http1-json-filter-request",
        "http.request.method == \"GET\" && http.host contains \"example\"",
    ),
    (
        "http1-json-filter-matches",
        "http.request.uri matches \"^/index\"",
    ),
];

fn text() -> Arc<dyn Format> {
    Arc::new(Text::default())
}

fn json() -> Arc<dyn Format> {
    Arc::new(JsonLines {
        wall_clock_offset_ns: Some(0),
        ..JsonLines::default()
    })
}

fn filtered(expression: &str) -> Arc<dyn Format> {
    Arc::new(Filtered {
        format: json(),
        filter: Arc::new(Filter::parse(expression).expect("an expression")),
    })
}

/// One request whose fields are all indexed or literal without indexing, so that every round is the same.
/// The stream id stays the same too, which a decoder that only watches accepts.
fn http2_request() -> Vec<u8> {
    let mut block = vec![0x82, 0x84, 0x87];
    for (name, value) in [
        ("user-agent", "curl/8.5.0"),
        ("accept", "*/*"),
        ("x-request", "0123456789abcdef"),
    ] {
        block.push(0x00);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short texts"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut frame = vec![
        0,
        0,
        u8::try_from(block.len()).expect("a short block"),
        1,
        0x05,
        0,
        0,
        0,
        1,
    ];
    frame.append(&mut block);
    frame
}

/// One event per round through a decoder and the format of its view.
fn decode(format: &Arc<dyn Format>, first: &'static [u8], event: &[u8], rounds: u64) {
    let event = Bytes::copy_from_slice(event);
    let origin = origin(&event);
    let mut decoder = stream_decoder(Options {
        view: format.view(),
        ..Options::default()
    });
    let (mut output, mut out) = (Output::default(), Records::default());
    decoder.feed(&Bytes::from_static(first), 0, &mut output);
    for round in 0..rounds {
        decoder.feed(&event, round, &mut output);
        format.write(&origin, &output.messages, &mut out);
        output.clear();
        std::hint::black_box(&out);
        out.truncate(0);
    }
}

fn origin(payload: &Bytes) -> Origin {
    Origin::of(
        &DataEvent {
            timestamp_ns: 0,
            process: Process {
                pid: 1,
                tid: 1,
                uid: None,
                comm: Comm::from("bench"),
            },
            container_id: None,
            program: None,
            direction: Direction::Write,
            fd: Some(5),
            session: None,
            socket: None,
            tls_version: None,
            stream_offset: None,
            joined_late: None,
            payload: payload.clone(),
        },
        1,
    )
}

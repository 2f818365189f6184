//! Writing messages: `cargo bench -p ecapture-protocols --bench format`.
//!
//! Bytes per second are those of the output.
#![expect(clippy::unwrap_used, reason = "benchmarks fail by panicking")]

use std::hint::black_box;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use ecapture_protocols::format::{JsonLines, Text};
use ecapture_protocols::message::{Body, Field, Http1Kind, Http1Message, Http2Kind, Http2Message, Part, Raw};
use ecapture_protocols::{
    AddressSource, Comm, Content, Direction, Format, Message, Origin, Process, Records, Side, Socket,
    StreamOrigin, TlsVersion, Tuple,
};

const MESSAGES: usize = 100;

fn main() {
    divan::main();
}

fn origin() -> Origin {
    Origin {
        process: Process {
            pid: 4242,
            tid: 4243,
            uid: Some(1000),
            comm: Comm::from("curl"),
        },
        container_id: None,
        program: None,
        stream: Some(StreamOrigin {
            connection: 1,
            uuid: "4242_4243_curl_5_1_10.0.0.1:40000-192.0.2.1:443".into(),
            direction: Direction::Write,
            fd: Some(5),
            session: 0,
            socket: Some(Socket {
                sock: 1,
                tuple: Tuple {
                    source: "10.0.0.1:40000".parse().unwrap(),
                    destination: "192.0.2.1:443".parse().unwrap(),
                },
                local: Some(Side::Source),
                address_source: AddressSource::Exact,
            }),
            tls_version: Some(TlsVersion(0x0304)),
            joined_late: None,
            other_end: false,
        }),
    }
}

fn body(data: &'static str) -> Body {
    Body {
        data: Bytes::from_static(data.as_bytes()),
        wire_len: data.len() as u64,
        len: data.len() as u64,
        complete: true,
        ..Body::default()
    }
}

const JSON_BODY: &str = r#"{"id":1234,"name":"A product of some kind","price":101.25,"tags":["a","b","c"]}"#;

fn http1() -> Content {
    let head = "POST /api/v1/items/1?expand=all HTTP/1.1\r\nHost: shop.example.com\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
        Accept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.5\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\nContent-Type: application/json\r\n\
        Cookie: session=5f2a77c1d0e94b0c8f0e6a1b; theme=dark\r\nConnection: keep-alive\r\n\
        Content-Length: 79\r\n\r\n";
    Content::Http1(Box::new(Http1Message {
        kind: Http1Kind::Request,
        head: Bytes::from_static(head.as_bytes()),
        body: body(JSON_BODY),
        trailers: Bytes::new(),
        anomalies: Vec::new(),
        part: Part::Whole,
    }))
}

fn http2() -> Content {
    let field = |(name, value): (&'static str, &'static str)| Field {
        name: Some(Bytes::from_static(name.as_bytes())),
        value: Some(Bytes::from_static(value.as_bytes())),
        sensitive: false,
    };
    let fields = [
        (":method", "POST"),
        (":path", "/api/v1/items/1"),
        (":authority", "shop.example.com"),
        (":scheme", "https"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        ),
        ("accept", "application/json, text/plain, */*"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("cookie", "session=5f2a77c1d0e94b0c8f0e6a1b; theme=dark"),
    ];
    Content::Http2(Box::new(Http2Message {
        part: Part::Whole,
        kind: Http2Kind::Request,
        stream: 13,
        pushed: false,
        fields: fields.into_iter().map(field).collect(),
        trailers: Vec::new(),
        body: body(JSON_BODY),
        reset: None,
        error: None,
    }))
}

fn raw_text() -> Content {
    let line = "2025-01-01T00:00:00Z INFO a line of a log, \"quoted\" here and there\n";
    Content::Raw(Raw {
        data: line.repeat(16_384 / line.len()).into(),
    })
}

fn raw_binary() -> Content {
    let data: Vec<u8> = (0..16_384_u32)
        .map(|index| (index.wrapping_mul(2_654_435_761)).to_be_bytes()[0])
        .collect();
    Content::Raw(Raw { data: data.into() })
}

fn measure(bencher: Bencher<'_, '_>, format: &dyn Format, content: &Content) {
    let message = Message {
        first_ns: 123_456_789_012,
        last_ns: 123_456_799_999,
        exchange: None,
        content: content.clone(),
    };
    let messages = vec![message; MESSAGES];
    let origin = origin();
    let mut out = Records::default();
    format.write(&origin, &messages, &mut out);
    assert!(out.as_bytes().len() > MESSAGES);
    let counted = bencher
        .counter(BytesCount::new(out.as_bytes().len()))
        .counter(ItemsCount::new(MESSAGES));
    counted.bench_local(|| {
        out.truncate(0);
        format.write(&origin, &messages, &mut out);
        black_box(&out);
    });
}

const CONTENTS: [&str; 4] = ["http1", "http2", "raw_binary_16k", "raw_text_16k"];

fn content(name: &str) -> Content {
    match name {
        "http1" => http1(),
        "http2" => http2(),
        "raw_binary_16k" => raw_binary(),
        _ => raw_text(),
    }
}

#[divan::bench(args = CONTENTS)]
fn json_lines(bencher: Bencher<'_, '_>, name: &str) {
    let format = JsonLines {
        wall_clock_offset_ns: Some(1_700_000_000_000_000_000),
        ..JsonLines::default()
    };
    measure(bencher, &format, &content(name));
}

#[divan::bench(args = CONTENTS)]
fn text(bencher: Bencher<'_, '_>, name: &str) {
    measure(bencher, &Text::default(), &content(name));
}

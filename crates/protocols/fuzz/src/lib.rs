//! Properties that must hold for any bytes, one function per fuzz target.
//!
//! The fuzz targets and the ordinary test `corpus_replay` call the same functions. Each input begins
//! with four bytes that say how it is fed: the piece size, the view, and a seed for gaps,
//! idle times and notices in between. The properties:
//!
//! * no panic, and so no overflow and no out-of-bounds index;
//! * a decoder holds no more than its limits add up to;
//! * every byte fed is in a message or counted as skipped, exactly where the protocol's messages say
//!   how long they were on the wire, and no byte twice elsewhere;
//! * bytes captured without a gap are in messages: only bytes beyond a limit are merely counted,
//!   and no body has a hole;
//! * every line of JSON is one JSON value, and the text format accepts every message.

mod checks;
mod driver;

use bytes::Bytes;
use checks::{check_formats, origin};
use driver::{Steering, drive, limits};
use ecapture_protocols::dissect::Capture;
use ecapture_protocols::format::Pcapng;
use ecapture_protocols::http2::{Http2Decoder, hpack};
use ecapture_protocols::message::{Body, Http1Kind, Http1Message, Part};
use ecapture_protocols::pcapng::{Block, Reader, Step};
use ecapture_protocols::sse::SseDecoder;
use ecapture_protocols::websocket::{self, WebSocketDecoder};
use ecapture_protocols::{
    AddressSource, BodyBuilder, CapturedEvent, Content, EventFormat as _, Filter, Message, Side, Socket,
    Subject, Tuple, recording, stream_decoder,
};

/// A fuzz target by name, for the replay of its corpus.
pub type Target = fn(&[u8]);

/// All targets.
pub const TARGETS: [(&str, Target); 11] = [
    ("content_coding", content_coding),
    ("detection", detection),
    ("filter", filter),
    ("hpack", hpack),
    ("http1", http1),
    ("http2", http2),
    ("json_lines", json_lines),
    ("packets", packets),
    ("recording", recording),
    ("sse", sse),
    ("websocket", websocket),
];

/// Any bytes as a new stream.
pub fn detection(input: &[u8]) {
    let (steering, bytes) = Steering::of(input);
    let options = steering.options();
    let output = drive(stream_decoder(options), bytes, steering, true);
    check_formats(&output.messages);
}

/// Any text as a filter, over a request and a response: what is decided early is never selected.
pub fn filter(input: &[u8]) {
    let (_, text) = Steering::of(input);
    let text = String::from_utf8_lossy(text);
    let filter = match Filter::parse(&text) {
        Ok(filter) => filter,
        Err(error) => return assert!(error.position <= text.chars().count()),
    };
    let mut origin = origin();
    if let Some(stream) = &mut origin.stream {
        stream.session = 1;
        stream.socket = Some(Socket {
            sock: 1,
            tuple: Tuple {
                source: ([10, 0, 0, 1], 40_000).into(),
                destination: ([192, 0, 2, 1], 443).into(),
            },
            local: Some(Side::Source),
            address_source: AddressSource::Exact,
        });
    }
    let is_ruled_out = filter.rules_out(&origin);
    let is_other_process = filter
        .processes()
        .is_some_and(|pids| !pids.contains(&origin.process.pid));
    for bytes in [
        &b"POST /a?b=c HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nhello"[..],
        b"HTTP/1.1 404 Not Found\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nno",
    ] {
        let decoder = stream_decoder(ecapture_protocols::Options::default());
        for message in &drive(decoder, bytes, Steering::of(&[]).0, true).messages {
            let verdict = filter.verdict(&Subject::new(&origin, message));
            assert!(verdict != Some(true) || !is_ruled_out && !is_other_process);
        }
    }
}

/// A stream that begins as an HTTP/1 request or response.
pub fn http1(input: &[u8]) {
    let (steering, bytes) = Steering::of(input);
    let start: &[u8] = if steering.choice() {
        b"HTTP/1.1 200 OK\r\n"
    } else {
        b"POST / HTTP/1.1\r\n"
    };
    let output = drive(
        stream_decoder(steering.options()),
        &[start, bytes].concat(),
        steering,
        true,
    );
    check_formats(&output.messages);
}

/// HTTP/2 from the first byte, after the client's preface or the server's SETTINGS, or from the
/// middle.
pub fn http2(input: &[u8]) {
    let (steering, bytes) = Steering::of(input);
    let start: &[u8] = if steering.choice() {
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
    } else {
        b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\0\0\x04\x01\0\0\0\0"
    };
    let from_start = !steering.chance(3);
    let wire = if from_start {
        [start, bytes].concat()
    } else {
        bytes.to_vec()
    };
    let decoder = Http2Decoder::new(steering.options(), from_start);
    let output = drive(Box::new(decoder), &wire, steering, true);
    check_formats(&output.messages);
}

/// Field sections: bytes between `0xff 0xff` are successive blocks of one connection.
pub fn hpack(input: &[u8]) {
    let (steering, bytes) = Steering::of(input);
    let limits = limits();
    let mut decoder = hpack::Decoder::new(&limits, steering.choice());
    for block in split_blocks(bytes) {
        let mut fields = Vec::new();
        let _ = decoder.decode(&Bytes::copy_from_slice(block), &mut fields);
        assert!(decoder.table_bytes() <= limits.hpack_table_bytes);
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let list: usize = fields
            .iter()
            .map(|field| length(&field.name) + length(&field.value))
            .sum();
        assert!(list <= limits.hpack_list_bytes, "{list} bytes of fields");
    }
}

/// WebSocket frames, from the start or attached in the middle.
pub fn websocket(input: &[u8]) {
    let (steering, bytes) = Steering::of(input);
    websocket::detect(bytes);
    let options = steering.options();
    let decoder = if steering.choice() {
        WebSocketDecoder::new(options)
    } else {
        WebSocketDecoder::attached(options)
    };
    let output = drive(Box::new(decoder), bytes, steering, false);
    check_formats(&output.messages);
}

/// A body with a content coding: the first byte chooses it.
pub fn content_coding(input: &[u8]) {
    const CODINGS: [&[u8]; 8] = [
        b"gzip",
        b"deflate",
        b"br",
        b"zstd",
        b"gzip, br",
        b"x-gzip,deflate",
        b"identity",
        b"br, zstd, gzip, br, br",
    ];
    let (steering, bytes) = Steering::of(input);
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    let coding = CODINGS[usize::from(choice) % CODINGS.len()];
    let limits = limits();
    let mut body = BodyBuilder::new(Some(coding), None, None, &limits);
    for piece in bytes.chunks(steering.piece(bytes.len())) {
        body.push(&Bytes::copy_from_slice(piece));
        assert!(body.len() <= limits.body_bytes, "{} held", body.len());
    }
    assert_eq!(body.wire_len(), bytes.len() as u64, "wire bytes are all counted");
    let body = body.finish(true);
    assert!(body.data.len() <= limits.body_bytes);
    assert_eq!(body.wire_len, bytes.len() as u64);
    assert!(
        body.len >= body.data.len() as u64,
        "{} < {}",
        body.len,
        body.data.len()
    );
}

/// An event stream: any two ways to cut it result in the same events.
pub fn sse(input: &[u8]) {
    let (steering, bytes) = Steering::of(input);
    let limits = limits();
    let mut whole = Vec::new();
    SseDecoder::new(&limits).push(bytes, &mut whole);
    let mut pieces = Vec::new();
    let mut decoder = SseDecoder::new(&limits);
    for piece in bytes.chunks(steering.piece(bytes.len())) {
        decoder.push(piece, &mut pieces);
        assert!(decoder.buffered_bytes() <= 2 * limits.sse_event_bytes + 4);
    }
    assert_eq!(whole, pieces, "the same events in any pieces");
    let message = |event| Message {
        first_ns: 0,
        last_ns: 0,
        exchange: None,
        content: Content::ServerSentEvent(Box::new(event)),
    };
    check_formats(&whole.into_iter().map(message).collect::<Vec<_>>());
}

/// JSON Lines of HTTP/1 heads and trailers made of any bytes.
pub fn json_lines(input: &[u8]) {
    let (steering, bytes) = Steering::of(input);
    let mut parts = split_blocks(bytes).map(Bytes::copy_from_slice);
    let mut next = || parts.next().unwrap_or_default();
    let message = Http1Message {
        kind: if steering.choice() {
            Http1Kind::Request
        } else {
            Http1Kind::Response { status: 200 }
        },
        head: next(),
        trailers: next(),
        body: Body {
            data: next(),
            complete: steering.chance(2),
            ..Body::default()
        },
        anomalies: Vec::new(),
        part: Part::Whole,
    };
    check_formats(&[Message {
        first_ns: steering.seed.into(),
        last_ns: u64::MAX,
        exchange: None,
        content: Content::Http1(Box::new(message)),
    }]);
}

/// Lines of recordings, our own and the original's; a line that can be read can be written and read
/// again.
pub fn recording(input: &[u8]) {
    let (_, line) = Steering::of(input);
    let _ = recording::line::Header::parse(line);
    if let Ok(original) = recording::original::OriginalLine::parse(line) {
        original.payload_file();
        let _ = original.event(Bytes::from_static(b"payload"), original.delay_ns());
    }
    if let Ok(event) = recording::line::parse(line) {
        let mut written = Vec::new();
        recording::line::write(&event, &mut written);
        assert_eq!(
            recording::line::parse(&written).ok(),
            Some(event),
            "written and read again"
        );
    }
}

/// A capture of packets, in pieces: the reader goes on or says why not, what was read before is the same however
/// the file is cut, and what is written of its events is a capture that can be read.
pub fn packets(input: &[u8]) {
    let (steering, file) = Steering::of(input);
    let events = read_packets(file, steering.piece(file.len()));
    assert_eq!(
        events,
        read_packets(file, file.len().max(1)),
        "the same events in any pieces"
    );
    let format = Pcapng::new(None, None);
    let mut written = Vec::new();
    format.begin(&mut written);
    for event in &events {
        format.write(event, &mut written);
    }
    let mut reader = Reader::default();
    let mut at = 0;
    while let Step::Block { length, block } = reader.read(&written[at..]).expect("what was written is read") {
        assert!(!matches!(block, Block::Damaged(_) | Block::Other { .. }));
        at += length;
    }
    assert_eq!(at, written.len(), "all of it");
}

fn read_packets(file: &[u8], piece: usize) -> Vec<CapturedEvent> {
    let mut reader = Reader::default();
    let mut capture = Capture::default();
    let mut events = Vec::new();
    let (mut start, mut end) = (0, 0);
    loop {
        match reader.read(&file[start..end]) {
            Ok(Step::Block { length, block }) => {
                assert!(length > 0 && length <= end - start, "it goes on");
                match block {
                    Block::Packet(packet) => capture.packet(&packet, &mut events),
                    Block::Secrets { secrets, .. } => {
                        capture.add_keys(secrets);
                    }
                    _ => {}
                }
                start += length;
            }
            Ok(Step::Need(needed)) => {
                assert!(needed > end - start, "it needs more than it has");
                if end == file.len() {
                    break;
                }
                end = file.len().min(end + piece);
            }
            Err(_) => break,
        }
    }
    let tally = capture.finish(&mut events);
    let data = events
        .iter()
        .filter(|event| matches!(event, CapturedEvent::Data(_)));
    let bytes: u64 = data.map(CapturedEvent::payload_bytes).sum();
    assert!(bytes <= file.len() as u64, "no byte comes out twice");
    assert!(tally.segments <= tally.packets);
    events
}

fn split_blocks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest.take()?;
        let Some(end) = bytes.windows(2).position(|pair| pair == [0xff, 0xff]) else {
            return Some(bytes);
        };
        rest = Some(&bytes[end + 2..]);
        Some(&bytes[..end])
    })
}

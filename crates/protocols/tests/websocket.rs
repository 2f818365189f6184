//! WebSocket compared with tungstenite, and cases that no endpoint has: loss, late attach, any
//! split.
//!
//! `ECAPTURE_DIFFERENTIAL` sets how many messages the comparisons make (default 1000 each).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/random.rs"]
mod random;

use std::io::{self, Cursor, Read, Write};

use bytes::Bytes;
use ecapture_protocols::decoder::SkipReason;
use ecapture_protocols::message::{BodyError, Gap, GapReason, WebSocketMessage};
use ecapture_protocols::websocket::WebSocketDecoder;
use ecapture_protocols::{Content, Limits, Options, Output, StreamDecoder, View};
use flate2::{Compress, Compression, FlushCompress};
use random::Random;
use tungstenite::protocol::{CloseFrame, Role, WebSocket, frame::coding::CloseCode};
use tungstenite::{Message, Utf8Bytes};

fn structured() -> Options {
    Options {
        limits: Limits {
            websocket_message_bytes: 1 << 20,
            ..Limits::default()
        },
        view: View::Structured { frames: false },
        ..Options::default()
    }
}

/// One end of a connection in memory.
struct Pipe {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Pipe {
    fn new(input: Vec<u8>) -> Self {
        Self {
            input: Cursor::new(input),
            output: Vec::new(),
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn comparisons() -> usize {
    std::env::var("ECAPTURE_DIFFERENTIAL").map_or(1000, |count| count.parse().unwrap())
}

fn messages(output: &Output) -> Vec<WebSocketMessage> {
    let of = |message: &ecapture_protocols::Message| match &message.content {
        Content::WebSocket(inner) => Some((**inner).clone()),
        _ => None,
    };
    output.messages.iter().filter_map(of).collect()
}

fn decode<'a>(mut decoder: impl StreamDecoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Output {
    let mut output = Output::default();
    for (index, piece) in pieces.into_iter().enumerate() {
        decoder.feed(&Bytes::copy_from_slice(piece), index as u64, &mut output);
    }
    decoder.close(&mut output);
    assert_eq!(decoder.buffered_bytes(), 0);
    output
}

fn assert_accounted(output: &Output, fed: usize) {
    let emitted: u64 = messages(output).iter().map(|message| message.wire_len).sum();
    assert_eq!(
        emitted + raw(output).len() as u64 + skipped(output, SkipReason::Resync),
        fed as u64,
        "bytes in, bytes out"
    );
}

fn raw(output: &Output) -> Vec<u8> {
    let data = output.messages.iter().map(|message| match &message.content {
        Content::Raw(raw) => &raw.data[..],
        _ => &[],
    });
    data.collect::<Vec<_>>().concat()
}

fn skipped(output: &Output, reason: SkipReason) -> u64 {
    let of_reason = output.skipped.iter().filter(|skipped| skipped.reason == reason);
    of_reason.map(|skipped| skipped.bytes).sum()
}

fn comparable(message: &Message) -> (u8, Vec<u8>) {
    let opcode = match message {
        Message::Text(_) => 1,
        Message::Binary(_) => 2,
        Message::Close(_) => 8,
        Message::Ping(_) => 9,
        Message::Pong(_) => 10,
        Message::Frame(_) => unreachable!("only whole messages are compared"),
    };
    let data = match message {
        Message::Close(Some(close)) => {
            let mut data = u16::from(close.code).to_be_bytes().to_vec();
            data.extend_from_slice(close.reason.as_bytes());
            data
        }
        message => message.clone().into_data().to_vec(),
    };
    (opcode, data)
}

fn assert_same(output: &Output, expected: &[Message], seed: u64) {
    let ours = messages(output);
    assert_eq!(ours.len(), expected.len(), "seed {seed}");
    for (ours, expected) in ours.iter().zip(expected) {
        assert_eq!(
            (ours.opcode, ours.data.to_vec()),
            comparable(expected),
            "seed {seed}"
        );
        assert!(ours.complete && ours.error.is_none(), "seed {seed}");
    }
    assert!(output.skipped.is_empty(), "seed {seed}");
}

fn random_message(random: &mut Random) -> Message {
    match random.below(8) {
        0 => {
            let length = random.below(126);
            Message::Ping(random.bytes(length).into())
        }
        1 => {
            let length = random.below(126);
            Message::Pong(random.bytes(length).into())
        }
        2..=4 => {
            let length = random.length(70_000);
            Message::Binary(random.bytes(length).into())
        }
        _ => {
            let length = random.length(30_000);
            Message::Text(random.text(length).into())
        }
    }
}

#[test]
fn reads_what_tungstenite_writes() {
    const PER_CONNECTION: usize = 50;
    for seed in 0..comparisons().div_ceil(PER_CONNECTION) as u64 {
        let mut random = Random::new(seed + 1);
        let role = if random.chance(2) {
            Role::Client
        } else {
            Role::Server
        };
        let mut socket = WebSocket::from_raw_socket(Pipe::new(Vec::new()), role, None);
        let mut sent: Vec<Message> = (1..PER_CONNECTION).map(|_| random_message(&mut random)).collect();
        sent.push(Message::Close(random.chance(2).then(|| CloseFrame {
            code: CloseCode::Normal,
            reason: Utf8Bytes::from_static("bye"),
        })));
        for message in &sent {
            socket.write(message.clone()).unwrap();
        }
        let _ = socket.flush();
        let wire = &socket.get_ref().output;
        let largest = [1, 7, 100, 20_000][random.below(4)];
        let output = decode(WebSocketDecoder::new(structured()), random.pieces(wire, largest));
        assert_same(&output, &sent, seed);
        assert_accounted(&output, wire.len());
    }
}

/// One frame; `first` is the octet with FIN, RSV and the opcode.
fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut wire = vec![first];
    match payload.len() {
        length @ 0..=125 => wire.push(masked | u8::try_from(length).unwrap()),
        length @ 126..=65_535 => {
            wire.push(masked | 0x7e);
            wire.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            wire.push(masked | 0x7f);
            wire.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let key = mask.unwrap_or_default();
    wire.extend_from_slice(if mask.is_some() { &key } else { &[] });
    wire.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    wire
}

/// `payload` in random fragments with control frames between them.
fn fragmented(random: &mut Random, first: u8, payload: &[u8], masking: bool, wire: &mut Vec<u8>) {
    let key = |random: &mut Random| masking.then(|| random.key());
    let mut fragments = random.pieces(payload, payload.len().max(1));
    if fragments.is_empty() || random.chance(4) {
        fragments.push(&[]);
    }
    let last = fragments.len() - 1;
    for (index, fragment) in fragments.into_iter().enumerate() {
        if index > 0 && random.chance(3) {
            let key = key(random);
            wire.extend(frame(0x89, b"between", key));
        }
        let first = if index == 0 { first } else { 0 };
        let fin = if index == last { 0x80 } else { 0 };
        let key = key(random);
        wire.extend(frame(first | fin, fragment, key));
    }
}

#[test]
fn agrees_with_tungstenite_on_fragments() {
    let wanted = comparisons();
    let mut compared = 0;
    for seed in 0.. {
        let mut random = Random::new(seed + 1_000_000);
        let masking = random.chance(2);
        let mut wire = Vec::new();
        for _ in 0..30 {
            let message = random_message(&mut random);
            let (opcode, data) = comparable(&message);
            if opcode < 8 {
                fragmented(&mut random, opcode, &data, masking, &mut wire);
            } else {
                let key = masking.then(|| random.key());
                wire.extend(frame(0x80 | opcode, &data, key));
            }
        }
        let role = if masking { Role::Server } else { Role::Client };
        let mut socket = WebSocket::from_raw_socket(Pipe::new(wire.clone()), role, None);
        let theirs: Vec<Message> = std::iter::from_fn(|| socket.read().ok()).collect();
        assert!(theirs.len() >= 30, "seed {seed}: {}", theirs.len());
        let largest = [1, 7, 100, 20_000][random.below(4)];
        let output = decode(WebSocketDecoder::new(structured()), random.pieces(&wire, largest));
        assert_same(&output, &theirs, seed);
        assert_accounted(&output, wire.len());
        compared += theirs.len();
        if compared >= wanted {
            break;
        }
    }
}

/// A sender with permessage-deflate.
struct Deflating {
    state: Compress,
    takeover: bool,
}

impl Deflating {
    fn new(takeover: bool) -> Self {
        Self {
            state: Compress::new(Compression::best(), false),
            takeover,
        }
    }

    fn message(&mut self, data: &[u8]) -> Vec<u8> {
        if !self.takeover {
            self.state.reset();
        }
        if data.is_empty() {
            return vec![0];
        }
        let mut coded = Vec::with_capacity(data.len() * 2 + 1024);
        self.state
            .compress_vec(data, &mut coded, FlushCompress::Sync)
            .unwrap();
        assert_eq!(coded.split_off(coded.len() - 4), [0, 0, 0xff, 0xff]);
        coded
    }
}

#[test]
fn undoes_permessage_deflate_in_any_pieces() {
    for seed in 0..60 {
        let mut random = Random::new(seed + 7);
        let masking = random.chance(2);
        let mut deflating = Deflating::new(random.chance(2));
        let (mut wire, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let length = random.length(50_000);
            let text = random.text(length);
            if random.chance(4) {
                fragmented(&mut random, 1, text.as_bytes(), masking, &mut wire);
            } else {
                let coded = deflating.message(text.as_bytes());
                fragmented(&mut random, 0x41, &coded, masking, &mut wire);
            }
            sent.push(text);
        }
        let largest = [1, 7, 100, 20_000][random.below(4)];
        let output = decode(WebSocketDecoder::new(structured()), random.pieces(&wire, largest));
        let texts: Vec<_> = messages(&output)
            .into_iter()
            .filter(|message| message.opcode == 1)
            .collect();
        assert_eq!(texts.len(), sent.len(), "seed {seed}");
        for (text, sent) in texts.iter().zip(&sent) {
            assert_eq!(text.data, sent.as_bytes(), "seed {seed}");
            assert_eq!((text.complete, text.error), (true, None), "seed {seed}");
        }
        assert_accounted(&output, wire.len());
    }
}

#[test]
fn every_two_way_split_gives_the_same_messages() {
    let mut wire = frame(0x81, b"Hello", Some([1, 2, 3, 4]));
    wire.extend(frame(
        0x41,
        &Deflating::new(true).message(b"compressed, compressed"),
        Some([9; 4]),
    ));
    wire.extend(frame(0x01, b"frag", Some([5, 6, 7, 8])));
    wire.extend(frame(0x89, b"ping", Some([5, 6, 7, 8])));
    wire.extend(frame(0x80, b"ment", Some([0; 4])));
    wire.extend(frame(0x8b, b"reserved", Some([0; 4])));
    wire.extend(frame(0x88, b"\x03\xe8bye", Some([5, 6, 7, 8])));
    let whole = decode(WebSocketDecoder::new(structured()), [wire.as_slice()]);
    let opcodes: Vec<u8> = messages(&whole).iter().map(|message| message.opcode).collect();
    assert_eq!(opcodes, [1, 1, 9, 1, 11, 8]);
    for cut in 0..=wire.len() {
        let (head, tail) = wire.split_at(cut);
        let split = decode(WebSocketDecoder::new(structured()), [head, tail]);
        assert_eq!(messages(&split), messages(&whole), "cut at {cut}");
        assert_accounted(&split, wire.len());
    }
}

#[test]
fn late_attach_finds_the_next_frame_at_every_event() {
    for masking in [false, true] {
        let mut random = Random::new(3);
        let mut deflating = Deflating::new(true);
        let events: Vec<Vec<u8>> = (0..30_u64)
            .map(|number| {
                let key = masking.then(|| random.key());
                let text = format!("message {number} {}", random.next());
                frame(0xc1, &deflating.message(text.as_bytes()), key)
            })
            .collect();
        let all = messages(&decode(
            WebSocketDecoder::new(structured()),
            events.iter().map(Vec::as_slice),
        ));
        assert_eq!(all.len(), events.len());
        for attach in 1..events.len() {
            let seen = events[attach..].iter().map(Vec::as_slice);
            let late = messages(&decode(WebSocketDecoder::attached(structured()), seen));
            assert_eq!(late.len(), events.len() - attach, "attached at {attach}");
            for (late, true_message) in late.iter().zip(&all[attach..]) {
                assert_eq!(late.data.len(), true_message.data.len());
                let wrong = late
                    .data
                    .iter()
                    .zip(&true_message.data)
                    .filter(|(ours, real)| ours != real);
                let unknown: Vec<_> = wrong.map(|(ours, _)| *ours).collect();
                assert!(
                    unknown.iter().all(|&byte| byte == b'?'),
                    "only `?` stands for a lost byte"
                );
                assert_eq!(late.error, (!unknown.is_empty()).then_some(BodyError::Gap));
            }
        }
    }
}

#[test]
fn a_large_frame_joined_in_the_middle_is_skipped() {
    let mut random = Random::new(11);
    let large = frame(0x82, &random.bytes(100_000), None);
    let mut events: Vec<Vec<u8>> = large[5000..].chunks(16_384).map(<[u8]>::to_vec).collect();
    events.push(frame(0x81, b"after it", None));
    events.push(frame(0x81, b"and more", None));
    let output = decode(
        WebSocketDecoder::attached(structured()),
        events.iter().map(Vec::as_slice),
    );
    let texts: Vec<_> = messages(&output)
        .into_iter()
        .map(|message| message.data)
        .collect();
    assert_eq!(texts, [&b"after it"[..], b"and more"]);
    assert_accounted(&output, events.iter().map(Vec::len).sum());
}

const LOSS: GapReason = GapReason::KernelLoss;

#[test]
fn dropping_any_event_costs_only_its_own_messages() {
    let mut random = Random::new(5);
    let mut deflating = Deflating::new(true);
    let mut wire = Vec::new();
    for number in 0..40_u64 {
        let text = format!("message {number} {}", random.text(60));
        let key = Some(random.key());
        if number % 3 == 0 {
            wire.push(frame(0xc1, &deflating.message(text.as_bytes()), key));
        } else {
            wire.push(frame(0x81, text.as_bytes(), key));
        }
    }
    for known_size in [false, true] {
        for dropped in 0..wire.len() {
            let mut decoder = WebSocketDecoder::new(structured());
            let mut output = Output::default();
            for (index, event) in wire.iter().enumerate() {
                if index == dropped {
                    let gap = Gap {
                        bytes: known_size.then_some(event.len() as u64),
                        reason: LOSS,
                    };
                    decoder.gap(gap, index as u64, &mut output);
                } else {
                    decoder.feed(&Bytes::copy_from_slice(event), index as u64, &mut output);
                }
            }
            decoder.close(&mut output);
            assert_eq!(messages(&output).len(), wire.len() - 1, "event {dropped}");
            assert!(
                output
                    .messages
                    .iter()
                    .any(|message| matches!(message.content, Content::Gap(_)))
            );
        }
    }
}

#[test]
fn a_gap_inside_a_payload_keeps_the_framing() {
    let mut wire = frame(0x81, &[b'a'; 1000], Some([1, 2, 3, 4]));
    wire.extend(frame(0x81, b"next", Some([4, 3, 2, 1])));
    for (from, to) in [(8, 9), (500, 600), (500, 1008), (900, 1007)] {
        let mut decoder = WebSocketDecoder::new(structured());
        let mut output = Output::default();
        decoder.feed(&Bytes::copy_from_slice(&wire[..from]), 1, &mut output);
        let gap = Gap {
            bytes: Some((to - from) as u64),
            reason: LOSS,
        };
        decoder.gap(gap, 2, &mut output);
        decoder.feed(&Bytes::copy_from_slice(&wire[to..]), 3, &mut output);
        decoder.close(&mut output);
        let found = messages(&output);
        let first = &found[0];
        assert_eq!(
            (first.opcode, first.complete, first.error),
            (1, false, Some(BodyError::Gap))
        );
        assert_eq!(found.last().unwrap().data, &b"next"[..]);
        let text: Vec<u8> = found.iter().flat_map(|message| message.data.to_vec()).collect();
        assert_eq!(text.len(), 1000 - (to - from) + 4, "gap {from}..{to}");
        assert!(
            text[..text.len() - 4].iter().all(|&byte| byte == b'a'),
            "unmasked at the right offset"
        );
        assert_accounted(&output, wire.len() - (to - from));
    }
}

#[test]
fn bombs_and_long_messages_stop_at_the_limit() {
    let limits = Limits {
        websocket_message_bytes: 10_000,
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..structured()
    };
    let mut deflating = Deflating::new(true);
    let mut wire = frame(0xc2, &deflating.message(&vec![0; 1 << 20]), None);
    wire.extend(frame(0x82, &[7; 15_000], None));
    wire.extend(frame(0x81, b"still here", None));
    let output = decode(WebSocketDecoder::new(options), wire.chunks(100));
    let found = messages(&output);
    for long in &found[..2] {
        assert_eq!(
            (long.data.len(), long.error),
            (10_000, Some(BodyError::OutputLimit))
        );
    }
    assert_eq!(found[2].data, &b"still here"[..]);
    assert!(skipped(&output, SkipReason::BodyLimit) >= 5000);
    assert_accounted(&output, wire.len());
}

#[test]
fn idle_shows_a_part_in_text_only() {
    let wire = frame(0x81, b"slowly coming text", None);
    for (view, expected) in [
        (
            View::Text,
            vec![(1, false, &b"slowly "[..]), (0, true, b"coming text")],
        ),
        (
            View::Structured { frames: false },
            vec![(1, true, b"slowly coming text")],
        ),
    ] {
        let mut decoder = WebSocketDecoder::new(Options { view, ..structured() });
        let mut output = Output::default();
        decoder.feed(&Bytes::copy_from_slice(&wire[..9]), 1, &mut output);
        decoder.idle(&mut output);
        decoder.idle(&mut output);
        decoder.feed(&Bytes::copy_from_slice(&wire[9..]), 2, &mut output);
        decoder.close(&mut output);
        let found = messages(&output);
        let shown: Vec<_> = found
            .iter()
            .map(|part| (part.opcode, part.complete, &part.data[..]))
            .collect();
        assert_eq!(shown, expected);
        assert_accounted(&output, wire.len());
    }
}

#[test]
fn the_end_shows_what_is_unfinished() {
    let mut wire = frame(0x01, b"first fragment", None);
    wire.extend(&frame(0x89, b"ping", None)[..4]);
    let found = messages(&decode(
        WebSocketDecoder::new(structured()).with_stream(5),
        [wire.as_slice()],
    ));
    let shown: Vec<_> = found
        .iter()
        .map(|part| (part.opcode, part.complete, part.stream, &part.data[..]))
        .collect();
    assert_eq!(
        shown,
        [
            (1, false, Some(5), &b"first fragment"[..]),
            (9, false, Some(5), b"pi")
        ]
    );
}

#[test]
fn bytes_that_are_not_a_frame_end_the_protocol_and_are_raw() {
    let nonsense = [0x89, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3];
    let events = [nonsense.to_vec(), frame(0x81, b"found again", None)];
    let output = decode(
        WebSocketDecoder::new(structured()),
        events.iter().map(Vec::as_slice),
    );
    assert_eq!(raw(&output), events.concat());
    assert_eq!((messages(&output).len(), output.skipped.len()), (0, 0));
}

/// RFC 6455 §5.2 and §5.5: one broken rule, with a length that says where the next frame is.
#[test]
fn a_frame_that_breaks_one_rule_is_shown_and_marked() {
    let after = frame(0x81, b"after", None);
    for (wire, data, error) in [
        (&b"\x09\x04ping"[..], &b"ping"[..], "fragmented control frame"),
        (
            &[b"\x89\x7e\x00\x7e", &[b'x'; 126][..]].concat(),
            &[b'x'; 126],
            "control frame of more than 125 bytes",
        ),
        (b"\xa1\x02hi", b"hi", "reserved bits set in the frame header"),
        (b"\x91\x02hi", b"hi", "reserved bits set in the frame header"),
        (
            b"\xc9\x02hi",
            b"hi",
            "RSV1 set on a frame that is not the first of a message",
        ),
        (b"\x83\x02hi", b"hi", "reserved opcode"),
        (
            b"\x82\x7e\x00\x02hi",
            b"hi",
            "frame length not in its shortest form",
        ),
        (
            &frame(0x82, b"hi", Some([1, 2, 3, 4])),
            b"hi",
            "frame of the server is masked",
        ),
    ] {
        let bytes = [wire, &after].concat();
        for size in [1, 2, 3, bytes.len()] {
            let decoder = WebSocketDecoder::new(structured()).from_client(false);
            let output = decode(decoder, bytes.chunks(size));
            let seen = messages(&output);
            let errors: Vec<_> = seen
                .iter()
                .map(|message| message.error.map(|error| error.to_string()))
                .collect();
            assert_eq!(errors, [Some(error.to_owned()), None], "{wire:?} by {size}");
            assert_eq!((&seen[0].data[..], &seen[1].data[..]), (data, &b"after"[..]));
            assert_accounted(&output, bytes.len());
        }
    }
}

#[test]
fn bytes_behind_the_handshake_that_are_no_frames_are_raw() {
    for text in [
        "Hot diggity dogg",
        "hello, this is text\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        for size in [1, 5, text.len()] {
            let output = decode(WebSocketDecoder::new(structured()), text.as_bytes().chunks(size));
            assert_eq!(raw(&output), text.as_bytes(), "by {size}");
        }
    }
}

#[test]
fn a_damaged_compressed_message_is_shown_as_received() {
    let payload = b"\x06\xff\xff\xff no deflate, and enough of it to be seen whole";
    let output = decode(
        WebSocketDecoder::new(structured()),
        [&frame(0xc1, payload, None)[..]],
    );
    let seen = messages(&output);
    assert_eq!(seen[0].data, &payload[..]);
    assert_eq!(
        seen[0].error.unwrap().to_string(),
        "corrupt permessage-deflate data"
    );
    assert!(output.skipped.is_empty());
}

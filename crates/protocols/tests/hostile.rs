//! Bytes that a peer sends to use up memory or time: the output is bounded by the input, and cut
//! content is marked.

use bytes::Bytes;
use ecapture_protocols::format::Text;
use ecapture_protocols::http2::Http2Decoder;
use ecapture_protocols::message::{BlockError, BodyError};
use ecapture_protocols::{
    Content, DataEvent, Direction, Format, Limits, Message, Options, Origin, Output, Process, StreamDecoder,
    View, stream_decoder,
};

/// 8 MiB of the same byte.
const BROTLI: &[u8] = b"\x9f\xef\xff\x7f\xf8\x25\x82\xe2\xb1\x40\x20\xf5\xfe\x0f";
/// SETTINGS, so that the decoder knows the direction.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// `:status: 200`.
const STATUS: u8 = 0x88;

fn options(view: View) -> Options {
    Options {
        view,
        ..Options::default()
    }
}

const STRUCTURED: View = View::Structured { frames: false };

fn fed(decoder: &mut dyn StreamDecoder, bytes: impl Into<Bytes>) -> Output {
    let mut output = Output::default();
    decoder.feed(&bytes.into(), 1, &mut output);
    output
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal field, put into the dynamic table.
fn inserted(name: &[u8], value: &[u8]) -> Vec<u8> {
    let text = |text: &[u8]| {
        let mut out = vec![u8::try_from(text.len().min(127)).expect("at most 127")];
        let mut rest = text.len().checked_sub(127);
        while let Some(value) = rest {
            let low = u8::try_from(value & 127).expect("seven bits");
            rest = (value >= 128).then_some(value >> 7);
            out.push(low | if rest.is_some() { 128 } else { 0 });
        }
        [out.as_slice(), text].concat()
    };
    [vec![0x40], text(name), text(value)].concat()
}

/// A decoder whose other direction reports no requests.
fn unpaired() -> Http2Decoder {
    let mut decoder = Http2Decoder::new(options(STRUCTURED), true);
    for _ in 0..4 {
        decoder.notice_overdue(&mut Output::default());
    }
    decoder
}

fn printed(messages: &[Message]) -> Vec<u8> {
    let origin = Origin::of(
        &DataEvent {
            timestamp_ns: 1,
            process: Process::default(),
            container_id: None,
            program: None,
            direction: Direction::Read,
            fd: None,
            session: None,
            socket: None,
            tls_version: None,
            stream_offset: None,
            joined_late: None,
            payload: Bytes::new(),
        },
        1,
    );
    Text::default().formatted(&origin, messages)
}

/// One TLS record of 218 responses, 14 bytes of brotli each, would be 1.7 GB.
#[test]
fn bodies_of_one_connection_expand_within_their_allowance() {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: {}\r\n\r\n",
        BROTLI.len()
    );
    let record = [head.as_bytes(), BROTLI].concat().repeat(218);
    let limits = Limits::default();
    for view in [View::Text, STRUCTURED] {
        let mut decoder = stream_decoder(options(view));
        for round in 0..3 {
            let mut output = fed(decoder.as_mut(), record.clone());
            decoder.notice_overdue(&mut output);
            let bodies: Vec<_> = output
                .messages
                .iter()
                .filter_map(|message| match &message.content {
                    Content::Http1(message) => Some(&message.body),
                    _ => None,
                })
                .collect();
            assert_eq!(bodies.len(), 218);
            let most = limits.expansion_bytes + limits.expansion_ratio * record.len();
            let came: usize = bodies.iter().map(|body| body.data.len()).sum();
            assert!(came <= most, "{came} of {most}");
            let cut = bodies
                .iter()
                .filter(|body| body.error == Some(BodyError::ExpansionLimit) && body.truncated_at.is_some());
            assert!(cut.count() >= 217 - round, "each that is cut says so");
        }
    }
}

/// A content-encoding of 100 KB, named with each of 1,800 empty frames, would be 180 MB of text.
#[test]
fn a_long_coding_name_repeated_with_each_frame_is_cut() {
    let references = [0xBE; 25];
    let block = [
        &[STATUS][..],
        &inserted(b"content-encoding", &[b'Z'; 3900]),
        &references,
    ]
    .concat();
    let mut bytes = [SETTINGS, &frame(1, 4, 1, &block)].concat();
    bytes.extend(frame(0, 0, 1, b"").repeat(1800));
    let mut decoder = Http2Decoder::new(options(View::Text), true);
    let output = fed(&mut decoder, bytes);
    let text = printed(&output.messages);
    assert!(text.len() < 1 << 20, "{} bytes of text", text.len());
    assert!(text.windows(40).any(|window| window == [b'Z'; 40]));
}

/// HEADERS again and again on one stream: trailers are bounded, and counted as held.
#[test]
fn trailers_without_end_are_bounded() {
    let mut decoder = unpaired();
    fed(&mut decoder, [SETTINGS, &frame(1, 4, 1, &[STATUS])].concat());
    let trailers = frame(1, 4, 1, &[0x90; 16_000]);
    for _ in 0..20 {
        fed(&mut decoder, trailers.clone());
    }
    let held = decoder.buffered_bytes();
    let most = 4 * Limits::default().hpack_list_bytes;
    assert!((1_000_000..most).contains(&held), "{held} of {most}");
    let mut output = Output::default();
    decoder.close(&mut output);
    let [message] = &output.messages[..] else {
        panic!("{:?}", output.messages)
    };
    let Content::Http2(message) = &message.content else {
        panic!("{message:?}")
    };
    assert_eq!(message.error, Some(BlockError::ListLimit.into()));
}

/// A field takes one byte on the wire and a hundred here; a stream without any takes its struct.
#[test]
fn fields_and_streams_count_as_held() {
    let limits = Limits {
        http2_held_bytes: 1 << 20,
        ..Limits::default()
    };
    let mut decoder = Http2Decoder::new(
        Options {
            limits,
            view: STRUCTURED,
            ..Options::default()
        },
        true,
    );
    for _ in 0..4 {
        decoder.notice_overdue(&mut Output::default());
    }
    fed(&mut decoder, SETTINGS.to_vec());
    let block = [&[STATUS][..], &[0x90; 4000]].concat();
    let mut emitted = 0;
    for number in 0..100 {
        emitted += fed(&mut decoder, frame(1, 4, 2 * number + 1, &block))
            .messages
            .len();
        assert!(decoder.buffered_bytes() <= limits.http2_held_bytes + (1 << 20));
    }
    assert!(emitted > 50, "{emitted} of 100 streams had to make room");

    let mut decoder = unpaired();
    fed(&mut decoder, SETTINGS.to_vec());
    for number in 0..1000 {
        fed(&mut decoder, frame(1, 4, 2 * number + 1, &[STATUS]));
    }
    assert!(decoder.buffered_bytes() > 300_000, "{}", decoder.buffered_bytes());
}

#[test]
fn short_blocks_cannot_name_a_long_entry_without_end() {
    let mut decoder = unpaired();
    let block = [&[STATUS][..], &inserted(b"x", &[b'y'; 3900])].concat();
    fed(&mut decoder, [SETTINGS, &frame(1, 5, 1, &block)].concat());
    let block = [&[STATUS][..], &[0xBE; 250]].concat();
    let bytes: Vec<u8> = (0..60)
        .flat_map(|number| frame(1, 5, 2 * number + 3, &block))
        .collect();
    let most = Limits::default().hpack_list_bytes + 1024 * bytes.len();
    let output = fed(&mut decoder, bytes);
    let listed: usize = output
        .messages
        .iter()
        .map(|message| match &message.content {
            Content::Http2(message) => message
                .fields
                .iter()
                .map(|field| field.value.as_ref().map_or(0, Bytes::len))
                .sum(),
            _ => 0,
        })
        .sum();
    assert!(listed > 0 && listed <= most, "{listed} of {most}");
}

#[test]
fn empty_lines_before_a_start_line_are_shown() {
    let mut decoder = stream_decoder(options(View::Text));
    let request = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    fed(decoder.as_mut(), request.clone());
    let output = fed(decoder.as_mut(), [&b"\r\n".repeat(500)[..], &request].concat());
    let [
        Message {
            content: Content::Http1(message),
            ..
        },
    ] = &output.messages[..]
    else {
        panic!("{:?}", output.messages);
    };
    assert_eq!(message.head.len(), 1000 + request.len());
    assert_eq!(output.skipped, []);
}

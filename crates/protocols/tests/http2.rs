//! HTTP/2 frame by frame: what each kind shows, in both views, also where senders misbehave.
//!
//! `ECAPTURE_DIFFERENTIAL` sets how many damaged connections are decoded (default 3000).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/frames.rs"]
mod frames;
#[path = "support/http2.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod http2;
#[path = "support/random.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod random;

use std::io::Write;

use bytes::Bytes;
use ecapture_protocols::decoder::{SkipReason, Skipped};
use ecapture_protocols::http2::{Http2Decoder, detect, detect_quiet};
use ecapture_protocols::message::{BodyError, Gap, GapReason, Http2Detail, Http2Kind, Http2Message};
use ecapture_protocols::{Content, Detection, Limits, Options, Output, PeerNotice, StreamDecoder, View};
use frames::{END_HEADERS, END_STREAM, HEADERS, PADDED, block, data, frame, gzip, headers, text};
use http2::{STRUCTURED, TEXT, contents, decode, decode_all, options};
use random::Random;

const OK: &[(&str, &str)] = &[(":status", "200")];

fn messages(pieces: &[Vec<u8>]) -> Vec<Http2Message> {
    let message = |content| match content {
        Content::Http2(message) => Some(*message),
        _ => None,
    };
    decode(STRUCTURED, pieces)
        .into_iter()
        .filter_map(message)
        .collect()
}

fn shown(pieces: &[Vec<u8>]) -> String {
    text(decode(TEXT, pieces))
}

#[test]
fn errors_settings_and_promises_are_told() {
    let promise = [&2_u32.to_be_bytes()[..], &block(&[(":path", "/style.css")])].concat();
    let shown = shown(&[
        frame(4, 0, 0, &[0, 1, 0, 0, 0x10, 0, 0x0a, 0x0a, 0, 0, 0, 7]),
        frame(3, 0, 5, &8_u32.to_be_bytes()),
        frame(7, 0, 0, b"\0\0\0\x05\0\0\0\x0bslow \"down\""),
        frame(5, END_HEADERS, 1, &promise),
        frame(0x0f, 0, 0, b"x"),
    ]);
    let expected = "
Frame Type\t=>\tSETTINGS
Frame StreamID\t=>\t0
[ecapture: HEADER_TABLE_SIZE = 4096]
[ecapture: setting 0x0a0a = 7]

Frame Type\t=>\tRST_STREAM
Frame StreamID\t=>\t5
Frame Error\t=>\tCANCEL (8)

Frame Type\t=>\tGOAWAY
Frame StreamID\t=>\t0
Frame Error\t=>\tENHANCE_YOUR_CALM (11)
[ecapture: last stream 5]
[ecapture: debug data \"slow \\\"down\\\"\"]

Frame Type\t=>\tPUSH_PROMISE
Frame StreamID\t=>\t1
header field \":path\" = \"/style.css\"
[ecapture: promises stream 2]

Frame Type\t=>\tUNKNOWN_FRAME_TYPE_15
Frame StreamID\t=>\t0
";
    assert_eq!(shown, expected);
}

#[test]
fn fields_are_quoted_as_go_does_and_unknown_ones_marked() {
    let mut bytes = frame(
        HEADERS,
        END_HEADERS,
        1,
        b"\x10\x01a\x0a\"\\\n\x07\x01\xff\xc3\xa4 \x7f\xbe",
    );
    bytes.extend(data(1, END_STREAM, b"x"));
    let shown = shown(&[bytes]);
    let expected = "
Frame Type\t=>\tHEADERS
Frame StreamID\t=>\t1
Frame Length\t=>\t15
header field \"a\" = \"\\\"\\\\\\n\\a\\x01\\xffä \\x7f\" (sensitive)
header field <unknown> = <unknown>
[ecapture: 1 fields refer to header compression state from before the capture]

Frame Type\t=>\tDATA
Frame StreamID\t=>\t1
Frame Length\t=>\t1
x
";
    assert_eq!(shown, expected);
}

#[test]
fn a_stream_is_one_message_with_its_trailers() {
    let found = messages(&[
        headers(1, 0, &[(":status", "103"), ("link", "</a>")]),
        headers(1, 0, &[(":status", "200"), ("content-length", "5")]),
        data(1, 0, b"he"),
        headers(3, END_STREAM, &[(":status", "204")]),
        data(1, PADDED, b"\x02llo\0\0"),
        data(1, PADDED, b"\x00"),
        headers(1, END_STREAM, &[("x-sum", "1")]),
    ]);
    let [early, empty, whole] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (early.stream, early.fields.len(), early.body.complete),
        (1, 2, true)
    );
    assert_eq!(
        (empty.stream, empty.body.expected, empty.body.complete),
        (3, None, true)
    );
    assert_eq!(&whole.body.data[..], b"hello");
    assert_eq!((whole.kind, whole.body.complete), (Http2Kind::Response, true));
    assert_eq!(
        (whole.body.expected, whole.trailers.len(), whole.reset),
        (Some(5), 1, None)
    );
}

#[test]
fn pushes_and_resets_are_messages() {
    let promise = [&2_u32.to_be_bytes()[..], &block(&[(":method", "GET")])].concat();
    let found = messages(&[
        frame(5, END_HEADERS, 1, &promise),
        headers(2, 0, OK),
        data(2, END_STREAM, b"pushed"),
        headers(1, 0, OK),
        data(1, 0, b"beginning"),
        frame(3, 0, 1, &2_u32.to_be_bytes()),
    ]);
    let [request, pushed, reset] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (request.stream, request.kind, request.pushed),
        (2, Http2Kind::Request, true)
    );
    assert_eq!(
        (pushed.stream, pushed.kind, pushed.pushed),
        (2, Http2Kind::Response, true)
    );
    assert_eq!((reset.reset, reset.body.complete), (Some(2), false));
    assert_eq!(&reset.body.data[..], b"beginning");
}

#[test]
fn what_went_wrong_is_told_without_a_message_too() {
    let contents = decode(
        STRUCTURED,
        &[
            frame(4, 0, 0, &[]),
            frame(6, 0, 0, &[0; 8]),
            frame(3, 0, 9, &7_u32.to_be_bytes()),
            frame(7, 0, 0, b"\0\0\0\x05\0\0\0\0"),
            frame(7, 0, 0, b"\0\0\0\x05\0\0\0\x01"),
        ],
    );
    let kinds: Vec<u8> = contents
        .iter()
        .map(|content| match content {
            Content::Http2Frame(frame) => frame.frame_type,
            _ => panic!("{content:?}"),
        })
        .collect();
    assert_eq!(kinds, [3, 7]);
    let all = decode(
        View::Structured { frames: true },
        &[frame(4, 0, 0, &[]), frame(6, 0, 0, &[0; 8])],
    );
    assert_eq!(all.len(), 2);
}

#[test]
fn coded_content_is_merged_when_its_stream_ends() {
    let coded = gzip(b"some content");
    let fields = [(":status", "200"), ("content-encoding", "gzip")];
    let shown = shown(&[
        headers(1, 0, &fields),
        data(1, 0, &coded[..10]),
        data(3, END_STREAM, b"other"),
        data(1, END_STREAM, &coded[10..]),
    ]);
    assert!(shown.contains(
        "\tDATA\nFrame StreamID\t=>\t1\nFrame Length\t=>\t10\nPartial entity body with gzip encoding ... \n\n"
    ));
    assert!(shown.contains("\nother\n"));
    let merged =
        "\nMerged Data Frame, StreamID\t=>\t1\nMerged Data Frame, Final Length\t=>\t12\n\nsome content\n";
    assert!(shown.ends_with(merged), "{shown}");
}

#[test]
fn a_cut_off_coded_stream_shows_what_was_decoded() {
    let coded = gzip(&b"0123456789".repeat(1000));
    let fields = [(":status", "200"), ("content-encoding", "gzip")];
    let shown = shown(&[headers(1, 0, &fields), data(1, 0, &coded[..coded.len() - 9])]);
    assert!(
        shown.contains("Merged Data Frame") && shown.contains("0123456789"),
        "{shown}"
    );
    assert!(shown.contains("[ecapture: body incomplete"), "{shown}");
}

#[test]
fn sections_that_break_off_keep_what_is_known() {
    let (first, rest) = (block(&[("a", "b")]), block(&[("c", "d")]));
    // The CONTINUATION never comes.
    let contents = decode(TEXT, &[frame(HEADERS, 0, 1, &first), data(3, END_STREAM, b"x")]);
    let [Content::Http2Frame(broken), Content::Http2Frame(_)] = &contents[..] else {
        panic!("{contents:?}")
    };
    let Http2Detail::Fields { fields, error, .. } = &broken.detail else {
        panic!("{broken:?}")
    };
    assert_eq!(
        (fields.len(), *error),
        (1, Some("rest of the header block is missing"))
    );
    // It comes, in three parts.
    let contents = decode(
        TEXT,
        &[
            frame(HEADERS, 0, 1, &first),
            frame(9, 0, 1, &rest[..3]),
            frame(9, 0, 1, &[]),
            frame(9, END_HEADERS, 1, &rest[3..]),
        ],
    );
    let Content::Http2Frame(whole) = &contents[0] else {
        panic!("{contents:?}")
    };
    let Http2Detail::Fields { fields, error, .. } = &whole.detail else {
        panic!("{whole:?}")
    };
    assert_eq!((contents.len(), fields.len(), *error), (4, 2, None));
    // More padding than payload.
    let contents = decode(TEXT, &[frame(HEADERS, END_HEADERS | PADDED, 1, b"\xffabc")]);
    let Content::Http2Frame(bad) = &contents[0] else {
        panic!("{contents:?}")
    };
    assert!(
        matches!(
            bad.detail,
            Http2Detail::Fields {
                error: Some("bad padding"),
                ..
            }
        ),
        "{bad:?}"
    );
}

#[test]
fn blocks_and_frames_over_the_limits_are_counted() {
    let limits = Limits::default();
    let mut pieces = vec![frame(HEADERS, 0, 1, &block(&[("a", "b")]))];
    pieces.extend((0..20).map(|_| frame(9, 0, 1, &[0x82; 16_384])));
    pieces.push(frame(9, END_HEADERS, 1, &[0x82]));
    pieces.push(headers(3, END_STREAM, OK));
    let (contents, skipped) = decode_all(TEXT, &pieces);
    let Content::Http2Frame(cut) = &contents[0] else {
        panic!("{contents:?}")
    };
    assert!(matches!(
        cut.detail,
        Http2Detail::Fields {
            error: Some("header block exceeds the limit"),
            ..
        }
    ));
    assert!(
        !skipped.is_empty()
            && skipped
                .iter()
                .all(|skipped| skipped.reason == SkipReason::HeaderLimit)
    );
    // A frame that is too large passes by, and the next is read.
    let large = vec![0; limits.http2_frame_bytes + 8];
    let (contents, skipped) = decode_all(TEXT, &[frame(7, 0, 0, &large), frame(6, 0, 0, &[0; 8])]);
    let bytes = large.len() as u64;
    let reason = SkipReason::HeaderLimit;
    assert_eq!((contents.len(), skipped), (2, vec![Skipped { reason, bytes }]));
}

#[test]
fn long_data_frames_are_shown_in_parts_that_no_split_changes() {
    let content: Vec<u8> = (0..150_000_u32)
        .map(|at| b'a' + u8::try_from(at % 26).unwrap())
        .collect();
    let bytes = [data(1, END_STREAM, &content), frame(6, 0, 0, &[0; 8])].concat();
    let whole = decode(TEXT, &[&bytes]);
    assert_eq!(whole.len(), 4);
    for seed in 0..5 {
        assert_eq!(decode(TEXT, &Random::new(seed).pieces(&bytes, 40_000)), whole);
    }
    let shown = text(whole);
    let kept: String = shown.lines().filter(|line| line.len() > 1000).collect();
    assert_eq!(kept.as_bytes(), content);
}

#[test]
fn a_character_cut_by_a_frame_is_still_text() {
    let text = "zwölf Bären 🐻".as_bytes();
    for at in 1..text.len() {
        let (first, second) = text.split_at(at);
        let shown = shown(&[data(1, 0, first), data(1, END_STREAM, second)]);
        assert!(!shown.contains("[ecapture: "), "{shown}");
    }
    let binary = shown(&[data(1, END_STREAM, b"\x00\x01\x02\xff")]);
    assert!(binary.contains("[ecapture: binary, 4 bytes]"), "{binary}");
}

#[test]
fn idle_shows_what_has_come_of_a_data_frame() {
    let mut decoder = Http2Decoder::new(options(TEXT), true);
    let mut output = Output::default();
    let bytes = Bytes::from(data(1, END_STREAM, b"slowly"));
    decoder.feed(&bytes.slice(..13), 1, &mut output);
    assert_eq!(output.messages.len(), 0);
    decoder.idle(&mut output);
    decoder.feed(&bytes.slice(13..), 2, &mut output);
    let shown = text(contents(output.messages));
    assert!(
        shown.contains("\nslow\n[ecapture: part of a DATA frame of 6 bytes") && shown.contains("ly\n"),
        "{shown}"
    );
}

#[test]
fn too_many_streams_and_too_much_content_evict_the_quietest() {
    let limits = Limits {
        http2_streams: 10,
        http2_held_bytes: 1000,
        ..Limits::default()
    };
    let mut decoder = Http2Decoder::new(
        Options {
            limits,
            view: STRUCTURED,
        },
        true,
    );
    let mut output = Output::default();
    for stream in 0..50 {
        decoder.feed(&Bytes::from(headers(2 * stream + 1, 0, OK)), 0, &mut output);
        decoder.feed(
            &Bytes::from(data(2 * stream + 1, 0, &[b'x'; 300])),
            0,
            &mut output,
        );
        assert!(
            decoder.buffered_bytes() <= 1000,
            "{} bytes held",
            decoder.buffered_bytes()
        );
    }
    decoder.close(&mut output);
    let order: Vec<u32> = contents(output.messages)
        .iter()
        .map(|content| match content {
            Content::Http2(message) if !message.body.complete && message.body.data.len() == 300 => {
                message.stream
            }
            _ => panic!("{content:?}"),
        })
        .collect();
    assert_eq!(order, (0..50).map(|stream| 2 * stream + 1).collect::<Vec<_>>());
}

#[test]
fn a_gap_is_marked_in_the_streams_it_may_have_hit() {
    let mut decoder = Http2Decoder::new(options(STRUCTURED), true);
    let mut output = Output::default();
    let mut feed =
        |bytes: Vec<u8>, decoder: &mut Http2Decoder| decoder.feed(&Bytes::from(bytes), 0, &mut output);
    feed([headers(1, 0, OK), data(1, 0, b"before")].concat(), &mut decoder);
    let gap = Gap {
        bytes: Some(100),
        reason: GapReason::KernelLoss,
    };
    let mut lost = Output::default();
    decoder.gap(gap, 0, &mut lost);
    feed(
        [data(1, END_STREAM, b"after"), headers(3, END_STREAM, OK)].concat(),
        &mut decoder,
    );
    assert_eq!(contents(lost.messages), [Content::Gap(gap)]);
    let found = contents(output.messages);
    let [Content::Http2(hit), Content::Http2(later)] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (&hit.body.data[..], hit.body.error),
        (&b"beforeafter"[..], Some(BodyError::Gap))
    );
    assert!(!hit.body.complete && later.body.complete);
}

/// One unmasked text frame.
const HELLO: &[u8] = b"\x81\x05hello";

fn websockets(decoder: &mut Http2Decoder, pieces: &[Vec<u8>], output: &mut Output) -> usize {
    for piece in pieces {
        decoder.feed(&Bytes::copy_from_slice(piece), 0, output);
    }
    let is_hello = |message: &&ecapture_protocols::Message| matches!(&message.content, Content::WebSocket(hello) if hello.data == "hello" && hello.stream == Some(1));
    output.messages.iter().filter(is_hello).count()
}

#[test]
fn websockets_over_extended_connect_are_decoded_both_ways() {
    let request = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":path", "/chat"),
    ];
    for view in [TEXT, STRUCTURED] {
        let mut output = Output::default();
        let mut client = Http2Decoder::new(options(view), true);
        assert_eq!(
            websockets(
                &mut client,
                &[headers(1, 0, &request), data(1, 0, HELLO)],
                &mut output
            ),
            1
        );
        let notice = PeerNotice::WebSocketStream { stream: 1 };
        assert_eq!(output.notices, [notice]);
        // The notice comes before the response, and after it.
        let mut server = Http2Decoder::new(options(view), true);
        let mut output = Output::default();
        server.notice(&notice, &mut output);
        assert_eq!(
            websockets(&mut server, &[headers(1, 0, OK), data(1, 0, HELLO)], &mut output),
            1
        );
        let mut server = Http2Decoder::new(options(view), true);
        let mut output = Output::default();
        assert_eq!(websockets(&mut server, &[headers(1, 0, OK)], &mut output), 0);
        server.notice(&notice, &mut output);
        assert_eq!(websockets(&mut server, &[data(1, 0, HELLO)], &mut output), 1);
        // Refused.
        let mut server = Http2Decoder::new(options(view), true);
        let mut output = Output::default();
        server.notice(&notice, &mut output);
        assert_eq!(
            websockets(
                &mut server,
                &[headers(1, 0, &[(":status", "403")]), data(1, 0, HELLO)],
                &mut output
            ),
            0
        );
    }
}

#[test]
fn event_streams_are_told_as_they_arrive() {
    let mut decoder = Http2Decoder::new(options(STRUCTURED), true);
    let mut output = Output::default();
    let fields = [
        (":status", "200"),
        ("content-type", "text/event-stream; charset=utf-8"),
    ];
    let bytes = [
        headers(1, 0, &fields),
        data(1, 0, b"data: 1\n\nda"),
        data(1, 0, b"ta: 2\n\n"),
    ]
    .concat();
    decoder.feed(&Bytes::from(bytes), 0, &mut output);
    let told: Vec<_> = output
        .messages
        .iter()
        .map(|message| match &message.content {
            Content::ServerSentEvent(event) => (event.stream, event.data.as_str()),
            content => panic!("{content:?}"),
        })
        .collect();
    assert_eq!(told, [(Some(1), "1"), (Some(1), "2")]);
}

#[test]
fn coded_event_streams_are_shown_as_they_arrive() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(b"data: 1\n\n").unwrap();
    encoder.flush().unwrap();
    let fields = [
        (":status", "200"),
        ("content-type", "text/event-stream"),
        ("content-encoding", "gzip"),
    ];
    let mut decoder = Http2Decoder::new(options(TEXT), true);
    let mut output = Output::default();
    let opened = [headers(1, 0, &fields), data(1, 0, encoder.get_ref())].concat();
    decoder.feed(&Bytes::from(opened), 0, &mut output);
    let begun = encoder.get_ref().len();
    let shown = text(contents(std::mem::take(&mut output.messages)));
    assert!(shown.ends_with("Final Length\t=>\t9\n\ndata: 1\n\n\n"), "{shown}");
    let rest = &encoder.finish().unwrap()[begun..];
    decoder.feed(&Bytes::from(data(1, END_STREAM, rest)), 0, &mut output);
    decoder.close(&mut output);
    assert_eq!(output.messages.len(), 1, "only the frame itself follows");
}

#[test]
fn windows_of_codings_count_as_held() {
    let wide = zstd_frame_with_window(8 << 20);
    let fields = [(":status", "200"), ("content-encoding", "zstd")];
    let mut decoder = Http2Decoder::new(options(STRUCTURED), true);
    let mut output = Output::default();
    for stream in (1..20).step_by(2) {
        let opened = [headers(stream, 0, &fields), data(stream, 0, &wide)].concat();
        decoder.feed(&Bytes::from(opened), 0, &mut output);
    }
    let limit = Limits::default().http2_held_bytes;
    let held = decoder.buffered_bytes();
    assert!(held > limit / 2 && held <= limit, "{held} bytes held");
    assert!(output.messages.len() >= 6, "{}", output.messages.len());
}

/// A frame of one raw byte that is not its last, with a window of `bytes` (RFC 8878 §3.1.1.1).
fn zstd_frame_with_window(bytes: u32) -> Vec<u8> {
    let exponent = u8::try_from(bytes.trailing_zeros() - 10).unwrap();
    let raw_block = [1 << 3, 0, 0, b'x'];
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3][..], &raw_block].concat()
}

#[test]
fn a_gap_never_joins_halves_of_two_events() {
    let mut decoder = Http2Decoder::new(options(STRUCTURED), true);
    let mut output = Output::default();
    let fields = [(":status", "200"), ("content-type", "text/event-stream")];
    let before = [headers(1, 0, &fields), data(1, 0, b"data: 1\n\ndata: be")].concat();
    decoder.feed(&Bytes::from(before), 0, &mut output);
    let reason = GapReason::KernelLoss;
    let gap = Gap {
        bytes: Some(40),
        reason,
    };
    decoder.gap(gap, 0, &mut output);
    let after = [
        data(1, 0, b"hind\ndata: it\n\ndata: 2\n\n"),
        headers(3, 0, OK),
        data(3, 0, b"more"),
    ]
    .concat();
    decoder.feed(&Bytes::from(after), 0, &mut output);
    let mut told = Vec::new();
    for message in output.messages {
        if let Content::ServerSentEvent(event) = message.content {
            told.push(event.data);
        }
    }
    assert_eq!(told, ["1", "2"]);
}

#[test]
fn other_bytes_are_not_taken_for_http2() {
    let mut random = Random::new(7);
    let (mut yes, mut quiet) = (0, 0);
    for _ in 0..50_000 {
        let bytes = random.bytes(64);
        yes += usize::from(detect(&bytes) == Detection::Yes);
        quiet += usize::from(detect_quiet(&bytes));
    }
    assert_eq!((yes, quiet), (0, 0));
    let others: [&[u8]; 8] = [
        &[0; 4096],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI is not HTTP/2",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00",
        b"\0\0\0\0\x0b\x0a\x07echo hi\x10\x02",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\x00\x00\x00\x17\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x03foo",
    ];
    for other in others {
        assert_ne!(detect(other), Detection::Yes, "{other:?}");
        assert!(!detect_quiet(other), "{other:?}");
    }
}

#[test]
fn damaged_connections_neither_panic_nor_pile_up() {
    let promise = [&2_u32.to_be_bytes()[..], &block(&[(":path", "/")])].concat();
    let coded = gzip(&[b'z'; 5000]);
    let sound = [
        frame(4, 0, 0, &[0, 1, 0, 0, 0x10, 0]),
        headers(1, 0, &[(":status", "200"), ("content-type", "application/grpc")]),
        data(1, 0, b"\0\0\0\0\x02\x08\x01\0\0\0\0\x02\x08\x02"),
        headers(3, 0, &[(":status", "200"), ("content-encoding", "gzip")]),
        data(3, END_STREAM, &coded),
        frame(HEADERS, END_HEADERS, 5, b"\x40\x01a\x01b\xbe\x88"),
        frame(5, END_HEADERS, 1, &promise),
        frame(
            HEADERS,
            0,
            7,
            &block(&[(":method", "CONNECT"), (":protocol", "websocket")]),
        ),
        frame(9, END_HEADERS, 7, b"\xbe"),
        data(7, 0, b"\x81\x05hello"),
        headers(1, END_STREAM, &[("grpc-status", "0")]),
        frame(3, 0, 5, &[0; 4]),
        frame(7, 0, 0, &[0; 12]),
    ]
    .concat();
    let limits = Limits {
        http2_streams: 8,
        http2_held_bytes: 4096,
        body_bytes: 4096,
        websocket_message_bytes: 4096,
        ..Limits::default()
    };
    let bound = limits.hpack_table_bytes
        + limits.http2_header_block_bytes
        + limits.http2_resync_bytes
        + 4096 * 3
        + sound.len() * 4;
    let connections = std::env::var("ECAPTURE_DIFFERENTIAL").map_or(3000, |wanted| wanted.parse().unwrap());
    for seed in 0..connections {
        let mut random = Random::new(seed);
        let view = if seed % 2 == 0 { TEXT } else { STRUCTURED };
        let mut decoder = Http2Decoder::new(Options { limits, view }, !seed.is_multiple_of(3));
        let mut output = Output::default();
        let mut bytes = sound.repeat(1 + random.below(3));
        for _ in 0..random.below(12) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.bytes(1)[0],
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        for piece in random.pieces(&bytes, 400) {
            decoder.feed(&Bytes::copy_from_slice(piece), 0, &mut output);
            if random.chance(40) {
                decoder.idle(&mut output);
            }
            if random.chance(60) {
                let reason = GapReason::Shed;
                decoder.gap(Gap { bytes: None, reason }, 0, &mut output);
            }
            assert!(
                decoder.buffered_bytes() <= bound,
                "{} bytes held",
                decoder.buffered_bytes()
            );
        }
        decoder.close(&mut output);
        let skipped: u64 = output.skipped.iter().map(|skipped| skipped.bytes).sum();
        assert!(
            skipped <= bytes.len() as u64 + 5000,
            "seed {seed}: {skipped} skipped of {}",
            bytes.len()
        );
        text(contents(output.messages));
    }
}

#[test]
fn a_stream_that_keeps_falling_out_of_step_is_searched_in_good_time() {
    // Three believed frames and something that is none, over and over.
    let tease = [frame(6, 0, 0, &[0; 8]).repeat(3), vec![0xff; 9]]
        .concat()
        .repeat(20_000);
    let (contents, skipped) = decode_all(TEXT, &[&tease]);
    assert_eq!(contents.len(), 60_000);
    let bytes: u64 = skipped.iter().map(|skipped| skipped.bytes).sum();
    assert_eq!(bytes, 9 * 20_000);
}

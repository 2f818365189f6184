//! The content of HTTP/2 streams: DATA in parts, content codings, event streams, WebSockets.

use std::io::Write;

use crate::random::Random;
use crate::support::frames::{END_STREAM, OK, data, frame, gzip, headers, text};
use crate::support::halves::{STRUCTURED, TEXT, alone, contents, decode, options};
use crate::support::shown;
use bytes::Bytes;
use ecapture_protocols::http2::Http2Decoder;
use ecapture_protocols::message::{Gap, GapReason};
use ecapture_protocols::{Content, Output, PeerNotice, StreamDecoder};

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
fn idle_shows_the_received_part_of_a_data_frame() {
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
        output
            .notices
            .retain(|notice| !matches!(notice, PeerNotice::Asked(_)));
        assert_eq!(output.notices, std::slice::from_ref(&notice));
        // The notice arrives before the response, and after it.
        let mut server = alone(Http2Decoder::new(options(view), true));
        let mut output = Output::default();
        server.notice(&notice, &mut output);
        assert_eq!(
            websockets(&mut server, &[headers(1, 0, OK), data(1, 0, HELLO)], &mut output),
            1
        );
        let mut server = alone(Http2Decoder::new(options(view), true));
        let mut output = Output::default();
        assert_eq!(websockets(&mut server, &[headers(1, 0, OK)], &mut output), 0);
        server.notice(&notice, &mut output);
        assert_eq!(websockets(&mut server, &[data(1, 0, HELLO)], &mut output), 1);
        // Refused.
        let mut server = alone(Http2Decoder::new(options(view), true));
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
fn events_of_event_streams_are_emitted_as_they_arrive() {
    let mut decoder = alone(Http2Decoder::new(options(STRUCTURED), true));
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
    let shown: Vec<_> = output
        .messages
        .iter()
        .map(|message| match &message.content {
            Content::ServerSentEvent(event) => (event.stream, event.data.as_str()),
            content => panic!("{content:?}"),
        })
        .collect();
    assert_eq!(shown, [(Some(1), "1"), (Some(1), "2")]);
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
fn a_gap_never_joins_halves_of_two_events() {
    let mut decoder = alone(Http2Decoder::new(options(STRUCTURED), true));
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
    let mut shown = Vec::new();
    for message in output.messages {
        if let Content::ServerSentEvent(event) = message.content {
            shown.push(event.data);
        }
    }
    assert_eq!(shown, ["1", "2"]);
}

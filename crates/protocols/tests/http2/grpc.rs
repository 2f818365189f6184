//! gRPC messages on HTTP/2 streams: framing, compression, limits, loss.

use std::io::Write;

use crate::random::Random;
use crate::support::frames::{END_STREAM, data, gzip, headers, text};
use crate::support::halves::{STRUCTURED, TEXT, alone, contents, decode, halves, limited, options, oracle};
use bytes::Bytes;
use ecapture_protocols::http2::Http2Decoder;
use ecapture_protocols::message::{BodyError, Gap, GapReason, GrpcMessage, ProtobufField, ProtobufValue};
use ecapture_protocols::{Content, Limits, Output, StreamDecoder};

fn prefixed(compressed: bool, content: &[u8]) -> Vec<u8> {
    let mut message = vec![u8::from(compressed)];
    message.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
    message.extend(content);
    message
}

fn response(encoding: &str) -> Vec<u8> {
    let fields = [
        (":status", "200"),
        ("content-type", "application/grpc+proto"),
        ("grpc-encoding", encoding),
    ];
    headers(1, 0, &fields)
}

fn grpc(contents: &[Content]) -> Vec<&GrpcMessage> {
    let mut messages = Vec::new();
    for content in contents {
        if let Content::Grpc(message) = content {
            messages.push(&**message);
        }
    }
    messages
}

#[test]
fn recorded_messages_match_the_truth() {
    let Some(oracle) = oracle() else { return };
    let mut found = 0;
    for half in halves(&oracle.join("grpc-01")) {
        let contents = decode(STRUCTURED, &half.events);
        for message in grpc(&contents) {
            assert_eq!((message.error, message.compressed), (None, false));
            assert!(message.fields.is_some(), "{message:?}");
            found += 1;
        }
        // The stream's message carries the status and the length, not the content again.
        let streams: Vec<_> = contents
            .iter()
            .filter_map(|content| match content {
                Content::Http2(message) => Some(message),
                _ => None,
            })
            .collect();
        assert!(streams.len() >= 5 && streams.iter().all(|stream| stream.body.data.is_empty()));
        let statuses = streams
            .iter()
            .filter(|stream| !stream.trailers.is_empty())
            .count();
        assert_eq!(statuses >= 4, half.data_type == 0, "{statuses} with trailers");
        let shown = text(decode(TEXT, &half.events));
        assert!(
            half.data_type == 1 || shown.contains("\n1: \"echo hi\"\n2: 2\n"),
            "{shown}"
        );
    }
    assert!(found >= 15, "only {found} messages");
}

#[test]
fn any_split_over_frames_and_events_gives_the_same_messages() {
    let mut random = Random::new(3);
    let sent: Vec<Vec<u8>> = (0..40)
        .map(|_| {
            let length = random.length(50_000);
            random.bytes(length)
        })
        .collect();
    let stream: Vec<u8> = sent.iter().flat_map(|content| prefixed(false, content)).collect();
    let mut bytes = response("identity");
    for piece in random.pieces(&stream, 9000) {
        bytes.extend(data(1, 0, piece));
    }
    bytes.extend(headers(1, END_STREAM, &[("grpc-status", "0")]));
    for view in [TEXT, STRUCTURED] {
        let whole = decode(view, &[&bytes]);
        let received: Vec<&[u8]> = grpc(&whole).iter().map(|message| &message.data[..]).collect();
        assert_eq!(received, sent);
        let numbered = grpc(&whole)
            .iter()
            .enumerate()
            .all(|(at, message)| message.index == at as u64);
        assert!(numbered);
        for seed in 0..5 {
            assert_eq!(decode(view, &Random::new(seed).pieces(&bytes, 700)), whole);
        }
    }
}

#[test]
fn messages_are_decompressed_one_by_one() {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(b"\x0a\x02hi").unwrap();
    let zlib = zlib.finish().unwrap();
    let hi = vec![ProtobufField {
        number: 1,
        value: ProtobufValue::Text("hi".into()),
    }];
    for (encoding, coded) in [
        ("gzip", gzip(b"\x0a\x02hi")),
        ("deflate", Bytes::from(zlib)),
        (
            "zstd",
            Bytes::from(zstd::encode_all(&b"\x0a\x02hi"[..], 0).unwrap()),
        ),
    ] {
        let both = [prefixed(true, &coded), prefixed(false, b"\x0a\x02hi")].concat();
        let contents = decode(STRUCTURED, &[response(encoding), data(1, END_STREAM, &both)]);
        let messages = grpc(&contents);
        assert_eq!(messages.len(), 2);
        assert!(messages[0].compressed && !messages[1].compressed);
        for message in messages {
            assert_eq!(
                (message.fields.as_ref(), message.error),
                (Some(&hi), None),
                "{encoding}"
            );
        }
    }
    let unknown = [response("snappy"), data(1, END_STREAM, &prefixed(true, b"xyz"))];
    let contents = decode(STRUCTURED, &unknown);
    assert!(matches!(
        grpc(&contents)[0].error,
        Some(BodyError::UnknownCoding { .. })
    ));
    assert_eq!(grpc(&contents)[0].data, "xyz");
    let corrupt = [response("gzip"), data(1, END_STREAM, &prefixed(true, b"xyz"))];
    assert!(grpc(&decode(STRUCTURED, &corrupt))[0].error.is_some());
}

#[test]
fn long_and_cut_off_messages_are_marked() {
    let limits = Limits {
        grpc_message_bytes: 100,
        ..Limits::default()
    };
    let mut decoder = limited(limits);
    let mut output = Output::default();
    decoder.feed(&Bytes::from(response("identity")), 0, &mut output);
    let before = decoder.buffered_bytes();
    let bytes = [
        prefixed(false, &[1; 1000]),
        prefixed(false, &[]),
        prefixed(false, &[2; 50])[..30].to_vec(),
    ]
    .concat();
    decoder.feed(&Bytes::from(data(1, 0, &bytes)), 0, &mut output);
    assert!(decoder.buffered_bytes() - before <= 200);
    decoder.close(&mut output);
    let skipped: u64 = output.skipped.iter().map(|skipped| skipped.bytes).sum();
    let contents = contents(output.messages);
    let [long, empty, cut] = grpc(&contents)[..] else {
        panic!("{contents:?}")
    };
    assert_eq!(
        (long.wire_len, long.data.len(), long.error),
        (1000, 100, Some(BodyError::OutputLimit))
    );
    assert_eq!(
        (empty.wire_len, empty.fields.as_deref(), empty.error),
        (0, Some(&[][..]), None)
    );
    assert_eq!(
        (cut.wire_len, cut.data.len(), cut.error),
        (50, 25, Some(BodyError::Incomplete))
    );
    assert_eq!(skipped, 900);
}

#[test]
fn after_a_gap_whole_frames_are_messages_again() {
    let mut decoder = alone(Http2Decoder::new(options(STRUCTURED), true));
    let mut output = Output::default();
    let feed = |decoder: &mut Http2Decoder, bytes: Vec<u8>, output: &mut Output| {
        decoder.feed(&Bytes::from(bytes), 0, output);
    };
    let opening = [
        response("identity"),
        data(1, 0, &prefixed(false, b"\x08\x01\x08\x02")[..7]),
    ]
    .concat();
    feed(&mut decoder, opening, &mut output);
    let gap = Gap {
        bytes: None,
        reason: GapReason::KernelLoss,
    };
    decoder.gap(gap, 0, &mut output);
    // The rest of an unseen message, then one that is a frame of its own, in two events.
    let rest = [
        data(1, 0, b"\x08\x07rest of one"),
        data(1, 0, &prefixed(false, b"\x08\x05")),
    ]
    .concat();
    feed(&mut decoder, rest[..rest.len() - 4].to_vec(), &mut output);
    feed(&mut decoder, rest[rest.len() - 4..].to_vec(), &mut output);
    feed(
        &mut decoder,
        headers(1, END_STREAM, &[("grpc-status", "0")]),
        &mut output,
    );
    let contents = contents(output.messages);
    let [cut, whole] = grpc(&contents)[..] else {
        panic!("{contents:?}")
    };
    assert_eq!(
        (&cut.data[..], cut.error),
        (&b"\x08\x01"[..], Some(BodyError::Gap))
    );
    assert_eq!((&whole.data[..], whole.error), (&b"\x08\x05"[..], None));
}

#[test]
fn content_that_is_not_grpc_is_shown_as_received() {
    for view in [TEXT, STRUCTURED] {
        let mut decoder = Http2Decoder::new(options(view), true);
        let mut output = Output::default();
        let plain = b"{\"error\":\"no gRPC here\"}";
        let [first, second] = [&plain[..3], &plain[3..]];
        let wire = [
            response("identity"),
            data(1, 0, first),
            data(1, END_STREAM, second),
            response("identity"),
            data(1, END_STREAM, &[0, 0, 0]),
        ]
        .concat();
        decoder.feed(&Bytes::from(wire), 0, &mut output);
        decoder.close(&mut output);
        assert_eq!(output.skipped, []);
        let contents = contents(output.messages);
        let [text, prefix] = grpc(&contents)[..] else {
            panic!("{contents:?}")
        };
        assert_eq!(
            (&text.data[..], text.error),
            (&plain[..], Some(BodyError::NotCoded { coding: "gRPC" }))
        );
        assert_eq!(
            (&prefix.data[..], prefix.error),
            (&[0, 0, 0][..], Some(BodyError::Incomplete))
        );
    }
}

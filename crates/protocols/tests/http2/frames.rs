//! HTTP/2 frame by frame: how each kind is shown in both views, also if senders misbehave.

use crate::support::frames::{END_HEADERS, END_STREAM, HEADERS, OK, PADDED, block, data, frame, headers};
use crate::support::halves::{STRUCTURED, TEXT, alone, contents, decode, options};
use crate::support::shown;
use bytes::Bytes;
use ecapture_protocols::http2::Http2Decoder;
use ecapture_protocols::message::{
    BodyError, Gap, GapReason, Http2Detail, Http2Error, Http2Kind, Http2Message,
};
use ecapture_protocols::{Content, Output, StreamDecoder, View};

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

#[test]
fn errors_settings_and_promises_are_shown() {
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
[ecapture: header index beyond the table]

Frame Type\t=>\tHEADERS
Frame StreamID\t=>\t1
Frame Length\t=>\t15
00000000  10 01 61 0a 22 5c 0a 07  01 ff c3 a4 20 7f be     |..a.\"\\...... ..|

[ecapture: binary, 15 bytes]
[ecapture: header index beyond the table]

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
fn errors_are_shown_without_a_message_too() {
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
fn sections_that_break_off_keep_what_is_known() {
    let (first, rest) = (block(&[("a", "b")]), block(&[("c", "d")]));
    // The CONTINUATION never arrives.
    let contents = decode(TEXT, &[frame(HEADERS, 0, 1, &first), data(3, END_STREAM, b"x")]);
    let [Content::Http2Frame(broken), Content::Http2Frame(_)] = &contents[..] else {
        panic!("{contents:?}")
    };
    let Http2Detail::Fields { fields, error, .. } = &broken.detail else {
        panic!("{broken:?}")
    };
    assert_eq!((fields.len(), *error), (1, Some(Http2Error::BlockCut)));
    // It arrives in three parts.
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
                error: Some(Http2Error::Padding),
                ..
            }
        ),
        "{bad:?}"
    );
}

#[test]
fn a_gap_is_marked_in_the_streams_it_may_have_hit() {
    let mut decoder = alone(Http2Decoder::new(options(STRUCTURED), true));
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

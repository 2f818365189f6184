//! HTTP/2 at its limits: too much, too many, damaged, or not HTTP/2 at all.
//!
//! `ECAPTURE_DIFFERENTIAL` sets how many damaged connections are decoded (default 3000).

use crate::random::Random;
use crate::support::frames::{END_HEADERS, END_STREAM, HEADERS, OK, block, data, frame, gzip, headers, text};
use crate::support::halves::{STRUCTURED, TEXT, alone, contents, decode_all, limited, options};
use bytes::Bytes;
use ecapture_protocols::decoder::{SkipReason, Skipped};
use ecapture_protocols::http2::{Http2Decoder, detect, detect_quiet};
use ecapture_protocols::message::{Gap, GapReason, Http2Detail, Http2Error};
use ecapture_protocols::{Content, Detection, Limits, Message, Options, Output, StreamDecoder};

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
            error: Some(Http2Error::BlockLimit),
            ..
        }
    ));
    assert!(
        !skipped.is_empty()
            && skipped
                .iter()
                .all(|skipped| skipped.reason == SkipReason::HeaderLimit)
    );
    // A frame that is too large is skipped, and the next one is read.
    let large = vec![0; limits.http2_frame_bytes + 8];
    let (contents, skipped) = decode_all(TEXT, &[frame(7, 0, 0, &large), frame(6, 0, 0, &[0; 8])]);
    let bytes = large.len() as u64;
    let reason = SkipReason::HeaderLimit;
    assert_eq!((contents.len(), skipped), (2, vec![Skipped { reason, bytes }]));
}

#[test]
fn too_many_streams_and_too_much_content_evict_the_quietest() {
    let limits = Limits {
        http2_streams: 10,
        http2_held_bytes: 1000,
        ..Limits::default()
    };
    let mut decoder = limited(limits);
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
fn windows_of_codings_count_as_held() {
    let wide = zstd_frame_with_window(8 << 20);
    let fields = [(":status", "200"), ("content-encoding", "zstd")];
    let mut decoder = alone(Http2Decoder::new(options(STRUCTURED), true));
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
#[expect(clippy::too_many_lines, reason = "the list of damages is long")]
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
        let mut decoder = Http2Decoder::new(
            Options {
                limits,
                view,
                ..Options::default()
            },
            !seed.is_multiple_of(3),
        );
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
fn a_stream_that_keeps_falling_out_of_step_is_searched_in_linear_time() {
    // Three accepted frames and bytes that are not a frame, over and over.
    let tease = [frame(6, 0, 0, &[0; 8]).repeat(3), vec![0xff; 9]]
        .concat()
        .repeat(20_000);
    let mut decoder = Http2Decoder::new(options(TEXT), false);
    let mut output = Output::default();
    decoder.feed(&Bytes::copy_from_slice(&tease), 0, &mut output);
    decoder.close(&mut output);
    let is_raw = |message: &&Message| matches!(message.content, Content::Raw(_));
    assert_eq!(output.messages.iter().filter(is_raw).count(), 20_000);
    assert_eq!(output.messages.len(), 80_000);
    assert_eq!(output.skipped, []);
    // After a gap, bytes that are not a frame are counted.
    let mut decoder = Http2Decoder::new(options(TEXT), false);
    let mut output = Output::default();
    let reason = GapReason::KernelLoss;
    decoder.gap(Gap { bytes: None, reason }, 0, &mut output);
    decoder.feed(&Bytes::copy_from_slice(&tease), 0, &mut output);
    decoder.close(&mut output);
    let bytes: u64 = output.skipped.iter().map(|skipped| skipped.bytes).sum();
    assert_eq!(bytes, 9 * 20_000);
    // If nothing is missing, bytes that are not a frame end the protocol: the rest is raw.
    let (contents, skipped) = decode_all(TEXT, &[&tease]);
    let Some(Content::Raw(raw)) = contents.get(4) else {
        panic!("{:?}", contents.get(4))
    };
    let shown: usize = contents.iter().skip(3).map(raw_bytes).sum();
    assert_eq!(
        (shown, raw.data.len()),
        (tease.len() - 3 * 17, tease.len() - 3 * 17 - 9)
    );
    assert!(skipped.is_empty());
}

fn raw_bytes(content: &Content) -> usize {
    match content {
        Content::Raw(raw) => raw.data.len(),
        other => panic!("{other:?}"),
    }
}

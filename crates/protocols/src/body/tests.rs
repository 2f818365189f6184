use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::*;
use crate::message::CodingName;

/// `hello brotli hello brotli hello brotli`, compressed.
const BROTLI: &[u8] = include_bytes!("hello.br");
const BROTLI_TEXT: &[u8] = b"hello brotli hello brotli hello brotli";

fn text() -> Vec<u8> {
    (0..2000)
        .flat_map(|number| format!("line {number}\n").into_bytes())
        .collect()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}

fn small() -> Limits {
    Limits {
        body_bytes: 1000,
        ..Limits::default()
    }
}

fn decode(encoding: &str, wire: &[u8], piece: usize, limits: &Limits, complete: bool) -> Body {
    let mut builder = BodyBuilder::new(Some(encoding.as_bytes()), None, None, limits);
    for part in wire.chunks(piece) {
        builder.push(&Bytes::copy_from_slice(part));
    }
    builder.finish(complete)
}

#[test]
fn every_coding_in_pieces_of_every_kind() {
    let text = text();
    let cases = [
        ("gzip", gzip(&text), &text[..], vec!["gzip"]),
        ("X-GZIP", gzip(&text), &text, vec!["gzip"]),
        ("deflate", zlib(&text), &text, vec!["deflate"]),
        ("deflate", raw_deflate(&text), &text, vec!["deflate"]),
        ("zstd", zstandard(&text), &text, vec!["zstd"]),
        ("br", BROTLI.to_vec(), BROTLI_TEXT, vec!["br"]),
        ("identity", text.clone(), &text, vec![]),
        (
            "deflate, gzip",
            gzip(&zlib(&text)),
            &text,
            vec!["deflate", "gzip"],
        ),
        ("gzip, zstd", zstandard(&gzip(&text)), &text, vec!["gzip", "zstd"]),
    ];
    for (encoding, wire, expected, names) in cases {
        for piece in [1, 2, 7, 100, wire.len()] {
            let body = decode(encoding, &wire, piece, &Limits::default(), true);
            assert_eq!(body.error, None, "{encoding} in pieces of {piece}");
            assert_eq!(body.data, expected, "{encoding} in pieces of {piece}");
            assert_eq!(body.encoding, names);
            assert!(body.complete);
            assert_eq!(body.wire_len, wire.len() as u64);
            assert_eq!(body.len, expected.len() as u64);
        }
    }
}

#[test]
fn several_members_and_frames_are_one_body() {
    let twice = |one: Vec<u8>| [one.clone(), one].concat();
    for (encoding, wire) in [("gzip", twice(gzip(b"ab"))), ("zstd", twice(zstandard(b"ab")))] {
        for piece in [1, wire.len()] {
            let body = decode(encoding, &wire, piece, &Limits::default(), true);
            assert_eq!(
                (&body.data[..], body.error),
                (&b"abab"[..], None),
                "{encoding} {piece}"
            );
        }
    }
}

#[test]
fn one_uncoded_piece_is_not_copied() {
    let wire = Bytes::from(vec![b'x'; 100]);
    let mut builder = BodyBuilder::new(None, None, Some(100), &Limits::default());
    builder.push(&wire);
    let body = builder.finish(true);
    assert_eq!(body.data.as_ptr(), wire.as_ptr());
    assert_eq!(
        (body.expected, body.complete, body.truncated_at),
        (Some(100), true, None)
    );
}

#[test]
fn bombs_stop_at_the_limit() {
    let zeros = vec![0; 4 << 20];
    let bombs = [
        ("gzip", gzip(&zeros)),
        ("deflate", raw_deflate(&zeros)),
        ("zstd", zstandard(&zeros)),
        ("gzip, gzip", gzip(&gzip(&zeros))),
    ];
    for (encoding, wire) in bombs {
        for piece in [10, wire.len()] {
            let body = decode(encoding, &wire, piece, &small(), true);
            assert_eq!(body.data, &zeros[..1000], "{encoding}");
            assert_eq!(body.error, Some(BodyError::OutputLimit), "{encoding}");
            assert_eq!(body.truncated_at, Some(1000));
        }
    }
}

#[test]
fn uncoded_bytes_beyond_the_limit_are_counted() {
    let mut builder = BodyBuilder::new(None, None, None, &small());
    builder.push(&Bytes::from(vec![1; 800]));
    builder.push(&Bytes::from(vec![2; 800]));
    assert_eq!(builder.take_skipped(), 600);
    let body = builder.finish(true);
    assert_eq!(
        (body.data.len(), body.len, body.truncated_at),
        (1000, 1600, Some(1000))
    );
}

#[test]
fn truncated_streams_show_the_received_part() {
    let text = text();
    for (encoding, wire) in [
        ("gzip", gzip(&text)),
        ("deflate", zlib(&text)),
        ("deflate", raw_deflate(&text)),
    ] {
        let half = &wire[..wire.len() / 2];
        let open = decode(encoding, half, 50, &Limits::default(), false);
        assert!(open.len > 1000 && text.starts_with(&open.data), "{encoding}");
        assert_eq!((open.complete, open.error), (false, None));
        let closed = decode(encoding, half, 50, &Limits::default(), true);
        assert!(
            matches!(closed.error, Some(BodyError::EndsEarly { .. })),
            "{encoding}"
        );
        assert_eq!(closed.data, open.data);
    }
}

#[test]
fn damage_keeps_what_was_decoded_before_it() {
    let text = text();
    for (encoding, mut wire) in [("gzip", gzip(&text)), ("zstd", zstandard(&text))] {
        let at = wire.len() - 20;
        wire[at] ^= 0x55;
        let mut seen = Vec::new();
        for piece in [1, 3, wire.len()] {
            let body = decode(encoding, &wire, piece, &Limits::default(), true);
            assert!(
                matches!(body.error, Some(BodyError::Corrupt { .. })),
                "{encoding} {piece}"
            );
            seen.push(body.data);
        }
        assert!(
            seen.windows(2).all(|pair| pair[0] == pair[1]),
            "{encoding} differs by pieces"
        );
    }
}

#[test]
fn content_that_was_never_coded_is_shown_as_received() {
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let wire = b"\xFFnot compressed at all";
        for piece in [1, 5, wire.len()] {
            let body = decode(encoding, wire, piece, &Limits::default(), true);
            assert_eq!(body.data, &wire[..], "{encoding} {piece}");
            assert!(
                matches!(
                    body.error,
                    Some(BodyError::Corrupt { coding } | BodyError::NotCoded { coding }) if coding == encoding
                ),
                "{encoding}"
            );
            assert!(body.encoding.is_empty());
        }
    }
}

#[test]
fn unknown_coding_is_shown_as_received() {
    let body = decode("compress", b"\x1f\x9d12", 2, &Limits::default(), true);
    assert_eq!(
        (&body.data[..], body.error),
        (
            &b"\x1f\x9d12"[..],
            Some(BodyError::UnknownCoding {
                name: CodingName::new(b"compress")
            })
        )
    );
    assert_eq!(body.error.unwrap().to_string(), "unknown content coding compress");
}

#[test]
fn parts_join_to_the_whole() {
    let text = text();
    for (encoding, wire) in [(None, text.clone()), (Some(&b"gzip"[..]), gzip(&text))] {
        let mut builder = BodyBuilder::new(encoding, None, None, &Limits::default());
        let mut data = Vec::new();
        for piece in wire.chunks(300) {
            builder.push(&Bytes::copy_from_slice(piece));
            data.extend_from_slice(&builder.take_so_far().data);
        }
        let last = builder.finish(true);
        data.extend_from_slice(&last.data);
        assert_eq!(data, text);
        assert_eq!(
            (last.len, last.complete, last.error),
            (text.len() as u64, true, None)
        );
    }
}

#[test]
fn a_gap_marks_the_body_and_ends_decoding() {
    let text = text();
    let wire = gzip(&text);
    let mut builder = BodyBuilder::new(Some(b"gzip"), None, Some(wire.len() as u64), &Limits::default());
    builder.push(&Bytes::copy_from_slice(&wire[..wire.len() / 2]));
    builder.gap(Some(10));
    builder.push(&Bytes::copy_from_slice(&wire[wire.len() / 2 + 10..]));
    let body = builder.finish(true);
    assert_eq!((body.complete, body.error), (false, Some(BodyError::Gap)));
    assert!(!body.data.is_empty() && text.starts_with(&body.data));
    assert_eq!(body.wire_len, wire.len() as u64);
    assert_eq!(builder.take_skipped(), (wire.len() - wire.len() / 2 - 10) as u64);
}

/// The content of the test, and a coded form of it that another implementation made.
#[test]
fn content_that_does_not_match_its_label_is_shown_whole() {
    let plain: Vec<u8> = (0..4000)
        .flat_map(|number| format!("{number},").into_bytes())
        .collect();
    let mut damaged = gzip(&text());
    let half = damaged.len() / 2;
    damaged[half..half + 40].fill(0xFF);
    let cut_and_plain = [&gzip(b"short")[..10], &plain].concat();
    for encoding in ["gzip", "deflate", "br", "zstd", "gzip, br", "br, gzip"] {
        for wire in [&plain, &damaged, &cut_and_plain] {
            for piece in [1, 1000, wire.len()] {
                let body = decode(encoding, wire, piece, &Limits::default(), true);
                if wire == &damaged && encoding == "br, gzip" || body.error.is_none() {
                    continue;
                }
                assert_eq!(body.data, &wire[..], "{encoding} by {piece}");
                assert_eq!((body.len, body.truncated_at), (wire.len() as u64, None));
                assert!(body.complete && body.encoding.is_empty());
            }
        }
    }
}

#[test]
fn the_error_names_the_announced_coding() {
    let error = |encoding, wire: &[u8]| {
        let body = decode(encoding, wire, 3, &Limits::default(), true);
        body.error.map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(error("gzip", b"{\"a\": 1}"), "not gzip data");
    assert_eq!(error("zstd", b"{\"a\": 1}"), "not zstd data");
    assert_eq!(error("deflate", b"{\"a\": 1}"), "corrupt deflate data");
    assert_eq!(error("gzip", b"\x1f\x8bthis is none"), "corrupt gzip data");
    let trailing = [gzip(b"a"), b"junk".to_vec()].concat();
    assert_eq!(error("gzip", &trailing), "4 bytes after the end of the gzip data");
    // A frame header with a window of 128 MiB (RFC 8878 §3.1.1.1.2), and a raw block.
    let large = b"\x28\xb5\x2f\xfd\x00\x88\x09\0\0a";
    assert_eq!(
        error("zstd", large),
        "zstd window of 128 MiB exceeds the limit of 8 MiB"
    );
    assert_eq!(
        decode("zstd", large, 4, &Limits::default(), true).data,
        &large[..]
    );
}

#[test]
fn a_body_beyond_the_limit_is_cut_at_the_limit() {
    let limits = Limits {
        body_bytes: 1000,
        ..Limits::default()
    };
    let wire: Vec<u8> = (0..1000)
        .flat_map(|number| format!("{number},").into_bytes())
        .collect();
    for piece in [1, 700, wire.len()] {
        let mut builder = BodyBuilder::new(Some(b"gzip"), None, None, &limits);
        for piece in wire.chunks(piece) {
            builder.push(&Bytes::copy_from_slice(piece));
        }
        let body = builder.finish(true);
        assert_eq!(body.data, &wire[..1000]);
        assert_eq!(body.truncated_at, Some(1000));
        assert_eq!(builder.take_skipped(), wire.len() as u64 - 1000);
    }
}

#[test]
fn a_body_that_is_only_counted_keeps_nothing() {
    let options = Options {
        limits: small(),
        without_content: true,
        ..Options::default()
    };
    let text = text();
    for wire in [gzip(&text), text, vec![0; 5000]] {
        for encoding in [None, Some(&b"gzip"[..]), Some(b"unknown")] {
            let mut builder = BodyBuilder::of_message(encoding, Some(Bytes::from("a/b")), Some(7), &options);
            assert!(!builder.has_part());
            builder.push(&Bytes::copy_from_slice(&wire));
            assert!(builder.has_part());
            assert_eq!((builder.held(), builder.held_bytes()), (&b""[..], 0));
            let part = builder.take_so_far();
            assert_eq!((part.wire_len, part.complete), (wire.len() as u64, false));
            assert!(!builder.has_part(), "all of it is in a part");
            builder.push(&Bytes::from_static(b"rest"));
            let expected = Body {
                wire_len: wire.len() as u64 + 4,
                len: wire.len() as u64 + 4,
                expected: Some(7),
                content_type: Some(Bytes::from("a/b")),
                complete: true,
                ..Body::default()
            };
            assert_eq!(builder.finish(true), expected, "{encoding:?}");
            assert_eq!(builder.take_skipped(), 0);
        }
    }
}

#[test]
fn a_gap_in_a_body_that_is_only_counted_is_marked() {
    let mut builder = BodyBuilder::counting(None, None);
    builder.push(&Bytes::from_static(b"abc"));
    builder.gap(Some(10));
    builder.push(&Bytes::from_static(b"d"));
    let body = builder.finish(true);
    assert_eq!((body.wire_len, body.len, body.complete), (14, 4, false));
    assert_eq!(body.error, Some(BodyError::Gap));
}

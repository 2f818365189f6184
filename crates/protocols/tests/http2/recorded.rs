//! Recorded HTTP/2 connections: frames, fields and content are compared with what is known to be in
//! the bytes, the text with the original's; the messages are the same however the bytes are split.

use std::fmt::Write;
use std::path::Path;

use crate::random::Random;
use crate::support::frames::text;
use crate::support::halves::{Half, STRUCTURED, TEXT, case_names, decode, decode_all, halves, oracle};
use ecapture_protocols::http2::{detect, detect_quiet};
use ecapture_protocols::message::{Field, Http2Detail, Http2Frame};
use ecapture_protocols::{Content, Detection};
use sha2::{Digest, Sha256};

fn each_half(mut test: impl FnMut(&Path, &Half)) {
    let Some(oracle) = oracle() else { return };
    let mut tested = 0;
    for name in case_names(&oracle) {
        let case = oracle.join(name);
        for half in halves(&case) {
            test(&case, &half);
            tested += 1;
        }
    }
    assert!(tested > 30, "only {tested} recorded directions found");
}

/// Describes a frame in a line of the same form as the truth.
fn described(frame: &Http2Frame) -> Option<String> {
    const NAMES: [&str; 10] = [
        "DATA",
        "HEADERS",
        "PRIORITY",
        "RSTSTREAM",
        "SETTINGS",
        "PUSHPROMISE",
        "PING",
        "GOAWAY",
        "WINDOWUPDATE",
        "CONTINUATION",
    ];
    let name = NAMES[usize::from(frame.frame_type)];
    let mut line = format!("{name} {} {}", frame.stream, frame.length);
    match &frame.detail {
        Http2Detail::Merged(_) => return None,
        Http2Detail::Fields { fields, error, .. } => {
            assert_eq!(*error, None);
            for Field { name, value, .. } in fields {
                let text =
                    |part: &Option<bytes::Bytes>| String::from_utf8(part.clone().unwrap().to_vec()).unwrap();
                write!(line, " {}={}", text(name), text(value)).unwrap();
            }
        }
        Http2Detail::Data(data) => write!(line, " {:x}", Sha256::digest(data)).unwrap(),
        _ => {}
    }
    Some(line)
}

fn expected(frame: &serde_json::Value, with_content: bool) -> String {
    let mut line = format!(
        "{} {} {}",
        frame["type"].as_str().unwrap(),
        frame["stream"],
        frame["len"]
    );
    for header in frame["headers"].as_array().into_iter().flatten() {
        write!(
            line,
            " {}={}",
            header[0].as_str().unwrap(),
            header[1].as_str().unwrap()
        )
        .unwrap();
    }
    if with_content && let Some(digest) = frame["sha256"].as_str() {
        write!(line, " {digest}").unwrap();
    }
    line
}

#[test]
fn frames_match_the_truth() {
    each_half(|case, half| {
        let Ok(truth) = std::fs::read(case.join("truth.json")) else {
            return;
        };
        let truth: serde_json::Value = serde_json::from_slice(&truth).unwrap();
        let side = if half.data_type == 1 { "client" } else { "server" };
        let truth = truth[format!("fd{}", half.fd)][side].as_array().unwrap();
        let contents = decode(TEXT, &half.events);
        let frames = contents.iter().filter_map(|content| match content {
            Content::Http2Frame(frame) => described(frame).map(|line| (line, &frame.detail)),
            _ => None,
        });
        let mut count = 0;
        for ((frame, detail), truth) in frames.zip(truth) {
            let shown = matches!(detail, Http2Detail::Data(_));
            assert_eq!(frame, expected(truth, shown), "{}", case.display());
            count += 1;
        }
        assert_eq!(count, truth.len(), "frames of {}", case.display());
    });
}

#[test]
fn every_byte_is_in_a_frame() {
    each_half(|case, half| {
        let bytes = half.bytes();
        let (contents, skipped) = decode_all(TEXT, &half.events);
        let preface = if bytes.starts_with(b"PRI") { 24 } else { 0 };
        let framed: usize = contents
            .iter()
            .filter_map(|content| match content {
                Content::Http2Frame(frame) if !matches!(frame.detail, Http2Detail::Merged(_)) => {
                    Some(9 + frame.length as usize)
                }
                _ => None,
            })
            .sum();
        assert_eq!(
            (framed + preface, skipped),
            (bytes.len(), vec![]),
            "{}",
            case.display()
        );
    });
}

#[test]
fn any_split_gives_the_same_messages() {
    let mut splits = 0;
    each_half(|case, half| {
        let bytes = half.bytes();
        for view in [TEXT, STRUCTURED] {
            let whole = decode(view, &[&bytes]);
            let mut check = |pieces: &[&[u8]], how: &str| {
                splits += 1;
                assert_eq!(decode(view, pieces), whole, "{} {how}", case.display());
            };
            check(
                &half.events.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
                "as events",
            );
            check(&bytes.chunks(1).collect::<Vec<_>>(), "in bytes");
            if bytes.len() <= 1000 {
                for at in 1..bytes.len() {
                    check(&[&bytes[..at], &bytes[at..]], "in two");
                }
            }
            for seed in 0..10 {
                let largest = [3, 20, 300, 5000][usize::try_from(seed).unwrap() % 4];
                check(&Random::new(seed).pieces(&bytes, largest), "at random");
            }
        }
    });
    println!("{splits} splits");
}

#[test]
fn detection_never_changes_its_mind() {
    each_half(|case, half| {
        let bytes = half.bytes();
        let mut earlier = Detection::NeedMore;
        for end in 0..=bytes.len().min(2000) {
            let answer = detect(&bytes[..end]);
            if earlier != Detection::NeedMore {
                assert_eq!(answer, earlier, "{} at {end}", case.display());
            }
            earlier = answer;
        }
        assert_eq!(earlier, Detection::Yes, "{}", case.display());
        assert!(
            detect_quiet(&bytes) || bytes.starts_with(b"PRI"),
            "{}",
            case.display()
        );
    });
}

/// Removes what the original does not print.
fn comparable(text: &str) -> String {
    let added = |line: &&str| line.starts_with("[ecapture: ") || line.starts_with("Frame Error\t");
    text.split_inclusive('\n').filter(|line| !added(line)).collect()
}

#[test]
fn text_matches_the_original_where_that_is_right() {
    let Some(oracle) = oracle() else { return };
    let index = std::fs::read(oracle.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let mut compared = 0;
    for entry in index.as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        if !name.starts_with("h2-") || !entry["verdict"].as_str().unwrap().starts_with("right") {
            continue;
        }
        let case = oracle.join(name);
        let original = std::fs::read(case.join("original.text.txt")).unwrap();
        let original = String::from_utf8_lossy(&original).into_owned();
        // One connection may be several records there, and their order is random.
        let mut records: Vec<String> = original
            .split("PID:")
            .skip(1)
            .map(|record| record.split_once('\n').unwrap().1.to_owned())
            .collect();
        for half in halves(&case) {
            let text = comparable(&text(decode(TEXT, &half.events)));
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let fitting = (0..records.len()).filter(|&record| rest.starts_with(&records[record]));
                let Some(next) = fitting.max_by_key(|&record| records[record].len()) else {
                    panic!("{name}: not in the original: {rest}\n{records:#?}")
                };
                rest = &rest[records.swap_remove(next).len()..];
            }
        }
        assert!(records.is_empty(), "{name}: not shown: {records:?}");
        compared += 1;
    }
    assert!(compared >= 12, "only {compared} cases compared");
    println!("{compared} cases are the original's");
}

#[test]
fn every_coding_is_merged_decoded() {
    let Some(oracle) = oracle() else { return };
    let merged = |name: &str| -> Vec<String> {
        let halves = halves(&oracle.join(name));
        let text = text(decode(TEXT, &halves[0].events));
        let blocks = text.split("\nMerged Data Frame, StreamID\t=>\t").skip(1);
        blocks
            .map(|block| block.lines().nth(3).unwrap().to_owned())
            .collect()
    };
    // deflate, br, zstd, gzip in two frames with trailers, x-gzip.
    let message = format!("{{\"msg\":\"hello world\",\"s\":\"{}\"}}", "x".repeat(60));
    assert_eq!(merged("h2-24-encodings"), vec![message; 5]);
    assert_eq!(merged("h2-26-two-gzip-streams").len(), 2);
}

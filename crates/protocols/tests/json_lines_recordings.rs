//! Compares the output of `tests/fixtures/CASE/events.jsonl` with `expected.jsonl` and
//! `expected.txt`.
//!
//! `UPDATE_FIXTURES=1` rewrites the expected files; review the difference.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use ecapture_protocols::format::{JsonLines, Text};
use ecapture_protocols::message::{Gap, GapReason};
use ecapture_protocols::recording::line::{self, Header};
use ecapture_protocols::{
    CapturedEvent, DataEvent, Direction, Format, Options, Origin, Output, PeerNotice, StreamDecoder, View,
    stream_decoder,
};

const SCHEMA: &str = include_str!("../schema/jsonl.schema.json");

/// One direction of the one connection of a recording.
struct Half {
    direction: Direction,
    origin: Option<Origin>,
    decoder: Box<dyn StreamDecoder>,
    end: u64,
}

impl Half {
    fn new(direction: Direction, view: View) -> Self {
        let options = Options {
            view,
            ..Options::default()
        };
        Self {
            direction,
            origin: None,
            decoder: stream_decoder(options),
            end: 0,
        }
    }

    fn feed(&mut self, event: &DataEvent, output: &mut Output) {
        self.origin.get_or_insert_with(|| Origin::of(event, 1));
        let start = event.stream_offset.unwrap();
        if start > self.end {
            let gap = Gap {
                bytes: Some(start - self.end),
                reason: GapReason::KernelLoss,
            };
            self.decoder.gap(gap, event.timestamp_ns, output);
        }
        self.end = start + event.payload.len() as u64;
        self.decoder.feed(&event.payload, event.timestamp_ns, output);
    }
}

struct Replay<'a> {
    halves: [Half; 2],
    format: &'a dyn Format,
    written: Vec<u8>,
}

impl Replay<'_> {
    /// Runs one direction, then passes its notices to the other.
    fn act(&mut self, direction: Direction, act: impl FnOnce(&mut Half, &mut Output)) {
        let half = self
            .halves
            .iter_mut()
            .find(|half| half.direction == direction)
            .unwrap();
        let mut output = Output::default();
        act(half, &mut output);
        if let Some(origin) = &half.origin {
            self.written
                .extend(self.format.formatted(origin, &output.messages));
        }
        for notice in output.notices {
            self.notify(direction.opposite(), &notice);
        }
    }

    fn notify(&mut self, direction: Direction, notice: &PeerNotice) {
        self.act(direction, |half, output| half.decoder.notice(notice, output));
    }
}

fn replay(events: &[CapturedEvent], view: View, format: &dyn Format) -> Vec<u8> {
    let mut replay = Replay {
        halves: [Direction::Write, Direction::Read].map(|direction| Half::new(direction, view)),
        format,
        written: Vec::new(),
    };
    for event in events {
        if let CapturedEvent::Data(event) = event {
            replay.act(event.direction, |half, output| half.feed(event, output));
        }
    }
    for direction in [Direction::Write, Direction::Read] {
        replay.act(direction, |half, output| half.decoder.close(output));
    }
    replay.written
}

fn read(case: &Path) -> (Header, Vec<CapturedEvent>) {
    let text = fs::read_to_string(case.join("events.jsonl")).unwrap();
    let (header, events) = text.split_once('\n').unwrap();
    let header = Header::parse(header.as_bytes()).unwrap().unwrap();
    (
        header,
        events
            .lines()
            .map(|line| line::parse(line.as_bytes()).unwrap())
            .collect(),
    )
}

fn compare(expected: &Path, written: &[u8]) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(expected, written).unwrap();
    }
    let expected_bytes = fs::read(expected).unwrap();
    let (written, expected_text) = (
        String::from_utf8_lossy(written),
        String::from_utf8_lossy(&expected_bytes),
    );
    assert!(written == expected_text, "{}:\n{written}", expected.display());
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries
        .filter(|path| path.join("events.jsonl").exists())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

#[test]
fn recordings_read_as_expected() {
    for case in cases() {
        let (header, events) = read(&case);
        let json_lines = JsonLines {
            wall_clock_offset_ns: header.wall_clock_offset_ns,
            ..JsonLines::default()
        };
        let lines = replay(&events, View::Structured { frames: false }, &json_lines);
        assert_valid(&lines);
        compare(&case.join("expected.jsonl"), &lines);
        let text = replay(&events, View::Text, &Text::default());
        compare(&case.join("expected.txt"), &text);
    }
}

fn assert_valid(lines: &[u8]) {
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    for line in std::str::from_utf8(lines).unwrap().lines() {
        let value = serde_json::from_str(line).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{line}: {errors:?}");
    }
}

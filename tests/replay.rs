//! Recordings through the real actors and decoders.
//!
//! `tests/fixtures/CASE/events.jsonl` were recorded with `ecapture record`; `expected.txt` and
//! `expected.jsonl` beside them are what `replay` prints. `UPDATE_FIXTURES=1` rewrites these.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ecapture_actors::{Clock, Outcome, Output, PipelineConfig, Placement, SinkWriter, Summary};
use ecapture_cli::recording::Recording;
use ecapture_protocols::format::Text;
use ecapture_protocols::{Options, Origin, stream_decoder};

use crate::support::program::run;
use crate::support::shared;

/// The folders of recordings with what they are printed as.
pub(crate) fn own_fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let listed = fs::read_dir(folder).expect("the fixtures folder");
    let mut cases: Vec<_> = listed
        .map(|entry| entry.expect("a folder entry").path())
        // The others are captures of packets.
        .filter(|case| case.join("events.jsonl").exists())
        .collect();
    cases.sort();
    assert!(cases.len() >= 4, "the fixtures are there");
    cases
}

#[test]
fn own_recordings_print_what_is_expected() {
    for case in own_fixtures() {
        let events = case.join("events.jsonl");
        for (flags, expected) in [("text", "expected.txt"), ("jsonl", "expected.jsonl")] {
            let finished = run(&[
                "replay",
                events.to_str().unwrap(),
                "--format",
                flags,
                "--fail-on-loss",
            ]);
            assert_eq!(
                finished.code(),
                Some(0),
                "{}: {}",
                case.display(),
                finished.stderr
            );
            let expected = case.join(expected);
            if std::env::var_os("UPDATE_FIXTURES").is_some() {
                fs::write(&expected, &finished.stdout).expect("a written fixture");
            }
            let wanted = fs::read(&expected).expect("expected output; UPDATE_FIXTURES=1 writes it");
            assert!(
                finished.stdout == wanted,
                "{} differs:\n{}",
                expected.display(),
                String::from_utf8_lossy(&finished.stdout)
            );
        }
    }
}

#[test]
fn own_recordings_print_the_same_bytes_every_time() {
    for case in own_fixtures() {
        let events = case.join("events.jsonl");
        let first = run(&["replay", events.to_str().unwrap()]).stdout;
        for _ in 0..5 {
            assert!(
                run(&["replay", events.to_str().unwrap()]).stdout == first,
                "{}",
                case.display()
            );
        }
    }
}

/// Collects what the Sink writes.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl SinkWriter for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer failed").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The recorded events into the RingReader's mailbox, all actors on one Arbiter.
fn through_the_actors(events: &Path) -> (Summary, Vec<u8>) {
    let recording = Recording::open(events).expect("a recording");
    let batches: Vec<_> = recording.map(|batch| batch.expect("events")).collect();
    let decoders = Arc::new(|_: &Origin, _| stream_decoder(Options::default()));
    let mut config = PipelineConfig::new(decoders);
    config.clock = Clock::Stream;
    config.placement = Placement::Inline;
    let written = Written::default();
    let output = Output::records("text", Arc::new(Text::default()), written.clone());
    let summary = ecapture_actors::block_on(async move {
        ecapture_actors::spawn(config, futures_util::stream::iter(batches), vec![output])
            .finished()
            .await
    });
    let bytes = written.0.lock().expect("no writer failed").clone();
    (summary, bytes)
}

#[test]
fn recorded_events_driven_through_the_actors_balance_and_leave_no_worker() {
    for case in own_fixtures() {
        let (summary, bytes) = through_the_actors(&case.join("events.jsonl"));
        assert!(
            matches!(summary.outcome, Outcome::Complete),
            "{}: {:?}",
            case.display(),
            summary.outcome
        );
        assert!(summary.balanced(), "{}: {:?}", case.display(), summary.statistics);
        assert_eq!(summary.statistics.live_workers, 0, "{}", case.display());
        assert!(
            summary.statistics.losses.is_empty(),
            "{}: {:?}",
            case.display(),
            summary.statistics.losses
        );
        let expected = fs::read(case.join("expected.txt")).expect("expected output");
        assert!(
            bytes == expected,
            "{} prints the same on one Arbiter as on several",
            case.display()
        );
    }
}

struct OracleCase {
    name: String,
    verdict: String,
    folder: PathBuf,
}

fn oracle() -> Option<Vec<OracleCase>> {
    let folder = shared()?.join("fixtures/oracle");
    let index = fs::read(folder.join("index.json")).expect("the index of the cases");
    let index: Vec<BTreeMap<String, String>> = serde_json::from_slice(&index).expect("the index is JSON");
    let cases = index.into_iter().map(|entry| OracleCase {
        folder: folder.join(&entry["name"]),
        name: entry["name"].clone(),
        verdict: entry["verdict"].clone(),
    });
    Some(cases.collect())
}

#[test]
fn every_oracle_case_replays_without_loss_and_the_same_every_time() {
    let Some(cases) = oracle() else { return };
    assert_eq!(cases.len(), 49, "as many as there are");
    for case in cases {
        let events = case.folder.join("events.jsonl");
        for format in ["text", "jsonl"] {
            let first = run(&["replay", events.to_str().unwrap(), "--format", format]);
            assert_eq!(first.code(), Some(0), "{}: {}", case.name, first.stderr);
            assert!(
                !first.stderr.contains("panicked"),
                "{}: {}",
                case.name,
                first.stderr
            );
            assert!(
                first.stderr.contains("nothing was lost"),
                "{}: {}",
                case.name,
                first.stderr
            );
            let second = run(&["replay", events.to_str().unwrap(), "--format", format]);
            assert!(
                first.stdout == second.stdout,
                "{} differs from run to run",
                case.name
            );
        }
    }
}

/// The text that a case prints, nothing of it lost.
fn replayed(case: &OracleCase) -> String {
    let events = case.folder.join("events.jsonl");
    let finished = run(&["replay", events.to_str().expect("a UTF-8 path")]);
    assert_eq!(finished.code(), Some(0), "{}: {}", case.name, finished.stderr);
    let events = fs::read_to_string(events).expect("the events");
    let data = events
        .lines()
        .filter(|line| !line.contains("\"Destroy\""))
        .count();
    assert!(
        finished.stderr.contains(&format!("seen {data} events")),
        "{}: {}",
        case.name,
        finished.stderr
    );
    finished.text()
}

/// The entries of the text format: a header line and what follows up to the next.
fn entries(text: &str) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("PID:") {
        rest = &rest[start..];
        let (header, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let end = next_header(after);
        entries.push((header.trim_end().to_owned(), after[..end].to_owned()));
        rest = &after[end..];
    }
    entries
}

/// A header line follows the last entry without a line end in the original's output.
fn next_header(text: &str) -> usize {
    let candidates = text.match_indices("PID:").map(|(position, _)| position);
    candidates
        .into_iter()
        .find(|&position| {
            text[position..]
                .split('\n')
                .next()
                .is_some_and(|line| line.contains(", Comm:"))
        })
        .unwrap_or(text.len())
}

/// Lines of all entries under each header, sorted; our own marks and empty lines do not count.
fn lines_by_header(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, body) in entries(text) {
        let shown = body
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty() && !line.starts_with("[ecapture: "));
        lines.entry(header).or_default().extend(shown.map(str::to_owned));
    }
    for lines in lines.values_mut() {
        lines.sort();
    }
    lines
}

#[test]
fn text_matches_the_original_where_the_original_is_right() {
    let Some(cases) = oracle() else { return };
    let mut compared = 0;
    for case in cases.iter().filter(|case| case.verdict == "right") {
        let ours = replayed(case);
        let original = fs::read(case.folder.join("original.text.txt")).expect("the original's output");
        let original = String::from_utf8_lossy(&original);
        assert_eq!(
            lines_by_header(&ours),
            lines_by_header(&original),
            "{}",
            case.name
        );
        compared += 1;
    }
    assert!(compared >= 3, "{compared} cases compared");
}

/// Header lines of an HTTP/1 entry by lower-case name, without those that the original's HTTP library
/// makes up or normalises, and the rest of the entry.
fn http1_entry(body: &str) -> (String, Vec<String>, String) {
    let body = body.replace("\r\n", "\n");
    let (head, content) = body.split_once("\n\n").unwrap_or((&body, ""));
    let (start, fields) = head.split_once('\n').unwrap_or((head, ""));
    let derived = ["connection:", "content-length:", "transfer-encoding:", "trailer:"];
    let mut fields: Vec<String> = fields
        .lines()
        .map(|line| match line.split_once(':') {
            Some((name, value)) => format!("{}: {}", name.to_ascii_lowercase(), value.trim()),
            None => line.to_owned(),
        })
        .filter(|line| !derived.iter().any(|name| line.starts_with(name)))
        .collect();
    fields.sort();
    let content = content
        .lines()
        .filter(|line| !line.starts_with("[ecapture: "))
        .collect::<Vec<_>>()
        .join("\n");
    (start.trim_end().to_owned(), fields, content.trim_end().to_owned())
}

#[test]
fn http1_text_matches_the_original_up_to_header_order_and_case() {
    let Some(cases) = oracle() else { return };
    let mut compared = 0;
    // Its entries show bytes that no text comparison can carry; the decoder's own tests compare them.
    let binary = ["h1-30-corrupt-gzip", "h1-31-utf8"];
    for case in cases
        .iter()
        .filter(|case| case.verdict == "right*" && !binary.contains(&case.name.as_str()))
    {
        let ours = replayed(case);
        let original = fs::read(case.folder.join("original.text.txt")).expect("the original's output");
        let normalise = |text: &str| {
            let mut all: Vec<_> = entries(text)
                .into_iter()
                .map(|(header, body)| (header, http1_entry(&body)))
                .collect();
            all.sort();
            all
        };
        assert_eq!(
            normalise(&ours),
            normalise(&String::from_utf8_lossy(&original)),
            "{}",
            case.name
        );
        compared += 1;
    }
    assert!(compared >= 12, "{compared} cases compared");
}

/// The frames of the text format, each as one text; lines that the original does not print are left out.
fn frames(text: &str) -> Vec<String> {
    let mut frames = Vec::new();
    for (header, body) in entries(text) {
        let kept = body
            .lines()
            .filter(|line| !line.starts_with("[ecapture: ") && !line.starts_with("Frame Error"));
        let body = kept.collect::<Vec<_>>().join("\n");
        for frame in body
            .split("\nFrame Type")
            .flat_map(|part| part.split("\nMerged Data Frame, StreamID"))
        {
            if !frame.trim().is_empty() {
                frames.push(format!("{header}|{}", frame.trim()));
            }
        }
    }
    frames.sort();
    frames
}

#[test]
fn http2_text_matches_the_original_where_the_original_is_right() {
    let Some(cases) = oracle() else { return };
    let mut compared = 0;
    for case in cases.iter().filter(|case| case.verdict == "right / random") {
        let ours = replayed(case);
        let original = fs::read(case.folder.join("original.text.txt")).expect("the original's output");
        assert_eq!(
            frames(&ours),
            frames(&String::from_utf8_lossy(&original)),
            "{}",
            case.name
        );
        compared += 1;
    }
    assert!(compared >= 8, "{compared} cases compared");
}

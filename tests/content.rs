//! What is left out at `--privacy metadata`: the kernel's own code applied to recordings, whose records must then say
//! the same as with the content.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ecapture_ebpf::framing::{Beginning, Framing, NEW_FRAMING};
use ecapture_protocols::recording::line;
use ecapture_protocols::{CapturedEvent, Direction};
use serde_json::Value;

use crate::support::program::{Finished, run};
use crate::support::shared;

/// Recordings of ours and of the shared folder, each with its name.
fn recordings() -> Vec<(String, PathBuf)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let shared = shared().map(|folder| folder.join("fixtures"));
    let shared = shared
        .into_iter()
        .flat_map(|folder| [folder.join("oracle"), folder.join("field")]);
    let mut found = Vec::new();
    for folder in shared.chain([own]) {
        for case in fs::read_dir(folder).expect("a folder of recordings") {
            let case = case.expect("an entry").path();
            let name = case.file_name().expect("a name").to_string_lossy().into_owned();
            found.push((name, case.join("events.jsonl")));
        }
    }
    found.retain(|(_, file)| file.exists());
    found.sort();
    found
}

/// Writes the events of a recording to `file` as a capture records them.
fn recorded(source: &Path, file: &Path) -> String {
    let output = format!("recording:{}", file.display());
    run(&["replay", &source.display().to_string(), "-o", &output]);
    fs::read_to_string(file).expect("a recording")
}

/// The recording as the kernel would have handed it over without content, and how many bytes of it are content.
fn without_content(recording: &str) -> (String, usize) {
    let mut sessions: BTreeMap<String, (Framing, [u64; 2])> = BTreeMap::new();
    let (mut out, mut left_out) = (Vec::new(), 0);
    for line in recording.lines() {
        let Ok(CapturedEvent::Data(mut data)) = line::parse(line.as_bytes()) else {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
            continue;
        };
        let session = data.session.map_or(data.fd.map(u64::from), Some);
        let key = format!("{} {session:?}", data.process.pid);
        let (framing, positions) = sessions.entry(key).or_insert((NEW_FRAMING, [0; 2]));
        let direction = usize::from(data.direction == Direction::Write);
        let position = data.stream_offset.unwrap_or(positions[direction]);
        let mut bytes = data.payload.to_vec();
        let beginning = Beginning {
            position,
            length: bytes.len() as u64,
            may_lack_bytes: data.joined_late.is_some(),
            sock: 0,
        };
        framing.leave_out(direction, &beginning, &mut bytes, usize::MAX);
        positions[direction] = position + bytes.len() as u64;
        left_out += bytes
            .iter()
            .zip(&data.payload)
            .filter(|(left, byte)| left != byte)
            .count();
        data.payload = Bytes::from(bytes);
        line::write(&CapturedEvent::Data(data), &mut out);
    }
    (String::from_utf8(out).expect("JSON"), left_out)
}

/// All bytes of a recording, in their order, and those of each call behind those of the one before.
fn all_bytes(recording: &str) -> Vec<u8> {
    let events = recording
        .lines()
        .filter_map(|line| line::parse(line.as_bytes()).ok());
    let payloads = events.filter_map(|event| match event {
        CapturedEvent::Data(data) => Some(data.payload),
        _ => None,
    });
    payloads.flatten().collect()
}

fn replay(file: &Path, flags: &[&str]) -> Finished {
    let file = file.display().to_string();
    run(&[&["replay", &file], flags].concat())
}

/// The bodies of a recording that are text, and longer than what may be in a head as well.
fn bodies(file: &Path) -> Vec<String> {
    let messages = replay(file, &["--format", "jsonl"]).json();
    let text = |message: &Value| message["body"]["text"].as_str().map(str::to_owned);
    messages
        .iter()
        .filter_map(text)
        .filter(|text| text.len() > 8)
        .collect()
}

#[test]
fn records_without_content_are_those_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    let (mut different, mut left_out, mut searched) = (BTreeSet::new(), 0, 0);
    for (name, source) in recordings() {
        let recording = recorded(&source, &whole);
        let (rest, bytes) = without_content(&recording);
        left_out += bytes;
        fs::write(&cut, &rest).expect("a recording");
        for format in ["jsonl", "text", "exchange"] {
            let flags = ["--privacy", "metadata", "--format", format];
            let [expected, observed] = [&whole, &cut].map(|file| replay(file, &flags).text());
            if expected != observed {
                different.insert(name.clone());
            }
        }
        let rest = all_bytes(&rest);
        for body in bodies(&whole) {
            searched += 1;
            assert_eq!(
                memchr::memmem::find(&rest, body.as_bytes()),
                None,
                "{name}: {body}"
            );
        }
    }
    // There a response to HEAD follows no request. The kernel would have seen the request; without it, it takes the next
    // message for the body.
    different.remove("first-record-lost");
    assert_eq!(different, BTreeSet::new());
    assert!(
        left_out > 10_000 && searched > 10,
        "{left_out} bytes, {searched} bodies"
    );
}

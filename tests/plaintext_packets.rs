//! `-o pcapng`: plaintext as packets, read by tshark without keys or settings.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::replay::own_fixtures;
use crate::support::program::run;
use crate::support::tshark::{capinfos, tshark};

/// Replays `events` into a file of packets.
fn packets(events: &Path, folder: &Path) -> String {
    let file = folder.join("plaintext.pcapng").display().to_string();
    let output = format!("pcapng:{file}");
    let finished = run(&["replay", events.to_str().expect("a path"), "-o", &output]);
    assert_eq!(
        finished.code(),
        Some(0),
        "{}: {}",
        events.display(),
        finished.stderr
    );
    file
}

/// How often each request line and status occurs.
type Counts = BTreeMap<String, usize>;

fn count(counts: &mut Counts, words: &[&str]) {
    if words.iter().any(|word| !word.is_empty()) {
        *counts.entry(words.join(" ").trim().to_owned()).or_default() += 1;
    }
}

/// What the messages of a recording say.
fn of_messages(events: &Path) -> Counts {
    let mut counts = Counts::new();
    let finished = run(&[
        "replay",
        events.to_str().expect("a path"),
        "--format",
        "jsonl",
        "--whole",
    ]);
    let text = |message: &Value, name: &str| message[name].as_str().unwrap_or_default().to_owned();
    for message in finished.json() {
        match message["kind"].as_str() {
            Some("http1.request" | "http2.request") => {
                count(&mut counts, &[&text(&message, "method"), &text(&message, "path")]);
            }
            Some("http1.response" | "http2.response") => {
                count(&mut counts, &[&message["status"].to_string().replace('"', "")]);
            }
            _ => {}
        }
    }
    counts
}

/// What tshark finds in the packets.
fn of_packets(file: &str) -> Option<Counts> {
    let fields = [
        "http.request.method",
        "http.request.uri",
        "http.response.code",
        "http2.headers.method",
        "http2.headers.path",
        "http2.headers.status",
    ];
    let mut counts = Counts::new();
    for row in tshark(file, &[], "http || http2", &fields)? {
        // Several frames in one packet have their values side by side.
        let values: Vec<Vec<&str>> = row.iter().map(|value| value.split('|').collect()).collect();
        for (method, path) in [(0, 1), (3, 4)] {
            for (method, path) in values[method].iter().zip(&values[path]) {
                count(&mut counts, &[method, path]);
            }
        }
        for status in [2, 5] {
            for status in &values[status] {
                count(&mut counts, &[status]);
            }
        }
    }
    Some(counts)
}

#[test]
fn tshark_finds_the_requests_and_responses_that_the_messages_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut different = Vec::new();
    for case in own_fixtures() {
        let events = case.join("events.jsonl");
        // tshark 4.0 does not put header blocks of more than 64 KiB together.
        if !events.exists() || case.ends_with("nghttp-continuation") {
            continue;
        }
        let file = packets(&events, folder.path());
        let Some(found) = of_packets(&file) else { return };
        let said = of_messages(&events);
        if found != said {
            different.push(format!(
                "{}: packets {found:?}, messages {said:?}",
                case.display()
            ));
        }
        let complaints = tshark(
            &file,
            &[],
            "tcp.analysis.flags || _ws.malformed",
            &["frame.number"],
        );
        let complaints = complaints.unwrap_or_default();
        assert!(complaints.is_empty(), "{}: {complaints:?}", case.display());
    }
    assert!(different.is_empty(), "{different:#?}");
}

fn event(direction: &str, session: &str, port: u16, offset: usize, payload: &[u8]) -> Value {
    use base64::Engine as _;
    json!({
        "ts": 1000, "dir": direction, "pid": 7, "tid": 7, "comm": "curl", "fd": 5, "session": session,
        "sock": session, "src": format!("[2001:db8::1]:{port}"), "dst": "[2001:db8::2]:443", "local": "src",
        "addr": "exact", "tls": 772, "offset": offset,
        "base64": base64::engine::general_purpose::STANDARD.encode(payload),
    })
}

/// A recording of two downloads of binary files, 16 KiB in each event.
fn downloads(folder: &Path, objects: &[(&str, Vec<u8>)]) -> std::path::PathBuf {
    let mut lines =
        vec![json!({"ecapture_recording": 1, "wall_clock_offset_ns": 1_700_000_000_000_000_000_u64})];
    for (number, (name, object)) in objects.iter().enumerate() {
        let (session, port) = (format!("a{number}"), 40_000 + u16::try_from(number).expect("few"));
        let request = format!("GET /{name} HTTP/1.1\r\nHost: example.org\r\n\r\n");
        lines.push(event("write", &session, port, 0, request.as_bytes()));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", object.len());
        let response = [head.as_bytes(), object].concat();
        for (piece, payload) in response.chunks(16 * 1024).enumerate() {
            lines.push(event("read", &session, port, piece * 16 * 1024, payload));
        }
    }
    let file = folder.join("downloads.jsonl");
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(&file, text.join("\n") + "\n").expect("a recording");
    file
}

fn pattern(length: usize, step: usize) -> Vec<u8> {
    let byte = |at| u8::try_from(at * step % 251).expect("below 251");
    (0..length).map(byte).collect()
}

#[test]
fn exported_objects_are_the_originals() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = [
        ("one.bin", pattern(300_000, 7)),
        ("two.bin", pattern(100_001, 13)),
    ];
    let file = packets(&downloads(folder.path(), &objects), folder.path());
    let exported = folder.path().join("objects");
    let export = format!("http,{}", exported.display());
    if tshark(&file, &["--export-objects", &export], "frame", &["frame.number"]).is_none() {
        return;
    }
    for (name, object) in objects {
        assert!(
            fs::read(exported.join(name)).expect("an object") == object,
            "{name}"
        );
    }
}

/// Each file of a rotated output has its own header, and all together have all packets.
#[test]
fn rotated_files_are_captures_by_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = [("one.bin", pattern(300_000, 7))];
    let events = downloads(folder.path(), &objects);
    let whole = packets(&events, folder.path());
    let rotated = folder.path().join("rotated");
    fs::create_dir(&rotated).expect("a folder");
    let output = format!("pcapng:{},rotate-size=64K", rotated.join("p.pcapng").display());
    let finished = run(&["replay", events.to_str().expect("a path"), "-o", &output]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let Some(all) = capinfos(&whole) else { return };
    let files: Vec<_> = fs::read_dir(&rotated)
        .expect("files")
        .map(|entry| entry.expect("a file").path())
        .collect();
    assert!(files.len() > 3, "{files:?}");
    let counts = files
        .iter()
        .map(|file| capinfos(file.to_str().expect("a path")).expect("installed"));
    assert_eq!(counts.sum::<u64>(), all);
}

#[test]
fn a_capture_can_be_piped() {
    let case = &own_fixtures()[0];
    let events = case.join("events.jsonl");
    let folder = tempfile::tempdir().expect("a folder");
    let file = packets(&events, folder.path());
    let piped = run(&["replay", events.to_str().expect("a path"), "-o", "pcapng"]);
    // A file's section says who captured what.
    let filed = fs::read(&file).expect("packets");
    assert!(filed.len() > piped.stdout.len());
    assert!(behind_section(&piped.stdout) == behind_section(&filed));
}

/// What follows the first block, whose length is its second word.
fn behind_section(file: &[u8]) -> &[u8] {
    let length = file[4..8].try_into().expect("four bytes");
    &file[u32::from_ne_bytes(length) as usize..]
}

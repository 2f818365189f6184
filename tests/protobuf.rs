//! `-o protobuf`, read by Google's library from the schema alone: it says what the text says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::replay::own_fixtures;
use crate::support::audit;
use crate::support::program::run;
use crate::support::shared;

/// All recordings: the product's own and the shared ones.
fn recordings() -> Vec<PathBuf> {
    let mut cases = own_fixtures();
    if let Some(shared) = shared() {
        let listed = fs::read_dir(shared.join("fixtures/oracle")).expect("the shared recordings");
        let shared: Vec<_> = listed
            .map(|entry| entry.expect("a folder entry").path())
            .collect();
        assert!(shared.len() >= 49, "the shared recordings are there");
        cases.extend(shared);
    }
    let events = cases.into_iter().map(|case| case.join("events.jsonl"));
    events.filter(|events| events.exists()).collect()
}

/// Writes text and entries of one run, as `text` and `entries` in `folder`.
fn replay(events: &Path, flags: &[&str], folder: &Path) {
    fs::create_dir(folder).expect("a folder");
    let outputs = ["text", "protobuf"].map(|format| format!("{format}:{}", folder.join(format).display()));
    let events = events.to_str().expect("a path");
    let finished = run(&[&["replay", events, "-o", &outputs[0], "-o", &outputs[1]], flags].concat());
    assert_eq!(finished.code(), Some(0), "{events}: {}", finished.stderr);
}

/// The entries of each folder's file.
fn decoded(folders: &[PathBuf]) -> Vec<Vec<Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let decoded = Command::new("/usr/bin/python3")
        .arg(root.join("tests/peers/log_entries.py"))
        .arg(root.join("crates/protocols/schema/log_entry.proto"))
        .args(folders.iter().map(|folder| folder.join("protobuf")))
        .output()
        .expect("python starts");
    let complaint = String::from_utf8_lossy(&decoded.stderr);
    assert!(decoded.status.success(), "{complaint}");
    let lines = String::from_utf8(decoded.stdout).expect("text");
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// The part of a header line that the fields of an entry must have.
fn addresses(entry: &Value) -> String {
    let end = |ip: &str, port: &str| {
        let ip = entry[ip].as_str().expect("an address");
        let shown = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.to_owned()
        };
        format!("{shown}:{}", entry[port])
    };
    format!(
        "Src:{}, Dest:{}",
        end("src_ip", "src_port"),
        end("dst_ip", "dst_port")
    )
}

/// Takes the record that `entry` is about off the text.
fn take_record<'text>(entry: &Value, text: &'text [u8]) -> &'text [u8] {
    let end = text
        .iter()
        .position(|&byte| byte == b'\n')
        .expect("a header line")
        + 1;
    let header = String::from_utf8_lossy(&text[..end]);
    let pid = entry["pid"].as_str().expect("a number");
    let name = entry["pname"].as_str().expect("a name");
    assert!(
        header.starts_with(&format!("PID:{pid}, Comm:{name}, ")),
        "{header}: {entry}"
    );
    let addresses = addresses(entry);
    let unknown = addresses == "Src::0, Dest::0" && header.contains("Src:unknown, Dest:unknown, ");
    assert!(header.contains(&addresses) || unknown, "{header}: {addresses}");
    let payload = entry["payload"].as_str().expect("base64");
    let payload = BASE64_STANDARD.decode(payload).expect("base64");
    let rest = text[end..].strip_prefix(&*payload);
    rest.unwrap_or_else(|| panic!("{header}: {}", String::from_utf8_lossy(&payload)))
}

#[test]
fn entries_say_what_the_text_says() {
    if !Path::new("/usr/bin/protoc").exists() {
        assert!(
            std::env::var_os("ECAPTURE_REQUIRE_PRIVILEGED").is_none(),
            "protoc is not installed; `tests/run` installs it"
        );
        println!("SKIPPED: protoc is not installed; `tests/run` installs it");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut folders = Vec::new();
    for events in recordings() {
        for flags in [&[][..], &["--hex"], &["--tsize", "1000"]] {
            let made = folder.path().join(folders.len().to_string());
            replay(&events, flags, &made);
            folders.push(made);
        }
    }
    let decoded = decoded(&folders);
    assert_eq!(decoded.len(), folders.len());
    let mut types = [0_usize; 6];
    for (folder, entries) in folders.iter().zip(&decoded) {
        let text = audit::read(&folder.join("text"));
        let rest = entries
            .iter()
            .fold(&text[..], |text, entry| take_record(entry, text));
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(rest));
        for entry in entries {
            let number = entry["type"].as_u64().expect("a number");
            types[usize::try_from(number).expect("a small number")] += 1;
        }
    }
    assert!(
        types[1..].iter().all(|&count| count > 0),
        "each type is seen: {types:?}"
    );
}

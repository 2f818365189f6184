//! The raw bytes that went through the connections of a port, both ends captured.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::program::Running;

/// The bytes that went one way: as written, and as read.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) written: Vec<u8>,
    pub(crate) read: Vec<u8>,
}

/// The bytes that went each way, by sender and receiver.
pub(crate) type Flows = BTreeMap<(String, String), Flow>;

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a text: {value}"))
        .to_owned()
}

fn bytes(data: &Value) -> Vec<u8> {
    let bytes = match data["text"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => STANDARD.decode(text(&data["base64"])).expect("base64"),
    };
    assert_eq!(data["len"], bytes.len(), "{data}");
    bytes
}

/// The flows of a port from lines of JSON, which are all raw.
pub(crate) fn flows(lines: &[Value], port: u16) -> Flows {
    let end = format!(":{port}");
    let mut flows = Flows::new();
    for line in lines {
        let (Some(sender), Some(receiver)) = (line["src"].as_str(), line["dst"].as_str()) else {
            continue;
        };
        if !sender.ends_with(&end) && !receiver.ends_with(&end) {
            continue;
        }
        assert_eq!(line["kind"], "raw", "{line}");
        let flow = flows.entry((sender.to_owned(), receiver.to_owned())).or_default();
        let side = match line["direction"].as_str() {
            Some("write") => &mut flow.written,
            Some("read") => &mut flow.read,
            other => panic!("a direction: {other:?}"),
        };
        side.extend(bytes(&line["data"]));
    }
    flows
}

fn assert_same_at_both_ends(flows: &Flows) {
    for (ends, Flow { written, read }) in flows {
        assert!(
            written == read,
            "{ends:?}: {} bytes written, {} read\n{}\n{}",
            written.len(),
            read.len(),
            written.escape_ascii(),
            read.escape_ascii()
        );
    }
}

/// Runs a client to its end; returns its output.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().expect("the client starts");
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Returns the flows captured on `port` while `talk` runs.
pub(crate) fn capture(port: u16, talk: impl FnOnce()) -> Flows {
    let mut running = Running::start(&["tls", "--format", "jsonl"]);
    running.wait_until_capturing();
    talk();
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let flows = flows(&finished.json(), port);
    assert!(!flows.is_empty(), "{}", finished.stderr);
    assert_same_at_both_ends(&flows);
    flows
}

/// Returns true if `needle` went from or to the server at `port`.
pub(crate) fn went(flows: &Flows, to_server: bool, port: u16, needle: &[u8]) -> bool {
    let end = format!(":{port}");
    flows
        .iter()
        .filter(|((_, receiver), _)| receiver.ends_with(&end) == to_server)
        .any(|(_, flow)| flow.read.windows(needle.len()).any(|part| part == needle))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

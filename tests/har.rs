//! HAR documents: beside JSON Lines, a validator and mitmproxy; and what is in the file when a run fails or is killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::replay::own_fixtures;
use crate::support::capture::{HELLO, Scene, curl};
use crate::support::exchanges::{assert_balanced, lost_events, recording};
use crate::support::program::{Finished, Running, ecapture, run};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The entries of a document.
fn entries(file: &Path) -> Vec<Value> {
    let text = fs::read(file).expect("the document");
    let document: Value =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(document["log"]["version"], "1.2");
    document["log"]["entries"].as_array().expect("entries").clone()
}

/// The document of a recording.
fn document(recording: &str, file: &Path, arguments: &[&str]) -> Finished {
    let target = format!("har:{}", file.display());
    let finished = run(&[&["replay", recording, "-o", &target], arguments].concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_balanced(&finished);
    finished
}

fn documents_of_fixtures(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let made = own_fixtures().into_iter().map(|case| {
        let name = case.file_name().expect("a name").to_str().expect("a plain name");
        let (file, events) = (folder.join(format!("{name}.har")), case.join("events.jsonl"));
        document(events.to_str().expect("a plain path"), &file, &["--fail-on-loss"]);
        (events, file)
    });
    made.collect()
}

/// Content of HAR, or the body of a JSON line.
fn bytes(content: &Value) -> Vec<u8> {
    let is_base64 = ["encoding", "_encoding"]
        .iter()
        .any(|member| content[member] == "base64");
    match (&content["text"], &content["base64"]) {
        (Value::String(text), _) if is_base64 => STANDARD.decode(text).expect("base64"),
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(coded)) => STANDARD.decode(coded).expect("base64"),
        _ => Vec::new(),
    }
}

fn is_response(line: &Value) -> bool {
    let kind = line["kind"].as_str().unwrap_or_default();
    let status = line["status"].as_u64().or_else(|| line[":status"].as_u64());
    kind.ends_with(".response") && status.is_none_or(|status| status == 101 || status >= 200)
}

#[test]
fn each_response_of_the_recordings_is_an_entry_with_its_body() {
    let folder = tempfile::tempdir().unwrap();
    for (events, file) in documents_of_fixtures(folder.path()) {
        let name = file.display();
        let lines = run(&["replay", events.to_str().unwrap(), "--whole", "--format", "jsonl"]).json();
        let is_grpc = events.to_str().unwrap().contains("grpc");
        let mut expected: BTreeMap<[u64; 4], Vec<u8>> = BTreeMap::new();
        for line in lines.iter().filter(|line| is_response(line)) {
            // Where the connection changed to HTTP/2 two responses may have come with one call.
            let members = ["connection", "exchange", "end_ns", "status"];
            let key = members.map(|member| line[member].as_u64().unwrap_or(0));
            expected.insert(key, bytes(&line["body"]));
        }
        let entries = entries(&file);
        let responses: Vec<_> = entries
            .iter()
            .filter(|entry| entry["response"]["status"] != 0)
            .collect();
        assert_eq!(responses.len(), expected.len(), "{name}");
        for entry in &responses {
            assert_sums(entry);
            let connection: u64 = entry["connection"].as_str().unwrap().parse().unwrap();
            let exchange = entry["_exchange"].as_u64().unwrap_or(0);
            let content = bytes(&entry["response"]["content"]);
            let mut same =
                expected.range([connection, exchange, 0, 0]..=[connection, exchange, u64::MAX, u64::MAX]);
            assert!(
                is_grpc || same.any(|(_, body)| *body == content),
                "{name}: the body of {entry} is another one"
            );
        }
    }
}

/// The time is the sum of its parts, and those that nobody saw are -1.
fn assert_sums(entry: &Value) {
    let timings = &entry["timings"];
    let sum: f64 = ["send", "wait", "receive"]
        .iter()
        .map(|part| timings[part].as_f64().expect("a number"))
        .sum();
    let time = entry["time"].as_f64().expect("a number");
    assert!((sum - time).abs() < 1e-6, "{entry}");
    for unseen in ["blocked", "dns", "connect", "ssl"] {
        assert_eq!(timings[unseen], -1, "{entry}");
    }
}

#[test]
fn a_validator_accepts_the_documents_of_all_recordings() {
    let modules = root().join("target/tmp/har/node_modules");
    if !modules.exists() {
        println!("SKIPPED: har-validator is not there; tests/run installs it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let files = documents_of_fixtures(folder.path())
        .into_iter()
        .map(|(_, file)| file);
    let validated = Command::new("node")
        .env("NODE_PATH", modules)
        .arg(root().join("tests/programs/har-validate.js"))
        .args(files)
        .output()
        .expect("node runs");
    assert!(
        validated.status.success(),
        "{}",
        String::from_utf8_lossy(&validated.stdout)
    );
}

/// What mitmproxy reads from a document; `None` where it is not installed.
fn read_by_mitmproxy(file: &Path) -> Option<Vec<String>> {
    let installed = root().join("target/tmp/mitmproxy");
    if !installed.exists() {
        println!("SKIPPED: mitmproxy is not there; tests/run installs it");
        return None;
    }
    let output = Command::new("python3")
        .env("PYTHONPATH", &installed)
        .arg(installed.join("bin/mitmdump"))
        .args(["-q", "-n", "-r"])
        .arg(file)
        .arg("-s")
        .arg(root().join("tests/programs/har-bodies.py"))
        .output()
        .expect("mitmdump runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(text.lines().map(ToOwned::to_owned).collect())
}

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// The entries of requests to this port that `side` saw, in their order.
fn of_side<'a>(entries: &'a [Value], port: &str, side: &str) -> Vec<&'a Value> {
    let is_ours = |entry: &&Value| {
        let url = entry["request"]["url"].as_str().unwrap_or_default();
        url.contains(&format!(":{port}/")) && entry["_side"] == side
    };
    entries.iter().filter(is_ours).collect()
}

/// curl and a server in Python, both captured: the document has their exchanges twice, with the bodies that went
/// over the wire.
#[test]
fn mitmproxy_reads_what_curl_and_a_server_exchanged() {
    let Some(scene) = Scene::python(&[]) else { return };
    let file = scene.folder.path().join("run.har");
    let target = format!("har:{}", file.display());
    let binary: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).collect();
    fs::write(scene.folder.path().join("data.bin"), &binary).unwrap();
    let finished = scene.capture(&["tls", "--no-redact", "-o", &target], || {
        curl(&[&scene.server.url("/hello.json?a=1&b=%C3%A9")]);
        curl(&["-b", "id=1; theme=dark", &scene.server.url("/data.bin")]);
        curl(&["-d", "user=me&word=a+b", &scene.server.url("/hello.json")]);
    });
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let url = scene.server.url("");
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap();
    let entries = entries(&file);
    for side in ["client", "server"] {
        let found = of_side(&entries, port, side);
        assert_eq!(found.len(), 3, "{side}: {entries:?}");
        for entry in &found {
            assert_sums(entry);
            assert_eq!(entry["_pairing"], "certain", "{entry}");
            assert_eq!(entry["serverIPAddress"], "127.0.0.1", "{entry}");
            assert_eq!(entry["_incomplete"], Value::Null, "{entry}");
        }
        let query = found[0]["request"]["queryString"].to_string();
        assert_eq!(query, r#"[{"name":"a","value":"1"},{"name":"b","value":"é"}]"#);
        assert_eq!(found[1]["request"]["cookies"][1]["value"], "dark");
        assert_eq!(bytes(&found[1]["response"]["content"]), binary);
        assert_eq!(found[2]["request"]["postData"]["params"][1]["value"], "a b");
    }
    let Some(flows) = read_by_mitmproxy(&file) else {
        return;
    };
    for (path, body) in [
        ("/hello.json?a=1&b=%C3%A9", HELLO.as_bytes()),
        ("/data.bin", &binary),
    ] {
        let start = format!("GET https://127.0.0.1:{port}{path} 200 {}", digest(b""));
        let end = format!(" {}", digest(body));
        let read = flows
            .iter()
            .filter(|flow| flow.starts_with(&start) && flow.ends_with(&end));
        assert_eq!(read.count(), 2, "{path}: {flows:?}");
    }
}

#[test]
fn the_file_of_a_killed_run_is_a_document() {
    let Some(scene) = Scene::python(&[]) else { return };
    let file = scene.folder.path().join("run.har");
    let target = format!("har:{}", file.display());
    let pid = scene.server.pid().to_string();
    let mut running = Running::start(&["tls", "--pid", &pid, "-o", &target]);
    running.wait_until_capturing();
    assert_eq!(entries(&file), [] as [Value; 0], "before the first entry");
    curl(&[&scene.server.url("/hello.json")]);
    running.wait_for_figures(|line| line.contains("written ") && !line.contains("written 0 "));
    running.signal(libc::SIGKILL);
    let finished = running.finish();
    assert_eq!(finished.code(), None);
    let responses: Vec<_> = entries(&file)
        .iter()
        .map(|entry| bytes(&entry["response"]["content"]))
        .collect();
    assert!(responses.contains(&HELLO.as_bytes().to_vec()), "{responses:?}");
}

/// After a write that fails in its middle the document ends with the entry before.
#[test]
fn a_full_disk_leaves_a_document() {
    let folder = tempfile::tempdir().unwrap();
    let recording = recording(folder.path());
    let whole = folder.path().join("whole.har");
    document(&recording, &whole, &[]);
    let all = entries(&whole);
    for policy in ["stop", "drop", "retry"] {
        let file = folder.path().join(policy);
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -S -f 16; exec \"$0\" \"$@\""]);
        let program = ecapture();
        command.arg(program.get_program()).args(program.get_args());
        command.args(["replay", &recording, "--on-sink-error", policy, "-o"]);
        command.arg(format!("har:{}", file.display()));
        let finished = Running::spawn(command).finish();
        assert_eq!(
            finished.code(),
            Some(i32::from(policy == "stop")),
            "{}",
            finished.stderr
        );
        assert!(finished.stderr.contains("File too large"), "{}", finished.stderr);
        let written = entries(&file);
        assert!(!written.is_empty() && written.len() < all.len(), "{policy}");
        assert_eq!(written, all[..written.len()], "{policy}");
        assert!(lost_events(&finished, "sink_error") > 0, "{}", finished.stderr);
    }
}

#[test]
fn rotated_files_are_documents_and_together_have_all_entries() {
    let folder = tempfile::tempdir().unwrap();
    let recording = recording(folder.path());
    let whole = folder.path().join("whole.har");
    document(&recording, &whole, &[]);
    let file = folder.path().join("part.har");
    let target = format!("har:{},rotate-size=20K", file.display());
    let finished = run(&["replay", &recording, "-o", &target]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let mut files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|found| found.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("part-2"))
        .collect();
    files.sort();
    assert!(files.len() > 2, "{files:?}");
    files.push(file);
    let parts: Vec<_> = files.iter().flat_map(|file| entries(file)).collect();
    assert_eq!(parts, entries(&whole));
    assert!(
        files
            .iter()
            .all(|file| fs::metadata(file).unwrap().len() <= 20 * 1024)
    );
}

#[test]
fn a_document_is_replaced_and_any_other_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let recording = recording(folder.path());
    let file = folder.path().join("run.har");
    document(&recording, &file, &[]);
    let first = entries(&file);
    document(&recording, &file, &[]);
    assert!(entries(&file) == first, "the same again, and not twice");
    for other in ["precious", "{\"log\"", "[1]"] {
        fs::write(&file, other).unwrap();
        let target = format!("har:{}", file.display());
        let finished = run(&["replay", &recording, "-o", &target]);
        assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
        assert!(
            finished.stderr.contains("not a HAR document"),
            "{}",
            finished.stderr
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), other);
    }
    for target in ["har", "har:-", "har:tcp://127.0.0.1:1"] {
        let finished = run(&["replay", &recording, "-o", target]);
        assert_eq!(finished.code(), Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains("regular file"), "{}", finished.stderr);
    }
    let finished = run(&["replay", &recording, "-o", "har:/dev/null"]);
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("regular file"), "{}", finished.stderr);
}

/// As Chromium writes them, in the order of their times, from the client's point of view on both sides.
#[test]
fn messages_of_web_sockets_are_in_the_entry_of_their_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    for case in ["websocket-plain", "websocket-deflate"] {
        let events = root().join("tests/fixtures").join(case).join("events.jsonl");
        let events = events.to_str().unwrap();
        let lines = run(&["replay", events, "--whole", "--format", "jsonl"]).json();
        let file = folder.path().join(case);
        document(events, &file, &[]);
        let mut found = 0;
        let mut by_connection: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
        for entry in entries(&file) {
            assert_eq!(entry["_resourceType"], "websocket");
            assert_eq!(entry["response"]["status"], 101);
            let of_connection = by_connection
                .entry(entry["connection"].as_str().unwrap().parse().unwrap())
                .or_default();
            // Messages that have no room go on in another entry.
            assert_eq!(entry["_continues"].is_null(), of_connection.is_empty(), "{entry}");
            of_connection.push(entry);
        }
        for (connection, entries) in by_connection {
            let of_lines: Vec<_> = lines
                .iter()
                .filter(|line| line["kind"] == "websocket.message" && line["connection"] == connection)
                .collect();
            let messages: Vec<_> = entries
                .iter()
                .flat_map(|entry| entry["_webSocketMessages"].as_array().expect("messages"))
                .collect();
            assert_eq!(messages.len(), of_lines.len(), "{entries:?}");
            found += messages.len();
            for (message, line) in messages.iter().zip(of_lines) {
                let is_from_client = (line["direction"] == "write") == (entries[0]["_side"] == "client");
                assert_eq!(message["type"], if is_from_client { "send" } else { "receive" });
                assert_eq!(message["opcode"], line["message"]["opcode"]);
                let data = message["data"].as_str().unwrap();
                match message["opcode"].as_u64() {
                    Some(1) => assert_eq!(message["data"], line["message"]["text"]),
                    Some(8) => {}
                    _ => assert_eq!(STANDARD.decode(data).unwrap(), bytes(&line["message"])),
                }
            }
            let times: Vec<_> = messages
                .iter()
                .map(|message| message["time"].as_f64().unwrap())
                .collect();
            assert!(times.is_sorted());
        }
        assert!(found >= 20, "{found}");
    }
}

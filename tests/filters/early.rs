//! What a filter decides before anything is decoded, and in the kernel.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::support::capture::{Scene, curl};
use crate::support::program::{Running, run};

/// What a message says, without when and in which connection of the run.
fn content(message: &Value) -> Value {
    let fields = [
        "kind", "comm", "pid", "method", "path", "status", "headers", "body", "pairing", "exchange",
    ];
    json!(fields.map(|field| &message[field]))
}

fn counted<'a>(messages: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for message in messages {
        *counts.entry(content(message).to_string()).or_default() += 1;
    }
    counts
}

/// Two captures of the same traffic: one hands over only the calls of the process that its filter names, the other
/// one everything, because it also records.
#[test]
fn what_the_kernel_leaves_out_is_not_missed() {
    let Some(scene) = Scene::nginx(&[]) else { return };
    let worker = scene.server.worker_pid();
    let filter =
        format!("proc.pid == {worker} && (http.response.code == 200 or http.request.uri contains \"none\")");
    let recording = scene.folder.path().join("all.jsonl").display().to_string();
    let recorded = format!("recording:{recording}");
    let mut beside = Running::start(&[
        "tls", "-d", "--whole", "-o", "jsonl", "-o", &recorded, "--filter", &filter,
    ]);
    beside.wait_until_capturing();
    let pushed = scene.capture(
        &["tls", "-d", "--whole", "--format", "jsonl", "--filter", &filter],
        || {
            for version in ["--http1.1", "--http2"] {
                let url = |path: &str| scene.server.url(path);
                curl(&[version, &url("/hello.json"), &url("/none"), &url("/page.txt")]);
                curl(&[version, "-d", "name=value", &url("/hello.json")]);
            }
        },
    );
    let beside = beside.interrupt();
    for finished in [&pushed, &beside] {
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    }
    let note = format!("pushed into the kernel: only process {worker},");
    assert!(pushed.stderr.contains(&note), "{}", pushed.stderr);
    assert!(
        !beside.stderr.contains("pushed into the kernel"),
        "{}",
        beside.stderr
    );
    let (one, other) = (pushed.json(), beside.json());
    assert!(one.len() > 10, "{}", one.len());
    assert_eq!(counted(&one), counted(&other));
    let all = fs::read_to_string(&recording).expect("a recording");
    let own = format!("\"pid\":{worker},");
    assert!(
        all.lines()
            .any(|line| line.contains("\"comm\":\"curl\"") && !line.contains(&own))
    );
}

#[test]
fn the_words_of_the_original_select_by_address_in_text_and_json() {
    let Some(scene) = Scene::nginx(&[]) else { return };
    let worker = scene.server.worker_pid().to_string();
    let port = scene.server.port.to_string();
    let start = |format, words: &[&str]| {
        let arguments = [&["tls", "-p", &worker, "--format", format, "tcp"], words].concat();
        let mut running = Running::start(&arguments);
        running.wait_until_capturing();
        running
    };
    let wanted = ["port", &port, "and", "host", "127.0.0.1"];
    let text = start("text", &wanted);
    let json = start("jsonl", &wanted);
    let other = start("jsonl", &["port", &port, "and", "not", "net", "127.0.0.0/8"]);
    curl(&["--http1.1", &scene.server.url("/hello.json")]);
    let [text, json, other] = [text, json, other].map(Running::interrupt);
    assert!(text.text().contains("GET /hello.json"), "{}", text.stderr);
    assert_eq!(json.json().len(), 2, "{}", json.stderr);
    assert_eq!(other.json(), [] as [Value; 0]);
    let not_decoded = "bytes of connections that no filter can select; they were not decoded";
    assert!(other.stderr.contains(not_decoded), "{}", other.stderr);
    let refused = run(&["tls", "tcp", "port", &port, "and", "len", "<", "100"]);
    assert_eq!(refused.code(), Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("--filter"), "{}", refused.stderr);
}

//! Thousands of connections a second, each with one request: descriptors and kernel sockets are used again
//! and again, and every request and response still has the addresses of its own connection.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::can_capture;
use crate::support::exchanges::assert_nothing_lost;
use crate::support::program::{PROGRAM, Running};
use crate::support::servers::Server;

/// Connections open at a time. That many requests may be unanswered when the load ends.
const AT_A_TIME: usize = 8;

/// A path of its own for each request.
const REQUESTS: &str = r#"
local count = 0
wrk.headers["Connection"] = "close"
function request()
  count = count + 1
  return wrk.format("GET", "/whoami/" .. count)
end
function done(summary)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("completed=%d microseconds=%d failed=%d\n", summary.requests, summary.duration, failed))
end
"#;

/// The client's report of its requests.
struct Load {
    completed: usize,
    per_second: f64,
}

impl Load {
    fn of(text: &str) -> Self {
        let figure = |name: &str| -> f64 {
            let (_, rest) = text
                .split_once(name)
                .unwrap_or_else(|| panic!("no {name}: {text}"));
            let digits = rest.split_whitespace().next().expect("a figure");
            digits.parse().expect("a number")
        };
        assert!(figure("failed=") < 1.0, "{text}");
        let (completed, microseconds) = (figure("completed="), figure("microseconds="));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of some thousands"
        )]
        Self {
            completed: completed as usize,
            per_second: completed * 1e6 / microseconds,
        }
    }
}

/// A capture of low priority, so that it does not slow the load down: events that it cannot keep up with wait
/// in the ring.
fn patient_capture() -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(PROGRAM);
    command.args(["tls", "--format", "jsonl", "--whole", "--mapsize", "4096"]);
    command
}

/// Captures the client while it makes as many connections as it can; returns the lines shown.
fn capture(server: &Server, folder: &Path) -> (Load, Vec<Value>) {
    let (script, output) = (folder.join("requests.lua"), folder.join("output"));
    fs::write(&script, REQUESTS).expect("a written file");
    let connections = AT_A_TIME.to_string();
    let mut command = patient_capture();
    command.arg("--eventaddr");
    command.arg(&output);
    command.args(["--", "nice", "-n", "-19"]);
    command.args(["wrk", "-t1", "-d2s", "-c", &connections, "-s"]);
    command.arg(&script).arg(server.url("/"));
    let finished = Running::spawn(command).finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    assert!(finished.stderr.contains("streams 0 open"), "{}", finished.stderr);
    let output = fs::read_to_string(&output).expect("the output");
    let messages = output
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"))
        .filter(|line| line["kind"] != "process" && line["kind"] != "audit");
    (Load::of(&finished.text()), messages.collect())
}

/// Like [`capture`], of the server. Its library may have read a request before anybody asked for it, so
/// that not even the kernel knows on which socket.
fn capture_server(server: &Server, folder: &Path) -> (Load, Vec<Value>) {
    let script = folder.join("requests.lua");
    fs::write(&script, REQUESTS).expect("a written file");
    let mut command = patient_capture();
    command.arg("--pid");
    command.arg(server.worker_pid().to_string());
    let mut running = Running::spawn(command);
    running.wait_until_capturing();
    let client = Command::new("wrk")
        .args(["-t1", "-d2s", "-c", &AT_A_TIME.to_string(), "-s"])
        .arg(&script)
        .arg(server.url("/"))
        .output()
        .expect("wrk runs");
    let load = Load::of(&String::from_utf8_lossy(&client.stdout));
    running.wait_for_figures(|line| seen(line) >= 2 * load.completed);
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    (load, finished.json())
}

/// The number of events in a line of the figures.
fn seen(line: &str) -> usize {
    let count = line
        .split_once("seen ")
        .and_then(|(_, rest)| rest.split_once(' '));
    count.map_or(0, |(count, _)| count.parse().expect("a count"))
}

#[test]
fn a_server_of_thousands_of_connections_a_second_shows_no_wrong_address() {
    let Some(_alone) = can_capture(&["wrk", "openssl", "nginx"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::nginx(folder.path());
    let (load, messages) = capture_server(&server, folder.path());
    let mut ports = BTreeMap::new();
    for message in messages
        .iter()
        .filter(|message| message["kind"] == "http1.response")
    {
        let text = message["body"]["text"].as_str().expect("a text");
        let (path, port) = text.split_once(' ').expect("the server's words");
        assert_eq!(
            shown(message, "dst", &server).client,
            format!("127.0.0.1:{port}"),
            "{message}"
        );
        assert!(ports.insert(path, port).is_none(), "answered once: {message}");
    }
    for message in messages
        .iter()
        .filter(|message| message["kind"] == "http1.request")
    {
        // wrk leaves before the last ones are answered.
        if let Some(port) = message["path"].as_str().and_then(|path| ports.get(path)) {
            assert_eq!(
                shown(message, "src", &server).client,
                format!("127.0.0.1:{port}"),
                "{message}"
            );
        }
    }
    assert!(ports.len() >= load.completed);
    println!(
        "{} connections, {:.0} a second, none without addresses",
        load.completed, load.per_second
    );
}

/// A request or response as it was shown.
struct Shown<'a> {
    message: &'a Value,
    client: &'a str,
}

/// The message, if the addresses in it agree with each other.
fn shown<'a>(message: &'a Value, client_side: &str, server: &Server) -> Shown<'a> {
    let client = message[client_side].as_str();
    let client = client.unwrap_or_else(|| panic!("no addresses: {message}"));
    let tuple = format!("_{client}-127.0.0.1:{}_", server.port);
    assert!(
        message["uuid"].as_str().is_some_and(|uuid| uuid.contains(&tuple)),
        "{message}"
    );
    Shown { message, client }
}

/// The number in the path of a request.
fn number(path: &str) -> usize {
    let number = path.strip_prefix("/whoami/");
    number
        .and_then(|number| number.parse().ok())
        .expect("a path of the load")
}

#[test]
fn thousands_of_connections_a_second_keep_their_own_addresses() {
    let Some(_alone) = can_capture(&["wrk", "openssl", "nginx"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::nginx(folder.path());
    let (load, messages) = capture(&server, folder.path());
    println!("{} connections, {:.0} a second", load.completed, load.per_second);
    let mut requests = BTreeMap::new();
    for message in messages
        .iter()
        .filter(|message| message["kind"] == "http1.request")
    {
        let shown = shown(message, "src", &server);
        let number = number(message["path"].as_str().expect("a path"));
        assert!(requests.insert(number, shown).is_none(), "asked once: {message}");
    }
    let mut answered = 0;
    for message in messages
        .iter()
        .filter(|message| message["kind"] == "http1.response")
    {
        let shown = shown(message, "dst", &server);
        let (path, port) = message["body"]["text"]
            .as_str()
            .and_then(|text| text.split_once(' '))
            .unwrap_or_else(|| panic!("the server's words: {message}"));
        assert_eq!(shown.client, format!("127.0.0.1:{port}"), "{message}");
        let request = requests
            .get(&number(path))
            .unwrap_or_else(|| panic!("never asked: {message}"));
        assert_eq!(request.client, shown.client, "{} {message}", request.message);
        answered += 1;
    }
    assert_eq!(
        requests.len() + answered,
        messages.len(),
        "nothing else was captured"
    );
    assert!(answered >= load.completed && requests.len() <= answered + AT_A_TIME);
    let (first, last) = (requests.keys().next(), requests.keys().next_back());
    let span = last.expect("requests") - first.expect("requests") + 1;
    assert_eq!(requests.len(), span, "none is missing in between");
    let descriptors: BTreeSet<u64> = messages
        .iter()
        .filter_map(|message| message["fd"].as_u64())
        .collect();
    assert!(
        descriptors.len() <= 2 * AT_A_TIME,
        "they are reused: {descriptors:?}"
    );
}

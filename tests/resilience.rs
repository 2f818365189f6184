//! Failures around and inside of a run, and the run's report of them: failures on purpose
//! over a replay, collectors that go away, readers that stall, processes that are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::can_capture;
use crate::support::detached::wait_until_detached;
use crate::support::exchanges::{
    EVENTS, assert_balanced, assert_nothing_lost, lost_events, recording, replay,
};
use crate::support::program::{Finished, Running, ecapture, run};
use crate::support::servers::Server;

/// `--max-memory` of the test with a stopped reader.
const LIMIT_MIB: u64 = 32;
/// Clients with short connections, and how many each opens.
const CLIENTS: usize = 3;
const EACH: usize = 500;

fn by_stream(messages: &[Value]) -> BTreeMap<String, Vec<&Value>> {
    let mut streams: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for message in messages {
        streams
            .entry(message["uuid"].to_string())
            .or_default()
            .push(message);
    }
    streams
}

fn is_message(line: &Value) -> bool {
    line["kind"]
        .as_str()
        .is_some_and(|kind| kind.starts_with("http1."))
}

/// After a failure it is not certain which requests the responses answer.
fn without_exchange(mut line: Value) -> Value {
    let fields = ["exchange", "pairing", "first_byte_ns", "total_ns", "request"];
    if let Some(line) = line.as_object_mut() {
        line.retain(|name, _| !fields.contains(&&**name));
    }
    line
}

#[test]
#[expect(clippy::too_many_lines, reason = "one course of events, in order")]
fn a_decoder_that_fails_costs_its_message_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let plain = replay(&file, &["--fail-on-loss"]);
    assert_eq!(plain.code(), Some(0), "{}", plain.stderr);
    let all: Vec<Value> = plain.json().into_iter().map(without_exchange).collect();
    assert_eq!(all.len() as u64, EVENTS);

    let failures = EVENTS / 50;
    let injected = replay(&file, &["--inject", "worker-panic:every=50"]);
    assert_eq!(injected.code(), Some(0), "{}", injected.stderr);
    let lines = injected.json();
    let lines = lines.into_iter().filter(|line| line["kind"] != "exchange");
    let (messages, marks): (Vec<Value>, Vec<Value>) = lines.map(without_exchange).partition(is_message);
    assert_eq!(messages.len() as u64, EVENTS - failures);
    // What is left is what a run without failures shows, in the same order within each stream: only an answer
    // whose request was lost may come later than others.
    let mut expected = by_stream(&all);
    for (stream, messages) in by_stream(&messages) {
        let mut rest = expected
            .remove(&stream)
            .expect("a stream of the plain run")
            .into_iter();
        for message in messages {
            assert!(
                rest.any(|other| other == message),
                "changed or out of place: {message}"
            );
        }
    }
    let gaps = marks.iter().filter(|mark| mark["kind"] == "gap").count();
    assert_eq!(
        gaps as u64, failures,
        "every loss is marked in its place: {marks:?}"
    );
    assert_eq!(gaps, marks.len());
    assert_eq!(lost_events(&injected, "worker_failed"), failures);
    let told = |finished: &Finished| -> Vec<String> {
        let lines = finished.stderr.lines();
        let told = lines.filter_map(|line| Some(line.split_once("lost from ")?.1.to_owned()));
        told.collect()
    };
    let worst = told(&injected);
    assert_eq!(
        worst.len(),
        11,
        "ten connections and the sum of the others: {worst:?}"
    );
    assert!(
        worst[0].starts_with("1_1_client_")
            && worst[0].contains("-10.0.0.2:443: worker worker_failed: 1 events, ")
    );
    assert!(
        worst[10].starts_with(&format!("other connections: {} events", failures - 10)),
        "{worst:?}"
    );
    let all = told(&replay(&file, &["--inject", "worker-panic:every=50", "-d"]));
    assert_eq!(
        all.len() as u64,
        failures,
        "with -d every connection is named: {all:?}"
    );
    let panics = injected
        .stderr
        .lines()
        .filter(|line| line.contains("injected failure"));
    assert_eq!(panics.count() as u64, failures, "one line per failure");
    assert!(!injected.stderr.contains("backtrace"), "{}", injected.stderr);
    assert!(!injected.stderr.contains("stack"), "{}", injected.stderr);

    let strict = replay(&file, &["--inject", "worker-panic:every=50", "--fail-on-loss"]);
    assert_eq!(strict.code(), Some(3), "{}", strict.stderr);
    assert_eq!(
        strict.stdout, injected.stdout,
        "the same events fail in every run"
    );
}

#[test]
fn too_many_failures_end_the_run_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let finished = replay(&file, &["--inject", "worker-panic:every=3"]);
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("workers failed within"),
        "{}",
        finished.stderr
    );
}

#[test]
fn dropped_events_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let finished = replay(&file, &["--inject", "drop-event:every=100", "--fail-on-loss"]);
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    assert_eq!(lost_events(&finished, "injected"), EVENTS / 100);
}

#[test]
fn slow_ends_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let plain = replay(&file, &[]);
    for failure in ["slow-sink:5", "reader-stall:5"] {
        let finished = replay(&file, &["--inject", failure, "--fail-on-loss"]);
        assert_eq!(finished.code(), Some(0), "{failure}: {}", finished.stderr);
        assert_eq!(finished.stdout, plain.stdout, "{failure}");
    }
}

#[test]
fn failures_that_do_not_exist_are_usage_errors() {
    for value in ["worker-panic", "sink-error:5", "slow-sink:every=1", "nonsense:1"] {
        let finished = run(&["replay", "/nonexistent", "--inject", value]);
        assert_eq!(finished.code(), Some(2), "{value}: {}", finished.stderr);
        assert!(finished.stderr.contains(value), "{}", finished.stderr);
    }
    let help = run(&["replay", "--help"]).text();
    assert!(
        help.contains("worker-panic:every=N") && help.contains("resilience"),
        "{help}"
    );
}

#[test]
fn connections_beyond_the_limit_are_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let finished = replay(&file, &["--max-workers", "20", "--fail-on-loss"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let marks = finished
        .json()
        .iter()
        .filter(|line| line["kind"] == "gap")
        .count();
    assert!(marks > 0, "a connection that comes back begins with a mark");
    let messages = finished.json().iter().filter(|line| is_message(line)).count();
    assert_eq!(
        messages as u64, EVENTS,
        "each is whole: none was let go in mid-message"
    );
}

#[test]
fn the_figures_are_told_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let mut running = Running::start(&["replay", &file, "-d", "--inject", "reader-stall:1000"]);
    running.wait_for("replaying");
    running.signal(libc::SIGUSR1);
    running.wait_for("seen ");
    running.signal(libc::SIGINT);
    let finished = running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_balanced(&finished);

    let mut running = Running::start(&["replay", &file, "--stats", "1", "--inject", "reader-stall:1000"]);
    running.wait_for("seen ");
    running.wait_for("seen ");
    running.signal(libc::SIGTERM);
    assert_balanced(&running.finish());
}

/// Reads `count` lines of one connection, then closes it.
fn collect(listener: &TcpListener, count: usize) -> Vec<String> {
    let (stream, _) = listener.accept().expect("a connection");
    BufReader::new(stream)
        .lines()
        .take(count)
        .map(|line| line.expect("a line"))
        .collect()
}

#[test]
fn a_collector_that_comes_back_gets_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.txt"), "a\n").unwrap();
    let Some(_alone) = can_capture(&["curl", "openssl", "/usr/bin/python3"]) else {
        return;
    };
    let server = Server::python(folder.path());
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut running = Running::start(&[
        "tls",
        "--pid",
        &server.pid().to_string(),
        "--format",
        "jsonl",
        "--on-sink-error",
        "retry",
        "--eventaddr",
        &format!("tcp://{address}"),
    ]);
    running.wait_until_capturing();
    let mut lines = Vec::new();
    // The collector goes away after each exchange, when it has read all there is.
    for number in 0..3 {
        get(&server, &format!("/a.txt?{number}"));
        lines.extend(collect(&listener, 2));
    }
    drop(listener);
    // Nobody is there: the records that come now are kept.
    get(&server, "/a.txt?3");
    running.wait_for("trying again");
    get(&server, "/a.txt?4");
    let listener = TcpListener::bind(address).unwrap();
    lines.extend(collect(&listener, 4));
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("nothing was lost"),
        "{}",
        finished.stderr
    );
    assert_balanced(&finished);
    let messages: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let paths: Vec<&str> = messages
        .iter()
        .filter_map(|message| message["path"].as_str())
        .collect();
    assert_eq!(
        paths,
        ["/a.txt?0", "/a.txt?1", "/a.txt?2", "/a.txt?3", "/a.txt?4"]
    );
    assert_eq!(messages.len(), 10);
}

fn get(server: &Server, path: &str) {
    let status = Command::new("curl")
        .args(["-sk", "--http1.1", "-o", "/dev/null", &server.url(path)])
        .status()
        .expect("curl runs");
    assert!(status.success());
}

#[test]
fn a_process_killed_in_mid_message_ends_its_streams() {
    let Some(_alone) = can_capture(&["curl", "openssl", "/usr/bin/python3"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("large.bin"), vec![b'x'; 32 * 1024 * 1024]).unwrap();
    let server = Server::python(folder.path());
    let mut client = Command::new("sh")
        .args([
            "-c",
            "read line; exec curl -sk --limit-rate 1M \"$0\"",
            &server.url("/large.bin"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The client maps its library only when it begins: that is a race with the probes.
    wait_until_detached();
    let mut command = ecapture();
    command.args(["tls", "--pid", &client.id().to_string()]);
    let output = folder.path().join("output");
    command.args(["--eventaddr", output.to_str().unwrap()]);
    let mut running = Running::spawn(command);
    running.wait_until_capturing();
    client.stdin.take().unwrap().write_all(b"\n").unwrap();
    client
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0; 4096])
        .unwrap();
    // SIGKILL.
    client.kill().unwrap();
    client.wait().unwrap();
    running.wait_for_figures(|line| line.contains("streams 0 open"));
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_balanced(&finished);
    let text = String::from_utf8_lossy(&fs::read(&output).unwrap()).into_owned();
    assert!(text.contains("GET /large.bin HTTP/1.1\r\n"));
    assert!(
        text.contains("[ecapture: body incomplete"),
        "the response is marked as incomplete"
    );
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("a figure");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number")
}

fn send_signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).expect("a process id");
    // SAFETY: kill takes plain numbers; the child is not yet waited for, so the id is its own.
    #[expect(unsafe_code, reason = "no safe wrapper among the test's dependencies")]
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one course of events, in order")]
fn a_stopped_reader_costs_named_losses_within_the_memory_limit() {
    let Some(_alone) = can_capture(&["curl", "openssl", "nginx"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("large.txt"),
        "0123456789abcdef".repeat(64 * 1024),
    )
    .unwrap();
    fs::write(folder.path().join("marker.txt"), "marker\n").unwrap();
    let server = Server::nginx(folder.path());
    let output = folder.path().join("output");
    let mut reader = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(fs::File::create(&output).unwrap())
        .spawn()
        .unwrap();
    let mut command = ecapture();
    let limit = LIMIT_MIB.to_string();
    command.args([
        "tls",
        "--pid",
        &server.worker_pid().to_string(),
        "--max-memory",
        &limit,
        "--mapsize",
        "64",
    ]);
    let mut running = Running::spawn_into(command, reader.stdin.take().unwrap());
    running.wait_until_capturing();
    let before_kib = resident_kib(running.pid());
    send_signal(&reader, libc::SIGSTOP);
    let stopped = std::time::SystemTime::now();
    let full = |running: &mut Running| {
        running.signal(libc::SIGUSR1);
        let lines = running.wait_for_lines("seen ", "lost");
        lines.iter().any(|line| line.contains("kernel ring_full"))
    };
    while !full(&mut running) {
        get(&server, "/large.txt");
        assert!(
            stopped.elapsed().unwrap_or_default() < 2 * crate::support::program::PATIENCE,
            "the ring never filled"
        );
    }
    let during_kib = resident_kib(running.pid());
    send_signal(&reader, libc::SIGCONT);
    // The capture continues: new requests are shown.
    let started = std::time::SystemTime::now();
    loop {
        get(&server, "/marker.txt");
        if String::from_utf8_lossy(&fs::read(&output).unwrap()).contains("GET /marker.txt") {
            break;
        }
        assert!(started.elapsed().unwrap_or_default() < crate::support::program::PATIENCE);
    }
    let finished = running.interrupt();
    reader.wait().unwrap();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_balanced(&finished);
    assert!(lost_events(&finished, "ring_full") > 0);
    let grown = during_kib.saturating_sub(before_kib);
    println!("memory: {before_kib} KiB before, {grown} KiB more while the reader was stopped");
    assert!(grown < LIMIT_MIB * 1024, "{grown} KiB more than before");
}

#[test]
fn short_connections_on_reused_descriptors_are_told_apart() {
    let Some(_alone) = can_capture(&["curl", "openssl", "nginx"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::nginx(folder.path());
    // Each client is one process that opens a connection per request, on the same descriptor.
    let client = |number| {
        let url = server.url(&format!("/echo/{number}/[1-{EACH}]"));
        format!("curl -sk --http1.1 -H 'Connection: close' -o /dev/null '{url}' & ")
    };
    let script = (0..CLIENTS)
        .map(client)
        .chain(["wait".into()])
        .collect::<String>();
    let started = std::time::SystemTime::now();
    let finished = run(&[
        "tls",
        "--format",
        "jsonl",
        "--mapsize",
        "4096",
        "--",
        "sh",
        "-c",
        &script,
    ]);
    let seconds = started.elapsed().unwrap_or_default().as_secs_f64();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    assert!(finished.stderr.contains("streams 0 open"), "{}", finished.stderr);
    let mut messages = finished.json();
    messages.sort_by_key(|message| message["ts_ns"].as_u64());
    // A port may be used again by a later connection, so each answer belongs to the request just before it.
    let mut open = BTreeMap::new();
    let (mut asked, mut answered) = (BTreeSet::new(), 0);
    for message in &messages {
        let (request, side) = match message["kind"].as_str() {
            Some("http1.request") => (true, "src"),
            Some("http1.response") => (false, "dst"),
            other => panic!("{other:?}: {message}"),
        };
        let connection = (message["pid"].to_string(), message[side].to_string());
        if request {
            assert!(asked.insert(message["path"].to_string()), "{message}");
            let before = open.insert(connection, &message["path"]);
            assert!(before.is_none(), "one request per connection: {message}");
        } else {
            assert_eq!(
                Some(&message["body"]["text"]),
                open.remove(&connection),
                "{message}"
            );
            answered += 1;
        }
    }
    assert_eq!((asked.len(), answered), (CLIENTS * EACH, CLIENTS * EACH));
    let descriptors: BTreeSet<u64> = messages
        .iter()
        .filter_map(|message| message["fd"].as_u64())
        .collect();
    assert!(descriptors.len() < EACH, "they are reused: {descriptors:?}");
    println!("{} connections in {seconds:.1} s", CLIENTS * EACH);
}

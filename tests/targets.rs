//! Targets of outputs and logs, with other programs at their other ends.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ecapture_protocols::format::protobuf::{LogEntry, Payload};
use prost::Message as _;
use serde_json::Value;

use crate::support::exchanges::{EVENTS, assert_balanced, assert_nothing_lost, recording, replay};
use crate::support::on_path;
use crate::support::program::{Finished, PATIENCE, Running, ecapture, run};
use crate::support::servers::{Certificate, free_port};

/// `tests/peers/websocket_server.py`.
struct Server {
    child: Child,
    commands: ChildStdin,
    /// Read at once, so that it never waits.
    said: Receiver<String>,
    port: u16,
}

impl Server {
    fn start(certificate: Option<&Certificate>) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", include_str!("peers/websocket_server.py")]);
        if let Some(Certificate { key, certificate }) = certificate {
            command.arg(key).arg(certificate);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Self {
            commands: child.stdin.take().expect("a pipe"),
            said,
            child,
            port: 0,
        };
        let port = server.next()["listening"].as_u64();
        server.port = port.and_then(|port| port.try_into().ok()).expect("a port");
        server
    }

    /// The next line that it prints.
    fn next(&self) -> Value {
        let line = self
            .said
            .recv_timeout(PATIENCE)
            .expect("a line; is python3-websockets installed?");
        serde_json::from_str(&line).expect("a JSON line")
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("it reads");
    }

    /// The events of one connection: how it began, its messages, and how it ended.
    fn connection(&self) -> (Value, Vec<Value>, Value) {
        let beginning = self.next();
        assert!(beginning["connected"].is_string(), "{beginning}");
        let mut messages = Vec::new();
        loop {
            let said = self.next();
            if said.get("closed").is_some() {
                return (beginning, messages, said);
            }
            messages.push(said);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn texts(messages: &[Value]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message["text"].as_str().expect("a text message"))
        .collect()
}

fn decoded(base64: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(base64).expect("base64")
}

#[test]
fn a_websocket_server_gets_each_record_of_text_in_base64_as_from_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let expected = run(&["replay", &file]).stdout;
    let server = Server::start(None);
    let target = format!("ws://127.0.0.1:{}/events?a=b", server.port);
    let finished = run(&["replay", &file, "--eventaddr", &target]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    let (beginning, messages, end) = server.connection();
    assert_eq!(beginning["connected"], "/events?a=b");
    assert_eq!(beginning["origin"], "http://localhost");
    assert_eq!(end["closed"], 1000);
    let records: Vec<_> = texts(&messages).into_iter().map(decoded).collect();
    assert_eq!(records.len() as u64, EVENTS);
    assert!(records.concat() == expected);
}

#[test]
fn json_and_recordings_are_a_line_in_each_message() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let server = Server::start(None);
    let target = format!("ws://127.0.0.1:{}", server.port);
    for (output, expected) in [
        ("jsonl", String::from_utf8(replay(&file, &[]).stdout).unwrap()),
        ("recording", fs::read_to_string(&file).unwrap()),
    ] {
        let finished = run(&["replay", &file, "-o", &format!("{output}:{target}")]);
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        let (_, messages, _) = server.connection();
        let texts = texts(&messages);
        assert!(texts.iter().all(|text| !text.contains('\n')));
        assert!(texts == expected.lines().collect::<Vec<_>>(), "{output}");
    }
}

#[test]
fn protobuf_is_an_entry_in_each_message() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let expected = run(&["replay", &file]).stdout;
    let server = Server::start(None);
    let target = format!("protobuf:ws://127.0.0.1:{}", server.port);
    let finished = run(&["replay", &file, "-o", &target]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let (_, messages, _) = server.connection();
    assert_eq!(messages.len() as u64, EVENTS);
    let expected = String::from_utf8(expected).unwrap();
    for message in &messages {
        let entry = decoded(message["binary"].as_str().expect("a binary message"));
        let entry = LogEntry::decode(&entry[..]).expect("an entry");
        let Some(Payload::EventPayload(event)) = entry.payload else {
            panic!("an event: {entry:?}")
        };
        assert!(expected.contains(&*String::from_utf8_lossy(&event.payload)));
    }
}

#[test]
fn wss_trusts_a_certificate_that_was_named_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let expected = run(&["replay", &file]).stdout;
    let [own, other] = ["own", "other"].map(|name| folder.path().join(name));
    fs::create_dir(&own).unwrap();
    fs::create_dir(&other).unwrap();
    let certificate = Certificate::create(&own);
    let server = Server::start(Some(&certificate));
    let to = |host: &str, trusted: &Path| {
        let mut command = ecapture();
        let target = format!("wss://{host}:{}/", server.port);
        command.args(["replay", &file, "--eventaddr", &target]);
        command.env("SSL_CERT_FILE", trusted);
        Running::spawn(command).finish()
    };
    let stranger = to("127.0.0.1", &Certificate::create(&other).certificate);
    let misnamed = to("localhost", &certificate.certificate);
    for refused in [stranger, misnamed] {
        assert_eq!(refused.code(), Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains("certificate"), "{}", refused.stderr);
        assert!(refused.stderr.contains("SSL_CERT_FILE"), "{}", refused.stderr);
    }
    let finished = to("127.0.0.1", &certificate.certificate);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    let (_, messages, end) = server.connection();
    assert_eq!(end["closed"], 1000);
    let records: Vec<_> = texts(&messages).into_iter().map(decoded).collect();
    assert!(records.concat() == expected);
}

/// A run that reads from a named pipe, and lasts as long as its other end is open.
struct Piped {
    running: Running,
    events: File,
}

impl Piped {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let fifo = folder.join("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
        assert!(made.success());
        let mut command = ecapture();
        command.arg("replay").arg(&fifo).args(arguments);
        let running = Running::spawn(command);
        let mut events = File::options().write(true).open(&fifo).expect("a reader");
        events
            .write_all(b"{\"ecapture_recording\":1}\n")
            .expect("a reader");
        Self { running, events }
    }

    /// One event makes one message; it is written when the next one begins a round.
    fn event(&mut self, number: u32) {
        let event = format!(
            "{{\"ts\":{},\"dir\":\"write\",\"pid\":{number},\"comm\":\"c\",\"session\":\"1\",\"text\":\"GET /{number} HTTP/1.1\\r\\n\\r\\n\"}}\n",
            u64::from(number) * 1_000_000_000
        );
        self.events.write_all(event.as_bytes()).expect("a reader");
    }

    fn finish(self) -> Finished {
        drop(self.events);
        self.running.finish()
    }
}

#[test]
fn an_idle_connection_answers_pings_and_notices_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(None);
    let target = format!("jsonl:ws://127.0.0.1:{},on-error=retry", server.port);
    let mut piped = Piped::start(folder.path(), &["-o", &target]);
    assert!(server.next()["connected"].is_string());
    server.tell("ping");
    assert_eq!(server.next()["pong"], true);
    server.tell("close 1001");
    piped.running.wait_for("closed the connection with code 1001");
    // It connects again, before or after the server has seen the end of the first connection.
    let said = [server.next(), server.next()];
    assert!(said.iter().any(|said| said["closed"] == 1001), "{said:?}");
    assert!(said.iter().any(|said| said["connected"].is_string()), "{said:?}");
    piped.event(1);
    let finished = piped.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let text = server.next();
    assert!(
        text["text"].as_str().is_some_and(|text| text.contains("GET /1")),
        "{text}"
    );
    // Nothing answered it.
    let orphan = server.next();
    assert!(
        orphan["text"]
            .as_str()
            .is_some_and(|text| text.contains("no_response")),
        "{orphan}"
    );
    assert_eq!(server.next()["closed"], 1000);
}

#[test]
fn a_server_that_ends_the_connection_ends_a_run_that_is_to_stop_at_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(None);
    let target = format!("ws://127.0.0.1:{}", server.port);
    let piped = Piped::start(folder.path(), &["--eventaddr", &target]);
    server.next();
    server.tell("close 1011");
    let finished = piped.running.finish();
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("code 1011"), "{}", finished.stderr);
}

/// The server takes at most 100,000 bytes: what it refuses is counted, and what follows is written.
#[test]
fn a_message_that_is_too_big_for_the_server_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(None);
    let target = format!("jsonl:ws://127.0.0.1:{},on-error=retry", server.port);
    let mut piped = Piped::start(folder.path(), &["-o", &target, "--fail-on-loss"]);
    server.next();
    let body = "x".repeat(200_000);
    let event = format!(
        "{{\"ts\":1,\"dir\":\"write\",\"pid\":9,\"comm\":\"c\",\"session\":\"1\",\"text\":\"POST / HTTP/1.1\\r\\nContent-Length: {}\\r\\n\\r\\n{body}\"}}\n",
        body.len()
    );
    piped.events.write_all(event.as_bytes()).unwrap();
    piped.event(2);
    let finished = piped.finish();
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    assert_balanced(&finished);
    assert!(
        !finished.stderr.contains("nothing was lost"),
        "{}",
        finished.stderr
    );
}

#[test]
fn log_lines_are_messages_in_base64_as_from_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let server = Server::start(None);
    let target = format!("ws://127.0.0.1:{}/log", server.port);
    let finished = run(&["replay", &file, "--logaddr", &target]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let (beginning, messages, _) = server.connection();
    assert_eq!(beginning["connected"], "/log");
    let lines: Vec<Value> = texts(&messages)
        .into_iter()
        .map(|text| serde_json::from_slice(&decoded(text)).expect("a JSON line"))
        .collect();
    let told = |line: &Value| line["fields"]["message"] == "nothing was lost";
    assert!(lines.iter().any(told), "{lines:?}");
}

#[test]
fn a_missing_collector_is_an_error_in_one_line_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let port = free_port();
    let absent = folder.path().join("absent");
    for (target, way_out) in [
        (format!("tcp://127.0.0.1:{port}"), "start the collector first"),
        (format!("ws://127.0.0.1:{port}/"), "start the server first"),
        (format!("wss://127.0.0.1:{port}/"), "start the server first"),
        (
            format!("unix://{}", absent.display()),
            "start the collector first",
        ),
    ] {
        for flag in ["--eventaddr", "--logaddr"] {
            let finished = run(&["replay", &file, flag, &target]);
            assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
            assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
            for part in [flag, &target, way_out] {
                assert!(finished.stderr.contains(part), "{part}: {}", finished.stderr);
            }
        }
    }
}

#[test]
fn an_http_server_is_recognized() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("ws://{}/nothing", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let _request = connection.read(&mut [0; 4096]).unwrap();
        connection
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    });
    let finished = run(&["replay", &file, "--eventaddr", &target]);
    server.join().unwrap();
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("HTTP status 404"), "{}", finished.stderr);
}

/// socat as the collector: it listens, and writes what it gets into a file.
fn through_socat(address: &str, target: &str, folder: &Path) {
    let file = recording(folder);
    let expected = replay(&file, &[]).stdout;
    let got = folder.join("got");
    let mut socat = Command::new("socat")
        .args(["-d", "-d", "-u", address])
        .arg(format!("OPEN:{},creat,append", got.display()))
        .stderr(Stdio::piped())
        .spawn()
        .expect("socat starts");
    let mut log = BufReader::new(socat.stderr.take().expect("a pipe")).lines();
    log.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening on")))
        .expect("it listens")
        .expect("a line");
    let output = format!("jsonl:{target}");
    let finished = run(&["replay", &file, "-o", &output]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    drop(log);
    assert!(socat.wait().expect("it ends with its connection").success());
    assert!(fs::read(&got).expect("what it wrote") == expected);
}

#[test]
fn socat_gets_every_byte_on_a_unix_socket_and_on_tcp() {
    if !on_path("socat") {
        println!("SKIPPED: socat is not installed; `tests/run` installs it");
        assert!(std::env::var_os("ECAPTURE_REQUIRE_PRIVILEGED").is_none());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("collector.sock").display().to_string();
    through_socat(
        &format!("UNIX-LISTEN:{socket}"),
        &format!("unix://{socket}"),
        folder.path(),
    );
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let address = format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr");
    through_socat(&address, &format!("tcp://127.0.0.1:{port}"), folder.path());
}

/// As for TCP: the half-written record is written again, and what was not read is reported.
#[test]
fn a_unix_collector_that_dies_and_comes_back_gets_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let socket = folder.path().join("collector.sock");
    let target = format!("jsonl:unix://{},on-error=retry", socket.display());
    let listener = UnixListener::bind(&socket).unwrap();
    let mut running = Running::start(&[
        "replay",
        &file,
        "-o",
        &target,
        "--fail-on-loss",
        "--inject",
        "reader-stall:200",
    ]);
    let (mut first, _) = listener.accept().unwrap();
    first.read_exact(&mut [0; 100]).unwrap();
    drop(first);
    running.wait_for("trying again");
    let (second, _) = listener.accept().unwrap();
    let lines: Vec<String> = BufReader::new(second).lines().map(Result::unwrap).collect();
    let finished = running.finish();
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    assert_balanced(&finished);
    assert!(
        finished.stderr.contains("may be lost: up to "),
        "{}",
        finished.stderr
    );
    assert!((lines.len() as u64) < EVENTS, "some went to the first one");
    for line in &lines {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "torn: {line}");
    }
}

//! The eCaptureQ server, with clients that shake hands as the desktop client does.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ecapture_protocols::format::protobuf::{Event, Heartbeat, LogEntry, LogType, Payload};
use prost::Message as _;
use serde_json::Value;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::{HeaderValue, StatusCode};
use tungstenite::{Error, Message, WebSocket};

use crate::support::capture::{Scene, with_port};
use crate::support::program::{Finished, PATIENCE, Running, ecapture};
use crate::support::servers::free_port;

/// The origin that the desktop client sends.
const OWN_ORIGIN: &str = "http://localhost/";

struct Client {
    socket: WebSocket<TcpStream>,
}

impl Client {
    fn connect(port: u16, origin: Option<&'static str>) -> Self {
        Self::try_connect(port, origin).expect("a connection")
    }

    /// An error holds the server's refusal.
    fn try_connect(port: u16, origin: Option<&'static str>) -> Result<Self, StatusCode> {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut request = format!("ws://127.0.0.1:{port}/")
            .into_client_request()
            .expect("a request");
        if let Some(origin) = origin {
            let headers = request.headers_mut();
            headers.insert("Origin", HeaderValue::from_static(origin));
        }
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status()),
            Err(other) => panic!("no handshake: {other:?}"),
        }
    }

    /// The next entry; `None` when the server has closed the connection.
    fn entry(&mut self) -> Option<LogEntry> {
        match self.socket.read() {
            Ok(Message::Binary(bytes)) => Some(LogEntry::decode(bytes).expect("an entry")),
            Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => None,
            other => panic!("neither an entry nor the end: {other:?}"),
        }
    }

    fn heartbeat(&mut self) -> (Vec<String>, Heartbeat) {
        let mut log = Vec::new();
        loop {
            match self.entry().expect("a heartbeat").payload {
                Some(Payload::HeartbeatPayload(heartbeat)) => return (log, heartbeat),
                Some(Payload::RunLog(line)) => log.push(line),
                other => panic!("neither a log line nor a heartbeat: {other:?}"),
            }
        }
    }

    /// All events and log lines up to the end.
    fn rest(&mut self) -> (Vec<Event>, Vec<String>) {
        let (mut events, mut log) = (Vec::new(), Vec::new());
        while let Some(entry) = self.entry() {
            match (entry.log_type(), entry.payload) {
                (LogType::Event, Some(Payload::EventPayload(event))) => events.push(event),
                (LogType::ProcessLog, Some(Payload::RunLog(line))) => log.push(line),
                (LogType::Heartbeat, _) => {}
                (kind, payload) => panic!("{kind:?}: {payload:?}"),
            }
        }
        (events, log)
    }
}

/// A replay of events that are written into a pipe, so that clients are there before the first one.
struct Fed {
    running: Running,
    events: File,
    port: u16,
    /// Milliseconds since the first record.
    now: u64,
}

impl Fed {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let pipe = folder.join("events");
        let made = Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo runs").success());
        let port = free_port();
        let mut command = ecapture();
        command
            .args(["replay", pipe.to_str().expect("a path")])
            .args(["--ecaptureq", &format!("ws://127.0.0.1:{port}/")])
            .args(arguments);
        let mut running = Running::spawn(command);
        let mut events = File::options().write(true).open(&pipe).expect("the replay reads");
        events
            .write_all(b"{\"ecapture_recording\":1}\n")
            .expect("the replay reads");
        running.wait_for("eCaptureQ clients can connect");
        Self {
            running,
            events,
            port,
            now: 0,
        }
    }

    /// Writes the data of a connection of its own, in events as large as TLS records.
    fn event(&mut self, number: u64, payload: &[u8]) -> io::Result<()> {
        for (index, record) in payload.chunks(16 * 1024).enumerate() {
            self.record(number, index as u64 * 16 * 1024, record)?;
        }
        Ok(())
    }

    /// A millisecond after the one before.
    fn record(&mut self, number: u64, offset: u64, payload: &[u8]) -> io::Result<()> {
        self.now += 1;
        let payload = BASE64_STANDARD.encode(payload);
        writeln!(
            self.events,
            r#"{{"ts":{},"dir":"write","pid":7,"tid":7,"uid":0,"comm":"curl","fd":5,"session":"{:x}","sock":"{:x}","src":"127.0.0.1:40000","dst":"127.0.0.1:443","local":"src","addr":"exact","tls":772,"offset":{offset},"base64":"{payload}"}}"#,
            self.now * 1_000_000,
            number + 1,
            number + 1,
        )
    }

    fn finish(self) -> Finished {
        drop(self.events);
        self.running.finish()
    }
}

/// `GET /NUMBER` with a header field of `bytes` bytes.
fn request(number: u64, bytes: usize) -> Vec<u8> {
    format!("GET /{number} HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(bytes)).into_bytes()
}

#[test]
fn clients_get_log_heartbeat_and_events_whether_they_send_an_origin_or_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut fed = Fed::start(folder.path(), &[]);
    let mut clients = [Some(OWN_ORIGIN), None].map(|origin| Client::connect(fed.port, origin));
    let logs = clients.each_mut().map(|client| {
        let (log, heartbeat) = client.heartbeat();
        assert_eq!((heartbeat.count, &*heartbeat.message), (0, "heartbeat:0"));
        assert!(heartbeat.timestamp > 1_700_000_000);
        log
    });
    for number in 0..20 {
        fed.event(number, &request(number, 10)).expect("the replay reads");
    }
    let finished = fed.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    for (mut client, mut log) in clients.into_iter().zip(logs) {
        let (events, later) = client.rest();
        // Standard error may have a line before clients do: then it follows the heartbeat.
        log.extend(later);
        let started = |line: &&String| line.contains("eCaptureQ clients can connect");
        assert_eq!(log.iter().filter(started).count(), 1, "{log:?}");
        assert!(log.iter().all(|line| line.ends_with('\n')));
        assert!(log.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()));
        let payloads: Vec<_> = events.iter().map(|event| event.payload.clone()).collect();
        let expected: Vec<_> = (0..20).map(|number| request(number, 10)).collect();
        assert_eq!(payloads, expected);
        assert!(
            events
                .iter()
                .all(|event| event.r#type == 1 && event.dst_port == 443)
        );
    }
    // The other output continues beside it.
    assert_eq!(finished.text().matches("GET /").count(), 20);
}

#[test]
fn pages_of_other_sites_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fed = Fed::start(folder.path(), &[]);
    let refused = Client::try_connect(fed.port, Some("http://evil.example"));
    assert_eq!(refused.err(), Some(StatusCode::FORBIDDEN));
    let finished = fed.finish();
    assert!(finished.stderr.contains("another site"), "{}", finished.stderr);
}

/// Nine of ten read everything; the tenth stops reading, and is notified of what it missed.
#[test]
fn a_client_that_stops_reading_costs_nobody_else_anything() {
    const EVENTS: u64 = 800;
    const BYTES: usize = 32 * 1024;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut fed = Fed::start(folder.path(), &["--color", "never", "--eventaddr", "/dev/null"]);
    let connect = || {
        let mut client = Client::connect(fed.port, Some(OWN_ORIGIN));
        client.heartbeat();
        client
    };
    let mut stopped = connect();
    let readers: Vec<_> = (0..9)
        .map(|_| {
            let mut client = connect();
            std::thread::spawn(move || client.rest().0)
        })
        .collect();
    for number in 0..EVENTS {
        fed.event(number, &request(number, BYTES))
            .expect("the replay reads");
    }
    fed.event(EVENTS, &request(EVENTS, 1)).expect("the replay reads");
    let resident = fed.running.peak_memory_kib();
    drop(fed.events);
    let reader = std::thread::spawn(move || stopped.rest());
    let finished = fed.running.finish();
    for reader in readers {
        let events = reader.join().expect("a reader");
        assert_eq!(events.len() as u64, EVENTS + 1);
    }
    let (events, log) = reader.join().expect("the stopped reader");
    let missed: u64 = log.iter().filter_map(|line| skipped(line)).sum();
    assert!(missed > 0, "{log:?}");
    assert_eq!(events.len() as u64 + missed, EVENTS + 1);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let counted = format!("lost: sink reader_slow: {missed} events");
    assert!(
        finished.stderr.contains(&counted),
        "{counted}: {}",
        finished.stderr
    );
    assert!(resident < 300 * 1024, "{resident} KiB");
}

/// The number in `N entries were skipped`.
fn skipped(line: &str) -> Option<u64> {
    let (before, _) = line.split_once(" entries were skipped")?;
    before.rsplit('"').next()?.parse().ok()
}

/// The events that a client gets of a request with a body of 14 MiB. With `--whole` a message shows 8 MiB
/// of it.
fn long_body(arguments: &[&str]) -> Vec<Event> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let arguments = [&["--eventaddr", "/dev/null"], arguments].concat();
    let mut fed = Fed::start(folder.path(), &arguments);
    let mut client = Client::connect(fed.port, Some(OWN_ORIGIN));
    client.heartbeat();
    let mut message = format!("PUT / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", 14 << 20).into_bytes();
    message.resize(message.len() + (14 << 20), b'~');
    let reader = std::thread::spawn(move || client.rest().0);
    fed.event(0, &message).expect("the replay reads");
    let finished = fed.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    reader.join().expect("a reader")
}

#[test]
fn a_body_of_fourteen_megabytes_arrives_in_parts() {
    let events = long_body(&[]);
    let content = events.iter().flat_map(|event| &event.payload);
    assert_eq!(content.filter(|&&byte| byte == b'~').count(), 14 << 20);
}

/// The desktop client closes the connection at a frame above 16 MiB.
#[test]
fn an_entry_that_is_too_long_for_the_client_is_cut_and_says_so() {
    let events = long_body(&["--whole", "--hex"]);
    assert_eq!(events.len(), 1);
    let payload = &events[0].payload;
    assert!(
        payload.len() > 14 << 20 && payload.len() < 16 << 20,
        "{}",
        payload.len()
    );
    let end = String::from_utf8_lossy(&payload[payload.len() - 200..]);
    assert!(end.contains("[ecapture: cut: the record has"), "{end}");
}

#[test]
fn records_without_a_client_are_left_out_and_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut fed = Fed::start(folder.path(), &["--fail-on-loss"]);
    fed.event(0, &request(0, 1)).expect("the replay reads");
    let finished = fed.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(finished.stderr.contains("no_reader"), "{}", finished.stderr);
}

#[test]
fn an_address_that_cannot_be_listened_on_ends_the_start_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("ws://{}/", taken.local_addr().expect("an address"));
    let fixture = "tests/fixtures/curl-python/events.jsonl";
    let finished = crate::support::program::run(&["replay", fixture, "--ecaptureq", &address]);
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("a free port"), "{}", finished.stderr);
    let finished = crate::support::program::run(&["replay", fixture, "--ecaptureq", "ws://localhost"]);
    assert_eq!(finished.code(), Some(2), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("ws://127.0.0.1:28257/"),
        "{}",
        finished.stderr
    );
}

/// Captures two exchanges of curl with nginx; returns the JSON lines and the events of one client.
fn live(scene: &Scene) -> (Vec<Value>, Vec<Event>) {
    let port = free_port();
    let lines = scene.folder.path().join("lines.jsonl");
    let outputs = [
        format!("jsonl:{}", lines.display()),
        format!("ecaptureq:ws://127.0.0.1:{port}/"),
    ];
    let mut running = Running::start(&["tls", "--whole", "-o", &outputs[0], "-o", &outputs[1]]);
    running.wait_until_capturing();
    let mut client = Client::connect(port, Some(OWN_ORIGIN));
    let (mut log, _) = client.heartbeat();
    for version in ["--http1.1", "--http2"] {
        let url = scene.server.url("/hello.json");
        let got = Command::new("curl")
            .args(["-sk", version, "-o", "/dev/null", &url])
            .status();
        assert!(got.expect("curl runs").success());
    }
    let reader = std::thread::spawn(move || client.rest());
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let server = u32::from(scene.server.port);
    let (events, later) = reader.join().expect("a reader");
    log.extend(later);
    assert!(log.iter().any(|line| line.contains("attached to")), "{log:?}");
    let events = events.into_iter();
    let events = events.filter(|event| event.src_port == server || event.dst_port == server);
    let written = Finished {
        stdout: std::fs::read(&lines).expect("the lines"),
        ..finished
    };
    (with_port(&written, scene.server.port), events.collect())
}

/// A live capture: every field of an event is that of the JSON line beside it.
#[test]
fn live_events_have_the_fields_of_the_other_output() {
    let Some(scene) = Scene::nginx(&[]) else {
        return;
    };
    let (lines, events) = live(&scene);
    for (kind, number, comm) in [
        ("http1.request", 1, "curl"),
        ("http1.request", 1, "nginx"),
        ("http1.response", 3, "curl"),
        ("http1.response", 3, "nginx"),
    ] {
        let line = lines
            .iter()
            .find(|line| line["kind"] == kind && line["comm"] == comm);
        let event = events
            .iter()
            .find(|event| event.r#type == number && event.pname == comm);
        assert_same(line.expect("a line"), event.expect("an event"));
    }
    for number in [2, 4] {
        let side = |comm: &str| {
            events
                .iter()
                .any(|event| event.r#type == number && event.pname == comm)
        };
        assert!(
            side("curl") && side("nginx"),
            "HTTP/2 of type {number} from both ends"
        );
    }
}

fn assert_same(line: &Value, event: &Event) {
    assert_eq!(line["uuid"], *event.uuid);
    assert_eq!(line["pid"], event.pid);
    let mut ends =
        [line["src"].as_str(), line["dst"].as_str()].map(|end| end.expect("an address").to_owned());
    let mut shown = [
        format!("{}:{}", event.src_ip, event.src_port),
        format!("{}:{}", event.dst_ip, event.dst_port),
    ];
    ends.sort();
    shown.sort();
    assert_eq!(ends, shown);
    let offset = event.timestamp - line["ts_ns"].as_i64().expect("a time");
    assert!(offset > 1_700_000_000_000_000_000, "a wall clock: {offset}");
    let start: &[u8] = if event.r#type == 1 {
        b"GET /hello.json "
    } else {
        b"HTTP/1.1 200 OK"
    };
    assert!(event.payload.starts_with(start));
}

/// Fifteen seconds apart, counted for each client.
#[test]
fn heartbeats_follow_every_fifteen_seconds() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fed = Fed::start(folder.path(), &[]);
    let mut client = Client::connect(fed.port, None);
    let (_, first) = client.heartbeat();
    let (_, second) = client.heartbeat();
    assert_eq!((first.count, second.count), (0, 1));
    assert!((14..=17).contains(&(second.timestamp - first.timestamp)));

    fed.finish();
}

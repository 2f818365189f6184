//! The HTTP server of a run: who may send requests, and the answers.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use serde_json::Value;

use crate::support::capture::{Scene, curl};
use crate::support::program::{Finished, PATIENCE, Running, ecapture};
use crate::support::servers::free_port;

const TOKEN: &str = "token-of-the-test";

/// A server of a run.
struct Api {
    port: u16,
    token: String,
}

/// The answer to a request.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(mut stream: impl std::io::Read) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status line");
        Self {
            status: status.parse().expect("a status"),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Api {
    /// The server of a run that was started with `--listen 127.0.0.1:0`, whose log is read up to that line.
    fn of(running: &mut Running) -> Self {
        let lines = running.wait_for_lines("--listen: http://", "listening on");
        let (_, url) = lines[0].split_once("http://127.0.0.1:").expect("a URL");
        let (port, token) = url.split_once("/status?token=").expect("a token");
        Self {
            port: port.parse().expect("a port"),
            token: token.to_owned(),
        }
    }

    fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(request.as_bytes()).expect("a request");
        Answer::read(stream)
    }

    fn get(&self, path: &str) -> Answer {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: Bearer {}\r\n\r\n",
            self.port, self.token
        ))
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            self.token,
            body.len()
        ))
    }

    /// A change that is applied.
    fn change(&self, body: &str) {
        let answer = self.post("/tls", body);
        let reply = answer.json();
        assert_eq!(
            (answer.status, &reply["code"]),
            (200, &Value::from(0)),
            "{body}: {reply}"
        );
        assert_eq!(
            (&reply["module_type"], &reply["msg"]),
            (&"openssl".into(), &"RespOK".into())
        );
    }

    /// The message of the answer to a refused change.
    fn refusal(&self, path: &str, body: &str, code: u64) -> String {
        let answer = self.post(path, body);
        let reply = answer.json();
        assert_eq!(
            (answer.status, &reply["code"]),
            (400, &Value::from(code)),
            "{body}: {reply}"
        );
        reply["msg"].as_str().expect("a message").to_owned()
    }

    /// Waits until a figure of the status is at least so large. Returns it.
    fn wait_until(&self, figure: &str, least: u64) -> u64 {
        let started = SystemTime::now();
        loop {
            let status = self.get("/status").json();
            let now = status.pointer(figure).and_then(Value::as_u64).expect("a figure");
            if now >= least {
                return now;
            }
            assert!(started.elapsed().unwrap_or_default() < 2 * PATIENCE, "{status}");
        }
    }

    /// Waits until the first output has this many records.
    fn wait_until_written(&self, records: u64) {
        self.wait_until("/outputs/0/written/records", records);
    }

    fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics::parse(&answer.body)
    }
}

/// Metrics as another program reads them.
#[derive(Debug)]
struct Metrics(Vec<(String, Value, u64)>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let mut parser = Command::new("/usr/bin/python3")
            .arg("tests/peers/openmetrics.py")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut input = parser.stdin.take().expect("a pipe");
        input.write_all(text.as_bytes()).expect("it reads");
        drop(input);
        let output = parser.wait_with_output().expect("it ends");
        assert!(output.status.success(), "not OpenMetrics: {text}");
        Self(serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// The only value with these labels, 0 without one.
    fn get(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let found = self.0.iter().filter(|(other, values, _)| {
            other == name && labels.iter().all(|(label, value)| values[label] == *value)
        });
        let values: Vec<u64> = found.map(|(_, _, value)| *value).collect();
        assert!(values.len() <= 1, "{name}: {values:?}");
        values.first().copied().unwrap_or_default()
    }
}

fn has_parser() -> bool {
    let import = Command::new("/usr/bin/python3")
        .args(["-c", "import prometheus_client"])
        .stderr(Stdio::null())
        .status();
    let has = import.is_ok_and(|status| status.success());
    if !has {
        assert!(
            std::env::var_os("ECAPTURE_REQUIRE_PRIVILEGED").is_none(),
            "python3-prometheus-client is not installed"
        );
        println!("SKIPPED: python3-prometheus-client is not installed; `tests/run` installs it");
    }
    has
}

/// A replay of a pipe that has nothing yet, with a server.
fn replay(folder: &Path, arguments: &[&str]) -> (Running, File) {
    let pipe = folder.join("events");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let mut command = ecapture();
    command
        .args(["replay", pipe.to_str().expect("a path")])
        .args(arguments);
    let running = Running::spawn(command);
    let mut events = File::options().write(true).open(&pipe).expect("the replay reads");
    events
        .write_all(b"{\"ecapture_recording\":1}\n")
        .expect("the replay reads");
    (running, events)
}

fn finish((running, events): (Running, File)) -> Finished {
    drop(events);
    let finished = running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    finished
}

#[test]
fn a_request_needs_the_token_and_a_host_of_this_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut replay = replay(
        folder.path(),
        &["--listen", "127.0.0.1:0", "--allow-host", "proxy.example"],
    );
    let api = Api::of(&mut replay.0);
    let token = format!("Authorization: Bearer {}\r\n", api.token);
    let ask = |path: &str, host: &str, fields: &str| {
        api.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"))
    };
    assert_eq!(ask("/healthz", "localhost", "").body, "ok\n");
    let status = ask("/status", "localhost", &token);
    assert_eq!(status.status, 200, "{status:?}");
    assert!(!status.head.contains("access-control"), "{status:?}");
    assert_eq!(ask("/status", "proxy.example", &token).status, 200);
    assert_eq!(
        ask(&format!("/status?token={}", api.token), "[::1]:1", "").status,
        200
    );

    let without = ask("/status", "localhost", "");
    assert_eq!(without.status, 401, "{without:?}");
    assert!(without.body.contains("Bearer TOKEN"), "{without:?}");
    for path in ["/metrics", "/nothing", "/status?token=x"] {
        assert_eq!(ask(path, "localhost", "").status, 401, "{path}");
    }
    for path in ["/healthz", "/status", "/metrics"] {
        let foreign = ask(path, "evil.example", &token);
        assert_eq!(foreign.status, 403, "{foreign:?}");
        assert!(foreign.body.contains("--allow-host"), "{foreign:?}");
        let origin = format!("{token}Origin: http://evil.example\r\n");
        assert_eq!(ask(path, "localhost", &origin).status, 403, "{path}");
    }
    assert_eq!(
        api.send(&format!("GET /healthz HTTP/1.0\r\n{token}\r\n")).status,
        403
    );
    let unknown = ask("/nothing", "localhost", &token);
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("/status"), "{unknown:?}");
    let finished = finish(replay);
    assert!(!finished.stderr.contains("Bearer"), "{}", finished.stderr);
}

#[test]
fn the_token_of_the_user_is_not_printed_and_a_made_one_is_not_logged() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--logaddr",
        log.to_str().expect("a path"),
    ];
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut own = replay(folder.path(), &["--listen", &address, "--listen-token", TOKEN]);
    own.0.wait_for("listening on");
    let api = Api {
        port,
        token: TOKEN.to_owned(),
    };
    assert_eq!(api.get("/status").status, 200);
    let finished = finish(own);
    assert!(!finished.stderr.contains(TOKEN), "{}", finished.stderr);

    std::fs::remove_file(folder.path().join("events")).expect("the pipe");
    let mut made = replay(folder.path(), &[&arguments[..], &["-q"]].concat());
    made.0.wait_for("--listen: http://127.0.0.1:");
    let finished = finish(made);
    let (_, token) = finished.stderr.split_once("token=").expect("a token");
    let token = token.lines().next().expect("a line");
    assert_eq!(token.len(), 32);
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(!log.contains(token), "{log}");
}

#[test]
fn a_socket_file_is_for_its_owner_and_needs_no_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("e.sock");
    let address = format!("unix://{}", path.display());
    let mut replay = replay(folder.path(), &["--listen", &address]);
    replay.0.wait_for("listening on unix://");
    let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).expect("a connection");
    stream
        .write_all(b"GET /status HTTP/1.1\r\nHost: anything\r\n\r\n")
        .expect("a request");
    let status = Answer::read(stream).json();
    assert_eq!(status["kind"], "replay");
    assert_eq!(status["outputs"][0]["name"], "text");
    assert_eq!(status["ledger"]["seen"]["events"], 0);
    finish(replay);
    assert!(!path.exists(), "removed at the end");
}

#[test]
fn a_client_that_says_nothing_is_left_and_others_are_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut replay = replay(folder.path(), &["--listen", "127.0.0.1:0"]);
    let api = Api::of(&mut replay.0);
    let silent: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(("127.0.0.1", api.port)).expect("a connection"))
        .collect();
    // Answered once the silent ones have used up their time.
    assert_eq!(api.get("/status").status, 200);
    let mut first = &silent[0];
    first.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut rest = Vec::new();
    // Closed, with or without a word.
    let _ = first.read_to_end(&mut rest);
    let long = format!(
        "GET /status?{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    assert!((400..500).contains(&api.send_whole(&long).status));
    finish(replay);
}

impl Api {
    /// Whatever of it is read.
    fn send_whole(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let _ = stream.write_all(request.as_bytes());
        let mut bytes = Vec::new();
        // The unread part of the request resets the connection after the answer.
        let _ = stream.read_to_end(&mut bytes);
        Answer::read(&*bytes)
    }
}

#[test]
fn an_address_that_cannot_be_listened_on_ends_the_start_with_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let fixture = "tests/fixtures/curl-python/events.jsonl";
    let run = |address: &str| crate::support::program::run(&["replay", fixture, "--listen", address]);
    for (address, code, hint) in [
        (&*address, 1, "a free port"),
        ("0.0.0.0:28256", 2, "localhost:28256"),
        ("unix:///nowhere/e.sock", 1, "/run/ecapture.sock"),
    ] {
        let finished = run(address);
        assert_eq!(finished.code(), Some(code), "{}", finished.stderr);
        assert!(finished.stderr.contains(hint), "{}", finished.stderr);
    }
}

/// The figures of `/metrics` when nothing is on its way any more, and those of the summary.
#[test]
fn metrics_and_status_equal_the_summary() {
    if !has_parser() {
        return;
    }
    let Some(scene) = Scene::nginx(&[]) else { return };
    let pid = scene.server.worker_pid().to_string();
    let file = scene.folder.path().join("events.jsonl");
    let jsonl = format!("jsonl:{}", file.display());
    let full = "protobuf:/dev/full,on-error=drop";
    let mut command = ecapture();
    command.args(["tls", "-p", &pid, "--listen", "127.0.0.1:0"]);
    command.args(["-o", "text", "-o", &jsonl, "-o", full]);
    let mut running = Running::spawn(command);
    let api = Api::of(&mut running);
    running.wait_until_capturing();
    let mut requests = vec!["-sk".to_owned()];
    requests.extend((0..20).map(|number| scene.server.url(&format!("/hello.json?{number}"))));
    curl(&requests.iter().map(String::as_str).collect::<Vec<_>>());
    let metrics = settled(&api, 40);
    let status = api.get("/status").json();
    let finished = running.interrupt();

    assert_events_equal(&metrics, &finished);
    for (number, name) in [("1", "text"), ("2", &*jsonl)] {
        let written = |unit| {
            let name = format!("ecapture_output_written_{unit}_total");
            metrics.get(&name, &[("output", number)])
        };
        let (records, bytes) = (written("records"), written("bytes"));
        assert!(records >= 40);
        let line = format!("written {records} records with {bytes} bytes to {name}");
        expect(&finished, &line);
        let output = &status["outputs"][usize::from(number != "1")];
        assert_eq!(output["written"]["bytes"].as_u64(), Some(bytes), "{output}");
    }
    assert_labels_are_bounded(&metrics);
    let files = status["attached"]["files"].as_array().expect("files");
    assert_eq!(metrics.get("ecapture_attached_files", &[]), files.len() as u64);
    let is_hooked = |file: &Value| file.to_string().contains("SSL_write");
    assert!(files.iter().any(is_hooked), "{status}");
    assert_eq!(status["settings"]["live"]["pid"][0].to_string(), pid);
}

/// Compares the metrics with the report: the events seen, and the loss of the third output.
fn assert_events_equal(metrics: &Metrics, finished: &Finished) {
    let seen = |unit: &str| metrics.get(&format!("ecapture_seen_{unit}_total"), &[]);
    assert_eq!(seen("bytes"), metrics.get("ecapture_delivered_bytes_total", &[]));
    let line = format!("seen {} events with {} bytes", seen("events"), seen("bytes"));
    expect(finished, &line);
    let reason = ("reason", "sink_error");
    let lost = metrics.get("ecapture_lost_events_total", &[reason, ("stage", "sink")]);
    assert!(lost >= 40);
    let by_output = [reason, ("output", "3"), ("format", "protobuf")];
    let of_output = metrics.get("ecapture_output_lost_records_total", &by_output);
    assert_eq!(of_output, lost);
    expect(finished, &format!("lost: sink sink_error: {lost} events"));
    assert!(metrics.get("ecapture_resident_memory_bytes", &[]) > 1_000_000);
}

/// No label is a process, a user or a path.
fn assert_labels_are_bounded(metrics: &Metrics) {
    let known = ["output", "format", "stage", "reason", "version"];
    for (name, labels, _) in &metrics.0 {
        let mut names = labels.as_object().expect("labels").keys();
        assert!(names.all(|label| known.contains(&&**label)), "{name}: {labels}");
        assert!(!labels.to_string().contains('/'), "{name}: {labels}");
    }
}

/// The metrics once at least `events` were seen and everything was written.
fn settled(api: &Api, events: u64) -> Metrics {
    let started = SystemTime::now();
    loop {
        let metrics = api.metrics();
        let unwritten = |output| metrics.get("ecapture_output_unwritten_bytes", &[("output", output)]);
        let on_the_way = metrics.get("ecapture_in_flight_events", &[])
            + metrics.get("ecapture_held_bytes", &[])
            + ["1", "2", "3"].map(unwritten).iter().sum::<u64>();
        if metrics.get("ecapture_seen_events_total", &[]) >= events && on_the_way == 0 {
            return metrics;
        }
        assert!(
            started.elapsed().unwrap_or_default() < 2 * PATIENCE,
            "{metrics:?}"
        );
    }
}

fn expect(finished: &Finished, words: &str) {
    assert!(
        finished.stderr.contains(words),
        "no {words:?} in {}",
        finished.stderr
    );
}

#[test]
fn a_replay_cannot_be_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut replay = replay(folder.path(), &["--listen", "127.0.0.1:0"]);
    let api = Api::of(&mut replay.0);
    assert!(api.refusal("/tls", "{}", 5).contains("replay"));
    assert!(api.refusal("/tls", "", 4).contains("JSON"));
    assert_eq!(api.post("/zsh", "{}").status, 404);
    assert_eq!(api.get("/tls").status, 405);
    finish(replay);
}

/// A change has effect when it is answered; one that is refused changes nothing.
#[test]
fn filters_and_formats_change_while_the_capture_runs() {
    let Some(scene) = Scene::nginx(&[]) else { return };
    let pid = scene.server.worker_pid();
    let mut running = Running::start(&["tls", "-p", &pid.to_string(), "--listen", "127.0.0.1:0"]);
    let api = Api::of(&mut running);
    running.wait_until_capturing();
    let get = |path: &str| curl(&["-sk", "--http1.1", &scene.server.url(path)]);
    get("/hello.json?first");
    api.wait_until_written(2);
    api.change(&format!("{{\"pid\":{}}}", std::process::id()));
    get("/hello.json?second");
    for (path, body, part) in [
        ("/tls", "{\"pid\":4194303}".to_owned(), "no process"),
        (
            "/tls",
            format!("{{\"pid\":{pid},\"cgroup_path\":\"/nowhere\"}}"),
            "cgroup",
        ),
        (
            "/tls",
            format!("{{\"pid\":{pid},\"nonsense\":1}}"),
            "there is no such key",
        ),
        (
            "/tls",
            format!("{{\"pid\":{pid},\"opensslpath\":\"/nowhere\"}}"),
            "/nowhere",
        ),
        (
            "/gotls",
            format!("{{\"pid\":{pid}}}"),
            "this run captures openssl",
        ),
        ("/bash", "{\"pid\":0}".to_owned(), "start another one for bash"),
    ] {
        let message = api.refusal(path, &body, 5);
        assert!(message.contains(part), "{body}: {message}");
    }
    get("/hello.json?third");
    let live = &api.get("/status").json()["settings"]["live"];
    assert_eq!(live["pid"][0], std::process::id(), "{live}");
    api.change(&format!("{{\"pid\":[{pid}],\"truncate_size\":64}}"));
    get("/hello.json?fourth");
    api.wait_until_written(4);
    // A user without a process here.
    api.change("{\"uid\":54321,\"truncate_size\":0}");
    get("/hello.json?fifth");
    api.change("{\"uid\":0,\"is_hex\":true}");
    get("/hello.json?sixth");
    api.wait_until_written(6);
    api.change("{\"is_hex\":false}");
    get("/hello.json?seventh");
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let text = finished.text();
    let paths = ["first", "second", "third", "fourth", "fifth", "seventh"];
    let shown = paths.map(|path| text.contains(&format!("GET /hello.json?{path} ")));
    assert_eq!(shown, [true, false, false, true, false, true], "{text}");
    assert!(text.contains("|GET /hello.json?|"), "no dump: {text}");
    assert!(text.contains("[ecapture: truncated at 64 of"), "no cut: {text}");
}

#[test]
fn a_filter_that_asks_for_content_is_refused_where_content_is_left_out() {
    let Some(scene) = Scene::nginx(&[]) else {
        return;
    };
    let pid = scene.server.worker_pid().to_string();
    let mut running = Running::start(&[
        "tls",
        "-p",
        &pid,
        "--listen",
        "127.0.0.1:0",
        "-o",
        "jsonl",
        "--privacy",
        "metadata",
    ]);
    let api = Api::of(&mut running);
    running.wait_until_capturing();
    let message = api.refusal("/tls", "{\"filter\":\"body contains \\\"a\\\"\"}", 5);
    assert!(message.contains("asks for content"), "{message}");
    api.change("{\"filter\":\"http.request.uri contains \\\"hello\\\"\"}");
    curl(&["--http1.1", &scene.server.url("/hello.json")]);
    api.wait_until_written(2);
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("nothing was lost"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_filter_of_outputs_is_in_force_from_the_next_message_on() {
    let Some(scene) = Scene::nginx(&[]) else {
        return;
    };
    let pid = scene.server.worker_pid();
    let mut running = Running::start(&[
        "tls",
        "-p",
        &pid.to_string(),
        "--listen",
        "127.0.0.1:0",
        "-o",
        "jsonl",
    ]);
    let api = Api::of(&mut running);
    running.wait_until_capturing();
    let mut written = 0;
    let mut get = |path: &str, messages: u64| {
        curl(&["--http1.1", &scene.server.url(path)]);
        written += messages;
        api.wait_until_written(written);
    };
    get("/hello.json?first", 3);
    api.change("{\"filter\":\"http.request.uri contains \\\"third\\\"\"}");
    let filter = &api.get("/status").json()["settings"]["live"]["filter"];
    assert_eq!(filter, "http.request.uri contains \"third\"");
    get("/hello.json?second", 0);
    get("/hello.json?third", 2);
    for (wrong, part) in [
        ("http.request.uri ==", "filter: "),
        ("no.such.field", "filter: "),
        // The request would have to wait for its response.
        ("http.response.code == 404", "start ecapture with --filter"),
    ] {
        let message = api.refusal("/tls", &serde_json::json!({ "filter": wrong }).to_string(), 5);
        assert!(message.contains(part), "{wrong}: {message}");
    }
    get("/hello.json?third-again", 2);
    api.change("{\"filter\":\"\"}");
    get("/hello.json?last", 2);
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("nothing was lost"),
        "{}",
        finished.stderr
    );
    let lines = finished.json();
    let requests = lines.iter().filter(|line| line["kind"] == "http1.request");
    let paths: Vec<_> = requests
        .map(|line| line["path"].as_str().expect("a path"))
        .collect();
    assert_eq!(
        paths,
        ["first", "third", "third-again", "last"].map(|path| format!("/hello.json?{path}"))
    );
}

#[test]
fn a_hundred_changes_under_load_lose_nothing_that_all_settings_cover() {
    let Some(scene) = Scene::nginx(&["h2load"]) else {
        return;
    };
    let pid = scene.server.worker_pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let user = user
        .and_then(|users| users.split_whitespace().next())
        .expect("a user");
    let own = std::process::id();
    let settings = [
        format!("{{\"pid\":[{pid},{own}],\"uid\":{user}}}"),
        format!("{{\"pid\":{pid},\"truncate_size\":100000}}"),
        format!("{{\"uid\":0,\"pid\":[{own},{pid}],\"follow_children\":true}}"),
        format!("{{\"cgroup_path\":\"{}\",\"truncate_size\":0}}", root_cgroup()),
        format!("{{\"cgroup_path\":\"\",\"pid\":{pid},\"follow_children\":false}}"),
    ];
    lose_nothing(&scene, &settings, 100);
}

/// Detaching takes a while, so these are fewer.
#[test]
fn changes_of_libraries_under_load_lose_nothing_of_those_that_stay() {
    let Some(scene) = Scene::nginx(&["h2load"]) else {
        return;
    };
    let (used, copy) = libraries(scene.folder.path());
    let settings = [
        format!("{{\"opensslpath\":[\"{used}\",\"{copy}\"]}}"),
        format!("{{\"opensslpath\":\"{used}\"}}"),
        "{\"opensslpath\":\"\"}".to_owned(),
    ];
    lose_nothing(&scene, &settings, 9);
}

/// The same connections are captured whole while settings change. All settings let them through.
fn lose_nothing(scene: &Scene, settings: &[String], changes: usize) {
    let pid = scene.server.worker_pid();
    let output = scene.folder.path().join("events.jsonl");
    let mut command = ecapture();
    command.args([
        "tls",
        "-p",
        &pid.to_string(),
        "--listen",
        "127.0.0.1:0",
        "--whole",
    ]);
    command.args(["-o", &format!("jsonl:{}", output.display())]);
    let mut running = Running::spawn(command);
    let api = Api::of(&mut running);
    running.wait_until_capturing();
    let mut seen = 0;
    let change = |number: usize| {
        api.change(&settings[number % settings.len()]);
        // Under each setting something passes.
        seen = api.wait_until("/ledger/seen/events", seen + 1);
    };
    let url = scene.server.url("/hello.json");
    let requests = load_while(&url, || (0..changes).for_each(change));
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("nothing was lost"),
        "{}",
        finished.stderr
    );
    let lines = std::fs::read_to_string(output).expect("events");
    let of_server = format!("\"pid\":{pid},");
    let of_server = || lines.lines().filter(|line| line.contains(&of_server));
    let counts = ["request", "response"].map(|kind| {
        let kind = format!("\"kind\":\"http1.{kind}\"");
        of_server().filter(|line| line.contains(&kind)).count() as u64
    });
    assert_eq!(counts, [requests, requests]);
    let is_gap = |line: &&str| line.contains("\"kind\":\"http1.") && !line.contains("\"complete\":true");
    assert_eq!(of_server().find(is_gap), None);
}

/// Sends requests to `url` on twenty connections at a time until `work` is done. Returns how many were answered.
fn load_while(url: &str, work: impl FnOnce() + Send) -> u64 {
    // As many as a debug build on a busy host keeps up with.
    const ROUND: u64 = 400;
    let mut requests = 0;
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        while !work.is_finished() {
            let load = ["--h1", "-n", &ROUND.to_string(), "-c", "20", "--rps", "20", url];
            let done = Command::new("h2load").args(load).output().expect("h2load runs");
            let report = String::from_utf8_lossy(&done.stdout);
            assert!(report.contains(&format!(" {ROUND} succeeded")), "{report}");
            requests += ROUND;
        }
    });
    requests
}

/// The root of the cgroup2 file system, in which every process is.
fn root_cgroup() -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroup2 = mounts
        .find(|words| words[2] == "cgroup2")
        .expect("cgroup2 is mounted");
    cgroup2[1].to_owned()
}

/// Requests on one connection, each when it is asked for.
const ONE_CONNECTION: &str = "
import http.client, ssl, sys
context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection('127.0.0.1', int(sys.argv[1]), context=context)
for line in sys.stdin:
    connection.request('GET', '/hello.json?' + line.strip())
    connection.getresponse().read()
    print('done', flush=True)
";

#[test]
fn a_connection_that_was_excluded_for_a_while_goes_on_behind_a_gap() {
    let Some(scene) = Scene::nginx(&[]) else { return };
    let pid = scene.server.worker_pid();
    let arguments = [
        "tls",
        "-p",
        &pid.to_string(),
        "--format",
        "jsonl",
        "--listen",
        "127.0.0.1:0",
    ];
    let mut running = Running::start(&arguments);
    let api = Api::of(&mut running);
    running.wait_until_capturing();
    let mut client = Command::new("/usr/bin/python3")
        .args(["-c", ONE_CONNECTION, &scene.server.port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut asked = client.stdin.take().expect("a pipe");
    let mut done = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    let mut get = |name: &str| {
        writeln!(asked, "{name}").expect("the client reads");
        assert_eq!(done.next().expect("a line").expect("text"), "done");
    };
    get("first");
    api.change(&format!("{{\"pid\":{}}}", std::process::id()));
    get("second");
    api.change(&format!("{{\"pid\":{pid}}}"));
    get("third");
    get("fourth");
    drop(asked);
    client.wait().expect("the client ends");
    let finished = running.interrupt();
    assert!(
        finished.stderr.contains("nothing was lost"),
        "{}",
        finished.stderr
    );
    let lines = finished.json();
    let of_direction = |direction: &str| {
        let lines = lines.iter().filter(|line| line["direction"] == direction);
        let shown = lines.map(|line| match line["path"].as_str() {
            Some(path) => path.to_owned(),
            None => line["kind"].to_string(),
        });
        shown.collect::<Vec<_>>()
    };
    let path = |name| format!("/hello.json?{name}");
    let requests = [path("first"), "\"gap\"".to_owned(), path("third"), path("fourth")];
    assert_eq!(of_direction("read"), requests);
    let response = "\"http1.response\"";
    assert_eq!(of_direction("write"), [response, "\"gap\"", response, response]);
}

/// The libssl of this host, and a copy that nobody uses.
fn libraries(folder: &Path) -> (String, String) {
    let maps = Command::new("ldd")
        .arg("/usr/sbin/nginx")
        .output()
        .expect("ldd runs");
    let maps = String::from_utf8_lossy(&maps.stdout).into_owned();
    let line = maps
        .lines()
        .find(|line| line.contains("libssl"))
        .expect("nginx has libssl");
    let path = line.split_whitespace().nth(2).expect("its path").to_owned();
    let copy = folder.join("libssl-copy.so");
    std::fs::copy(&path, &copy).expect("a copy");
    (path, copy.to_str().expect("a path").to_owned())
}

#[test]
fn libraries_change_while_the_capture_runs() {
    let Some(scene) = Scene::nginx(&[]) else { return };
    let pid = scene.server.worker_pid();
    let (used, copy) = libraries(scene.folder.path());
    // Room for the probes of some files.
    let mut command = Command::new("prlimit");
    command.args(["--nofile=300:300", env!("CARGO_BIN_EXE_ecapture")]);
    command.args([
        "tls",
        "-p",
        &pid.to_string(),
        "--libssl",
        &copy,
        "--listen",
        "127.0.0.1:0",
    ]);
    let mut running = Running::spawn(command);
    let api = Api::of(&mut running);
    running.wait_until_capturing();
    let get = |path: &str| curl(&["-sk", "--http1.1", &scene.server.url(path)]);
    let change = |path: &str| api.change(&format!("{{\"opensslpath\":\"{path}\"}}"));
    get("/hello.json?first");
    change(&used);
    get("/hello.json?second");
    for wrong in ["/nowhere", "/bin/true", "/etc/passwd"] {
        let message = api.refusal("/tls", &format!("{{\"opensslpath\":\"{wrong}\"}}"), 5);
        assert!(message.contains(wrong), "{message}");
    }
    let many = (0..10).map(|number| {
        let another = format!("{copy}.{number}");
        std::fs::copy(&copy, &another).expect("a copy");
        another
    });
    let many = serde_json::json!({ "opensslpath": many.collect::<Vec<_>>() });
    let message = api.refusal("/tls", &many.to_string(), 5);
    assert!(message.contains("cannot attach to"), "{message}");
    get("/hello.json?third");
    change(&copy);
    let status = api.get("/status").json();
    assert_eq!(status["settings"]["live"]["libraries"][0], copy, "{status}");
    let files = status["attached"]["files"].as_array().expect("files");
    assert_eq!(
        (files.len(), &files[0]["file"]),
        (1, &Value::from(copy)),
        "{status}"
    );
    get("/hello.json?fourth");
    change("");
    get("/hello.json?fifth");
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let text = finished.text();
    let paths = ["first", "second", "third", "fourth", "fifth"];
    let shown = paths.map(|path| text.contains(&format!("GET /hello.json?{path} ")));
    assert_eq!(
        shown,
        [false, true, true, false, true],
        "{text} {}",
        finished.stderr
    );
}

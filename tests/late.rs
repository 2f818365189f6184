//! Connections and programs that are met too late, made so: what is found later is held up by a FIFO until
//! the programs have done what is to be missed.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::support::can_capture;
use crate::support::capture::{messages, site, with_port};
use crate::support::detached::{private_openssl, wait_until_detached};
use crate::support::program::{Finished, Running};
use crate::support::servers::{Certificate, Server, compile_exchange, static_openssl};

const PYTHON: &[&str] = &["curl", "openssl", "/usr/bin/python3"];
/// The exit code of `--fail-on-loss` after a loss.
const LOSS: Option<i32> = Some(3);

/// Keeps the capture from inspecting the files that it finds later.
struct Hold(PathBuf);

impl Hold {
    fn new(folder: &Path) -> Self {
        let fifo = folder.join("hold");
        let status = Command::new("mkfifo").arg(&fifo).status();
        assert!(status.expect("mkfifo runs").success());
        Self(fifo)
    }

    fn argument(&self) -> String {
        format!("discovery-hold:{}", self.0.display())
    }

    /// The capture has found something by now, or this waits for it; from here on nothing is held up.
    fn release(self) {
        let writer: File = OpenOptions::new().write(true).open(&self.0).expect("a FIFO");
        fs::remove_file(&self.0).expect("a file of ours");
        drop(writer);
    }
}

/// A Python that executes commands line by line, and uses TLS only then.
struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    fn start(server: &Server, openssl: Option<&Path>) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        if let Some(openssl) = openssl {
            command.env("LD_LIBRARY_PATH", openssl);
        }
        let mut child = command
            .args(["-c", CLIENT, &server.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut client = Self { child, stdin, stdout };
        client.wait_until_done();
        client
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `load`, `open`, or `get PATH`: returns when it is done.
    fn tell(&mut self, what: &str) {
        let stdin = self.stdin.as_mut().expect("it was not told to end");
        writeln!(stdin, "{what}").expect("python reads");
        self.wait_until_done();
    }

    fn wait_until_done(&mut self) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("python answers");
        assert_eq!(line, "done\n");
    }

    fn end(mut self) {
        self.stdin = None;
        assert!(self.child.wait().expect("python ends").success());
    }
}

const CLIENT: &str = r#"
import sys
connection = None
print("done", flush=True)
for line in sys.stdin:
    word, _, path = line.strip().partition(" ")
    import http.client, ssl
    if word == "open":
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=context)
        connection.connect()
    if word == "get":
        connection.request("GET", path)
        connection.getresponse().read()
    print("done", flush=True)
"#;

fn capture(arguments: &[&str]) -> Running {
    wait_until_detached();
    let mut running = Running::start(
        &[
            &["tls", "--format", "jsonl", "--whole", "--fail-on-loss"],
            arguments,
        ]
        .concat(),
    );
    running.wait_until_capturing();
    running
}

fn capture_process(pid: u32, arguments: &[&str]) -> Running {
    capture(&[&["--pid", &pid.to_string()], arguments].concat())
}

fn assert_told(finished: &Finished, text: &str) {
    assert!(finished.stderr.contains(text), "{}", finished.stderr);
}

/// The beginning of the connection as each request of a client describes it, by path.
fn beginnings(finished: &Finished, server: &Server, comm: &str) -> Vec<(String, Option<String>)> {
    let lines = with_port(finished, server.port);
    let requests = messages(&lines, "http1.request", comm, "write").into_iter();
    requests
        .map(|request| {
            let path = request["path"].as_str().expect("a path").to_owned();
            (path, late(request))
        })
        .collect()
}

fn late(message: &Value) -> Option<String> {
    message["joined_late"].as_str().map(ToOwned::to_owned)
}

fn expected(paths: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    let owned = |(path, late): &(&str, Option<&str>)| ((*path).to_owned(), late.map(ToOwned::to_owned));
    paths.iter().map(owned).collect()
}

fn gaps(finished: &Finished) -> Vec<String> {
    let lines = finished.json();
    let gaps = lines.iter().filter(|line| line["kind"] == "gap");
    gaps.map(|line| line["gap"]["reason"].as_str().expect("a reason").to_owned())
        .collect()
}

#[test]
fn a_connection_that_was_open_before_is_no_loss_and_is_told() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let mut client = Client::start(&server, None);
    client.tell("open");
    client.tell("get /hello.json?1");
    let running = capture_process(client.pid(), &[]);
    let told = format!("shown from the middle: python3 ({}) 1", client.pid());
    client.tell("get /hello.json?2");
    client.tell("open");
    client.tell("get /hello.json?3");
    client.end();
    let finished = running.interrupt();
    let open = Some("open_before_capture");
    assert_eq!(
        beginnings(&finished, &server, "python3"),
        expected(&[("/hello.json?2", open), ("/hello.json?3", None)]),
    );
    assert_eq!(gaps(&finished), Vec::<String>::new(), "it began with a message");
    assert_told(&finished, "1 connection was open before the capture began");
    assert_told(&finished, &told);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
}

#[test]
fn a_program_that_goes_on_after_it_was_missed_is_told() {
    goes_on_after_it_was_missed(&[]);
}

/// Before Linux 6.14 a mapped file and a used socket are known from system calls.
#[test]
fn the_same_is_told_where_system_calls_must_tell_it() {
    goes_on_after_it_was_missed(&["--inject", "system-calls"]);
}

fn goes_on_after_it_was_missed(arguments: &[&str]) {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let openssl = private_openssl(folder.path(), "openssl");
    let hold = Hold::new(folder.path());
    let mut client = Client::start(&server, Some(&openssl));
    let mut running = capture_process(
        client.pid(),
        &[&["--inject", &hold.argument()], arguments].concat(),
    );
    client.tell("open");
    client.tell("get /hello.json?1");
    hold.release();
    running.wait_for("attached to");
    client.tell("get /hello.json?2");
    client.tell("open");
    client.tell("get /hello.json?3");
    let told = format!("the beginning may be missing: python3 ({}) 1", client.pid());
    client.end();
    let finished = running.interrupt();
    assert_eq!(
        beginnings(&finished, &server, "python3"),
        expected(&[("/hello.json?2", Some("before_probes")), ("/hello.json?3", None)]),
    );
    // One for each direction.
    assert_eq!(gaps(&finished), ["before_probes"; 2]);
    assert_told(&finished, &told);
    assert_told(&finished, "kernel connection_joined_late: 1 events");
    assert_eq!(finished.code(), LOSS, "{}", finished.stderr);
}

/// The socket of rustls is known only when it has sent something.
#[test]
fn a_connection_with_rustls_is_marked_once_its_socket_is_known() {
    let program = concat!(env!("CARGO_TARGET_TMPDIR"), "/rustls/release/rustls-blocking");
    let Some(_alone) = can_capture(&["openssl", "/usr/bin/python3", program]) else {
        return;
    };
    let folder = site();
    let certificate = Certificate::create(folder.path());
    let server = Server::serving(Command::new(program), &certificate);
    let mut client = Client::start(&server, None);
    client.tell("open");
    client.tell("get /1");
    let running = capture_process(server.pid(), &[]);
    let told = format!("shown from the middle: rustls-blocking ({}) 1", server.pid());
    for path in ["get /2", "get /3", "open", "get /4", "get /5"] {
        client.tell(path);
    }
    client.end();
    let finished = running.interrupt();
    let lines = finished.json();
    let requests = messages(&lines, "http1.request", "rustls-blocking", "read");
    let mut seen: Vec<_> = requests
        .iter()
        .map(|request| (request["path"].as_str().unwrap_or_default(), late(request)))
        .collect();
    // Which connection's come first depends on the batches.
    seen.sort();
    let open = Some("open_before_capture".to_owned());
    // Whether the one before it is marked too depends on how soon it was printed.
    assert_eq!(seen[0].0, "/2", "{}", finished.stderr);
    assert_eq!(
        seen[1..],
        [("/3", open), ("/4", None), ("/5", None)],
        "{}",
        finished.stderr
    );
    assert_told(&finished, &told);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
}

/// The socket is older than the probes, the TLS session is not.
#[test]
fn a_handshake_that_is_seen_makes_up_for_an_older_socket() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let mut client = Command::new("/usr/bin/python3")
        .args(["-c", LATE_HANDSHAKE, &server.port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut connected = String::new();
    BufReader::new(client.stdout.as_mut().expect("a pipe"))
        .read_line(&mut connected)
        .expect("python connects");
    let running = capture_process(client.id(), &[]);
    drop(client.stdin.take());
    assert!(client.wait().expect("python ends").success());
    let finished = running.interrupt();
    assert_eq!(
        beginnings(&finished, &server, "python3"),
        expected(&[("/hello.json?1", None)]),
    );
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
}

const LATE_HANDSHAKE: &str = r#"
import socket, ssl, sys
raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print("connected", flush=True)
sys.stdin.read()
connection = ssl._create_unverified_context().wrap_socket(raw)
connection.sendall(b"GET /hello.json?1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
while connection.recv(4096):
    pass
"#;

#[test]
fn a_program_that_has_connected_and_ended_is_a_loss() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let openssl = private_openssl(folder.path(), "openssl");
    for (connects, code) in [(true, LOSS), (false, Some(0))] {
        let hold = Hold::new(folder.path());
        let mut client = Client::start(&server, Some(&openssl));
        let pid = client.pid();
        let mut running = capture_process(pid, &["--inject", &hold.argument()]);
        client.tell("load");
        if connects {
            client.tell("open");
            client.tell("get /hello.json?1");
        }
        client.end();
        hold.release();
        let told = if connects {
            format!("python3 ({pid}) connected and ended before the probes were attached to its libssl.so.3")
        } else {
            format!(
                "python3 ({pid}) ended before the probes were attached to its libssl.so.3; it had not connected"
            )
        };
        running.wait_for(&told);
        let finished = running.interrupt();
        assert_eq!(finished.code(), code, "{}", finished.stderr);
    }
}

#[test]
fn a_curl_that_was_too_short_is_named() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let openssl = private_openssl(folder.path(), "openssl");
    let hold = Hold::new(folder.path());
    let mut running = capture(&["--inject", &hold.argument()]);
    let mut curl = Command::new("curl")
        .env("LD_LIBRARY_PATH", &openssl)
        .args(["-sk", "-o", "/dev/null", &server.url("/hello.json?1")])
        .spawn()
        .expect("curl runs");
    let pid = curl.id();
    assert!(curl.wait().expect("curl ends").success());
    hold.release();
    running.wait_for(&format!(
        "curl ({pid}) connected and ended before the probes were attached to its libssl.so.3"
    ));
    let finished = running.interrupt();
    assert_eq!(beginnings(&finished, &server, "curl"), []);
    assert_eq!(finished.code(), LOSS, "{}", finished.stderr);
}

/// The file is found though nobody executes it any more, so the next run of the program is captured.
#[test]
fn a_static_program_that_was_too_short_is_named_and_captured_the_next_time() {
    let Some(_alone) = can_capture(&["gcc", "openssl"]) else {
        return;
    };
    let folder = site();
    let certificate = Certificate::create(folder.path());
    let server = folder.path().join("server");
    compile_exchange(&server, &["-lssl", "-lcrypto"]);
    let server = Server::serving(Command::new(server), &certificate);
    let program = static_openssl(folder.path(), &[]);
    let run = |path: &str| {
        let mut client = Command::new(&program);
        let client = client
            .args(["get", &server.port.to_string(), path])
            .stdout(Stdio::null());
        assert!(client.status().expect("it runs").success());
    };
    let hold = Hold::new(folder.path());
    let mut running = capture(&["--inject", &hold.argument()]);
    run("/hello.json?1");
    hold.release();
    running.wait_for("connected and ended before the probes were attached to its");
    run("/hello.json?2");
    let finished = running.interrupt();
    assert_eq!(
        beginnings(&finished, &server, "static"),
        expected(&[("/hello.json?2", None); 2]),
        "{}",
        finished.stderr
    );
    assert_eq!(finished.code(), LOSS, "{}", finished.stderr);
}

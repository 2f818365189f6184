//! Real capture of real programs: needs root and BTF, and says so where it cannot run.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::can_capture;
use crate::support::exchanges::assert_nothing_lost;
use crate::support::program::{Finished, Running, ecapture, run};
use crate::support::servers::{Server, ping_nats};

const PYTHON: &[&str] = &["curl", "openssl", "/usr/bin/python3"];
const NGINX: &[&str] = &["curl", "openssl", "nginx"];

pub(crate) fn site() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("hello.json"), "{\"hello\":\"world\"}\n").expect("a written file");
    fs::write(folder.path().join("page.txt"), "page\n".repeat(1000)).expect("a written file");
    folder
}

fn curl(arguments: &[&str]) {
    let output = Command::new("curl")
        .args(["-sk", "-o", "/dev/null"])
        .args(arguments)
        .output()
        .expect("curl runs");
    assert!(
        output.status.success(),
        "curl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Lines about connections with `port`: other tests run at the same time on the same host.
pub(crate) fn with_port(finished: &Finished, port: u16) -> Vec<Value> {
    let end = format!(":{port}");
    let mut lines = finished.json();
    lines.retain(|line| {
        ["src", "dst"]
            .iter()
            .any(|side| line[side].as_str().is_some_and(|address| address.ends_with(&end)))
    });
    lines
}

/// Messages of `kind` that `comm` sent (`write`) or received (`read`).
pub(crate) fn messages<'a>(lines: &'a [Value], kind: &str, comm: &str, direction: &str) -> Vec<&'a Value> {
    lines
        .iter()
        .filter(|line| line["kind"] == kind && line["comm"] == comm && line["direction"] == direction)
        .collect()
}

fn header<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    let fields = message["headers"].as_array().expect("header fields");
    fields.iter().find(|field| {
        field[0]
            .as_str()
            .is_some_and(|other| other.eq_ignore_ascii_case(name))
    })?[1]
        .as_str()
}

/// For captures of the whole host, where something else may be too fast for the machine.
fn assert_adds_up(finished: &Finished) {
    assert!(!finished.stderr.contains("do not add up"), "{}", finished.stderr);
}

/// An exchange over the loopback: the sender of one side is the receiver of the other.
fn assert_addresses(request: &Value, response: &Value, server_port: u16) {
    let server = format!("127.0.0.1:{server_port}");
    assert_eq!(request["dst"], server.as_str(), "{request}");
    assert_eq!(response["src"], server.as_str(), "{response}");
    assert_eq!(request["src"], response["dst"], "one client socket");
    assert_eq!(request["addr_source"], "exact");
    assert_eq!(response["addr_source"], "exact");
}

#[test]
fn a_command_is_captured_alone() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let finished = run(&[
        "tls",
        "--format",
        "jsonl",
        "--fail-on-loss",
        "--",
        "curl",
        "-sk",
        &server.url("/hello.json"),
    ]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    let printed = finished
        .stderr
        .lines()
        .any(|line| line == "{\"hello\":\"world\"}");
    assert!(
        printed,
        "curl's own output does not mix with the messages: {}",
        finished.stderr
    );
    let lines = finished.json();
    let requests = messages(&lines, "http1.request", "curl", "write");
    let responses = messages(&lines, "http1.response", "curl", "read");
    assert_eq!(
        (requests.len(), responses.len(), lines.len()),
        (1, 1, 2),
        "curl's two messages only: {lines:?}"
    );
    assert_eq!(requests[0]["method"], "GET");
    assert_eq!(requests[0]["path"], "/hello.json");
    assert_eq!(
        header(requests[0], "Host"),
        Some(format!("127.0.0.1:{}", server.port).as_str())
    );
    assert_eq!(responses[0]["status"], 200);
    assert_eq!(responses[0]["body"]["text"], "{\"hello\":\"world\"}\n");
    assert_eq!(responses[0]["body"]["complete"], true);
    assert_addresses(requests[0], responses[0], server.port);
}

#[test]
fn the_exit_code_is_the_commands_own() {
    let Some(_alone) = can_capture(&[]) else {
        return;
    };
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        let finished = run(&["tls", "--", "sh", "-c", script]);
        assert_eq!(finished.code(), Some(code), "{script}: {}", finished.stderr);
    }
    let finished = run(&["tls", "--", "/nonexistent/program"]);
    assert_eq!(finished.code(), Some(127), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("/nonexistent/program"),
        "{}",
        finished.stderr
    );
}

#[test]
fn both_sides_of_an_exchange_with_python_are_seen() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let mut running = Running::start(&["tls", "--format", "jsonl"]);
    running.wait_until_capturing();
    curl(&["-d", "user=me", &server.url("/login")]);
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_adds_up(&finished);
    let lines = with_port(&finished, server.port);
    for (comm, request_direction, response_direction) in
        [("curl", "write", "read"), ("python3", "read", "write")]
    {
        let requests = messages(&lines, "http1.request", comm, request_direction);
        let responses = messages(&lines, "http1.response", comm, response_direction);
        assert_eq!((requests.len(), responses.len()), (1, 1), "{comm}: {lines:?}");
        assert_eq!(requests[0]["method"], "POST");
        assert_eq!(requests[0]["body"]["text"], "user=me");
        assert_eq!(responses[0]["body"]["text"], "user=me");
        assert_addresses(requests[0], responses[0], server.port);
        if comm == "python3" {
            assert_eq!(requests[0]["pid"], server.pid());
        }
    }
}

#[test]
fn http2_with_nginx_is_seen_on_both_sides() {
    let Some(_alone) = can_capture(NGINX) else {
        return;
    };
    let folder = site();
    let server = Server::nginx(folder.path());
    let mut running = Running::start(&["tls", "--format", "jsonl"]);
    running.wait_until_capturing();
    curl(&["--http2", "--compressed", &server.url("/page.txt")]);
    curl(&["--http1.1", &server.url("/hello.json")]);
    let finished = running.interrupt();
    assert_adds_up(&finished);
    let lines = with_port(&finished, server.port);
    for (comm, request_direction, response_direction) in
        [("curl", "write", "read"), ("nginx", "read", "write")]
    {
        let requests = messages(&lines, "http2.request", comm, request_direction);
        let responses = messages(&lines, "http2.response", comm, response_direction);
        assert_eq!((requests.len(), responses.len()), (1, 1), "{comm}: {lines:?}");
        assert_eq!(
            (&requests[0]["method"], &requests[0]["path"]),
            (&"GET".into(), &"/page.txt".into())
        );
        assert_eq!(requests[0]["stream"], responses[0]["stream"]);
        assert_eq!(responses[0]["status"], 200);
        assert_eq!(responses[0]["body"]["text"], "page\n".repeat(1000));
        assert_eq!(responses[0]["body"]["encoding"], serde_json::json!(["gzip"]));
        assert_addresses(requests[0], responses[0], server.port);
        assert_eq!(
            messages(&lines, "http1.response", comm, response_direction).len(),
            1,
            "{comm}"
        );
    }
}

#[test]
fn the_text_format_has_the_original_header_line() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let finished = run(&[
        "tls",
        "--",
        "curl",
        "-sk",
        "-o",
        "/dev/null",
        &server.url("/hello.json"),
    ]);
    let text = finished.text();
    let header = text.lines().next().expect("a header line");
    assert!(
        header.starts_with("PID:") && header.contains(", Comm:curl, Src:127.0.0.1:"),
        "{header}"
    );
    assert!(
        header.ends_with(&format!(", Dest:127.0.0.1:{},", server.port)),
        "{header}"
    );
    assert!(text.contains("GET /hello.json HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("{\"hello\":\"world\"}\n"), "{text}");
}

#[test]
fn two_hundred_requests_on_one_connection_print_as_many_of_each() {
    let Some(_alone) = can_capture(NGINX) else {
        return;
    };
    let folder = site();
    let server = Server::nginx(folder.path());
    let url = server.url("/hello.json?[1-200]");
    let finished = run(&[
        "tls",
        "--format",
        "jsonl",
        "--",
        "curl",
        "-sk",
        "--http1.1",
        "-o",
        "/dev/null",
        &url,
    ]);
    assert_nothing_lost(&finished);
    let lines = finished.json();
    let requests = messages(&lines, "http1.request", "curl", "write");
    assert_eq!(requests.len(), 200);
    assert_eq!(messages(&lines, "http1.response", "curl", "read").len(), 200);
    let connections: std::collections::BTreeSet<_> =
        requests.iter().map(|request| request["src"].as_str()).collect();
    assert_eq!(connections.len(), 1, "one connection");
    for (number, request) in requests.iter().enumerate() {
        assert_eq!(request["path"], format!("/hello.json?{}", number + 1));
    }
}

#[test]
fn other_processes_stay_out_of_a_pid_filter() {
    let Some(_alone) = can_capture(NGINX) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let mut running = Running::start(&["tls", "--format", "jsonl", "--pid", &server.pid().to_string()]);
    running.wait_until_capturing();
    curl(&[&server.url("/hello.json")]);
    let finished = running.interrupt();
    let lines = finished.json();
    assert_eq!(
        lines.len(),
        2,
        "the server's request and response only: {lines:?}"
    );
    assert!(
        lines
            .iter()
            .all(|line| line["pid"] == server.pid() && line["comm"] == "python3"),
        "{lines:?}"
    );
}

#[test]
fn a_user_filter_fails_closed() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let mut running = Running::start(&["tls", "--uid", "65533"]);
    running.wait_until_capturing();
    curl(&[&server.url("/hello.json")]);
    let finished = running.interrupt();
    assert!(finished.stdout.is_empty(), "{}", finished.text());
    assert!(
        finished.stderr.contains("nothing was captured"),
        "{}",
        finished.stderr
    );
}

#[test]
fn what_cannot_be_captured_is_a_one_line_error_with_the_fix() {
    let Some(_alone) = can_capture(&[]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    fs::write(&text, "not a library\n").unwrap();
    for (arguments, part) in [
        (&["tls", "--pid", "4194300"][..], "no such process"),
        (
            &["tls", "--libssl", "/nonexistent/libssl.so"],
            "/nonexistent/libssl.so",
        ),
        (&["tls", "--libssl", text.to_str().unwrap()], "notes.txt"),
        (&["tls", "--libssl", "/bin/true"], "/bin/true"),
        (
            &["tls", "--eventaddr", "/nonexistent/folder/file"],
            "/nonexistent/folder/file",
        ),
        (&["tls", "--eventaddr", "tcp://127.0.0.1:1"], "127.0.0.1:1"),
        (
            &["record", "/nonexistent/folder/file"],
            "/nonexistent/folder/file",
        ),
    ] {
        let finished = run(arguments);
        assert_eq!(finished.code(), Some(1), "{arguments:?}: {}", finished.stderr);
        assert_eq!(
            finished.stderr.lines().count(),
            1,
            "{arguments:?}: {}",
            finished.stderr
        );
        assert!(
            finished.stderr.contains(part),
            "{arguments:?}: {}",
            finished.stderr
        );
    }
}

#[test]
fn without_privileges_the_way_out_is_named_and_the_demo_replays() {
    let Some(_alone) = can_capture(&[]) else {
        return;
    };
    // The build folder may be closed to others, so the program is copied to where anyone can run it.
    let folder = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = folder.path().join("ecapture");
    fs::copy(env!("CARGO_BIN_EXE_ecapture"), &program).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).uid(65534).gid(65534);
        Running::spawn(command).finish()
    };
    let finished = as_nobody(&["tls"]);
    assert_eq!(finished.code(), Some(1));
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("run as root"), "{}", finished.stderr);
    let finished = as_nobody(&["demo"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("replay of an embedded recording"),
        "{}",
        finished.stderr
    );
    assert!(
        finished.text().contains("GET /hello.json HTTP/1.1"),
        "{}",
        finished.text()
    );
}

#[test]
fn ctrl_c_in_the_middle_of_a_transfer_prints_what_came() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    fs::write(folder.path().join("large.bin"), vec![b'x'; 32 * 1024 * 1024]).unwrap();
    let server = Server::python(folder.path());
    let mut running = Running::start(&["tls"]);
    running.wait_until_capturing();
    let mut client = Command::new("curl")
        .args(["-sk", "--limit-rate", "1M", &server.url("/large.bin")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Some of the body has been received: the transfer is under way.
    let mut first = [0; 4096];
    std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut first).unwrap();
    let finished = running.interrupt();
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let text = finished.text();
    assert!(
        text.contains("GET /large.bin HTTP/1.1\r\n"),
        "the request was printed"
    );
    assert!(
        text.contains("[ecapture: body incomplete"),
        "the response is marked as incomplete"
    );
    assert!(!finished.stderr.contains("do not add up"), "{}", finished.stderr);
}

#[test]
fn a_closed_pipe_ends_a_capture_with_success() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let mut command = ecapture();
    command
        .args(["tls", "--pid", &server.pid().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("capturing")));
    curl(&[&server.url("/hello.json")]);
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(first.starts_with("PID:"), "{first}");
    // The reader is gone now, as with `| head -1`; the next message finds that out.
    curl(&[&server.url("/hello.json")]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_full_disk_ends_a_capture_with_the_reason() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let mut running = Running::start(&["tls", "--eventaddr", "/dev/full"]);
    running.wait_until_capturing();
    curl(&[&server.url("/hello.json")]);
    let finished = running.finish();
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("/dev/full"), "{}", finished.stderr);
    assert!(finished.stderr.contains("sink_error"), "{}", finished.stderr);
}

#[test]
fn a_recording_prints_what_the_capture_would_have() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let file = folder.path().join("events.jsonl");
    let finished = run(&[
        "record",
        file.to_str().unwrap(),
        "--",
        "curl",
        "-sk",
        "-o",
        "/dev/null",
        &server.url("/hello.json"),
    ]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    let replayed = run(&["replay", file.to_str().unwrap(), "--format", "jsonl"]);
    let lines = replayed.json();
    assert_eq!(
        messages(&lines, "http1.request", "curl", "write").len(),
        1,
        "{lines:?}"
    );
    assert_eq!(
        messages(&lines, "http1.response", "curl", "read")[0]["body"]["text"],
        "{\"hello\":\"world\"}\n"
    );
}

#[test]
fn the_demo_shows_a_real_exchange() {
    let Some(_alone) = can_capture(PYTHON) else {
        return;
    };
    let finished = run(&["demo"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let text = finished.text();
    for part in [
        "GET /hello.json HTTP/1.1",
        "this went through TLS",
        "password=visible",
        "Comm:curl",
        "Comm:python3",
    ] {
        assert!(text.contains(part), "{part}: {text}\n{}", finished.stderr);
    }
    assert!(!finished.stderr.contains("replay"), "{}", finished.stderr);
    assert!(!Path::new("hello.json").exists(), "nothing is left behind");
}

#[test]
fn gnutls_is_captured_without_openssl() {
    let Some(_alone) = can_capture(&["wget", "openssl", "/usr/bin/python3"]) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let url = server.url("/hello.json");
    let client = [
        "wget",
        "-qO/dev/null",
        "--no-check-certificate",
        "--no-proxy",
        &url,
    ];
    let finished = run(&[&["gnutls", "--format", "jsonl", "--"][..], &client].concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    assert!(!finished.stderr.contains("SSL_read"), "{}", finished.stderr);
    let lines = finished.json();
    let requests = messages(&lines, "http1.request", "wget", "write");
    let responses = messages(&lines, "http1.response", "wget", "read");
    assert_eq!(
        (requests.len(), responses.len(), lines.len()),
        (1, 1, 2),
        "{lines:?}"
    );
    assert_eq!(responses[0]["body"]["text"], "{\"hello\":\"world\"}\n");
    assert_addresses(requests[0], responses[0], server.port);
}

#[test]
fn nss_is_captured_without_openssl() {
    let Some(_alone) = can_capture(&["tstclnt", "openssl", "/usr/bin/python3"]) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let request = folder.path().join("request");
    fs::write(&request, "GET /hello.json HTTP/1.0\r\n\r\n").unwrap();
    let port = server.port.to_string();
    // -o accepts any certificate, -D needs no database of them, -A sends a file.
    let client = ["tstclnt", "-h", "127.0.0.1", "-p", &port, "-o", "-D", "-A"];
    let arguments = ["nss", "--format", "jsonl", "--"];
    let finished = run(&[&arguments[..], &client, &[request.to_str().unwrap()]].concat());
    assert!(!finished.stderr.contains("SSL_read"), "{}", finished.stderr);
    let lines: Vec<Value> = finished
        .text()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let requests = messages(&lines, "http1.request", "tstclnt", "write");
    let responses = messages(&lines, "http1.response", "tstclnt", "read");
    assert_eq!(
        (requests.len(), responses.len()),
        (1, 1),
        "{lines:?}: {}",
        finished.stderr
    );
    assert_eq!(requests[0]["path"], "/hello.json");
    assert_eq!(responses[0]["body"]["text"], "{\"hello\":\"world\"}\n");
}

#[test]
fn a_go_program_is_captured_alone() {
    let Some(_alone) = can_capture(&["nats-server", "openssl", "/usr/bin/python3"]) else {
        return;
    };
    let folder = site();
    let server = Server::nats(folder.path());
    let program = format!("/proc/{}/exe", server.pid());
    let mut running = Running::start(&["gotls", "-e", &program]);
    running.wait_until_capturing();
    ping_nats(server.port);
    let finished = running.interrupt();
    assert_nothing_lost(&finished);
    let text = finished.text();
    assert!(text.contains("PING") && text.contains("PONG"), "{text}");
    assert!(text.contains("Comm:nats-server"), "{text}");
    assert!(!text.contains("Comm:python3"), "{text}");
}

#[test]
fn a_library_of_another_kind_is_refused() {
    let Some(_alone) = can_capture(&["nats-server"]) else {
        return;
    };
    let finished = run(&["gnutls", "--gnutls", "/usr/sbin/nats-server"]);
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(
        finished
            .stderr
            .contains("has functions of Go crypto/tls, not of GnuTLS"),
        "{}",
        finished.stderr
    );
}

//! Real capture of real programs: needs root and BTF, and says so where it cannot run.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::can_capture;
use crate::support::capture::{HELLO, Scene, assert_addresses, curl, exchange, messages, with_port};
use crate::support::exchanges::{assert_balanced, assert_nothing_lost};
use crate::support::program::{Running, run};
use crate::support::servers::{Server, ping_nats};

const JSON: &[&str] = &["tls", "--format", "jsonl", "--whole"];

fn header<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    let fields = message["headers"].as_array().expect("header fields");
    fields.iter().find(|field| {
        field[0]
            .as_str()
            .is_some_and(|other| other.eq_ignore_ascii_case(name))
    })?[1]
        .as_str()
}

#[test]
fn a_command_is_captured_alone() {
    let Some(scene) = Scene::python(&[]) else { return };
    let finished = scene.capture_curl(&[JSON, &["--fail-on-loss"]].concat(), &[], "/hello.json");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    assert!(
        finished.stderr.lines().any(|line| line == HELLO.trim_end()),
        "curl's own output does not mix with the messages: {}",
        finished.stderr
    );
    let lines = finished.json();
    assert_eq!(lines.len(), 2, "curl's two messages only: {lines:?}");
    let [request, response] = exchange(&lines, "http1", "curl", true);
    assert_eq!(request["method"], "GET");
    assert_eq!(request["path"], "/hello.json");
    let host = format!("127.0.0.1:{}", scene.server.port);
    assert_eq!(header(request, "Host"), Some(host.as_str()));
    assert_eq!(response["status"], 200);
    assert_eq!(response["body"]["text"], HELLO);
    assert_eq!(response["body"]["complete"], true);
    assert_addresses(request, response, scene.server.port);
}

#[test]
fn both_sides_of_an_exchange_with_python_are_seen() {
    let Some(scene) = Scene::python(&[]) else { return };
    let port = scene.server.port;
    let finished = scene.capture(JSON, || curl(&["-d", "user=me", &scene.server.url("/login")]));
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_balanced(&finished);
    let lines = with_port(&finished, port);
    for comm in ["curl", "python3"] {
        let [request, response] = exchange(&lines, "http1", comm, comm == "curl");
        assert_eq!(request["method"], "POST");
        assert_eq!(request["body"]["text"], "user=me");
        assert_eq!(response["body"]["text"], "user=me");
        assert_addresses(request, response, port);
        if comm == "python3" {
            assert_eq!(request["pid"], scene.server.pid());
        }
    }
}

#[test]
fn http2_with_nginx_is_seen_on_both_sides() {
    let Some(scene) = Scene::nginx(&[]) else { return };
    let port = scene.server.port;
    let finished = scene.capture(JSON, || {
        curl(&["--http2", "--compressed", &scene.server.url("/page.txt")]);
        curl(&["--http1.1", &scene.server.url("/hello.json")]);
    });
    assert_balanced(&finished);
    let lines = with_port(&finished, port);
    for comm in ["curl", "nginx"] {
        let [request, response] = exchange(&lines, "http2", comm, comm == "curl");
        assert_eq!(request["method"], "GET");
        assert_eq!(request["path"], "/page.txt");
        assert_eq!(request["stream"], response["stream"]);
        assert_eq!(response["status"], 200);
        assert_eq!(response["body"]["text"], "page\n".repeat(1000));
        assert_eq!(response["body"]["encoding"], serde_json::json!(["gzip"]));
        assert_addresses(request, response, port);
        let _once = exchange(&lines, "http1", comm, comm == "curl");
    }
}

#[test]
fn the_text_format_has_the_original_header_line() {
    let Some(scene) = Scene::python(&[]) else { return };
    let finished = scene.capture_curl(&["tls"], &["-o", "/dev/null"], "/hello.json");
    let text = finished.text();
    let header = text.lines().next().expect("a header line");
    assert!(
        header.starts_with("PID:") && header.contains(", Comm:curl, Src:127.0.0.1:"),
        "{header}"
    );
    let end = format!(", Dest:127.0.0.1:{},", scene.server.port);
    assert!(header.ends_with(&end), "{header}");
    assert!(text.contains("GET /hello.json HTTP/1.1\r\n"), "{text}");
    assert!(text.contains(HELLO), "{text}");
}

#[test]
fn two_hundred_requests_on_one_connection_print_as_many_of_each() {
    let Some(scene) = Scene::nginx(&[]) else { return };
    let options = ["--http1.1", "-o", "/dev/null"];
    let finished = scene.capture_curl(JSON, &options, "/hello.json?[1-200]");
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
    let Some(scene) = Scene::python(&[]) else { return };
    let pid = scene.server.pid();
    let finished = scene.capture(&[JSON, &["--pid", &pid.to_string()]].concat(), || {
        curl(&[&scene.server.url("/hello.json")]);
    });
    let lines = finished.json();
    let [request, response] = exchange(&lines, "http1", "python3", false);
    assert_eq!(lines.len(), 2, "these two only: {lines:?}");
    assert_eq!((&request["pid"], &response["pid"]), (&pid.into(), &pid.into()));
}

#[test]
fn a_user_filter_fails_closed() {
    let Some(scene) = Scene::python(&[]) else { return };
    let finished = scene.capture(&["tls", "--uid", "65533"], || {
        curl(&[&scene.server.url("/hello.json")]);
    });
    assert!(finished.stdout.is_empty(), "{}", finished.text());
    assert!(
        finished.stderr.contains("nothing was captured"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_recording_prints_what_the_capture_would_have() {
    let Some(scene) = Scene::python(&[]) else { return };
    let file = scene.folder.path().join("events.jsonl");
    let file = file.to_str().expect("a plain path");
    let finished = scene.capture_curl(&["record", file], &["-o", "/dev/null"], "/hello.json");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    let replayed = run(&["replay", file, "--format", "jsonl"]);
    let lines = replayed.json();
    let [_, response] = exchange(&lines, "http1", "curl", true);
    assert_eq!(response["body"]["text"], HELLO);
}

#[test]
fn the_demo_shows_a_real_exchange() {
    let Some(_alone) = can_capture(&["curl", "openssl", "/usr/bin/python3"]) else {
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
    let Some(scene) = Scene::python(&["wget"]) else {
        return;
    };
    let url = scene.server.url("/hello.json");
    let client = [
        "wget",
        "-qO/dev/null",
        "--no-check-certificate",
        "--no-proxy",
        &url,
    ];
    let finished = run(&[&["gnutls", "--format", "jsonl", "--whole", "--"][..], &client].concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    assert!(!finished.stderr.contains("SSL_read"), "{}", finished.stderr);
    let lines = finished.json();
    let [request, response] = exchange(&lines, "http1", "wget", true);
    assert_eq!(lines.len(), 2, "these two only: {lines:?}");
    assert_eq!(response["body"]["text"], HELLO);
    assert_addresses(request, response, scene.server.port);
}

#[test]
fn nss_is_captured_without_openssl() {
    let Some(scene) = Scene::python(&["tstclnt"]) else {
        return;
    };
    let request = scene.folder.path().join("request");
    fs::write(&request, "GET /hello.json HTTP/1.0\r\n\r\n").expect("a written file");
    let port = scene.server.port.to_string();
    // -o accepts any certificate, -D needs no database of them, -A sends a file.
    let client = ["tstclnt", "-h", "127.0.0.1", "-p", &port, "-o", "-D", "-A"];
    let arguments = ["nss", "--format", "jsonl", "--whole", "--"];
    let file = request.to_str().expect("a plain path");
    let finished = run(&[&arguments[..], &client, &[file]].concat());
    assert!(!finished.stderr.contains("SSL_read"), "{}", finished.stderr);
    let lines = finished.json();
    let [request, response] = exchange(&lines, "http1", "tstclnt", true);
    assert_eq!(request["path"], "/hello.json");
    assert_eq!(response["body"]["text"], HELLO);
    assert_addresses(request, response, scene.server.port);
}

#[test]
fn a_go_program_is_captured_alone() {
    let Some(_alone) = can_capture(&["nats-server", "openssl", "/usr/bin/python3"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
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

/// A thread may call itself anything; its program stays what it is.
#[test]
fn a_thread_with_a_name_of_its_own_is_shown_with_its_program() {
    let Some(scene) = Scene::python(&[]) else { return };
    let script = "import ssl, sys, urllib.request\n\
                  open('/proc/thread-self/comm', 'w').write('own name')\n\
                  context = ssl._create_unverified_context()\n\
                  urllib.request.urlopen(sys.argv[1], context=context).read()";
    let url = scene.server.url("/hello.json");
    let captured = |format: &str| {
        let words = ["/usr/bin/python3", "-c", script, &url];
        let finished = run(&[&["tls", "--format", format, "--"][..], &words].concat());
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        finished
    };
    let program = fs::canonicalize("/usr/bin/python3").expect("python is there");
    let program = program
        .file_name()
        .expect("a file")
        .to_str()
        .expect("a plain name");
    let finished = captured("jsonl");
    let lines = with_port(&finished, scene.server.port);
    for message in exchange(&lines, "http1", "own name", true) {
        assert_eq!(message["program"], program, "{message}");
    }
    let text = captured("text").text();
    let header = format!(", Comm:own name, Program:{program}, Src:127.0.0.1:");
    assert!(text.contains(&header), "{text}");
}

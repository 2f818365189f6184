//! Programs with rustls: ureq, reqwest and tokio-rustls as `tests/rustls-programs` builds them.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::coverage::{Exchange, capture, open_site};
use crate::support::can_capture;
use crate::support::capture::with_port;
use crate::support::program::{Running, run};
use crate::support::servers::{Certificate, Server, peer};

/// Where `tests/rustls-programs` puts them.
const PROGRAMS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/rustls/release");
/// The body of `/large`, in bytes.
const LARGE: usize = 50_000;

fn program(name: &str) -> String {
    format!("{PROGRAMS}/{name}")
}

/// `ecapture doctor`'s line about the executable of a server.
fn diagnosis(server: &Server) -> Value {
    let lines = run(&["doctor", "--format", "jsonl"]).json();
    let mut lines = lines.into_iter();
    let line = lines.find(|line| line["pid"] == server.pid() && line["place"] == "executable");
    line.expect("a line of this process")
}

/// Small and large bodies over one connection, from threads that block and from threads that share
/// their connections, whose objects move in memory before they are used.
#[test]
fn programs_with_rustls_are_captured_on_both_sides() {
    let programs = ["rustls-blocking", "rustls-tokio"].map(program);
    let Some(_alone) = can_capture(&["openssl", &programs[0], &programs[1]]) else {
        return;
    };
    let folder = open_site();
    let certificate = Certificate::create(folder.path());
    let mut exchanges = ["rustls-blocking", "rustls-tokio"].map(|name| {
        let mut exchange = Exchange::of_one(name, || Command::new(program(name)), &certificate);
        exchange.client.args(["/large", "/hello.json"]);
        exchange.expected.push(("/large", "x".repeat(LARGE)));
        exchange.expected.push(exchange.expected[0].clone());
        exchange.addresses = "heuristic";
        exchange
    });
    for exchange in &mut exchanges {
        let line = diagnosis(&exchange.server);
        assert_eq!(
            (&line["tls"], &line["version"], &line["obstacle"]),
            (&"rustls".into(), &"0.23.46".into(), &Value::Null)
        );
    }
    // Threads of tokio have a name of their own.
    exchanges[1].server_comm = "tokio-rt-worker";
    exchanges[1].client_comm = "tokio-rt-worker";
    let captured = capture(&mut exchanges);
    for exchange in exchanges {
        exchange.check(&captured);
    }
}

/// Such a request is decrypted during the handshake, after which the object moves. The next connection is at its
/// old address.
#[test]
fn a_request_that_comes_with_the_end_of_the_handshake_is_of_the_same_connection() {
    let program = program("rustls-tokio");
    let Some(_alone) = can_capture(&["openssl", "/usr/bin/python3", &program]) else {
        return;
    };
    let folder = open_site();
    let certificate = Certificate::create(folder.path());
    let server = Server::serving(Command::new(&program), &certificate);
    let mut running = Running::start(&["tls", "--format", "jsonl", "--pid", &server.pid().to_string()]);
    running.wait_until_capturing();
    let mut client = Command::new("/usr/bin/python3");
    client
        .arg(peer("one_flight.py"))
        .args([&server.port.to_string(), "5"]);
    assert!(client.status().expect("Python starts").success());
    let finished = running.interrupt();
    let mut seen: Vec<_> = with_port(&finished, server.port)
        .iter()
        .map(|line| {
            let path = line["path"].as_str().or(line["request"]["path"].as_str());
            let number = path
                .and_then(|path| path.strip_prefix("/hello.json?"))
                .unwrap_or("?");
            let kind = format!("{} {}", line["kind"], line["pairing"]);
            (number.to_owned(), line["connection"].as_u64(), kind)
        })
        .collect();
    seen.sort();
    let mut connections: Vec<_> = seen.iter().map(|(_, connection, _)| *connection).collect();
    connections.dedup();
    assert_eq!(connections.len(), 5, "{seen:#?}");
    for (number, messages) in seen.chunks(4).enumerate() {
        let kinds: Vec<_> = messages.iter().map(|(_, _, kind)| kind.as_str()).collect();
        let (request, response) = (r#""http1.request" null"#, r#""http1.response" "certain""#);
        assert_eq!(kinds, [request, request, response, response], "{seen:#?}");
        assert!(
            messages.iter().all(|(of, ..)| *of == number.to_string()),
            "{seen:#?}"
        );
    }
}

#[test]
fn a_stripped_program_with_rustls_is_named_with_the_reason() {
    let original = program("rustls-blocking");
    let Some(_alone) = can_capture(&["openssl", "strip", &original]) else {
        return;
    };
    let folder = open_site();
    let certificate = Certificate::create(folder.path());
    let stripped = folder.path().join("stripped");
    fs::copy(&original, &stripped).expect("a copy");
    let status = Command::new("strip").arg(&stripped).status();
    assert!(status.expect("strip starts").success());
    let server = Server::serving(Command::new(&stripped), &certificate);
    let line = diagnosis(&server);
    assert_eq!(
        (&line["tls"], &line["version"]),
        (&"rustls".into(), &"0.23.46".into())
    );
    assert_eq!(line["functions"], Value::Array(Vec::new()), "{line}");
    let told = |name: &str, part| line[name].as_str().is_some_and(|text| text.contains(part));
    assert!(told("obstacle", "symbols were removed"), "{line}");
    assert!(told("advice", "strip = false"), "{line}");
}

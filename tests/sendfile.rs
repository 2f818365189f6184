//! Files that a TLS library lets the kernel send (`SSL_sendfile`): what nobody can see is said to be missing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::can_capture;
use crate::support::capture::{curl, messages, site};
use crate::support::exchanges::{assert_balanced, assert_nothing_lost};
use crate::support::program::Running;
use crate::support::servers::{Server, compile};

const FILE_BYTES: usize = 1000;

#[test]
fn what_the_kernel_sends_from_a_file_is_a_gap_of_so_many_bytes() {
    let Some(_alone) = can_capture(&["gcc"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    fs::write(&file, vec![b'x'; FILE_BYTES]).expect("a written file");
    let library = folder.path().join("libssl.so");
    compile("sendfile.c", &library, &["-shared", "-fPIC"]);
    let program = folder.path().join("files");
    let found = format!("-Wl,-rpath,{}", folder.path().display());
    compile(
        "files.c",
        &program,
        &[library.to_str().expect("a plain path"), &found],
    );
    let mut serve = std::process::Command::new(&program);
    serve.arg(&file);
    let server = Server::announcing(serve);
    let pid = server.pid().to_string();
    let mut running = Running::start(&["tls", "--pid", &pid, "--format", "jsonl", "--whole"]);
    running.wait_until_capturing();
    let mut client = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
    client
        .write_all(b"GET /file HTTP/1.1\r\nHost: h\r\n\r\n")
        .expect("it reads");
    let mut received = Vec::new();
    client.read_to_end(&mut received).expect("it answers");
    let finished = running.interrupt();
    let told: Vec<_> = finished.json().iter().map(told).collect();
    let expected = [
        json!(["http1.request", "read", ""]),
        json!(["gap", "write", 10]),
        json!(["http1.response", "write", "gap in the body"]),
        json!(["gap", "write", FILE_BYTES]),
        json!(["http1.response", "write", "after"]),
    ];
    assert_eq!(told, expected, "{}", finished.stderr);
    let lost = format!("kernel sent_from_file: 0 events, {} bytes", 10 + FILE_BYTES);
    assert!(finished.stderr.contains(&lost), "{}", finished.stderr);
    assert_balanced(&finished);
}

/// Kind, direction, and bytes missing, what is wrong with the body, or the body.
fn told(line: &Value) -> Value {
    let body = &line["body"];
    let told = [&line["gap"]["bytes"], &body["error"], &body["text"]];
    let told = told.into_iter().find(|told| !told.is_null());
    json!([line["kind"], line["direction"], told])
}

/// nginx asks for kernel TLS. Where the kernel has none, nginx reads its files itself and writes them to OpenSSL.
#[test]
fn nginx_that_would_send_files_by_the_kernel_is_captured_where_it_cannot() {
    let Some(_alone) = can_capture(&["nginx", "openssl", "curl"]) else {
        return;
    };
    let folder = site();
    let server = Server::nginx_with(folder.path(), "sendfile on; ssl_conf_command Options KTLS;");
    let pid = server.worker_pid().to_string();
    let mut running = Running::start(&["tls", "--pid", &pid, "--format", "jsonl", "--whole"]);
    running.wait_until_capturing();
    curl(&["--http1.1", &server.url("/page.txt")]);
    // What nginx has sent is seen when its call returns: curl may have ended by then. The third record is about
    // nginx itself.
    running.wait_for_figures(|line| line.contains("written 3 records"));
    let finished = running.interrupt();
    let lines = finished.json();
    let responses = messages(&lines, "http1.response", "nginx", "write");
    assert_eq!(responses.len(), 1, "{}", finished.stderr);
    assert_eq!(responses[0]["body"]["complete"], true, "{}", responses[0]);
    let text = fs::read_to_string(folder.path().join("page.txt")).expect("a readable file");
    assert_eq!(responses[0]["body"]["text"], text.as_str());
    assert_nothing_lost(&finished);
}

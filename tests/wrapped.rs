//! Commands behind others: a program is captured from its first byte, whoever starts it.

use std::path::Path;
use std::process::Command;

use crate::support::can_capture;
use crate::support::capture::{exchange, with_port};
use crate::support::exchanges::assert_nothing_lost;
use crate::support::program::run;
use crate::support::servers::{Certificate, Server, static_openssl};

/// Exit code of `--fail-on-loss`.
const LOSS: i32 = 3;

/// Returns true if a run was captured from the first byte. Each has a file of its own with OpenSSL in it,
/// which nobody has attached to before. A miss is named and a loss.
fn is_captured_from_the_first_byte(folder: &Path, server: &Server, number: usize, wrapper: &[&str]) -> bool {
    let client = folder.join(format!("client-{number}"));
    std::fs::copy(folder.join("static"), &client).expect("a copied file");
    let client = client.to_str().expect("a plain path");
    let port = server.port.to_string();
    let capture = ["tls", "--format", "jsonl", "--fail-on-loss", "--"];
    let finished = run(&[&capture, wrapper, &[client, "get", &port, "/hello.json"]].concat());
    let lines = with_port(&finished, server.port);
    if finished.code() == Some(LOSS) {
        let is_late = ["connection_joined_late", "program_too_short"];
        let is_named = is_late.iter().any(|reason| finished.stderr.contains(reason));
        assert!(is_named, "{wrapper:?}: {}", finished.stderr);
        return false;
    }
    assert_eq!(finished.code(), Some(0), "{wrapper:?}: {}", finished.stderr);
    assert_nothing_lost(&finished);
    // It asks twice, on one connection each.
    let requests = lines.iter().filter(|line| line["kind"] == "http1.request");
    assert_eq!(requests.count(), 2, "{wrapper:?}: {}", finished.stderr);
    for line in &lines {
        assert!(line["joined_late"].is_null(), "{wrapper:?}: {line}");
    }
    true
}

/// A process is held when its exec has been reported, not by the exec itself: on a busy machine it may have run a
/// moment too long, about once in a hundred times. That is never silent.
#[test]
fn a_program_behind_others_is_captured_from_its_first_byte() {
    let Some(_alone) = can_capture(&["gcc", "openssl", "timeout", "env", "sudo"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let mut serve = Command::new(static_openssl(folder.path(), &[]));
    serve
        .arg("serve")
        .args([&certificate.certificate, &certificate.key]);
    let server = Server::announcing(serve);
    let wrappers = [
        &[][..],
        &["timeout", "20"],
        &["env", "A=b"],
        &["sh", "-c", "\"$@\"; exit $?", "sh"],
        &["sudo", "-n"],
        &["timeout", "20", "env", "A=b", "sh", "-c", "exec \"$@\"", "sh"],
    ];
    let runs = wrappers.iter().cycle().take(3 * wrappers.len()).enumerate();
    let captured = runs.map(|(number, wrapper)| {
        usize::from(is_captured_from_the_first_byte(
            folder.path(),
            &server,
            number,
            wrapper,
        ))
    });
    let whole = captured.sum::<usize>();
    assert!(whole > 3 * wrappers.len() - 2, "{whole} runs");
}

/// Whoever is its debugger stays it.
#[test]
fn a_program_with_a_debugger_runs_as_ever() {
    let Some(scene) = crate::support::capture::Scene::python(&["strace"]) else {
        return;
    };
    let url = scene.server.url("/hello.json");
    let trace = scene.folder.path().join("trace");
    let trace = trace.to_str().expect("a plain path");
    let words = [
        "strace",
        "-f",
        "-o",
        trace,
        "curl",
        "-sk",
        "-o",
        "/dev/null",
        &url,
    ];
    let finished = run(&[&["tls", "--format", "jsonl", "--"][..], &words].concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    exchange(&with_port(&finished, scene.server.port), "http1", "curl", true);
    assert!(
        std::fs::read_to_string(trace)
            .expect("a trace")
            .contains("exited with 0")
    );
}

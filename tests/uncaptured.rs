//! Programs whose TLS cannot be captured: each is named with the reason, and counted.

use std::path::Path;
use std::process::Command;

use crate::support::exchanges::lost_events;
use crate::support::program::{Finished, Running, run};
use crate::support::servers::{Certificate, Server, static_openssl};
use crate::support::{bun, can_capture};

/// Exit code of `--fail-on-loss`.
const LOSS: Option<i32> = Some(3);

/// A client with a stripped OpenSSL linked into it, and a server for it.
pub(crate) struct Stripped {
    folder: tempfile::TempDir,
    server: Server,
}

impl Stripped {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let certificate = Certificate::create(folder.path());
        let mut serve = Command::new(static_openssl(folder.path(), &["-s"]));
        serve
            .arg("serve")
            .args([&certificate.certificate, &certificate.key]);
        let server = Server::announcing(serve);
        let client = folder.path().join("client");
        std::fs::copy(folder.path().join("static"), client).expect("a copied file");
        Self { folder, server }
    }

    pub(crate) fn words(&self) -> Vec<String> {
        let client = self.folder.path().join("client");
        let client = client.to_str().expect("a plain path").to_owned();
        [&client, "get", &self.server.port.to_string(), "/hello.json"]
            .map(str::to_owned)
            .to_vec()
    }
}

/// The line about a program, and nothing that sounds as if all was well.
fn assert_named(finished: &Finished, program: &str, reason: &str) {
    let stderr = &finished.stderr;
    let line = stderr
        .lines()
        .find(|line| line.contains("cannot be captured") && line.contains(program));
    assert!(line.is_some_and(|line| line.contains(reason)), "{stderr}");
    assert_eq!(lost_events(finished, "program_not_captured"), 1, "{stderr}");
    assert!(!stderr.contains("nothing was lost"), "{stderr}");
}

#[test]
fn a_command_that_cannot_be_captured_is_named_and_a_loss() {
    let Some(_alone) = can_capture(&["gcc", "openssl", "timeout"]) else {
        return;
    };
    let stripped = Stripped::start();
    for wrapper in [&[][..], &["timeout", "20"], &["sh", "-c", "\"$@\"; true", "sh"]] {
        let words = stripped.words();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let finished = run(&[&["tls", "--fail-on-loss", "--"], wrapper, &words].concat());
        assert_eq!(finished.code(), LOSS, "{}", finished.stderr);
        assert_named(&finished, "client (", "no symbols");
    }
}

/// It has begun and ended when the capture ends.
#[test]
fn a_short_program_of_a_host_wide_run_is_named_if_it_connected() {
    let Some(_alone) = can_capture(&["gcc", "openssl"]) else {
        return;
    };
    let stripped = Stripped::start();
    let mut running = Running::start(&["tls", "--fail-on-loss"]);
    running.wait_until_capturing();
    let words = stripped.words();
    let run_once = |words: &[String]| {
        Command::new(&words[0])
            .args(&words[1..])
            .output()
            .expect("it runs")
    };
    assert!(run_once(&words).status.success());
    // Without a connection nothing is missing.
    let _usage = run_once(&words[..1]);
    let finished = running.interrupt();
    assert_eq!(finished.code(), LOSS, "{}", finished.stderr);
    let named = finished
        .stderr
        .lines()
        .filter(|line| line.contains("client (") && line.contains("no symbols"));
    assert_eq!(named.count(), 1, "{}", finished.stderr);
}

#[test]
fn bun_is_named() {
    let bun = &bun();
    let Some(_alone) = can_capture(&[bun]) else { return };
    let finished = run(&["tls", "--fail-on-loss", "--", bun, "--version"]);
    assert_eq!(finished.code(), LOSS, "{}", finished.stderr);
    assert_named(&finished, "bun (", "BoringSSL");
}

#[test]
fn uv_is_named() {
    let uv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp/uv/bin/uv");
    let uv = uv.to_str().expect("a plain path");
    let Some(_alone) = can_capture(&[uv]) else { return };
    let finished = run(&["tls", "--fail-on-loss", "--", uv, "--version"]);
    assert_eq!(finished.code(), LOSS, "{}", finished.stderr);
    assert_named(&finished, "uv (", "rustls");
    let calm = run(&["tls", "--", uv, "--version"]);
    assert_eq!(calm.code(), Some(0), "{}", calm.stderr);
}

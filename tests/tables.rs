//! More at once than the kernel's tables have room for: entries that they forget are counted under names of
//! their own, and are not reported as from before the capture.

use crate::support::can_capture;
use crate::support::exchanges::{assert_balanced, assert_nothing_lost, lost_events};
use crate::support::program::{Finished, run};
use crate::support::servers::{Certificate, peer};

/// More than a table of 64 entries can hold, each with a thread that waits in a call, and with two sessions and two
/// sockets.
const CONNECTIONS: usize = 150;

/// Captures connections that all begin and end while it captures.
fn captured(certificate: &Certificate, arguments: &[&str]) -> Finished {
    let script = peer("many_readers.py");
    let files = [&script, &certificate.certificate, &certificate.key];
    let [script, certificate, key] = files.map(|file| file.to_str().expect("a plain path"));
    let number = CONNECTIONS.to_string();
    let capture = [&["tls", "--format", "jsonl", "--fail-on-loss"], arguments].concat();
    let command = ["--", "/usr/bin/python3", script, certificate, key, &number];
    run(&[&capture[..], &command].concat())
}

#[test]
fn what_a_full_table_forgets_is_not_from_before_the_capture() {
    let Some(_alone) = can_capture(&["/usr/bin/python3", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    // The libraries are attached to from the beginning, so nothing here is late.
    let finished = captured(&certificate, &["--inject", "tables:64"]);
    let stderr = &finished.stderr;
    assert_eq!(finished.code(), Some(3), "{stderr}");
    assert_balanced(&finished);
    assert!(lost_events(&finished, "calls_forgotten") > 0, "{stderr}");
    assert!(lost_events(&finished, "connections_forgotten") > 0, "{stderr}");
    for words in [
        "call_began_before_capture",
        "connection_open_before_capture",
        "open before the capture",
    ] {
        assert!(!stderr.contains(words), "{words}: {stderr}");
    }
    assert!(!finished.text().contains("joined_late"), "{}", finished.text());
}

#[test]
fn nothing_is_forgotten_as_long_as_there_is_room() {
    let Some(_alone) = can_capture(&["/usr/bin/python3", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let finished = captured(&certificate, &[]);
    assert_nothing_lost(&finished);
    assert!(!finished.stderr.contains("forgotten"), "{}", finished.stderr);
}

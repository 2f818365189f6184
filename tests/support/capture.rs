//! A site, a server of it, a capture of what a client does with it, and how to read what was printed.

use std::fs;
use std::process::Command;
use std::sync::MutexGuard;

use serde_json::Value;

use super::can_capture;
use super::program::{Finished, Running, run};
use super::servers::Server;

/// Content of the site's `hello.json`.
pub(crate) const HELLO: &str = "{\"hello\":\"world\"}\n";

/// A server of [`site`], while no other test captures.
pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Server,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    /// With a server in Python. `None`, after saying why, where real capture cannot run; `programs` are
    /// needed besides.
    pub(crate) fn python(programs: &[&str]) -> Option<Self> {
        Self::with("/usr/bin/python3", programs, Server::python)
    }

    /// The same with nginx.
    pub(crate) fn nginx(programs: &[&str]) -> Option<Self> {
        Self::with("nginx", programs, Server::nginx)
    }

    fn with(
        program: &'static str,
        programs: &[&'_ str],
        serve: impl FnOnce(&std::path::Path) -> Server,
    ) -> Option<Self> {
        let alone = can_capture(&[&["curl", "openssl", program], programs].concat())?;
        let folder = site();
        Some(Self {
            server: serve(folder.path()),
            folder,
            _alone: alone,
        })
    }

    /// Captures with these arguments while `load` runs.
    #[expect(
        clippy::unused_self,
        reason = "a capture without a scene could see other tests' transfers"
    )]
    pub(crate) fn capture(&self, arguments: &[&str], load: impl FnOnce()) -> Finished {
        let mut running = Running::start(arguments);
        running.wait_until_capturing();
        load();
        running.interrupt()
    }

    /// Captures curl alone, as the command of a capture with `arguments`, while it fetches `path`.
    pub(crate) fn capture_curl(&self, arguments: &[&str], options: &[&str], path: &str) -> Finished {
        let url = self.server.url(path);
        run(&[arguments, &["--", "curl", "-sk"], options, &[&url]].concat())
    }
}

/// A folder with something to serve.
pub(crate) fn site() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("hello.json"), HELLO).expect("a written file");
    fs::write(folder.path().join("page.txt"), "page\n".repeat(1000)).expect("a written file");
    folder
}

pub(crate) fn curl(arguments: &[&str]) {
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

/// The one request and the one response, in this version of HTTP, that `comm` exchanged with the server
/// as a client or as the server itself.
pub(crate) fn exchange<'a>(lines: &'a [Value], version: &str, comm: &str, is_client: bool) -> [&'a Value; 2] {
    let (request, response) = if is_client {
        ("write", "read")
    } else {
        ("read", "write")
    };
    [("request", request), ("response", response)].map(|(kind, direction)| {
        let found = messages(lines, &format!("{version}.{kind}"), comm, direction);
        assert_eq!(found.len(), 1, "one {kind} of {comm}: {lines:?}");
        found[0]
    })
}

/// An exchange over the loopback, captured from its beginning: the sender of one side is the receiver of the
/// other.
pub(crate) fn assert_addresses(request: &Value, response: &Value, server_port: u16) {
    let server = format!("127.0.0.1:{server_port}");
    assert_eq!(request["dst"], server.as_str(), "{request}");
    assert_eq!(response["src"], server.as_str(), "{response}");
    assert_eq!(request["src"], response["dst"], "one client socket");
    assert_eq!(request["addr_source"], "exact");
    assert_eq!(response["addr_source"], "exact");
    for message in [request, response] {
        assert_eq!(message["joined_late"], Value::Null, "{message}");
    }
}

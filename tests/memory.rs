//! What of captured secrets is in the memory of a capture, and so in a core dump of it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::support::can_capture;
use crate::support::otlp::{Collector, all_spans};
use crate::support::program::{PATIENCE, Running};
use crate::support::servers::Server;

const CANARY: &[u8] = b"canary-";
/// A message is decoded, formatted and freed within this time, also on a busy machine.
const SOME_SECONDS: Duration = Duration::from_secs(10);

/// Responses with secrets in their fields and bodies.
const DIRECTIVES: &str = r#"
    location /one { add_header Set-Cookie "s=canary-set-cookie1"; add_header X-Own canary-field1; return 200 "canary-body1"; }
    location /two { add_header Set-Cookie "s=canary-set-cookie2"; add_header X-Own canary-field2; return 200 "canary-body2"; }
    location /slow { add_header X-Own canary-field2; limit_rate 50; try_files /page.txt =404; }
"#;

/// A part of a process's memory.
struct Mapping {
    start: u64,
    end: u64,
    is_readable: bool,
    /// Core dumps leave it out (`VM_DONTDUMP`).
    is_left_out: bool,
}

fn mappings(pid: u32) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("a process of ours");
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some((start, end)) = first.split_once('-') {
            let address = |text| u64::from_str_radix(text, 16).expect("an address");
            mappings.push(Mapping {
                start: address(start),
                end: address(end),
                is_readable: rest.starts_with('r') && !rest.contains("[v"),
                is_left_out: false,
            });
        } else if first == "VmFlags:"
            && let Some(mapping) = mappings.last_mut()
        {
            mapping.is_left_out = rest.split_whitespace().any(|flag| flag == "dd");
        }
    }
    mappings
}

/// The secrets in the memory of a process that a core dump has.
fn canaries_in_memory(pid: u32) -> BTreeSet<String> {
    canaries_in(pid, |mapping| !mapping.is_left_out)
}

/// The secrets of bodies anywhere in the memory of a process, the kernel's rings among it.
fn bodies_in_memory(pid: u32) -> BTreeSet<String> {
    let mut found = canaries_in(pid, |_| true);
    found.retain(|canary| canary.starts_with("canary-body") || canary.starts_with("canary-form"));
    found
}

fn canaries_in(pid: u32, is_meant: impl Fn(&Mapping) -> bool) -> BTreeSet<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).expect("the memory of a process of ours");
    let mut found = BTreeSet::new();
    let is_searched = |mapping: &Mapping| mapping.is_readable && is_meant(mapping);
    let searched = mappings(pid).into_iter().filter(is_searched);
    for Mapping { start, end, .. } in searched {
        let mut bytes = vec![0; usize::try_from(end - start).expect("a part of memory")];
        // It may have been unmapped since.
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            found.append(&mut canaries(&bytes));
        }
    }
    found
}

/// Those that stay there when all messages were written, for some seconds at least.
fn last_canaries_in_memory(pid: u32) -> BTreeSet<String> {
    let started = SystemTime::now();
    loop {
        let found = canaries_in_memory(pid);
        if found.is_empty() || started.elapsed().unwrap_or_default() > SOME_SECONDS {
            return found;
        }
        std::thread::yield_now();
    }
}

fn canaries(bytes: &[u8]) -> BTreeSet<String> {
    let places = memchr::memmem::find_iter(bytes, CANARY);
    let word = |at: usize| {
        let is_word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'-';
        let word: Vec<u8> = bytes[at..].iter().take_while(is_word).copied().collect();
        String::from_utf8_lossy(&word).into_owned()
    };
    places.map(word).collect()
}

/// Exchanges that have happened, over connections that are open.
struct Exchanges(Child);

impl Exchanges {
    fn make(server: &Server) -> Self {
        let client = Command::new("/usr/bin/python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/canaries.py"))
            .arg(server.port.to_string())
            .stdin(Stdio::piped())
            .spawn();
        Self(client.expect("python starts"))
    }
}

impl Drop for Exchanges {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

/// Waits until the file of JSON Lines has all responses that are complete: of the client and the server.
fn wait_for_responses(file: &Path, mut waiting: impl FnMut()) {
    let started = SystemTime::now();
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        let count = |kind: &str| text.matches(kind).count();
        if count(r#""kind":"http1.response""#) >= 6 && count(r#""kind":"http2.response""#) >= 6 {
            return;
        }
        assert!(started.elapsed().unwrap_or_default() < PATIENCE, "{text}");
        waiting();
    }
}

/// The secrets in memory during a capture with these flags when its messages are done, in its outputs and logs
/// afterwards, and those of bodies that were in all of its memory at any time.
fn captured(server: &Server, flags: &[&str]) -> [BTreeSet<String>; 3] {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let log = path("log").display().to_string();
    let mut arguments: Vec<String> = ["tls", "-d", "--logaddr", &log].map(str::to_owned).to_vec();
    for format in ["text", "jsonl", "exchange", "har", "protobuf"] {
        arguments.extend(["-o".to_owned(), format!("{format}:{}", path(format).display())]);
    }
    let collector = Collector::start("http", &[]);
    arguments.extend([
        "-o".to_owned(),
        format!("otlp:http://127.0.0.1:{}", collector.port),
    ]);
    let arguments: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .chain(flags.iter().copied())
        .collect();
    let mut running = Running::start(&arguments);
    running.wait_until_capturing();
    let exchanges = Exchanges::make(server);
    let mut bodies = BTreeSet::new();
    wait_for_responses(&path("jsonl"), || {
        bodies.append(&mut bodies_in_memory(running.pid()));
    });
    // What the kernel's ring had is still there: nothing else has overwritten it.
    bodies.append(&mut bodies_in_memory(running.pid()));
    let in_ring = canaries_in(running.pid(), |mapping| mapping.is_left_out);
    assert!(
        in_ring.contains("canary-cookie1"),
        "a head is found there: {in_ring:?}"
    );
    let in_memory = last_canaries_in_memory(running.pid());
    drop(exchanges);
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let mut written = canaries(finished.stderr.as_bytes());
    let spans = collector.requests();
    assert!(all_spans(&spans).len() >= 6, "{spans:?}");
    let mut sent: BTreeSet<String> = spans
        .iter()
        .flat_map(|request| canaries(request.to_string().as_bytes()))
        .collect();
    assert_eq!(sent.is_empty(), flags.contains(&"metadata"), "{sent:?}");
    written.append(&mut sent);
    for file in fs::read_dir(folder.path()).expect("a folder") {
        let file = file.expect("a file").path();
        written.append(&mut canaries(&fs::read(file).expect("a readable file")));
    }
    [in_memory, written, bodies]
}

#[test]
fn at_metadata_neither_outputs_nor_a_core_dump_have_secrets_of_messages_that_are_done() {
    let Some(_alone) = can_capture(&["nginx", "curl", "openssl", "/usr/bin/python3"]) else {
        return;
    };
    let folder = crate::support::capture::site();
    let server = Server::nginx_with(folder.path(), DIRECTIVES);
    // All of them are in both without it: they are found where they are.
    let [in_memory, written, bodies] = captured(&server, &["--no-redact"]);
    assert!(in_memory.len() > 10, "{in_memory:?}");
    let all = ["canary-body1", "canary-body2", "canary-form1", "canary-form2"];
    assert!(all.iter().all(|body| bodies.contains(*body)), "{bodies:?}");
    let places = [
        "authorization",
        "body",
        "cookie",
        "field",
        "form",
        "query",
        "set-cookie",
        "token",
    ];
    for place in places {
        for version in 1..=2 {
            assert!(
                written.contains(&format!("canary-{place}{version}")),
                "{place}: {written:?}"
            );
        }
    }
    let [in_memory, written, bodies] = captured(&server, &["--privacy", "metadata", "--no-redact"]);
    // The kernel leaves them out, so they are not even in what it shares with us.
    assert!(bodies.is_empty(), "{bodies:?}");
    assert!(in_memory.is_empty(), "{in_memory:?}");
    assert!(written.is_empty(), "{written:?}");
}

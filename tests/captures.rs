//! `replay` of captures of packets: what tshark decrypts of them with the same keys.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::replay::own_fixtures;
use crate::support::program::{PATIENCE, run};
use crate::support::servers::Server;
use crate::support::tshark::tshark;
use crate::support::{can_capture, on_path};

/// The captures among the fixtures, with their key logs.
fn captures() -> Vec<(PathBuf, Option<PathBuf>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let captures: Vec<_> = [
        "suites/capture.pcapng",
        "handshakes/capture.pcapng",
        "cut/capture.pcap",
    ]
    .into_iter()
    .map(|name| {
        let capture = folder.join(format!("packets-{name}"));
        let keys = capture.with_file_name("keys.log");
        (capture, keys.exists().then_some(keys))
    })
    .collect();
    assert!(captures.iter().all(|(capture, _)| capture.exists()));
    captures
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// Replays a capture with its keys.
fn replay(capture: &Path, keys: Option<&Path>, flags: &[&str]) -> crate::support::program::Finished {
    let keys: Vec<&str> = keys
        .map(|keys| ["--keylog", text(keys)])
        .into_iter()
        .flatten()
        .collect();
    run(&[&["replay", text(capture)], &keys[..], flags].concat())
}

#[test]
fn captures_print_what_is_expected_every_time() {
    for (capture, keys) in captures() {
        for (format, name) in [("text", "expected.txt"), ("jsonl", "expected.jsonl")] {
            let finished = replay(&capture, keys.as_deref(), &["--format", format]);
            assert_eq!(
                finished.code(),
                Some(0),
                "{}: {}",
                capture.display(),
                finished.stderr
            );
            let expected = capture.with_file_name(name);
            if std::env::var_os("UPDATE_FIXTURES").is_some() {
                fs::write(&expected, &finished.stdout).expect("a written fixture");
            }
            let wanted = fs::read(&expected).expect("expected output; UPDATE_FIXTURES=1 writes it");
            assert!(finished.stdout == wanted, "{} differs", expected.display());
        }
    }
}

/// How often each request and response occurs.
type Counts = BTreeMap<String, usize>;

fn of_messages(lines: &[Value]) -> Counts {
    let mut counts = Counts::new();
    for line in lines {
        let name = match line["kind"].as_str() {
            Some("http1.request" | "http2.request") => {
                format!(
                    "{} {}",
                    line["method"].as_str().unwrap_or_default(),
                    line["path"].as_str().unwrap_or_default()
                )
            }
            Some("http1.response" | "http2.response") => line["status"].to_string(),
            _ => continue,
        };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// What tshark decrypts.
fn of_tshark(capture: &Path, keys: Option<&Path>) -> Option<Counts> {
    let fields = [
        "http.request.method",
        "http.request.uri",
        "http.response.code",
        "http2.headers.method",
        "http2.headers.path",
        "http2.headers.status",
    ];
    let option = keys.map(|keys| format!("tls.keylog_file:{}", keys.display()));
    let arguments: Vec<&str> = option.iter().flat_map(|option| ["-o", option]).collect();
    let mut counts = Counts::new();
    for row in tshark(text(capture), &arguments, "http || http2", &fields)? {
        let values: Vec<Vec<&str>> = row.iter().map(|value| value.split('|').collect()).collect();
        for (method, path) in [(0, 1), (3, 4)] {
            for (method, path) in values[method]
                .iter()
                .zip(&values[path])
                .filter(|(method, _)| !method.is_empty())
            {
                *counts.entry(format!("{method} {path}")).or_default() += 1;
            }
        }
        for status in [2, 5]
            .into_iter()
            .flat_map(|status| &values[status])
            .filter(|status| !status.is_empty())
        {
            *counts.entry((*status).to_owned()).or_default() += 1;
        }
    }
    Some(counts)
}

#[test]
fn replay_finds_what_tshark_decrypts() {
    let suites = &captures()[0];
    let Some(expected) = of_tshark(&suites.0, suites.1.as_deref()) else {
        return;
    };
    assert_eq!(expected.values().sum::<usize>(), 36, "{expected:?}");
    let finished = replay(
        &suites.0,
        suites.1.as_deref(),
        &["--format", "jsonl", "--fail-on-loss"],
    );
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_eq!(of_messages(&finished.json()), expected);
}

#[test]
fn what_is_missing_is_marked_counted_and_a_loss() {
    let (capture, keys) = &captures()[2];
    let finished = replay(capture, keys.as_deref(), &["--fail-on-loss"]);
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("2 places in shown connections"),
        "{}",
        finished.stderr
    );
    assert!(finished.text().contains("/three?n=20"), "what follows is shown");
    assert!(
        finished.text().contains("5035 bytes"),
        "the gap is marked: {}",
        finished.text()
    );
    let without = replay(capture, None, &["--fail-on-loss"]);
    assert_eq!(without.code(), Some(3));
    assert!(
        without.stderr.contains("2 connections are not decrypted") && without.stderr.contains("--keylog"),
        "{}",
        without.stderr
    );
}

#[test]
fn wrong_files_are_refused_with_what_helps() {
    let (capture, keys) = &captures()[2];
    let keys = keys.as_deref().expect("a key log");
    let folder = tempfile::tempdir().expect("a folder");
    let lines = own_fixtures()[0].join("events.jsonl");
    let finished = replay(&lines, Some(keys), &[]);
    assert_eq!(finished.code(), Some(1));
    assert!(
        finished.stderr.contains("not a capture of packets"),
        "{}",
        finished.stderr
    );
    let finished = replay(capture, Some(&lines), &[]);
    assert_eq!(finished.code(), Some(1));
    assert!(finished.stderr.contains("SSLKEYLOGFILE"), "{}", finished.stderr);
    // A capture that was cut, as by a full disk, and one that is damaged.
    let whole = fs::read(capture).expect("a capture");
    let cut = folder.path().join("cut.pcap");
    fs::write(&cut, &whole[..whole.len() - 100]).expect("a file");
    let finished = replay(&cut, Some(keys), &[]);
    assert_eq!(finished.code(), Some(0));
    assert!(
        finished.stderr.contains("ends in the middle of a block"),
        "{}",
        finished.stderr
    );
    let mut damaged = whole;
    damaged[24 + 8..24 + 12].copy_from_slice(&[0xFF; 4]);
    fs::write(&cut, &damaged).expect("a file");
    let finished = replay(&cut, Some(keys), &[]);
    assert_eq!(finished.code(), Some(1));
    assert!(
        finished.stderr.contains("byte 24: expected a packet"),
        "{}",
        finished.stderr
    );
}

/// Which process sent or received how many HTTP messages.
fn processes(lines: &[Value]) -> Counts {
    let mut counts = Counts::new();
    let is_http = |line: &&Value| line["kind"].as_str().is_some_and(|kind| kind.starts_with("http"));
    for line in lines.iter().filter(is_http) {
        let name = format!("{} {} {}", line["pid"], line["comm"], line["direction"]);
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// Plaintext as packets, read again: the same messages of the same processes.
#[test]
fn packets_of_plaintext_give_the_messages_again() {
    let folder = tempfile::tempdir().expect("a folder");
    for case in own_fixtures() {
        let events = case.join("events.jsonl");
        let packets = folder.path().join("plaintext.pcapng");
        let output = format!("pcapng:{}", packets.display());
        assert_eq!(run(&["replay", text(&events), "-o", &output]).code(), Some(0));
        let of = |file: &Path| {
            let lines = replay(file, None, &["--format", "jsonl", "--whole"]).json();
            (of_messages(&lines), processes(&lines))
        };
        assert_eq!(of(&packets), of(&events), "{}", case.display());
    }
}

/// A capture by another program; while it lives, packets go into its file.
struct OtherCapture {
    child: Child,
    file: PathBuf,
    sentinel: std::net::SocketAddr,
}

/// Marks the end of what a test sends.
const SENTINEL: &[u8] = b"this is the last packet of the test";

impl OtherCapture {
    /// Starts `program`, which is to write `name` in `folder`, and waits until it captures.
    fn start(program: &str, flags: &[&str], file: PathBuf, port: u16) -> Self {
        use std::io::{BufRead as _, BufReader};
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let sentinel = socket.local_addr().expect("an address");
        let filter = format!("tcp port {port} or udp port {}", sentinel.port());
        let mut command = Command::new(program);
        // dumpcap takes a filter before its interfaces for all of them.
        if program == "dumpcap" {
            command.args(["-f", &filter]).args(flags).arg("-w").arg(&file);
        } else {
            command.args(flags).arg("-w").arg(&file).arg(&filter);
        }
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut lines = lines.map_while(Result::ok);
        assert!(
            lines.any(|line| line.contains("istening on") || line.contains("File: ")),
            "{program}"
        );
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            file,
            sentinel,
        }
    }

    /// Waits until all that was sent before is in the file.
    fn finish(mut self) -> PathBuf {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let started = std::time::SystemTime::now();
        socket.send_to(SENTINEL, self.sentinel).expect("a packet is sent");
        let has_all = || {
            let bytes = fs::read(&self.file).unwrap_or_default();
            bytes.windows(SENTINEL.len()).any(|window| window == SENTINEL)
        };
        while !has_all() {
            assert!(
                started.elapsed().unwrap_or_default() < PATIENCE,
                "the last packet is not in {}",
                self.file.display()
            );
            std::thread::yield_now();
        }
        // SAFETY: a signal to a child that was not waited for.
        #[expect(unsafe_code, reason = "no safe wrapper among the test's dependencies")]
        unsafe {
            libc::kill(
                i32::try_from(self.child.id()).expect("a process id"),
                libc::SIGINT,
            );
        }
        self.child.wait().expect("it ends");
        self.file
    }
}

/// tcpdump and dumpcap capture curl and nginx, which need no help of ours but curl's key log.
#[test]
fn captures_by_other_programs_are_read_as_tshark_reads_them() {
    let Some(_guard) = can_capture(&["tcpdump", "dumpcap", "tshark", "curl", "nginx"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let addresses = loopback_addresses();
    let server = Server::nginx_at(folder.path(), addresses, "");
    assert!(on_path("tshark"));
    for (number, (program, flags)) in [
        ("tcpdump", &["-i", "lo", "-U", "--nano", "-Z", "root"][..]),
        ("tcpdump", &["-i", "any", "-U", "-y", "LINUX_SLL2", "-Z", "root"]),
        ("tcpdump", &["-i", "any", "-U", "-y", "LINUX_SLL", "-Z", "root"]),
        ("dumpcap", &["-i", "lo"]),
        ("dumpcap", &["-i", "lo", "-i", "any"]),
    ]
    .into_iter()
    .enumerate()
    {
        let keys = folder.path().join(format!("{number}.log"));
        let capture = folder.path().join(format!("{number}.capture"));
        let capture = OtherCapture::start(program, flags, capture, server.port);
        for address in addresses {
            ask(&format!("https://{address}:{}/hello.json", server.port), &keys);
        }
        let capture = capture.finish();
        let expected = of_tshark(&capture, Some(&keys)).expect("tshark is installed");
        assert!(
            expected.values().sum::<usize>() >= 8 * addresses.len(),
            "{program} {flags:?}: {expected:?}"
        );
        let finished = replay(&capture, Some(&keys), &["--format", "jsonl", "--fail-on-loss"]);
        assert_eq!(
            finished.code(),
            Some(0),
            "{program} {flags:?}: {}",
            finished.stderr
        );
        let lines = finished.json();
        assert_eq!(of_messages(&lines), expected, "{program} {flags:?}");
        for address in addresses {
            let server = format!("{address}:{}", server.port);
            assert!(
                lines.iter().any(|line| line["dst"] == server.as_str()),
                "{server}"
            );
        }
    }
}

/// Addresses of this machine by both versions of IP, as URLs have them.
fn loopback_addresses() -> &'static [&'static str] {
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        return &["127.0.0.1", "[::1]"];
    }
    assert!(
        std::env::var_os("ECAPTURE_REQUIRE_PRIVILEGED").is_none(),
        "this machine has no IPv6"
    );
    println!("SKIPPED: IPv6, which this machine does not have");
    &["127.0.0.1"]
}

/// curl asks for a URL by each version of HTTP and of TLS, and writes its keys down.
fn ask(url: &str, keys: &Path) {
    for options in [
        &["--http1.1"][..],
        &["--http2"],
        &["--http2", "--tls-max", "1.2"],
        &["-d", "a=b", "--http1.1"],
    ] {
        let status = Command::new("curl")
            .args(["-sk", "-o", "/dev/null"])
            .args(options)
            .arg(url)
            .env("SSLKEYLOGFILE", keys)
            .status();
        assert!(status.expect("curl runs").success());
    }
}

//! Runs a capture around a piece of work, and starts the programs that are captured.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ecapture_probe::{
    Capture, CaptureConfig, CaptureHandle, KernelCounters, Modules, Processes, host, target,
};
use ecapture_protocols::{CapturedEvent, DataEvent, Direction};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::time::Instant;

/// Captures see the whole host, so one test runs at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A test's turn and directory; there is none when it cannot run here.
pub(crate) struct Peers {
    _turn: MutexGuard<'static, ()>,
    directory: TempDir,
}

/// Checks privileges and that all `programs` are installed.
#[expect(clippy::print_stdout, reason = "a test must not be skipped in silence")]
pub(crate) fn peers(programs: &[&str]) -> Option<Peers> {
    let problem = host::check().err().map(|problem| problem.to_string());
    let missing = programs.iter().find(|program| !is_installed(program));
    let reason = problem.or_else(|| missing.map(|program| format!("{program} is not installed")));
    if let Some(reason) = reason {
        let required = env::var("ECAPTURE_REQUIRE_PRIVILEGED").is_ok_and(|value| value == "1");
        assert!(!required, "this test is required to run: {reason}");
        println!("SKIPPED: {reason}");
        return None;
    }
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let peers = Peers {
        _turn: turn,
        directory: tempfile::tempdir().unwrap(),
    };
    let status = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .arg("-keyout")
        .arg(peers.key())
        .arg("-out")
        .arg(peers.certificate())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    Some(peers)
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(usual)
        .any(|directory| directory.join(program).exists())
}

impl Peers {
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory().join("certificate.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.directory().join("key.pem")
    }

    /// Starts a server script of `tests/peers` with our certificate.
    pub(crate) fn server(&self, script: &str, arguments: &[&str]) -> Peer {
        let mut command = python(script);
        command.arg(self.certificate()).arg(self.key()).args(arguments);
        Peer::start(command)
    }
}

impl Peers {
    /// Starts an nginx that listens on `port`, with more `parameters` of `listen`, and serves our directory. `directives`
    /// are those of its server, `servers` further ones. nginx cannot be asked for a free port, so it must not be
    /// ephemeral.
    pub(crate) fn nginx(&self, port: &str, parameters: &str, directives: &str, servers: &str) -> Peer {
        let directory = self.directory().display();
        let configuration = format!(
            "daemon off; master_process off; pid {directory}/pid; error_log stderr error;
             events {{}}
             http {{ access_log off; client_max_body_size 10m;
               server {{ listen 127.0.0.1:{port} ssl {parameters}; root {directory};
                 ssl_certificate {}; ssl_certificate_key {}; {directives} }} {servers} }}",
            self.certificate().display(),
            self.key().display(),
        );
        let file = self.directory().join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(file);
        let mut server = Peer::start(command);
        server.wait_for(port.parse().unwrap());
        server
    }
}

/// A command that runs a script of `tests/peers`.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/peers")
            .join(script),
    );
    command
}

/// A running program that is killed at the end of the test.
pub(crate) struct Peer {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Peer {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until it accepts connections.
    pub(crate) fn wait_for(&mut self, port: u16) {
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert_eq!(self.child.try_wait().unwrap(), None, "the server ended");
            std::thread::yield_now();
        }
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// The next line of its output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The rest of its output, to its end.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Waits for something that happens soon, or never.
pub(crate) fn wait_until(condition: impl Fn() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(20);
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain");
        std::thread::yield_now();
    }
}

/// The output of a command; it must succeed.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn curl(arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sSk", "--noproxy", "*"]).args(arguments);
    command
}

/// A configuration that captures `processes` in the host's installed libraries.
pub(crate) fn config(processes: Processes) -> CaptureConfig {
    let installed = target::discover(Modules::TLS)
        .into_iter()
        .filter(|target| target.library.path().to_string_lossy().contains(".so"));
    let libraries = installed.map(|target| target.library).collect();
    CaptureConfig {
        libraries,
        processes,
        ..CaptureConfig::default()
    }
}

/// Everything that was captured while some work ran.
pub(crate) struct Captured<T> {
    pub(crate) events: Vec<CapturedEvent>,
    pub(crate) counters: KernelCounters,
    pub(crate) result: T,
}

/// Captures while `work` runs on another thread, then stops and reads to the end.
pub(crate) fn capture<T: Send + 'static>(
    config: &CaptureConfig,
    work: impl FnOnce(&CaptureHandle) -> T + Send + 'static,
) -> Captured<T> {
    let capture = Capture::load(config).unwrap();
    let handle = capture.handle();
    let worker = std::thread::spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&handle)));
        handle.stop().unwrap();
        result
    });
    read_to_end(capture, || worker.join().unwrap().unwrap())
}

/// Lets `work` end before the first record is read, so that a small ring fills up.
pub(crate) fn capture_late<T>(config: &CaptureConfig, work: impl FnOnce(&CaptureHandle) -> T) -> Captured<T> {
    let capture = Capture::load(config).unwrap();
    let result = work(&capture.handle());
    capture.handle().stop().unwrap();
    read_to_end(capture, || result)
}

fn read_to_end<T>(capture: Capture, result: impl FnOnce() -> T) -> Captured<T> {
    let handle = capture.handle();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let events = runtime.block_on(async {
        let mut stream = capture.into_events();
        let mut events = Vec::new();
        while let Some(batch) = stream.next().await {
            events.extend(batch);
        }
        events
    });
    assert_eq!(handle.tally().undecodable_records(), 0);
    Captured {
        events,
        counters: handle.counters().unwrap(),
        result: result(),
    }
}

impl<T> Captured<T> {
    /// Data events of one process and direction.
    pub(crate) fn data(&self, pid: u32, direction: Direction) -> Vec<&DataEvent> {
        let data = self.events.iter().filter_map(|event| match event {
            CapturedEvent::Data(data) => Some(data),
            CapturedEvent::Close { .. } | CapturedEvent::Observed(_) => None,
        });
        data.filter(|data| data.process.pid == pid && data.direction == direction)
            .collect()
    }

    /// All bytes of one process and direction, whatever the session.
    pub(crate) fn text(&self, pid: u32, direction: Direction) -> String {
        let bytes: Vec<u8> = self
            .data(pid, direction)
            .iter()
            .flat_map(|data| data.payload.to_vec())
            .collect();
        String::from_utf8(bytes).unwrap()
    }

    /// SHA-256 of each session's bytes in one direction, which must be without gaps, sorted.
    pub(crate) fn digests(&self, pid: u32, direction: Direction) -> Vec<String> {
        let mut sessions: BTreeMap<u64, (u64, Sha256)> = BTreeMap::new();
        let mut digests = Vec::new();
        for event in self.data(pid, direction) {
            let (offset, digest) = sessions.entry(event.session.unwrap()).or_default();
            if event.stream_offset == Some(0) && *offset != 0 {
                // The library gave the address of a freed session to a new one.
                digests.push(hex(std::mem::take(digest)));
                *offset = 0;
            }
            assert_eq!(event.stream_offset, Some(*offset), "gap in {:x?}", event.session);
            digest.update(&event.payload);
            *offset += event.payload.len() as u64;
        }
        digests.extend(sessions.into_values().map(|(_, digest)| hex(digest)));
        digests.sort();
        digests
    }

    pub(crate) fn assert_nothing_lost(&self) {
        let lost = self
            .counters
            .losses()
            .into_iter()
            .filter(|(_, count)| *count != 0);
        let lost: Vec<_> = lost
            .filter(|(name, _)| !name.contains("before the capture"))
            .collect();
        assert_eq!(lost, []);
    }
}

pub(crate) fn hex(digest: Sha256) -> String {
    digest.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Lines of text, sorted.
pub(crate) fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

//! The built program as a process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How long anything may take before a test calls it hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A finished run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The JSON lines of standard output, without facts about processes.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let mut lines = self.all_json();
        lines.retain(|line| !is_fact(line));
        lines
    }

    /// The facts about processes among the JSON lines of standard output.
    pub(crate) fn facts(&self) -> Vec<serde_json::Value> {
        let mut lines = self.all_json();
        lines.retain(is_fact);
        lines
    }

    fn all_json(&self) -> Vec<serde_json::Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).expect("a JSON line"))
            .collect()
    }
}

/// The processes that `doctor` lists are of the same kind, and have no version.
fn is_fact(line: &serde_json::Value) -> bool {
    line["v"] == 1 && line["kind"] == "process"
}

/// The file of the built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ecapture");

/// A hang-up and SIGQUIT have their usual effect on it, also under nohup(1) or in a background job of a shell.
pub(crate) fn ecapture() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,QUIT", PROGRAM]);
    command
}

/// Runs to the end.
pub(crate) fn run(arguments: &[&str]) -> Finished {
    Running::start(arguments).finish()
}

/// Runs the program on a terminal, in the time of Berlin. Returns what it prints.
pub(crate) fn on_a_terminal(arguments: &str) -> String {
    let command = format!("{PROGRAM} {arguments}");
    let output = Command::new("script")
        .env("TZ", "Europe/Berlin")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .output()
        .expect("script runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// Replays `file` on a terminal, without colours. Returns the lines.
pub(crate) fn replay_on_a_terminal(file: &str, flags: &str) -> Vec<String> {
    let text = on_a_terminal(&format!("replay {file} --quiet --color never {flags}"));
    text.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// A run in progress.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// `None` when it was joined.
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr_lines: Receiver<String>,
    stderr: String,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = ecapture();
        command.args(arguments);
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        Self::spawn_reading(command)
    }

    /// With standard output connected to `output`, which is somebody else's to read.
    pub(crate) fn spawn_into(mut command: Command, output: impl Into<Stdio>) -> Self {
        command.stdout(output);
        Self::spawn_reading(command)
    }

    fn spawn_reading(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        drop(command);
        let output = child.stdout.take();
        let stdout = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut output) = output {
                output
                    .read_to_end(&mut bytes)
                    .expect("standard output can be read");
            }
            bytes
        });
        let errors = BufReader::new(child.stderr.take().expect("a pipe"));
        let (sender, stderr_lines) = channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            stdout: Some(stdout),
            stderr_lines,
            stderr: String::new(),
        }
    }

    /// Waits for a line of standard error that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        loop {
            let Ok(line) = self.stderr_lines.recv_timeout(PATIENCE) else {
                panic!("no line with {text:?} on standard error:\n{}", self.stderr)
            };
            let found = line.contains(text);
            self.stderr.push_str(&line);
            self.stderr.push('\n');
            if found {
                return;
            }
        }
    }

    /// Waits until each of these is in some line of standard error, in any order.
    pub(crate) fn wait_for_all(&mut self, texts: &[&str]) {
        for text in texts {
            if !self.stderr.contains(text) {
                self.wait_for(text);
            }
        }
    }

    /// Waits for a line with `first` and those after it up to one with `last`, and returns them.
    pub(crate) fn wait_for_lines(&mut self, first: &str, last: &str) -> Vec<String> {
        let before = self.stderr.len();
        self.wait_for(first);
        self.wait_for(last);
        self.stderr[before..].lines().map(ToOwned::to_owned).collect()
    }

    /// Asks for the figures until a line of them is as expected.
    pub(crate) fn wait_for_figures(&mut self, expected: impl Fn(&str) -> bool) {
        let started = SystemTime::now();
        loop {
            self.signal(libc::SIGUSR1);
            let lines = self.wait_for_lines("seen ", "lost");
            if lines.iter().any(|line| expected(line)) {
                return;
            }
            assert!(
                started.elapsed().unwrap_or_default() < 2 * PATIENCE,
                "not seen: {lines:?}"
            );
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had, in KiB.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let line = line.expect("a process with memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Waits until the probes are attached.
    pub(crate) fn wait_until_capturing(&mut self) {
        self.wait_for("capturing");
    }

    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: kill takes plain numbers; the child is not yet waited for, so the id is its own.
        #[expect(unsafe_code, reason = "no safe wrapper among the test's dependencies")]
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "the signal is delivered");
    }

    /// Ctrl-C, then the end.
    pub(crate) fn interrupt(self) -> Finished {
        self.signal(libc::SIGINT);
        self.finish()
    }

    pub(crate) fn finish(mut self) -> Finished {
        while let Ok(line) = self.stderr_lines.recv_timeout(PATIENCE) {
            self.stderr.push_str(&line);
            self.stderr.push('\n');
        }
        let status = self.child.wait().expect("the program ends");
        let reader = self.stdout.take().expect("it is joined once");
        let stdout = reader.join().expect("standard output was read");
        Finished {
            status,
            stdout,
            stderr: std::mem::take(&mut self.stderr),
        }
    }
}

/// A test that fails leaves no capture behind, which other tests would meet.
impl Drop for Running {
    fn drop(&mut self) {
        // An error when it has ended.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

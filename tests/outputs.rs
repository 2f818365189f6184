//! Outputs that fail, and the lines that a reader finds in them afterwards.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::audit;
use crate::support::exchanges::{EVENTS, assert_balanced, lost_events, recording, replay};
use crate::support::program::{Finished, Running, ecapture, run};

#[test]
fn a_failing_output_follows_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let failing = |policy| {
        replay(
            &file,
            &["--inject", "sink-error:after=5000", "--on-sink-error", policy],
        )
    };
    let stop = failing("stop");
    assert_eq!(stop.code(), Some(1), "{}", stop.stderr);
    assert_eq!(stop.stdout.len(), 5000);
    assert!(lost_events(&stop, "sink_error") > 0);

    let drop = run(&[
        "replay",
        &file,
        "--inject",
        "sink-error:after=5000",
        "--on-sink-error",
        "drop",
    ]);
    assert_eq!(drop.code(), Some(0), "{}", drop.stderr);
    assert!(lost_events(&drop, "sink_error") > 0);
    assert_balanced(&drop);
}

#[test]
fn a_full_disk_follows_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    for (policy, code) in [("stop", 1), ("drop", 0), ("retry", 0)] {
        let finished = run(&[
            "replay",
            &file,
            "--eventaddr",
            "/dev/full",
            "--on-sink-error",
            policy,
        ]);
        assert_eq!(finished.code(), Some(code), "{policy}: {}", finished.stderr);
        assert!(
            finished.stderr.contains("No space left"),
            "{policy}: {}",
            finished.stderr
        );
        assert!(lost_events(&finished, "sink_error") > 0, "{policy}");
        assert_balanced(&finished);
    }
    let strict = run(&[
        "replay",
        &file,
        "--eventaddr",
        "/dev/full",
        "--on-sink-error",
        "drop",
        "--fail-on-loss",
    ]);
    assert_eq!(strict.code(), Some(3), "{}", strict.stderr);
}

/// None of the runs takes a second by itself.
const LONGEST_RUN: Duration = Duration::from_secs(10);

/// Every failure on purpose, beside none.
const INJECTIONS: [Option<&str>; 6] = [
    None,
    Some("worker-panic:every=50"),
    Some("sink-error:after=5000"),
    Some("slow-sink:1"),
    Some("reader-stall:5"),
    Some("drop-event:every=7"),
];

/// Runs every injection with every policy into an output, and checks what holds in all of them. `code` says
/// how a run must end, and whether the output is sure to lose something, by its injection and policy.
fn try_all(output: impl Fn(&mut Command), code: impl Fn(Option<&str>, &str) -> (i32, bool)) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = recording(folder.path());
    for injection in INJECTIONS {
        for (policy, strict) in [("stop", true), ("drop", false), ("drop", true), ("retry", true)] {
            let mut command = ecapture();
            command.args(["replay", &file, "--format", "jsonl", "--on-sink-error", policy]);
            command.args(injection.iter().flat_map(|failure| ["--inject", failure]));
            command.args(strict.then_some("--fail-on-loss"));
            output(&mut command);
            let started = SystemTime::now();
            let finished = command.output().expect("it runs");
            let what = format!(
                "{injection:?} {policy} {}",
                String::from_utf8_lossy(&finished.stderr)
            );
            assert!(started.elapsed().unwrap_or_default() < LONGEST_RUN, "{what}");
            assert!(!what.contains("panicked"), "{what}");
            assert!(!what.contains("do not add up"), "{what}");
            let (code, loses) = code(injection, policy);
            let loses =
                loses || injection.is_some_and(|name| name.starts_with("worker") || name.starts_with("drop"));
            let expected = if code == 0 && strict && loses { 3 } else { code };
            assert_eq!(finished.status.code(), Some(expected), "{what}");
            let text = String::from_utf8_lossy(&finished.stdout);
            let (whole, _rest) = text.rsplit_once('\n').unwrap_or_default();
            for line in whole.lines() {
                assert!(serde_json::from_str::<Value>(line).is_ok(), "{what}: {line}");
            }
        }
    }
}

fn fails_at_once(_injection: Option<&str>, policy: &str) -> (i32, bool) {
    (i32::from(policy == "stop"), true)
}

#[test]
fn whatever_fails_standard_output_has_whole_lines_and_the_code_is_as_documented() {
    try_all(
        |_| {},
        |injection, policy| match (injection, policy) {
            (Some("sink-error:after=5000"), "stop") => (1, true),
            (Some("sink-error:after=5000"), "drop") => (0, true),
            _ => (0, false),
        },
    );
}

#[test]
fn whatever_fails_besides_a_full_disk_the_code_is_as_documented() {
    let full = |command: &mut Command| {
        command.args(["--eventaddr", "/dev/full"]);
    };
    try_all(full, fails_at_once);
}

#[test]
fn whatever_fails_besides_a_closed_pipe_the_run_ends_in_order() {
    let closed = |command: &mut Command| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        command.stdout(writer);
    };
    try_all(closed, |_, _| (0, false));
}

#[test]
fn whatever_fails_besides_a_lost_collector_the_code_is_as_documented() {
    let lost = |command: &mut Command| {
        let listener = small_listener();
        let address = listener.local_addr().expect("an address");
        command.args(["--eventaddr", &format!("tcp://{address}")]);
        // It takes one connection, reads a little of it, and never comes back.
        std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().expect("a connection");
            drop(listener);
            // With nothing to read it ended before.
            let _ = connection.read(&mut [0; 100]);
        });
    };
    try_all(lost, fails_at_once);
}

/// A file system that is full after a few messages, in the middle of one: a limit on the size of files, in
/// blocks of 512 bytes, and no signal about it.
const FULL_AFTER_BYTES: u64 = 8 * 512;

fn on_a_full_file_system(program: &Command) -> Command {
    let mut command = Command::new("sh");
    let limited = format!(
        "trap '' XFSZ; ulimit -S -f {}; exec \"$0\" \"$@\"",
        FULL_AFTER_BYTES / 512
    );
    command.args(["-c", &limited]);
    command.arg(program.get_program()).args(program.get_args());
    command
}

/// Makes room.
fn lift_limit(pid: u32) {
    let pid = i32::try_from(pid).expect("a process id");
    let unlimited = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the new limit is a valid structure, and nothing is asked for in return.
    #[expect(unsafe_code, reason = "no safe wrapper among the test's dependencies")]
    let result = unsafe {
        libc::prlimit(
            pid,
            libc::RLIMIT_FSIZE,
            &raw const unlimited,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(result, 0, "only the soft limit was set");
}

fn writing_to(target: &Path, file: &str, arguments: &[&str]) -> Command {
    let mut command = ecapture();
    command.args(["replay", file, "--format", "jsonl", "--eventaddr"]);
    command.arg(target).args(arguments);
    command
}

/// The lines of a file; those that are not JSON are `None`.
fn lines(target: &Path) -> Vec<Option<Value>> {
    let text = String::from_utf8(audit::read(target)).expect("text");
    text.lines().map(|line| serde_json::from_str(line).ok()).collect()
}

/// The output file of a run with `policy` that failed in the middle of a line, and that run.
fn torn_file(folder: &Path, file: &str, policy: &str) -> (std::path::PathBuf, Finished) {
    let target = folder.join(policy);
    let command = writing_to(&target, file, &["--on-sink-error", policy]);
    let finished = Running::spawn(on_a_full_file_system(&command)).finish();
    assert_balanced(&finished);
    assert!(finished.stderr.contains("File too large"), "{}", finished.stderr);
    let text = fs::read(&target).expect("the output");
    assert_eq!(text.len() as u64, FULL_AFTER_BYTES);
    assert!(!text.ends_with(b"\n"), "it ends in the middle of a line");
    (target, finished)
}

#[test]
fn a_run_does_not_continue_the_line_at_which_the_one_before_failed() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    for (policy, code) in [("stop", 1), ("drop", 0), ("retry", 0)] {
        let (target, torn) = torn_file(folder.path(), &file, policy);
        assert_eq!(torn.code(), Some(code), "{policy}: {}", torn.stderr);
        let before = lines(&target);
        let whole = before.iter().flatten().count();
        assert_eq!(whole, before.len() - 1, "only the last is torn");
        let (lost, rest) = (lost_events(&torn, "sink_error"), EVENTS - whole as u64);
        assert!(
            lost == rest || policy == "stop" && (1..rest).contains(&lost),
            "{}",
            torn.stderr
        );

        let again = Running::spawn(writing_to(&target, &file, &[])).finish();
        assert_eq!(again.code(), Some(0), "{}", again.stderr);
        let after = lines(&target);
        assert_eq!(after[..before.len()], before);
        assert_eq!(after.len() as u64, before.len() as u64 + EVENTS);
        assert!(after[before.len()..].iter().all(Option::is_some));
    }
}

/// The source is slow, so that the run is still there when there is room again.
fn until_there_is_room(policy: &str) -> (Vec<Option<Value>>, Finished) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = recording(folder.path());
    let target = folder.path().join("output");
    let log = folder.path().join("log.jsonl");
    let mut command = writing_to(
        &target,
        &file,
        &["--on-sink-error", policy, "--inject", "reader-stall:200"],
    );
    command.arg("--logaddr").arg(&log);
    let mut running = Running::spawn(on_a_full_file_system(&command));
    running.wait_for("output failed");
    lift_limit(running.pid());
    running.wait_for("output works again");
    let finished = running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_balanced(&finished);
    let tries = |line: &Value| {
        let message = line["fields"]["message"].as_str();
        message.is_some_and(|message| message.contains("times to reopen the output"))
    };
    assert!(
        lines(&log).iter().flatten().any(tries),
        "the number of attempts is reported"
    );
    (lines(&target), finished)
}

#[test]
fn a_file_system_that_gets_room_again_has_every_line_when_retried() {
    let (lines, finished) = until_there_is_room("retry");
    assert!(
        finished.stderr.contains("nothing was lost"),
        "{}",
        finished.stderr
    );
    assert_eq!(lines.len() as u64, EVENTS);
    assert!(lines.iter().all(Option::is_some), "no line is torn");
}

#[test]
fn a_file_system_that_gets_room_again_has_whole_lines_when_dropped() {
    let (lines, finished) = until_there_is_room("drop");
    assert_eq!(lines.len() as u64, EVENTS - lost_events(&finished, "sink_error"));
    assert!(lines.iter().all(Option::is_some), "no line is torn");
}

/// A collector that has room for a few messages only.
fn small_listener() -> TcpListener {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let bytes: libc::c_int = 4096;
    // SAFETY: the option is one int, and its size is given.
    #[expect(unsafe_code, reason = "no safe wrapper among the test's dependencies")]
    let result = unsafe {
        let size = libc::socklen_t::try_from(size_of_val(&bytes)).expect("a small size");
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const bytes).cast(),
            size,
        )
    };
    assert_eq!(result, 0);
    listener
}

/// The collector dies with much that the kernel had taken for it; the next one gets whole lines.
#[test]
fn what_a_collector_had_not_acknowledged_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let listener = small_listener();
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    let mut running = Running::start(
        &[
            &[
                "replay",
                &file,
                "--format",
                "jsonl",
                "--eventaddr",
                &target,
                "--fail-on-loss",
            ][..],
            &["--on-sink-error", "retry", "--inject", "reader-stall:200"],
        ]
        .concat(),
    );
    let (mut first, _) = listener.accept().unwrap();
    first.read_exact(&mut [0; 100]).unwrap();
    drop(first);
    running.wait_for("trying again");
    let (second, _) = listener.accept().unwrap();
    let lines: Vec<String> = BufReader::new(second).lines().map(Result::unwrap).collect();
    let finished = running.finish();
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    assert_balanced(&finished);
    assert!(
        !finished.stderr.contains("nothing was lost"),
        "{}",
        finished.stderr
    );
    let (_, told) = finished
        .stderr
        .split_once("may be lost: up to ")
        .expect("it is reported");
    let unacknowledged = told.split(' ').next().and_then(|bytes| bytes.parse().ok());
    assert!(
        unacknowledged.is_some_and(|bytes: u64| bytes > 0),
        "{}",
        finished.stderr
    );
    assert!((lines.len() as u64) < EVENTS, "some went to the first one");
    for line in &lines {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "torn: {line}");
    }
}

/// As a terminal that another program shares may be.
#[test]
fn an_output_that_does_not_wait_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let expected = replay(&file, &[]).stdout;
    let (mut reader, writer) = std::io::pipe().unwrap();
    // SAFETY: both calls take plain numbers, and the descriptor is open.
    #[expect(unsafe_code, reason = "no safe wrapper among the test's dependencies")]
    let result = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(result, 0);
    let mut command = ecapture();
    command.args(["replay", &file, "--format", "jsonl", "--fail-on-loss"]);
    let running = Running::spawn_into(command, writer);
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    let finished = running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(text == expected, "{} bytes of {}", text.len(), expected.len());
}

//! The command line as a process, without privileges.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::support::audit;
use crate::support::program::{Running, ecapture, run};

const RECORDING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/curl-python/events.jsonl"
);

/// How long a stop may take, as documented.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

#[test]
fn help_and_version_go_to_standard_output() {
    for arguments in [&["--help"][..], &["help"], &["tls", "--help"], &["--version"]] {
        let finished = run(arguments);
        assert_eq!(finished.code(), Some(0), "{arguments:?}");
        assert!(finished.text().contains("ecapture"), "{arguments:?}");
        assert!(finished.stderr.is_empty(), "{arguments:?}: {}", finished.stderr);
    }
    let help = run(&["--help"]).text();
    for word in [
        "tls",
        "gotls",
        "gnutls",
        "nspr",
        "record",
        "replay",
        "demo",
        "Exit codes",
        "Examples",
    ] {
        assert!(help.contains(word), "{word} is in the help");
    }
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for arguments in [
        &["tls", "--nonsense"][..],
        &["nonsense"],
        &["tls", "-p", "-1"],
        &["tls", "-m", "pcapp"],
        &["gotls"],
        &["gotls", "-e", "/bin/true", "-m", "pcapp"],
        &["tls", "-k", "keys.log"],
        &["nspr", "-m", "keylog"],
        &["gnutls", "--libssl", "/x"],
        &["bash", "-e", "none"],
        &["replay"],
        &["replay", RECORDING, "--hex", "--format", "jsonl"],
    ] {
        let finished = run(arguments);
        assert_eq!(finished.code(), Some(2), "{arguments:?}: {}", finished.stderr);
        assert!(finished.stdout.is_empty(), "{arguments:?}");
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    }
}

#[test]
fn commands_may_be_shortened() {
    assert_eq!(
        run(&["rep", RECORDING]).stdout,
        run(&["replay", RECORDING]).stdout
    );
}

#[test]
fn unreadable_recordings_are_one_line_errors() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "hello\n").unwrap();
    for path in [
        "/nonexistent/events.jsonl",
        empty.to_str().unwrap(),
        text.to_str().unwrap(),
    ] {
        let finished = run(&["replay", path]);
        assert_eq!(finished.code(), Some(1), "{path}");
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        assert!(finished.stderr.contains(path), "{}", finished.stderr);
    }
}

#[test]
fn a_closed_pipe_ends_the_run_with_success() {
    let mut command = ecapture();
    command
        .args(["replay", RECORDING])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Like `| head -1`: one line is read, then the pipe is closed.
    let mut first = String::new();
    BufReader::with_capacity(64, child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(first.starts_with("PID:"), "{first}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_full_disk_is_reported_and_fails_the_run() {
    let finished = run(&["replay", RECORDING, "--eventaddr", "/dev/full"]);
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("/dev/full") && finished.stderr.contains("No space left"),
        "{}",
        finished.stderr
    );
    assert!(
        finished.stderr.contains("sink_error"),
        "the loss is named: {}",
        finished.stderr
    );
}

#[test]
fn events_go_where_eventaddr_says_and_are_appended() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("events.txt");
    let once = run(&["replay", RECORDING]).stdout;
    for times in 1..=2 {
        let finished = run(&["replay", RECORDING, "--eventaddr", target.to_str().unwrap()]);
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        assert!(finished.stdout.is_empty());
        assert_eq!(audit::read(&target), once.repeat(times));
    }
}

#[test]
fn logs_are_also_written_as_json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("log.jsonl");
    let finished = run(&["replay", RECORDING, "--logaddr", target.to_str().unwrap()]);
    assert_eq!(finished.code(), Some(0));
    let log = std::fs::read_to_string(&target).unwrap();
    assert!(!log.is_empty());
    for line in log.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        assert!(record["level"].is_string(), "{line}");
    }
    let finished = run(&["replay", RECORDING, "--logaddr", "/nonexistent/log"]);
    assert_eq!(finished.code(), Some(1));
    assert!(
        finished.stderr.contains("/nonexistent/log"),
        "{}",
        finished.stderr
    );
}

#[test]
fn the_summary_balances() {
    let finished = run(&["replay", RECORDING]);
    assert!(
        finished.stderr.contains("nothing was lost"),
        "{}",
        finished.stderr
    );
    assert!(!finished.stderr.contains("do not add up"), "{}", finished.stderr);
}

/// The fixture's exchanges over and over: too many for one batch of events, and for sixty.
fn long_recording() -> String {
    let recording = std::fs::read_to_string(RECORDING).expect("the fixture");
    let (header, events) = recording.split_once('\n').expect("a header");
    format!("{header}\n{}", events.repeat(1000))
}

/// The source is silent for a second before every batch, so by itself the replay takes more than a minute.
#[test]
fn a_signal_during_a_replay_ends_it_cleanly_and_at_once() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.jsonl");
        std::fs::write(&file, long_recording()).unwrap();
        let stall = ["-d", "--inject", "reader-stall:1000", "--fail-on-loss"];
        let mut running = Running::start(&[&["replay", file.to_str().unwrap()][..], &stall].concat());
        running.wait_for("replaying");
        let asked = SystemTime::now();
        running.signal(signal);
        let finished = running.finish();
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        assert!(
            finished.stderr.contains("nothing was lost"),
            "{}",
            finished.stderr
        );
        assert!(
            asked.elapsed().unwrap_or_default() < DRAIN_DEADLINE,
            "a silent source holds up no stop: {}",
            finished.stderr
        );
    }
}

/// As `ssh HOST … | ecapture replay /dev/stdin` does when nothing happens there.
#[test]
fn a_recording_that_does_not_go_on_holds_up_no_stop() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let mut running = Running::start(&["replay", pipe.to_str().unwrap(), "-d"]);
    let mut writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    writer
        .write_all(long_recording().lines().next().unwrap().as_bytes())
        .unwrap();
    writer.write_all(b"\n").unwrap();
    running.wait_for("replaying");
    let asked = SystemTime::now();
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(asked.elapsed().unwrap_or_default() < DRAIN_DEADLINE);
    drop(writer);
}

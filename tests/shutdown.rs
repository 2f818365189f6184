//! Logs, files and pipes that take nothing: signals end every command all the same, and files that may hold
//! passwords are nobody else's.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::support::can_capture;
use crate::support::capture::{Scene, curl};
use crate::support::program::{Finished, PATIENCE, Running, ecapture, run};

/// From the second signal to the end, as documented, with time for a machine that is busy.
const AFTER_TWO_SIGNALS: Duration = Duration::from_secs(12);
const EVENT: &str = r#"{"ts":1,"dir":"read","pid":1,"comm":"x","session":"1","text":"plain"}"#;

fn signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).expect("a process id");
    // SAFETY: kill takes plain numbers; the child is not yet waited for, so the id is its own.
    #[expect(unsafe_code, reason = "no safe wrapper among the test's dependencies")]
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0, "the signal is delivered");
}

/// Waits for the end of a process that has been asked to end, and kills it when it does not.
fn ends_within(child: &mut Child, limit: Duration) -> std::process::ExitStatus {
    let started = SystemTime::now();
    loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            return status;
        }
        if started.elapsed().unwrap_or_default() > limit {
            let _killed = child.kill();
            panic!("it has not ended within {limit:?}");
        }
        std::thread::yield_now();
    }
}

/// Waits until a process sleeps in a write to a full pipe, or has written all.
fn wait_until_blocked(pipe: &std::io::PipeReader) {
    use std::os::fd::AsRawFd as _;
    let started = SystemTime::now();
    let waiting = || {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is open, and the call fills in a number.
        #[expect(unsafe_code, reason = "no safe wrapper among the test's dependencies")]
        unsafe {
            libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes)
        };
        bytes
    };
    while waiting() < 60 * 1024 {
        assert!(
            started.elapsed().unwrap_or_default() < PATIENCE,
            "the pipe is not full"
        );
        std::thread::yield_now();
    }
}

/// A recording whose replay logs a line for each of many connections.
fn noisy_recording(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("noisy.jsonl");
    let mut text = "{\"ecapture_recording\":1}\n".to_owned();
    for pid in 1..=5_000 {
        let event = EVENT.replace(r#""pid":1"#, &format!("\"pid\":{pid}"));
        for offset in [0, 9000] {
            let place = format!("\"ts\":{pid},\"offset\":{offset}");
            text.push_str(&event.replace(r#""ts":1"#, &place));
            text.push('\n');
        }
    }
    fs::write(&path, text).expect("a written file");
    path
}

#[test]
fn a_blocked_standard_error_keeps_no_signal_from_ending_a_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recording = noisy_recording(folder.path());
    let (log, stderr) = std::io::pipe().expect("a pipe");
    let mut child = ecapture()
        .args(["replay", "-d"])
        .arg(&recording)
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("it starts");
    wait_until_blocked(&log);
    // The same one twice may count once.
    signal(&child, libc::SIGINT);
    signal(&child, libc::SIGTERM);
    ends_within(&mut child, AFTER_TWO_SIGNALS);
    drop(log);
}

#[test]
fn a_capture_whose_log_and_output_are_blocked_ends() {
    let Some(scene) = Scene::python(&[]) else { return };
    let (log, stderr) = std::io::pipe().expect("a pipe");
    fill(&stderr);
    let mut child = ecapture()
        .args(["tls", "--pid", &scene.server.pid().to_string(), "--stats", "1"])
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("it starts");
    // There is no line to wait for: it may be attaching or capturing, and has to end in both cases.
    signal(&child, libc::SIGINT);
    signal(&child, libc::SIGTERM);
    ends_within(&mut child, AFTER_TWO_SIGNALS);
    drop(log);
}

/// Writes into a pipe until it takes no more.
fn fill(pipe: &std::io::PipeWriter) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the descriptor is open; the second call changes the size of its buffer only.
    #[expect(unsafe_code, reason = "no safe wrapper among the test's dependencies")]
    let size = unsafe {
        libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, 4096);
        libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ)
    };
    let bytes = vec![b'x'; usize::try_from(size).expect("a size")];
    let mut pipe = pipe;
    std::io::Write::write_all(&mut pipe, &bytes).expect("room");
}

#[test]
fn a_recording_into_a_pipe_that_nobody_reads_ends() {
    let Some(scene) = Scene::python(&[]) else { return };
    let fifo = scene.folder.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .expect("mkfifo runs")
            .success()
    );
    // For reading and writing, so that opening it waits for nobody.
    let kept = fs::File::options()
        .read(true)
        .write(true)
        .open(&fifo)
        .expect("a pipe");
    let mut running = Running::start(&["record", fifo.to_str().expect("a path")]);
    running.wait_until_capturing();
    for _ in 0..40 {
        curl(&[&scene.server.url("/page.txt")]);
    }
    running.signal(libc::SIGINT);
    running.signal(libc::SIGTERM);
    let finished = running.finish();
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("lost: sink"), "{}", finished.stderr);
    drop(kept);
}

#[test]
fn what_was_recorded_is_in_the_file_soon_and_a_hang_up_does_not_end_it() {
    let Some(scene) = Scene::python(&[]) else { return };
    let file = scene.folder.path().join("recording.jsonl");
    let mut running = Running::start(&["record", file.to_str().expect("a path")]);
    running.wait_until_capturing();
    curl(&[&scene.server.url("/hello.json")]);
    let started = SystemTime::now();
    while !fs::read_to_string(&file).is_ok_and(|text| text.lines().count() > 1) {
        assert!(
            started.elapsed().unwrap_or_default() < PATIENCE,
            "nothing is in the file"
        );
        std::thread::yield_now();
    }
    fs::rename(&file, scene.folder.path().join("older.jsonl")).expect("a file");
    running.signal(libc::SIGHUP);
    running.wait_for("was reopened");
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(finished.stderr.contains("recorded "), "{}", finished.stderr);
    let text = fs::read_to_string(&file).expect("a recording");
    assert!(text.ends_with('\n'));
}

#[test]
fn a_hang_up_ends_a_capture_with_its_summary() {
    let Some(_alone) = can_capture(&[]) else { return };
    let mut running = Running::start(&["tls"]);
    running.wait_until_capturing();
    running.signal(libc::SIGHUP);
    let finished = running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("nothing was captured"),
        "{}",
        finished.stderr
    );
}

/// Under nohup(1) it continues.
#[test]
fn a_hang_up_that_is_to_be_ignored_is_ignored() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fifo = folder.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .expect("mkfifo runs")
            .success()
    );
    let kept = fs::File::options()
        .read(true)
        .write(true)
        .open(&fifo)
        .expect("a pipe");
    let mut writer = &kept;
    let text = format!("{{\"ecapture_recording\":1}}\n{EVENT}\n");
    std::io::Write::write_all(&mut writer, text.as_bytes()).expect("room");
    let script = "trap '' HUP; exec \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_ecapture"), "replay", "-d"])
        .arg(&fifo);
    let mut running = Running::spawn(command);
    running.wait_for("replaying");
    running.signal(libc::SIGHUP);
    running.signal(libc::SIGUSR1);
    // The figures are of a running capture.
    running.wait_for("seen ");
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
}

/// A program that waits to be captured does not wait for ever when nobody is left to let it continue.
#[test]
fn a_command_that_is_held_ends_with_whoever_holds_it() {
    let script = "\"$1\" __held -- true & echo $!; wait";
    let mut parent = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_ecapture")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh starts");
    let mut held = String::new();
    BufReader::new(parent.stdout.take().expect("a pipe"))
        .read_line(&mut held)
        .expect("a process id");
    let state = || {
        let status = fs::read_to_string(format!("/proc/{}/stat", held.trim())).ok()?;
        status.rsplit_once(") ")?.1.chars().next()
    };
    let wait_for = |wanted: &dyn Fn(Option<char>) -> bool| {
        let started = SystemTime::now();
        while !wanted(state()) {
            assert!(started.elapsed().unwrap_or_default() < PATIENCE, "{:?}", state());
            std::thread::yield_now();
        }
    };
    wait_for(&|state| state == Some('T'));
    parent.kill().expect("it runs");
    parent.wait().expect("it ends");
    wait_for(&|state| matches!(state, None | Some('Z' | 'X')));
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

fn with_event(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("recording.jsonl");
    fs::write(&path, format!("{{\"ecapture_recording\":1}}\n{EVENT}\n")).expect("a written file");
    path
}

#[test]
fn files_with_plaintext_are_nobody_elses() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recording = with_event(folder.path());
    let [events, log] = ["events", "log"].map(|name| folder.path().join(name));
    let mut command = ecapture();
    command.arg("replay").arg(&recording);
    command.arg("--eventaddr").arg(&events).arg("--logaddr").arg(&log);
    assert!(command.status().expect("it runs").success());
    assert_eq!((mode(&events), mode(&log)), (0o600, 0o600));
}

#[test]
fn a_link_in_a_folder_that_others_can_write_to_is_not_followed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recording = with_event(folder.path());
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).expect("a new folder");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).expect("its permissions");
    let precious = folder.path().join("precious");
    fs::write(&precious, "precious").expect("a written file");
    let link = shared.join("events");
    std::os::unix::fs::symlink(&precious, &link).expect("a link");
    for flag in ["--eventaddr", "--logaddr"] {
        let arguments = [Path::new("replay"), &recording, Path::new(flag), &link];
        let finished = run(&arguments.map(|argument| argument.to_str().expect("a path")));
        assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
        assert!(finished.stderr.contains("symbolic link"), "{}", finished.stderr);
    }
    assert_eq!(fs::read(&precious).expect("a file"), b"precious");
}

fn refused(arguments: &[&str]) -> Finished {
    let finished = run(arguments);
    assert!(matches!(finished.code(), Some(1 | 2)), "{}", finished.stderr);
    finished
}

#[test]
fn nothing_is_emptied_by_a_run_that_does_not_begin() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let precious = with_event(folder.path());
    let before = fs::read(&precious).expect("a file");
    let file = precious.to_str().expect("a path");
    for arguments in [
        &["record", file, "-p", "4194000"][..],
        &["record", file, "--libssl", "/nowhere/libssl.so"],
        &["replay", "/nowhere/recording", "--logaddr", file],
        &["tls", "--nonsense", "--logaddr", file],
    ] {
        refused(arguments);
        assert!(
            fs::read(&precious).expect("a file").starts_with(&before),
            "{arguments:?}"
        );
    }
    let new = folder.path().join("new.jsonl");
    refused(&["record", new.to_str().expect("a path"), "-p", "4194000"]);
    assert!(!new.exists());
}

#[test]
fn a_replay_does_not_write_into_its_recording() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recording = with_event(folder.path());
    let before = fs::read(&recording).expect("a file");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&recording, &link).expect("a link");
    let file = recording.to_str().expect("a path");
    for output in [file, link.to_str().expect("a path")] {
        let finished = refused(&["replay", file, "--eventaddr", output]);
        assert!(
            finished.stderr.contains("the recording itself"),
            "{}",
            finished.stderr
        );
        assert_eq!(fs::read(&recording).expect("a file"), before);
    }
}

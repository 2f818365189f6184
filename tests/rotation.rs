//! Files that are rotated, and files that are opened again on SIGHUP.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ecapture_protocols::recording::line;
use ecapture_protocols::{CapturedEvent, DataEvent, Direction, Process};

use crate::support::exchanges::{
    EVENTS, assert_balanced, assert_nothing_lost, lost_events, recording, replay,
};
use crate::support::program::{Finished, PROGRAM, Running, ecapture, run};
use crate::support::{audit, can_capture};

/// Records of the runs under load.
const MANY: u32 = 50_000;

/// A recording that makes this many records as fast as it is read.
fn many_records(folder: &Path) -> String {
    let mut out = Vec::new();
    line::Header::new(None).write(&mut out);
    for number in 0..MANY {
        let event = DataEvent {
            timestamp_ns: u64::from(number) * 20_000,
            process: Process {
                pid: 1,
                tid: 1,
                uid: None,
                comm: "client".into(),
            },
            container_id: None,
            program: None,
            direction: Direction::Write,
            fd: None,
            session: Some(u64::from(number % 100) + 1),
            socket: None,
            tls_version: None,
            stream_offset: None,
            joined_late: None,
            payload: format!("GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n")
                .into_bytes()
                .into(),
        };
        line::write(&CapturedEvent::Data(event), &mut out);
    }
    let file = folder.join("many.jsonl");
    fs::write(&file, out).expect("a written file");
    file.to_str().expect("a plain path").to_owned()
}

/// All files of one output, in the order in which they were written.
fn files(output: &Path) -> Vec<PathBuf> {
    let stem = output
        .file_stem()
        .expect("a name")
        .to_str()
        .expect("a plain name");
    let folder = output.parent().expect("a folder");
    let entries = fs::read_dir(folder).expect("a folder");
    let mut rotated: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&format!("{stem}-2")))
        })
        .collect();
    rotated.sort();
    rotated.push(output.to_owned());
    rotated
}

fn contents(files: &[PathBuf]) -> Vec<u8> {
    files.iter().flat_map(|file| audit::read(file)).collect()
}

#[test]
fn rotated_files_together_are_the_output_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = many_records(folder.path());
    let expected = replay(&file, &[]).stdout;
    let limit = 256 * 1024;
    for (name, options, least) in [
        ("size", "rotate-size=256K", 20),
        ("age", "rotate-age=1s", 5),
        ("both", "rotate-size=256K,rotate-age=1s", 20),
    ] {
        let output = folder.path().join(name).with_extension("jsonl");
        let target = format!("jsonl:{},{options}", output.display());
        let finished = run(&["replay", &file, "-o", &target, "--inject", "file-clock:100"]);
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        assert_nothing_lost(&finished);
        let files = files(&output);
        assert!(files.len() > least, "{name}: {}", files.len());
        for file in &files {
            let content = fs::read(file).unwrap();
            assert!(content.ends_with(b"\n"), "whole records in {}", file.display());
            assert!(name == "age" || content.len() <= limit, "{}", file.display());
        }
        assert!(contents(&files) == expected, "{name}");
    }
}

#[test]
fn the_flags_of_the_original_rotate_the_file_of_eventaddr() {
    let folder = tempfile::tempdir().unwrap();
    let file = many_records(folder.path());
    let expected = run(&["replay", &file]).stdout;
    let output = folder.path().join("events.txt");
    let target = output.to_str().unwrap();
    let finished = run(&[
        "replay",
        &file,
        "--eventaddr",
        target,
        "--eventroratesize",
        "1",
        "--eventroratetime",
        "1",
        "--inject",
        "file-clock:100",
    ]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let files = files(&output);
    assert!(files.len() > 2);
    assert!(contents(&files) == expected);
}

#[test]
fn only_as_many_rotated_files_are_kept_as_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let expected = replay(&file, &[]).stdout;
    let output = folder.path().join("kept.jsonl");
    let target = format!("jsonl:{},rotate-size=50K,keep=2", output.display());
    let finished = run(&["replay", &file, "-o", &target]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let files = files(&output);
    assert_eq!(files.len(), 3);
    assert!(expected.ends_with(&contents(&files)), "the newest are left");
}

#[test]
fn every_rotated_file_of_a_recording_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let output = folder.path().join("run.jsonl");
    let target = format!("recording:{},rotate-size=50K", output.display());
    let finished = run(&["replay", &file, "-o", &target]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let files = files(&output);
    assert!(files.len() > 3);
    let mut messages = 0;
    for file in &files {
        // A request whose response is in the next file is named again when its connection ends.
        let text = replay(file.to_str().unwrap(), &[]).text();
        messages += text
            .lines()
            .filter(|line| !line.contains(r#""kind":"exchange""#))
            .count();
    }
    assert_eq!(messages as u64, EVENTS, "here no message is in two files");
    // Without the first line of each, they are the recording.
    let events = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        text.split_once('\n').unwrap().1.to_owned()
    };
    let together: String = files.iter().map(|file| events(file)).collect();
    assert!(together == events(Path::new(&file)));
}

#[test]
fn what_is_no_file_is_not_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    for (target, code, part) in [
        (
            "jsonl:/dev/null,rotate-size=1M",
            1,
            "only a regular file can be rotated",
        ),
        ("jsonl,rotate-size=1M", 2, "a file as the TARGET"),
        ("jsonl:x,rotate-sice=1M", 2, "rotate-size=100M"),
    ] {
        let finished = run(&["replay", &file, "-o", target]);
        assert_eq!(finished.code(), Some(code), "{}", finished.stderr);
        assert!(finished.stderr.contains(part), "{}", finished.stderr);
    }
}

/// A protobuf file has no lines: a second run appends to it as it is.
#[test]
fn a_second_run_appends_entries_to_entries() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let output = folder.path().join("entries");
    let target = format!("protobuf:{}", output.display());
    run(&["replay", &file, "-o", &target]);
    let once = fs::read(&output).unwrap();
    run(&["replay", &file, "-o", &target]);
    let twice = fs::read(&output).unwrap();
    let (first, second) = twice.split_at(once.len());
    assert!(first == once);
    // Of its first entry, which says who captured what, time and process are others.
    let rest = |run: &[u8]| run[first_entry(run)..].to_vec();
    assert!(rest(second) == rest(first));
}

/// The bytes of the first entry with its length, a varint.
fn first_entry(entries: &[u8]) -> usize {
    let bytes = entries.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    let length = entries[..bytes].iter().rev();
    bytes + length.fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7F))
}

/// A file system in memory, unmounted at its end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .status()
            .expect("mount runs");
        assert!(mounted.success());
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _left = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_disk_that_fills_up_loses_what_is_counted_and_tears_no_record() {
    let Some(_alone) = can_capture(&["mount"]) else {
        return;
    };
    let disk = SmallDisk::mount("size=256K");
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let expected = replay(&file, &[]).stdout;
    let output = disk.0.path().join("events.jsonl");
    let target = format!("jsonl:{},rotate-size=50K,on-error=drop", output.display());
    let finished = run(&["replay", &file, "-o", &target]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_balanced(&finished);
    let lost = lost_events(&finished, "sink_error");
    let text = contents(&files(&output));
    assert!(files(&output).len() > 3);
    assert!(expected.starts_with(&text));
    // The last line may be torn.
    let (whole, _) = std::str::from_utf8(&text).unwrap().rsplit_once('\n').unwrap();
    let whole = whole.lines().count() as u64;
    assert_eq!(whole + lost, EVENTS);
}

#[test]
fn a_disk_that_gets_room_again_has_everything_in_rotated_files() {
    let Some(_alone) = can_capture(&["mount"]) else {
        return;
    };
    let disk = SmallDisk::mount("size=256K");
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let expected = replay(&file, &[]).stdout;
    let output = disk.0.path().join("events.jsonl");
    let target = format!("jsonl:{},rotate-size=50K,on-error=retry", output.display());
    let mut running = Running::start(&["replay", &file, "-o", &target, "--inject", "reader-stall:300"]);
    running.wait_for("output failed");
    let grown = Command::new("mount")
        .args(["-o", "remount,size=8M"])
        .arg(disk.0.path())
        .status()
        .unwrap();
    assert!(grown.success());
    let finished = running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    assert!(contents(&files(&output)) == expected);
}

/// There is room for bytes, but for no more files.
#[test]
fn a_file_that_cannot_be_rotated_grows_on() {
    let Some(_alone) = can_capture(&["mount"]) else {
        return;
    };
    let disk = SmallDisk::mount("size=8M,nr_inodes=2");
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let expected = replay(&file, &[]).stdout;
    let output = disk.0.path().join("events.jsonl");
    let target = format!("jsonl:{},rotate-size=50K", output.display());
    let finished = run(&["replay", &file, "-o", &target]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    assert!(
        finished.stderr.contains("cannot be rotated"),
        "{}",
        finished.stderr
    );
    assert_eq!(files(&output).len(), 1, "it has its name again");
    assert!(audit::read(&output) == expected);
}

/// A run that reads from a named pipe, and lasts as long as its other end is open.
struct Piped {
    running: Running,
    events: File,
}

impl Piped {
    fn start(folder: &Path, mut command: Command, arguments: &[&str]) -> Self {
        let fifo = folder.join("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
        assert!(made.success());
        command.args(["replay", "-d"]).arg(&fifo).args(arguments);
        let mut running = Running::spawn(command);
        let mut events = File::options().write(true).open(&fifo).expect("a reader");
        events
            .write_all(b"{\"ecapture_recording\":1}\n")
            .expect("a reader");
        running.wait_for("replaying");
        Self { running, events }
    }

    /// Writes the events of a recording into the pipe.
    fn replay(&mut self, recording: &str) {
        let text = fs::read_to_string(recording).expect("a recording");
        let (_, events) = text.split_once('\n').expect("a header");
        self.events.write_all(events.as_bytes()).expect("a reader");
    }

    fn finish(self) -> Finished {
        drop(self.events);
        self.running.finish()
    }
}

/// The run that waits for events opens its files at once.
#[test]
fn a_hang_up_opens_outputs_and_logs_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let expected = replay(&file, &[]).stdout;
    let [output, log, old_output, old_log] =
        ["out.jsonl", "log.jsonl", "old.jsonl", "old-log.jsonl"].map(|name| folder.path().join(name));
    let target = format!("jsonl:{}", output.display());
    let arguments = ["-o", &target, "--logaddr", log.to_str().unwrap()];
    let mut piped = Piped::start(folder.path(), ecapture(), &arguments);
    fs::rename(&output, &old_output).unwrap();
    fs::rename(&log, &old_log).unwrap();
    piped.running.signal(libc::SIGHUP);
    piped
        .running
        .wait_for_all(&["out.jsonl was reopened", "log.jsonl was reopened"]);
    assert_eq!(audit::read(&output), b"", "before anything is written");
    piped.replay(&file);
    let finished = piped.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(audit::read(&output) == expected);
    assert_eq!(audit::read(&old_output), b"");
    let told = |log: &Path| fs::read_to_string(log).unwrap().contains("nothing was lost");
    assert!(told(&log) && !told(&old_log));
}

#[test]
fn a_hang_up_while_writing_loses_and_tears_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let expected = replay(&file, &[]).stdout;
    let output = folder.path().join("out.jsonl");
    let target = format!("jsonl:{}", output.display());
    let mut running = Running::start(&[
        "replay",
        "-d",
        &file,
        "-o",
        &target,
        "--inject",
        "reader-stall:100",
    ]);
    running.wait_for("replaying");
    let mut parts = Vec::new();
    for number in 0..5 {
        let part = folder.path().join(format!("part{number}"));
        fs::rename(&output, &part).unwrap();
        running.signal(libc::SIGHUP);
        running.wait_for("was reopened");
        parts.push(part);
    }
    let finished = running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    parts.push(output);
    assert!(contents(&parts) == expected);
    let is_whole = |part: &PathBuf| {
        let content = fs::read(part).unwrap();
        content.is_empty() || content.ends_with(b"\n")
    };
    assert!(parts.iter().all(is_whole));
}

#[test]
fn logrotate_rotates_a_running_output() {
    let Some(_alone) = can_capture(&["/usr/sbin/logrotate"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path());
    let expected = replay(&file, &[]).stdout;
    let output = folder.path().join("out.jsonl");
    let target = format!("jsonl:{}", output.display());
    let mut piped = Piped::start(folder.path(), ecapture(), &["-o", &target]);
    let text = fs::read_to_string(&file).unwrap();
    let (_, events) = text.split_once('\n').unwrap();
    let middle = events[..events.len() / 2].rfind('\n').unwrap() + 1;
    piped.events.write_all(&events.as_bytes()[..middle]).unwrap();
    let is_written = |line: &str| line.contains("; written ") && !line.contains("; written 0 ");
    piped.running.wait_for_figures(is_written);
    let configuration = folder.path().join("logrotate.conf");
    let text = format!(
        "{} {{\n rotate 3\n postrotate\n  kill -HUP {}\n endscript\n}}\n",
        output.display(),
        piped.running.pid()
    );
    fs::write(&configuration, text).unwrap();
    let rotated = Command::new("/usr/sbin/logrotate")
        .arg("--force")
        .arg("--state")
        .arg(folder.path().join("state"))
        .arg(&configuration)
        .output()
        .unwrap();
    assert!(
        rotated.status.success(),
        "{}",
        String::from_utf8_lossy(&rotated.stderr)
    );
    piped.running.wait_for("was reopened");
    piped.events.write_all(&events.as_bytes()[middle..]).unwrap();
    let finished = piped.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    let parts = [folder.path().join("out.jsonl.1"), output];
    let has_content = |part: &PathBuf| fs::metadata(part).unwrap().len() > 0;
    assert!(parts.iter().all(has_content));
    assert!(contents(&parts) == expected);
}

/// With a terminal at the start: a SIGHUP while it is there is about files, one because it is gone is the end.
#[test]
fn a_terminal_that_hangs_up_ends_a_run_with_files() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let target = format!("jsonl:{}", output.display());
    let mut command = Command::new("/usr/bin/python3");
    command.args([
        "-c",
        include_str!("peers/terminal.py"),
        "env",
        "--default-signal=HUP",
        PROGRAM,
    ]);
    let mut piped = Piped::start(folder.path(), command, &["-o", &target]);
    fs::rename(&output, folder.path().join("old.jsonl")).unwrap();
    piped.running.signal(libc::SIGUSR2);
    piped.running.wait_for("was reopened");
    piped.running.signal(libc::SIGUSR1);
    let events = piped.events;
    let finished = piped.running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    drop(events);
}

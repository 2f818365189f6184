//! Several outputs of one run.

use std::fs;

use crate::support::audit;
use crate::support::capture::Scene;
use crate::support::exchanges::{EVENTS, assert_balanced, assert_nothing_lost, recording};
use crate::support::program::run;

/// Text, JSON Lines and the recording come from one capture, and the recording prints both again.
#[test]
fn a_recording_beside_text_and_json_gives_both_again_byte_for_byte() {
    let Some(scene) = Scene::python(&[]) else { return };
    let path = |name: &str| scene.folder.path().join(name).display().to_string();
    let (json, recorded) = (path("events.jsonl"), path("run.jsonl"));
    let (to_json, to_recording) = (format!("jsonl:{json}"), format!("recording:{recorded}"));
    let flags = [
        "tls",
        "--whole",
        "-o",
        "text",
        "-o",
        &to_json,
        "-o",
        &to_recording,
    ];
    let finished = scene.capture_curl(&flags, &["-d", "user=me"], "/hello.json");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    for row in [
        "records with",
        "to text",
        "to jsonl:",
        "events with",
        "in recording:",
    ] {
        assert!(finished.stderr.contains(row), "{row}: {}", finished.stderr);
    }
    let text = run(&["replay", &recorded, "--whole"]);
    assert!(
        finished.text().contains("POST /hello.json"),
        "{}",
        finished.text()
    );
    assert_eq!(text.text(), finished.text());
    let again = run(&["replay", &recorded, "--whole", "--format", "jsonl"]);
    assert_eq!(again.stdout, audit::read(json.as_ref()));
    assert_eq!(again.json().len(), 2);
}

/// A replay gives each of several outputs what it gives one alone, and a recording what it has read.
#[test]
fn each_output_of_a_replay_is_as_if_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = recording(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (json, copy) = (path("out.jsonl"), path("copy.jsonl"));
    let finished = run(&[
        "replay",
        &file,
        "-o",
        "text",
        "-o",
        &format!("jsonl:{json}"),
        "-o",
        &format!("recording:{copy}"),
    ]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_balanced(&finished);
    assert!(finished.stdout == run(&["replay", &file]).stdout);
    let alone = run(&["replay", &file, "--format", "jsonl"]).stdout;
    assert!(audit::read(json.as_ref()) == alone);
    let events = |file: &str| {
        let text = fs::read_to_string(file).expect("a recording");
        text.split_once('\n').expect("a header").1.to_owned()
    };
    assert!(events(&copy) == events(&file));
    let both_ends = run(&["replay", &file, "-o", &format!("recording:{file}")]);
    assert_eq!(both_ends.code(), Some(1));
    assert!(
        both_ends.stderr.contains("the recording itself"),
        "{}",
        both_ends.stderr
    );
}

#[test]
fn a_full_disk_as_one_of_three_outputs_follows_its_own_policy() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = recording(folder.path());
    for (policy, code) in [("stop", 1), ("drop", 0), ("retry", 0)] {
        let json = folder
            .path()
            .join(format!("{policy}.jsonl"))
            .display()
            .to_string();
        let full = format!("jsonl:/dev/full,on-error={policy}");
        let finished = run(&[
            "replay",
            &file,
            "-o",
            "text",
            "-o",
            &full,
            "-o",
            &format!("jsonl:{json}"),
        ]);
        let stderr = &finished.stderr;
        assert_eq!(finished.code(), Some(code), "{policy}: {stderr}");
        assert!(stderr.contains("No space left"), "{policy}: {stderr}");
        assert!(!stderr.contains("do not add up"), "{policy}: {stderr}");
        let row = stderr
            .lines()
            .find(|line| line.contains("to jsonl:/dev/full; lost, of "));
        assert!(
            row.is_some_and(|row| row.contains("sink_error")),
            "{policy}: {stderr}"
        );
        if code == 0 {
            let json = audit::read(json.as_ref());
            let lines = json.split_inclusive(|&byte| byte == b'\n').count();
            assert_eq!(lines as u64, EVENTS, "{policy}");
            assert_eq!(finished.text().matches("PID:").count() as u64, EVENTS, "{policy}");
        }
    }
}

//! Kernel programs that the kernel refuses: they cost what they are for, and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::capture::{Scene, exchange};
use crate::support::program::{Finished, Running, ecapture};

const OBJECT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/crates/ebpf/object/ecapture-x86_64.bpf.o"
);

/// Writes a copy of the kernel object in which these programs, or all of them, are invalid.
fn spoiled(folder: &Path, programs: &[&str]) -> PathBuf {
    let copy = folder.join("spoiled.o");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel-guest/spoil.py");
    let status = Command::new("/usr/bin/python3")
        .args([script, OBJECT])
        .arg(&copy)
        .args(programs)
        .status();
    assert!(status.expect("python runs").success());
    copy
}

fn run_with(object: &Path, arguments: &[&str]) -> Finished {
    let mut command = ecapture();
    command.env("ECAPTURE_BPF_OBJECT", object).args(arguments);
    Running::spawn(command).finish()
}

#[test]
fn a_refused_program_costs_only_what_it_is_for() {
    let Some(scene) = Scene::python(&[]) else { return };
    let object = spoiled(scene.folder.path(), &["gnutls_send"]);
    let url = scene.server.url("/hello.json");
    let curl = ["tls", "--format", "jsonl", "--whole", "--", "curl", "-sk", &url];
    let finished = run_with(&object, &curl);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let _both = exchange(&finished.json(), "http1", "curl", true);
    let named = finished
        .stderr
        .lines()
        .filter(|line| line.contains("gnutls_send"));
    assert_eq!(named.count(), 1, "it is logged once: {}", finished.stderr);

    let diagnosis = run_with(&object, &["doctor", "--format", "jsonl"]);
    assert_eq!(diagnosis.code(), Some(0), "{}", diagnosis.stderr);
    let mut lines = diagnosis.json();
    lines.retain(|line| line["kind"] == "program" && line["ok"] == false);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["name"], "gnutls_send");
    let reason = lines[0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("stack"), "the verifier's reason: {reason}");
}

#[test]
fn without_any_program_there_is_no_capture() {
    let Some(scene) = Scene::python(&[]) else { return };
    let object = spoiled(scene.folder.path(), &[]);
    let finished = run_with(&object, &["tls", "--", "true"]);
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    let diagnosis = run_with(&object, &["doctor", "--format", "jsonl"]);
    assert_eq!(diagnosis.code(), Some(1), "{}", diagnosis.stderr);
    assert_eq!(diagnosis.json().last().expect("a summary")["can_capture"], false);
}

//! Facts about processes: which use TLS, in which file, and whether it is captured.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::can_capture;
use crate::support::capture::{Scene, curl};
use crate::support::exchanges::{assert_balanced, assert_nothing_lost};
use crate::support::program::{Running, run};
use crate::uncaptured::Stripped;

/// The facts about a process, as file names and whether they are captured.
fn files(facts: &[Value], pid: &Value) -> Vec<(String, bool)> {
    let of_process = facts.iter().filter(|fact| fact["pid"] == *pid);
    let files = of_process.map(|fact| {
        let file = fact["file"].as_str().unwrap_or_default();
        let name = file.rsplit('/').next().unwrap_or_default().to_owned();
        (name, fact["captured"] == true)
    });
    files.collect()
}

fn is_openssl(fact: &Value) -> bool {
    fact["file"]
        .as_str()
        .is_some_and(|file| file.contains("/libssl.so"))
}

/// A command uses a library that nobody else on the host may have mapped, or everybody.
#[test]
fn a_command_and_its_library_are_named_once_and_again_in_each_replay() {
    let Some(scene) = Scene::python(&[]) else { return };
    let path = |name: &str| scene.folder.path().join(name).display().to_string();
    let recorded = path("run.jsonl");
    let to_recording = format!("recording:{recorded}");
    let flags = ["tls", "-o", "jsonl", "-o", &to_recording];
    let finished = scene.capture_curl(&flags, &[], "/hello.json");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_nothing_lost(&finished);
    assert_balanced(&finished);
    let lines = finished.json();
    assert_eq!(lines.len(), 2);
    let facts = finished.facts();
    let openssl: Vec<_> = facts.iter().filter(|fact| is_openssl(fact)).collect();
    assert_eq!(openssl.len(), 1, "{facts:?}");
    let fact = openssl[0];
    assert_eq!(fact["pid"], lines[0]["pid"]);
    for (member, value) in [("comm", "curl"), ("program", "curl"), ("tls", "OpenSSL")] {
        assert_eq!(fact[member], value, "{fact}");
    }
    assert_eq!(fact["captured"], true, "{fact}");
    let executable = fact["executable"].as_str().expect("a path");
    assert!(
        executable.starts_with('/') && executable.ends_with("/curl"),
        "{fact}"
    );
    let again = run(&["replay", &recorded, "--format", "jsonl"]);
    assert_eq!(again.text(), finished.text());
    let text = run(&["replay", &recorded, "-d"]).text();
    let named = text
        .lines()
        .filter(|line| line.starts_with("[ecapture: process "));
    let named: Vec<_> = named.collect();
    assert_eq!(named.len(), facts.len(), "{text}");
    assert!(
        named
            .iter()
            .any(|line| line.contains("libssl.so") && line.ends_with(": captured]"))
    );
    let plain = run(&["replay", &recorded]).text();
    assert!(!plain.contains("[ecapture: process "), "{plain}");
    let other = run(&["replay", &recorded, "--format", "jsonl", "-p", "4194304"]);
    assert!(other.stdout.is_empty());
}

/// Processes that run already, and ones that start later with libraries that are known by then: each once.
#[test]
fn a_capture_of_the_host_names_each_process_and_file_once() {
    let Some(scene) = Scene::python(&[]) else { return };
    let json = scene.folder.path().join("events.jsonl").display().to_string();
    let to_json = format!("jsonl:{json}");
    let mut running = Running::start(&["tls", "-o", &to_json, "-o", "text:/dev/null"]);
    running.wait_until_capturing();
    running.wait_for("`ecapture doctor` lists them");
    for _ in 0..3 {
        curl(&[&scene.server.url("/page.txt"), &scene.server.url("/hello.json")]);
    }
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let text = fs::read_to_string(&json).expect("JSON lines");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    let facts: Vec<Value> = lines
        .iter()
        .filter(|line| line["kind"] == "process")
        .cloned()
        .collect();
    let server = Value::from(scene.server.pid());
    let of_server = files(&facts, &server);
    assert_eq!(of_server.len(), 1, "{of_server:?}");
    assert!(
        of_server[0].0.starts_with("libssl.so") && of_server[0].1,
        "{of_server:?}"
    );
    let port = format!(":{}", scene.server.port);
    let mut clients: Vec<_> = lines
        .iter()
        .filter(|line| line["comm"] == "curl" && line["dst"].as_str().is_some_and(|to| to.ends_with(&port)))
        .map(|line| line["pid"].clone())
        .collect();
    clients.dedup();
    assert_eq!(clients.len(), 3);
    // The survey has read the library's version by then.
    let mut libraries = facts
        .iter()
        .filter(|fact| clients.contains(&fact["pid"]) && is_openssl(fact));
    assert!(
        libraries.any(|fact| fact["version"]
            .as_str()
            .is_some_and(|version| version.starts_with('3'))),
        "{facts:?}"
    );
    for client in &clients {
        let mut of_client = files(&facts, client);
        assert!(
            !of_client.is_empty() && of_client.iter().all(|(_, captured)| *captured),
            "{facts:?}"
        );
        let count = of_client.len();
        of_client.dedup();
        assert_eq!(of_client.len(), count, "each file once: {of_client:?}");
    }
}

#[test]
fn a_program_that_cannot_be_captured_says_why() {
    let Some(_alone) = can_capture(&["gcc", "openssl"]) else {
        return;
    };
    let stripped = Stripped::start();
    let words = stripped.words();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let finished = run(&[&["tls", "--format", "jsonl", "--"], &words[..]].concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(finished.json().is_empty(), "{}", finished.text());
    let facts = finished.facts();
    assert_eq!(facts.len(), 1, "{facts:?}");
    assert_eq!(facts[0]["captured"], false);
    assert_eq!(facts[0]["file"], words[0]);
    let obstacle = facts[0]["obstacle"].as_str().expect("a reason");
    assert!(obstacle.contains("no symbols"), "{obstacle}");
    assert!(
        finished.stderr.contains("nothing was captured"),
        "{}",
        finished.stderr
    );
}

/// The filters that hold for events hold for facts.
#[test]
fn processes_that_are_not_selected_are_not_named() {
    let Some(scene) = Scene::python(&[]) else { return };
    let server = scene.server.pid().to_string();
    let finished = scene.capture(&["tls", "--format", "jsonl", "-p", &server], || {
        curl(&[&scene.server.url("/hello.json")]);
    });
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let facts = finished.facts();
    assert_eq!(facts.len(), 1, "{facts:?}");
    assert_eq!(facts[0]["pid"], scene.server.pid());
    let nobody = scene.capture(&["tls", "--format", "jsonl", "-u", "65534"], || {
        let _ended = Command::new("curl")
            .arg("-sk")
            .arg(scene.server.url("/hello.json"))
            .output();
    });
    assert!(
        nobody
            .facts()
            .iter()
            .all(|fact| fact["pid"] != scene.server.pid()),
        "{}",
        nobody.text()
    );
}

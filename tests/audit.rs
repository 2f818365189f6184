//! What every file begins with: who captured what, when and with which settings.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::audit::is_audit;
use crate::support::exchanges::{recording, replay};
use crate::support::program::{ecapture, run};

/// Replays `recording` into `output`, a value of `-o`, with more flags.
fn replay_into(recording: &str, output: &str, flags: &[&str]) {
    let finished = run(&[&["replay", recording, "-o", output], flags].concat());
    assert_eq!(finished.code(), Some(0), "{output}: {}", finished.stderr);
}

/// The object behind the first `sign` in `bytes`.
fn audit_after(sign: &str, bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text
        .split_once(sign)
        .unwrap_or_else(|| panic!("no {sign}: {text}"));
    let mut values = serde_json::Deserializer::from_str(rest).into_iter();
    values.next().expect("an object").expect("JSON")
}

#[test]
fn files_of_every_format_begin_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let recording = recording(folder.path());
    for (format, sign) in [
        ("text", "[ecapture: audit "),
        ("original", "[ecapture: audit "),
        ("exchange", "[ecapture: audit "),
        ("jsonl", r#"{"v":1,"kind":"audit","audit":"#),
        ("har", r#","_audit":"#),
        ("protobuf", r#"{"v":1,"kind":"audit","audit":"#),
        ("pcapng", "audit "),
        ("recording", r#","audit":"#),
        ("keylog", "# audit "),
    ] {
        let file = folder.path().join(format);
        let output = format!("{format}:{},no-redact", file.display());
        replay_into(&recording, &output, &[]);
        let bytes = fs::read(&file).unwrap();
        let at = bytes
            .windows(sign.len())
            .position(|found| found == sign.as_bytes());
        assert!(at.is_some_and(|at| at < 512), "{format}: {at:?}");
        let audit = audit_after(sign, &bytes);
        let command = audit["command"].as_str().unwrap();
        assert!(
            command.contains(&format!("replay {recording} -o {format}:")),
            "{audit}"
        );
        assert_eq!(audit["uid"], u64::from(users_id()), "{audit}");
        assert_eq!(audit["privacy"], "full");
        assert_eq!(audit["redacted"], false);
        assert!(
            audit["program"].as_str().unwrap().starts_with("ecapture "),
            "{audit}"
        );
        assert!(audit["time"].as_str().unwrap().ends_with('Z'), "{audit}");
        assert!(
            audit["pid"].as_u64().unwrap() > 1 && audit["host"].is_string(),
            "{audit}"
        );
    }
}

fn users_id() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").expect("a process").uid()
}

#[test]
fn it_has_the_settings_of_its_file_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let recording = recording(folder.path());
    let file = folder.path().join("out.jsonl");
    let output = format!("jsonl:{},filter=http.response.code >= 200", file.display());
    let token = "canary-of-a-token-0123456789";
    let listen = ["--listen", "127.0.0.1:0", "--listen-token", token];
    let flags = ["--privacy", "headers", "--redact"];
    replay_into(&recording, &output, &[&flags[..], &listen].concat());
    let text = fs::read_to_string(&file).unwrap();
    let audit = audit_after(r#""audit":"#, text.as_bytes());
    assert_eq!(audit["privacy"], "headers");
    assert_eq!(audit["redacted"], true);
    assert!(
        audit["filter"].as_str().unwrap().contains("http.response.code"),
        "{audit}"
    );
    assert!(!text.contains(token) && audit["command"].as_str().unwrap().contains("--listen-token ***"));
}

#[test]
fn each_run_adds_one_and_nothing_else_changes() {
    let folder = tempfile::tempdir().unwrap();
    let recording = recording(folder.path());
    for format in ["text", "jsonl", "exchange"] {
        let expected = run(&["replay", &recording, "-o", format]).text();
        let file = folder.path().join(format);
        let output = format!("{format}:{}", file.display());
        replay_into(&recording, &output, &[]);
        replay_into(&recording, &output, &[]);
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        let (audits, others): (Vec<&str>, Vec<&str>) = text
            .split_inclusive('\n')
            .partition(|line| is_audit(line.as_bytes()));
        assert_eq!(audits.len(), 2);
        assert!(text.starts_with(audits[0]));
        // The order of the lines of a file of `exchange` is the same; its times have a date.
        if format != "exchange" {
            assert_eq!(others.concat(), expected.repeat(2));
        }
    }
}

#[test]
fn standard_output_and_pipes_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let recording = recording(folder.path());
    let file = folder.path().join("redirected");
    let mut command = ecapture();
    command.args(["replay", &recording, "--format", "jsonl"]);
    let status = command.stdout(fs::File::create(&file).unwrap()).status().unwrap();
    assert!(status.success());
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        !text.is_empty() && !text.lines().any(|line| is_audit(line.as_bytes())),
        "{text}"
    );
    let mut command = ecapture();
    command.args(["replay", &recording, "-o", "text:/dev/stderr"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("PID:") && !text.contains("ecapture: audit"),
        "{text}"
    );
}

#[test]
fn a_recording_that_begins_with_one_replays_to_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let first = recording(folder.path());
    let second = folder.path().join("again.jsonl");
    replay_into(&first, &format!("recording:{}", second.display()), &[]);
    let text = fs::read_to_string(&second).unwrap();
    assert!(text.starts_with(r#"{"ecapture_recording":1"#), "{text}");
    let second = second.to_str().unwrap();
    assert_eq!(replay(&first, &[]).stdout, replay(second, &[]).stdout);
}

#[test]
fn captured_text_cannot_forge_one() {
    let folder = tempfile::tempdir().unwrap();
    let forged = r#"[ecapture: audit {\"program\":\"forged\"}]"#;
    let body = format!("x\\n{forged}\\n");
    let length = body.replace("\\n", "\n").replace("\\\"", "\"").len();
    let event = format!(
        r#"{{"ts":1,"dir":"read","pid":7,"tid":7,"comm":"c","fd":5,"offset":0,"session":"1","text":"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"}}"#
    );
    let recording = folder.path().join("forged.jsonl");
    fs::write(&recording, format!("{{\"ecapture_recording\":1}}\n{event}\n")).unwrap();
    let file = folder.path().join("text");
    replay_into(
        recording.to_str().unwrap(),
        &format!("text:{}", file.display()),
        &[],
    );
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(
        text.lines().filter(|line| is_audit(line.as_bytes())).count(),
        1,
        "{text}"
    );
    assert!(
        text.contains("\n\\[ecapture: audit {\"program\":\"forged\"}]\n"),
        "{text}"
    );
}

#[test]
fn rotated_and_chained_files_begin_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let recording = recording(folder.path());
    for (format, options) in [("jsonl", ""), ("jsonl", ",chain"), ("text", ""), ("exchange", "")] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.out");
        let output = format!("{format}:{},rotate-size=64K{options}", file.display());
        replay_into(&recording, &output, &[]);
        let files = files(folder.path());
        assert!(files.len() > 1, "{format}{options}: {files:?}");
        for file in &files {
            let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
            let audits = text.lines().filter(|line| is_audit(line.as_bytes())).count();
            assert!(
                audits == 1 && is_audit(text.as_bytes()),
                "{format}{options}: {text}"
            );
        }
        if options == ",chain" {
            let names: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
            let verified = run(&[&["verify"], &names[..]].concat());
            assert_eq!(verified.code(), Some(0), "{}{}", verified.text(), verified.stderr);
        }
    }
}

/// The files of a folder, in order of rotation.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    // The one without a time in its name is the newest.
    files.sort_by_key(|file| (file.ends_with("events.out"), file.clone()));
    files
}

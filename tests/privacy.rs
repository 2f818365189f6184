//! Secrets in every place that masking and each level of privacy cover: they are in no output.

use std::fs;
use std::path::Path;

use crate::support::program::{Finished, run};

const RECORDING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/curl-python/events.jsonl"
);

fn replayed(flags: &[&str]) -> Finished {
    let finished = run(&[&["replay", RECORDING], flags].concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    finished
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    path.to_str().expect("a name").to_owned()
}

#[test]
fn own_patterns_are_masked_in_every_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let patterns = file(
        folder.path(),
        "patterns",
        "# ours\nheader user-*\ntext Python/[0-9.]+\n",
    );
    for format in ["text", "original", "jsonl", "exchange"] {
        let flags = ["--format", format, "-vv"];
        let plain = replayed(&flags).text();
        assert!(plain.contains("Python/") && plain.contains("curl/"), "{plain}");
        let masked = replayed(&[&flags[..], &["--redact-file", &patterns]].concat()).text();
        assert!(
            !masked.contains("Python/") && !masked.contains("curl/"),
            "{masked}"
        );
        assert!(masked.contains("***"), "{masked}");
    }
}

#[test]
fn an_output_has_its_own_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let patterns = file(folder.path(), "patterns", "header user-agent\n");
    let open = folder.path().join("open.jsonl");
    let output = format!("jsonl:{},no-redact", open.display());
    let flags = ["--redact-file", &patterns, "-o", "jsonl", "-o", &output];
    let masked = replayed(&flags).text();
    let open = fs::read_to_string(open).expect("the other output");
    assert!(
        !masked.contains("curl/") && open.contains("curl/"),
        "{masked}{open}"
    );
}

#[test]
fn bodies_and_header_values_are_left_out() {
    let bodies = |text: &str| text.matches("bytes of content left out for privacy").count();
    let full = replayed(&[]).text();
    let headers = replayed(&["--privacy", "headers"]).text();
    assert_eq!(bodies(&full), 0);
    assert!(bodies(&headers) > 0 && headers.contains("curl/"), "{headers}");
    let metadata = replayed(&["--privacy", "metadata"]).text();
    assert_eq!(bodies(&headers), bodies(&metadata));
    assert!(
        !metadata.contains("curl/") && metadata.contains("GET /"),
        "{metadata}"
    );
}

#[test]
fn at_metadata_content_is_inspected_only_for_a_filter_that_asks_for_it() {
    let recording = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/grpc-node/events.jsonl"
    );
    let lines = |flags: &[&str]| {
        let finished = run(&[&["replay", recording, "--format", "jsonl"], flags].concat());
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        finished.text()
    };
    let of_grpc = |text: &str| text.matches(r#""kind":"grpc.message""#).count();
    let metadata = ["--privacy", "metadata"];
    assert!(of_grpc(&lines(&["--privacy", "headers"])) > 0);
    let without = lines(&metadata);
    assert_eq!(of_grpc(&without), 0);
    assert!(without.contains(r#"["grpc-status","0"]"#), "{without}");
    let filtered = lines(&[&metadata[..], &["--filter", "grpc"]].concat());
    assert!(of_grpc(&filtered) > 0, "{filtered}");
    assert!(filtered.contains("left out for privacy"), "{filtered}");
}

#[test]
fn wrong_flags_name_the_right_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = file(folder.path(), "wrong", "header X-A\ncookie a\n");
    let long = file(folder.path(), "long", &"# comment\n".repeat(8000));
    let recording = folder.path().join("r").display().to_string();
    for (flags, part) in [
        (&["replay", RECORDING, "--redact-file", &wrong][..], "line 2"),
        (&["replay", RECORDING, "--redact-file", &long], "at most 65536"),
        (
            &["replay", RECORDING, "--redact-file", "/nonexistent"],
            "/nonexistent",
        ),
        (&["replay", RECORDING, "--redact", "--no-redact"], "--no-redact"),
        (&["replay", RECORDING, "--privacy", "none"], "metadata"),
        (&["record", &recording, "--privacy", "headers"], "--privacy"),
        (
            &["tls", "--redact", "-m", "keylog", "-k", &recording],
            "no-redact",
        ),
        (
            &["tls", "--privacy", "headers", "-m", "keylog", "-k", &recording],
            "--privacy",
        ),
    ] {
        let finished = run(flags);
        let stderr = &finished.stderr;
        assert_eq!(finished.code(), Some(2), "{flags:?}: {stderr}");
        assert!(
            stderr.starts_with("error: ") && stderr.contains(part),
            "{flags:?}: {stderr}"
        );
        assert_eq!(stderr.trim_end().lines().count(), 1, "{flags:?}: {stderr}");
    }
    assert!(!Path::new(&recording).exists());
}

//! `ecapture stat`: figures of exchanges, of recordings and of a capture.

use serde_json::Value;

use crate::support::ends::{Events, client, get, ok, server};
use crate::support::program::{Finished, on_a_terminal, run};

const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/h2load-nghttpd/events.jsonl"
);

fn stat(arguments: &[&str]) -> Finished {
    let finished = run(&[&["stat", "-q"], arguments].concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    finished
}

/// The rows of a recording, by their name.
fn rows(file: &str, by: &str) -> Vec<(String, Value)> {
    let lines = stat(&["--from", file, "--by", by, "--format", "jsonl"]).json();
    let row = |line: Value| (line[by].as_str().unwrap_or_default().to_owned(), line);
    lines.into_iter().map(row).collect()
}

#[test]
fn each_exchange_counts_once_except_for_processes() {
    let by_process = rows(FIXTURE, "process");
    let calls: Vec<_> = by_process
        .iter()
        .map(|(name, row)| (name.as_str(), row["calls"].as_u64()))
        .collect();
    assert_eq!(
        calls,
        [("h2load[23707] ->", Some(20)), ("nghttpd[23695] <-", Some(20))]
    );
    for by in ["peer", "host", "path"] {
        let rows = rows(FIXTURE, by);
        let calls: u64 = rows.iter().filter_map(|(_, row)| row["calls"].as_u64()).sum();
        assert_eq!(calls, 20, "{rows:?}");
    }
    let twice = [
        "--from", FIXTURE, "--by", "host", "--ends", "both", "--format", "jsonl",
    ];
    assert_eq!(stat(&twice).json()[0]["calls"], 40);
}

/// On a terminal the table takes the place of the one before; a pipe gets the last one only.
#[test]
fn a_terminal_shows_one_table_and_a_pipe_gets_one() {
    const CLEAR: &str = "\x1b[H\x1b[J";
    let shown = on_a_terminal(&format!("stat -q --from {FIXTURE}"));
    let (_, last) = shown.rsplit_once(CLEAR).expect("the place is cleared");
    assert!(
        last.contains("h2load[23707] ->") && last.contains("nghttpd[23695] <-"),
        "{shown}"
    );
    let piped = stat(&["--from", FIXTURE]).text();
    assert!(!piped.contains('\x1b'), "{piped}");
    assert_eq!(piped.matches("h2load[23707] ->").count(), 1, "{piped}");
}

#[test]
fn a_table_has_calls_errors_quantiles_and_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut events = Events::default();
    let (near, far) = (client(5000), server(5000));
    for call in 0..100_u64 {
        let (at, path) = (1000 * call, format!("/users/{call}?x={call}"));
        let answer = if call == 7 {
            "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned()
        } else {
            ok("body")
        };
        events
            .write(near, at + 1, &get(&path))
            .read(far, at + 2, &get(&path))
            .write(far, at + 3, &answer)
            .read(near, at + 4 + call, &answer);
    }
    let file = events.save(folder.path());
    let rows = rows(&file, "path");
    let [(name, row)] = rows.as_slice() else {
        panic!("one path: {rows:?}")
    };
    assert_eq!(name, "GET h/users/{id}");
    assert_eq!(
        (&row["calls"], &row["errors"], &row["response_bytes"]),
        (&100.into(), &1.into(), &396.into())
    );
    let near = |figure: &str, exact: u64| {
        let shown = row[figure].as_u64().expect("a latency");
        assert!(shown.abs_diff(exact) * 64 <= exact, "{figure}: {shown}");
    };
    near("p50_us", 52_000);
    near("p90_us", 92_000);
    near("p99_us", 101_000);
    let table = stat(&["--from", &file, "--by", "path"]).text();
    let words: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        words[0],
        [
            "CALLS", "ERRORS", "P50", "P90", "P99", "REQUEST", "RESPONSE", "PATH"
        ]
    );
    assert_eq!(
        (words.len(), words[1][0], words[1][1]),
        (2, "100", "1"),
        "{table}"
    );
    assert!(!table.contains('\x1b'), "{table}");
}

#[test]
fn figures_are_selected_like_messages() {
    let filter = [
        "--from",
        FIXTURE,
        "--format",
        "jsonl",
        "--filter",
        "http.response.code == 404",
    ];
    assert_eq!(stat(&filter).json(), [Value::Null; 0]);
    let selected = [
        "--from",
        FIXTURE,
        "--format",
        "jsonl",
        "--filter",
        "proc.comm == \"h2load\"",
    ];
    assert_eq!(stat(&selected).json().len(), 1);
}

/// A response whose head is longer than what is read of heads.
#[test]
fn what_was_lost_is_below_the_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut events = Events::default();
    let end = client(5000);
    events.write(end, 1, &get("/a")).read(end, 2, &ok("yes"));
    let file = events.save(folder.path());
    let whole = stat(&["--from", &file]).text();
    assert!(!whole.contains("lost:"), "{whole}");
    let long = format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
        "x".repeat(100_000)
    );
    events.write(end, 3, &get("/b")).read(end, 4, &long);
    let file = events.save(folder.path());
    let table = stat(&["--from", &file]).text();
    let last = table.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("lost: decoder header_limit: 0 events, ") && last.ends_with(" bytes"),
        "{table}"
    );
}

#[test]
fn what_is_for_messages_is_refused() {
    for arguments in [
        ["stat", "-o", "text"],
        ["stat", "--format", "text"],
        ["stat", "--tsize", "5"],
    ] {
        let finished = run(&arguments);
        assert_eq!(finished.code(), Some(2), "{arguments:?}: {}", finished.stderr);
    }
}

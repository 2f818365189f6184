//! What `--filter` selects of recordings, and the lines of the exchange format.

mod early;
mod expressions;
mod scenario;
mod wireshark;

use std::fs;

use crate::support::ends::{Events, client};
use crate::support::program::{Finished, run};

const HTTP1: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/curl-nginx-http1/events.jsonl"
);
const HTTP2: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/curl-nginx-http2/events.jsonl"
);

fn replay(file: &str, arguments: &[&str]) -> Finished {
    let finished = run(&[&["replay", file], arguments].concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    finished
}

/// Kind, process and exchange of each message that the filter selects.
fn selected(file: &str, filter: &str) -> Vec<String> {
    let lines = replay(file, &["--format", "jsonl", "--filter", filter]).json();
    let text = |value: &serde_json::Value| value.to_string().trim_matches('"').to_owned();
    let shown = lines.iter().map(|line| {
        format!(
            "{} {} {}",
            text(&line["kind"]),
            text(&line["comm"]),
            text(&line["exchange"])
        )
    });
    shown.collect()
}

#[test]
fn requests_and_responses_are_selected_by_the_fields_of_both() {
    let file = HTTP1;
    let all = replay(file, &["--format", "jsonl"]).json();
    let is = |line: &&serde_json::Value, kind: &str| line["kind"].as_str().unwrap_or("").ends_with(kind);
    let both = all
        .iter()
        .filter(|line| is(line, "request") || is(line, "response"))
        .count();
    assert!(both > 10);
    let by_status = selected(file, "http.response.code == 200");
    assert_eq!(by_status.len(), both, "a request is selected by its response");
    let by_path = selected(file, "http.request.uri contains \"/hello.json\"");
    let requests = by_path.iter().filter(|line| line.contains("request")).count();
    assert!(requests > 0 && by_path.len() == 2 * requests, "{by_path:?}");
    let by_both = selected(
        file,
        "http.request.uri contains \"/hello.json\" && http.response.code < 300",
    );
    assert_eq!(by_both.len(), by_path.len());
    assert_eq!(selected(file, "http.response.code >= 400"), [""; 0]);
    assert_eq!(selected(file, "not http.response.code == 200 and http"), [""; 0]);
    let only_requests = selected(file, "http.request and http.response.code == 200");
    assert_eq!(2 * only_requests.len(), both);
    let of_nginx = selected(file, "proc.comm == \"nginx\" and http.response.code == 200");
    assert!(of_nginx.iter().all(|line| line.contains("nginx")), "{of_nginx:?}");
    assert_eq!(2 * of_nginx.len(), both);
}

#[test]
fn what_is_not_selected_is_counted_and_not_a_loss() {
    for (filter, counted) in [
        (
            "tcp.srcport == 1",
            "left out 24 messages of jsonl that its filter does not select",
        ),
        (
            "tcp.port == 1",
            "decoder filtered: 0 events, 11230 bytes: bytes of connections that no filter can select",
        ),
    ] {
        let finished = replay(
            HTTP1,
            &["--format", "jsonl", "--filter", filter, "--fail-on-loss"],
        );
        assert_eq!(finished.json(), [] as [serde_json::Value; 0]);
        for words in [counted, "nothing was lost"] {
            assert!(finished.stderr.contains(words), "{words}: {}", finished.stderr);
        }
    }
}

#[test]
fn an_output_has_a_filter_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("some.jsonl");
    let output = format!(
        "jsonl:{},on-error=retry,filter=http.request.uri in {{\"/echo\", \"/hello.json\"}}",
        file.display()
    );
    let finished = replay(HTTP2, &["-o", &output, "-o", "jsonl"]);
    let some = fs::read_to_string(&file).expect("an output").lines().count();
    assert!(some > 0 && some < finished.json().len(), "{some}");
}

/// The first output does not ask for requests to be held for their responses; the others do.
#[test]
fn outputs_with_filters_beside_others_are_as_if_alone() {
    for file in [HTTP1, HTTP2] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("some.jsonl").display().to_string();
        let filter = "http.response.code == 200 and http.request.uri contains \"hello\"";
        let filtered = format!("jsonl:{path},filter={filter}");
        let har = format!("har:{}", folder.path().join("all.har").display());
        replay(file, &["-o", "jsonl", "-o", &filtered, "-o", &har]);
        let alone = replay(file, &["--format", "jsonl", "--filter", filter]).text();
        assert!(
            alone.contains("request\",") && alone.contains("response\","),
            "{alone}"
        );
        let beside = fs::read_to_string(&path).expect("an output");
        // The file begins with who captured what.
        let (_audit, beside) = beside.split_once('\n').expect("a line");
        assert_eq!(beside, alone);
    }
}

#[test]
fn wrong_filters_name_the_place_and_the_way_out() {
    for (arguments, words) in [
        (
            &["--filter", "http.hots == \"a\""][..],
            "at character 1: `http.hots` is not a field; is http.host meant?",
        ),
        (
            &["--filter", "http.host == a"],
            "at character 14: text is expected in double quotes",
        ),
        (&["-o", "jsonl,filter=http and"], "-o: at character 9"),
        (
            &["-o", "recording:/x/y,filter=http"],
            "use --filter with `ecapture replay`",
        ),
    ] {
        let finished = run(&[&["replay", HTTP1], arguments].concat());
        assert_eq!(finished.code(), Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
    }
    let finished = run(&["tls", "udp", "port", "53", "--", "true"]);
    assert_eq!(finished.code(), Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("--filter"), "{}", finished.stderr);
}

#[test]
fn an_exchange_is_a_line() {
    let finished = replay(HTTP1, &["--format", "exchange"]);
    let text = String::from_utf8(finished.stdout).expect("text");
    let responses = replay(HTTP1, &["--format", "jsonl"]).json();
    let responses = responses.iter().filter(|line| line["status"].is_number()).count();
    assert_eq!(
        2 * text.lines().count(),
        responses,
        "curl and nginx are both captured"
    );
    let each = replay(HTTP1, &["--format", "exchange", "--ends", "both"]);
    assert_eq!(each.text().lines().count(), responses);
    let first = text.lines().next().expect("a line");
    let expected = "curl[32511] -> 127.0.0.1:44543 GET https://127.0.0.1:44543/echo 200 0 -> 11 B 0.469 ms, nginx[32512] 0.170 ms (+0.299 ms)";
    assert!(text.lines().any(|line| line.ends_with(expected)), "{first}");
    let heads = replay(HTTP1, &["--format", "exchange", "-v"]);
    let heads = String::from_utf8(heads.stdout).expect("text");
    assert!(
        heads.contains("\n> :path: /echo\n") && heads.contains("\n< Server: nginx"),
        "{heads}"
    );
    assert!(!heads.contains("\n  method=GET\n"), "{heads}");
    let bodies = replay(HTTP1, &["--format", "exchange", "-vv"]);
    assert!(String::from_utf8_lossy(&bodies.stdout).contains("\n  method=GET\n"));
}

/// Six uploads are on their way before the first of their answers comes.
#[test]
fn what_is_held_too_long_for_its_answer_is_shown_and_marked() {
    let folder = tempfile::tempdir().expect("a folder");
    let end = client(5000);
    let mut events = Events::default();
    let body = "x".repeat(1_000_000);
    for number in 0..6 {
        let length = body.len();
        let head = format!("POST /{number} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        events
            .write(end, 2 * number, &head)
            .write(end, 2 * number + 1, &body);
    }
    for number in 0..6 {
        let status = if number % 2 == 0 { "200 OK" } else { "500 No" };
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        events.read(end, 100 + number, &response);
    }
    let file = events.save(folder.path());
    let lines = replay(
        &file,
        &["--format", "jsonl", "--filter", "http.response.code == 500"],
    )
    .json();
    let undecided = |line: &serde_json::Value| line["pairing"] == "undecided";
    let requests: Vec<_> = lines
        .iter()
        .filter(|line| line["kind"] == "http1.request")
        .collect();
    let marked: Vec<_> = requests.iter().filter(|line| undecided(line)).collect();
    assert!(!marked.is_empty() && marked.len() < 6, "{}", marked.len());
    for request in &requests {
        let number: u64 = request["exchange"].as_u64().expect("a number");
        assert!(undecided(request) || number.is_multiple_of(2), "{request}");
    }
    for answered in [2, 4, 6] {
        let of_exchange = |kind: &str| {
            let is_it = |line: &&serde_json::Value| line["kind"] == kind && line["exchange"] == answered;
            lines.iter().filter(is_it).count()
        };
        assert_eq!(
            (of_exchange("http1.request"), of_exchange("http1.response")),
            (1, 1),
            "{answered}"
        );
    }
    let responses = lines
        .iter()
        .filter(|line| line["kind"] == "http1.response")
        .count();
    assert_eq!(responses, 3);
    let exchanges = replay(
        &file,
        &["--format", "exchange", "--filter", "http.response.code == 500"],
    );
    assert_eq!(exchanges.text().matches(" POST https://h/").count(), 3);
    let text = replay(&file, &["--filter", "http.response.code == 500"]).text();
    let mark = "not decided by the filter: its response came too late";
    assert_eq!(text.matches(mark).count(), marked.len());
}

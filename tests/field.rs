//! Recordings made after reports from the field, each with the right answer.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::program::{Finished, run};
use crate::support::shared;

/// Replays a case of the shared folder as JSON; `None` where the folder is not there.
fn case(name: &str) -> Option<Vec<Value>> {
    let folder = shared()?.join("fixtures/field");
    Some(replay(&folder.join(name), &["--format", "jsonl"]).json())
}

fn replay(case: &Path, flags: &[&str]) -> Finished {
    let events = case.join("events.jsonl");
    let mut arguments = vec!["replay", events.to_str().expect("a UTF-8 path")];
    arguments.extend(flags);
    let finished = run(&arguments);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    finished
}

fn kinds(messages: &[Value]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message["kind"].as_str().expect("a kind"))
        .collect()
}

/// The messages of one kind.
fn of<'a>(messages: &'a [Value], kind: &str) -> Vec<&'a Value> {
    messages
        .iter()
        .filter(|message| message["kind"] == kind)
        .collect()
}

/// Bytes in raw messages.
fn raw_bytes(messages: &[Value]) -> u64 {
    of(messages, "raw")
        .iter()
        .map(|message| message["data"]["len"].as_u64().expect("a length"))
        .sum()
}

#[test]
fn other_protocols_stay_raw() {
    for (name, bytes) in [("mqtt-subscribe", 57), ("mysql-query-lengths", 869)] {
        let Some(messages) = case(name) else { return };
        assert!(kinds(&messages).iter().all(|kind| *kind == "raw"), "{messages:?}");
        assert_eq!(raw_bytes(&messages), bytes, "{name}");
    }
}

#[test]
fn a_body_that_is_not_as_labelled_is_whole() {
    let Some(messages) = case("gzip-label-plain-body") else {
        return;
    };
    let body = &messages[0]["body"];
    let shown = body["text"].as_str().expect("text");
    assert_eq!((shown.len(), body["len"].as_u64()), (18_908, Some(18_908)));
    assert!(shown.starts_with("{\"k\":\"0,1,2,") && shown.contains(",2000,2001,"));
    assert_eq!(body["error"], "not gzip data");
    assert_eq!(
        (&body["complete"], &body["truncated_at"]),
        (&json!(true), &Value::Null)
    );
}

#[test]
fn a_head_over_the_limit_is_cut_and_framed() {
    let Some(messages) = case("head-over-64-KiB") else {
        return;
    };
    let requests = of(&messages, "http1.request");
    assert!(requests.len() >= 2, "{:?}", kinds(&messages));
    assert_eq!(requests[0]["start_line"], "POST /big HTTP/1.1");
    assert_eq!(
        requests[0]["anomalies"],
        json!(["header section exceeds the limit and is cut"])
    );
    assert_eq!(requests[0]["body"]["complete"], true);
    assert!(of(&messages, "raw").is_empty() && of(&messages, "gap").is_empty());
}

#[test]
fn odd_requests_are_requests() {
    let Some(messages) = case("space-in-target") else {
        return;
    };
    let requests = of(&messages, "http1.request");
    assert_eq!(requests[0]["path"], "/a b/c?d=e f");
    assert_eq!(requests[1]["anomalies"], json!(["invalid request target"]));
    let responses = of(&messages, "http1.response");
    let bodies: Vec<_> = responses
        .iter()
        .map(|response| response["body"]["text"].as_str())
        .collect();
    assert_eq!(bodies, [Some("abc"), Some(""), Some("xyz")]);
    assert!(
        responses
            .iter()
            .all(|response| response["body"]["complete"] == true)
    );

    let messages = case("lower-case-method").expect("the shared folder");
    assert_eq!(messages[0]["method"], "patch");
    assert_eq!(messages[0]["body"]["text"], "hi");

    let messages = case("nul-in-field-name").expect("the shared folder");
    assert_eq!(kinds(&messages), ["http1.request", "exchange"]);
    assert_eq!(messages[0]["anomalies"], json!(["invalid header line"]));
    assert_eq!(messages[1]["pairing"], "no_response");

    let messages = case("target-not-utf-8").expect("the shared folder");
    assert_eq!(
        of(&messages, "http1.request")[0]["anomalies"],
        json!(["invalid request target"])
    );
    let responses = of(&messages, "http1.response");
    assert_eq!(responses[0]["body"]["text"], "hello");
    assert_eq!(
        (&responses[1]["body"]["len"], &responses[1]["body"]["complete"]),
        (&json!(0), &json!(true))
    );

    let messages = case("bare-cr-in-value").expect("the shared folder");
    assert_eq!(
        messages[0]["headers"][1],
        json!(["X", "\rTransfer-Encoding: chunked"])
    );
}

#[test]
fn framing_that_recipients_disagree_on_is_marked() {
    let Some(messages) = case("chunk-size-cr-cr") else {
        return;
    };
    let response = of(&messages, "http1.response")[0];
    assert_eq!(response["anomalies"], json!(["bad chunk framing"]));
}

#[test]
fn a_connect_with_a_length_opens_a_tunnel() {
    let Some(messages) = case("connect-200-length-0") else {
        return;
    };
    let requests = of(&messages, "http2.request");
    let responses = of(&messages, "http2.response");
    assert_eq!(
        (requests.len(), responses.len()),
        (1, 1),
        "{:?}",
        kinds(&messages)
    );
    assert_eq!(responses[0]["status"], 200);
    assert!(of(&messages, "raw").is_empty());
}

#[test]
fn a_lost_first_record_is_a_gap() {
    let Some(messages) = case("first-record-lost") else {
        return;
    };
    assert_eq!(messages[0]["gap"], json!({"bytes": 42, "reason": "kernel_loss"}));
    let responses = of(&messages, "http1.response");
    assert_eq!(responses[0]["body"]["text"], "hello");
    assert_eq!(
        responses[1]["anomalies"],
        json!(["read as an answer to HEAD, the request was not seen"])
    );
}

#[test]
fn websocket_frames_are_all_shown() {
    let Some(messages) = case("websocket-over-h2-early-data") else {
        return;
    };
    let frames = of(&messages, "websocket.message");
    let texts: Vec<_> = frames
        .iter()
        .map(|frame| frame["message"]["text"].as_str())
        .collect();
    assert_eq!(
        texts,
        [Some("hello"), Some("msg 0"), Some("msg 1"), Some("msg 2")]
    );

    let messages = case("websocket-illegal-control-frame").expect("the shared folder");
    let frames = of(&messages, "websocket.message");
    assert_eq!(frames.len(), 2, "{messages:?}");
    assert_eq!(frames[0]["message"]["error"], "fragmented control frame");
    assert_eq!(frames[1]["message"]["text"], "after");
}

#[test]
fn http2_faults_are_marked_and_stepped_over() {
    let Some(messages) = case("h2-padding-too-long") else {
        return;
    };
    let request = of(&messages, "http2.request")[0];
    assert_eq!(
        (&request["error"], &request["body"]["wire_len"]),
        (&json!("bad padding"), &json!(4))
    );

    let messages = case("h2-client-block-damaged").expect("the shared folder");
    let requests = of(&messages, "http2.request");
    assert_eq!(requests.len(), 1, "{messages:?}");
    assert_eq!(requests[0]["error"], "header block is damaged");

    let messages = case("h2-frame-of-wrong-length").expect("the shared folder");
    assert_eq!(of(&messages, "http2.request")[0]["path"], "/after");
    assert_eq!(
        of(&messages, "http2.frame")[0]["frame"]["error"],
        "frame of a wrong length"
    );
}

/// Replays a recording of our own.
fn own(name: &str, flags: &[&str]) -> Finished {
    replay(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name),
        flags,
    )
}

#[test]
fn slow_messages_come_in_parts_unless_whole_ones_are_wanted() {
    let in_parts = own("event-stream", &["--format", "jsonl"]).json();
    let parts: Vec<_> = of(&in_parts, "http1.response")
        .iter()
        .filter_map(|message| message["part"].as_str())
        .collect();
    assert_eq!(parts.iter().filter(|part| **part == "first").count(), 4);
    assert_eq!(parts.iter().filter(|part| **part == "final").count(), 4);
    let whole = own("event-stream", &["--format", "jsonl", "--whole"]).json();
    assert!(whole.iter().all(|message| message["part"].is_null()));
    let responses = of(&whole, "http1.response");
    assert_eq!(responses.len(), 4);
    for response in responses {
        assert_eq!(response["body"]["len"], 126);
        assert_eq!(response["body"]["complete"], true);
        assert!(response["headers"].is_array());
    }
}

#[test]
fn the_parts_of_a_slow_body_make_up_the_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/event-stream/events.jsonl");
    let events = fs::read_to_string(recorded).expect("a recording");
    // As long as before, because the events have their offsets in the stream.
    let plain = events.replace("text/event-stream", "text/x-long-plain");
    fs::write(folder.path().join("events.jsonl"), plain).expect("a file");
    let replayed = |flags: &[&str]| replay(folder.path(), flags);

    let in_parts = replayed(&["--format", "jsonl"]).json();
    let whole = replayed(&["--format", "jsonl", "--whole"]).json();
    let whole = of(&whole, "http1.response");
    assert_eq!(whole.len(), 4);
    let first = of(&in_parts, "http1.response");
    let starts = first.iter().filter(|message| message["part"] == "first");
    assert_eq!(starts.count(), 4);
    for response in whole {
        let same = |message: &&&Value| {
            ["uuid", "ts_ns"]
                .iter()
                .all(|member| message[member] == response[member])
        };
        let parts: Vec<_> = first.iter().filter(same).collect();
        assert!(parts.len() > 3, "{parts:?}");
        assert_eq!(parts[0]["headers"], response["headers"]);
        let content: String = parts
            .iter()
            .filter_map(|part| part["body"]["text"].as_str())
            .collect();
        assert_eq!(response["body"]["text"], content);
        let last = parts.last().expect("parts");
        assert_eq!(last["part"], "final");
        assert_eq!(last["body"]["len"], response["body"]["len"]);
        assert_eq!(last["body"]["complete"], true);
    }

    let (in_parts, whole) = (replayed(&[]).text(), replayed(&["--whole"]).text());
    for text in [&in_parts, &whole] {
        for words in ["HTTP/1.1 200 OK\n", "\ndata: first\n", "\ndata: déjà vu\n"] {
            assert_eq!(
                text.replace('\r', "").matches(words).count(),
                4,
                "{words} in {text}"
            );
        }
    }
    assert!(
        in_parts.contains("[ecapture: body so far, 38 bytes]"),
        "{in_parts}"
    );
    assert!(!whole.contains("body so far"), "{whole}");
}

#[test]
fn parts_are_the_same_bytes_every_time() {
    for case in ["event-stream", "grpc-node"] {
        for flags in [&[][..], &["--format", "jsonl"]] {
            let first = own(case, flags).stdout;
            for _ in 0..5 {
                assert!(own(case, flags).stdout == first, "{case} {flags:?}");
            }
        }
    }
}

#[test]
fn http2_is_shown_as_frames_or_as_messages() {
    let case = "curl-nginx-http2";
    let frames = own(case, &[]).text();
    assert_eq!(own(case, &["--frames", "all"]).text(), frames);
    assert!(frames.contains("Frame Type\t=>\tSETTINGS"), "{frames}");
    let messages = own(case, &["--frames", "messages"]).text();
    assert!(!messages.contains("SETTINGS"), "{messages}");
    assert!(messages.contains(":method"), "{messages}");

    let plain = own(case, &["--format", "jsonl"]).json();
    // Errors are always reported.
    let names = of(&plain, "http2.frame");
    assert!(names.iter().all(|frame| frame["frame"]["name"] == "RST_STREAM"));
    let asked = own(case, &["--format", "jsonl", "--frames", "messages"]).json();
    assert_eq!(asked, plain);
    let all = own(case, &["--format", "jsonl", "--frames", "all"]).json();
    let settings = of(&all, "http2.frame")
        .iter()
        .filter(|frame| frame["frame"]["name"] == "SETTINGS")
        .count();
    assert!(settings >= 2, "{settings}");
    for kind in ["http2.request", "http2.response"] {
        assert_eq!(of(&all, kind).len(), of(&plain, kind).len(), "{kind}");
    }
}

//! `-o otlp`: spans and metrics, read by the official classes and by a collector.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::replay::own_fixtures;
use crate::support::can_capture;
use crate::support::capture::{curl, site};
use crate::support::exchanges::{assert_balanced, lost_events, recording};
use crate::support::otlp::{Collector, Rotel, Span, Writer, all_spans, points, spans_of};
use crate::support::program::{Finished, Running, ecapture, run};
use crate::support::servers::{Certificate, Server, free_port};

/// Exchanges of [`recording`].
const EXCHANGES: usize = 1000;

fn replay_to(collector: &str, file: &str, more: &[&str]) -> Finished {
    let output = format!("otlp:{collector}");
    run(&[&["replay", file, "-o", &output], more].concat())
}

/// What JSON Lines say of each exchange: end, pairing, name, status.
fn of_lines(lines: &[Value]) -> BTreeMap<Vec<String>, usize> {
    let mut counts = BTreeMap::new();
    for line in lines.iter().filter(|line| line["pairing"].is_string()) {
        let kind = if line["direction"] == "read" {
            "SPAN_KIND_CLIENT"
        } else {
            "SPAN_KIND_SERVER"
        };
        let text = |value: &Value| value.to_string().replace('"', "").replace("null", "");
        let field = |name: &str| {
            let fields = [&line["trailers"], &line["headers"]]
                .into_iter()
                .filter_map(Value::as_array);
            let found = fields.flatten().find(|field| field[0] == name);
            found
                .map_or("", |field| field[1].as_str().unwrap_or_default())
                .to_owned()
        };
        let request = &line["request"];
        let (name, status) = if field("content-type").starts_with("application/grpc") {
            (
                text(&request["path"])[1..].to_owned(),
                match &*field("grpc-status") {
                    "0" => "OK".to_owned(),
                    "5" => "NOT_FOUND".to_owned(),
                    other => other.to_owned(),
                },
            )
        } else {
            (text(&request["method"]), text(&line["status"]))
        };
        let name = if name.is_empty() { "HTTP".to_owned() } else { name };
        *counts
            .entry(vec![
                kind.to_owned(),
                text(&line["pairing"]),
                name,
                status,
                text(&line["pid"]),
            ])
            .or_default() += 1;
    }
    counts
}

fn of_spans(spans: &[Span]) -> BTreeMap<Vec<String>, usize> {
    let mut counts = BTreeMap::new();
    for span in spans {
        let status = span.get("http.response.status_code").to_owned() + span.get("rpc.response.status_code");
        let texts = [
            span.get("kind"),
            span.get("ecapture.pairing"),
            span.get("name"),
            &status,
            span.get("process.pid"),
        ];
        *counts.entry(texts.map(ToOwned::to_owned).to_vec()).or_default() += 1;
    }
    counts
}

#[test]
fn each_exchange_is_a_span_over_both_transports_and_in_each_replay() {
    let transports = [("http", ""), ("grpc", ""), ("http", ",gzip"), ("grpc", ",gzip")];
    let collectors = transports.map(|(transport, _)| Collector::start(transport, &[]));
    let mut total = 0;
    for case in own_fixtures() {
        let events = case.join("events.jsonl");
        if !events.exists() {
            continue;
        }
        let events = events.to_str().expect("a path");
        let lines = run(&["replay", events, "--format", "jsonl", "--whole"]).json();
        let mut first = None;
        for ((transport, options), collector) in transports.iter().zip(&collectors) {
            let target = format!("{transport}://127.0.0.1:{}{options}", collector.port);
            let finished = replay_to(&target, events, &["--fail-on-loss"]);
            assert_eq!(finished.code(), Some(0), "{events}: {}", finished.stderr);
            let requests = collector.requests();
            let mut spans = all_spans(&requests);
            assert_eq!(of_spans(&spans), of_lines(&lines), "{events} {target}");
            // The collector's threads report requests in no promised order.
            spans.sort_unstable_by(|one, other| one.get("span_id").cmp(other.get("span_id")));
            if *transport == "http" {
                let is_compressed = |request: &Value| request["headers"]["content-encoding"] == "gzip";
                assert!(
                    requests
                        .iter()
                        .all(|request| is_compressed(request) != options.is_empty())
                );
            }
            total += spans.len();
            assert_eq!(
                *first.get_or_insert_with(|| spans.clone()),
                spans,
                "{events} {target}"
            );
        }
    }
    assert!(total > 4 * 50, "{total}");
}

/// A recording of one connection: the exchanges of a client or of a server, 1 ms each.
fn exchanges(folder: &Path, is_client: bool, exchanges: &[(String, String)]) -> String {
    let file = folder.join(if is_client { "client.jsonl" } else { "server.jsonl" });
    let mut out = File::create(&file).expect("a file");
    writeln!(
        out,
        r#"{{"ecapture_recording":1,"wall_clock_offset_ns":1000000000}}"#
    )
    .expect("a write");
    let mut writer = Writer::new(is_client);
    for (request, response) in exchanges {
        writer.exchange(&mut out, request, response);
    }
    file.to_str().expect("a path").to_owned()
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn get(path: &str, fields: &str, status: u16) -> (String, String) {
    (
        format!("GET {path} HTTP/1.1\r\nHost: h.example:8443\r\n{fields}\r\n"),
        format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok"),
    )
}

/// The spans of a replay of these.
fn spans(is_client: bool, list: &[(String, String)]) -> (Vec<Span>, Finished) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = exchanges(folder.path(), is_client, list);
    let collector = Collector::start("http", &[]);
    let finished = replay_to(&format!("http://127.0.0.1:{}", collector.port), &file, &[]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    (all_spans(&collector.requests()), finished)
}

/// Exchanges of all sorts; the last is not answered.
fn of_all_sorts() -> Vec<(String, String)> {
    let parent = format!("Traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n");
    let wrong = format!("traceparent: 00-{}-00f067aa0ba902b7-01\r\n", TRACE.to_uppercase());
    vec![
        get(
            "/a?b=c&token=canary",
            &format!("User-Agent: me/1\r\n{parent}"),
            200,
        ),
        get("/missing", &wrong, 404),
        get("/fails", "", 500),
        (
            "BREW /pot HTTP/1.1\r\nHost: u:p@h.example\r\n\r\n".to_owned(),
            get("", "", 202).1,
        ),
        get("/v1/traces", "", 200),
        (
            "POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            get("", "", 200).1,
        ),
        ("GET /never HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), String::new()),
    ]
}

/// The values of `name` in all spans.
fn all<'a>(spans: &'a [Span], name: &str) -> Vec<&'a str> {
    spans.iter().map(|span| span.get(name)).collect()
}

#[test]
fn client_and_server_spans_say_what_the_conventions_ask_for() {
    let [(client, finished), (server, _)] = [true, false].map(|is_client| spans(is_client, &of_all_sorts()));
    for spans in [&client, &server] {
        assert_eq!(all(spans, "name"), ["GET", "GET", "GET", "HTTP", "GET", "GET"]);
        assert_eq!(
            all(spans, "http.response.status_code"),
            ["200", "404", "500", "202", "200", ""]
        );
        assert_eq!(all(spans, "http.request.method")[3], "_OTHER");
        assert_eq!(all(spans, "http.request.method_original")[3], "BREW");
        assert_eq!(
            all(spans, "ecapture.incomplete"),
            ["", "", "", "", "", "no_response"]
        );
        assert_eq!(all(spans, "server.address")[0], "h.example");
        assert_eq!(spans[0].get("user_agent.original"), "me/1");
        assert_eq!(spans[0].get("http.response.body.size"), "2");
        assert_eq!(spans[0].get("trace_state"), "a=1");
        let trace = BASE64_STANDARD.decode(spans[0].get("trace_id")).unwrap();
        assert_eq!(trace[..4], [0x4B, 0xF9, 0x2F, 0x35]);
        assert_eq!(
            BASE64_STANDARD.decode(spans[0].get("parent_span_id")).unwrap()[1],
            0xF0
        );
        assert_eq!(spans[1].get("parent_span_id"), "");
        assert_ne!(spans[1].get("trace_id"), spans[0].get("trace_id"));
        let times = ["start_time_unix_nano", "end_time_unix_nano"]
            .map(|name| spans[0].get(name).parse::<u64>().unwrap());
        assert_eq!(times, [1_001_500_000, 1_002_000_000]);
    }
    assert_eq!(all(&client, "error.type"), ["", "404", "500", "", "", ""]);
    assert_eq!(all(&server, "error.type"), ["", "", "500", "", "", ""]);
    assert_eq!(client[1].field("status")["code"], "STATUS_CODE_ERROR");
    assert!(server[1].field("status").is_null());
    assert_eq!(
        client[0].get("url.full"),
        "https://h.example:8443/a?b=c&token=***"
    );
    assert_eq!(client[3].get("url.full"), "https://h.example/pot");
    assert_eq!(
        (server[0].get("url.path"), server[0].get("url.query")),
        ("/a", "b=c&token=***")
    );
    assert_eq!(client[0].get("network.peer.port"), "8443");
    assert_eq!(server[0].get("client.port"), "40000");
    // The export that was captured.
    assert!(
        finished.stderr.contains("no_record: 1 event"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_trace_that_others_began_is_bounded() {
    let parent = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n");
    let list: Vec<_> = (0..1010).map(|_| get("/", &parent, 200)).collect();
    let (spans, _) = spans(true, &list);
    assert_eq!(spans.len(), 1010);
    let adopted = spans
        .iter()
        .filter(|span| !span.get("parent_span_id").is_empty())
        .count();
    assert_eq!(adopted, 1000);
    for span in &spans[1000..] {
        assert_eq!(span.field("links")[0]["trace_id"], spans[0].get("trace_id"));
        assert_ne!(span.get("trace_id"), spans[0].get("trace_id"));
    }
}

#[test]
fn a_collector_that_refuses_or_throttles_loses_nothing_that_is_not_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = recording(folder.path());
    let recorded = std::fs::read(file).expect("the recording");
    for (transport, answers) in [
        ("http", ["400", "429/1", "503", "partial:3"]),
        ("grpc", ["3", "8/1", "14", "partial:3"]),
    ] {
        let collector = Collector::start(transport, &answers);
        let target = format!("{transport}://127.0.0.1:{}", collector.port);
        let (running, mut events) = fed(folder.path(), &target, &["--fail-on-loss"]);
        events.write_all(&recorded).expect("the replay reads");
        // It goes on until the last of the answers is given.
        let mut requests = Vec::new();
        while requests
            .last()
            .is_none_or(|request: &Value| request["answer"] != "partial:3")
        {
            requests.push(collector.next());
        }
        drop(events);
        let finished = running.finish();
        assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
        assert_balanced(&finished);
        requests.extend(collector.requests());
        let traces: Vec<_> = requests
            .iter()
            .filter(|request| request["signal"] == "traces")
            .collect();
        let answered = |answer: &str| traces.iter().position(|request| request["answer"] == answer);
        let [refused, throttled, busy, partial] = answers.map(|answer| answered(answer).expect("a request"));
        assert_eq!([refused, throttled, busy, partial], [0, 1, 2, 3], "{target}");
        let at = |index: usize| traces[index]["at"].as_f64().expect("a time");
        assert!(at(busy) - at(throttled) >= 1.0, "{target}: sent again too early");
        // The same spans come again, maybe with more behind them.
        let (once, again) = (spans_of(traces[throttled]), spans_of(traces[busy]));
        assert_eq!(once[..], again[..once.len()], "{target}");
        let rejected = spans_of(traces[refused]).len() + 3;
        assert_eq!(lost_events(&finished, "rejected"), rejected as u64);
        let taken = traces[partial..]
            .iter()
            .map(|request| spans_of(request).len())
            .sum::<usize>()
            - 3;
        assert_eq!(taken + rejected, EXCHANGES);
        assert_eq!(
            points(&requests, "ecapture.lost", "reason"),
            [("rejected".to_owned(), rejected as u64)]
        );
        assert_eq!(
            points(&requests, "ecapture.output.written", "format"),
            [("otlp".to_owned(), taken as u64)]
        );
        assert!(finished.stderr.contains("too old") || finished.stderr.contains("rejected"));
    }
}

/// A replay of a pipe that is written to while it runs.
fn fed(folder: &Path, target: &str, more: &[&str]) -> (Running, File) {
    let pipe = folder.join(format!("pipe-{}", target.replace('/', "-")));
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("mkfifo runs")
            .success()
    );
    let output = format!("otlp:{target}");
    let pipe_name = pipe.to_str().expect("a path");
    let running = Running::start(&[&["replay", pipe_name, "-o", &output], more].concat());
    (
        running,
        File::options().write(true).open(&pipe).expect("the replay reads"),
    )
}

#[test]
fn a_collector_that_dies_and_comes_back_gets_everything() {
    for transport in ["http", "grpc"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = Collector::start(transport, &[]);
        let port = first.port;
        let (mut running, mut events) = fed(folder.path(), &format!("{transport}://127.0.0.1:{port}"), &[]);
        writeln!(events, r#"{{"ecapture_recording":1}}"#).expect("the replay reads");
        let mut writer = Writer::new(true);
        let mut feed = |count: usize| {
            for _ in 0..count {
                let (request, response) = get("/", "", 200);
                writer.exchange(&mut events, &request, &response);
            }
        };
        feed(700);
        let mut before = all_spans(&first.requests_until(512));
        before.extend(all_spans(&first.kill()));
        feed(1300);
        running.wait_for("output failed; trying again");
        let second = Collector::on_port(transport, port, &[], None);
        running.wait_for("output works again");
        feed(500);
        // At the end there is a limit of time, so most of them come before.
        let mut after = all_spans(&second.requests_until(1000));
        drop(events);
        let finished = running.finish();
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        assert_balanced(&finished);
        assert!(
            finished.stderr.contains("nothing was lost"),
            "{}",
            finished.stderr
        );
        after.extend(all_spans(&second.requests()));
        let mut ids: Vec<_> = before
            .iter()
            .chain(&after)
            .map(|span| span.get("span_id").to_owned())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        // Those whose answer was not seen are sent twice.
        assert_eq!(
            ids.len(),
            2500,
            "{transport}: {} and {}",
            before.len(),
            after.len()
        );
    }
}

#[test]
fn a_collector_that_says_nothing_does_not_hold_the_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = recording(folder.path());
    let collector = Collector::start("http", &["hang", "hang", "hang", "hang"]);
    let started = SystemTime::now();
    let finished = replay_to(&format!("http://127.0.0.1:{}", collector.port), &file, &[]);
    let took = started.elapsed().expect("a clock");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_balanced(&finished);
    assert_eq!(lost_events(&finished, "sink_error"), EXCHANGES as u64);
}

#[test]
fn without_a_collector_the_run_does_not_start() {
    let events = own_fixtures()[0].join("events.jsonl");
    let events = events.to_str().expect("a path");
    for scheme in ["http", "https", "grpc", "grpcs"] {
        let finished = replay_to(&format!("{scheme}://127.0.0.1:{}", free_port()), events, &[]);
        assert_eq!(finished.code(), Some(1));
        assert!(
            finished.stderr.contains("start the collector first"),
            "{}",
            finished.stderr
        );
    }
}

#[test]
fn headers_of_the_environment_are_sent_over_tls_and_shown_nowhere() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let case = own_fixtures()
        .into_iter()
        .find(|case| case.ends_with("curl-python"))
        .expect("a fixture");
    for (transport, scheme) in [("http", "https"), ("grpc", "grpcs")] {
        let collector = Collector::on_port(transport, 0, &[], Some(&certificate));
        let target = format!("otlp:{scheme}://127.0.0.1:{}", collector.port);
        let mut command = ecapture();
        command
            .env("SSL_CERT_FILE", &certificate.certificate)
            .env(
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20canary,x-tenant=a",
            )
            .arg("replay")
            .arg(case.join("events.jsonl"))
            .args(["-d", "-o", &target]);
        let finished = Running::spawn(command).finish();
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        let requests = collector.requests();
        assert!(!all_spans(&requests).is_empty());
        for request in &requests {
            assert_eq!(request["headers"]["authorization"], "Bearer canary");
            assert_eq!(request["headers"]["x-tenant"], "a");
        }
        assert!(!finished.stderr.contains("canary"), "{}", finished.stderr);
    }
}

#[test]
fn a_collector_of_others_takes_live_spans_over_both_transports() {
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp/otlp/rotel/rotel-agent");
    let agent = agent.to_str().expect("a path");
    let Some(_alone) = can_capture(&["nginx", "curl", agent]) else {
        return;
    };
    let site = site();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::nginx(site.path());
    let rotel = Rotel::start(agent, folder.path());
    let targets = [
        format!("otlp:http://127.0.0.1:{}", rotel.http),
        format!("otlp:grpc://127.0.0.1:{},gzip", rotel.grpc),
    ];
    let filter = format!("tcp.port == {}", server.port);
    let mut running = Running::start(&["tls", "-o", &targets[0], "-o", &targets[1], "--filter", &filter]);
    running.wait_until_capturing();
    let parent = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01");
    curl(&["-H", &parent, &server.url("/hello.json")]);
    curl(&["-H", &parent, "--http1.1", &server.url("/missing")]);
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_balanced(&finished);
    let spans = rotel.printed(8);
    // Client and server, twice, over each transport; all in the trace of the request.
    for text in [
        "SPAN_KIND_CLIENT",
        "SPAN_KIND_SERVER",
        "http.response.status_code: Int(404)",
    ] {
        assert_eq!(spans.matches(text).count(), 4, "{text}: {spans}");
    }
    assert_eq!(spans.matches(TRACE).count(), 8, "{spans}");
    assert_eq!(spans.matches("service.name: Str(nginx)").count(), 4, "{spans}");
    assert_eq!(spans.matches("service.name: Str(curl)").count(), 4, "{spans}");
}

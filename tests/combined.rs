//! One live run with several outputs: the same requests and responses as JSON, as text, as packets of the plaintext, as
//! real packets that tshark decrypts, and as a replay of these.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::can_capture;
use crate::support::capture::{curl, site};
use crate::support::program::{Finished, Running, run};
use crate::support::servers::Server;
use crate::support::tshark::{capinfos, tshark};

/// The requests, and the status of each response, in the order of their times.
#[derive(Debug, Default, PartialEq, Eq)]
struct Exchanges {
    requests: Vec<String>,
    responses: Vec<String>,
}

impl Exchanges {
    fn of_messages(messages: &[Value]) -> Self {
        let mut found = Self::default();
        for message in messages {
            if message["path"].is_string() {
                let word = |name: &str| message[name].as_str().expect("a word").to_owned();
                found.requests.push(word("method") + " " + &word("path"));
            } else {
                found.responses.push(message["status"].to_string());
            }
        }
        found
    }

    fn of_text(text: &str) -> Self {
        let mut found = Self::default();
        let field = |line: &str, name: &str| {
            let value = line.strip_prefix(&format!("header field \"{name}\" = \""))?;
            Some(value.trim_end_matches('"').to_owned())
        };
        for line in text.lines() {
            let mut words = line.split(' ');
            match (words.next(), words.next()) {
                (Some("GET"), Some(path)) => found.requests.push(format!("GET {path}")),
                (Some("HTTP/1.1"), Some(status)) => found.responses.push(status.to_owned()),
                _ => {}
            }
            found
                .requests
                .extend(field(line, ":path").map(|path| format!("GET {path}")));
            found.responses.extend(field(line, ":status"));
        }
        found
    }

    /// As tshark reads a file of packets, without any setting.
    fn of_packets(file: &str) -> Self {
        let fields = [
            "http.request.method",
            "http.request.uri",
            "http.response.code",
            "http2.headers.method",
            "http2.headers.path",
            "http2.headers.status",
        ];
        let mut found = Self::default();
        for row in tshark(file, &[], "http || http2", &fields).expect("tshark is installed") {
            let values: Vec<Vec<&str>> = row.iter().map(|value| value.split('|').collect()).collect();
            for (method, path) in [(0, 1), (3, 4)] {
                let both = values[method].iter().zip(&values[path]);
                let requests = both.filter(|(method, _)| !method.is_empty());
                found
                    .requests
                    .extend(requests.map(|(method, path)| format!("{method} {path}")));
            }
            let statuses = [2, 5].into_iter().flat_map(|status| &values[status]);
            found.responses.extend(
                statuses
                    .filter(|status| !status.is_empty())
                    .map(|&status| status.to_owned()),
            );
        }
        found
    }
}

/// The messages of HTTP in lines of JSON, requests before responses.
fn messages(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let mut found: Vec<Value> = lines
        .filter(|line: &Value| line["kind"].as_str().is_some_and(|kind| kind.starts_with("http")))
        .collect();
    found.sort_by_key(|message| !message["status"].is_null());
    found
}

/// What both ends of a connection say alike of a message.
fn content(message: &Value) -> Vec<&Value> {
    let fields = [
        "kind",
        "start_line",
        "method",
        "path",
        "authority",
        "status",
        "headers",
        "trailers",
        "body",
    ];
    fields.iter().map(|field| &message[field]).collect()
}

/// Two requests by HTTP/1.1 and two by HTTP/2, captured into these files.
fn capture(server: &Server, [json, text, plain, real]: [&str; 4]) -> Finished {
    let (worker, filter) = (
        server.worker_pid().to_string(),
        format!("tcp port {}", server.port),
    );
    let outputs = [
        format!("jsonl:{json}"),
        format!("text:{text}"),
        format!("pcapng:{plain}"),
    ];
    let mut arguments = vec![
        "tls",
        "-p",
        &worker,
        "--fail-on-loss",
        "-m",
        "pcap",
        "-i",
        "lo",
        "-w",
        real,
    ];
    arguments.extend(outputs.iter().flat_map(|output| ["-o", output]));
    arguments.push(&filter);
    let mut running = Running::start(&arguments);
    running.wait_until_capturing();
    let [hello, page, none] = ["/hello.json", "/page.txt", "/none"].map(|path| server.url(path));
    curl(&["--http1.1", &hello, &none, "-o", "/dev/null"]);
    curl(&["--http2", &page, &hello, "-o", "/dev/null"]);
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    finished
}

#[test]
fn every_output_of_a_run_has_the_same_requests() {
    let Some(_alone) = can_capture(&["nginx", "openssl", "curl", "tshark", "capinfos"]) else {
        return;
    };
    for version in ["TLSv1.2", "TLSv1.3"] {
        let folder = site();
        let server = Server::nginx_with(folder.path(), &format!("ssl_protocols {version};"));
        let file = |name: &str| folder.path().join(name).display().to_string();
        let [json, text, plain, real] =
            ["messages.jsonl", "messages.txt", "plain.pcapng", "real.pcapng"].map(file);
        let finished = capture(&server, [&json, &text, &plain, &real]);

        let probes = messages(&read(&json));
        let expected = Exchanges::of_messages(&probes);
        let requests = ["GET /hello.json", "GET /none", "GET /page.txt", "GET /hello.json"];
        assert_eq!(expected.requests, requests, "{version}: {}", finished.stderr);
        assert_eq!(expected.responses, ["200", "404", "200", "200"], "{version}");
        assert_eq!(Exchanges::of_text(&read(&text)), expected, "{version}, text");
        for (name, packets) in [("plaintext", &plain), ("real", &real)] {
            assert!(capinfos(packets).is_some(), "capinfos is installed");
            assert_eq!(
                Exchanges::of_packets(packets),
                expected,
                "{version}, packets, {name}"
            );
        }

        let replayed = run(&["replay", &real, "--format", "jsonl", "--fail-on-loss"]);
        assert_eq!(replayed.code(), Some(0), "{}", replayed.stderr);
        let replayed = messages(&replayed.text());
        let contents = |messages: &[Value]| -> Vec<Vec<Value>> {
            messages
                .iter()
                .map(|message| content(message).into_iter().cloned().collect())
                .collect()
        };
        assert_eq!(contents(&replayed), contents(&probes), "{version}, replay");
    }
}

fn read(file: impl AsRef<Path>) -> String {
    fs::read_to_string(file).expect("an output")
}

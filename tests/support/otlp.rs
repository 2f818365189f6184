//! Collectors of OTLP: one made of the official classes, and what it says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::program::PATIENCE;
use super::servers::{Certificate, free_port};

/// `tests/peers/otlp_receiver.py`, killed when dropped.
pub(crate) struct Collector {
    child: Child,
    said: Receiver<String>,
    pub(crate) port: u16,
}

impl Collector {
    pub(crate) fn start(transport: &str, answers: &[&str]) -> Self {
        Self::on_port(transport, 0, answers, None)
    }

    pub(crate) fn on_port(
        transport: &str,
        port: u16,
        answers: &[&str],
        certificate: Option<&Certificate>,
    ) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/otlp_receiver.py"))
            .args([transport, &port.to_string()])
            .args(answers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(Certificate { key, certificate }) = certificate {
            command.env("KEY", key).env("CERTIFICATE", certificate);
        }
        let mut child = command.spawn().expect("python3 starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut collector = Self { child, said, port: 0 };
        let port = collector.next()["listening"].as_u64();
        collector.port = port.and_then(|port| port.try_into().ok()).expect("a port");
        collector
    }

    /// The next request, or how it listens.
    pub(crate) fn next(&self) -> Value {
        let line = self
            .said
            .recv_timeout(PATIENCE)
            .expect("a line; are opentelemetry-proto and grpcio installed? `tests/run` installs them");
        serde_json::from_str(&line).expect("a JSON line")
    }

    /// The requests with spans until there were so many spans; requests with metrics are passed over.
    pub(crate) fn requests_until(&self, spans: usize) -> Vec<Value> {
        let (mut requests, mut count) = (Vec::new(), 0);
        while count < spans {
            let request = self.next();
            if request["signal"] == "traces" {
                count += spans_of(&request).len();
                requests.push(request);
            }
        }
        requests
    }

    /// Kills it. Returns all other requests that it got.
    pub(crate) fn kill(mut self) -> Vec<Value> {
        self.child.kill().expect("it runs");
        let _status = self.child.wait().expect("it has ended");
        let lines = self.said.iter();
        lines
            .map(|line| serde_json::from_str(&line).expect("a JSON line"))
            .collect()
    }

    /// All requests that it got: the run that sent them has ended.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let mut input = self.child.stdin.as_ref().expect("a pipe");
        writeln!(input).expect("it reads");
        std::iter::from_fn(|| Some(self.next()))
            .take_while(|said| said["all"] != true)
            .collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// The spans of a request, each with the attributes of its resource beside its own.
pub(crate) fn spans_of(request: &Value) -> Vec<Span> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for resource_spans in list(&request["body"]["resource_spans"]) {
        for scope_spans in list(&resource_spans["scope_spans"]) {
            spans.extend(list(&scope_spans["spans"]).into_iter().map(|span| Span {
                resource: resource_spans["resource"].clone(),
                span,
            }));
        }
    }
    spans
}

/// The spans of all requests with `answer`.
pub(crate) fn all_spans(requests: &[Value]) -> Vec<Span> {
    requests.iter().flat_map(spans_of).collect()
}

/// The points of a metric in the last request with it: the value of `label` of each, and the number.
pub(crate) fn points(requests: &[Value], metric: &str, label: &str) -> Vec<(String, u64)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let latest = requests.iter().rfind(|request| request["signal"] == "metrics");
    let metrics = &latest.expect("metrics")["body"]["resource_metrics"][0]["scope_metrics"][0]["metrics"];
    let metrics = list(metrics);
    let found = metrics.iter().find(|found| found["name"] == metric);
    let points = found
        .map(|found| list(&found["sum"]["data_points"]))
        .unwrap_or_default();
    points
        .iter()
        .map(|point| {
            let number = point["as_int"]
                .as_str()
                .expect("a number")
                .parse()
                .expect("a number");
            (attribute(&point["attributes"], label).to_owned(), number)
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    resource: Value,
    span: Value,
}

impl Span {
    /// A field, or an attribute of it or of its process, as text; empty if there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        if let Some(field) = self.span[name].as_str() {
            return field;
        }
        let own = attribute(&self.span["attributes"], name);
        if own.is_empty() {
            attribute(&self.resource["attributes"], name)
        } else {
            own
        }
    }

    pub(crate) fn field(&self, name: &str) -> &Value {
        &self.span[name]
    }
}

fn attribute<'a>(attributes: &'a Value, key: &str) -> &'a str {
    let attributes = attributes.as_array().map_or(&[][..], Vec::as_slice);
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    let Some(value) = found.map(|found| &found["value"]) else {
        return "";
    };
    let first = &value["array_value"]["values"][0];
    let texts = [
        &value["string_value"],
        &value["int_value"],
        &first["string_value"],
    ];
    texts.into_iter().find_map(Value::as_str).unwrap_or("")
}

/// A collector that others wrote, which prints what it gets; ended when dropped.
pub(crate) struct Rotel {
    child: Child,
    log: PathBuf,
    pub(crate) http: u16,
    pub(crate) grpc: u16,
}

impl Rotel {
    pub(crate) fn start(program: &str, folder: &Path) -> Self {
        let (http, grpc) = (free_port(), free_port());
        let log = folder.join("spans");
        let mut command = Command::new(program);
        command
            .args(["start", "--exporter", "blackhole"])
            .args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .arg("--pid-file")
            .arg(folder.join("pid"))
            .arg("--log-file")
            .arg(folder.join("log"))
            .stdout(Stdio::from(File::create(&log).expect("a file")))
            .stderr(Stdio::null());
        let rotel = Self {
            child: command.spawn().expect("the collector starts"),
            log,
            http,
            grpc,
        };
        for port in [http, grpc] {
            wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        }
        rotel
    }

    /// What it prints until there are so many spans.
    pub(crate) fn printed(&self, spans: usize) -> String {
        let printed = || each_once(&std::fs::read_to_string(&self.log).unwrap_or_default());
        wait_until(|| printed().len() >= spans);
        printed().into_values().collect()
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// The spans, each with its resource, by their ids: one whose answer was late is sent twice.
fn each_once(printed: &str) -> BTreeMap<String, String> {
    let spans = printed.split("ResourceSpans #").skip(1).filter_map(|span| {
        let id = span.lines().find(|line| line.trim_start().starts_with("ID "))?;
        Some((id.to_owned(), span.to_owned()))
    });
    spans.collect()
}

fn wait_until(is_so: impl Fn() -> bool) {
    let started = SystemTime::now();
    while !is_so() {
        assert!(started.elapsed().expect("a clock") < PATIENCE, "it never happens");
        std::thread::yield_now();
    }
}

/// Writes the events of one connection.
pub(crate) struct Writer {
    is_client: bool,
    now: u64,
    offsets: [usize; 2],
}

impl Writer {
    pub(crate) fn new(is_client: bool) -> Self {
        Self {
            is_client,
            now: 1_000_000,
            offsets: [0; 2],
        }
    }

    pub(crate) fn exchange(&mut self, out: &mut File, request: &str, response: &str) {
        for (index, bytes) in [request, response].into_iter().enumerate() {
            if bytes.is_empty() {
                continue;
            }
            self.now += 500_000;
            let direction = if (index == 0) == self.is_client {
                "write"
            } else {
                "read"
            };
            let local = if self.is_client { "src" } else { "dst" };
            let (now, offset) = (self.now, self.offsets[index]);
            let payload = BASE64_STANDARD.encode(bytes);
            self.offsets[index] += bytes.len();
            writeln!(
                out,
                r#"{{"ts":{now},"dir":"{direction}","pid":7,"tid":7,"uid":0,"comm":"peer","fd":5,"session":"1","sock":"1","src":"127.0.0.1:40000","dst":"127.0.0.1:8443","local":"{local}","addr":"exact","tls":772,"offset":{offset},"base64":"{payload}"}}"#
            )
            .expect("a write");
        }
    }
}

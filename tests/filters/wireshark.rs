//! The same expression here and in Wireshark, over the same run.
//!
//! tshark reads the packets of the plaintext (`-o pcapng`), and decides about packets; `--filter` decides about
//! messages. A message is the packet that has its last byte, as HTTP/1 and WebSocket messages are dissected there,
//! or of HTTP/2 the packet with its first one, in which its header block is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::expressions::{
    DIFFERENT, GRPC, HTTP1, HTTP2, LIVE_HTTP1, LIVE_HTTP2, REFUSED, Row, Same, WEBSOCKET,
};
use super::scenario;
use crate::support::capture::{Scene, curl};
use crate::support::exchanges::assert_nothing_lost;
use crate::support::on_path;
use crate::support::program::run;
use crate::support::tshark::tshark;

/// Where in the run a message is: the time of its packet, nanoseconds.
type Place = u64;
/// Number of the connection, and of the exchange or stream in it.
type Exchange = (u64, u64);

/// A recording, its packets, and everything that is in them.
struct Both {
    events: String,
    packets: String,
    /// What is added to times of messages.
    offset_ns: i64,
    messages: BTreeMap<Place, BTreeSet<Exchange>>,
}

impl Both {
    fn of(events: &str, folder: &Path) -> Self {
        let packets = folder.join("plaintext.pcapng").display().to_string();
        let output = format!("pcapng:{packets}");
        let finished = run(&["replay", events, "-o", &output]);
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        Self::with_packets(events, packets)
    }

    fn with_packets(events: &str, packets: String) -> Self {
        let text = fs::read_to_string(events).expect("a recording");
        let header: Value = serde_json::from_str(text.lines().next().expect("a header")).expect("JSON");
        let mut both = Self {
            events: events.to_owned(),
            packets,
            offset_ns: header["wall_clock_offset_ns"].as_i64().unwrap_or(0),
            messages: BTreeMap::new(),
        };
        for message in both.ours(None) {
            let place = both.place(&message);
            both.messages.entry(place).or_default().insert(exchange(&message));
        }
        assert!(both.messages.len() > 1, "{}", both.events);
        both
    }

    /// The messages that `filter` selects.
    fn ours(&self, filter: Option<&str>) -> Vec<Value> {
        let mut arguments = vec!["replay", &self.events, "--format", "jsonl", "--whole"];
        arguments.extend(filter.iter().flat_map(|filter| ["--filter", filter]));
        let finished = run(&arguments);
        assert_eq!(finished.code(), Some(0), "{filter:?}: {}", finished.stderr);
        let mut messages = finished.json();
        messages.retain(|message| message["end_ns"].is_u64() && message["kind"] != "gap");
        messages
    }

    fn place(&self, message: &Value) -> Place {
        let is_http2 = message["kind"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("http2."));
        let time = &message[if is_http2 { "ts_ns" } else { "end_ns" }];
        let time = time.as_u64().expect("a time");
        time.saturating_add_signed(self.offset_ns)
    }

    /// The packets with a message that tshark selects.
    fn theirs(&self, filter: &str) -> BTreeSet<Place> {
        let filter = format!("({filter}) and tcp.len > 0");
        let rows = tshark(&self.packets, &[], &filter, &["frame.time_epoch"]).expect("tshark");
        let places = rows.iter().map(|row| {
            let (seconds, nanoseconds) = row[0].split_once('.').expect("a time");
            let number = |text: &str| text.parse::<u64>().expect("a number");
            number(seconds) * 1_000_000_000 + number(nanoseconds)
        });
        places.filter(|place| self.messages.contains_key(place)).collect()
    }

    fn exchanges(&self, places: &BTreeSet<Place>) -> BTreeSet<Exchange> {
        places
            .iter()
            .flat_map(|place| &self.messages[place])
            .copied()
            .collect()
    }

    /// Says what is wrong with a row, if anything is.
    fn problem(&self, row: &Row) -> Option<String> {
        let selected = self.ours(Some(row.ours));
        let ours: BTreeSet<Place> = selected.iter().map(|message| self.place(message)).collect();
        let theirs = self.theirs(row.wireshark);
        let (our_exchanges, their_exchanges) = (self.exchanges(&ours), self.exchanges(&theirs));
        let is_right = match row.same {
            Same::Messages => ours == theirs,
            Same::Exchanges => our_exchanges == their_exchanges,
            Same::Different(_) => ours != theirs,
        };
        // What selects nothing or everything proves little.
        let is_telling = row.is_everything || !theirs.is_empty() && theirs.len() < self.messages.len();
        (!is_right || !is_telling).then(|| {
            format!(
                "{}: {ours:?} {our_exchanges:?}; tshark: {theirs:?} {their_exchanges:?}",
                row.ours
            )
        })
    }

    fn compare(&self, rows: &[Row]) {
        let problems: Vec<_> = rows.iter().filter_map(|row| self.problem(row)).collect();
        assert!(problems.is_empty(), "{}: {problems:#?}", self.events);
    }
}

fn exchange(message: &Value) -> Exchange {
    let number = |name: &str| message[name].as_u64();
    let within = number("stream").or_else(|| number("exchange"));
    (number("connection").expect("a connection"), within.unwrap_or(0))
}

fn fixture(name: &str, folder: &Path) -> Both {
    let events = format!(
        "{}/tests/fixtures/{name}/events.jsonl",
        env!("CARGO_MANIFEST_DIR")
    );
    Both::of(&events, folder)
}

fn have_tshark() -> bool {
    let have = on_path("tshark");
    if !have {
        assert!(
            std::env::var_os("ECAPTURE_REQUIRE_PRIVILEGED").is_none(),
            "tshark is not installed"
        );
        println!("SKIPPED: tshark is not installed; `tests/run` installs it");
    }
    have
}

#[test]
fn expressions_over_http1_select_what_tshark_selects() {
    if !have_tshark() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let both = Both::of(&scenario::recording(folder.path()), folder.path());
    both.compare(HTTP1);
}

#[test]
fn what_differs_from_tshark_is_what_is_documented() {
    if !have_tshark() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let both = Both::of(&scenario::recording(folder.path()), folder.path());
    both.compare(DIFFERENT);
    for row in DIFFERENT {
        assert!(
            matches!(row.same, Same::Different(reason) if !reason.is_empty()),
            "{}",
            row.ours
        );
    }
}

#[test]
fn expressions_over_http2_websocket_and_grpc_select_what_tshark_selects() {
    if !have_tshark() {
        return;
    }
    for (name, rows) in [
        ("curl-nginx-http2", HTTP2),
        ("websocket-plain", WEBSOCKET),
        ("grpc-node", GRPC),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        fixture(name, folder.path()).compare(rows);
    }
}

#[test]
fn what_wireshark_refuses_is_refused() {
    if !have_tshark() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let both = Both::of(&scenario::recording(folder.path()), folder.path());
    for expression in REFUSED {
        let ours = run(&["replay", &both.events, "--filter", expression]);
        assert_eq!(ours.code(), Some(2), "{expression}: {}", ours.stderr);
        let theirs = Command::new("tshark")
            .args(["-r", &both.packets, "-Y", expression])
            .output();
        assert!(!theirs.expect("tshark").status.success(), "{expression}");
    }
}

/// Each expression filters an output of the run itself, beside the packets and a recording of it.
#[test]
fn a_live_run_is_filtered_as_tshark_filters_its_packets() {
    for (version, rows) in [("--http1.1", LIVE_HTTP1), ("--http2", LIVE_HTTP2)] {
        let Some(scene) = Scene::nginx(&["tshark"]) else {
            return;
        };
        let path = |name: &str| scene.folder.path().join(name).display().to_string();
        let (events, packets) = (path("run.jsonl"), path("run.pcapng"));
        let mut outputs = vec![format!("recording:{events}"), format!("pcapng:{packets}")];
        let files: Vec<_> = (0..rows.len())
            .map(|number| path(&format!("{number}.jsonl")))
            .collect();
        let filtered = rows.iter().zip(&files);
        outputs.extend(filtered.map(|(row, file)| format!("jsonl:{file},filter={}", row.ours)));
        let worker = scene.server.worker_pid().to_string();
        let mut arguments = vec!["tls", "-p", &worker, "--whole"];
        arguments.extend(outputs.iter().flat_map(|output| ["-o", output]));
        let finished = scene.capture(&arguments, || {
            let url = |path: &str| scene.server.url(path);
            curl(&[version, "-A", "tester/1", &url("/hello.json"), &url("/page.txt")]);
            curl(&[version, "-A", "tester/2", "-d", "name=value", &url("/hello.json")]);
            curl(&[version, &url("/none"), &url("/hello.json?x=1")]);
            curl(&[version, "-I", &url("/page.txt")]);
        });
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        assert_nothing_lost(&finished);
        let both = Both::with_packets(&events, packets);
        both.compare(rows);
        for (row, file) in rows.iter().zip(&files) {
            let text = fs::read_to_string(file).expect("an output");
            let live = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
            let live: BTreeSet<Place> = live
                .filter(|message: &Value| message["end_ns"].is_u64())
                .map(|message| both.place(&message))
                .collect();
            let replayed = both.ours(Some(row.ours));
            let replayed = replayed.iter().map(|message| both.place(message)).collect();
            assert_eq!(live, replayed, "{}", row.ours);
        }
    }
}

//! Silences in recorded streams: what comes after one is decoded as if there had been none.
//!
//! A plain stream's Worker ends after the idle time and a connection's after the hibernation time,
//! and another one continues with the decoder. The reference is the same recording, silence
//! included, through a pipeline in which nothing ends by silence.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ecapture_actors::{Clock, Output, PipelineConfig, Placement, SinkWriter, Statistics, Timings};
use ecapture_cli::recording::Recording;
use ecapture_protocols::format::{JsonLines, Text};
use ecapture_protocols::{CapturedEvent, Format, Message, Options, Origin, Records, View, stream_decoder};

use crate::replay::own_fixtures;

const SECOND: u64 = 1_000_000_000;

fn events(case: &Path) -> Vec<CapturedEvent> {
    let recording = Recording::open(&case.join("events.jsonl")).expect("a recording");
    recording.flat_map(|batch| batch.expect("events")).collect()
}

/// The same bytes as a recording of the original has them: without sessions, sockets, positions and
/// closes. Each connection has a descriptor of its own, as the end of a plain stream is not
/// reported.
fn as_plain(events: &[CapturedEvent]) -> Vec<CapturedEvent> {
    let mut descriptors = BTreeMap::new();
    let mut last = 0;
    let plain = events.iter().filter_map(|event| {
        let CapturedEvent::Data(data) = event else {
            // What comes next of any session is another connection.
            descriptors.clear();
            return None;
        };
        let mut data = data.clone();
        let session = (data.session.take(), data.process.pid);
        let descriptor = descriptors.entry(session).or_insert_with(|| {
            last += 1;
            last
        });
        data.fd = Some(*descriptor);
        data.socket = None;
        data.stream_offset = None;
        Some(CapturedEvent::Data(data))
    });
    plain.collect()
}

/// A silence of `pause_ns` before each of the events at `places`.
fn with_pauses(
    events: &[CapturedEvent],
    pause_ns: u64,
    is_place: impl Fn(usize) -> bool,
) -> Vec<CapturedEvent> {
    let mut passed = 0;
    let mut events = events.to_vec();
    for (place, event) in events.iter_mut().enumerate() {
        passed += if is_place(place) { pause_ns } else { 0 };
        match event {
            CapturedEvent::Data(data) => data.timestamp_ns += passed,
            CapturedEvent::Close { timestamp_ns, .. } => *timestamp_ns += passed,
            CapturedEvent::Observed(observed) => observed.timestamp_ns += passed,
        }
    }
    events
}

/// The records of each stream. The order of records of different streams is not compared: who waits for
/// whom within a round depends on when Workers start.
type Pages = BTreeMap<String, Vec<u8>>;

/// Writes each stream's records to a page of its own.
struct ByStream {
    format: Box<dyn Format>,
    pages: Arc<Mutex<Pages>>,
}

impl Format for ByStream {
    fn view(&self) -> View {
        self.format.view()
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        let before = out.as_bytes().len();
        self.format.write(origin, messages, out);
        let mut pages = self.pages.lock().expect("no format failed");
        let page = pages.entry(origin.name().to_owned()).or_default();
        page.extend_from_slice(&out.as_bytes()[before..]);
    }
}

struct Null;

impl SinkWriter for Null {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Shown {
    pages: Pages,
    statistics: Statistics,
}

fn replay(events: Vec<CapturedEvent>, view: View, timings: &Timings) -> Shown {
    let options = Arc::new(Options {
        view,
        ..Options::default()
    });
    let decoders = Arc::new(move |_: &Origin, _| stream_decoder(Arc::clone(&options)));
    let pages = Arc::default();
    let format = ByStream {
        format: match view {
            View::Text | View::TextMessages => Box::new(Text::default()),
            View::Structured { .. } | View::Joined | View::Bodies => Box::new(JsonLines::default()),
        },
        pages: Arc::clone(&pages),
    };
    let mut config = PipelineConfig::new(decoders);
    let output = Output::records("null", Arc::new(format), Null);
    config.clock = Clock::Stream;
    config.placement = Placement::Inline;
    config.timings = *timings;
    // One event per batch: each is a round of its own, so that every silence is seen.
    let batches: Vec<Vec<CapturedEvent>> = events.into_iter().map(|event| vec![event]).collect();
    let summary = ecapture_actors::block_on(async move {
        ecapture_actors::spawn(config, futures_util::stream::iter(batches), vec![output])
            .finished()
            .await
    });
    assert!(summary.balanced(), "{:?}", summary.statistics);
    let pages = pages.lock().expect("no format failed").clone();
    let pages = pages
        .into_iter()
        .map(|(uuid, page)| (uuid, without_later_ends(page)))
        .collect();
    Shown {
        pages,
        statistics: summary.statistics,
    }
}

/// Without the ends of requests that came after their responses: whether a response still waits then depends on
/// when Workers start.
fn without_later_ends(page: Vec<u8>) -> Vec<u8> {
    let Ok(text) = String::from_utf8(page.clone()) else {
        return page;
    };
    let mut lines = Vec::new();
    for line in text.lines() {
        let Ok(mut line) = serde_json::from_str::<serde_json::Value>(line) else {
            return page;
        };
        let is_later = line["request"]["end_ns"].as_u64() > line["end_ns"].as_u64();
        if let Some(request) = line["request"].as_object_mut().filter(|_| is_later) {
            request.retain(|name, _| !matches!(&**name, "end_ns" | "wire_len" | "complete"));
        }
        lines.push(line.to_string() + "\n");
    }
    lines.concat().into_bytes()
}

const DAY: Duration = Duration::from_hours(24);

/// Replays `events` with a silence before each event in turn, and before all.
fn check(
    case: &Path,
    events: &[CapturedEvent],
    pause_ns: u64,
    view: View,
    awake: &Timings,
    asleep: &Timings,
) {
    let mut restarted = 0;
    for place in 1..=events.len() {
        let everywhere = place == events.len();
        let paused = with_pauses(events, pause_ns, |index| {
            index == place || everywhere && index > 0
        });
        let expected = replay(paused.clone(), view, awake);
        let shown = replay(paused, view, asleep);
        assert!(
            shown.pages == expected.pages,
            "{} with a silence before event {place}: {:#?}",
            case.display(),
            difference(&shown.pages, &expected.pages),
        );
        assert_eq!(shown.statistics.losses, expected.statistics.losses);
        restarted += shown.statistics.started_workers - expected.statistics.started_workers;
    }
    assert!(restarted > 0, "{}: no Worker went on for another", case.display());
}

/// The first lines that differ: as shown, and as expected.
fn difference<'a>(shown: &'a Pages, expected: &'a Pages) -> Option<(&'a str, Cow<'a, str>, Cow<'a, str>)> {
    let uuids = shown.keys().chain(expected.keys());
    let mut differences = uuids.filter_map(|uuid| {
        let lines = |pages: &'a Pages| {
            pages
                .get(uuid)
                .map_or(&[][..], Vec::as_slice)
                .split(|&byte| byte == b'\n')
        };
        let end = || std::iter::repeat(&b"(end)"[..]);
        let mut pairs = lines(shown)
            .chain(end())
            .zip(lines(expected).chain(end()))
            .take(100_000);
        let (shown, expected) = pairs.find(|(shown, expected)| shown != expected)?;
        Some((
            uuid.as_str(),
            String::from_utf8_lossy(shown),
            String::from_utf8_lossy(expected),
        ))
    });
    differences.next()
}

fn no_end() -> Timings {
    Timings {
        idle: DAY,
        hibernate: DAY,
        age_limit: DAY,
        ..Timings::default()
    }
}

const MESSAGES: View = View::Structured { frames: true };

#[test]
fn a_plain_stream_goes_on_after_a_silence() {
    for case in own_fixtures() {
        let events = as_plain(&events(&case));
        check(
            &case,
            &events,
            3 * SECOND / 2,
            MESSAGES,
            &no_end(),
            &Timings::default(),
        );
    }
}

#[test]
fn a_connection_goes_on_after_hibernation() {
    for case in own_fixtures() {
        let events = events(&case);
        let awake = Timings {
            hibernate: DAY,
            age_limit: DAY,
            ..Timings::default()
        };
        let asleep = Timings {
            age_limit: DAY,
            ..Timings::default()
        };
        for view in [MESSAGES, View::Text] {
            check(&case, &events, 15 * SECOND, view, &awake, &asleep);
        }
    }
}

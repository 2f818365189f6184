//! Facts about processes: events without a stream.

use std::sync::Arc;

use ecapture_actors::{ByteStream, Clock, Loss, Output, Placement, Tap, spawn};
use ecapture_protocols::message::Content;
use ecapture_protocols::recording::line::Recorder;
use ecapture_protocols::{
    CapturedEvent, Direction, Fact, Format, Message, Observed, Origin, Process, ProcessTls, Records, View,
};

use crate::support::{Live, MILLISECOND, Page, check, config, on_socket, plain, replay_as};

fn fact(pid: u32, at_ms: u64) -> CapturedEvent {
    CapturedEvent::Observed(Box::new(Observed {
        timestamp_ns: at_ms * MILLISECOND,
        process: Process {
            pid,
            tid: pid,
            uid: None,
            comm: "app".into(),
        },
        container_id: None,
        program: None,
        fact: Fact::Process(ProcessTls::default()),
    }))
}

fn data(at_ms: u64, text: &str) -> CapturedEvent {
    CapturedEvent::Data(on_socket(77, Direction::Write, at_ms, text))
}

/// `PID` for a fact, the text for a line of a stream. Fails at the fact about process 13.
#[derive(Clone, Copy)]
struct Pids(View);

impl Format for Pids {
    fn view(&self) -> View {
        self.0
    }

    fn write(&self, origin: &Origin, messages: &[Message], records: &mut Records) {
        for message in messages {
            let line = match &message.content {
                Content::Fact(_) => {
                    assert!(origin.stream.is_none());
                    assert!(origin.process.pid != 13, "told to");
                    origin.process.pid.to_string()
                }
                Content::Raw(raw) => String::from_utf8(raw.data.to_vec()).unwrap(),
                other => panic!("neither a fact nor a line: {other:?}"),
            };
            records.bytes().extend_from_slice(line.as_bytes());
            records.bytes().push(b'\n');
            records.end(1);
        }
    }
}

fn recording(name: &str, page: &Page) -> Output {
    let tap = Tap::Events(Arc::new(Recorder::default()));
    Output::new(name, tap, ByteStream(page.clone()))
}

#[actix::test]
async fn facts_come_in_the_order_of_the_events() {
    let events = vec![
        fact(7, 0),
        data(1, "a\n"),
        fact(8, 2),
        fact(9, 2),
        data(3, "b\n"),
        // Its Worker has ended by then.
        fact(7, 60_000),
        data(60_001, "c\n"),
    ];
    for (worker_arbiters, batch) in [(1, 1), (1, 100), (3, 2)] {
        let mut config = config(Clock::Stream);
        config.placement = Placement::Threads { worker_arbiters };
        let format = Arc::new(Pids(View::Text));
        let (text, summary) = replay_as(config, format, events.clone(), batch).await;
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            ["7", "a", "8", "9", "b", "7", "c"]
        );
        let statistics = summary.statistics;
        assert_eq!((statistics.seen.events, statistics.observed), (7, 4));
        assert_eq!(statistics.seen, statistics.delivered);
        assert_eq!(statistics.written.events, 7);
    }
}

#[actix::test]
async fn a_capture_shows_a_fact_at_once() {
    tokio::time::pause();
    let page = Page::default();
    let (feed, source) = crate::support::Feed::new();
    let output = Output::records("page", Arc::new(Pids(View::Text)), page.clone());
    let handle = spawn(config(Clock::Live), source, vec![output]);
    feed.send(fact(7, 0));
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    assert_eq!(page.text(), "7\n");
    // A Worker that is silent for long ends, and holds nothing.
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    assert_eq!(handle.statistics().live_workers, 0);
    feed.send(fact(8, 12_000));
    drop(feed);
    check(&handle.finished().await);
    assert_eq!(page.text(), "7\n8\n");
}

#[actix::test]
async fn a_fact_that_breaks_a_format_is_counted_and_no_other_is_lost() {
    let events = vec![fact(7, 0), fact(13, 1), fact(8, 1), data(2, "a\n"), fact(9, 3)];
    let format = Arc::new(Pids(View::Text));
    let (text, summary) = replay_as(config(Clock::Stream), format, events, 5).await;
    assert_eq!(text.lines().collect::<Vec<_>>(), ["7", "8", "a", "9"]);
    let lost = &summary.statistics.losses;
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(
        (lost[0].reason, lost[0].events, lost[0].bytes),
        (Loss::WorkerFailed.as_str(), 1, 0)
    );
}

#[actix::test]
async fn every_output_gets_each_fact_once() {
    let outputs = [Page::default(), Page::default(), Page::default()];
    let [text, structured, recorded] = outputs.clone();
    let outputs = vec![
        Output::records("text", Arc::new(Pids(View::Text)), text.clone()),
        Output::records(
            "structured",
            Arc::new(Pids(View::Structured { frames: false })),
            structured.clone(),
        ),
        recording("recording", &recorded),
    ];
    let events = vec![fact(7, 0), data(1, "a\n"), fact(8, 2)];
    let source = futures_util::stream::iter(vec![events.clone()]);
    check(&spawn(config(Clock::Stream), source, outputs).finished().await);
    assert_eq!(text.text(), "7\na\n8\n");
    assert_eq!(structured.text(), text.text());
    let read = recorded.lines().into_iter().skip(1);
    let read = read.map(|line| ecapture_protocols::recording::line::parse(line.as_bytes()).unwrap());
    assert_eq!(read.collect::<Vec<_>>(), events);
}

#[actix::test]
async fn a_recording_alone_accounts_for_facts() {
    let page = Page::default();
    let output = recording("recording", &page);
    let source = futures_util::stream::iter(vec![vec![fact(7, 0), data(1, "a\n")]]);
    let summary = spawn(config(Clock::Stream), source, vec![output])
        .finished()
        .await;
    check(&summary);
    assert_eq!(summary.statistics.delivered.events, 2);
    assert!(!summary.statistics.is_without_data());
}

#[actix::test]
async fn facts_alone_are_no_data() {
    let format = Arc::new(Pids(View::Text));
    let (text, summary) = replay_as(config(Clock::Stream), format, vec![fact(7, 0)], 1).await;
    assert_eq!(text, "7\n");
    assert!(summary.statistics.is_without_data());
}

/// Facts that wait for an output that takes nothing are bounded, too: reading waits.
#[actix::test]
async fn facts_wait_for_their_output_as_bytes_do() {
    let mut config = config(Clock::Live);
    config.limits.in_flight_events = 10;
    let live = Live::start(config);
    for pid in 0..1000 {
        live.feed.send(fact(pid + 100, 0));
    }
    live.feed.data(plain(4, Direction::Write, 1, "a\n"));
    let (lines, summary) = live.end().await;
    assert_eq!(lines.len(), 1001);
    assert_eq!(summary.statistics.observed, 1000);
}

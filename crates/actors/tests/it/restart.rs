//! The consequences of panics. The other connection is always there and unharmed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use ecapture_actors::{Clock, Outcome, PipelineConfig, PipelineError, SinkWriter, Summary, spawn};
use ecapture_protocols::message::Gap;
use ecapture_protocols::{CapturedEvent, Close, DataEvent, Direction, Output, PeerNotice, StreamDecoder};

use crate::support::{
    Feed, Lines, Live, Page, check, close, config, on_socket, one, plain, replay, replay_as, texts,
};

fn data(sock: u64, text: &str) -> CapturedEvent {
    CapturedEvent::Data(on_socket(sock, Direction::Write, 0, text))
}

fn loss(summary: &Summary, reason: &str) -> (u64, u64) {
    let rows = &summary.statistics.losses;
    rows.iter()
        .find(|row| row.reason == reason)
        .map_or((0, 0), |row| (row.events, row.bytes))
}

/// Feeds `events` as one batch, on both clocks; returns what is shown of connection 1.
async fn shown(events: &[CapturedEvent]) -> (Vec<String>, Summary) {
    let (text, summary) = replay(config(Clock::Stream), events.to_vec(), 1000).await;
    tokio::time::pause();
    let (live_text, live_summary) = replay(config(Clock::Live), events.to_vec(), 1000).await;
    tokio::time::resume();
    assert_eq!(texts(&text, ":1-"), texts(&live_text, ":1-"));
    assert_eq!(summary.statistics.losses, live_summary.statistics.losses);
    (texts(&text, ":1-"), summary)
}

#[actix::test]
async fn a_panic_on_the_first_event_costs_that_event() {
    let (texts, summary) = shown(&[data(1, "!panic\n"), data(1, "b\n"), data(1, "c\n")]).await;
    assert_eq!(texts, ["[gap restart 7]", "b", "c"]);
    assert_eq!(loss(&summary, "worker_failed"), (1, 7));
    assert_eq!(summary.statistics.restarts, 1);
}

#[actix::test]
async fn a_panic_on_a_middle_event_costs_that_event_and_what_was_held() {
    let (texts, summary) = shown(&[data(1, "a\nhalf"), data(1, "!panic\n\n!panic\n"), data(1, "c\n")]).await;
    assert_eq!(texts, ["a", "[gap restart 19]", "c"]);
    assert_eq!(loss(&summary, "worker_failed"), (1, 15));
    assert_eq!(loss(&summary, "worker_restart"), (0, 4));
}

#[actix::test]
async fn a_panic_on_the_last_event_is_shown_as_well() {
    let (texts, summary) = shown(&[data(1, "a\n"), data(1, "!panic\n")]).await;
    assert_eq!(texts, ["a", "[gap restart 7]"]);
    assert_eq!(summary.statistics.delivered.events, 1);
}

#[actix::test]
async fn two_panics_in_one_batch_cost_two_events() {
    let events = ["a\n", "!panic\n", "b\n", "!panic\n", "c\n"].map(|text| data(1, text));
    let (texts, summary) = shown(&events).await;
    assert_eq!(texts, ["a", "[gap restart 7]", "b", "[gap restart 7]", "c"]);
    assert_eq!(loss(&summary, "worker_failed"), (2, 14));
    assert_eq!(summary.statistics.started_workers, 3);
}

#[actix::test]
async fn the_third_failure_is_quarantine() {
    let events = ["!panic\n", "!panic\n", "!panic\n", "!panic\n", "raw"].map(|text| data(1, text));
    let (texts, summary) = shown(&events).await;
    let gap = "[gap restart 7]";
    assert_eq!(texts, [gap, gap, gap, "!panic", "", "raw"]);
    assert_eq!(summary.statistics.quarantined, 1);
    assert_eq!(loss(&summary, "worker_failed"), (3, 21));
}

#[actix::test]
async fn failures_far_apart_are_no_reason_for_quarantine() {
    let live = Live::start(config(Clock::Live));
    for _ in 0..5 {
        live.feed.send(data(1, "!panic\n"));
        live.pass(11_000).await;
    }
    live.feed.send(data(1, "fine\n"));
    let (lines, summary) = live.end().await;
    assert!(lines.last().unwrap().ends_with("|fine"));
    assert_eq!(summary.statistics.restarts, 5);
    assert_eq!(summary.statistics.quarantined, 0);
}

#[actix::test]
async fn the_second_restart_is_delayed_and_nothing_is_lost_meanwhile() {
    let live = Live::start(config(Clock::Live));
    live.feed.send(data(1, "!panic\n"));
    live.pass(1).await;
    live.feed.send(data(1, "!panic\n"));
    live.pass(10).await;
    live.feed.send(data(1, "meanwhile\n"));
    live.pass(10).await;
    assert_eq!(live.page.lines().len(), 1, "{}", live.page.text());
    live.pass(50).await;
    assert_eq!(live.page.lines().len(), 3);
    let (lines, _) = live.end().await;
    assert_eq!(
        texts(&lines.join("\n"), ":1-"),
        ["[gap restart 7]", "[gap restart 7]", "meanwhile"]
    );
}

#[actix::test]
async fn a_stop_during_a_delayed_restart_still_shows_everything() {
    let live = Live::start(config(Clock::Live));
    live.feed
        .batch(vec![data(1, "!panic\n"), data(1, "!panic\n"), data(1, "after\n")]);
    live.pass(1).await;
    live.feed.send(data(1, "waiting"));
    live.handle.stop();
    let (lines, _) = live.end().await;
    let gap = "[gap restart 7]";
    assert_eq!(
        texts(&lines.join("\n"), ":1-"),
        [gap, gap, "after", "waiting (end)"]
    );
}

#[actix::test]
async fn a_close_for_a_worker_in_restart_ends_its_successor() {
    let live = Live::start(config(Clock::Live));
    live.feed
        .batch(vec![data(1, "!panic\n"), data(1, "!panic\n"), data(1, "left")]);
    live.pass(1).await;
    live.feed.send(close(Close::Socket { sock: 1 }, 0));
    live.pass(100).await;
    assert_eq!(live.handle.statistics().live_workers, 0);
    let (lines, _) = live.end().await;
    assert_eq!(lines.last().unwrap().split_once('|').unwrap().1, "left (end)");
}

#[actix::test]
async fn a_panic_while_retiring_is_shown_and_leaves_nobody() {
    let events = [
        data(1, "!close-panic\nheld"),
        close(Close::Socket { sock: 1 }, 0),
        data(1, "next\n"),
    ];
    let (texts, summary) = shown(&events).await;
    assert_eq!(texts, ["!close-panic", "[gap restart 4]", "next"]);
    assert_eq!(loss(&summary, "worker_restart"), (0, 4));
}

#[actix::test]
async fn a_panic_while_an_idle_request_is_in_flight() {
    let live = Live::start(config(Clock::Live));
    live.feed
        .data(plain(4, Direction::Write, 0, "!close-panic\nheld"));
    live.pass(1_300).await;
    assert_eq!(live.handle.statistics().live_workers, 0);
    live.feed.data(plain(4, Direction::Write, 0, "later\n"));
    let (lines, summary) = live.end().await;
    assert_eq!(
        texts(&lines.join("\n"), "1_1"),
        ["!close-panic", "[gap restart 4]", "later"]
    );
    assert_eq!(summary.statistics.restarts, 1);
}

/// Panics when it is dropped, which is after the Worker has stopped.
struct PanicsWhenDropped(Lines);

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped");
    }
}

impl StreamDecoder for PanicsWhenDropped {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        self.0.feed(payload, timestamp_ns, output);
    }
    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        self.0.gap(gap, timestamp_ns, output);
    }
    fn notice(&mut self, notice: &PeerNotice, output: &mut Output) {
        self.0.notice(notice, output);
    }
    fn idle(&mut self, output: &mut Output) {
        self.0.idle(output);
    }
    fn close(&mut self, output: &mut Output) {
        self.0.close(output);
    }
    fn buffered_bytes(&self) -> usize {
        self.0.buffered_bytes()
    }
}

#[actix::test]
async fn a_panic_after_the_end_loses_nothing() {
    let mut config = config(Clock::Stream);
    config.decoders = Arc::new(|_, _| Box::new(PanicsWhenDropped(Lines::default())));
    let (text, summary) = replay(config, vec![data(1, "a\nheld"), data(2, "b\n")], 10).await;
    assert_eq!(texts(&text, ":1-"), ["a", "held (end)"]);
    assert_eq!(summary.statistics.delivered, summary.statistics.seen);
}

#[actix::test]
async fn a_formatter_that_panics_leaves_no_half_record() {
    struct Breaks;
    impl ecapture_protocols::Format for Breaks {
        fn view(&self) -> ecapture_protocols::View {
            ecapture_protocols::View::Text
        }

        fn write(
            &self,
            origin: &ecapture_protocols::Origin,
            messages: &[ecapture_protocols::Message],
            out: &mut ecapture_protocols::Records,
        ) {
            crate::support::UuidLines.write(origin, messages, out);
            assert!(!out.as_bytes().ends_with(b"bad\n"), "told to");
        }
    }
    let config = config(Clock::Stream);
    // The others share the Arbiter's outbox, before and after.
    let events = [
        data(2, "x\n"),
        data(1, "a\n"),
        data(1, "bad\n"),
        data(1, "b\n"),
        data(3, "y\n"),
    ];
    let (text, summary) = replay_as(config, Arc::new(Breaks), events.to_vec(), 10).await;
    assert_eq!(texts(&text, ":1-"), ["a", "[gap restart 4]", "b"]);
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.ends_with("_10.0.0.1:3-10.0.0.2:443|y\n"), "{text}");
    assert_eq!(loss(&summary, "worker_failed"), (1, 4));
}

#[actix::test]
async fn too_many_failures_end_the_run() {
    let mut config = config(Clock::Stream);
    config.limits.failures_per_run = 10;
    let events: Vec<CapturedEvent> = (1..=30).map(|sock| data(sock, "!panic\n")).collect();
    let page = Page::default();
    let handle = spawn(config, futures_util::stream::iter([events]), one(page.clone()));
    let summary = handle.finished().await;
    check(&summary);
    let Outcome::Failed(PipelineError::RestartLimit { failures: 10, .. }) = summary.outcome else {
        panic!("{:?}", summary.outcome);
    };
    assert_eq!(page.lines().len(), 30);
}

#[actix::test]
async fn other_connections_are_byte_identical_to_a_run_without_failures() {
    let mut events = Vec::new();
    for number in 0..300 {
        let text = if number % 30 == 7 {
            "!panic\n".to_owned()
        } else {
            format!("line {number}\npart")
        };
        events.push(data(if number % 30 == 7 { 1 } else { number % 10 + 2 }, &text));
    }
    let mut config = config(Clock::Stream);
    config.limits.failures_per_connection = 100;
    let (with, _) = replay(config.clone(), events.clone(), 16).await;
    events.retain(|event| !matches!(event, CapturedEvent::Data(data) if data.payload == "!panic\n"));
    let (without, _) = replay(config, events, 16).await;
    let unharmed: Vec<&str> = with.lines().filter(|line| !line.contains(":1-")).collect();
    assert_eq!(unharmed, without.lines().collect::<Vec<_>>());
}

/// A writer that panics on request.
#[derive(Clone, Default)]
struct Bomb {
    page: Page,
    armed: Arc<AtomicBool>,
    in_flush: bool,
}

impl SinkWriter for Bomb {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(self.in_flush || !self.armed.load(Relaxed), "told to in write");
        self.page.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        assert!(!self.in_flush || !self.armed.load(Relaxed), "told to in flush");
        Ok(())
    }
}

#[actix::test]
async fn a_sink_that_panics_ends_the_run() {
    for in_flush in [false, true] {
        tokio::time::pause();
        let bomb = Bomb {
            in_flush,
            ..Bomb::default()
        };
        let (feed, source) = Feed::new();
        let handle = spawn(config(Clock::Live), source, one(bomb.clone()));
        feed.send(data(1, "fine\n"));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        bomb.armed.store(true, Relaxed);
        feed.send(data(1, "not any more\n"));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        // The reader may be gone already.
        drop(feed);
        let summary = handle.finished().await;
        assert!(matches!(
            summary.outcome,
            Outcome::Failed(PipelineError::ActorFailed { actor: "Sink" })
        ));
        check(&summary);
        assert!(
            bomb.page
                .text()
                .starts_with("1_1_app_5_1_10.0.0.1:1-10.0.0.2:443|fine\n")
        );
        tokio::time::resume();
    }
}

#[actix::test]
async fn a_sink_that_panics_in_the_last_flush_fails_the_run() {
    tokio::time::pause();
    let bomb = Bomb {
        in_flush: true,
        ..Bomb::default()
    };
    bomb.armed.store(true, Relaxed);
    let events = vec![data(1, "held")];
    let handle = spawn(
        config(Clock::Live),
        futures_util::stream::iter([events]),
        one(bomb),
    );
    let summary = handle.finished().await;
    assert!(matches!(
        summary.outcome,
        Outcome::Failed(PipelineError::ActorFailed { actor: "Sink" })
    ));
    check(&summary);
}

#[actix::test]
async fn a_source_that_panics_fails_the_run_and_what_was_read_is_shown() {
    tokio::time::pause();
    let page = Page::default();
    let mut batches = vec![data(1, "held")].into_iter();
    let source = futures_util::stream::poll_fn(move |_| {
        let event = batches.next();
        assert!(event.is_some(), "told to");
        std::task::Poll::Ready(event.map(|event| vec![event]))
    });
    let handle = spawn(config(Clock::Live), source, one(page.clone()));
    let summary = handle.finished().await;
    assert!(matches!(
        summary.outcome,
        Outcome::Failed(PipelineError::ActorFailed { actor: "RingReader" })
    ));
    check(&summary);
    assert!(page.text().ends_with("|held (end)\n"), "{}", page.text());
}

#[actix::test]
async fn a_failed_worker_hands_its_offset_on() {
    let at = |offset, text: &str| {
        CapturedEvent::Data(DataEvent {
            stream_offset: Some(offset),
            ..on_socket(1, Direction::Write, 0, text)
        })
    };
    let events = [
        at(0, "a\n"),
        at(2, "x!\n!panic\n"),
        at(12, "b\nheld"),
        at(18, "!panic\n\n!panic\n"),
        at(33, "c\n"),
        at(44, "d\n"),
    ];
    let (texts, _) = shown(&events).await;
    assert_eq!(
        texts,
        [
            "a",
            "[gap restart 10]",
            "b",
            "[gap restart 19]",
            "c",
            "[gap kernel_loss 9]",
            "d"
        ]
    );
}

#[actix::test]
async fn defaults_are_those_of_the_documentation() {
    let config = PipelineConfig::new(crate::support::lines());
    assert_eq!(config.limits.max_memory, 256 * 1024 * 1024);
    assert_eq!(config.limits.failures_per_connection, 3);
    assert_eq!(config.limits.failures_per_run, 50);
    assert_eq!(config.timings.failure_window.as_secs(), 10);
}

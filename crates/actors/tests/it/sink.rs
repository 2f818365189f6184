//! Outputs that fail, block and come back.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ecapture_actors::inject::{SinkError, SlowSink};
use ecapture_actors::{
    Clock, Outcome, PipelineConfig, PipelineError, PipelineHandle, Placement, Resumption, SinkPolicy,
    SinkWriter, Summary, spawn,
};
use ecapture_protocols::{CapturedEvent, Direction};

use crate::support::{Feed, Gate, Page, Switch, check, config, on_socket, one, plain, with_policy};

fn line(number: u64) -> CapturedEvent {
    CapturedEvent::Data(on_socket(1, Direction::Write, 0, &format!("line {number}\n")))
}

fn start(policy: SinkPolicy, writer: impl SinkWriter + 'static) -> (Feed, PipelineHandle) {
    tokio::time::pause();
    let mut config = config(Clock::Live);
    config.limits.max_memory = 8 * 1024;
    let (feed, source) = Feed::new();
    (feed, spawn(config, source, with_policy(policy, writer)))
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn lost(summary: &Summary, reason: &str) -> u64 {
    summary
        .statistics
        .losses
        .iter()
        .find(|row| row.reason == reason)
        .map_or(0, |row| row.events)
}

#[actix::test]
async fn a_closed_pipe_is_an_orderly_end() {
    let writer = Switch {
        kind: Some(io::ErrorKind::BrokenPipe),
        ..Switch::default()
    };
    let (feed, handle) = start(SinkPolicy::Stop, writer.clone());
    feed.send(line(1));
    pass(1).await;
    writer.broken.store(true, SeqCst);
    feed.send(line(2));
    let summary = handle.finished().await;
    assert!(
        matches!(summary.outcome, Outcome::SinkClosed),
        "{:?}",
        summary.outcome
    );
    check(&summary);
    assert_eq!(lost(&summary, "sink_closed"), 1);
    assert!(!summary.statistics.has_unintended_loss());
}

#[actix::test]
async fn a_full_disk_ends_the_run_when_asked_to() {
    let writer = Switch::default();
    writer.broken.store(true, SeqCst);
    let (feed, handle) = start(SinkPolicy::Stop, writer);
    feed.send(line(1));
    let summary = handle.finished().await;
    check(&summary);
    let Outcome::Failed(PipelineError::Sink { source }) = &summary.outcome else {
        panic!("{:?}", summary.outcome);
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(lost(&summary, "sink_error"), 1);
}

#[actix::test]
async fn a_full_disk_only_costs_what_does_not_fit_when_asked_to() {
    let writer = Switch::default();
    let (feed, handle) = start(SinkPolicy::Drop, writer.clone());
    for number in 0..10 {
        if number == 3 {
            writer.broken.store(true, SeqCst);
        }
        feed.send(line(number));
        pass(510).await;
        // Tried in vain after 0, 0.1, 0.3 and 0.7 s; the next time is after 1.5 s.
        if number == 4 {
            writer.broken.store(false, SeqCst);
        }
    }
    drop(feed);
    let summary = handle.finished().await;
    check(&summary);
    assert!(matches!(summary.outcome, Outcome::Complete));
    assert_eq!(lost(&summary, "sink_error"), 3);
    assert_eq!(writer.page.lines().len(), 7);
}

#[actix::test]
async fn a_collector_that_comes_back_gets_everything_in_order() {
    let writer = Switch::default();
    let (feed, handle) = start(SinkPolicy::Retry, writer.clone());
    for number in 0..20 {
        writer.broken.store((5..15).contains(&number), SeqCst);
        feed.send(line(number));
        pass(200).await;
    }
    pass(10_000).await;
    drop(feed);
    let summary = handle.finished().await;
    check(&summary);
    assert_eq!(summary.statistics.losses, []);
    let numbers: Vec<u64> = writer
        .page
        .lines()
        .iter()
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    // 2 s of failure with pauses of 0.1, 0.2, 0.4, 0.8, 1.6 s.
    assert_eq!(writer.reopened.load(SeqCst), 5);
}

#[actix::test]
async fn a_collector_that_stays_away_costs_what_is_beyond_the_bound() {
    let writer = Switch::default();
    writer.broken.store(true, SeqCst);
    let (feed, handle) = start(SinkPolicy::Retry, writer.clone());
    for number in 0..1000 {
        feed.send(line(number));
        pass(1).await;
    }
    assert!(handle.statistics().unwritten.bytes <= 1024);
    drop(feed);
    let summary = handle.finished().await;
    check(&summary);
    assert!(lost(&summary, "sink_full") > 900);
    assert!(lost(&summary, "sink_error") > 10);
}

#[actix::test]
async fn an_injected_error_is_made_good_by_opening_anew() {
    let page = Page::default();
    let (feed, handle) = start(SinkPolicy::Retry, SinkError::new(page.clone(), 100));
    for number in 0..10 {
        feed.send(line(number));
        pass(1_000).await;
    }
    drop(feed);
    let summary = handle.finished().await;
    check(&summary);
    assert_eq!(summary.statistics.written.events, 10);
    assert!(summary.statistics.sink_retries > 0);
}

fn on_threads() -> PipelineConfig {
    let mut config = config(Clock::Live);
    config.placement = Placement::Threads { worker_arbiters: 2 };
    config.limits.max_memory = 64 * 1024;
    config
}

/// Real threads: a blocked output slows the source down to nothing and loses nothing.
#[actix::test]
async fn a_blocked_output_stops_the_reader_within_the_memory_limit() {
    let gate = Gate::default();
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let batches = (0..100_000_u64).map(move |number| {
        counter.fetch_add(1, SeqCst);
        vec![CapturedEvent::Data(plain(
            u32::try_from(number % 7).unwrap() + 1,
            Direction::Write,
            0,
            "0123456789abcde\n",
        ))]
    });
    let config = on_threads();
    let limit = config.limits;
    let handle = spawn(config, futures_util::stream::iter(batches), one(gate.clone()));
    // The reader waits for room only once everything after it is full.
    while handle.statistics().stalls == 0 {
        pass(5).await;
    }
    let statistics = handle.statistics();
    assert!(taken.load(SeqCst) < 100_000, "all was read");
    assert!(statistics.in_flight.bytes <= limit.in_flight_bytes() as u64 + 16);
    assert!(statistics.unwritten.bytes <= 2 * limit.output_bytes() as u64);
    gate.open();
    let summary = handle.finished().await;
    check(&summary);
    assert_eq!(summary.statistics.losses, []);
    assert_eq!(gate.page.lines().len(), 100_000);
    assert!(summary.statistics.stalls > 0);
}

#[actix::test]
async fn a_blocked_output_cannot_hold_up_a_stop_for_ever() {
    let gate = Gate::default();
    let mut config = on_threads();
    config.timings.drain_deadline = Duration::from_millis(200);
    let events: Vec<CapturedEvent> = (0..100).map(line).collect();
    let (feed, source) = Feed::new();
    let handle = spawn(config, source, one(gate.clone()));
    feed.batch(events);
    pass(50).await;
    handle.stop();
    let summary = handle.finished().await;
    assert!(matches!(
        summary.outcome,
        Outcome::Failed(PipelineError::DrainDeadline { .. })
    ));
    assert!(summary.balanced(), "{summary:#?}");
    assert!(lost(&summary, "sink_deadline") > 0);
    gate.open();
}

#[actix::test]
async fn a_slow_output_slows_and_loses_nothing() {
    let page = Page::default();
    let mut config = on_threads();
    config.limits.write_chunk = 512;
    let events: Vec<_> = (0..500).map(|number| vec![line(number)]).collect();
    let writer = SlowSink::new(page.clone(), Duration::from_millis(1));
    let handle = spawn(config, futures_util::stream::iter(events), one(writer));
    let summary = handle.finished().await;
    check(&summary);
    assert_eq!(summary.statistics.losses, []);
    assert_eq!(page.lines().len(), 500);
}

/// Notes what it is asked to do. Takes half a record and fails, when that is switched on.
#[derive(Clone, Default)]
struct Diary {
    entries: Arc<Mutex<Vec<String>>>,
    tears: Arc<AtomicUsize>,
    has_torn: bool,
}

impl Diary {
    fn note(&self, entry: &str) {
        self.entries.lock().unwrap().push(entry.to_owned());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.entries.lock().unwrap())
    }
}

impl SinkWriter for Diary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let half = bytes.len() / 2;
        match self.tears.load(SeqCst) {
            0 => {
                self.note("write");
                Ok(bytes.len())
            }
            _ if !self.has_torn => {
                self.note("half");
                self.has_torn = true;
                Ok(half)
            }
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        Ok(Resumption::SamePlace)
    }

    fn renew(&mut self) {
        self.note("renew");
    }

    fn tending_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }

    fn tend(&mut self) -> io::Result<()> {
        self.note("tend");
        Ok(())
    }
}

fn with_diary(diary: &Diary) -> (Feed, PipelineHandle, ecapture_actors::Renewal) {
    tokio::time::pause();
    let config = config(Clock::Live);
    let renewal = config.renewal.clone();
    let (feed, source) = Feed::new();
    let outputs = with_policy(SinkPolicy::Retry, diary.clone());
    (feed, spawn(config, source, outputs), renewal)
}

#[actix::test]
async fn an_idle_target_is_tended_and_renewed_at_once() {
    let diary = Diary::default();
    let (feed, handle, renewal) = with_diary(&diary);
    pass(100).await;
    diary.take();
    renewal.ask();
    pass(1).await;
    assert_eq!(diary.take(), ["renew", "tend"]);
    pass(3_500).await;
    assert_eq!(diary.take(), ["tend"; 3]);
    drop(feed);
    check(&handle.finished().await);
}

#[actix::test]
async fn a_target_is_renewed_between_two_records_only() {
    let diary = Diary::default();
    let (feed, handle, renewal) = with_diary(&diary);
    feed.send(line(1));
    pass(100).await;
    diary.take();
    diary.tears.store(1, SeqCst);
    feed.send(line(2));
    pass(500).await;
    renewal.ask();
    pass(5_000).await;
    assert_eq!(
        diary.take(),
        ["half"],
        "not within a record, and not while it fails"
    );
    diary.tears.store(0, SeqCst);
    pass(6_000).await;
    let entries = diary.take();
    assert_eq!(entries[..2], ["write", "renew"], "{entries:?}");
    drop(feed);
    let summary = handle.finished().await;
    check(&summary);
    assert_eq!(summary.statistics.losses, []);
}

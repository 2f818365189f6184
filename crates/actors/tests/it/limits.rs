//! The behaviour when a bound is reached.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ecapture_actors::{Clock, Outcome, PipelineError, Placement, SinkWriter, spawn};
use ecapture_protocols::message::{Content, Gap, Message, Raw};
use ecapture_protocols::{CapturedEvent, Direction, Output, PeerNotice, StreamDecoder};
use futures_util::{StreamExt as _, stream};

use crate::support::{Live, Page, check, config, on_socket, one, plain, replay, texts};

fn data(sock: u64, text: &str) -> CapturedEvent {
    CapturedEvent::Data(on_socket(sock, Direction::Write, 0, text))
}

#[actix::test]
async fn tiny_mailboxes_lose_nothing_and_keep_the_order() {
    tokio::time::pause();
    let mut config = config(Clock::Live);
    config.limits.processor_mailbox = 1;
    config.limits.worker_mailbox = 1;
    config.limits.sink_mailbox = 1;
    config.limits.in_flight_events = 4;
    config.limits.round_events = 2;
    config.limits.budget = 2;
    let events: Vec<CapturedEvent> = (0..2000)
        .map(|number| data(number % 9, &format!("{number}\n")))
        .collect();
    let (text, summary) = replay(config, events, 3).await;
    assert_eq!(summary.statistics.losses, []);
    assert_eq!(text.lines().count(), 2000);
    for sock in 0..9 {
        let numbers: Vec<u64> = texts(&text, &format!(":{sock}-"))
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}

#[actix::test]
async fn the_connection_that_was_idle_longest_makes_room() {
    for clock in [Clock::Live, Clock::Stream] {
        tokio::time::pause();
        let mut config = config(clock);
        config.limits.max_workers = 3;
        let events = [
            data(1, "one"),
            data(2, "two"),
            data(3, "three"),
            data(1, " more"),
            data(4, "four\n"),
        ];
        let (text, summary) = replay(config, events.to_vec(), 1).await;
        tokio::time::resume();
        assert_eq!(summary.statistics.shed_connections, 1, "{clock:?}");
        assert_eq!(summary.statistics.losses, []);
        // All events have the same time: the first place goes.
        assert_eq!(text.matches("[gap shed ?]").count(), 1, "{text}");
        assert!(text.contains("|four\n"));
    }
}

#[actix::test]
async fn a_shed_connection_is_marked_and_goes_on_with_a_new_worker() {
    let mut config = config(Clock::Live);
    config.limits.max_workers = 2;
    let live = Live::start(config);
    live.feed.send(data(1, "half"));
    live.pass(10).await;
    live.feed.send(data(2, "b"));
    live.pass(10).await;
    live.feed.send(data(3, "c"));
    live.pass(10).await;
    live.feed.send(data(1, "later\n"));
    let (lines, summary) = live.end().await;
    assert_eq!(
        texts(&lines.join("\n"), ":1-"),
        ["half (end)", "[gap shed ?]", "later"]
    );
    assert!(summary.statistics.peak_workers <= 3, "{summary:#?}");
}

#[actix::test]
async fn held_bytes_beyond_the_limit_are_shown_not_dropped() {
    let mut config = config(Clock::Stream);
    config.limits.max_memory = 4 * 1000;
    let events: Vec<CapturedEvent> = (0..50).map(|sock| data(sock, &"x".repeat(100))).collect();
    let (text, summary) = replay(config, events, 1).await;
    assert!(summary.statistics.shed_connections > 0);
    assert_eq!(summary.statistics.losses, []);
    assert_eq!(text.matches(&"x".repeat(100)).count(), 50);
}

#[actix::test]
async fn a_decoder_that_holds_too_much_shows_it_as_incomplete() {
    let mut config = config(Clock::Stream);
    config.limits.buffered_per_connection = 10;
    let (text, summary) = replay(
        config,
        vec![data(1, "0123456789"), data(1, "a"), data(1, "b\n")],
        1,
    )
    .await;
    assert_eq!(texts(&text, ":1-"), ["0123456789a (idle)", "b"]);
    assert_eq!(summary.statistics.losses, []);
}

/// Real time: a source that always has something ready lets no virtual time pass.
#[actix::test]
async fn what_is_still_in_the_source_when_time_runs_out_is_counted() {
    let mut config = config(Clock::Live);
    config.timings.drain_deadline = Duration::from_millis(1500);
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    let endless = std::iter::repeat_with(move || {
        counter.fetch_add(1, SeqCst);
        vec![data(1, "line\n")]
    });
    let page = Page::default();
    let handle = spawn(config, stream::iter(endless), one(page.clone()));
    while handle.statistics().written.events == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    handle.stop();
    let summary = handle.finished().await;
    check(&summary);
    assert!(
        matches!(summary.outcome, Outcome::Complete),
        "{:?}",
        summary.outcome
    );
    let [row] = summary.statistics.losses.as_slice() else {
        panic!("{summary:#?}")
    };
    assert_eq!(row.reason, "shutdown_deadline");
    assert_eq!(row.events + page.lines().len() as u64, taken.load(SeqCst));
}

/// Holds everything and never lets go.
struct Hoarder(usize);

impl StreamDecoder for Hoarder {
    fn feed(&mut self, payload: &Bytes, _timestamp_ns: u64, _output: &mut Output) {
        self.0 += payload.len();
    }
    fn gap(&mut self, _gap: Gap, _timestamp_ns: u64, _output: &mut Output) {}
    fn notice(&mut self, _notice: &PeerNotice, _output: &mut Output) {}
    fn idle(&mut self, _output: &mut Output) {}
    fn close(&mut self, _output: &mut Output) {}
    fn buffered_bytes(&self) -> usize {
        self.0
    }
}

#[actix::test]
async fn a_decoder_that_does_not_let_go_is_replaced_and_counted() {
    let mut config = config(Clock::Stream);
    config.limits.buffered_per_connection = 10;
    config.decoders = Arc::new(|_, _| Box::new(Hoarder(0)));
    let (_, summary) = replay(
        config,
        vec![data(1, "0123456789"), data(1, "a"), data(1, "b\n")],
        1,
    )
    .await;
    let [row] = summary.statistics.losses.as_slice() else {
        panic!("{summary:#?}")
    };
    assert_eq!((row.reason, row.bytes), ("buffer_limit", 11));
}

/// Does not return from its second event before it is let go.
struct Stuck {
    fed: u32,
    held: usize,
    released: Arc<Mutex<Receiver<()>>>,
}

impl StreamDecoder for Stuck {
    fn feed(&mut self, payload: &Bytes, _timestamp_ns: u64, _output: &mut Output) {
        self.fed += 1;
        self.held += payload.len();
        if self.fed == 2 {
            // It is let go when the other end of the channel is gone.
            let _ = self.released.lock().unwrap().recv();
        }
    }
    fn gap(&mut self, _gap: Gap, _timestamp_ns: u64, _output: &mut Output) {}
    fn notice(&mut self, _notice: &PeerNotice, _output: &mut Output) {}
    fn idle(&mut self, _output: &mut Output) {}
    fn close(&mut self, _output: &mut Output) {}
    fn buffered_bytes(&self) -> usize {
        self.held
    }
}

/// Real threads and real time: nothing else can be stuck.
#[actix::test]
async fn a_stuck_arbiter_is_noticed_and_named() {
    let mut config = config(Clock::Live);
    config.placement = Placement::Threads { worker_arbiters: 1 };
    config.timings.watchdog_interval = Duration::from_millis(100);
    let (release, released) = channel();
    let released = Arc::new(Mutex::new(released));
    config.decoders = Arc::new(move |_, _| {
        Box::new(Stuck {
            fed: 0,
            held: 0,
            released: Arc::clone(&released),
        })
    });
    let event = |fd| CapturedEvent::Data(plain(fd, Direction::Read, 0, "x"));
    // What another connection's decoder holds is lost with the run.
    let batches = [vec![event(3)], vec![event(4), event(4), event(4)]];
    let source = stream::iter(batches).chain(stream::pending());
    let handle = spawn(config, source, one(Page::default()));
    let summary = handle.finished().await;
    drop(release);
    let Outcome::Failed(PipelineError::Stuck {
        arbiter: "Processor",
        ref connection,
        ..
    }) = summary.outcome
    else {
        panic!("{:?}", summary.outcome);
    };
    assert!(connection.contains("_4_"), "{connection}");
    assert!(summary.balanced(), "{summary:#?}");
    let unfinished = summary
        .statistics
        .losses
        .iter()
        .find(|row| row.reason == "unfinished");
    let unfinished = unfinished.unwrap();
    assert_eq!((unfinished.events, unfinished.bytes), (3, 4), "{summary:#?}");
}

/// Makes a thousand bytes of each.
struct Loud;

impl StreamDecoder for Loud {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        let data = Bytes::from(payload.repeat(1000));
        output.messages.push(Message {
            first_ns: timestamp_ns,
            last_ns: timestamp_ns,
            exchange: None,
            content: Content::Raw(Raw { data }),
        });
    }
    fn gap(&mut self, _gap: Gap, _timestamp_ns: u64, _output: &mut Output) {}
    fn notice(&mut self, _notice: &PeerNotice, _output: &mut Output) {}
    fn idle(&mut self, _output: &mut Output) {}
    fn close(&mut self, _output: &mut Output) {}
    fn buffered_bytes(&self) -> usize {
        0
    }
}

#[actix::test]
async fn one_connection_with_much_to_say_does_not_keep_the_others_waiting() {
    tokio::time::pause();
    let mut config = config(Clock::Live);
    config.limits.write_chunk = 1000;
    config.decoders = Arc::new(|_, _| Box::new(Loud));
    let mut events: Vec<CapturedEvent> = (0..100).map(|_| data(1, "a")).collect();
    events.push(data(2, "b"));
    let (text, summary) = replay(config, events, 101).await;
    assert_eq!(summary.statistics.losses, []);
    let second = text.find("bbb").unwrap();
    let after = text[second..].matches(&"a".repeat(1000)).count();
    assert!(after > 80, "{after} of 100 after the other connection's");
}

#[actix::test]
async fn a_connection_that_takes_too_long_is_shown_as_captured() {
    tokio::time::pause();
    let mut config = config(Clock::Live);
    // Every turn takes as long as that.
    config.timings.turn_limit = Duration::ZERO;
    let (text, summary) = replay(config, vec![data(1, "a\nb"), data(1, "c\nd\n")], 1).await;
    assert_eq!(
        texts(&text, ":1-"),
        ["a", "b (end)", "[gap quarantined ?]", "c", "d", ""]
    );
    assert_eq!(summary.statistics.quarantined, 1);
    assert_eq!(summary.statistics.losses, []);
}

/// Takes nothing before it is let go.
struct Blocked(Receiver<()>);

impl SinkWriter for Blocked {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // It is let go when the other end of the channel is gone.
        let _ = self.0.recv();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Real threads and real time: the writer blocks its thread.
#[actix::test]
async fn output_that_takes_nothing_is_bounded_in_bytes() {
    let mut config = config(Clock::Live);
    config.placement = Placement::Threads { worker_arbiters: 1 };
    config.limits.max_memory = 400_000;
    config.timings.worker_stall = Duration::from_mins(10);
    config.timings.reading_patience = Duration::from_mins(10);
    config.limits.write_chunk = 10_000;
    config.decoders = Arc::new(|_, _| Box::new(Loud));
    let limits = config.limits;
    // 40 of them are read at once, 4 MB of output.
    let events = |_| (0..100).map(|_| data(1, &"x".repeat(10))).collect();
    let batches: Vec<Vec<CapturedEvent>> = (0..100).map(events).collect();
    let (release, released) = channel();
    let handle = spawn(config, stream::iter(batches), one(Blocked(released)));
    let most = limits.output_bytes() + 8 * limits.write_chunk + 10_000;
    while handle.statistics().stalls == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..100 {
        let unwritten = handle.statistics().unwritten.bytes;
        assert!(unwritten <= most as u64, "{unwritten} of {most}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(release);
    let summary = handle.finished().await;
    check(&summary);
    assert_eq!(summary.statistics.written.events, 10_000, "{summary:#?}");
}

/// One stream's pending bytes fill all that may be in flight: they are dropped, marked and counted, and its
/// neighbour is read at once.
#[actix::test]
async fn a_stream_that_keeps_reading_waiting_loses_its_own() {
    let mut config = config(Clock::Live);
    config.timings.reading_patience = Duration::ZERO;
    config.limits.max_memory = 64_000;
    // Each event takes a turn of its own.
    config.limits.write_chunk = 1;
    let live = Live::start(config);
    for _ in 0..10 {
        live.feed.batch(
            (0..10)
                .map(|_| data(1, &format!("{}\n", "x".repeat(99))))
                .collect(),
        );
    }
    live.feed.send(data(2, "neighbour\n"));
    let (lines, summary) = live.end().await;
    let losses = &summary.statistics.losses;
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert_eq!(losses[0].reason, "worker_full");
    assert!(losses[0].bytes > 0 && losses[0].bytes <= 9_000, "{losses:?}");
    let gap = format!("[gap shed {}]", losses[0].bytes);
    assert!(lines.iter().any(|line| line.contains(&gap)), "{gap} in {lines:?}");
    assert!(lines.iter().any(|line| line.contains("neighbour")), "{lines:?}");
}

/// Each event takes a turn of its own. The timer is due while the first batch is taken, and fires when the first
/// event of the second has ended its turn.
#[actix::test]
async fn a_timer_between_two_turns_loses_nothing() {
    let mut config = config(Clock::Live);
    config.limits.write_chunk = 1;
    let live = Live::start(config);
    live.feed.send(data(1, "half"));
    live.pass(1).await;
    for batch in [0..100, 100..110] {
        let lines = batch.map(|number| data(1, &format!("{number}\n")));
        live.feed.batch(lines.collect());
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    let (lines, summary) = live.end().await;
    assert_eq!(summary.statistics.losses, []);
    assert!(lines.len() >= 110, "{lines:?}");
}

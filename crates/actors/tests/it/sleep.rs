//! Streams that are silent: their kept state, who wakes them, and what is given up.

use std::time::Duration;

use ecapture_actors::Clock;
use ecapture_protocols::{CapturedEvent, Close, DataEvent, Direction};

use crate::support::{Live, close, config, on_socket, plain, replay, texts};

fn on_session(session: u64, direction: Direction, offset: u64, text: &str) -> DataEvent {
    DataEvent {
        session: Some(session),
        stream_offset: Some(offset),
        ..on_socket(100 + session, direction, 0, text)
    }
}

#[actix::test]
async fn a_plain_stream_goes_on_with_the_decoder_that_it_had() {
    let live = Live::start(config(Clock::Live));
    for _ in 0..3 {
        live.feed.data(plain(4, Direction::Write, 0, "+a\n"));
        live.pass(1_300).await;
        let statistics = live.handle.statistics();
        assert_eq!((statistics.live_workers, statistics.sleeping), (0, 1));
    }
    let (lines, summary) = live.end().await;
    assert_eq!(texts(&lines.join("\n"), "1_1"), ["1 +a", "2 +a", "3 +a"]);
    assert_eq!(summary.statistics.started_workers, 4, "one more shows the end");
    assert_eq!(summary.statistics.sleeping, 0);
}

#[actix::test]
async fn a_plain_stream_that_begins_anew_gets_a_new_decoder() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(plain(4, Direction::Write, 0, "+a\n~half"));
    live.pass(1_300).await;
    live.feed.data(plain(4, Direction::Write, 0, "hello\n+a\n"));
    live.pass(10).await;
    live.feed.data(plain(4, Direction::Write, 0, "hello\n+a\n"));
    let (lines, _) = live.end().await;
    let expected = ["1 +a", "~half (part)", "hello", "1 +a", "hello", "2 +a"];
    assert_eq!(
        texts(&lines.join("\n"), "1_1"),
        expected,
        "only the first bytes after a silence tell"
    );
}

#[actix::test]
async fn a_silent_connection_hibernates_and_goes_on() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(on_session(1, Direction::Write, 0, "+a\n"));
    live.feed.data(on_session(1, Direction::Read, 0, "+b\nhalf"));
    live.pass(9_900).await;
    assert_eq!(live.handle.statistics().live_workers, 2);
    live.pass(600).await;
    let statistics = live.handle.statistics();
    assert_eq!((statistics.live_workers, statistics.sleeping), (0, 2));
    live.feed.data(on_session(1, Direction::Read, 7, "+b\n"));
    live.pass(10).await;
    let statistics = live.handle.statistics();
    assert_eq!((statistics.live_workers, statistics.sleeping), (1, 1));
    let (lines, summary) = live.end().await;
    let text = lines.join("\n");
    assert_eq!(texts(&text, "app_5_1"), ["1 +a"]);
    assert_eq!(texts(&text, "app_5_0"), ["1 +b", "half (idle)", "2 +b"]);
    assert!(summary.statistics.losses.is_empty());
}

#[actix::test]
async fn bytes_that_the_kernel_lost_during_a_sleep_are_a_gap() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(on_session(1, Direction::Read, 0, "+b\n"));
    live.pass(11_000).await;
    assert_eq!(live.handle.statistics().sleeping, 1);
    live.feed.data(on_session(1, Direction::Read, 10, "+b\n"));
    let (lines, _) = live.end().await;
    assert_eq!(
        texts(&lines.join("\n"), "app_5_0"),
        ["1 +b", "[gap kernel_loss 7]", "2 +b"]
    );
}

#[actix::test]
async fn a_notice_wakes_the_other_direction() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(on_session(1, Direction::Read, 0, "+b\n"));
    live.pass(11_000).await;
    assert_eq!(live.handle.statistics().sleeping, 1);
    let lines = |begin: &str| {
        (0..40).fold(String::new(), |lines, number| {
            lines + &format!("{begin} {number}\n")
        })
    };
    live.feed.data(on_session(1, Direction::Write, 0, &lines(">ask")));
    live.pass(10).await;
    assert_eq!(live.handle.statistics().live_workers, 2);
    live.feed
        .data(on_session(1, Direction::Read, 3, &lines("?reply")));
    let (shown, _) = live.end().await;
    let answers = (0..40).map(|number| format!("answer ?reply {number}"));
    let expected: Vec<String> = std::iter::once("1 +b".to_owned()).chain(answers).collect();
    assert_eq!(texts(&shown.join("\n"), "app_5_0"), expected);
}

#[actix::test]
async fn a_connection_that_is_closed_asleep_shows_its_end() {
    for clock in [Clock::Live, Clock::Stream] {
        let at = |seconds: u64, mut event: DataEvent| {
            event.timestamp_ns = seconds * 1_000_000_000;
            CapturedEvent::Data(event)
        };
        let events = vec![
            at(0, on_session(1, Direction::Read, 0, "+b\n")),
            at(20, on_session(2, Direction::Read, 0, "other\n")),
            at(21, on_session(1, Direction::Read, 3, "?unasked\n")),
            close(Close::Session { pid: 1, session: 1 }, 40_000),
            at(41, on_session(1, Direction::Read, 0, "+new\n")),
        ];
        let mut config = config(clock);
        // The answer is held until the end.
        config.timings.run_interval = Duration::from_hours(1);
        tokio::time::pause();
        let (text, summary) = replay(config, events, 1).await;
        tokio::time::resume();
        assert_eq!(
            texts(&text, "10.0.0.1:101"),
            ["1 +b", "overdue ?unasked", "1 +new"],
            "{clock:?}"
        );
        assert_eq!(summary.statistics.sleeping, 0);
    }
}

/// All that a process had open ends with it. What sleeps is woken to show its end, a bounded number at a time.
#[actix::test]
async fn many_that_end_at_once_are_not_awake_at_once() {
    const SESSIONS: u64 = 5_000;
    let live = Live::start(config(Clock::Live));
    for session in 0..SESSIONS {
        live.feed.data(on_session(session, Direction::Read, 0, "a\n"));
        live.pass(10).await;
    }
    live.pass(12_000).await;
    let statistics = live.handle.statistics();
    assert_eq!((statistics.live_workers, statistics.sleeping), (0, SESSIONS));
    let peak = statistics.peak_workers;
    assert!(peak < 1_100, "{peak}");
    live.feed.send(close(Close::Process { pid: 1 }, 0));
    live.pass(100).await;
    let statistics = live.handle.statistics();
    assert_eq!((statistics.live_workers, statistics.sleeping), (0, 0));
    assert!(statistics.peak_workers < 1_100, "{}", statistics.peak_workers);
    assert_eq!(statistics.started_workers, 2 * SESSIONS);
    live.end().await;
}

#[actix::test]
async fn a_run_ends_with_all_that_sleep() {
    const SESSIONS: u64 = 3_000;
    let live = Live::start(config(Clock::Live));
    for session in 0..SESSIONS {
        live.feed.data(on_session(session, Direction::Read, 0, "a\n"));
    }
    live.pass(12_000).await;
    assert_eq!(live.handle.statistics().sleeping, SESSIONS);
    let (lines, _) = live.end().await;
    assert_eq!(lines.len() as u64, SESSIONS);
}

/// Memory for the fewest Workers there may be: some sixty streams that sleep.
const FEWEST_WORKERS: usize = 80 * 1024;

/// More than that.
const FDS: u32 = 80;

#[actix::test]
async fn the_limits_give_up_the_longest_silent_and_mark_what_goes_on() {
    let mut config = config(Clock::Live);
    config.limits.max_memory = FEWEST_WORKERS;
    let live = Live::start(config);
    for fd in 1..=FDS {
        live.feed.data(plain(fd, Direction::Write, 0, "+a\n"));
        live.pass(1_300).await;
    }
    let statistics = live.handle.statistics();
    assert!(
        statistics.given_up > 0 && statistics.sleeping < u64::from(FDS),
        "{statistics:#?}"
    );
    assert_eq!(statistics.given_up + statistics.sleeping, u64::from(FDS));
    assert_eq!(statistics.shed_connections, 0);
    live.feed.data(plain(FDS, Direction::Write, 0, "+a\n"));
    live.pass(10).await;
    live.feed.data(plain(1, Direction::Write, 0, "+a\n"));
    let (lines, summary) = live.end().await;
    let text = lines.join("\n");
    assert_eq!(
        texts(&text, &format!("app_{FDS}_1")),
        ["1 +a", "2 +a"],
        "it was kept"
    );
    assert_eq!(
        texts(&text, "app_1_1"),
        ["1 +a", "[gap shed ?]", "1 +a"],
        "it was given up"
    );
    assert!(summary.statistics.losses.is_empty());
}

#[actix::test]
async fn a_connection_that_is_let_go_asleep_says_so() {
    let mut config = config(Clock::Live);
    config.limits.max_memory = FEWEST_WORKERS;
    let live = Live::start(config);
    for session in 1..=u64::from(FDS) {
        live.feed.data(on_session(session, Direction::Read, 0, "+a\n"));
        live.pass(if session % 10 == 0 { 12_000 } else { 10 }).await;
    }
    let statistics = live.handle.statistics();
    assert!(statistics.shed_connections > 0);
    assert_eq!((statistics.given_up, statistics.live_workers), (0, 0));
    live.feed.data(on_session(1, Direction::Read, 3, "+a\n"));
    let (lines, _) = live.end().await;
    assert_eq!(
        texts(&lines.join("\n"), ":101-"),
        ["1 +a", "[gap shed ?]", "1 +a"]
    );
}

#[actix::test]
async fn a_session_that_ended_hides_no_loss_of_another_one_of_its_process() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(on_session(1, Direction::Read, 0, "a\n"));
    live.feed.send(close(Close::Socket { sock: 101 }, 0));
    live.feed.data(on_session(1, Direction::Read, 2, "b\n"));
    live.feed.data(on_session(2, Direction::Read, 5, "c\n"));
    let (lines, _) = live.end().await;
    let text = lines.join("\n");
    assert_eq!(texts(&text, ":101"), ["a", "b"], "it goes on");
    assert_eq!(texts(&text, ":102"), ["[gap kernel_loss 5]", "c"]);
}

#[actix::test]
async fn a_plain_stream_is_forgotten_after_the_age_limit() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(plain(4, Direction::Write, 0, "+a\n"));
    live.pass(12 * 60 * 1000).await;
    live.feed.data(plain(5, Direction::Write, 0, "+a\n"));
    live.pass(1).await;
    live.feed.data(plain(4, Direction::Write, 0, "+a\n"));
    let (lines, _) = live.end().await;
    assert_eq!(texts(&lines.join("\n"), "app_4_1"), ["1 +a", "1 +a"]);
}

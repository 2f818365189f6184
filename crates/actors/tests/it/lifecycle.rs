//! Idle-stop, close events, fd reuse, age, draining.

use ecapture_actors::Clock;
use ecapture_protocols::{CapturedEvent, Close, DataEvent, Direction};

use crate::support::{Live, close, config, on_socket, plain, replay};

#[actix::test]
async fn a_plain_stream_ends_after_the_idle_time() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(plain(4, Direction::Write, 0, "half"));
    live.pass(1_050).await;
    assert_eq!(live.handle.statistics().live_workers, 1);
    live.pass(200).await;
    assert_eq!(live.handle.statistics().live_workers, 0);
    assert_eq!(live.page.text(), "1_1_app_4_1|half (idle)\n");
    live.feed.data(plain(4, Direction::Write, 0, "more\n"));
    let (lines, summary) = live.end().await;
    assert_eq!(lines[1], "1_1_app_4_1|more");
    assert_eq!(summary.statistics.started_workers, 2);
}

#[actix::test]
async fn an_event_restarts_the_idle_time() {
    let live = Live::start(config(Clock::Live));
    for _ in 0..5 {
        live.feed.data(plain(4, Direction::Write, 0, "x"));
        live.pass(1_000).await;
    }
    let (lines, summary) = live.end().await;
    assert_eq!(lines, ["1_1_app_4_1|xxxxx (end)"]);
    assert_eq!(summary.statistics.started_workers, 1);
}

#[actix::test]
async fn a_connection_only_shows_what_is_incomplete_when_idle() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(on_socket(7, Direction::Write, 0, "half"));
    live.pass(5_000).await;
    assert!(live.page.text().ends_with("half (idle)\n"));
    live.feed.data(on_socket(7, Direction::Write, 0, "more\n"));
    let (lines, summary) = live.end().await;
    assert_eq!(lines.len(), 2);
    assert_eq!(summary.statistics.started_workers, 1);
}

#[actix::test]
async fn a_closed_socket_ends_both_directions() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(on_socket(7, Direction::Write, 0, "a"));
    live.feed.data(on_socket(7, Direction::Read, 0, "b"));
    live.feed.data(on_socket(8, Direction::Read, 0, "c"));
    live.feed.send(close(Close::Socket { sock: 7 }, 0));
    live.pass(1).await;
    assert_eq!(live.handle.statistics().live_workers, 1);
    live.end().await;
}

#[actix::test]
async fn session_and_process_ends_reach_their_streams() {
    let live = Live::start(config(Clock::Live));
    let event = |session, pid| {
        let mut event = DataEvent {
            session: Some(session),
            ..plain(4, Direction::Write, 0, "a")
        };
        event.process.pid = pid;
        event
    };
    live.feed.data(event(1, 1));
    live.feed.data(event(2, 1));
    live.feed.data(event(1, 2));
    live.feed.data(plain(9, Direction::Read, 0, "b"));
    live.feed.send(close(Close::Session { pid: 1, session: 1 }, 0));
    live.pass(1).await;
    assert_eq!(live.handle.statistics().live_workers, 3);
    live.feed.send(close(Close::Process { pid: 1 }, 0));
    live.pass(1).await;
    assert_eq!(live.handle.statistics().live_workers, 1);
    live.end().await;
}

#[actix::test]
async fn a_reused_place_gets_a_new_worker_in_order() {
    for clock in [Clock::Live, Clock::Stream] {
        let mut events = Vec::new();
        for number in 0..50 {
            events.push(CapturedEvent::Data(on_socket(
                7,
                Direction::Write,
                0,
                &format!("half {number}"),
            )));
            events.push(close(Close::Socket { sock: 7 }, 0));
        }
        tokio::time::pause();
        let (text, summary) = replay(config(clock), events, 7).await;
        tokio::time::resume();
        let numbers: Vec<String> = (0..50).map(|number| format!("half {number} (end)")).collect();
        let shown: Vec<&str> = text.lines().map(|line| line.split_once('|').unwrap().1).collect();
        assert_eq!(shown, numbers);
        assert_eq!(summary.statistics.started_workers, 50);
    }
}

#[actix::test]
async fn a_connection_whose_close_was_missed_ends_by_age() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(on_socket(7, Direction::Write, 0, "a"));
    live.pass(11 * 60 * 1000).await;
    live.feed.data(on_socket(8, Direction::Write, 0, "b"));
    live.pass(1).await;
    assert_eq!(live.handle.statistics().live_workers, 1);
    live.end().await;
}

#[actix::test]
async fn a_stop_shows_everything_that_was_read() {
    let live = Live::start(config(Clock::Live));
    for fd in 1..=100 {
        live.feed.data(plain(fd, Direction::Write, 0, "half"));
    }
    live.handle.stop();
    let summary = live.handle.finished().await;
    crate::support::check(&summary);
    assert_eq!(live.page.lines().len(), 100);
}

#[actix::test]
async fn recorded_silence_ends_plain_streams_in_a_replay() {
    let events = vec![
        CapturedEvent::Data(plain(4, Direction::Write, 0, "half")),
        CapturedEvent::Data(on_socket(7, Direction::Write, 10, "kept")),
        CapturedEvent::Data(plain(4, Direction::Write, 1_090, " whole\n")),
        CapturedEvent::Data(plain(4, Direction::Write, 3_000, "again\n")),
        CapturedEvent::Data(on_socket(7, Direction::Write, 3_001, "more\n")),
    ];
    let (text, summary) = replay(config(Clock::Stream), events, 100).await;
    let shown: Vec<&str> = text.lines().map(|line| line.split_once('|').unwrap().1).collect();
    assert_eq!(shown, ["half whole", "kept (idle)", "again", "more"]);
    assert_eq!(summary.statistics.started_workers, 3);
}

/// A key is used again while the Workers of the previous connection are still there, over and over,
/// with every way in which an end is reported: each connection keeps its own bytes and its own
/// notices, and what waits does not multiply.
#[actix::test]
async fn a_place_reused_in_both_directions_keeps_its_connections_apart() {
    const CONNECTIONS: u64 = 60;
    for clock in [Clock::Live, Clock::Stream] {
        let on_session = |number: u64, direction, text: &str| {
            CapturedEvent::Data(DataEvent {
                session: Some(9),
                ..on_socket(100 + number, direction, 0, text)
            })
        };
        let events = (0..CONNECTIONS).flat_map(|number| {
            [
                on_session(number, Direction::Write, &format!(">ask {number}\n")),
                on_session(
                    number,
                    Direction::Read,
                    &format!("?reply {number}\nhalf {number}"),
                ),
                close(Close::Session { pid: 1, session: 9 }, 0),
                close(Close::Socket { sock: 100 + number }, 0),
                close(Close::Process { pid: 1 }, 0),
            ]
        });
        tokio::time::pause();
        let (text, summary) = replay(config(clock), events.collect(), 7).await;
        tokio::time::resume();
        let of = |direction: u8| -> Vec<&str> {
            let uuid = format!("1_1_app_5_{direction}_10.0.0.1:");
            text.lines().filter_map(|line| line.strip_prefix(&uuid)).collect()
        };
        let line = |number, text: String| format!("{}-10.0.0.2:443_9|{text}", 100 + number);
        let asked: Vec<String> = (0..CONNECTIONS)
            .map(|number| line(number, format!(">ask {number}")))
            .collect();
        let answered: Vec<String> = (0..CONNECTIONS)
            .flat_map(|number| {
                [format!("answer ?reply {number}"), format!("half {number} (end)")]
                    .map(|text| line(number, text))
            })
            .collect();
        assert_eq!(of(1), asked, "{clock:?}");
        assert_eq!(of(0), answered, "{clock:?}");
        assert_eq!(summary.statistics.started_workers, 2 * CONNECTIONS);
    }
}

#[actix::test]
async fn what_has_come_of_a_message_is_shown_after_a_run_interval() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(on_socket(7, Direction::Write, 0, "~first"));
    live.pass(50).await;
    live.feed.data(on_socket(7, Direction::Write, 0, " half"));
    live.pass(40).await;
    assert_eq!(
        live.page.text(),
        "",
        "more bytes do not make the wait begin again"
    );
    live.pass(70).await;
    assert!(live.page.text().ends_with("|~first half (part)\n"));
    live.feed.data(on_socket(7, Direction::Write, 0, "~whole\n"));
    live.pass(1).await;
    assert_eq!(live.page.lines().len(), 2, "a whole message waits for nothing");
    live.pass(300).await;
    let (lines, _) = live.end().await;
    assert_eq!(lines.len(), 2);
    assert!(lines[1].ends_with("|~whole"));
}

#[actix::test]
async fn a_replay_shows_parts_at_the_recorded_times() {
    let events = vec![
        CapturedEvent::Data(on_socket(7, Direction::Write, 0, "~slow")),
        CapturedEvent::Data(on_socket(8, Direction::Write, 10, "~quick")),
        CapturedEvent::Data(on_socket(8, Direction::Write, 90, " enough\n")),
        CapturedEvent::Data(on_socket(7, Direction::Write, 150, " to come\n")),
    ];
    for batch in [1, 2, 100] {
        let (text, _) = replay(config(Clock::Stream), events.clone(), batch).await;
        let shown: Vec<&str> = text.lines().map(|line| line.split_once('|').unwrap().1).collect();
        assert_eq!(shown, ["~quick enough", "~slow (part)", " to come"], "{batch}");
    }
}

//! Which Worker gets what, in which order, under which origin.

use std::sync::Arc;

use ecapture_actors::{Clock, KernelCounterSource, LossRow, Stage};
use ecapture_protocols::{CapturedEvent, Close, DataEvent, Direction, JoinedLate};

use crate::support::{Live, close, config, on_socket, plain, replay, socket};

#[actix::test]
async fn lines_of_one_stream_come_out_in_order() {
    let live = Live::start(config(Clock::Live));
    for number in 0..100 {
        live.feed
            .data(plain(4, Direction::Write, 0, &format!("line {number}\n")));
    }
    let (lines, summary) = live.end().await;
    let expected: Vec<String> = (0..100)
        .map(|number| format!("1_1_app_4_1|line {number}"))
        .collect();
    assert_eq!(lines, expected);
    assert_eq!(summary.statistics.started_workers, 1);
    assert_eq!(summary.statistics.losses, []);
}

#[actix::test]
async fn output_leaves_when_the_message_is_complete() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(plain(4, Direction::Write, 0, "done\nhalf"));
    live.pass(1).await;
    assert_eq!(live.page.text(), "1_1_app_4_1|done\n");
    live.end().await;
}

#[actix::test]
async fn another_thread_changes_neither_worker_nor_uuid() {
    let live = Live::start(config(Clock::Live));
    let mut event = on_socket(77, Direction::Write, 0, "first half, ");
    live.feed.data(event.clone());
    event.process.tid = 2;
    event.payload = "second half\n".into();
    live.feed.data(event);
    let (lines, _) = live.end().await;
    assert_eq!(
        lines,
        ["1_1_app_5_1_10.0.0.1:77-10.0.0.2:443|first half, second half"]
    );
}

#[actix::test]
async fn a_socket_learned_by_one_direction_completes_both() {
    let live = Live::start(config(Clock::Live));
    let in_session = |direction, text: &str| DataEvent {
        session: Some(9),
        ..plain(5, direction, 0, text)
    };
    live.feed.data(in_session(Direction::Write, "out 1\n"));
    live.feed.data(in_session(Direction::Read, "in 1\n"));
    live.pass(1).await;
    let learned = DataEvent {
        socket: Some(socket(77)),
        ..in_session(Direction::Write, "out 2\n")
    };
    live.feed.data(learned);
    live.feed.data(in_session(Direction::Read, "in 2\n"));
    let (lines, summary) = live.end().await;
    let tuple = "10.0.0.1:77-10.0.0.2:443_9";
    assert_eq!(
        lines,
        [
            "1_1_app_5_1_9|out 1".to_owned(),
            "1_1_app_5_0_9|in 1".to_owned(),
            format!("1_1_app_5_1_{tuple}|out 2"),
            format!("1_1_app_5_0_{tuple}|in 2"),
        ]
    );
    assert_eq!(summary.statistics.started_workers, 2);
}

#[actix::test]
async fn another_socket_on_the_same_session_is_another_connection() {
    let live = Live::start(config(Clock::Live));
    let event = |sock, text: &str| DataEvent {
        session: Some(9),
        ..on_socket(sock, Direction::Write, 0, text)
    };
    live.feed.batch(vec![
        CapturedEvent::Data(event(1, "old, unfinished")),
        CapturedEvent::Data(event(2, "new\n")),
        CapturedEvent::Data(event(2, "newer\n")),
    ]);
    let (lines, summary) = live.end().await;
    assert_eq!(
        lines,
        [
            "1_1_app_5_1_10.0.0.1:1-10.0.0.2:443_9|old, unfinished (end)",
            "1_1_app_5_1_10.0.0.1:2-10.0.0.2:443_9|new",
            "1_1_app_5_1_10.0.0.1:2-10.0.0.2:443_9|newer",
        ]
    );
    assert_eq!(summary.statistics.started_workers, 2);
}

/// A session object is used again while the Worker of its last connection is still ending.
#[actix::test]
async fn a_new_connection_does_not_inherit_the_addresses_of_the_one_before() {
    for ending in [
        Close::Session { pid: 1, session: 9 },
        Close::Socket { sock: 1 },
        Close::Process { pid: 1 },
    ] {
        let live = Live::start(config(Clock::Live));
        let old = DataEvent {
            session: Some(9),
            ..on_socket(1, Direction::Read, 0, "old\n")
        };
        // Its bytes were there before it was known on which socket.
        let new = DataEvent {
            session: Some(9),
            ..plain(5, Direction::Read, 0, "new\n")
        };
        live.feed.batch(vec![
            CapturedEvent::Data(old),
            close(ending, 0),
            CapturedEvent::Data(new),
        ]);
        live.pass(10).await;
        let (lines, _) = live.end().await;
        tokio::time::resume();
        assert_eq!(
            lines,
            ["1_1_app_5_0_10.0.0.1:1-10.0.0.2:443_9|old", "1_1_app_5_0_9|new"],
            "{ending:?}"
        );
    }
}

#[actix::test]
async fn missing_bytes_are_told_once_and_where_they_are_missing() {
    let live = Live::start(config(Clock::Live));
    let at = |offset, text: &str| DataEvent {
        stream_offset: Some(offset),
        ..on_socket(3, Direction::Read, 0, text)
    };
    live.feed.data(at(1000, "late attach\n"));
    live.feed.data(at(1012, "next\n"));
    live.feed.data(at(1050, "after a gap\n"));
    live.feed.data(at(1062, "fine\n"));
    let (lines, summary) = live.end().await;
    let [connection] = summary.statistics.by_connection.as_slice() else {
        panic!("{summary:#?}")
    };
    assert_eq!(connection.uuid, "1_1_app_5_0_10.0.0.1:3-10.0.0.2:443");
    assert_eq!(connection.total().bytes, 33);
    assert_eq!(connection.losses[0].reason, "missing");
    let texts: Vec<&str> = lines.iter().map(|line| line.split_once('|').unwrap().1).collect();
    assert_eq!(
        texts,
        [
            "late attach",
            "next",
            "[gap kernel_loss 33]",
            "after a gap",
            "fine"
        ]
    );
}

#[actix::test]
async fn a_request_releases_the_answer_that_waits_for_it() {
    for clock in [Clock::Live, Clock::Stream] {
        let live = Live::start(config(clock));
        live.feed.batch(vec![
            CapturedEvent::Data(on_socket(3, Direction::Write, 0, ">ask\n")),
            CapturedEvent::Data(on_socket(3, Direction::Read, 1, "?reply\n")),
        ]);
        let (lines, _) = live.end().await;
        let texts: Vec<&str> = lines.iter().map(|line| line.split_once('|').unwrap().1).collect();
        assert_eq!(texts, [">ask", "answer ?reply"], "{clock:?}");
        if clock == Clock::Live {
            tokio::time::resume();
        }
    }
}

#[actix::test]
async fn an_answer_without_any_other_direction_does_not_wait() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(on_socket(3, Direction::Read, 0, "?reply\n"));
    live.pass(1).await;
    assert!(
        live.page.text().ends_with("overdue ?reply\n"),
        "{}",
        live.page.text()
    );
    live.end().await;
}

#[actix::test]
async fn an_answer_waits_one_interval_for_the_other_direction() {
    let live = Live::start(config(Clock::Live));
    live.feed.data(on_socket(3, Direction::Write, 0, "no request\n"));
    live.pass(1).await;
    live.feed.data(on_socket(3, Direction::Read, 0, "?reply\n"));
    live.pass(50).await;
    assert!(!live.page.text().contains("reply"));
    live.pass(100).await;
    assert!(
        live.page.text().ends_with("overdue ?reply\n"),
        "{}",
        live.page.text()
    );
    live.end().await;
}

#[actix::test]
async fn empty_payloads_are_counted_and_show_nothing() {
    let (text, summary) = replay(
        config(Clock::Stream),
        vec![
            CapturedEvent::Data(on_socket(3, Direction::Read, 0, "")),
            close(Close::Socket { sock: 3 }, 1),
        ],
        10,
    )
    .await;
    assert_eq!(text, "");
    assert_eq!(summary.statistics.delivered.events, 1);
    assert_eq!(summary.statistics.closes, 1);
}

#[actix::test]
async fn connections_that_follow_each_other_in_one_batch_keep_their_own_addresses() {
    for clock in [Clock::Live, Clock::Stream] {
        tokio::time::pause();
        let events = (1..=20).map(|sock| {
            let text = format!("of {sock}\n");
            CapturedEvent::Data(DataEvent {
                session: Some(9),
                ..on_socket(sock, Direction::Write, 0, &text)
            })
        });
        let (text, _) = replay(config(clock), events.collect(), 100).await;
        tokio::time::resume();
        let expected: Vec<String> = (1..=20)
            .map(|sock| format!("1_1_app_5_1_10.0.0.1:{sock}-10.0.0.2:443_9|of {sock}"))
            .collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{clock:?}");
    }
}

#[actix::test]
async fn what_the_kernel_lost_is_listed_first_and_on_neither_side() {
    struct Counters;
    impl KernelCounterSource for Counters {
        fn rows(&self) -> Vec<LossRow> {
            let row = |reason, events| LossRow {
                stage: Stage::Kernel,
                reason,
                events,
                bytes: 100 * events,
                intended: false,
            };
            vec![row("ring_full", 3), row("map_full", 0)]
        }
    }
    let mut config = config(Clock::Stream);
    config.kernel_counters = Some(Arc::new(Counters));
    let (_, summary) = replay(
        config,
        vec![CapturedEvent::Data(plain(4, Direction::Read, 0, "a\n"))],
        1,
    )
    .await;
    let [row] = summary.statistics.losses.as_slice() else {
        panic!("{summary:#?}");
    };
    assert_eq!((row.reason, row.events, row.bytes), ("ring_full", 3, 300));
    assert!(summary.balanced());
    assert!(summary.statistics.has_unintended_loss());
}

/// Each direction says so before its first bytes, and not again.
#[actix::test]
async fn a_missing_beginning_is_told_once_to_each_direction() {
    for clock in [Clock::Live, Clock::Stream] {
        let event = |direction, offset, text: &str| DataEvent {
            session: Some(9),
            stream_offset: Some(offset),
            joined_late: Some(JoinedLate::BeforeProbes),
            ..plain(5, direction, 1, text)
        };
        let events = [
            event(Direction::Write, 0, "out 1\n"),
            event(Direction::Read, 0, "in 1\n"),
            event(Direction::Write, 6, "out 2\n"),
        ];
        let events = events.map(CapturedEvent::Data).to_vec();
        let lines = if clock == Clock::Live {
            let live = Live::start(config(clock));
            live.feed.batch(events);
            live.end().await.0
        } else {
            let (text, _) = replay(config(clock), events, 2).await;
            text.lines().map(ToOwned::to_owned).collect()
        };
        let of = |direction: u8| {
            let mine = lines
                .iter()
                .filter(|line| line.starts_with(&format!("1_1_app_5_{direction}")));
            mine.map(|line| line.split_once('|').expect("a separator").1)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(1), ["[gap before_probes ?]", "out 1", "out 2"], "{clock:?}");
        assert_eq!(of(0), ["[gap before_probes ?]", "in 1"], "{clock:?}");
    }
}

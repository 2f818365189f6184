//! Both ends of exchanges on this host: joined in whatever order they come, within bounds, and none lost.

use std::sync::Arc;

use ecapture_actors::{Clock, Output, PipelineConfig, SinkPolicy, Summary, spawn};
use ecapture_protocols::format::{Ends, ExchangeLines, Heading, Text};
use ecapture_protocols::{
    AddressSource, CapturedEvent, DataEvent, Direction, Format, Options, Process, Side, Socket, Tuple,
    stream_decoder,
};

use crate::support::{Feed, Live, Page, Random, Switch, check, config, plain, replay_as};

/// The events of one exchange: the client takes 4 ms for it, the server 2 ms of them.
fn exchange(port: u16, at_ms: u64, path: &str) -> [CapturedEvent; 4] {
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes";
    let client = |direction, at_ms, text| event("client", port, direction, at_ms, text);
    let server = |direction, at_ms, text| event("server", port, direction, at_ms, text);
    [
        client(Direction::Write, at_ms, &request),
        server(Direction::Read, at_ms + 1, &request),
        server(Direction::Write, at_ms + 3, response),
        client(Direction::Read, at_ms + 4, response),
    ]
}

/// The client's part of the same.
fn client_alone(port: u16, at_ms: u64, path: &str) -> Vec<CapturedEvent> {
    let [request, _, _, response] = exchange(port, at_ms, path);
    vec![request, response]
}

fn event(comm: &str, port: u16, direction: Direction, at_ms: u64, text: &str) -> CapturedEvent {
    let is_client = comm == "client";
    let address = |port| ([127, 0, 0, 1], port).into();
    let (pid, side) = if is_client {
        (10, Side::Source)
    } else {
        (20, Side::Destination)
    };
    CapturedEvent::Data(DataEvent {
        process: Process {
            pid,
            tid: pid,
            uid: None,
            comm: comm.into(),
        },
        session: Some(2 * u64::from(port) + u64::from(is_client)),
        socket: Some(Socket {
            sock: 2 * u64::from(port) + u64::from(is_client),
            tuple: Tuple {
                source: address(port),
                destination: address(443),
            },
            local: Some(side),
            address_source: AddressSource::Exact,
        }),
        ..plain(5, direction, at_ms, text)
    })
}

fn configure(clock: Clock) -> PipelineConfig {
    let mut config = config(clock);
    config.decoders = Arc::new(|_, view| {
        stream_decoder(Options {
            view,
            ..Options::default()
        })
    });
    config
}

fn lines_once() -> Arc<ExchangeLines> {
    Arc::new(ExchangeLines {
        ends: Ends::Once,
        ..ExchangeLines::default()
    })
}

/// On a clock that stands still while anything is to be done.
fn start(config: PipelineConfig) -> Live {
    start_with(config, lines_once())
}

fn start_with(config: PipelineConfig, format: Arc<dyn Format>) -> Live {
    let page = Page::default();
    let (feed, source) = Feed::new();
    let output = Output::records("page", format, page.clone());
    let handle = spawn(config, source, vec![output]);
    Live { feed, page, handle }
}

fn assert_joined(lines: &[String], exchanges: usize) {
    assert_eq!(lines.len(), exchanges, "{lines:#?}");
    for line in lines {
        assert!(
            line.contains("client[10] -> 127.0.0.1:443 GET https://h/")
                && line.ends_with(" 200 0 -> 3 B 4.000 ms, server[20] 2.000 ms (+2.000 ms)"),
            "{lines:#?}"
        );
    }
}

/// All orders of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else {
        return vec![Vec::new()];
    };
    let insert = |order: Vec<usize>| {
        (0..=order.len()).map(move |place| {
            let mut longer = order.clone();
            longer.insert(place, last);
            longer
        })
    };
    orders(last).into_iter().flat_map(insert).collect()
}

/// A connection's second exchange, whose events are read in any order: a response waits for its request, but not for
/// 100 ms.
#[actix::test]
async fn ends_are_joined_in_every_order_of_their_events() {
    tokio::time::pause();
    let orders = orders(4);
    assert_eq!(orders.len(), 24);
    for (number, order) in orders.iter().enumerate() {
        for pause_ms in [0, 1, 20] {
            let live = start(configure(Clock::Live));
            live.feed.batch(exchange(5000, 1, "/first").to_vec());
            live.pass(30).await;
            let events = exchange(5000, 60, &format!("/{number}"));
            for &index in order {
                live.feed.send(events[index].clone());
                live.pass(pause_ms).await;
            }
            live.pass(20).await;
            assert_joined(&live.page.lines(), 2);
            let (lines, summary) = live.end().await;
            assert_joined(&lines, 2);
            assert_eq!(summary.statistics.losses, []);
        }
    }
}

#[actix::test]
async fn many_exchanges_are_joined_each_once_in_random_orders() {
    tokio::time::pause();
    for seed in 1..=30 {
        let mut random = Random::new(seed);
        // The streams of each connection, in order; which of them goes on is random.
        let mut streams: Vec<Vec<CapturedEvent>> = Vec::new();
        for connection in 0..4 {
            let exchanges =
                (0..5).map(|number| exchange(5000 + connection, 1 + 10 * number, &format!("/{number}")));
            let exchanges: Vec<_> = exchanges.collect();
            streams.extend((0..4).map(|place| {
                exchanges
                    .iter()
                    .rev()
                    .map(|events| events[place].clone())
                    .collect()
            }));
        }
        let live = start(configure(Clock::Live));
        let mut batch = Vec::new();
        while !streams.is_empty() {
            let chosen = random.below(streams.len());
            batch.extend(streams[chosen].pop());
            if streams[chosen].is_empty() {
                streams.swap_remove(chosen);
            }
        }
        live.feed.batch(batch);
        let (lines, summary) = live.end().await;
        assert_joined(&lines, 20);
        assert_eq!(summary.statistics.losses, [], "seed {seed}");
    }
}

#[actix::test]
async fn a_replay_joins_them_in_batches_of_any_size() {
    let events: Vec<_> = (0..10)
        .flat_map(|number| exchange(5000, 1 + 10 * number, &format!("/{number}")))
        .collect();
    let (whole, _) = replay_as(configure(Clock::Stream), lines_once(), events.clone(), usize::MAX).await;
    assert_joined(&whole.lines().map(str::to_owned).collect::<Vec<_>>(), 10);
    for batch in 1..=events.len() {
        let (page, _) = replay_as(configure(Clock::Stream), lines_once(), events.clone(), batch).await;
        assert_eq!(page, whole, "batches of {batch}");
    }
}

#[actix::test]
async fn an_end_waits_half_a_second_for_the_other_and_no_longer() {
    tokio::time::pause();
    let live = start(configure(Clock::Live));
    live.feed.batch(client_alone(5000, 1, "/alone"));
    live.pass(450).await;
    assert_eq!(live.page.lines(), [] as [&str; 0], "it waits");
    live.pass(250).await;
    assert_eq!(live.page.lines().len(), 1, "it has waited long enough");
    let [_, request, response, _] = exchange(5000, 1, "/alone");
    live.feed.batch(vec![request, response]);
    let (lines, summary) = live.end().await;
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains('+')), "{lines:#?}");
    assert_eq!(summary.statistics.losses, []);
}

/// The lines above messages in text that shows them once.
fn headings(lines: &[String]) -> Vec<&str> {
    let headings = lines.iter().filter_map(|line| line.split_once(' '));
    headings
        .map(|(_, heading)| heading)
        .filter(|heading| heading.contains("] -> ") || heading.contains("] <- "))
        .collect()
}

#[actix::test]
async fn a_message_in_text_waits_half_a_second_for_its_other_end_and_no_longer() {
    tokio::time::pause();
    let text = Text {
        heading: Heading::Terminal,
        joins: true,
        ..Text::default()
    };
    let live = start_with(configure(Clock::Live), Arc::new(text));
    live.feed.batch(exchange(5000, 1, "/both").to_vec());
    live.pass(20).await;
    let joined = [
        "client[10] -> 127.0.0.1:443, server[20] (+1.000 ms)",
        "client[10] <- 127.0.0.1:443, server[20] (-1.000 ms)",
    ];
    let mut shown = headings(&live.page.lines())
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    shown.sort_unstable();
    assert_eq!(shown, joined);
    live.feed.batch(client_alone(6000, 100, "/alone"));
    live.pass(450).await;
    assert_eq!(headings(&live.page.lines()).len(), 2, "it waits");
    live.pass(250).await;
    let lines = live.page.lines();
    let alone = ["client[10] -> 127.0.0.1:443", "client[10] <- 127.0.0.1:443"];
    assert_eq!(headings(&lines)[2..], alone, "it has waited long enough");
    let (lines, summary) = live.end().await;
    assert_eq!(headings(&lines).len(), 4, "{lines:#?}");
    assert_eq!(summary.statistics.losses, []);
}

#[actix::test]
async fn what_waits_at_the_end_of_a_run_is_written() {
    tokio::time::pause();
    let live = start(configure(Clock::Live));
    for port in 5000..5010 {
        live.feed.batch(client_alone(port, 1, "/alone"));
    }
    live.pass(50).await;
    assert_eq!(live.page.lines(), [] as [&str; 0]);
    let (lines, summary) = live.end().await;
    assert_eq!(lines.len(), 10, "{lines:#?}");
    assert_eq!(summary.statistics.losses, []);
}

#[actix::test]
async fn beyond_the_bound_the_oldest_is_written_alone() {
    tokio::time::pause();
    let mut config = configure(Clock::Live);
    config.limits.waiting_ends = 4;
    let live = start(config);
    for number in 0..10 {
        live.feed
            .batch(client_alone(5000 + number, 1, &format!("/{number}")));
        live.pass(5).await;
    }
    let lines = live.page.lines();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert!(
        lines[0].contains("https://h/0 ") && lines[5].contains("https://h/5 "),
        "{lines:#?}"
    );
    // The other end of one that still waits.
    let [_, request, response, _] = exchange(5009, 1, "/9");
    live.feed.batch(vec![request, response]);
    live.pass(30).await;
    assert_joined(&live.page.lines()[6..], 1);
    let (lines, summary) = live.end().await;
    assert_eq!(lines.len(), 10, "{lines:#?}");
    assert_eq!(summary.statistics.losses, []);
}

/// Both ends count, joined or not.
#[actix::test]
async fn ends_for_a_target_that_is_gone_are_counted() {
    tokio::time::pause();
    let writer = Switch::default();
    writer.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let (feed, source) = Feed::new();
    let mut output = Output::records("page", lines_once(), writer);
    output.policy = SinkPolicy::Drop;
    let handle = spawn(configure(Clock::Live), source, vec![output]);
    feed.batch(exchange(5000, 1, "/joined").to_vec());
    feed.batch(client_alone(6000, 1, "/alone"));
    drop(feed);
    let summary: Summary = handle.finished().await;
    check(&summary);
    let lost = summary
        .statistics
        .losses
        .iter()
        .find(|row| row.reason == "sink_error");
    assert_eq!(
        lost.map(|row| row.events),
        Some(3),
        "{:?}",
        summary.statistics.losses
    );
}

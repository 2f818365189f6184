//! Fault injection: what is broken on purpose is counted, and nothing else changes.

use std::sync::Arc;
use std::time::Duration;

use ecapture_actors::inject::{DropEvent, ReaderStall, worker_panic};
use ecapture_actors::{Clock, Ledger, Summary, spawn};
use ecapture_protocols::{CapturedEvent, Direction};

use crate::support::{Page, check, config, lines, on_socket, one, replay};

/// 100 connections, `rounds` lines each.
fn recording(rounds: u64) -> Vec<CapturedEvent> {
    let numbers = (0..rounds).flat_map(|round| (1..=100).map(move |sock| (round, sock)));
    numbers
        .map(|(round, sock)| {
            let direction = if round % 2 == 0 {
                Direction::Write
            } else {
                Direction::Read
            };
            CapturedEvent::Data(on_socket(
                sock,
                direction,
                round,
                &format!("line {round} of {sock}\n"),
            ))
        })
        .collect()
}

fn lost(summary: &Summary, reason: &str) -> (u64, u64) {
    let rows = &summary.statistics.losses;
    rows.iter()
        .find(|row| row.reason == reason)
        .map_or((0, 0), |row| (row.events, row.bytes))
}

#[actix::test]
async fn a_panic_every_fifty_events_costs_exactly_those_events() {
    let events = recording(10);
    let (whole, _) = replay(config(Clock::Stream), events.clone(), 128).await;
    let mut config = config(Clock::Stream);
    config.decoders = worker_panic(lines(), 50);
    let (broken, summary) = replay(config, events, 128).await;
    assert_eq!(lost(&summary, "worker_failed").0, 20);
    assert_eq!(summary.statistics.restarts, 20);
    let kept: Vec<&str> = broken
        .lines()
        .filter(|line| !line.contains("[gap restart"))
        .collect();
    assert_eq!(broken.lines().count() - kept.len(), 20);
    let missing = whole.lines().filter(|line| !kept.contains(line)).count();
    assert_eq!(missing, 20);
    let untouched: Vec<&str> = whole.lines().filter(|line| kept.contains(line)).collect();
    assert_eq!(kept, untouched);
}

#[actix::test]
async fn dropped_events_are_in_the_ledger() {
    let ledger = Arc::new(Ledger::new());
    let mut config = config(Clock::Stream);
    config.ledger = Arc::clone(&ledger);
    let page = Page::default();
    let batches = recording(10).chunks(64).map(<[_]>::to_vec).collect::<Vec<_>>();
    let source = DropEvent::new(futures_util::stream::iter(batches), 10, ledger);
    let summary = spawn(config, source, one(page.clone())).finished().await;
    check(&summary);
    assert_eq!(lost(&summary, "injected").0, 100);
    // Every tenth event: always those of the same connections.
    let shares = &summary.statistics.by_connection;
    assert_eq!(shares.len(), 2 * 10);
    for share in shares {
        assert!(share.uuid.contains("0-10.0.0.2:443"), "{share:?}");
        assert_eq!((share.losses[0].reason, share.losses[0].events), ("injected", 5));
    }
    assert_eq!(summary.statistics.seen.events, 1000);
    assert_eq!(page.lines().len(), 900);
}

#[actix::test]
async fn a_stalling_reader_only_takes_longer() {
    tokio::time::pause();
    let page = Page::default();
    let batches = recording(4).chunks(100).map(<[_]>::to_vec).collect::<Vec<_>>();
    let source = ReaderStall::new(futures_util::stream::iter(batches), Duration::from_millis(500));
    let started = tokio::time::Instant::now();
    let summary = spawn(config(Clock::Live), source, one(page.clone()))
        .finished()
        .await;
    check(&summary);
    assert_eq!(summary.statistics.losses, []);
    assert_eq!(page.lines().len(), 400);
    assert!(started.elapsed() >= Duration::from_secs(2));
}

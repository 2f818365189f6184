//! A replay prints the same bytes wherever its actors run and however its source hands over.

use ecapture_actors::{Clock, Placement};
use ecapture_protocols::{CapturedEvent, Close, Direction};

use crate::support::{Random, close, config, on_socket, plain, replay};

/// A recording with requests and answers, silences, closes, failures and fd reuse.
fn recording(seed: u64, count: u64) -> Vec<CapturedEvent> {
    let mut random = Random::new(seed);
    let mut at_ms = 0;
    (0..count)
        .map(|number| {
            at_ms += [0, 0, 0, 1, 1, 7, 60, 150, 1_500][random.below(9)];
            let sock = random.below(20) as u64 + 1;
            let direction = [Direction::Read, Direction::Write][random.below(2)];
            let text = match random.below(12) {
                0 => "!panic\n".to_owned(),
                1 | 2 => format!(">{number}\n"),
                3 | 4 => format!("?{number}\n"),
                5 => format!("part {number} "),
                6 => return close(Close::Socket { sock }, at_ms),
                _ => format!("line {number}\nnext {number}\n"),
            };
            let event = if sock < 5 {
                plain(u32::try_from(sock).unwrap(), direction, at_ms, &text)
            } else {
                on_socket(sock, direction, at_ms, &text)
            };
            CapturedEvent::Data(event)
        })
        .collect()
}

#[actix::test]
async fn the_same_bytes_on_any_number_of_arbiters() {
    for seed in 1..=5 {
        let events = recording(seed, 3_000);
        let mut config = config(Clock::Stream);
        config.limits.failures_per_run = usize::MAX;
        config.limits.max_workers = 30;
        let (expected, summary) = replay(config.clone(), events.clone(), 64).await;
        assert!(summary.statistics.restarts > 10, "the recording has failures");
        assert!(
            summary.statistics.shed_connections > 0,
            "the recording reaches the limit"
        );
        for worker_arbiters in [1, 2, 3] {
            config.placement = Placement::Threads { worker_arbiters };
            let (text, threaded) = replay(config.clone(), events.clone(), 64).await;
            assert!(text == expected, "seed {seed}, {worker_arbiters} arbiters");
            assert_eq!(threaded.statistics.losses, summary.statistics.losses);
        }
    }
}

#[actix::test]
async fn the_same_bytes_however_the_source_hands_over() {
    let events = recording(9, 2_000);
    let mut config = config(Clock::Stream);
    config.limits.failures_per_run = usize::MAX;
    let (expected, _) = replay(config.clone(), events.clone(), 1).await;
    for batch in [2, 17, 100, 5_000] {
        let (text, _) = replay(config.clone(), events.clone(), batch).await;
        assert!(text == expected, "batches of {batch}");
    }
}

#[actix::test]
async fn records_come_in_the_order_of_the_events_that_completed_them() {
    let events: Vec<CapturedEvent> = (0..1_000)
        .map(|number| CapturedEvent::Data(plain(number % 50 + 1, Direction::Read, 0, &format!("{number}\n"))))
        .collect();
    let (text, _) = replay(config(Clock::Stream), events, 10).await;
    let numbers: Vec<u32> = text
        .lines()
        .map(|line| line.split_once('|').unwrap().1.parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
}

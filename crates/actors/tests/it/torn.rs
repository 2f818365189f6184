//! Outputs that fail in the middle of a record: no reader of lines ever sees half of one joined to another.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ecapture_actors::{Clock, Outcome, Resumption, SinkPolicy, SinkWriter, Summary, spawn};
use ecapture_protocols::{CapturedEvent, Direction};

use crate::support::{Feed, check, config, on_socket, one, with_policy};

const RECORDS: u64 = 3;

/// Takes `left` bytes, fails `failures` times, and then takes everything.
#[derive(Clone)]
struct Torn {
    left: usize,
    failures: u32,
    resumption: Resumption,
    /// The bytes written to each of the places.
    places: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl SinkWriter for Torn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = if self.failures == 0 {
            bytes.len()
        } else {
            self.left.min(bytes.len())
        };
        if taken == 0 {
            self.failures -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.left = self.left.saturating_sub(taken);
        let mut places = self.places.lock().unwrap();
        places.last_mut().unwrap().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        if self.resumption == Resumption::NewPlace {
            self.places.lock().unwrap().push(Vec::new());
        }
        Ok(self.resumption)
    }
}

fn line(number: u64) -> CapturedEvent {
    CapturedEvent::Data(on_socket(1, Direction::Write, 0, &format!("line {number}\n")))
}

/// Writes the records, `at_once` or one by one, to an output that fails after `after` bytes.
async fn run(
    after: usize,
    failures: u32,
    policy: SinkPolicy,
    at_once: bool,
    resumption: Resumption,
) -> (Vec<String>, Summary) {
    let writer = Torn {
        left: after,
        failures,
        resumption,
        places: Arc::new(Mutex::new(vec![Vec::new()])),
    };
    let (feed, source) = Feed::new();
    let handle = spawn(config(Clock::Live), source, with_policy(policy, writer.clone()));
    if at_once {
        feed.batch((0..RECORDS).map(line).collect());
    } else {
        for number in 0..RECORDS {
            feed.send(line(number));
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    drop(feed);
    let summary = handle.finished().await;
    check(&summary);
    assert!(
        matches!(summary.outcome, Outcome::Complete),
        "{:?}",
        summary.outcome
    );
    let places = writer.places.lock().unwrap();
    let texts = places
        .iter()
        .map(|place| String::from_utf8(place.clone()).unwrap());
    (texts.collect(), summary)
}

/// The numbers of the lines of all places. Each is whole, but for the last of a place that was left.
fn numbers(places: &[String]) -> Vec<u64> {
    let mut numbers = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let whole = place.rfind('\n').map_or(0, |end| end + 1);
        assert!(whole == place.len() || index + 1 < places.len(), "{places:?}");
        for line in place[..whole].lines() {
            let number = line.strip_prefix("1_1_app_5_1_10.0.0.1:1-10.0.0.2:443|line ");
            numbers.push(
                number
                    .and_then(|number| number.parse().ok())
                    .unwrap_or_else(|| panic!("{places:?}")),
            );
        }
    }
    numbers
}

async fn try_every_split(policy: SinkPolicy, check: impl Fn(&[u64], &Summary, usize)) {
    tokio::time::pause();
    let (whole, _) = run(usize::MAX, 0, policy, true, Resumption::SamePlace).await;
    let record = whole[0].len() / usize::try_from(RECORDS).unwrap();
    for after in 0..whole[0].len() {
        for failures in [1, 3] {
            for at_once in [true, false] {
                for resumption in [Resumption::SamePlace, Resumption::NewPlace] {
                    let (places, summary) = run(after, failures, policy, at_once, resumption).await;
                    let numbers = numbers(&places);
                    assert!(numbers.is_sorted_by(|one, next| one < next), "{places:?}");
                    assert_eq!(
                        numbers.len() as u64,
                        summary.statistics.written.events,
                        "{places:?}"
                    );
                    check(&numbers, &summary, after / record);
                }
            }
        }
    }
}

#[actix::test]
async fn a_retried_output_has_every_record_once_wherever_it_broke() {
    try_every_split(SinkPolicy::Retry, |numbers, summary, _| {
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(summary.statistics.losses, []);
    })
    .await;
}

/// Every record that was begun is completed, so whatever is lost is lost as a whole.
#[actix::test]
async fn a_dropping_output_loses_whole_records_wherever_it_broke() {
    try_every_split(SinkPolicy::Drop, |numbers, summary, written| {
        assert!(numbers.len() >= written);
        let lost: u64 = summary.statistics.losses.iter().map(|row| row.events).sum();
        assert_eq!(lost, RECORDS - numbers.len() as u64);
    })
    .await;
}

/// The run ends there, so half a record may be the last of the output, and it counts as lost.
#[actix::test]
async fn an_output_that_fails_for_good_ends_with_at_most_half_a_record() {
    tokio::time::pause();
    for after in 0..100 {
        let writer = Torn {
            left: after,
            failures: u32::MAX,
            resumption: Resumption::SamePlace,
            places: Arc::new(Mutex::new(vec![Vec::new()])),
        };
        let (feed, source) = Feed::new();
        let handle = spawn(config(Clock::Live), source, one(writer.clone()));
        feed.batch((0..RECORDS).map(line).collect());
        let summary = handle.finished().await;
        check(&summary);
        let mut places = writer.places.lock().unwrap().clone();
        places.push(Vec::new());
        let texts: Vec<String> = places
            .into_iter()
            .map(|place| String::from_utf8(place).unwrap())
            .collect();
        let written = numbers(&texts).len() as u64;
        assert_eq!(written, summary.statistics.written.events);
        let lost: u64 = summary.statistics.losses.iter().map(|row| row.events).sum();
        assert_eq!(written + lost, RECORDS);
    }
}

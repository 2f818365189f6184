//! The numbers of connections.

use std::sync::Arc;

use ecapture_actors::{Clock, Placement};
use ecapture_protocols::message::Content;
use ecapture_protocols::{
    CapturedEvent, Close, DataEvent, Direction, Format, Message, Origin, Records, View,
};

use crate::support::{close, config, on_socket, plain, replay_as};

/// `NUMBER DIRECTION TEXT`, one line per message.
struct Numbers;

impl Format for Numbers {
    fn view(&self) -> View {
        View::Text
    }

    fn write(&self, origin: &Origin, messages: &[Message], records: &mut Records) {
        let stream = origin.stream.as_ref().unwrap();
        for message in messages {
            let Content::Raw(raw) = &message.content else {
                continue;
            };
            let text = std::str::from_utf8(&raw.data).unwrap();
            let line = format!("{} {} {text}\n", stream.connection, stream.direction.as_str());
            records.bytes().extend_from_slice(line.as_bytes());
            records.end(1);
        }
    }
}

async fn numbers(events: Vec<CapturedEvent>) -> Vec<String> {
    let mut seen = Vec::new();
    for (placement, batch) in [(1, 1), (1, 100), (3, 2)] {
        let mut config = config(Clock::Stream);
        config.placement = Placement::Threads {
            worker_arbiters: placement,
        };
        let (text, _) = replay_as(config, Arc::new(Numbers), events.clone(), batch).await;
        seen.push(text);
    }
    assert!(seen.iter().all(|text| *text == seen[0]), "{seen:#?}");
    seen[0].lines().map(str::to_owned).collect()
}

fn data(event: DataEvent) -> CapturedEvent {
    CapturedEvent::Data(event)
}

#[actix::test]
async fn both_directions_have_the_number_of_their_connection() {
    let events = vec![
        data(on_socket(77, Direction::Write, 0, "a\n")),
        data(on_socket(78, Direction::Read, 1, "b\n")),
        data(plain(4, Direction::Write, 2, "c\n")),
        data(on_socket(77, Direction::Read, 3, "d\n")),
        data(plain(4, Direction::Read, 4, "e\n")),
        data(on_socket(78, Direction::Write, 5, "f\n")),
    ];
    let expected = [
        "1 write a",
        "2 read b",
        "3 write c",
        "1 read d",
        "3 read e",
        "2 write f",
    ];
    assert_eq!(numbers(events).await, expected);
}

#[actix::test]
async fn what_comes_after_a_close_has_the_next_number() {
    let ended = || close(Close::Socket { sock: 77 }, 2);
    let events = vec![
        data(on_socket(77, Direction::Write, 0, "a\n")),
        // Nothing uses the key between two closes: no number is skipped.
        ended(),
        ended(),
        data(on_socket(77, Direction::Read, 3, "b\n")),
        data(on_socket(77, Direction::Write, 4, "c\n")),
        data(on_socket(78, Direction::Write, 5, "d\n")),
    ];
    assert_eq!(
        numbers(events).await,
        ["1 write a", "2 read b", "2 write c", "3 write d"]
    );
}

#[actix::test]
async fn a_connection_keeps_its_number_while_it_sleeps() {
    let events = vec![
        data(plain(4, Direction::Write, 0, "a\n")),
        data(on_socket(77, Direction::Write, 0, "b\n")),
        data(on_socket(78, Direction::Write, 40_000, "c\n")),
        data(on_socket(77, Direction::Write, 80_000, "d\n")),
        data(on_socket(77, Direction::Read, 80_000, "e\n")),
        data(plain(4, Direction::Read, 80_001, "f\n")),
        data(plain(4, Direction::Write, 80_002, "g\n")),
    ];
    let expected = [
        "1 write a",
        "2 write b",
        "3 write c",
        "2 write d",
        "2 read e",
        "1 read f",
        "1 write g",
    ];
    assert_eq!(numbers(events).await, expected);
}

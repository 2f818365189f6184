//! A recording of many connections, and what a run says about what it lost of it.

use std::fs;
use std::path::Path;

use ecapture_protocols::recording::line;
use ecapture_protocols::{
    AddressSource, CapturedEvent, Close, DataEvent, Direction, Process, Side, Socket, Tuple,
};

use super::program::{Finished, run};

const CONNECTIONS: u16 = 100;
const EXCHANGES: u16 = 10;
/// A request and a response each.
pub(crate) const EVENTS: u64 = 2 * EXCHANGES as u64 * CONNECTIONS as u64;

/// A recording of keep-alive connections, interleaved in another order each time, so that injections at
/// regular numbers of events concern different ones; every path and body is its own.
pub(crate) fn recording(folder: &Path) -> String {
    let mut out = Vec::new();
    line::Header::new(None).write(&mut out);
    let mut clock = 0;
    for exchange in 0..EXCHANGES {
        for place in 0..CONNECTIONS {
            let connection = (place * 7 + exchange * 13) % CONNECTIONS;
            clock += 1_000_000;
            let name = format!("c{connection}e{exchange}");
            let request = format!(
                "POST /{name} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{name}",
                name.len()
            );
            let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            line::write(&data(connection, Direction::Write, clock, request), &mut out);
            line::write(&data(connection, Direction::Read, clock + 1, response), &mut out);
        }
    }
    for connection in 0..CONNECTIONS {
        let close = Close::Socket {
            sock: u64::from(connection) + 1,
        };
        let event = CapturedEvent::Close {
            timestamp_ns: clock + 2,
            close,
        };
        line::write(&event, &mut out);
    }
    let file = folder.join("events.jsonl");
    fs::write(&file, out).expect("a written file");
    file.to_str().expect("a plain path").to_owned()
}

fn data(connection: u16, direction: Direction, timestamp_ns: u64, payload: String) -> CapturedEvent {
    CapturedEvent::Data(DataEvent {
        timestamp_ns,
        process: Process {
            pid: 1,
            tid: 1,
            uid: None,
            comm: "client".into(),
        },
        container_id: None,
        program: None,
        direction,
        fd: Some(u32::from(connection) + 3),
        session: None,
        socket: Some(Socket {
            sock: u64::from(connection) + 1,
            tuple: Tuple {
                source: ([10, 0, 0, 1], 10_000 + connection).into(),
                destination: ([10, 0, 0, 2], 443).into(),
            },
            local: Some(Side::Source),
            address_source: AddressSource::Exact,
        }),
        tls_version: None,
        stream_offset: None,
        joined_late: None,
        payload: payload.into_bytes().into(),
    })
}

/// The number of events in the line of the ledger about `reason`.
pub(crate) fn lost_events(finished: &Finished, reason: &str) -> u64 {
    let row = finished
        .stderr
        .lines()
        .find(|line| line.contains(&format!(" {reason}: ")))
        .unwrap_or_else(|| panic!("no loss {reason}:\n{}", finished.stderr));
    let (_, figures) = row.split_once(&format!(" {reason}: ")).expect("found above");
    figures
        .split(' ')
        .next()
        .and_then(|count| count.parse().ok())
        .expect("a count")
}

/// The figures at the end: what came in is what went out and the losses.
pub(crate) fn assert_balanced(finished: &Finished) {
    assert!(!finished.stderr.contains("do not add up"), "{}", finished.stderr);
}

/// And none of them is a loss.
pub(crate) fn assert_nothing_lost(finished: &Finished) {
    assert_balanced(finished);
    assert!(
        finished.stderr.contains("nothing was lost"),
        "{}",
        finished.stderr
    );
}

/// Replays `file` as JSON Lines with more arguments.
pub(crate) fn replay(file: &str, arguments: &[&str]) -> Finished {
    let finished = run(&[&["replay", file, "--format", "jsonl"], arguments].concat());
    assert_balanced(&finished);
    finished
}

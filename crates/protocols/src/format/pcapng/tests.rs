use super::*;
use crate::event::{
    AddressSource, Close, Comm, DataEvent, Direction, JoinedLate, Process, Side, Socket, Tuple,
};
use crate::limits::PCAPNG_CONNECTIONS;
use crate::pcapng::{Block, Reader, Step, option};

const CURL: u64 = 0x10;

fn socket(sock: u64, local: Side, addresses: (&str, &str)) -> Socket {
    Socket {
        sock,
        tuple: Tuple {
            source: addresses.0.parse().unwrap(),
            destination: addresses.1.parse().unwrap(),
        },
        local: Some(local),
        address_source: AddressSource::Exact,
    }
}

fn event(direction: Direction, offset: u64, payload: &[u8]) -> DataEvent {
    DataEvent {
        timestamp_ns: 5,
        process: Process {
            pid: 7,
            tid: 8,
            uid: None,
            comm: Comm::from("curl"),
        },
        container_id: None,
        program: None,
        direction,
        fd: Some(3),
        session: Some(CURL),
        socket: Some(socket(1, Side::Source, ("10.0.0.1:40000", "10.0.0.2:443"))),
        tls_version: None,
        stream_offset: Some(offset),
        joined_late: None,
        payload: payload.to_vec().into(),
    }
}

fn session_end() -> CapturedEvent {
    CapturedEvent::Close {
        timestamp_ns: 9,
        close: Close::Session {
            pid: 7,
            session: CURL,
        },
    }
}

/// The packets of `events`: ports, flags, sequence and acknowledged numbers, payload, comment.
fn packets(events: impl IntoIterator<Item = CapturedEvent>) -> Vec<String> {
    let format = Pcapng::new(None, None);
    let mut file = Vec::new();
    format.begin(&mut file);
    for event in events {
        format.write(&event, &mut file);
    }
    let mut reader = Reader::default();
    let mut at = 0;
    let mut seen = Vec::new();
    while let Step::Block { length, block } = reader.read(&file[at..]).unwrap() {
        at += length;
        if let Block::Packet(packet) = block {
            let comment = packet.options.get(option::COMMENT).unwrap();
            seen.push(format!(
                "{} | {}",
                shown(packet.data),
                std::str::from_utf8(comment).unwrap()
            ));
        }
    }
    assert_eq!(at, file.len());
    seen
}

fn shown(packet: &[u8]) -> String {
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let addresses = if header == 20 {
        &packet[12..20]
    } else {
        &packet[8..40]
    };
    let tcp = &packet[header..];
    assert_checksum(addresses, tcp);
    let number = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
    let flags = match tcp[13] {
        0x02 => "SYN",
        0x12 => "SYN,ACK",
        0x10 => "ACK",
        0x11 => "FIN,ACK",
        0x18 => "PSH,ACK",
        _ => "?",
    };
    let data = usize::from(tcp[12] >> 4) * 4;
    let payload = &tcp[data..];
    let payload = if payload.len() > 20 {
        format!("{} bytes", payload.len())
    } else {
        payload.escape_ascii().to_string()
    };
    format!(
        "{}>{} {flags} {} {} {payload}",
        number(0) >> 16,
        number(0) & 0xFFFF,
        number(4),
        number(8)
    )
}

fn assert_checksum(addresses: &[u8], tcp: &[u8]) {
    let mut whole = addresses.to_vec();
    whole.extend_from_slice(&[0, 6]);
    whole.extend_from_slice(&u16::try_from(tcp.len()).unwrap().to_be_bytes());
    whole.extend_from_slice(tcp);
    whole.resize(whole.len().next_multiple_of(2), 0);
    let sum: u64 = whole
        .chunks(2)
        .map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    assert_eq!(sum % 0xFFFF, 0, "the checksum is right");
}

#[test]
fn a_connection_has_a_handshake_data_and_an_end() {
    let seen = packets([
        CapturedEvent::Data(event(Direction::Write, 0, b"ping")),
        CapturedEvent::Data(event(Direction::Read, 0, b"answer")),
        session_end(),
        session_end(),
    ]);
    let expected = [
        "40000>443 SYN 0 0 ",
        "443>40000 SYN,ACK 0 1 ",
        "40000>443 ACK 1 1 ",
        "40000>443 PSH,ACK 1 1 ping",
        "443>40000 PSH,ACK 1 5 answer",
        "40000>443 FIN,ACK 5 7 ",
        "443>40000 FIN,ACK 7 6 ",
        "40000>443 ACK 6 8 ",
    ];
    let with_process = |packet: &str| {
        let preposition = if packet.starts_with("443") { "to" } else { "from" };
        format!("{packet} | {preposition} pid 7 (curl)")
    };
    assert_eq!(seen, expected.map(with_process));
}

#[test]
fn missing_bytes_are_missing_sequence_numbers() {
    let seen = packets([
        CapturedEvent::Data(event(Direction::Write, 0, b"a")),
        CapturedEvent::Data(event(Direction::Write, 11, b"b")),
        CapturedEvent::Data(event(Direction::Write, 0, b"c")),
    ]);
    assert_eq!(
        seen[4],
        "40000>443 PSH,ACK 12 1 b | from pid 7 (curl); 10 bytes are missing before this"
    );
    assert!(
        seen[5].starts_with("40000>443 PSH,ACK 14 1 c | from pid 7 (curl); an unknown number"),
        "{}",
        seen[5]
    );
}

#[test]
fn a_connection_that_was_joined_late_has_no_handshake() {
    let late = DataEvent {
        joined_late: Some(JoinedLate::OpenBeforeCapture),
        ..event(Direction::Read, 0, b"tail")
    };
    let seen = packets([CapturedEvent::Data(late)]);
    assert_eq!(seen, ["443>40000 PSH,ACK 1 1 tail | to pid 7 (curl)"]);
}

#[test]
fn http2_is_on_a_port_of_http_and_the_real_one_is_named() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let seen = packets([CapturedEvent::Data(event(Direction::Write, 0, preface))]);
    let comment = "from pid 7 (curl); real addresses 10.0.0.1:40000-10.0.0.2:443";
    assert_eq!(seen[3], format!("40000>80 PSH,ACK 1 1 24 bytes | {comment}"));
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    let seen = packets([CapturedEvent::Data(event(Direction::Read, 0, settings))]);
    assert!(seen[3].starts_with("80>40000 PSH,ACK"), "{}", seen[3]);
    let mut proxy = event(Direction::Write, 0, preface);
    proxy.socket = Some(socket(1, Side::Source, ("[::1]:5", "[::1]:8080")));
    let seen = packets([CapturedEvent::Data(proxy)]);
    assert!(seen[3].starts_with("5>8080 PSH,ACK"), "{}", seen[3]);
}

#[test]
fn unknown_addresses_have_places_and_who_begins_is_the_client() {
    let without = |direction| DataEvent {
        socket: None,
        ..event(direction, 0, b"x")
    };
    for (direction, preposition) in [(Direction::Write, "from"), (Direction::Read, "to")] {
        let seen = packets([CapturedEvent::Data(without(direction))]);
        let comment = format!("{preposition} pid 7 (curl); addresses unknown");
        assert_eq!(seen[3], format!("1024>80 PSH,ACK 1 1 x | {comment}"));
    }
}

/// Client and server on one host, both captured: each is a connection of its own, with all of its bytes.
#[test]
fn two_connections_of_the_same_addresses_are_kept_apart() {
    let server = DataEvent {
        session: Some(0x20),
        socket: Some(socket(2, Side::Destination, ("10.0.0.1:40000", "10.0.0.2:443"))),
        ..event(Direction::Read, 0, b"ping")
    };
    let seen = packets([
        CapturedEvent::Data(event(Direction::Write, 0, b"ping")),
        CapturedEvent::Data(server),
    ]);
    assert_eq!(seen[3], "40000>443 PSH,ACK 1 1 ping | from pid 7 (curl)");
    assert_eq!(
        seen[7],
        "1024>443 PSH,ACK 1 1 ping | to pid 7 (curl); real addresses 10.0.0.1:40000-10.0.0.2:443"
    );
}

#[test]
fn long_payloads_are_several_segments() {
    let seen = packets([CapturedEvent::Data(event(
        Direction::Write,
        0,
        &vec![b'x'; 130_000],
    ))]);
    let payloads: Vec<&str> = seen[3..]
        .iter()
        .filter_map(|packet| packet.split(" | ").next())
        .collect();
    assert_eq!(
        payloads,
        [
            "40000>443 PSH,ACK 1 1 61440 bytes",
            "40000>443 PSH,ACK 61441 1 61440 bytes",
            "40000>443 PSH,ACK 122881 1 7120 bytes"
        ]
    );
}

#[test]
fn the_end_of_a_process_ends_its_connections() {
    let seen = packets([
        CapturedEvent::Data(event(Direction::Write, 0, b"a")),
        CapturedEvent::Close {
            timestamp_ns: 6,
            close: Close::Process { pid: 7 },
        },
    ]);
    assert_eq!(seen.len(), 7, "{seen:?}");
}

/// The library hands out what it has after the socket was closed; then another connection has its addresses.
#[test]
fn a_connection_with_a_session_outlives_its_socket() {
    let closed = CapturedEvent::Close {
        timestamp_ns: 6,
        close: Close::Socket { sock: 1 },
    };
    let next = DataEvent {
        session: Some(0x20),
        ..event(Direction::Write, 0, b"next")
    };
    let seen = packets([
        CapturedEvent::Data(event(Direction::Write, 0, b"a")),
        closed.clone(),
        CapturedEvent::Data(event(Direction::Read, 0, b"rest")),
        CapturedEvent::Data(next),
    ]);
    assert!(seen[4].starts_with("443>40000 PSH,ACK 1 2 rest"), "{seen:?}");
    assert!(seen[5].starts_with("40000>443 FIN,ACK 2 5"), "{seen:?}");
    assert!(seen[11].starts_with("40000>443 PSH,ACK 1 1 next"), "{seen:?}");
    let without = DataEvent {
        session: None,
        ..event(Direction::Write, 0, b"a")
    };
    assert_eq!(packets([CapturedEvent::Data(without), closed]).len(), 7);
}

/// What was used least is forgotten; it goes on where it was, without a handshake.
#[test]
fn the_table_is_bounded_and_what_was_forgotten_goes_on() {
    let mut table = Table::default();
    let mut out = Vec::new();
    let numbered = |number: u64, offset: u64| DataEvent {
        session: Some(number),
        socket: None,
        ..event(Direction::Write, offset, b"x")
    };
    for number in 0..PCAPNG_CONNECTIONS as u64 {
        table.data(&numbered(number, 0), 0, &mut out);
    }
    table.data(&numbered(0, 1), 0, &mut out);
    table.data(&numbered(u64::MAX, 0), 0, &mut out);
    for (number, packets) in [(0, 1), (1, 1), (PCAPNG_CONNECTIONS as u64, 4)] {
        out.clear();
        table.data(&numbered(number, u64::from(packets == 1)), 0, &mut out);
        let found = out.windows(4).filter(|bytes| *bytes == b"\x45\0\0\x29").count();
        assert_eq!(found, 1, "{number}");
        assert_eq!(out.len() > 300, packets == 4, "{number}");
    }
}

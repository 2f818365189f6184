use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::event::{AddressSource, CommandEnd, Process, Shell, ShellCommand, Socket, SqlQuery, Tuple};
use crate::message::{Body, Field, Gap, GapReason, Http1Message, Http2Frame, Part, Raw};

const HEAD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

fn origin(direction: Direction, local: Option<Side>) -> Origin {
    Origin {
        process: Process {
            pid: 7,
            tid: 8,
            uid: None,
            comm: "curl".into(),
        },
        container_id: None,
        program: None,
        stream: Some(StreamOrigin {
            connection: 1,
            uuid: "7_8_curl_5_1".to_owned(),
            direction,
            fd: None,
            session: 0,
            socket: Some(Socket {
                sock: 1,
                tuple: Tuple {
                    source: "10.0.0.2:5000".parse().unwrap(),
                    destination: "[2001:db8::1]:443".parse().unwrap(),
                },
                local,
                address_source: AddressSource::Exact,
            }),
            tls_version: None,
            joined_late: None,
            other_end: false,
        }),
    }
}

fn message(content: Content) -> Message {
    Message {
        first_ns: 1_000,
        last_ns: 2_000,
        exchange: None,
        content,
    }
}

fn request() -> Message {
    message(Content::Http1(Box::new(Http1Message {
        kind: Http1Kind::Request,
        head: Bytes::from_static(HEAD),
        body: Body {
            complete: true,
            ..Body::default()
        },
        trailers: Bytes::new(),
        anomalies: Vec::new(),
        part: Part::Whole,
    })))
}

fn raw(data: Vec<u8>) -> Message {
    message(Content::Raw(Raw { data: data.into() }))
}

fn frame(detail: Http2Detail) -> Message {
    message(Content::Http2Frame(Box::new(Http2Frame {
        frame_type: 0,
        flags: 0,
        stream: 1,
        length: 0,
        detail,
    })))
}

fn fields(name: &'static str, promised: Option<u32>) -> Message {
    frame(Http2Detail::Fields {
        fields: vec![Field {
            name: Some(Bytes::from_static(name.as_bytes())),
            value: Some(Bytes::from_static(b"x")),
            sensitive: false,
        }],
        promised,
        error: None,
    })
}

fn entries(format: &Protobuf, origin: &Origin, messages: &[Message]) -> Vec<Event> {
    let mut out = Records::default();
    format.write(origin, messages, &mut out);
    let entry = |record: &[u8]| match format.framing {
        Framing::Delimited => LogEntry::decode_length_delimited(record).unwrap(),
        Framing::Message { .. } => LogEntry::decode(record).unwrap(),
    };
    let event = |entry: LogEntry| match entry.payload {
        Some(Payload::EventPayload(event)) if entry.log_type() == LogType::Event => event,
        _ => panic!("not an event: {entry:?}"),
    };
    out.iter().map(entry).map(event).collect()
}

fn event(messages: &[Message]) -> Event {
    let origin = origin(Direction::Write, Some(Side::Source));
    let mut all = entries(&Protobuf::default(), &origin, messages);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn every_field_is_written_with_its_value() {
    let expected = Event {
        timestamp: 1_000,
        uuid: "7_8_curl_5_1".to_owned(),
        src_ip: "10.0.0.2".to_owned(),
        src_port: 5000,
        dst_ip: "2001:db8::1".to_owned(),
        dst_port: 443,
        pid: 7,
        pname: "curl".to_owned(),
        r#type: 1,
        length: 18,
        payload: HEAD.to_vec(),
    };
    assert_eq!(event(&[request()]), expected);
}

#[test]
fn unknown_addresses_are_empty() {
    let mut unknown = origin(Direction::Write, None);
    unknown.stream.as_mut().unwrap().socket = None;
    let all = entries(&Protobuf::default(), &unknown, &[request()]);
    assert_eq!(
        (&*all[0].src_ip, all[0].src_port, &*all[0].dst_ip, all[0].dst_port),
        ("", 0, "", 0)
    );
}

#[test]
fn the_time_is_the_wall_clock_when_that_is_known() {
    let format = Protobuf {
        wall_clock_offset_ns: Some(1_700_000_000_000_000_000),
        ..Protobuf::default()
    };
    let all = entries(&format, &origin(Direction::Read, None), &[request()]);
    assert_eq!(all[0].timestamp, 1_700_000_000_000_001_000);
}

#[test]
fn http2_frames_belong_to_the_sender_of_their_fields_or_else_to_the_opener() {
    assert_eq!(event(&[fields(":method", None)]).r#type, 2);
    assert_eq!(event(&[fields(":status", None)]).r#type, 4);
    assert_eq!(event(&[fields(":method", Some(2))]).r#type, 4);
    for (direction, local, expected) in [
        (Direction::Write, Some(Side::Source), 2),
        (Direction::Read, Some(Side::Destination), 2),
        (Direction::Read, Some(Side::Source), 4),
        (Direction::Write, Some(Side::Destination), 4),
        (Direction::Write, None, 0),
    ] {
        let all = entries(
            &Protobuf::default(),
            &origin(direction, local),
            &[frame(Http2Detail::None)],
        );
        assert_eq!(all[0].r#type, expected, "{direction:?} {local:?}");
    }
}

#[test]
fn an_entry_is_a_record_of_the_text_format() {
    let both = [
        frame(Http2Detail::None),
        frame(Http2Detail::None),
        raw(b"x".to_vec()),
    ];
    let origin = origin(Direction::Write, Some(Side::Source));
    for hex in [false, true] {
        let text = Text {
            hex,
            ..Text::default()
        };
        let mut records = Records::default();
        text.write(&origin, &both, &mut records);
        let format = Protobuf {
            text,
            ..Protobuf::default()
        };
        let payloads: Vec<_> = entries(&format, &origin, &both)
            .into_iter()
            .map(|event| event.payload)
            .collect();
        let bodies = records.iter().map(|record| {
            let header = record.iter().position(|&byte| byte == b'\n').unwrap() + 1;
            record[header..].to_vec()
        });
        assert_eq!(payloads, bodies.collect::<Vec<_>>(), "hex {hex}");
    }
}

#[test]
fn statements_and_commands_are_entries_with_their_text() {
    let query = SqlQuery {
        text: Bytes::from_static(b"select 1"),
        ..SqlQuery::default()
    };
    let command = ShellCommand {
        shell: Shell::Bash,
        text: Bytes::from_static(b"echo a"),
        cut: false,
        end: CommandEnd::Finished,
        status: Some(1),
        duration_ns: None,
        directory: None,
        login: Arc::default(),
        redacted: false,
    };
    let of_process = Origin {
        stream: None,
        ..origin(Direction::Write, None)
    };
    for (fact, parts) in [
        (Fact::Sql(Box::new(query)), ["Status=", "select 1\n"]),
        (Fact::ShellCommand(Box::new(command)), ["Retvalue:1", "echo a\n"]),
    ] {
        let messages = [message(Content::Fact(Box::new(fact)))];
        let written = entries(&Protobuf::default(), &of_process, &messages);
        let [entry] = &written[..] else {
            panic!("{written:?}")
        };
        assert_eq!(
            (entry.pid, entry.pname.as_str(), entry.uuid.as_str()),
            (7, "curl", "")
        );
        let payload = std::str::from_utf8(&entry.payload).unwrap();
        assert!(parts.iter().all(|part| payload.contains(part)), "{payload}");
        assert_eq!(entry.length as usize, payload.len());
    }
}

#[test]
fn gaps_are_entries_too() {
    let gap = message(Content::Gap(Gap {
        reason: GapReason::KernelLoss,
        bytes: Some(3),
    }));
    let event = event(&[gap]);
    assert_eq!(event.r#type, 0);
    assert!(event.payload.starts_with(b"[ecapture: 3 bytes lost"));
}

#[test]
fn an_entry_that_is_too_long_for_its_target_is_cut_and_says_so() {
    let limit = 10_000;
    let format = Protobuf {
        framing: Framing::Message { limit },
        ..Protobuf::default()
    };
    let mut long = origin(Direction::Write, None);
    long.stream.as_mut().unwrap().uuid = "u".repeat(200);
    for len in [
        5_000,
        limit - BESIDE_PAYLOAD - 1,
        limit - BESIDE_PAYLOAD,
        limit,
        100_000,
    ] {
        let mut out = Records::default();
        format.write(&long, &[raw(vec![b'a'; len])], &mut out);
        assert!(out.as_bytes().len() <= limit, "{len}");
        let event = &entries(&format, &long, &[raw(vec![b'a'; len])])[0];
        assert_eq!(event.length as usize, event.payload.len());
        let is_cut = event.payload.ends_with(b"this output takes fewer]\n");
        assert_eq!(is_cut, len + 1 > limit - BESIDE_PAYLOAD, "{len}");
    }
}

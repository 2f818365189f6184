use bytes::Bytes;

use super::*;
use crate::event::{AddressSource, Direction, Fact, Process, ProcessTls, Side, Socket, StreamOrigin, Tuple};
use crate::message::{Body, GapReason, Http1Kind, Http1Message, Part, Raw};
use crate::text::is_steering;

fn origin(socket: Option<Socket>) -> Origin {
    Origin {
        process: Process {
            pid: 7,
            tid: 7,
            uid: None,
            comm: "curl".into(),
        },
        container_id: None,
        program: None,
        stream: Some(StreamOrigin {
            connection: 1,
            uuid: String::new(),
            direction: Direction::Read,
            fd: None,
            session: 0,
            socket,
            tls_version: None,
            joined_late: None,
            other_end: false,
        }),
    }
}

fn message(content: Content) -> Message {
    Message {
        first_ns: 1,
        last_ns: 2,
        exchange: None,
        content,
    }
}

fn raw(data: &'static [u8]) -> Message {
    message(Content::Raw(Raw {
        data: Bytes::from_static(data),
    }))
}

fn http1(head: &'static str, body: Body) -> Http1Message {
    Http1Message {
        kind: Http1Kind::Response { status: 200 },
        head: Bytes::from_static(head.as_bytes()),
        body,
        trailers: Bytes::new(),
        anomalies: Vec::new(),
        part: Part::Whole,
    }
}

fn body(data: &'static [u8]) -> Body {
    let len = data.len() as u64;
    Body {
        data: Bytes::from_static(data),
        wire_len: len,
        len,
        complete: true,
        ..Body::default()
    }
}

fn formatted(text: &Text, messages: &[Message]) -> String {
    let out = text.formatted(&origin(None), messages);
    let out = String::from_utf8(out).unwrap();
    out.replace("PID:7, Comm:curl, Src::0, Dest::0,\n", "# ")
}

fn response(head: &'static str, body: Body) -> String {
    formatted(
        &Text::default(),
        &[message(Content::Http1(Box::new(http1(head, body))))],
    )
}

#[test]
fn header_line_shows_the_addresses_as_stored() {
    let tuple = Tuple {
        source: "10.0.0.2:5000".parse().unwrap(),
        destination: "[::1]:443".parse().unwrap(),
    };
    let socket = Socket {
        sock: 1,
        tuple,
        local: None,
        address_source: AddressSource::Exact,
    };
    let out = Text::default().formatted(&origin(Some(socket)), &[raw(b"x")]);
    assert_eq!(out, b"PID:7, Comm:curl, Src:10.0.0.2:5000, Dest:[::1]:443,\nx\n");
}

#[test]
fn without_addresses_the_session_distinguishes_connections() {
    let mut origin = origin(None);
    origin.stream.as_mut().unwrap().session = 0xC000_01A0;
    let out = Text::default().formatted(&origin, &[raw(b"x")]);
    assert_eq!(
        out,
        b"PID:7, Comm:curl, Src:unknown, Dest:unknown, Session:c00001a0,\nx\n"
    );
}

#[test]
fn every_message_is_a_record_that_ends_its_line() {
    let text = Text::default();
    assert_eq!(formatted(&text, &[raw(b"a\n"), raw(b"b")]), "# a\n# b\n");
    assert_eq!(formatted(&text, &[]), "");
}

#[test]
fn binary_raw_bytes_are_dumped_whole() {
    assert_eq!(
        formatted(&Text::default(), &[raw(b"text\0and more")]),
        "# 00000000  74 65 78 74 00 61 6e 64  20 6d 6f 72 65           |text.and more|\n"
    );
}

#[test]
fn gap_is_a_mark() {
    let gap = |bytes| {
        message(Content::Gap(Gap {
            bytes,
            reason: GapReason::KernelLoss,
        }))
    };
    let text = Text::default();
    assert_eq!(
        formatted(&text, &[gap(Some(4096))]),
        "# [ecapture: 4096 bytes lost (kernel_loss)]\n"
    );
    assert_eq!(
        formatted(&text, &[gap(None)]),
        "# [ecapture: bytes lost (kernel_loss)]\n"
    );
    let late = |late| {
        let reason = GapReason::JoinedLate(late);
        formatted(&text, &[message(Content::Gap(Gap { bytes: None, reason }))])
    };
    assert_eq!(
        late(JoinedLate::OpenBeforeCapture),
        "# [ecapture: shown from the middle: the connection was open before the capture began]\n"
    );
    assert_eq!(
        late(JoinedLate::BeforeProbes),
        "# [ecapture: its beginning may be missing: the connection was opened before the probes were attached]\n"
    );
}

#[test]
fn tsize_cuts_at_exactly_that_many_bytes() {
    let text = Text {
        truncate: Some(4),
        ..Text::default()
    };
    assert_eq!(
        formatted(&text, &[raw(b"abcdef")]),
        "# abcd\n[ecapture: truncated at 4 of 6 bytes]\n"
    );
    assert_eq!(formatted(&text, &[raw(b"abcd")]), "# abcd\n");
}

#[test]
fn hex_dumps_the_formatted_text() {
    let text = Text {
        hex: true,
        truncate: Some(3),
        ..Text::default()
    };
    assert_eq!(
        formatted(&text, &[raw(b"abcdef")]),
        "# 00000000  61 62 63                                          |abc|\n\
         [ecapture: truncated at 3 of 6 bytes]\n"
    );
}

#[test]
fn incomplete_bodies_say_so() {
    let mut cut = body(b"yyy");
    cut.complete = false;
    assert_eq!(
        response("H\r\n\r\n", cut.clone()),
        "# H\r\n\r\nyyy\n[ecapture: body incomplete, 3 bytes]\n"
    );
    cut.expected = Some(10);
    assert_eq!(
        response("H\r\n\r\n", cut),
        "# H\r\n\r\nyyy\n[ecapture: body incomplete, 3 of 10 bytes]\n"
    );
}

#[test]
fn a_body_in_parts_says_when_it_has_ended() {
    let mut last = body(b"");
    last.wire_len = 126;
    let mut last = http1("", last);
    last.part = Part::Continued { final_part: true };
    assert_eq!(
        formatted(
            &Text::default(),
            &[message(Content::Http1(Box::new(last.clone())))]
        ),
        "# [ecapture: body complete, 126 bytes]\n"
    );
    last.body.complete = false;
    assert_eq!(
        formatted(&Text::default(), &[message(Content::Http1(Box::new(last)))]),
        "# [ecapture: body incomplete, 126 bytes]\n"
    );
}

#[test]
fn binary_bodies_are_shortened_or_named() {
    let image = response("", body(b"\x89PNG\r\n\x1a\n\0\0"));
    assert_eq!(image, "# [ecapture: PNG image, 10 bytes]\n");
    let mut declared = body(b"\x01\x02");
    declared.content_type = Some(Bytes::from_static(b"Image/x-own; v=1"));
    assert_eq!(response("", declared), "# [ecapture: Image/x-own, 2 bytes]\n");
    let long = response("", body(&[0; 1000]));
    assert_eq!(long.lines().count(), 17);
    assert!(
        long.ends_with("[ecapture: binary, 256 of 1000 bytes shown]\n"),
        "{long}"
    );
}

#[test]
fn bodies_are_shown_in_utf_8() {
    let mut latin1 = body(b"caf\xE9");
    latin1.content_type = Some(Bytes::from_static(b"text/plain; charset=latin1"));
    assert_eq!(response("", latin1), "# café\n");
}

#[test]
fn a_cut_character_does_not_make_text_binary() {
    let mut cut = body("aé".as_bytes());
    cut.data.truncate(2);
    cut.complete = false;
    let mut out = Vec::new();
    let messages = [message(Content::Http1(Box::new(http1("", cut))))];
    out.extend(Text::default().formatted(&origin(None), &messages));
    assert!(out.starts_with(b"PID:7, Comm:curl, Src::0, Dest::0,\na\xC3\n[ecapture"));
}

/// A message whose name, media type and body were chosen by a peer or a user.
fn forged() -> (Origin, Message) {
    let mut origin = origin(None);
    origin.process.comm = "a,\nPID:1, \x1b[2J".into();
    let mut content = body(b"\0\x01\x02");
    content.content_type = Some(Bytes::from_static(
        b"image/png]\nPID:1\n\x1b]0;title\x07[ecapture: x",
    ));
    let head = "HTTP/1.1 200 OK\r\nA: \x1b]52;c;eA==\x07\r\n[ecapture: 9 bytes lost (shed)]\r\n\r\n";
    (origin, message(Content::Http1(Box::new(http1(head, content)))))
}

#[test]
fn names_and_marks_are_one_line_wherever_they_go() {
    let (origin, message) = forged();
    let out = Text::default().formatted(&origin, &[message]);
    let text = String::from_utf8(out).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    assert_eq!(header, "PID:7, Comm:a,\\nPID:1, \\u{1b}[2J, Src::0, Dest::0,");
    let marks: Vec<&str> = rest.lines().filter(|line| line.contains("image/png")).collect();
    assert_eq!(marks, ["[ecapture: image/png]\\nPID:1\\n\\u{1b}]0, 3 bytes]"]);
}

#[test]
fn a_program_is_named_where_its_thread_has_another_name() {
    let header = |program: &str, comm: &str| {
        let mut origin = origin(None);
        origin.program = Some(program.into());
        origin.process.comm = comm.into();
        let mut out = Vec::new();
        Text::default().write_header(&origin, 0, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert!(header("curl", "curl").contains(", Comm:curl, Src:"));
    assert!(header("python3.11", "python3").contains(", Comm:python3, Src:"));
    assert!(header("a-name-that-is-too-long", "a-name-that-is-").contains(", Comm:a-name-that-is-, Src:"));
    assert!(header("java", "http-worker").contains(", Comm:http-worker, Program:java, Src:"));
    assert!(header("a\x1b[2Jb", "x").contains(", Program:a\\u{1b}[2Jb, "));
}

#[test]
fn nothing_captured_steers_a_terminal_or_looks_like_our_own_lines() {
    let (origin, message) = forged();
    for color in [false, true] {
        let terminal = Text {
            terminal: true,
            color,
            ..Text::default()
        };
        let out = terminal.formatted(&origin, std::slice::from_ref(&message));
        let text = String::from_utf8(out).unwrap();
        let plain = text
            .replace("\x1b[36m", "")
            .replace("\x1b[33m", "")
            .replace("\x1b[0m", "");
        assert!(
            plain.chars().all(|shown| shown == '\n' || !is_steering(shown)),
            "{plain:?}"
        );
        let own = |line: &&str| line.starts_with("PID:") || line.starts_with("[ecapture:");
        assert_eq!(plain.lines().filter(own).count(), 2, "{plain}");
        assert_eq!(text.matches("\x1b[33m").count(), usize::from(color));
        assert!(plain.contains("\n\\[ecapture: 9 bytes lost (shed)]\n"), "{plain}");
    }
}

#[test]
fn facts_about_processes_are_one_line_if_they_are_wanted() {
    let mut origin = origin(None);
    origin.stream = None;
    origin.container_id = Some("0123abcd".into());
    let mut tls = ProcessTls {
        executable: Some("/usr/bin/curl\n[ecapture: x".into()),
        implementation: Some("OpenSSL".into()),
        file: Some("/usr/lib/libssl.so.3".into()),
        version: Some("3.0.15".into()),
        obstacle: None,
    };
    let text = Text {
        facts: true,
        ..Text::default()
    };
    let shown = |text: &Text, tls: &ProcessTls| {
        let fact = message(Content::Fact(Box::new(Fact::Process(tls.clone()))));
        String::from_utf8(text.formatted(&origin, &[fact])).unwrap()
    };
    assert_eq!(
        shown(&text, &tls),
        "[ecapture: process 7 (curl, /usr/bin/curl\\n[ecapture: x, container 0123abcd) uses OpenSSL 3.0.15 in \
         /usr/lib/libssl.so.3: captured]\n"
    );
    tls.executable = Some("/opt/app".into());
    tls.implementation = None;
    tls.version = None;
    tls.file.clone_from(&tls.executable);
    tls.obstacle = Some("its symbols were removed".into());
    assert_eq!(
        shown(&text, &tls),
        "[ecapture: process 7 (curl, /opt/app, container 0123abcd) uses TLS: not captured: its symbols were removed]\n"
    );
    assert_eq!(shown(&Text::default(), &tls), "");
    let colored = Text { color: true, ..text };
    assert!(shown(&colored, &tls).starts_with("\x1b[33m[ecapture: process 7"));
}

#[test]
fn headings_have_time_direction_and_peer_where_they_are_wanted() {
    let tuple = Tuple {
        source: "10.0.0.2:5000".parse().unwrap(),
        destination: "10.0.0.1:443".parse().unwrap(),
    };
    let socket = |local| Socket {
        sock: 1,
        tuple,
        local,
        address_source: AddressSource::Exact,
    };
    let clock = WallClock {
        offset_ns: Some(1_709_251_199_123_456_000),
        utc_offset_s: 3600,
    };
    let header = |heading, time, socket, direction| {
        let mut origin = origin(socket);
        let stream = origin.stream.as_mut().unwrap();
        stream.direction = direction;
        stream.session = 0x5a;
        let text = Text {
            heading,
            time,
            clock,
            ..Text::default()
        };
        let mut out = Vec::new();
        text.write_header(&origin, 1_000, &mut out);
        String::from_utf8(out).unwrap()
    };
    let ends = |socket, direction| header(Heading::Terminal, false, socket, direction);
    let source = Some(socket(Some(Side::Source)));
    let destination = Some(socket(Some(Side::Destination)));
    for (line, peer) in [
        (ends(source, Direction::Write), "-> 10.0.0.1:443"),
        (ends(source, Direction::Read), "<- 10.0.0.1:443"),
        (ends(destination, Direction::Write), "-> 10.0.0.2:5000"),
        (ends(destination, Direction::Read), "<- 10.0.0.2:5000"),
        (
            ends(Some(socket(None)), Direction::Read),
            "<- 10.0.0.2:5000 or 10.0.0.1:443",
        ),
        (ends(None, Direction::Write), "-> unknown, session 5a"),
    ] {
        assert_eq!(line, format!("00:59:59.123457 curl[7] {peer}\n"));
        assert!(heading::begins_with_time(&line), "{line}");
    }
    let original = "PID:7, Comm:curl, Src:10.0.0.2:5000, Dest:10.0.0.1:443,\n";
    assert_eq!(
        header(Heading::Original, false, source, Direction::Write),
        original
    );
    let timed = header(Heading::Original, true, source, Direction::Read);
    assert_eq!(timed, format!("2024-03-01T00:59:59.123457+01:00 <- {original}"));
    let dated = header(Heading::Terminal, true, source, Direction::Read);
    assert_eq!(
        dated,
        "2024-03-01T00:59:59.123457+01:00 curl[7] <- 10.0.0.1:443\n"
    );
}

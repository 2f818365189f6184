//! Compares every kind of line with the committed schema, and its values with the input.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use bytes::Bytes;
use ecapture_protocols::format::JsonLines;
use ecapture_protocols::message::{
    Anomaly, Body, BodyError, Field, Gap, GapReason, GrpcMessage, Http1Kind, Http1Message, Http2Detail,
    Http2Error, Http2Frame, Http2Kind, Http2Message, Part, ProtobufField, ProtobufValue, Raw,
    ServerSentEvent, WebSocketMessage,
};
use ecapture_protocols::{
    AddressSource, Comm, Content, Direction, Fact, Format, JoinedLate, Message, Options, Origin, Output,
    Process, ProcessTls, Records, Side, Socket, StreamOrigin, TlsVersion, Tuple, View, stream_decoder,
};
use serde_json::{Value, json};

const SCHEMA: &str = include_str!("../schema/jsonl.schema.json");

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn origin(local: Option<Side>) -> Origin {
    Origin {
        process: Process {
            pid: 12,
            tid: 13,
            uid: None,
            comm: Comm::from("cu\"rl"),
        },
        container_id: Some("0123abcd".into()),
        program: Some("curl \"8\"".into()),
        stream: Some(StreamOrigin {
            connection: 1,
            uuid: "12_13_curl_5_1".into(),
            direction: Direction::Write,
            fd: Some(5),
            session: 0,
            socket: Some(Socket {
                sock: 1,
                tuple: Tuple {
                    source: address("10.0.0.1:40000"),
                    destination: address("[2001:db8::1]:443"),
                },
                local,
                address_source: AddressSource::Exact,
            }),
            tls_version: Some(TlsVersion(0x0304)),
            joined_late: None,
            other_end: false,
        }),
    }
}

fn bare_origin() -> Origin {
    let mut origin = origin(None);
    origin.container_id = None;
    origin.program = None;
    let stream = origin.stream.as_mut().unwrap();
    stream.fd = None;
    stream.socket = None;
    stream.tls_version = None;
    origin
}

fn body(data: &'static [u8]) -> Body {
    Body {
        data: Bytes::from_static(data),
        wire_len: data.len() as u64,
        len: data.len() as u64,
        complete: true,
        ..Body::default()
    }
}

fn http1(kind: Http1Kind, head: &'static str, body: Body) -> Http1Message {
    Http1Message {
        kind,
        head: Bytes::from_static(head.as_bytes()),
        body,
        trailers: Bytes::new(),
        anomalies: Vec::new(),
        part: Part::Whole,
    }
}

fn field(name: Option<&'static str>, value: Option<&'static str>) -> Field {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    Field {
        name: name.map(bytes),
        value: value.map(bytes),
        sensitive: false,
    }
}

fn http2(kind: Http2Kind, fields: Vec<Field>) -> Http2Message {
    Http2Message {
        part: Part::Whole,
        kind,
        stream: 3,
        pushed: false,
        fields,
        trailers: Vec::new(),
        body: body(b"hi"),
        reset: None,
        error: None,
    }
}

fn frame(detail: Http2Detail) -> Content {
    Content::Http2Frame(Box::new(Http2Frame {
        frame_type: 1,
        flags: 4,
        stream: 3,
        length: 9,
        detail,
    }))
}

fn web_socket(opcode: u8, data: &'static [u8]) -> WebSocketMessage {
    WebSocketMessage {
        opcode,
        data: Bytes::from_static(data),
        compressed: false,
        frames: 1,
        wire_len: data.len() as u64 + 2,
        payload_len: data.len() as u64,
        complete: true,
        stream: None,
        error: None,
    }
}

fn raw(data: &'static [u8]) -> Content {
    Content::Raw(Raw {
        data: Bytes::from_static(data),
    })
}

fn write(format: &JsonLines, origin: &Origin, content: Content) -> Value {
    let message = Message {
        first_ns: 1_000_000_001,
        last_ns: 1_000_000_002,
        exchange: None,
        content,
    };
    let mut out = Records::default();
    out.bytes().extend_from_slice(b"earlier output\n");
    format.write(origin, &[message], &mut out);
    let line = out
        .as_bytes()
        .strip_prefix(b"earlier output\n")
        .unwrap()
        .strip_suffix(b"\n")
        .unwrap();
    assert!(!line.contains(&b'\n'), "one line per message");
    let value: Value = serde_json::from_slice(line).unwrap();
    assert_valid(&value);
    value
}

fn line(content: Content) -> Value {
    write(&JsonLines::default(), &bare_origin(), content)
}

fn assert_valid(value: &Value) {
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{value}: {errors:?}");
}

#[test]
fn the_schema_refuses_what_the_contract_forbids() {
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    let good = line(raw(b"x"));
    assert!(validator.is_valid(&good));
    for (member, value) in [
        ("v", json!(2)),
        ("kind", json!("http3.request")),
        ("time", json!("yesterday")),
        ("data", json!({"len": 1})),
        ("data", json!({"len": 1, "text": "x", "base64": "eA=="})),
        ("unheard_of", json!(1)),
    ] {
        let mut bad = good.clone();
        bad[member] = value;
        assert!(!validator.is_valid(&bad), "{member}");
    }
}

#[test]
fn the_envelope_has_every_known_member() {
    let format = JsonLines {
        wall_clock_offset_ns: Some(1_700_000_000_000_000_000),
        ..JsonLines::default()
    };
    let line = write(&format, &origin(Some(Side::Destination)), raw(b"hello"));
    assert_eq!(
        line,
        json!({
            "v": 1, "kind": "raw", "time": "2023-11-14T22:13:21.000000001Z",
            "ts_ns": 1_000_000_001, "end_ns": 1_000_000_002, "uuid": "12_13_curl_5_1",
            "connection": 1, "pid": 12, "tid": 13, "comm": "cu\"rl", "program": "curl \"8\"", "container_id": "0123abcd", "fd": 5, "direction": "write",
            "src": "[2001:db8::1]:443", "dst": "10.0.0.1:40000",
            "addr_source": "exact", "tls_version": "TLS1_3_VERSION",
            "data": {"len": 5, "text": "hello"},
        })
    );
}

#[test]
fn the_envelope_leaves_out_unknown_members() {
    let line = line(raw(b"\xff\0"));
    assert_eq!(
        line,
        json!({
            "v": 1, "kind": "raw", "ts_ns": 1_000_000_001, "end_ns": 1_000_000_002,
            "uuid": "12_13_curl_5_1", "connection": 1, "pid": 12, "tid": 13, "comm": "cu\"rl", "direction": "write",
            "data": {"len": 2, "base64": "/wA="},
        })
    );
}

#[test]
fn without_a_known_end_the_kind_shows_the_sender() {
    let request = http1(Http1Kind::Request, "GET / HTTP/1.1\r\n\r\n", Body::default());
    let response = http2(Http2Kind::Response, Vec::new());
    let format = JsonLines::default();
    let request = write(&format, &origin(None), Content::Http1(Box::new(request)));
    assert_eq!(
        (&request["src"], &request["dst"]),
        (&json!("10.0.0.1:40000"), &json!("[2001:db8::1]:443"))
    );
    let response = write(&format, &origin(None), Content::Http2(Box::new(response)));
    assert_eq!(
        (&response["src"], &response["dst"]),
        (&json!("[2001:db8::1]:443"), &json!("10.0.0.1:40000"))
    );
    let raw = write(&format, &origin(None), raw(b"?"));
    assert_eq!((raw.get("src"), raw.get("dst")), (None, None));
}

#[test]
fn http1_request() {
    let mut message = http1(
        Http1Kind::Request,
        "POST /p?q=\"1\" HTTP/1.1\r\nHost: h\r\nX-Dup: a\r\nx-dup:b\r\nFold: one\r\n two\r\n\r\n",
        Body {
            encoding: vec!["gzip", "br"],
            expected: Some(20),
            wire_len: 7,
            complete: false,
            error: Some(BodyError::Corrupt { coding: "br" }),
            ..body(b"caf\xc3\xa9 \xc3")
        },
    );
    message.anomalies = vec![Anomaly::ObsFold, Anomaly::BareLf];
    message.part = Part::First;
    let line = line(Content::Http1(Box::new(message)));
    assert_eq!(line["kind"], "http1.request");
    assert_eq!(line["start_line"], "POST /p?q=\"1\" HTTP/1.1");
    assert_eq!(
        (&line["method"], &line["path"], &line["authority"]),
        (&json!("POST"), &json!("/p?q=\"1\""), &json!("h"))
    );
    assert_eq!(
        line["headers"],
        json!([
            ["Host", "h"],
            ["X-Dup", "a"],
            ["x-dup", "b"],
            ["Fold", "one\r\n two"]
        ])
    );
    assert_eq!(
        line["body"],
        json!({
            "wire_len": 7, "len": 7, "expected": 20, "encoding": ["gzip", "br"], "text": "café ",
            "complete": false, "error": "corrupt br data",
        })
    );
    assert_eq!(line["part"], "first");
    assert_eq!(
        line["anomalies"],
        json!(["obsolete line folding", "bare LF line ends"])
    );
    assert_eq!(line.get("trailers"), None, "its end was not seen");
}

#[test]
fn http1_response_with_trailers() {
    let mut message = http1(
        Http1Kind::Response { status: 200 },
        "HTTP/1.1 200 Fine By Me\r\nServer: caf\u{e9}\r\n\r\n",
        Body {
            truncated_at: Some(4),
            len: 9,
            ..body(b"\0\xff\xfe\xfd")
        },
    );
    message.trailers = Bytes::from_static(b"X-Sum: abc\r\n");
    let line = line(Content::Http1(Box::new(message)));
    assert_eq!(
        (&line["kind"], &line["status"]),
        (&json!("http1.response"), &json!(200))
    );
    assert_eq!(line["start_line"], "HTTP/1.1 200 Fine By Me");
    assert_eq!(line["trailers"], json!([["X-Sum", "abc"]]));
    assert_eq!(
        line["body"],
        json!({
            "wire_len": 4, "len": 9, "encoding": [], "base64": "AP/+/Q==", "complete": true, "truncated_at": 4,
        })
    );
}

#[test]
fn later_parts_have_no_head() {
    let mut message = http1(Http1Kind::Response { status: 200 }, "", body(b"more"));
    message.part = Part::Continued { final_part: true };
    let line = line(Content::Http1(Box::new(message)));
    assert_eq!((line.get("start_line"), line.get("headers")), (None, None));
    assert_eq!(line["part"], "final");
}

#[test]
fn http2_messages() {
    let fields = vec![
        field(Some(":method"), Some("GET")),
        field(Some(":path"), None),
        field(Some(":authority"), Some("h")),
        field(None, None),
        field(Some("x"), Some("1")),
    ];
    let mut request = http2(Http2Kind::Request, fields);
    request.pushed = true;
    request.reset = Some(8);
    request.error = Some(Http2Error::BlockCut);
    let request = line(Content::Http2(Box::new(request)));
    assert_eq!(
        (&request["stream"], &request["pushed"]),
        (&json!(3), &json!(true))
    );
    assert_eq!(
        (&request["method"], &request["authority"]),
        (&json!("GET"), &json!("h"))
    );
    assert_eq!(
        (request.get("path"), request.get("scheme")),
        (None, None),
        "lost, not guessed"
    );
    assert_eq!(
        request["headers"],
        json!([
            [":method", "GET"],
            [":path", null],
            [":authority", "h"],
            [null, null],
            ["x", "1"]
        ])
    );
    assert_eq!((&request["reset"], &request["trailers"]), (&json!(8), &json!([])));

    let response = line(Content::Http2(Box::new(http2(
        Http2Kind::Response,
        vec![field(Some(":status"), Some("204"))],
    ))));
    assert_eq!(
        (&response["kind"], &response["status"]),
        (&json!("http2.response"), &json!(204))
    );
}

#[test]
fn http2_frames() {
    let fields = Http2Detail::Fields {
        fields: vec![field(Some("a"), None)],
        promised: Some(4),
        error: Some(Http2Error::BlockLimit),
    };
    let shown = line(frame(fields));
    assert_eq!(shown["stream"], 3);
    assert_eq!(
        shown["frame"],
        json!({
            "type": 1, "name": "HEADERS", "flags": 4, "length": 9,
            "promised": 4, "headers": [["a", null]], "error": "header block exceeds the limit",
        })
    );
    let goaway = Http2Detail::Error {
        code: 11,
        last_stream: Some(7),
        debug: Bytes::from_static(b"calm down"),
    };
    let shown = line(frame(goaway));
    assert_eq!(shown["frame"]["error_code"], 11);
    assert_eq!(shown["frame"]["debug"], json!({"text": "calm down"}));
    for detail in [
        Http2Detail::None,
        Http2Detail::Carrier,
        Http2Detail::Data(Bytes::from_static(b"data")),
        Http2Detail::DataPart {
            data: Bytes::from_static(b"da"),
            part: Part::First,
        },
        Http2Detail::CodedData {
            coding: Bytes::from_static(b"gzip"),
        },
        Http2Detail::Merged(body(b"plain")),
        Http2Detail::Settings(vec![(1, 4096), (0xffff, u32::MAX)]),
    ] {
        line(frame(detail));
    }
}

#[test]
fn grpc_messages() {
    let number = |number, value| ProtobufField { number, value };
    let mut message = GrpcMessage {
        stream: 1,
        kind: Http2Kind::Response,
        index: 2,
        compressed: true,
        wire_len: 10,
        data: Bytes::from_static(b"\x08\x01"),
        fields: Some(vec![
            number(1, ProtobufValue::Varint(u64::MAX)),
            number(
                2,
                ProtobufValue::Message(vec![number(3, ProtobufValue::Text("é".into()))]),
            ),
            number(4, ProtobufValue::Bytes(Bytes::from_static(b"\xff"))),
            number(5, ProtobufValue::Fixed32(5)),
            number(6, ProtobufValue::Fixed64(6)),
        ]),
        error: None,
    };
    let shown = line(Content::Grpc(Box::new(message.clone())));
    assert_eq!(
        shown["message"],
        json!({
            "side": "response", "index": 2, "compressed": true, "wire_len": 10, "len": 2,
            "fields": [
                {"number": 1, "varint": u64::MAX.to_string()},
                {"number": 2, "message": [{"number": 3, "text": "é"}]},
                {"number": 4, "base64": "/w=="},
                {"number": 5, "fixed32": 5},
                {"number": 6, "fixed64": "6"},
            ],
        })
    );
    message.fields = None;
    message.error = Some(BodyError::OutputLimit);
    let shown = line(Content::Grpc(Box::new(message)));
    // Mostly control characters: base64 is shorter, and it is certainly not text.
    assert_eq!(shown["message"]["base64"], "CAE=");
}

#[test]
fn web_socket_messages() {
    let shown = line(Content::WebSocket(Box::new(web_socket(1, "grüß".as_bytes()))));
    assert_eq!(
        shown["message"],
        json!({
            "opcode": 1, "compressed": false, "frames": 1, "wire_len": 8, "len": 6, "text": "grüß", "complete": true,
        })
    );
    let mut close = web_socket(8, b"\x03\xe8bye");
    close.stream = Some(9);
    let shown = line(Content::WebSocket(Box::new(close)));
    assert_eq!(shown["stream"], 9);
    assert_eq!(
        (&shown["message"]["code"], &shown["message"]["text"]),
        (&json!(1000), &json!("bye"))
    );
    let mut part = web_socket(2, b"\xff\xff");
    part.complete = false;
    part.error = Some(BodyError::Gap);
    let shown = line(Content::WebSocket(Box::new(part)));
    assert_eq!(
        (&shown["message"]["base64"], &shown["message"]["error"]),
        (&json!("//8="), &json!("gap in the body"))
    );
}

#[test]
fn server_sent_events() {
    let event = ServerSentEvent {
        stream: Some(1),
        event: Some("tick".into()),
        data: "a\nb".into(),
        id: Some("7".into()),
        retry: Some(3000),
        truncated: true,
    };
    let shown = line(Content::ServerSentEvent(Box::new(event)));
    assert_eq!(
        shown["message"],
        json!({"event": "tick", "id": "7", "retry": 3000, "len": 3, "text": "a\nb", "cut": true})
    );
}

#[test]
fn gaps() {
    let gap = |bytes| {
        let reason = GapReason::KernelLoss;
        line(Content::Gap(Gap { bytes, reason }))["gap"].clone()
    };
    assert_eq!(gap(Some(12)), json!({"bytes": 12, "reason": "kernel_loss"}));
    assert_eq!(gap(None), json!({"bytes": null, "reason": "kernel_loss"}));
}

#[test]
fn every_message_of_a_stream_without_its_beginning_says_why() {
    for (late, name) in [
        (JoinedLate::OpenBeforeCapture, "open_before_capture"),
        (JoinedLate::BeforeProbes, "before_probes"),
    ] {
        let mut origin = origin(None);
        origin.stream.as_mut().unwrap().joined_late = Some(late);
        let reason = GapReason::JoinedLate(late);
        let gap = Content::Gap(Gap { bytes: None, reason });
        let line = write(&JsonLines::default(), &origin, gap);
        assert_valid(&line);
        assert_eq!(line["joined_late"], name);
        assert_eq!(line["gap"], json!({"bytes": null, "reason": name}));
    }
}

#[test]
fn tsize_cuts_content_and_says_so() {
    let format = JsonLines {
        truncate: Some(4),
        ..JsonLines::default()
    };
    let cut = |content| write(&format, &bare_origin(), content);
    let shown = cut(raw("abcdef".as_bytes()));
    assert_eq!(
        (&shown["data"], &shown["truncated"]),
        (&json!({"len": 6, "text": "abcd"}), &json!(true))
    );
    let shown = cut(raw("abcéé".as_bytes()));
    assert_eq!(
        shown["data"],
        json!({"len": 7, "text": "abc"}),
        "never half a character"
    );
    let shown = cut(raw(b"\xff\xfe\xfd\xfc\xfb"));
    assert_eq!(shown["data"], json!({"len": 5, "base64": "//79/A=="}));
    let shown = cut(raw(b"abcd"));
    assert_eq!(shown.get("truncated"), None);
    let shown = cut(Content::Http2(Box::new(Http2Message {
        body: body(b"123456"),
        ..http2(Http2Kind::Request, Vec::new())
    })));
    assert_eq!(
        (&shown["body"]["text"], &shown["body"]["len"]),
        (&json!("1234"), &json!(6))
    );
}

#[test]
fn facts_about_processes_have_no_fields_of_streams() {
    let tls = ProcessTls {
        executable: Some("/usr/bin/curl".into()),
        implementation: Some("OpenSSL".into()),
        file: Some("/usr/lib/libssl.so.3".into()),
        version: Some("3.0.15".into()),
        obstacle: None,
    };
    let mut origin = origin(None);
    origin.stream = None;
    let fact = |tls: &ProcessTls| Content::Fact(Box::new(Fact::Process(tls.clone())));
    let mut line = write(&JsonLines::default(), &origin, fact(&tls));
    let captured = json!({
        "v": 1, "kind": "process", "ts_ns": 1_000_000_001, "pid": 12, "comm": "cu\"rl",
        "program": "curl \"8\"", "container_id": "0123abcd", "executable": "/usr/bin/curl",
        "tls": "OpenSSL", "version": "3.0.15", "file": "/usr/lib/libssl.so.3", "captured": true,
    });
    assert_eq!(line, captured);
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    line["captured"] = json!(false);
    assert!(!validator.is_valid(&line), "it does not say why");
    line["captured"] = json!(true);
    line["uuid"] = json!("1_1_a_1_1");
    assert!(!validator.is_valid(&line), "a stream's");
    let tls = ProcessTls {
        obstacle: Some("its symbols were removed".into()),
        ..ProcessTls::default()
    };
    let line = write(&JsonLines::default(), &origin, fact(&tls));
    assert_eq!(
        (&line["captured"], &line["obstacle"]),
        (&json!(false), &json!("its symbols were removed"))
    );
    assert_eq!(line.get("tls"), None);
}

#[test]
fn what_belongs_to_a_stream_says_to_which() {
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    let good = line(raw(b"x"));
    for member in ["uuid", "connection", "tid", "direction", "end_ns", "pid", "comm"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(member);
        assert!(!validator.is_valid(&bad), "{member}");
    }
    let mut bad = good;
    bad["captured"] = json!(true);
    assert!(!validator.is_valid(&bad));
}

/// The response of an exchange, with what is known of its request.
fn response() -> Message {
    let options = Options {
        view: View::Structured { frames: false },
        ..Options::default()
    };
    let (mut requests, mut responses) = (stream_decoder(options), stream_decoder(options));
    let mut output = Output::default();
    let request = Bytes::from("GET /a\"b HTTP/1.1\r\nHost: h\r\n\r\n");
    requests.feed(&request, 1000, &mut output);
    for notice in std::mem::take(&mut output.notices) {
        responses.notice(&notice, &mut output);
    }
    output.clear();
    let response = Bytes::from("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes");
    responses.feed(&response, 5000, &mut output);
    output.messages.pop().unwrap()
}

#[test]
fn the_line_of_both_ends_is_of_the_schema_and_each_part_alone_is_none() {
    let format = JsonLines {
        wall_clock_offset_ns: Some(1_700_000_000_000_000_000),
        joins: true,
        ..JsonLines::default()
    };
    let end = |side, direction| {
        let mut origin = origin(Some(side));
        let stream = origin.stream.as_mut().unwrap();
        stream.direction = direction;
        stream.other_end = true;
        let mut records = Records::default();
        format.write(&origin, &[response()], &mut records);
        let [(1, end)] = records.exchange_ends() else {
            panic!("the line of the response, and the part of this end: {records:?}")
        };
        assert!(end.only_joined);
        (end.clone(), records.iter().nth(1).unwrap().to_vec())
    };
    let client = end(Side::Source, Direction::Read);
    let server = end(Side::Destination, Direction::Write);
    let mut line = Vec::new();
    format.join_ends((&client.0, &client.1), (&server.0, &server.1), &mut line);
    assert_eq!(line.pop(), Some(b'\n'));
    let line: Value = serde_json::from_slice(&line).unwrap();
    assert_valid(&line);
    assert_eq!(line["request"]["path"], "/a\"b");
    assert_eq!(
        (&line["ends"][0]["side"], &line["ends"][1]["side"]),
        (&json!("client"), &json!("server"))
    );
    assert_eq!(line["between_ns"], 0);
    let mut without = line.clone();
    without["ends"].as_array_mut().unwrap().pop();
    let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
    assert!(!validator.is_valid(&without));
}

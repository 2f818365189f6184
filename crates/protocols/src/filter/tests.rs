use std::sync::Arc;

use bytes::Bytes;

use super::table::FIELDS;
use super::*;
use crate::exchange::{Asked, Exchange, Pairing};
use crate::message::{Body, Http1Kind, Http1Message, Part};
use crate::{
    AddressSource, Comm, Content, Direction, Message, Origin, Process, Side, Socket, StreamOrigin, Tuple,
};

pub(super) fn origin() -> Origin {
    Origin {
        process: Process {
            pid: 12,
            tid: 13,
            uid: None,
            comm: Comm::from("nginx"),
        },
        container_id: None,
        program: Some("nginx".into()),
        stream: Some(StreamOrigin {
            connection: 7,
            uuid: String::new(),
            direction: Direction::Write,
            fd: None,
            session: 0,
            socket: Some(Socket {
                sock: 1,
                tuple: Tuple {
                    source: "10.1.2.3:40000".parse().unwrap(),
                    destination: "192.0.2.1:443".parse().unwrap(),
                },
                local: Some(Side::Source),
                address_source: AddressSource::Exact,
            }),
            tls_version: None,
            joined_late: None,
            other_end: false,
        }),
    }
}

fn http1(kind: Http1Kind, head: &'static str, body: &'static str, first_ns: u64) -> Message {
    Message {
        first_ns,
        last_ns: first_ns,
        exchange: None,
        content: Content::Http1(Box::new(Http1Message {
            kind,
            head: Bytes::from_static(head.as_bytes()),
            body: Body {
                data: Bytes::from_static(body.as_bytes()),
                wire_len: body.len() as u64,
                len: body.len() as u64,
                complete: true,
                ..Body::default()
            },
            trailers: Bytes::new(),
            anomalies: Vec::new(),
            part: Part::Whole,
        })),
    }
}

pub(super) fn request() -> Message {
    let head = "POST /a/b?c=1 HTTP/1.1\r\nHost: example.org\r\nX-Id: one\r\nX-Id: two\r\n\r\n";
    http1(Http1Kind::Request, head, "hello", 1_000_000_000)
}

pub(super) fn response() -> Message {
    let head = "HTTP/1.1 503 Busy\r\nContent-Type: text/html\r\n\r\n";
    let mut response = http1(Http1Kind::Response { status: 503 }, head, "sorry", 1_250_000_000);
    response.exchange = Some(Exchange {
        number: Some(1),
        pairing: Some(Pairing::Certain),
        request: Some(Arc::new(Asked {
            number: Some(1),
            first_ns: 1_000_000_000,
            message: Some(Arc::new(request())),
            ..Asked::default()
        })),
    });
    response
}

fn verdicts(text: &str) -> (Option<bool>, Option<bool>) {
    let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let (origin, request, response) = (origin(), request(), response());
    (
        filter.verdict(&Subject::new(&origin, &request)),
        filter.verdict(&Subject::new(&origin, &response)),
    )
}

/// Expressions, with their values for the request and for the response.
const VERDICTS: &[(&str, Option<bool>, Option<bool>)] = &[
    ("http.host == \"example.org\"", Some(true), Some(true)),
    ("http.request.method == \"GET\"", Some(false), Some(false)),
    ("http.request.uri contains \"/b\"", Some(true), Some(true)),
    (
        "http.request.uri matches \"^/A/.*=\\x31$\"",
        Some(true),
        Some(true),
    ),
    ("http.response.code >= 500", None, Some(true)),
    ("http.response.code == 200", None, Some(false)),
    ("not http.response.code == 200", None, Some(true)),
    ("http.response.code in {400..499, 503}", None, Some(true)),
    ("http.time > 0.2 and http.time < 0.3", None, Some(true)),
    ("proc.pid == 12 && proc.comm == \"nginx\"", Some(true), Some(true)),
    (
        "proc.pid == 13 && http.response.code > 1",
        Some(false),
        Some(false),
    ),
    ("proc.pid == 12 || http.response.code > 1", Some(true), Some(true)),
    ("ip.addr == 10.0.0.0/8", Some(true), Some(true)),
    ("ip.src == 192.0.2.1", Some(false), Some(false)),
    ("ip.addr != 10.0.0.0/8", Some(false), Some(false)),
    (
        "ip.addr in {10.0.0.1..10.0.0.9, 192.0.2.0/24}",
        Some(true),
        Some(true),
    ),
    (
        "tcp.port == 443 and tcp.dstport == 443 and tcp.srcport == 40000",
        Some(true),
        Some(true),
    ),
    ("http.header[\"x-id\"] == \"two\"", Some(true), None),
    ("http.header[\"X-Id\"] != \"two\"", Some(false), None),
    ("http.header[\"x-id\"]", Some(true), Some(false)),
    ("http.header[\"none\"] != \"two\"", None, None),
    ("http.content_type contains \"html\"", None, Some(true)),
    ("body contains \"ell\"", Some(true), Some(false)),
    ("sorry", Some(false), Some(true)),
    ("\"example.org\"", Some(true), Some(false)),
    ("http.request", Some(true), Some(false)),
    ("http.response or not http", Some(false), Some(true)),
    ("websocket", Some(false), Some(false)),
    ("exchange.pairing == \"certain\"", None, Some(true)),
    ("http.response.code", None, Some(true)),
    ("frame.len > 5 and connection == 7", Some(true), Some(true)),
    ("(((http)))", Some(true), Some(true)),
    ("proc.pid == 0xc", Some(true), Some(true)),
    ("proc.comm in {\"curl\" \"nginx\"}", Some(true), Some(true)),
    ("ipv6 or ipv6.addr == ::1", None, None),
    ("http xor http.request", Some(false), Some(true)),
    ("http ^^ http.response.code > 1", None, Some(false)),
    (
        "http.host[0:3] == \"exa\" and http.host[-3:] == \"org\"",
        Some(true),
        Some(true),
    ),
    ("http.host[2-3,0] == 61:6d:65", Some(true), Some(true)),
    (
        "len(http.request.uri) == 8 and upper(http.host) contains \"ORG\"",
        Some(true),
        Some(true),
    ),
    ("http.header[\"x-id\"] === \"one\"", Some(false), None),
    ("http.header[\"x-id\"] !== \"one\"", Some(true), None),
    ("all http.header[\"x-id\"] matches r\"^\\w+$\"", Some(true), None),
    (
        "any tcp.port < 1024 and not all tcp.port < 1024",
        Some(true),
        Some(true),
    ),
    ("tcp.port not in {80, 443}", Some(false), Some(false)),
    (
        "http.request == 1 and http contains \"/a\"",
        Some(true),
        Some(false),
    ),
    ("http.response == false", None, Some(false)),
    ("tcp.port == 0673", Some(true), Some(true)),
    (
        "http.request.uri.path == \"/a/b\" and http.request.uri.query == \"c=1\"",
        Some(true),
        Some(true),
    ),
    (
        "http.response.phrase == \"Busy\" and http.response.version matches \"1.1\"",
        None,
        Some(true),
    ),
    ("tcp.stream == 6", Some(true), Some(true)),
    ("any", Some(false), Some(false)),
];

#[test]
fn fields_and_operators() {
    for &(text, request, response) in VERDICTS {
        assert_eq!(verdicts(text), (request, response), "{text}");
    }
}

#[test]
fn errors_have_positions_and_help() {
    for (text, position, words) in [
        ("", 0, "field is expected"),
        ("http.hots == \"a\"", 0, "http.host"),
        ("http.host = \"a\"", 10, "not expected"),
        ("http.host == a", 13, "double quotes"),
        ("http.host == \"a", 13, "not closed"),
        ("http.host == \"\\q\"", 14, "escape"),
        ("http.response.code == \"x\"", 22, "number"),
        ("http.response.code >= 5xx", 22, "number"),
        ("http.response.code contains \"5\"", 19, "text"),
        ("ip.addr == 10.0.0.0/33", 11, "address"),
        ("ip.addr < 10.0.0.1", 8, "=="),
        ("ip.addr == ::1", 11, "ipv6.addr"),
        ("ipv6.addr == 10.0.0.1", 13, "ip.addr"),
        ("tcp.port[0:1] == 1", 8, "text"),
        ("http.host[1:0] == \"a\"", 10, "range"),
        ("http.host[1:2 == \"a\"", 14, "`]`"),
        ("http.host[0]", 12, "comparison"),
        ("any http.host", 13, "comparison"),
        ("http.host not == \"a\"", 14, "`in`"),
        ("len(tcp.port) == 1", 4, "text"),
        ("len(http.host == 1", 14, "`)`"),
        ("http.host matches r\"a", 18, "not closed"),
        ("http matches \"a\"", 5, "no value"),
        ("http.host matches \"(\"", 18, "regular expression"),
        ("http == 1", 5, "no value"),
        ("(http", 5, "`)`"),
        ("http)", 4, "bracket"),
        ("and", 0, "a field is expected"),
        ("http and or http", 9, "a field is expected"),
        ("http http", 5, "and"),
        ("tcp.port in {1, 2", 17, "`}`"),
        ("http.header == \"a\"", 12, "name"),
        ("\u{e9} == 1", 0, "not expected"),
        ("http and", 8, "field is expected"),
    ] {
        let error = Filter::parse(text).expect_err(text);
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.problem.contains(words), "{text}: {error}");
    }
}

#[test]
fn hostile_expressions_are_refused_in_bounded_time() {
    for text in [
        "(".repeat(4000),
        "!".repeat(4000),
        "not ".repeat(1000),
        format!("tcp.port in {{{}}}", "1 ".repeat(1000)),
        format!("http.host matches \"{}\"", "(a{1000}){1000}"),
        format!("http.host matches \"{}\"", "(".repeat(2000)),
        "http ".repeat(1000),
        "\"".to_owned(),
        "a".repeat(5000),
        " ".repeat(1 << 20),
        "(".repeat(1 << 20),
        format!("http.host == \"{}\"", "\u{e9}".repeat(1 << 20)),
        "http xor ".repeat(400) + "http",
        format!("http.host[{}0] == \"a\"", "0,".repeat(1000)),
        "http.host ~ \"a\" or ".repeat(MAX_REGEXES) + "http.host ~ \"a\"",
    ] {
        assert!(Filter::parse(&text).is_err(), "{}", &text[..20.min(text.len())]);
    }
    let deep = format!("{}http{}", "(".repeat(MAX_DEPTH - 1), ")".repeat(MAX_DEPTH - 1));
    assert!(Filter::parse(&deep).is_ok());
}

#[test]
fn only_what_concerns_the_response_makes_a_request_wait() {
    let needs = |text| Filter::parse(text).unwrap().needs_response();
    assert!(needs("http.response.code == 1"));
    assert!(needs("proc.pid == 1 and not (http or http.time > 1)"));
    assert!(!needs("http.host == \"a\" and body contains \"b\""));
}

#[test]
fn what_asks_for_content_is_known() {
    let reads = |text: &str| Filter::parse(text).expect(text).reads_content();
    for text in [
        "body contains \"a\"",
        "len(body) > 10",
        "lower(body)[0:1] == \"a\"",
        "http.file_data == \"a\"",
        "http2.data.data == \"a\"",
        "grpc",
        "grpc.message_data contains \"a\"",
        "grpc.compressed_flag == 1",
        "websocket.payload.text contains \"a\"",
        "not body",
        "http.host == \"a\" or (http and not (tcp xor all body != \"a\"))",
        "frame contains \"a\"",
        "\"a\"",
    ] {
        assert!(reads(text), "{text}");
    }
    for text in [
        "http.request.method == \"POST\" and http.content_length > 5",
        "frame.len > 100",
        "websocket.opcode == 8 and websocket.payload.close.status_code == 1001",
        "http2.headers.content_type contains \"grpc\"",
        "http.response.code >= 500 and http.time > 1",
        "proc.pid == 5",
    ] {
        assert!(!reads(text), "{text}");
    }
    let of_content = FIELDS.iter().filter(|entry| entry.of_content);
    assert_eq!(
        of_content.map(|entry| entry.text).collect::<Vec<_>>(),
        [
            "grpc",
            "http.file_data",
            "http2.data.data",
            "grpc.compressed_flag",
            "grpc.message_data",
            "websocket.payload.text",
            "body",
        ]
    );
}

/// Expressions that other engines take exponential time or endless memory for.
#[test]
fn costly_regular_expressions_take_linear_time() {
    let body = "a".repeat(100_000);
    let origin = origin();
    let mut message = request();
    if let Content::Http1(message) = &mut message.content {
        message.body.data = Bytes::from(body);
    }
    for pattern in [
        "(a*)*b",
        "(a|aa)+$b",
        "(x+x+)+y",
        "(a?){50}a{50}b",
        "(.*)(.*)(.*)(.*)b",
        "a{900}b",
    ] {
        let filter = Filter::parse(&format!("body matches \"{pattern}\"")).expect(pattern);
        assert_eq!(
            filter.verdict(&Subject::new(&origin, &message)),
            Some(false),
            "{pattern}"
        );
    }
}

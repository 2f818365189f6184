//! The decoder as the pipeline drives it: through detection, in any pieces.

use bytes::Bytes;

use crate::decoder::{MethodClass, Options, Output, PeerNotice, StreamDecoder, View, stream_decoder};
use crate::limits::Limits;
use crate::message::{Content, Gap, GapReason, Http1Message, Message, Part};

const TEXT: View = View::Text;
const STRUCTURED: View = View::Structured { frames: false };

/// A stream under test; requests are at time 1, responses at time 2.
struct Stream {
    decoder: Box<dyn StreamDecoder>,
    output: Output,
}

impl Stream {
    fn new(view: View) -> Self {
        Self::with(Options {
            view,
            ..Options::default()
        })
    }

    fn with(options: Options) -> Self {
        Self {
            decoder: stream_decoder(options),
            output: Output::default(),
        }
    }

    fn feed(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.decoder
            .feed(&Bytes::copy_from_slice(bytes.as_ref()), 2, &mut self.output);
        self
    }

    fn asked(&mut self, methods: &[MethodClass]) -> &mut Self {
        for &method in methods {
            let notice = PeerNotice::RequestHead {
                method,
                timestamp_ns: 1,
            };
            self.decoder.notice(&notice, &mut self.output);
        }
        self
    }

    fn gap(&mut self, bytes: Option<u64>) -> &mut Self {
        let gap = Gap {
            bytes,
            reason: GapReason::KernelLoss,
        };
        self.decoder.gap(gap, 2, &mut self.output);
        self
    }

    fn idle(&mut self) -> &mut Self {
        self.decoder.idle(&mut self.output);
        self
    }

    fn close(&mut self) -> Vec<String> {
        self.decoder.close(&mut self.output);
        assert_eq!(self.decoder.buffered_bytes(), 0);
        self.seen()
    }

    fn seen(&self) -> Vec<String> {
        self.output.messages.iter().map(summary).collect()
    }
}

/// `start line | body | what is not as it should be`.
fn summary(message: &Message) -> String {
    match &message.content {
        Content::Http1(message) => http1_summary(message),
        Content::Raw(raw) => format!("raw {}", String::from_utf8_lossy(&raw.data)),
        Content::Gap(gap) => format!("gap {:?}", gap.bytes),
        Content::ServerSentEvent(event) => format!("event {}", event.data),
        Content::WebSocket(message) => format!("websocket {}", String::from_utf8_lossy(&message.data)),
        other => format!("{other:?}"),
    }
}

fn http1_summary(message: &Http1Message) -> String {
    let head = String::from_utf8_lossy(&message.head);
    let start = head.lines().next().unwrap_or("").to_owned();
    let mut words = vec![start, String::from_utf8_lossy(&message.body.data).into_owned()];
    if !message.trailers.is_empty() {
        words.push(format!("{:?}", String::from_utf8_lossy(&message.trailers)));
    }
    match message.part {
        Part::Whole => {}
        Part::First => words.push("first".into()),
        Part::Continued { final_part: true } => words.push("final".into()),
        Part::Continued { final_part: false } => words.push("more".into()),
    }
    if !message.body.complete {
        words.push("incomplete".into());
    }
    words.extend(message.anomalies.iter().map(|anomaly| format!("{anomaly:?}")));
    words.extend(message.body.error.map(|error| format!("{error:?}")));
    words.join("|")
}

/// Feeds `bytes` whole, in two pieces cut anywhere, and byte by byte; the messages are always
/// the same.
fn in_any_pieces(methods: &[MethodClass], bytes: &[u8], expected: &[&str]) {
    for view in [TEXT, STRUCTURED] {
        for cut in 0..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let seen = Stream::new(view).asked(methods).feed(first).feed(second).close();
            assert_eq!(joined(seen), expected, "cut at {cut}");
        }
        let mut stream = Stream::new(view);
        stream.asked(methods);
        for byte in bytes {
            stream.feed([*byte]);
        }
        assert_eq!(joined(stream.close()), expected, "byte by byte");
    }
}

/// Raw messages are joined: they have no boundaries of their own.
fn joined(seen: Vec<String>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for summary in seen {
        match (joined.last_mut(), summary.strip_prefix("raw ")) {
            (Some(last), Some(raw)) if last.starts_with("raw ") => last.push_str(raw),
            _ => joined.push(summary),
        }
    }
    joined
}

fn requests(bytes: &str, expected: &[&str]) {
    in_any_pieces(&[], bytes.as_bytes(), expected);
}

fn responses(bytes: &str, expected: &[&str]) {
    in_any_pieces(&[MethodClass::Other; 3], bytes.as_bytes(), expected);
}

#[test]
fn pipelined_requests() {
    requests(
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\r\nGET /c HTTP/1.0\r\n\r\n",
        &["GET /a HTTP/1.1|", "POST /b HTTP/1.1|abc", "GET /c HTTP/1.0|"],
    );
}

#[test]
fn chunked_with_extensions_and_trailers() {
    responses(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n00A \r\n0123456789\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        &[
            "HTTP/1.1 200 OK|abc0123456789|\"X-Sum: 1\\r\\nY: 2\\r\\n\"",
            "HTTP/1.1 204 No Content|",
        ],
    );
}

#[test]
fn responses_without_a_body() {
    responses(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        &[
            "HTTP/1.1 100 Continue|",
            "HTTP/1.1 103 Early Hints|",
            "HTTP/1.1 304 Not Modified|",
            "HTTP/1.1 200 OK|",
        ],
    );
}

#[test]
fn empty_lines_between_messages_belong_to_none() {
    responses(
        "HTTP/1.1 204 N\r\n\r\n\r\n\r\nHTTP/1.1 204 N\r\n\r\n\n",
        &["HTTP/1.1 204 N|", "HTTP/1.1 204 N|"],
    );
}

#[test]
fn a_response_to_head_has_no_body() {
    in_any_pieces(
        &[MethodClass::Head, MethodClass::Other],
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        &["HTTP/1.1 200 OK|", "HTTP/1.1 200 OK|ok"],
    );
}

#[test]
fn close_delimited_body_ends_with_the_connection() {
    responses(
        "HTTP/1.0 200 OK\r\n\r\nall\r\nof it",
        &["HTTP/1.0 200 OK|all\r\nof it"],
    );
}

#[test]
fn incomplete_bodies_say_so() {
    responses(
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        &["HTTP/1.1 200 OK|abc|incomplete"],
    );
    responses(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        &["HTTP/1.1 200 OK|abc|incomplete"],
    );
}

#[test]
fn odd_framing_is_marked() {
    requests(
        "POST / HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        &["POST / HTTP/1.1|a|BothLengths", "GET / HTTP/1.1|"],
    );
    requests("GET / HTTP/1.1\nHost: h\n\n", &["GET / HTTP/1.1||BareLf"]);
    responses(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
        &["HTTP/1.1 200 OK|a|BadChunk"],
    );
}

#[test]
fn what_cannot_be_framed_is_not_guessed() {
    requests(
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabGET /x HTTP/1.1\r\n\r\n",
        &[
            "POST / HTTP/1.1||incomplete|BadContentLength",
            "raw ab",
            "GET /x HTTP/1.1|",
        ],
    );
    responses(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nxyz\r\nHTTP/1.1 204 N\r\n\r\n",
        &[
            "HTTP/1.1 200 OK|a|incomplete|BadChunk|BadChunk",
            "raw xyz\r\n",
            "HTTP/1.1 204 N|",
        ],
    );
}

#[test]
fn bytes_after_a_response_are_raw_until_the_next() {
    responses(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more HTTP/1.1 204 N\r\n\r\n",
        &["HTTP/1.1 200 OK|ok", "raw  and more ", "HTTP/1.1 204 N|"],
    );
}

#[test]
fn folded_and_spaced_fields_frame_as_they_should() {
    responses(
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length : 2\r\n\r\nok",
        &["HTTP/1.1 200 OK|ok|ObsFold|SpaceBeforeColon"],
    );
}

#[test]
fn the_method_is_waited_for() {
    let mut stream = Stream::new(TEXT);
    stream.feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    assert!(stream.decoder.awaits_notice());
    stream.feed("ok");
    assert_eq!(stream.seen(), [""; 0]);
    stream.asked(&[MethodClass::Other]);
    assert!(!stream.decoder.awaits_notice());
    assert_eq!(stream.seen(), ["HTTP/1.1 200 OK|ok"]);
}

#[test]
fn without_the_method_the_bytes_decide() {
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP/1.1 201 OK\r\nContent-Length: 2\r\n\r\nok";
    for cut in 0..two.len() {
        let mut stream = Stream::new(TEXT);
        stream.feed(&two[..cut]);
        stream.decoder.notice_overdue(&mut stream.output);
        stream.feed(&two[cut..]);
        stream.decoder.notice_overdue(&mut stream.output);
        assert_eq!(
            stream.close(),
            ["HTTP/1.1 200 OK|", "HTTP/1.1 201 OK|ok"],
            "cut at {cut}"
        );
    }
}

#[test]
fn without_requests_nothing_is_waited_for() {
    let mut stream = Stream::new(TEXT);
    stream.decoder.notice(&PeerNotice::NoRequests, &mut stream.output);
    stream.feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert!(!stream.decoder.awaits_notice());
    assert_eq!(stream.seen(), ["HTTP/1.1 200 OK|ok"]);
}

#[test]
fn many_responses_that_wait_do_not_recurse() {
    let mut stream = Stream::new(TEXT);
    stream.feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".repeat(20_000));
    stream.decoder.notice_overdue(&mut stream.output);
    assert_eq!(stream.seen().len(), 20_000);
    assert_eq!(stream.close().len(), 20_000);
}

#[test]
fn every_request_is_told_at_its_head() {
    let mut stream = Stream::new(TEXT);
    stream.feed("HEAD / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 9\r\n\r\na");
    let told = |method| PeerNotice::RequestHead {
        method,
        timestamp_ns: 2,
    };
    assert_eq!(
        stream.output.notices,
        [told(MethodClass::Head), told(MethodClass::Other)]
    );
}

#[test]
fn parts_are_shown_at_idle_as_text_only() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nab";
    let mut stream = Stream::new(TEXT);
    stream
        .asked(&[MethodClass::Other])
        .feed(head)
        .idle()
        .idle()
        .feed("cd")
        .idle();
    stream.feed("ef");
    assert_eq!(
        stream.seen(),
        [
            "HTTP/1.1 200 OK|ab|first|incomplete",
            "|cd|more|incomplete",
            "|ef|final"
        ]
    );
    let mut stream = Stream::new(STRUCTURED);
    stream
        .asked(&[MethodClass::Other])
        .feed(head)
        .idle()
        .feed("cd")
        .idle()
        .feed("ef");
    assert_eq!(stream.seen(), ["HTTP/1.1 200 OK|abcdef"]);
}

#[test]
fn a_gap_in_a_sized_body_keeps_the_framing() {
    let seen = Stream::new(TEXT)
        .asked(&[MethodClass::Other; 2])
        .feed("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        .gap(Some(4))
        .feed("hiHTTP/1.1 204 N\r\n\r\n")
        .close();
    assert_eq!(
        seen,
        [
            "gap Some(4)",
            "HTTP/1.1 200 OK|abchi|incomplete|Gap",
            "HTTP/1.1 204 N|"
        ]
    );
}

#[test]
fn a_gap_to_the_end_of_the_body_keeps_the_framing() {
    let seen = Stream::new(TEXT)
        .asked(&[MethodClass::Other; 2])
        .feed("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        .gap(Some(6))
        .feed("HTTP/1.1 204 N\r\n\r\n")
        .close();
    assert_eq!(
        seen,
        [
            "HTTP/1.1 200 OK|abc|incomplete|Gap",
            "gap Some(6)",
            "HTTP/1.1 204 N|"
        ]
    );
}

#[test]
fn a_gap_in_a_chunk_keeps_the_framing() {
    let seen = Stream::new(TEXT)
        .asked(&[MethodClass::Other; 2])
        .feed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc")
        .gap(Some(4))
        .feed("hi\r\n0\r\n\r\nHTTP/1.1 204 N\r\n\r\n")
        .close();
    assert_eq!(
        seen,
        [
            "gap Some(4)",
            "HTTP/1.1 200 OK|abchi|incomplete|Gap",
            "HTTP/1.1 204 N|"
        ]
    );
}

#[test]
fn a_gap_elsewhere_is_followed_by_a_search() {
    let after = "f a body HTTP/1.1 204 N\r\n\r\n";
    for before in [
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    ] {
        let mut stream = Stream::new(TEXT);
        stream
            .asked(&[MethodClass::Other; 2])
            .feed(before)
            .gap(None)
            .feed(after);
        let seen = stream.close();
        assert_eq!(seen.last().unwrap(), "HTTP/1.1 204 N|", "{seen:?}");
        assert_eq!(
            stream
                .output
                .skipped
                .iter()
                .map(|skipped| skipped.bytes)
                .sum::<u64>(),
            9
        );
    }
}

#[test]
fn after_lost_requests_no_response_is_taken_for_head() {
    let mut stream = Stream::new(TEXT);
    stream
        .feed("HTTP/1.1 204 N\r\n\r\n")
        .asked(&[MethodClass::Head, MethodClass::Head, MethodClass::Other]);
    stream
        .decoder
        .notice(&PeerNotice::RequestsLost, &mut stream.output);
    let seen = stream
        .feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .close();
    assert_eq!(seen, ["HTTP/1.1 204 N|", "HTTP/1.1 200 OK|ok"]);
}

#[test]
fn attached_in_the_middle_of_a_body() {
    let seen = Stream::new(TEXT)
        .asked(&[MethodClass::Other])
        .feed("rest of a body")
        .feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .close();
    assert_eq!(seen, ["raw rest of a body", "HTTP/1.1 200 OK|ok"]);
}

#[test]
fn long_heads_are_counted_and_passed_over() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    for piece in [1000, long.len() + 100] {
        let mut stream = Stream::new(TEXT);
        stream.asked(&[MethodClass::Other; 2]);
        let all = format!("{long}HTTP/1.1 204 N\r\n\r\n");
        for piece in all.as_bytes().chunks(piece) {
            stream.feed(piece);
        }
        assert_eq!(stream.close(), ["HTTP/1.1 204 N|"]);
        assert_eq!(
            stream
                .output
                .skipped
                .iter()
                .map(|skipped| skipped.bytes)
                .sum::<u64>(),
            long.len() as u64
        );
    }
}

#[test]
fn held_responses_are_bounded() {
    let limits = Limits {
        http1_awaiting_bytes: 1000,
        ..Limits::default()
    };
    let mut stream = Stream::with(Options { limits, view: TEXT });
    stream.feed("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    for _ in 0..20 {
        stream.feed([b'x'; 100]);
    }
    assert!(!stream.decoder.awaits_notice());
}

#[test]
fn tiny_events_behind_a_head_cost_no_more_than_their_number() {
    let mut stream = Stream::new(TEXT);
    stream.feed("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    for _ in 0..50_000 {
        stream.feed("x");
    }
    assert!(
        !stream.decoder.awaits_notice(),
        "the events themselves are held too"
    );
}

#[test]
fn upgrade_to_websocket_in_both_directions() {
    let mut responses = Stream::new(TEXT);
    responses.asked(&[MethodClass::Other]);
    responses.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02hi");
    assert_eq!(
        responses.close(),
        ["HTTP/1.1 101 Switching Protocols|", "websocket hi"]
    );
    let mut requests = Stream::new(TEXT);
    requests
        .feed(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
        .feed(b"\x81")
        .feed(b"\x82\0\0\0\0hi");
    assert_eq!(requests.close(), ["GET /ws HTTP/1.1|", "websocket hi"]);
}

#[test]
fn a_refused_upgrade_stays_http() {
    requests(
        "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        &["GET /ws HTTP/1.1|", "GET / HTTP/1.1|"],
    );
}

#[test]
fn a_tunnel_is_detected_anew() {
    in_any_pieces(
        &[MethodClass::Connect, MethodClass::Other],
        b"HTTP/1.1 200 Connected\r\nContent-Length: 5\r\n\r\n220 mail\r\n",
        &["HTTP/1.1 200 Connected|", "raw 220 mail\r\n"],
    );
    requests(
        "CONNECT h:25 HTTP/1.1\r\n\r\nEHLO me and you\r\n",
        &["CONNECT h:25 HTTP/1.1|", "raw EHLO me and you\r\n"],
    );
}

#[test]
fn nested_tunnels_do_not_recurse() {
    let tunnel = "HTTP/1.1 101 Next\r\nUpgrade: x\r\n\r\n";
    assert_eq!(
        Stream::new(TEXT).feed(tunnel.repeat(20_000)).close().len(),
        20_000
    );
}

#[test]
fn events_are_shown_as_they_come() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let mut stream = Stream::new(TEXT);
    stream
        .asked(&[MethodClass::Other])
        .feed(head)
        .feed("data: 1\n\ndata: ");
    assert_eq!(stream.seen(), ["HTTP/1.1 200 OK||first|incomplete", "event 1"]);
    assert_eq!(stream.feed("2\n\n").close()[2..], ["event 2", "||final"]);
    let mut stream = Stream::new(STRUCTURED);
    let seen = stream
        .asked(&[MethodClass::Other])
        .feed(head)
        .feed("data: 1\n\nda")
        .feed("ta: 2\n\n")
        .close();
    assert_eq!(
        seen,
        ["event 1", "event 2", "HTTP/1.1 200 OK|data: 1\n\ndata: 2\n\n"]
    );
}

#[test]
fn events_go_on_when_the_body_is_full() {
    let limits = Limits {
        body_bytes: 100,
        ..Limits::default()
    };
    let view = STRUCTURED;
    let mut stream = Stream::with(Options { limits, view });
    stream
        .asked(&[MethodClass::Other])
        .feed("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    for number in 0..100 {
        stream.feed(format!("data: {number}\n\n"));
    }
    let seen = stream.close();
    let expected: Vec<_> = (0..100).map(|number| format!("event {number}")).collect();
    assert_eq!(seen[..100], expected);
    assert!(stream.output.skipped.is_empty());
    let Content::Http1(response) = &stream.output.messages[100].content else {
        panic!("{:?}", stream.output.messages[100]);
    };
    assert_eq!((response.body.truncated_at, response.body.len), (Some(50), 990));
}

#[test]
fn idle_decoders_are_small() {
    let (http1, options) = (size_of::<super::decoder::Http1Decoder>(), size_of::<Options>());
    assert!(http1 + options <= 512, "{http1} + {options}");
}

#[test]
fn what_follows_the_last_event_is_shown_as_it_came() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let body = "data: whole\r\n\r\ndata: the\r\ndata: tail";
    let expected = [
        "HTTP/1.1 200 OK||first|incomplete",
        "event whole",
        "|data: the\r\ndata: tail|final",
    ];
    for cut in 0..=body.len() {
        let mut stream = Stream::new(View::Text);
        stream.asked(&[MethodClass::Other]).feed(head);
        stream.feed(&body[..cut]).feed(&body[cut..]);
        assert_eq!(stream.close(), expected, "cut at {cut}");
    }
}

#[test]
fn a_gap_never_joins_halves_of_two_events() {
    let mut stream = Stream::new(View::Text);
    stream.asked(&[MethodClass::Other]);
    stream.feed("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: first\n\ndata: be");
    stream.gap(Some(20)).feed("hind\ndata: it\n\ndata: next\n\n");
    let seen = stream.close();
    let events: Vec<_> = seen.iter().filter(|line| line.starts_with("event ")).collect();
    assert_eq!(events, ["event first", "event next"]);
}

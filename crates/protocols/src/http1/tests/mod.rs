//! The decoder as the pipeline drives it: through detection, in any pieces.

mod events;
mod hand_over;
mod loss;
mod pairing;

use bytes::Bytes;

use crate::decoder::{MethodClass, Options, Output, PeerNotice, StreamDecoder, View};
use crate::detect::stream_decoder;
use crate::limits::Limits;
use crate::message::{Anomaly, Content, Gap, GapReason, Http1Message, Message, Part};

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

/// Formats a message as `start line | body | what is wrong`.
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
    let start = head.trim_start().lines().next().unwrap_or("").to_owned();
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

/// Feeds `bytes` whole, in two pieces cut at every place, and byte by byte; the messages must
/// always be the same.
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

/// Joins raw messages, which have no boundaries of their own.
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
            "HTTP/1.1 200 OK|abc0123456789|\"X-Sum: 1\\r\\nY: 2\\r\\n\"|BadChunk",
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
fn empty_lines_before_a_message_go_with_it() {
    responses(
        "HTTP/1.1 204 N\r\n\r\n\r\n\r\nHTTP/1.1 204 N\r\n\r\n\n",
        &["HTTP/1.1 204 N|", "HTTP/1.1 204 N|", "raw \n"],
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
fn bytes_that_cannot_be_framed_are_not_guessed() {
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
fn idle_decoders_are_small() {
    let (http1, options) = (size_of::<super::decoder::Http1Decoder>(), size_of::<Options>());
    assert!(http1 + options <= 512, "{http1} + {options}");
}

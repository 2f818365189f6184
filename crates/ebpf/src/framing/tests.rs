extern crate std;

use std::borrow::ToOwned as _;
use std::string::{String, ToString as _};
use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::limits::CHUNK_PAYLOAD;

const CLIENT: usize = 1;
const SERVER: usize = 0;

/// Looks at what is handed over of a call.
struct Checked<'bytes> {
    bytes: &'bytes [u8],
    sent: u64,
}

impl Call for Checked<'_> {
    fn read(&mut self, ahead: u64, window: &mut [u64; WINDOW_BYTES / 8], length: u32) -> bool {
        let bytes = &self.bytes[(self.sent + ahead) as usize..][..length as usize];
        for (word, bytes) in window.iter_mut().zip(bytes.chunks(8)) {
            let mut all = [0xEE; 8];
            all[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(all);
        }
        true
    }

    fn send(&mut self, _: bool, length: u64) {
        assert!(0 < length && length <= CHUNK_PAYLOAD as u64, "{length}");
        self.sent += length;
    }
}

struct Session {
    framing: Framing,
    positions: [u64; 2],
    joined_late: bool,
}

impl Session {
    fn new() -> Self {
        Self {
            framing: NEW_FRAMING,
            positions: [0; 2],
            joined_late: false,
        }
    }

    fn joined_late() -> Self {
        Self {
            joined_late: true,
            ..Self::new()
        }
    }

    /// What is handed over of a call.
    fn call(&mut self, direction: usize, bytes: &[u8]) -> Vec<u8> {
        self.call_readable(direction, bytes, usize::MAX)
    }

    fn call_readable(&mut self, direction: usize, bytes: &[u8], readable: usize) -> Vec<u8> {
        let position = self.positions[direction];
        if readable > bytes.len() {
            self.check_ranges(direction, position, bytes);
        }
        let mut sent = bytes.to_vec();
        let beginning = self.beginning(position, bytes);
        self.framing.leave_out(direction, &beginning, &mut sent, readable);
        self.positions[direction] += bytes.len() as u64;
        sent
    }

    fn beginning(&self, position: u64, bytes: &[u8]) -> Beginning {
        Beginning {
            position,
            length: bytes.len() as u64,
            may_lack_bytes: self.joined_late,
            sock: 0,
        }
    }

    /// All bytes are handed over, in order, in pieces and steps that are bounded.
    fn check_ranges(&self, direction: usize, position: u64, bytes: &[u8]) {
        let mut framing = self.framing;
        let beginning = self.beginning(position, bytes);
        framing.begin_call(direction, &beginning);
        let other = framing.streams[1 - direction];
        let stream = &mut framing.streams[direction];
        let mut call = Checked { bytes, sent: 0 };
        let most = 4 * bytes.len() + 4;
        let steps = (0..most).take_while(|_| !step(stream, &other, &mut call)).count();
        assert!(steps < most, "steps are bounded by the bytes");
        assert_eq!((stream.rest(), call.sent), (0, bytes.len() as u64));
    }

    /// Bytes that pass unseen.
    fn miss(&mut self, direction: usize, bytes: u64) {
        self.positions[direction] += bytes;
    }

    fn shown(&mut self, direction: usize, bytes: impl AsRef<[u8]>) -> String {
        let sent = self.call(direction, bytes.as_ref());
        let shown = sent.iter().map(|&byte| match byte {
            0 => "_".to_string(),
            b'\r' | b'\n' | b' '..=b'~' => char::from(byte).to_string(),
            _ => format!("<{byte:02x}>"),
        });
        shown.collect()
    }
}

/// Bytes in which an underscore stands for one of content, and what is handed over of them.
fn check(session: &mut Session, direction: usize, expected: &str) {
    let bytes = expected.replace('_', "x");
    assert_eq!(session.shown(direction, &bytes), expected);
}

/// The same in one call, in one call for each byte, and in two at every place, each time with other calls before.
fn check_split(before: &[(usize, &str)], direction: usize, expected: &str) {
    let prepared = || {
        let mut session = Session::new();
        for (direction, expected) in before {
            check(&mut session, *direction, expected);
        }
        session
    };
    let bytes = expected.replace('_', "x");
    for split in 0..bytes.len() {
        let mut session = prepared();
        let (first, second) = bytes.split_at(split);
        let shown = session.shown(direction, first) + &session.shown(direction, second);
        assert_eq!(shown, expected, "split at {split}");
    }
    let mut session = prepared();
    let shown: String = bytes
        .chars()
        .map(|byte| session.shown(direction, byte.to_string()))
        .collect();
    assert_eq!(shown, expected, "byte by byte");
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const HEAD_REQUEST: &str = "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn a_request_with_a_length() {
    check_split(
        &[],
        CLIENT,
        "POST /form?q=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\nX: a long value, longer than a word\r\n\r\n_______\
         GET /next HTTP/1.1\r\ncontent-LENGTH:  3 \r\n\r\n___",
    );
}

#[test]
fn chunks_and_trailers() {
    check_split(
        &[(CLIENT, GET)],
        SERVER,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n5;name=value\r\n_____\r\n0A\r\n__________\r\n0\r\n\
         Trailer: value\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    );
}

#[test]
fn responses_without_content() {
    for (request, response) in [
        (HEAD_REQUEST, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            GET,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
        ),
    ] {
        let next = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n__";
        check_split(
            &[(CLIENT, request), (CLIENT, GET)],
            SERVER,
            &format!("{response}{next}"),
        );
    }
}

#[test]
fn requests_that_are_sent_ahead_have_their_methods_in_order() {
    let mut session = Session::new();
    check(&mut session, CLIENT, &(GET.to_owned() + HEAD_REQUEST + GET));
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n__HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n_",
    );
}

#[test]
fn too_many_requests_ahead_of_a_response_leave_it_out() {
    let mut session = Session::new();
    for _ in 0..65 {
        check(&mut session, CLIENT, GET);
    }
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    check(&mut session, SERVER, &format!("{response}__"));
    check(&mut session, SERVER, "_______________");
}

#[test]
fn content_up_to_the_end() {
    for head in [
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    ] {
        let mut session = Session::new();
        check(&mut session, CLIENT, GET);
        check(&mut session, SERVER, &format!("{head}____"));
        check(&mut session, SERVER, "________");
    }
}

#[test]
fn lengths_that_recipients_read_differently_end_the_framing() {
    for value in ["5, 6", "+5", "0x5", "5 6", "", "18446744073709551616", "-1"] {
        let mut session = Session::new();
        let head = format!("POST / HTTP/1.1\r\nContent-Length: {value}\r\n\r\n");
        check(&mut session, CLIENT, &format!("{head}____"));
        assert_eq!(
            session.call(CLIENT, GET.as_bytes()),
            vec![0; GET.len()],
            "{value}"
        );
    }
    check_split(
        &[],
        CLIENT,
        "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n___GET / HTTP/1.1\r\n\r\n",
    );
    check_split(
        &[],
        CLIENT,
        "POST / HTTP/1.1\r\nContent-Length : 3\r\nXContent-Length: 9\r\n\r\n___GET / HTTP/1.1\r\n\r\n",
    );
}

#[test]
fn lengths_in_folded_lines_end_the_framing() {
    for fields in [
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked\r\n , gzip",
        "Transfer-Encoding: chun ked",
        "Transfer-Encoding:",
        "Content-Length: 4\r\n 2",
        "Content-Length: 4\r2",
    ] {
        let mut session = Session::new();
        check(
            &mut session,
            CLIENT,
            &format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n____"),
        );
        assert_eq!(
            session.call(CLIENT, GET.as_bytes()),
            vec![0; GET.len()],
            "{fields}"
        );
    }
    for fields in ["X: y\r\n z", "Content- Length: 4", "Transfer-Encoding : identity"] {
        let mut session = Session::new();
        check(
            &mut session,
            CLIENT,
            &format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n"),
        );
        check(&mut session, CLIENT, GET);
    }
}

#[test]
fn a_long_line_is_handed_over_when_it_is_complete() {
    let mut session = Session::new();
    let json = format!("{{\"token\": \"{}\"}}\n", "x".repeat(70_000));
    for text in [&json[..20_000], &json[..], &json[..16_384]] {
        let mut session = Session::new();
        assert_eq!(session.call(CLIENT, text.as_bytes()), vec![0; text.len()]);
    }
    let path = "a".repeat(14_000);
    for bytes in [0, 1000, 3000, 15_000] {
        let body = "_".repeat(bytes);
        let upload = format!(
            "POST / HTTP/1.1\r\nContent-Length: {bytes}\r\nX: {}\r\n\r\n{body}",
            "y".repeat(9000)
        );
        check(
            &mut session,
            CLIENT,
            &format!("{upload}GET /{path} HTTP/1.1\r\n\r\n"),
        );
    }
}

#[test]
fn responses_that_are_seen_before_their_requests_keep_the_order() {
    let mut session = Session::new();
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n__",
    );
    check(&mut session, CLIENT, &(GET.to_owned() + HEAD_REQUEST));
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
    );
    check(&mut session, CLIENT, GET);
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n__",
    );
}

#[test]
fn without_the_methods_of_requests_responses_end_the_framing() {
    let mut session = Session::new();
    session.call(CLIENT, b"\x05\x01\x00");
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n____",
    );
    let response = "HTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(session.call(SERVER, response.as_bytes()), vec![0; response.len()]);
}

#[test]
fn behind_missing_bytes_a_head_has_fields() {
    let mut session = Session::joined_late();
    check(&mut session, CLIENT, "_____");
    let text = "GET / HTTP/1.1\na line without a colon\n";
    assert_eq!(
        session.call(CLIENT, text.as_bytes())[15..],
        vec![0; text.len() - 15]
    );
    let mut session = Session::joined_late();
    let text = "GET / HTTP/1.1\nHost: h\n\x01secret: secret\n\n";
    let sent = session.call(CLIENT, text.as_bytes());
    assert_eq!(sent[..23], text.as_bytes()[..23]);
    assert_eq!(sent[23..], vec![0; text.len() - 23]);
}

#[test]
fn another_connection_of_the_same_session_begins_with_a_head() {
    let mut framing = NEW_FRAMING;
    let mut call = |position: u64, sock, text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        let beginning = Beginning {
            position,
            length: bytes.len() as u64,
            may_lack_bytes: false,
            sock,
        };
        framing.leave_out(CLIENT, &beginning, &mut bytes, usize::MAX);
        bytes
    };
    let upload = "POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n";
    assert_eq!(call(0, 7, upload), upload.as_bytes());
    assert_eq!(call(upload.len() as u64, 8, GET), GET.as_bytes());
}

#[test]
fn chunk_framing_that_is_none_ends_it() {
    for wrong in ["x\r\n", "5\r\n_____x", "\r\n", "fffffffffffffffff\r\n"] {
        let mut session = Session::new();
        check(&mut session, CLIENT, GET);
        let response = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{wrong}");
        session.call(SERVER, response.as_bytes());
        check(&mut session, SERVER, "______");
    }
}

#[test]
fn what_begins_like_no_message_is_content() {
    for text in [
        "USER name\r\n",
        "PASS secret\r\n",
        "secret",
        "secret and more",
        "220 mail ready\r\n",
        "HTTP/1.x 200 OK\r\n",
        "HTTP/1.1 2x0 OK\r\n",
        "GET / SPDY/3\r\n",
        "GET /HTTP/1.1\r\n",
        "PRI * HTTP/2.1\r\n",
        "/path",
        "\u{16}\u{3}\u{1}",
        "\0\0\u{12}\u{5}\0\0\0\0\0",
    ] {
        let mut session = Session::new();
        assert_eq!(
            session.call(CLIENT, text.as_bytes()),
            vec![0; text.len()],
            "{text}"
        );
        assert_eq!(session.call(CLIENT, GET.as_bytes()), vec![0; GET.len()], "{text}");
    }
}

#[test]
fn a_rejected_start_line_does_not_take_what_precedes_it() {
    let mut session = Session::new();
    check(
        &mut session,
        CLIENT,
        "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n__",
    );
    check(&mut session, CLIENT, "GET / HTTP/1.1\r\n\r\n_________________");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    [
        &length.to_be_bytes()[1..],
        &[kind, flags],
        &stream.to_be_bytes(),
        payload,
    ]
    .concat()
}

/// An HTTP/2 connection with every type of frame, and what is handed over of it.
fn frames() -> (Vec<u8>, Vec<u8>) {
    let sent = |content: &[u8], pad: &[u8]| {
        [
            frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
            frame(1, 4, 1, b"\x82\x84"),
            frame(0, 0, 1, content),
            frame(0, 8, 1, &[pad, content].concat()),
            frame(0x2A, 0, 1, content),
            frame(9, 4, 1, b"\x88"),
            frame(0, 1, 1, b""),
            frame(7, 0, 0, &[0; 8]),
        ]
        .concat()
    };
    (sent(b"content", &[2]), sent(&[0; 7], &[2]))
}

#[test]
fn frames_of_http_2() {
    let (bytes, expected) = frames();
    for preface in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""] {
        let bytes = [preface.as_bytes(), &bytes].concat();
        let expected = [preface.as_bytes(), &expected].concat();
        for split in 0..bytes.len() {
            let mut session = Session::new();
            let (first, second) = bytes.split_at(split);
            let sent = [session.call(SERVER, first), session.call(SERVER, second)].concat();
            assert_eq!(sent, expected, "{split}");
        }
    }
}

#[test]
fn a_connection_that_was_joined_late_begins_with_a_call() {
    let mut session = Session::joined_late();
    check(&mut session, CLIENT, "_____________");
    check(&mut session, CLIENT, GET);
    check(&mut session, SERVER, "___");
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n__",
    );
    let mut session = Session::joined_late();
    let (bytes, expected) = frames();
    assert_eq!(session.call(SERVER, b"content"), [0; 7]);
    assert_eq!(session.call(SERVER, &bytes[15..]).len(), expected[15..].len());
    let headers = frame(1, 4, 1, b"\x82\x84");
    assert_eq!(session.call(SERVER, &headers), headers);
    // What looks like a frame, and is none.
    let wrong = [&frame(1, 4, 1, b"")[..], b"secret secret secret"].concat();
    assert_eq!(session.call(SERVER, &wrong), vec![0; wrong.len()]);
}

#[test]
fn web_sockets() {
    let upgrade = "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let message = |content: &[u8]| {
        [
            &[0x81, 0x80 | content.len() as u8, 1, 2, 3, 4],
            content,
            &[0xC2, 126, 0, content.len() as u8],
            content,
            &[0x88, 2 + content.len() as u8, 3, 232],
            content,
            &[0x8A, 127, 0, 0, 0, 0, 0, 0, 0, content.len() as u8],
            content,
        ]
        .concat()
    };
    let (bytes, expected) = (message(b"content"), message(&[0; 7]));
    for split in 0..bytes.len() {
        for direction in [CLIENT, SERVER] {
            let mut session = Session::new();
            check(&mut session, CLIENT, upgrade);
            check(&mut session, SERVER, switched);
            let (first, second) = bytes.split_at(split);
            let sent = [session.call(direction, first), session.call(direction, second)].concat();
            assert_eq!(sent, expected, "{split}");
        }
    }
    // A server that does not switch.
    let mut session = Session::new();
    check(&mut session, CLIENT, upgrade);
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    );
    check(&mut session, CLIENT, GET);
}

#[test]
fn what_is_in_a_tunnel_is_content() {
    let mut session = Session::new();
    check(&mut session, CLIENT, "CONNECT h:443 HTTP/1.1\r\n\r\n");
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 Connection established\r\nContent-Length: 9\r\n\r\n",
    );
    assert_eq!(session.call(CLIENT, b"\x16\x03\x01\x02"), [0; 4]);
    assert_eq!(session.call(SERVER, b"\x16\x03\x03\x02"), [0; 4]);
}

#[test]
fn content_of_many_records() {
    let head = "POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n";
    let mut session = Session::new();
    let bytes = head.to_owned() + &"_".repeat(100_000) + GET;
    check(&mut session, CLIENT, &bytes);
    // A head of several records.
    let bytes = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    check(&mut session, CLIENT, &bytes);
}

#[test]
fn bytes_from_files_are_content_where_content_is_expected() {
    let mut session = Session::new();
    check(&mut session, CLIENT, GET);
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n_",
    );
    session.miss(SERVER, 999);
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n_",
    );
    // More than were expected: from now on each call may begin with a head.
    session.miss(SERVER, 1);
    check(&mut session, SERVER, "_____");
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n_",
    );
}

#[test]
fn what_cannot_be_read_is_content() {
    let mut session = Session::new();
    let request = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(100));
    let sent = session.call_readable(CLIENT, request.as_bytes(), 70);
    assert_eq!(sent[..64], request.as_bytes()[..64]);
    assert_eq!(sent[64..], vec![0; request.len() - 64]);
    check(&mut session, CLIENT, GET);
}

#[test]
fn another_session_at_the_same_address_has_its_own_framing() {
    let mut session = Session::new();
    check(&mut session, CLIENT, HEAD_REQUEST);
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
    );
    check(
        &mut session,
        CLIENT,
        "POST / HTTP/1.1\r\nContent-Length: 200\r\n\r\n___",
    );
    session.positions = [0; 2];
    check(&mut session, CLIENT, GET);
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n__",
    );
}

/// A generator of numbers that are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Damaged streams of every protocol, in calls of any length, some with a part that cannot be read: each byte is
/// handed over or left out, in a bounded number of steps, and no number overflows.
#[test]
fn damaged_streams_are_followed_to_their_end() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let upgrade = "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    let switched = "HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n\u{1}\u{5}hello\u{8}\u{2}ab";
    let sized = "POST / HTTP/1.1\r\nContent-Length: 12345678901234567890\r\n\r\n";
    let texts = [GET, HEAD_REQUEST, chunked, upgrade, switched, sized].map(|text| text.as_bytes().to_vec());
    let streams = [&texts[..], &[frames().0]].concat();
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    for _ in 0..3000 {
        let mut session = Session {
            joined_late: numbers.below(2) == 0,
            ..Session::new()
        };
        for _ in 0..=numbers.below(12) {
            let mut bytes = streams[numbers.below(streams.len())].clone();
            for _ in 0..numbers.below(3) {
                let at = numbers.below(bytes.len());
                bytes[at] = numbers.below(256) as u8;
            }
            let direction = numbers.below(2);
            for call in bytes.chunks(numbers.below(bytes.len()) + 1) {
                let readable = if numbers.below(20) == 0 {
                    numbers.below(call.len())
                } else {
                    usize::MAX
                };
                session.call_readable(direction, call, readable);
            }
            if numbers.below(10) == 0 {
                session.miss(direction, numbers.below(1000) as u64);
            }
        }
    }
}

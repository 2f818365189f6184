//! What is no message, and what bytes are missing before.

use super::*;

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
            if numbers.below(200) == 0 {
                // More than is handed over at once.
                let repeated = bytes.repeat(3 * CHUNK_PAYLOAD / bytes.len());
                bytes = [&streams[numbers.below(streams.len())][..], &repeated].concat();
            }
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

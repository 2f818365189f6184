//! Messages of HTTP/1.

use super::*;

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
fn lines_of_every_length() {
    for length in 0..40 {
        let text = "a/b".repeat(14);
        let text = &text[..length];
        check_split(
            &[],
            CLIENT,
            &format!(
                "POST /{text} HTTP/1.1\r\nX-{text}: {text}\r\nC{text}:{text}\nContent-Length: 2\r\nETag:{text}\r\n\r\n__\
                 {GET}"
            ),
        );
        check_split(
            &[(CLIENT, GET)],
            SERVER,
            &format!("HTTP/1.1 200 {text}\nE: {text}\nContent-Length: 2\n\n__HTTP/1.1 204 No\r\n\r\n"),
        );
    }
}

#[test]
fn an_upgrade_that_is_no_token_frames_nothing() {
    for value in ["a b", "websocket b", "a b, websocket", "websocket b,websocket"] {
        check_split(
            &[],
            CLIENT,
            &format!("POST / HTTP/1.1\r\nUpgrade: {value}\r\nContent-Length: 2\r\n\r\n__{GET}"),
        );
    }
    let mut session = Session::new();
    check(
        &mut session,
        CLIENT,
        "GET / HTTP/1.1\r\nUpgrade: websocket b\r\n\r\n",
    );
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 101 S\r\nUpgrade: websocket b\r\n\r\n",
    );
    // A header of a WebSocket frame would be handed over.
    assert_eq!(session.shown(SERVER, b"\x82\x05hello"), "_______");
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
    // Heads of several records, wherever they begin in a word.
    for length in 0..9 {
        let value = "y".repeat(40_000);
        let bytes = format!(
            "PUT / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{}GET / HTTP/1.1\r\nX: {value}\r\n\r\n",
            "_".repeat(length),
        );
        check(&mut session, CLIENT, &bytes);
    }
}

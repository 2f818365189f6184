//! Responses whose framing their request decides.

use super::*;

#[test]
fn a_response_to_head_has_no_body() {
    in_any_pieces(
        &[MethodClass::Head, MethodClass::Other],
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        &["HTTP/1.1 200 OK|", "HTTP/1.1 200 OK|ok"],
    );
}

#[test]
fn a_response_waits_for_the_method_of_its_request() {
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
fn if_the_method_is_unknown_the_bytes_decide() {
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP/1.1 201 OK\r\nContent-Length: 2\r\n\r\nok";
    for cut in 0..two.len() {
        let mut stream = Stream::new(TEXT);
        stream.feed(&two[..cut]);
        stream.decoder.notice_overdue(&mut stream.output);
        stream.feed(&two[cut..]);
        stream.decoder.notice_overdue(&mut stream.output);
        assert_eq!(
            stream.close(),
            ["HTTP/1.1 200 OK||GuessedHead", "HTTP/1.1 201 OK|ok"],
            "cut at {cut}"
        );
    }
}

#[test]
fn without_requests_no_response_waits() {
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
    let mut steps = 0;
    while stream.decoder.has_more() {
        stream.decoder.go_on(&mut stream.output);
        steps += 1;
    }
    // 16 KiB of the 780,000 bytes in each.
    assert_eq!(steps, 48);
    assert_eq!(stream.seen().len(), 20_000);
    assert_eq!(stream.close().len(), 20_000);
}

/// Bytes fed while the decoder works off held input are decoded after it, and a change of protocols
/// hands over both.
#[test]
fn events_fed_while_held_ones_are_decoded_stay_in_order() {
    let mut stream = Stream::new(TEXT);
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for _ in 0..2 {
        stream.feed(response.repeat(1000));
    }
    stream.decoder.notice_overdue(&mut stream.output);
    assert!(stream.decoder.has_more());
    stream.feed("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: unknown\r\n\r\n");
    stream.feed("not HTTP");
    while stream.decoder.has_more() || stream.decoder.awaits_notice() {
        stream.decoder.go_on(&mut stream.output);
        stream.decoder.notice_overdue(&mut stream.output);
    }
    let seen = stream.close();
    assert_eq!(seen.len(), 2002, "{:?}", &seen[1995..]);
    assert!(seen[2000].starts_with("HTTP/1.1 101"), "{}", seen[2000]);
    assert!(seen[2001].contains("not HTTP"), "{}", seen[2001]);
}

#[test]
fn every_request_is_reported_at_its_head() {
    let mut stream = Stream::new(TEXT);
    stream.feed("HEAD / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 9\r\n\r\na");
    let notice = |method| PeerNotice::RequestHead {
        method,
        timestamp_ns: 2,
    };
    assert_eq!(
        stream.output.notices,
        [notice(MethodClass::Head), notice(MethodClass::Other)]
    );
}

#[test]
fn held_responses_are_bounded() {
    let limits = Limits {
        http1_awaiting_bytes: 1000,
        ..Limits::default()
    };
    let mut stream = Stream::with(Options {
        limits,
        view: TEXT,
        ..Options::default()
    });
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

//! Gaps, late attaches and heads over the limit.

use super::*;

#[test]
fn a_gap_inside_a_body_keeps_the_framing() {
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc";
    let inside = ["gap Some(4)", "HTTP/1.1 200 OK|abchi|incomplete|Gap"];
    let to_the_end = ["HTTP/1.1 200 OK|abc|incomplete|Gap", "gap Some(6)"];
    for (before, gap, after, expected) in [
        (sized, 4, "hi", inside),
        (sized, 6, "", to_the_end),
        (chunked, 4, "hi\r\n0\r\n\r\n", inside),
    ] {
        let seen = Stream::new(TEXT)
            .asked(&[MethodClass::Other; 2])
            .feed(before)
            .gap(Some(gap))
            .feed(format!("{after}HTTP/1.1 204 N\r\n\r\n"))
            .close();
        assert_eq!(seen[..2], expected, "{before} {gap}");
        assert_eq!(seen[2..], ["HTTP/1.1 204 N|"], "{before} {gap}");
    }
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
fn long_heads_are_cut_marked_and_framed() {
    let fields = format!("X: {}\r\nContent-Length: 2\r\n", "x".repeat(70_000));
    let short = "a: b\r\n".repeat(2000);
    for (start, fields) in [
        ("HTTP/1.1 200 OK\r\n", &fields),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", &short),
        ("HTTP/1.1 200 OK\n", &fields),
    ] {
        let long = format!("{start}{fields}\r\n");
        let all = format!("{long}okHTTP/1.1 204 N\r\n\r\n");
        for piece in [1, 1000, all.len()] {
            let mut stream = Stream::new(TEXT);
            stream.asked(&[MethodClass::Other; 2]);
            for piece in all.as_bytes().chunks(piece) {
                stream.feed(piece);
            }
            let seen = stream.close();
            assert!(seen[0].starts_with("HTTP/1.1 200 OK|ok"), "{seen:?}");
            assert_eq!(seen[1..], ["HTTP/1.1 204 N|"]);
            let Content::Http1(first) = &stream.output.messages[0].content else {
                panic!("{:?}", stream.output)
            };
            let limit = Limits::default().http1_head_bytes;
            let skipped: u64 = stream.output.skipped.iter().map(|skipped| skipped.bytes).sum();
            assert_eq!(first.head, long.as_bytes()[..long.len().min(limit)]);
            assert_eq!(skipped, long.len().saturating_sub(limit) as u64);
            let is_cut = first.anomalies.contains(&Anomaly::HeadTooLong);
            assert_eq!(is_cut, long.len() > limit);
        }
    }
}

#[test]
fn a_long_head_without_an_end_is_shown_as_far_as_it_is_kept() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(70_000));
    let mut stream = Stream::new(TEXT);
    stream.asked(&[MethodClass::Other]).feed(&long);
    let limit = Limits::default().http1_head_bytes;
    assert_eq!(stream.close(), [format!("raw {}", &long[..limit])]);
    assert_eq!(stream.output.skipped[0].bytes, (long.len() - limit) as u64);
}

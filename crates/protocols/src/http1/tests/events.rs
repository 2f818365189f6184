//! Event streams.

use super::*;

#[test]
fn events_are_shown_as_they_arrive() {
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
    let mut stream = Stream::with(Options {
        limits,
        view,
        ..Options::default()
    });
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
fn bytes_after_the_last_event_are_shown_as_received() {
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

//! The event streams of HTML standard §9.2.6, in every split.

use ecapture_protocols::Limits;
use ecapture_protocols::message::ServerSentEvent;
use ecapture_protocols::sse::SseDecoder;

fn event(name: Option<&str>, data: &str, id: Option<&str>) -> ServerSentEvent {
    ServerSentEvent {
        stream: None,
        event: name.map(str::to_owned),
        data: data.to_owned(),
        id: id.map(str::to_owned),
        retry: None,
        truncated: false,
    }
}

fn decode(pieces: &[&[u8]]) -> Vec<ServerSentEvent> {
    let mut decoder = SseDecoder::new(&Limits::default());
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece, &mut events);
    }
    events
}

/// Checks the events of a stream that is fed whole, byte by byte, and in two pieces cut at every
/// place.
fn assert_decodes(stream: &[u8], expected: &[ServerSentEvent]) {
    assert_eq!(decode(&[stream]), expected);
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(decode(&bytes), expected, "byte by byte");
    for cut in 0..=stream.len() {
        let (head, tail) = stream.split_at(cut);
        assert_eq!(decode(&[head, b"", tail]), expected, "cut at {cut}");
    }
}

#[test]
fn the_examples_of_the_standard() {
    assert_decodes(
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        &[event(None, "YHOO\n+2\n10", None)],
    );
    assert_decodes(
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
        &[
            event(None, "first event", Some("1")),
            event(None, "second event", Some("")),
        ],
    );
    assert_decodes(
        b"data\n\ndata\ndata\n\ndata:",
        &[event(None, "", None), event(None, "\n", None)],
    );
    assert_decodes(
        b"data:test\n\ndata: test\n\n",
        &[event(None, "test", None), event(None, "test", None)],
    );
}

#[test]
fn every_line_end_and_a_byte_order_mark() {
    assert_decodes(
        b"\xef\xbb\xbfevent: a\rdata: 1\r\revent: b\r\ndata: 2\r\n\r\nevent: c\ndata: 3\n\ndata: 4\r\n\n",
        &[
            event(Some("a"), "1", None),
            event(Some("b"), "2", None),
            event(Some("c"), "3", None),
            event(None, "4", None),
        ],
    );
    assert_decodes(
        b"data: 1\n\n\xef\xbb\xbfdata: not at the start\n\n",
        &[event(None, "1", None)],
    );
}

#[test]
fn id_and_retry_without_data_apply_to_the_next_event_and_a_name_does_not() {
    let mut expected = event(None, "x", Some("9"));
    expected.retry = Some(3000);
    assert_decodes(
        b"retry: 3000\n\nid: 9\nevent: lost\n\nid: 1\x002\nretry: 1s\nretry:\nunknown: y\ndata: x\n\n",
        &[expected],
    );
}

#[test]
fn bytes_that_are_not_utf_8_are_replaced() {
    assert_decodes(
        b"data: caf\xe9 \xf0\x9f\x98\n\n",
        &[event(None, "caf\u{fffd} \u{fffd}", None)],
    );
}

#[test]
fn long_events_are_cut_and_memory_is_bounded() {
    let limits = Limits {
        sse_event_bytes: 100,
        ..Limits::default()
    };
    for line in [
        &b"data: 0123456789\n"[..],
        b"data:\n",
        b"data: \xc3\xa9\xff\n",
        b"endless",
    ] {
        let mut decoder = SseDecoder::new(&limits);
        let mut events = Vec::new();
        for _ in 0..1000 {
            decoder.push(line, &mut events);
            assert!(decoder.buffered_bytes() <= 200);
        }
        decoder.push(b"\ndata: end\n\ndata: next\n\n", &mut events);
        assert!(events[0].truncated);
        assert!(events[0].data.len() <= 100);
        assert_eq!(events.last(), Some(&event(None, "next", None)));
    }
}

#[test]
fn unfinished_bytes_are_those_after_the_last_empty_line() {
    for (stream, expected) in [
        (&b"data: a\n\n"[..], 0),
        (b"data: a\r\n\r\n", 0),
        (b"data: a\r\rdata", 4),
        (b"data: a\r\n\r\nid: 1\r\nx", 8),
    ] {
        for cut in 0..=stream.len() {
            let mut decoder = SseDecoder::new(&Limits::default());
            decoder.push(&stream[..cut], &mut Vec::new());
            decoder.push(&stream[cut..], &mut Vec::new());
            assert_eq!(decoder.unfinished_bytes(), expected, "{stream:?} cut at {cut}");
        }
    }
}

use ecapture_protocols::Process;

use super::*;

const HEADING: usize = 2;

/// An end of a message of the direction from `port`.
fn end(port: u16, is_sender: bool, first_ns: u64) -> MessageEnd {
    let address = |port| ([127, 0, 0, 1], port).into();
    let pid = if is_sender { 10 } else { 20 };
    MessageEnd {
        place: MessagePlace {
            sender: address(port),
            receiver: address(443),
        },
        is_sender,
        is_opener: is_sender,
        process: Process {
            pid,
            tid: pid,
            uid: None,
            comm: "app".into(),
        },
        first_ns,
        heading: HEADING,
        is_whole: true,
    }
}

/// The record of an end: its heading is its own.
fn record(is_sender: bool, text: &str) -> Vec<u8> {
    let heading = if is_sender { "->" } else { "<-" };
    format!("{heading}{text}").into_bytes()
}

fn with_room_for(most_count: usize, most_bytes: usize) -> MessageEnds {
    MessageEnds {
        most_count,
        most_bytes,
        ..MessageEnds::default()
    }
}

/// Takes records as a Sink does, and collects what it would write: a joined one ends with `=`.
struct Page {
    ends: MessageEnds,
    lines: Vec<String>,
}

impl Page {
    fn new() -> Self {
        Self {
            ends: with_room_for(100, 10_000),
            lines: Vec::new(),
        }
    }

    fn take(&mut self, end: MessageEnd, text: &str) {
        let bytes = record(end.is_sender, text);
        match self.ends.next(&end, &bytes) {
            Next::Alone(alone) => {
                self.write(alone);
                self.lines.push(String::from_utf8_lossy(&bytes).into_owned());
            }
            Next::Joined(alone, other) => {
                self.write(alone);
                assert_ne!(other.end.is_sender, end.is_sender);
                self.lines.push(format!("{text}="));
            }
            Next::Waits => {
                let since_ns = end.first_ns;
                let alone = self.ends.hold(held(end, bytes, since_ns));
                self.write(alone);
            }
        }
    }

    fn write(&mut self, alone: impl IntoIterator<Item = HeldMessage>) {
        let text = |held: HeldMessage| String::from_utf8_lossy(&held.bytes).into_owned();
        self.lines.extend(alone.into_iter().map(text));
    }

    fn finish(mut self) -> Vec<String> {
        while let Some(alone) = self.ends.release(u64::MAX) {
            self.write([alone]);
        }
        assert!(self.ends.is_empty());
        let MessageEnds {
            bytes,
            by_place,
            order,
            ..
        } = &self.ends;
        assert_eq!((*bytes, by_place.len(), order.len()), (0, 0, 0));
        self.lines
    }
}

fn held(end: MessageEnd, bytes: Vec<u8>, since_ns: u64) -> HeldMessage {
    HeldMessage {
        end,
        bytes: bytes.into(),
        counted: Counted::default(),
        since_ns,
    }
}

/// Every way of merging two sequences of `count` steps: which end goes on.
fn merges(count: u32) -> impl Iterator<Item = Vec<bool>> {
    let steps = 2 * count;
    (0_u32..1 << steps)
        .filter(move |bits| bits.count_ones() == count)
        .map(move |bits| (0..steps).map(|step| bits >> step & 1 == 1).collect())
}

#[test]
fn messages_of_both_ends_are_joined_in_order_whichever_end_is_ahead() {
    for merge in merges(4) {
        let mut page = Page::new();
        let mut at = [0; 2];
        for &is_sender in &merge {
            let number = &mut at[usize::from(is_sender)];
            *number += 1;
            // The third is like the first.
            let text = ["a", "b", "a", "c"][*number - 1];
            let first_ns = 10 * *number as u64 + u64::from(!is_sender);
            page.take(end(5000, is_sender, first_ns), text);
        }
        assert_eq!(page.finish(), ["a=", "b=", "a=", "c="], "{merge:?}");
    }
}

/// What one end lost is shown by the other one, in its place; nothing is joined wrongly.
#[test]
fn a_message_that_one_end_lost_is_shown_by_the_other_in_its_place() {
    for merge in merges(3) {
        let mut page = Page::new();
        let (mut sent, mut received) = (["a", "b", "c"].into_iter(), ["a", "?", "c"].into_iter());
        for &is_sender in &merge {
            let texts = if is_sender { &mut sent } else { &mut received };
            let text = texts.next().expect("a text");
            let mut end = end(5000, is_sender, u64::from(!is_sender));
            end.is_whole = text != "?";
            page.take(end, text);
        }
        let lines = page.finish();
        for (mark, all) in [("->", ["a", "b", "c"]), ("<-", ["a", "?", "c"])] {
            let seen: Vec<_> = lines
                .iter()
                .filter_map(|line| line.strip_suffix('=').or_else(|| line.strip_prefix(mark)))
                .collect();
            assert_eq!(seen, all, "{merge:?}: {lines:?}");
        }
    }
}

#[test]
fn only_the_same_text_sent_before_it_was_received_is_joined() {
    let joined = |first: (MessageEnd, &str), second: (MessageEnd, &str)| {
        let mut page = Page::new();
        page.take(first.0, first.1);
        page.take(second.0, second.1);
        let lines = page.finish();
        lines.iter().any(|line| line.ends_with('='))
    };
    let sent = || end(5000, true, 10);
    assert!(joined((sent(), "a"), (end(5000, false, 10), "a")));
    assert!(
        !joined((sent(), "a"), (end(5000, false, 11), "b")),
        "another text"
    );
    assert!(
        !joined((sent(), "a"), (end(5000, false, 9), "a")),
        "received before it was sent"
    );
    assert!(
        !joined((sent(), "a"), (end(5001, false, 11), "a")),
        "another connection"
    );
    assert!(!joined((sent(), "a"), (sent(), "a")), "the same end");
    let mut part = end(5000, false, 11);
    part.is_whole = false;
    assert!(!joined((sent(), "a"), (part, "a")), "a part");
}

#[test]
fn the_number_and_the_bytes_that_wait_are_bounded() {
    let bytes = |length: usize| vec![b'x'; length];
    let mut ends = with_room_for(4, 1000);
    for port in 1..=20_u16 {
        let alone = ends.hold(held(end(port, true, 1), bytes(1), u64::from(port)));
        let ports: Vec<_> = alone.iter().map(|held| held.end.place.sender.port()).collect();
        let expected: Vec<u16> = port.checked_sub(4).filter(|&port| port > 0).into_iter().collect();
        assert_eq!(ports, expected);
        assert!(ends.order.len() <= 4 * 4 + 2);
    }
    let mut ends = with_room_for(100, 1000);
    assert!(ends.hold(held(end(1, true, 1), bytes(400), 1)).is_empty());
    assert!(ends.hold(held(end(1, true, 2), bytes(400), 2)).is_empty());
    let too_long = ends.hold(held(end(1, true, 3), bytes(1001), 3));
    let lengths: Vec<_> = too_long.iter().map(|held| held.bytes.len()).collect();
    assert_eq!(lengths, [400, 400, 1001], "those before it come first");
    assert!(ends.is_empty());
    assert_eq!(
        with_room_for(0, 1000)
            .hold(held(end(1, true, 1), bytes(1), 1))
            .len(),
        1
    );
}

#[test]
fn the_oldest_is_released_when_it_has_waited_long_enough() {
    let mut ends = with_room_for(100, 1000);
    for (port, since_ns) in [(1, 100), (2, 200), (1, 300)] {
        assert!(
            ends.hold(held(end(port, true, 1), record(true, "a"), since_ns))
                .is_empty()
        );
    }
    let mut released = |until| {
        let mut times = Vec::new();
        while let Some(held) = ends.release(until) {
            times.push(held.since_ns);
        }
        times
    };
    assert_eq!(released(99), [0; 0]);
    assert_eq!(released(200), [100, 200]);
    assert_eq!(released(300), [300]);
}

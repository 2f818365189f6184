//! What is checked of a decoder's output.

use ecapture_protocols::decoder::SkipReason;
use ecapture_protocols::format::{JsonLines, Text};
use ecapture_protocols::{Comm, Content, Direction, Format, Identity, Message, Output, Process};

/// No byte is in two places, and all are somewhere where the messages say how long they were.
pub(crate) fn check_accounting(output: &Output, fed: u64, has_gap: bool) {
    let skipped = |reason| {
        let of_reason = output
            .skipped
            .iter()
            .filter(move |skipped| skipped.reason == reason);
        of_reason.map(|skipped| skipped.bytes).sum::<u64>()
    };
    let lost: u64 = skipped(SkipReason::Resync) + skipped(SkipReason::HeaderLimit);
    let mut is_exact = true;
    let mut emitted = 0;
    for message in &output.messages {
        emitted += match &message.content {
            Content::Raw(raw) => raw.data.len() as u64,
            Content::WebSocket(message) => message.wire_len,
            Content::Gap(_) => 0,
            Content::Http1(message) => {
                // Chunk framing is in no message, and the lengths of parts are those of the whole.
                is_exact = false;
                message.head.len() as u64
            }
            _ => {
                is_exact = false;
                0
            }
        };
    }
    if is_exact
        && output
            .skipped
            .iter()
            .all(|skipped| skipped.reason != SkipReason::HeaderLimit)
    {
        assert_eq!(emitted + lost, fed, "bytes in are bytes accounted");
    } else if !has_gap {
        assert!(
            emitted + lost <= fed,
            "{emitted} + {lost} bytes accounted of {fed}"
        );
    }
}

/// Both formats take every message, and every line of JSON is one.
pub(crate) fn check_formats(messages: &[Message]) {
    let identity = Identity {
        uuid: "1_1_fuzz_0_1".into(),
        process: Process {
            pid: 1,
            tid: 1,
            uid: None,
            comm: Comm::from("fuzz"),
        },
        direction: Direction::Write,
        fd: None,
        socket: None,
        tls_version: None,
    };
    for truncate in [None, Some(7)] {
        let mut lines = Vec::new();
        JsonLines {
            wall_clock_offset_ns: Some(1 << 60),
            truncate,
        }
        .write(&identity, messages, &mut lines);
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let value: Result<serde_json::Value, _> = serde_json::from_slice(line);
            assert!(
                value.is_ok_and(|value| value["v"] == 1),
                "{}",
                String::from_utf8_lossy(line)
            );
        }
        assert_eq!(
            lines.split_inclusive(|&byte| byte == b'\n').count(),
            messages.len()
        );
        let mut text = Vec::new();
        Text {
            hex: truncate.is_some(),
            color: false,
            truncate,
        }
        .write(&identity, messages, &mut text);
    }
}

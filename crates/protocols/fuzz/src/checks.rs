//! What is checked of a decoder's output.

use ecapture_protocols::decoder::SkipReason;
use ecapture_protocols::format::{JsonLines, Text};
use ecapture_protocols::{Comm, Content, Direction, Format, Identity, Message, Output, Process, View};

/// How every HTTP/2 client begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// No byte is in two places, and all are somewhere where every message says how long it was on the
/// wire: raw bytes and WebSocket. Frame headers and chunk sizes of the others are in no message, nor
/// are the HTTP/2 preface and, where only whole messages are wanted, connection-level frames.
pub(crate) fn check_accounting(output: &Output, bytes: &[u8], view: View) {
    let fed = bytes.len() as u64;
    let has_preface = bytes.windows(PREFACE.len()).any(|window| window == PREFACE);
    let is_lost = |reason| {
        matches!(
            reason,
            SkipReason::EmptyLine | SkipReason::HeaderLimit | SkipReason::Resync
        )
    };
    let lost = output.skipped.iter().filter(|skipped| is_lost(skipped.reason));
    let mut accounted: u64 = lost.map(|skipped| skipped.bytes).sum();
    let is_web_socket =
        |message: &Message| matches!(message.content, Content::Gap(_) | Content::WebSocket(_));
    let tells_all = view == View::Text && !has_preface || output.messages.iter().all(is_web_socket);
    let mut is_exact = tells_all
        && output
            .messages
            .iter()
            .any(|message| !matches!(message.content, Content::Gap(_)));
    for message in &output.messages {
        accounted += match &message.content {
            Content::Raw(raw) => raw.data.len() as u64,
            Content::WebSocket(message) => message.wire_len,
            Content::Gap(_) => 0,
            Content::Http1(message) => {
                is_exact = false;
                (message.head.len() + message.trailers.len()) as u64
            }
            _ => {
                is_exact = false;
                0
            }
        };
    }
    assert!(accounted <= fed, "{accounted} bytes accounted of {fed}");
    assert!(
        !is_exact || accounted == fed,
        "only {accounted} bytes accounted of {fed}"
    );
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
        container_id: None,
        direction: Direction::Write,
        fd: None,
        socket: None,
        tls_version: None,
        joined_late: None,
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
            terminal: truncate.is_none(),
        }
        .write(&identity, messages, &mut text);
    }
}

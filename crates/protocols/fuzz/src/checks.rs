//! The checks of a decoder's output.

use ecapture_protocols::decoder::{SkipReason, Skipped};
use ecapture_protocols::format::{ExchangeLines, Heading, JsonLines, Text};
use ecapture_protocols::message::{Body, Http2Detail, Part};
use ecapture_protocols::{
    Comm, Content, Direction, Format, Message, Options, Origin, Output, Process, StreamOrigin, View,
};

/// The beginning of every HTTP/2 client's bytes.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// Length of the whole preface.
const PREFACE_BYTES: u64 = 24;

/// Checks that no byte is counted twice, and that every byte is counted for the protocols whose
/// messages have their length on the wire: raw bytes and WebSocket. For the others, frame headers
/// and chunk sizes are in no message, nor are the HTTP/2 preface and, if only whole messages are
/// emitted, connection-level frames.
pub(crate) fn check_accounting(output: &Output, bytes: &[u8], options: Options) {
    let view = options.view;
    let tells_frames = view == View::Text;
    let fed = bytes.len() as u64;
    let has_preface = bytes.windows(PREFACE.len()).any(|window| window == PREFACE);
    let is_lost = |reason| matches!(reason, SkipReason::HeaderLimit | SkipReason::Resync);
    let lost = output.skipped.iter().filter(|skipped| is_lost(skipped.reason));
    let mut accounted: u64 = lost.map(|skipped| skipped.bytes).sum();
    let is_web_socket =
        |message: &Message| matches!(message.content, Content::Gap(_) | Content::WebSocket(_));
    let tells_all = tells_frames && !has_preface || output.messages.iter().all(is_web_socket);
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

/// Checks that bytes captured without loss are in messages: only bytes beyond a limit are merely
/// counted, and where every message has its length and no limit was met, the lengths add up to the
/// bytes fed.
pub(crate) fn check_whole(output: &Output, bytes: &[u8], options: Options, may_be_http2: bool) {
    let is_only_counted = |skipped: &&Skipped| skipped.reason == SkipReason::Resync;
    let counted: Vec<_> = output.skipped.iter().filter(is_only_counted).collect();
    assert!(counted.is_empty(), "only counted: {counted:?}");
    for body in output.messages.iter().filter_map(whole_body) {
        let expected = if options.without_content { 0 } else { body.wire_len };
        assert_eq!(body.data.len() as u64, expected, "a body with a hole: {body:?}");
    }
    if !output.skipped.is_empty() || has_unreported_framing(bytes, options, may_be_http2) {
        return;
    }
    let preface = if bytes.starts_with(PREFACE) {
        PREFACE_BYTES
    } else {
        0
    };
    let covered: u64 = preface + output.messages.iter().map(covered).sum::<u64>();
    assert!(
        covered >= bytes.len() as u64,
        "{covered} bytes covered of {}",
        bytes.len()
    );
}

/// Returns a body that is shown as received and has to be complete.
fn whole_body(message: &Message) -> Option<&Body> {
    let body = match &message.content {
        Content::Http1(message) if message.part == Part::Whole => &message.body,
        _ => return None,
    };
    let content_type = body.content_type.as_deref().unwrap_or_default();
    let is_events = content_type
        .to_ascii_lowercase()
        .starts_with(b"text/event-stream");
    let is_as_received = body.encoding.is_empty() && body.truncated_at.is_none();
    (is_as_received && !is_events).then_some(body)
}

/// Returns true if some framing is in no message: chunk sizes, and frames of a connection in some
/// views.
fn has_unreported_framing(bytes: &[u8], options: Options, may_be_http2: bool) -> bool {
    let tells_frames = options.view == View::Text;
    let is_chunked = bytes
        .windows(b"chunked".len())
        .any(|word| word.eq_ignore_ascii_case(b"chunked"));
    let has_late_preface = || {
        bytes
            .windows(PREFACE.len())
            .skip(1)
            .any(|window| window == PREFACE)
    };
    is_chunked || may_be_http2 && (!tells_frames || has_late_preface())
}

/// Returns how many bytes of the stream a message says that it covers.
fn covered(message: &Message) -> u64 {
    match &message.content {
        Content::Raw(raw) => raw.data.len() as u64,
        // The DATA frames that carry it already count its bytes.
        Content::WebSocket(message) if message.stream.is_some() => 0,
        Content::WebSocket(message) => message.wire_len,
        Content::Http1(message) => {
            let is_last = !matches!(message.part, Part::First | Part::Continued { final_part: false });
            let body = if is_last { message.body.wire_len } else { 0 };
            (message.head.len() + message.trailers.len()) as u64 + body
        }
        Content::Http2Frame(frame) => match &frame.detail {
            Http2Detail::Merged(_)
            | Http2Detail::DataPart {
                part: Part::Continued { .. },
                ..
            } => 0,
            _ => 9 + u64::from(frame.length),
        },
        Content::Fact(_)
        | Content::Gap(_)
        | Content::Grpc(_)
        | Content::Http2(_)
        | Content::Unanswered
        | Content::ServerSentEvent(_) => 0,
    }
}

/// The stream that all messages are of.
pub(crate) fn origin() -> Origin {
    Origin {
        process: Process {
            pid: 1,
            tid: 1,
            uid: None,
            comm: Comm::from("fuzz"),
        },
        container_id: None,
        program: None,
        stream: Some(StreamOrigin {
            connection: 1,
            uuid: "1_1_fuzz_0_1".into(),
            direction: Direction::Write,
            fd: None,
            session: 0,
            socket: None,
            tls_version: None,
            joined_late: None,
            other_end: false,
        }),
    }
}

/// Checks that all formats accept every message, and that every line of JSON is valid.
pub(crate) fn check_formats(messages: &[Message]) {
    let origin = origin();
    ExchangeLines {
        heads: true,
        bodies: true,
        ..ExchangeLines::default()
    }
    .formatted(&origin, messages);
    for truncate in [None, Some(7)] {
        let lines = JsonLines {
            wall_clock_offset_ns: Some(1 << 60),
            truncate,
            ..JsonLines::default()
        }
        .formatted(&origin, messages);
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
        Text {
            facts: true,
            hex: truncate.is_some(),
            color: false,
            truncate,
            terminal: truncate.is_none(),
            heading: Heading::Terminal,
            ..Text::default()
        }
        .formatted(&origin, messages);
    }
}

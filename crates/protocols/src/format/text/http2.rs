//! HTTP/2 frames as the original prints them, or messages instead of frames.

use bytes::Bytes;

use crate::format::text::body;
use crate::format::text::page::Page;
use crate::http2::ERROR_NAMES;
use crate::message::{
    BlockError, Body, Field, Http2Detail, Http2Error, Http2Frame, Http2Kind, Http2Message, Part,
};
use crate::text::printable;
use crate::write::{mark_unprintable, unmarked_length};

/// Frame types by octet (RFC 9113 §6).
const FRAME_TYPES: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];
/// Settings by identifier (RFC 9113 §6.5.2, RFC 8441 §3, RFC 9218 §2.1).
const SETTINGS: [(u16, &str); 8] = [
    (1, "HEADER_TABLE_SIZE"),
    (2, "ENABLE_PUSH"),
    (3, "MAX_CONCURRENT_STREAMS"),
    (4, "INITIAL_WINDOW_SIZE"),
    (5, "MAX_FRAME_SIZE"),
    (6, "MAX_HEADER_LIST_SIZE"),
    (8, "ENABLE_CONNECT_PROTOCOL"),
    (9, "NO_RFC7540_PRIORITIES"),
];

pub(super) fn write_frame(frame: &Http2Frame, page: &mut Page<'_>) {
    match &frame.detail {
        Http2Detail::Merged(merged) => write_merged(frame.stream, merged, page),
        Http2Detail::DataPart {
            data,
            part: Part::Continued { final_part },
        } => write_part(frame, data, *final_part, page),
        detail => {
            write_head(frame, page);
            write_detail(frame, detail, page);
        }
    }
}

fn write_detail(frame: &Http2Frame, detail: &Http2Detail, page: &mut Page<'_>) {
    match detail {
        Http2Detail::Carrier | Http2Detail::Merged(_) | Http2Detail::None => {}
        Http2Detail::Fields {
            fields,
            promised,
            error,
        } => {
            write_fields(fields, *error, page);
            if let Some(promised) = promised {
                page.mark(format_args!("promises stream {promised}"));
            }
            if let Some(error) = error {
                page.mark(format_args!("{error}"));
            }
        }
        Http2Detail::Data(data) => {
            write_content(data, page);
            page.bytes(b"\n");
        }
        Http2Detail::DataPart { data, .. } => write_part(frame, data, false, page),
        Http2Detail::CodedData { coding } => {
            let coding = String::from_utf8_lossy(coding);
            let coding = printable(&coding);
            page.text(format_args!("Partial entity body with {coding} encoding ... \n"));
        }
        Http2Detail::Error {
            code,
            last_stream,
            debug,
        } => write_error(*code, *last_stream, debug, page),
        Http2Detail::Malformed { payload, error } => {
            if !payload.is_empty() {
                write_content(payload, page);
                page.bytes(b"\n");
            }
            page.mark(format_args!("{error}"));
        }
        Http2Detail::Settings(settings) => write_settings(settings, page),
    }
}

fn write_settings(settings: &[(u16, u32)], page: &mut Page<'_>) {
    for (identifier, value) in settings {
        match SETTINGS.iter().find(|(known, _)| known == identifier) {
            Some((_, name)) => page.mark(format_args!("{name} = {value}")),
            None => page.mark(format_args!("setting {identifier:#06x} = {value}")),
        }
    }
}

/// Writes the message of a stream.
pub(super) fn write_message(message: &Http2Message, page: &mut Page<'_>) {
    let kind = match message.kind {
        Http2Kind::Request => "request",
        Http2Kind::Response => "response",
    };
    let pushed = if message.pushed { "pushed " } else { "" };
    let goes_on = match message.part {
        Part::Continued { .. } => ", continued",
        Part::Whole | Part::First => "",
    };
    for text in ["\nHTTP/2 ", pushed, kind, ", stream "] {
        page.bytes(text.as_bytes());
    }
    page.number(message.stream);
    page.bytes(goes_on.as_bytes());
    page.bytes(b"\n");
    write_fields(&message.fields, message.error, page);
    if !message.body.data.is_empty() {
        page.bytes(b"\n");
        body::write(&message.body, message.part, page);
        page.bytes(b"\n");
    }
    write_fields(&message.trailers, message.error, page);
    if let Some(error) = message.error {
        page.mark(format_args!("{error}"));
    }
    if let Some(code) = message.reset {
        page.mark(format_args!("reset with {}", ErrorCode(code)));
    }
    match message.part {
        Part::First | Part::Continued { final_part: false } => body::mark_progress(&message.body, page),
        Part::Whole => body::mark_end(&message.body, page),
        Part::Continued { final_part: true } => {
            body::mark_whole(&message.body, page);
            body::mark_end(&message.body, page);
        }
    }
}

fn write_head(frame: &Http2Frame, page: &mut Page<'_>) {
    match FRAME_TYPES.get(usize::from(frame.frame_type)) {
        Some(name) => {
            page.bytes(b"\nFrame Type\t=>\t");
            page.bytes(name.as_bytes());
        }
        None => page.text(format_args!(
            "\nFrame Type\t=>\tUNKNOWN_FRAME_TYPE_{}",
            frame.frame_type
        )),
    }
    page.bytes(b"\nFrame StreamID\t=>\t");
    page.number(frame.stream);
    // The original prints the length of these two only.
    if matches!(frame.frame_type, 0 | 1) {
        page.bytes(b"\nFrame Length\t=>\t");
        page.number(frame.length);
    }
    page.bytes(b"\n");
}

fn write_fields(fields: &[Field], error: Option<Http2Error>, page: &mut Page<'_>) {
    for field in fields {
        page.bytes(b"header field ");
        write_quoted(field.name.as_deref(), page);
        page.bytes(b" = ");
        write_quoted(field.value.as_deref(), page);
        page.bytes(if field.sensitive { b" (sensitive)\n" } else { b"\n" });
    }
    let unknown = |field: &&Field| field.name.is_none() || field.value.is_none();
    let count = fields.iter().filter(unknown).count();
    // An invalid index refers to nothing, and its own mark says so.
    if count > 0 && error != Some(Http2Error::Block(BlockError::Index)) {
        page.mark(format_args!(
            "{count} fields refer to header compression state from before the capture"
        ));
    }
}

fn write_part(frame: &Http2Frame, data: &Bytes, final_part: bool, page: &mut Page<'_>) {
    write_content(data, page);
    page.bytes(b"\n");
    if !final_part {
        let (stream, length) = (frame.stream, frame.length);
        page.mark(format_args!(
            "part of a DATA frame of {length} bytes on stream {stream}, {} bytes here",
            data.len()
        ));
    }
}

/// Writes the content of a frame: text as it is, binary data as a short dump.
fn write_content(data: &Bytes, page: &mut Page<'_>) {
    let content = Body {
        data: data.clone(),
        ..Body::default()
    };
    // A frame may end in the middle of a character, which the next frame continues.
    let continues = data.first().is_some_and(|byte| byte & 0xc0 == 0x80);
    let part = if continues {
        Part::Continued { final_part: false }
    } else {
        Part::Whole
    };
    body::write(&content, part, page);
}

fn write_merged(stream: u32, merged: &Body, page: &mut Page<'_>) {
    page.text(format_args!("\nMerged Data Frame, StreamID\t=>\t{stream}\n"));
    page.text(format_args!(
        "Merged Data Frame, Final Length\t=>\t{}\n\n",
        merged.data.len()
    ));
    body::write(merged, Part::Whole, page);
    page.bytes(b"\n");
    body::mark_end(merged, page);
}

fn write_error(code: u32, last_stream: Option<u32>, debug: &[u8], page: &mut Page<'_>) {
    page.text(format_args!("Frame Error\t=>\t{}\n", ErrorCode(code)));
    if let Some(last_stream) = last_stream {
        page.mark(format_args!("last stream {last_stream}"));
    }
    if !debug.is_empty() {
        page.mark(format_args!("debug data \"{}\"", debug.escape_ascii()));
    }
}

/// An error code by name and number.
struct ErrorCode(u32);

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(code) = self;
        let name = usize::try_from(*code).ok().and_then(|code| ERROR_NAMES.get(code));
        write!(formatter, "{} ({code})", name.unwrap_or(&"UNKNOWN"))
    }
}

/// Writes a double-quoted string as Go's `%q` does: control characters and bytes that are not UTF-8
/// are escaped, the rest is unchanged.
fn write_quoted(text: Option<&[u8]>, page: &mut Page<'_>) {
    let Some(text) = text else {
        page.bytes(b"<unknown>");
        return;
    };
    page.bytes(b"\"");
    let mut rest = text;
    loop {
        let (plain, after) = rest.split_at(unmarked_length(rest, mark_unprintable));
        page.bytes(plain);
        if after.is_empty() {
            break;
        }
        // The run of unprintable bytes ends before the next printable ASCII byte, so no character
        // is cut.
        let odd = after.iter().take_while(|&&byte| is_odd(byte)).count();
        write_escaped(&after[..odd], page);
        rest = &after[odd..];
    }
    page.bytes(b"\"");
}

/// Returns true for the bytes that [`mark_unprintable`] marks.
fn is_odd(byte: u8) -> bool {
    mark_unprintable(u64::from_ne_bytes([byte; 8])) != 0
}

fn write_escaped(text: &[u8], page: &mut Page<'_>) {
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            write_character(character, page);
        }
        for byte in chunk.invalid() {
            page.text(format_args!("\\x{byte:02x}"));
        }
    }
}

fn write_character(character: char, page: &mut Page<'_>) {
    match character {
        '"' | '\\' => page.text(format_args!("\\{character}")),
        '\x07' => page.bytes(b"\\a"),
        '\x08' => page.bytes(b"\\b"),
        '\x0c' => page.bytes(b"\\f"),
        '\n' => page.bytes(b"\\n"),
        '\r' => page.bytes(b"\\r"),
        '\t' => page.bytes(b"\\t"),
        '\x0b' => page.bytes(b"\\v"),
        '\0'..='\x1f' | '\x7f' => page.text(format_args!("\\x{:02x}", u32::from(character))),
        _ if is_printable(character) => page.text(format_args!("{character}")),
        '\u{10000}'.. => page.text(format_args!("\\U{:08x}", u32::from(character))),
        _ => page.text(format_args!("\\u{:04x}", u32::from(character))),
    }
}

/// Approximates what Go calls printable: no control characters, no spaces except the ASCII space,
/// no unassigned characters that Rust's own escaping knows.
fn is_printable(character: char) -> bool {
    let escaped = matches!(character.escape_debug().next(), Some('\\')) && character != '\'';
    character == ' ' || !(character.is_control() || character.is_whitespace() || escaped)
}

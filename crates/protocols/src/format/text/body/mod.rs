//! Content for a reader: text in UTF-8, binary data as a short dump, known files by name.

mod charset;
mod media;
mod multipart;
pub(super) mod readable;

use crate::format::text::hex;
use crate::format::text::page::Page;
use crate::message::{Body, BodyError, Part};
use crate::text::{cut_character, is_text};

/// Number of bytes of binary content that are shown.
const SHOWN_BINARY: usize = 256;

/// Writes the content itself.
pub(in crate::format::text) fn write(body: &Body, part: Part, page: &mut Page<'_>) {
    if page.whole_binary() {
        page.bytes(&body.data);
        return;
    }
    let continued = matches!(part, Part::Continued { .. });
    let cut = !body.complete || body.truncated_at.is_some();
    let data = if continued {
        skip_cut_character(&body.data)
    } else {
        &body.data
    };
    let text_len = data.len() - if cut { cut_character(data) } else { 0 };
    if is_text(&data[..text_len]) {
        page.bytes(&body.data);
    } else if let Some(text) = charset::to_utf8(&body.data, body.content_type.as_deref(), cut) {
        page.bytes(text.as_bytes());
    } else if !is_known_file(body, part) {
        write_odd(body, part, page);
    } else {
        write_binary(body, part, page);
    }
}

/// Writes content that is neither text nor a known kind of file.
fn write_odd(body: &Body, part: Part, page: &mut Page<'_>) {
    if multipart::write(&body.data, body.content_type.as_deref(), page) {
        return;
    }
    match readable::text(&body.data) {
        Some(text) => page.bytes(text.as_bytes()),
        None => write_binary(body, part, page),
    }
}

fn is_known_file(body: &Body, part: Part) -> bool {
    let first = !matches!(part, Part::Continued { .. });
    first && media::name(&body.data).is_some() || media::declared(body.content_type.as_deref()).is_some()
}

/// Marks how much of an unfinished message was received.
pub(in crate::format::text) fn mark_progress(body: &Body, page: &mut Page<'_>) {
    let came = body.wire_len;
    match body.expected {
        Some(expected) => page.mark(format_args!("body so far, {came} of {expected} bytes")),
        None => page.mark(format_args!("body so far, {came} bytes")),
    }
    mark_error(body, page);
}

/// Marks the length of a body that was shown in parts; the last part may be empty.
pub(in crate::format::text) fn mark_whole(body: &Body, page: &mut Page<'_>) {
    if body.complete {
        page.mark(format_args!("body complete, {} bytes", body.wire_len));
    }
}

/// Marks what is missing from a message that has ended.
pub(in crate::format::text) fn mark_end(body: &Body, page: &mut Page<'_>) {
    let came = body.wire_len;
    match body.expected {
        _ if body.complete || body.error == Some(BodyError::Gap) => {}
        Some(expected) => page.mark(format_args!("body incomplete, {came} of {expected} bytes")),
        None => page.mark(format_args!("body incomplete, {came} bytes")),
    }
    mark_error(body, page);
}

fn mark_error(body: &Body, page: &mut Page<'_>) {
    if let Some(limit) = body.truncated_at {
        page.mark(format_args!("body cut at {limit} bytes"));
    }
    if let Some(error) = body.error {
        page.mark(format_args!("{error}"));
    }
}

fn write_binary(body: &Body, part: Part, page: &mut Page<'_>) {
    let len = body.data.len();
    let first = !matches!(part, Part::Continued { .. });
    let name = if first { media::name(&body.data) } else { None };
    if let Some(name) = name.or_else(|| media::declared(body.content_type.as_deref())) {
        page.mark(format_args!("{name}, {len} bytes"));
        return;
    }
    let shown = len.min(SHOWN_BINARY);
    hex::dump(&body.data[..shown], page.out());
    if shown < len {
        page.mark(format_args!("binary, {shown} of {len} bytes shown"));
    } else {
        page.mark(format_args!("binary, {len} bytes"));
    }
}

/// Returns `bytes` without the rest of a UTF-8 character that an earlier part began.
fn skip_cut_character(bytes: &[u8]) -> &[u8] {
    let rest = bytes
        .iter()
        .take(3)
        .take_while(|&&byte| byte & 0xC0 == 0x80)
        .count();
    &bytes[rest..]
}

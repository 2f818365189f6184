//! Writes JSON straight into the output.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::text::is_steering;
use crate::write::{mark_steering, push_number, unmarked_length};

/// An open JSON object; closed when dropped.
pub(in crate::format) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
    stays_open: bool,
}

/// An open JSON array; closed when dropped.
pub(in crate::format) struct Array<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    pub(in crate::format) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self {
            out,
            is_empty: true,
            stays_open: false,
        }
    }

    /// Drops it without closing it: more members follow.
    pub(in crate::format) fn stay_open(mut self) {
        self.stays_open = true;
    }

    /// Starts a member; the caller writes its value. `name` needs no escaping.
    pub(in crate::format) fn member(&mut self, name: &'static str) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub(in crate::format) fn number(&mut self, name: &'static str, value: impl Into<u64>) {
        push_number(value.into(), self.member(name));
    }

    pub(in crate::format) fn signed(&mut self, name: &'static str, value: i64) {
        let out = self.member(name);
        if value < 0 {
            out.push(b'-');
        }
        push_number(value.unsigned_abs(), out);
    }

    /// Writes the number as a string, as protobuf's own JSON does: many readers of JSON store
    /// numbers as `double`, which is exact only up to 2^53.
    pub(in crate::format) fn integer64(&mut self, name: &'static str, value: u64) {
        let out = self.member(name);
        out.push(b'"');
        push_number(value, out);
        out.push(b'"');
    }

    pub(in crate::format) fn boolean(&mut self, name: &'static str, value: bool) {
        self.member(name)
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(in crate::format) fn string(&mut self, name: &'static str, value: &str) {
        push_string(value, self.member(name));
    }

    /// Writes a string that is UTF-8 on the wire, or otherwise read as ISO 8859-1, the historic
    /// encoding of HTTP.
    pub(in crate::format) fn wire_string(&mut self, name: &'static str, value: &[u8]) {
        push_wire_string(value, self.member(name));
    }

    pub(in crate::format) fn object(&mut self, name: &'static str) -> Object<'_> {
        Object::open(self.member(name))
    }

    pub(in crate::format) fn array(&mut self, name: &'static str) -> Array<'_> {
        Array::open(self.member(name))
    }

    /// Writes `text` if `data` is UTF-8 and shorter that way, otherwise `base64`, of at most
    /// `limit` bytes. `is_cut` is true if the end of `data` is not the end of the content, so that
    /// a character may be cut there; such an incomplete character is not written. Returns true if
    /// `limit` cut something.
    pub(in crate::format) fn content(&mut self, data: &[u8], is_cut: bool, limit: Option<usize>) -> bool {
        let kept = limit.unwrap_or(usize::MAX).min(data.len());
        match text_of(data, is_cut) {
            Some(text) => {
                let text = &text[..text.floor_char_boundary(kept)];
                self.string("text", text);
            }
            None => self.base64(&data[..kept]),
        }
        kept < data.len()
    }

    pub(in crate::format) fn base64(&mut self, data: &[u8]) {
        let out = self.member("base64");
        out.push(b'"');
        push_base64(data, out);
        out.push(b'"');
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        if !self.stays_open {
            self.out.push(b'}');
        }
    }
}

impl<'a> Array<'a> {
    pub(in crate::format) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'[');
        Self { out, is_empty: true }
    }

    /// Starts an element; the caller writes it.
    pub(in crate::format) fn element(&mut self) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        self.out
    }

    pub(in crate::format) fn string(&mut self, value: &str) {
        push_string(value, self.element());
    }

    /// Writes a field as `[name, value]`, with `null` for an unknown name or value.
    pub(in crate::format) fn field(&mut self, name: Option<&[u8]>, value: Option<&[u8]>) {
        let mut pair = Array::open(self.element());
        for part in [name, value] {
            let out = pair.element();
            match part {
                Some(part) => push_wire_string(part, out),
                None => out.extend_from_slice(b"null"),
            }
        }
    }
}

impl Drop for Array<'_> {
    fn drop(&mut self) {
        self.out.push(b']');
    }
}

/// Returns `data` as text if it is UTF-8 and shorter that way. `is_cut` is as in [`Object::content`].
pub(in crate::format) fn text_of(data: &[u8], is_cut: bool) -> Option<&str> {
    let text = match str::from_utf8(data) {
        Ok(text) => text,
        Err(error) if is_cut && error.error_len().is_none() => {
            str::from_utf8(&data[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    // Zeros, for example, are UTF-8: each takes six bytes in a string, and four thirds of a byte in
    // base64.
    let is_control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    let controls = data.iter().filter(|&byte| is_control(byte)).count();
    (15 * controls <= data.len()).then_some(text)
}

fn push_wire_string(value: &[u8], out: &mut Vec<u8>) {
    if value.is_ascii() || str::from_utf8(value).is_ok() {
        push_quoted(value, out);
    } else {
        let text: String = value.iter().map(|&byte| char::from(byte)).collect();
        push_string(&text, out);
    }
}

fn push_string(value: &str, out: &mut Vec<u8>) {
    push_quoted(value.as_bytes(), out);
}

/// Appends `text`, which is UTF-8, as a JSON string.
fn push_quoted(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    loop {
        let (plain, after) = rest.split_at(unmarked_length(rest, mark_steering));
        out.extend_from_slice(plain);
        rest = match after {
            [] => break,
            [special, after @ ..] if special.is_ascii() => {
                push_escape(*special, out);
                after
            }
            _ => push_character(after, out),
        };
    }
    out.push(b'"');
}

/// Appends the first character of `text`, which begins with two or three bytes beyond ASCII, and returns
/// what follows it.
fn push_character<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let width = if text[0] < 0xE0 { 2 } else { 3 };
    let (character, after) = text.split_at(width.min(text.len()));
    let decoded = str::from_utf8(character)
        .ok()
        .and_then(|text| text.chars().next());
    match decoded.filter(|&character| is_steering(character)) {
        Some(character) => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        }
        None => out.extend_from_slice(character),
    }
    after
}

fn push_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 0x0f)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

pub(in crate::format) fn push_base64(data: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + data.len().div_ceil(3) * 4, 0);
    // Cannot fail: the room is exactly what padded base64 needs.
    let written = STANDARD.encode_slice(data, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(value: &str) -> String {
        let mut out = Vec::new();
        push_string(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_come_back_from_a_json_parser() {
        let every_ascii: String = (0..=127_u8).map(char::from).collect();
        let long = format!(
            "{}\"{}\\\u{1F600}\n{}",
            "a".repeat(70),
            "b".repeat(33),
            "é".repeat(50)
        );
        for value in ["", "plain", "\"", "\u{0}\u{1f}\u{7f}", &every_ascii, &long] {
            assert_eq!(serde_json::from_str::<String>(&string(value)).unwrap(), value);
        }
    }

    #[test]
    fn characters_that_steer_a_terminal_are_escaped() {
        let value = "\u{7f}\u{9b}31m \u{202e}\u{2066}\u{61c} \u{ab}\u{2014}\u{645}\u{621}";
        assert_eq!(
            string(value),
            "\"\\u007f\\u009b31m \\u202e\\u2066\\u061c \u{ab}\u{2014}\u{645}\u{621}\""
        );
        assert_eq!(serde_json::from_str::<String>(&string(value)).unwrap(), value);
    }

    #[test]
    fn content_is_text_or_base64_and_cut_between_characters() {
        let content = |data: &[u8], is_cut, limit| {
            let mut out = Vec::new();
            let truncated = Object::open(&mut out).content(data, is_cut, limit);
            (String::from_utf8(out).unwrap(), truncated)
        };
        assert_eq!(
            content("dé".as_bytes(), false, None),
            ("{\"text\":\"dé\"}".into(), false)
        );
        assert_eq!(
            content("dé".as_bytes(), false, Some(2)),
            ("{\"text\":\"d\"}".into(), true)
        );
        assert_eq!(
            content("dé".as_bytes(), false, Some(3)),
            ("{\"text\":\"dé\"}".into(), false)
        );
        assert_eq!(
            content(b"d\xc3", false, None),
            ("{\"base64\":\"ZMM=\"}".into(), false)
        );
        assert_eq!(content(b"d\xc3", true, None), ("{\"text\":\"d\"}".into(), false));
        assert_eq!(
            content(b"CONNECTED\n\nok\0\x01", false, None),
            ("{\"base64\":\"Q09OTkVDVEVECgpvawAB\"}".into(), false)
        );
        assert_eq!(
            content(b"CONNECTED\nversion:1.2\n\n\0", false, None),
            (r#"{"text":"CONNECTED\nversion:1.2\n\n\u0000"}"#.into(), false)
        );
        assert_eq!(
            content(b"\xff\xfe\xfd\xfc", false, Some(3)),
            ("{\"base64\":\"//79\"}".into(), true)
        );
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_read_as_latin1() {
        let mut out = Vec::new();
        push_wire_string(b"caf\xe9", &mut out);
        assert_eq!(out, "\"café\"".as_bytes());
    }
}

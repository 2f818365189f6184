//! Text that contains a few bytes that are not text.

use std::fmt::Write as _;

use crate::text::is_text;

/// Minimum number of bytes that count as text although some of them are not.
const SHORTEST: usize = 8;
/// One byte in this many may be odd, and one more.
const ONE_ODD_OF: usize = 16;

/// Returns `bytes` as text, with U+FFFD for bytes that are not UTF-8 and `\xNN` for control
/// characters; `None` if there are too many of them.
pub(in crate::format::text) fn text(bytes: &[u8]) -> Option<String> {
    written(bytes, |_, text| text.push(char::REPLACEMENT_CHARACTER))
}

/// Like [`text`], but with `\xNN` for all odd bytes, so that each can be recognized.
pub(in crate::format::text) fn escaped(bytes: &[u8]) -> Option<String> {
    written(bytes, |odd, text| {
        for byte in odd {
            let _ = write!(text, "\\x{byte:02x}");
        }
    })
}

/// Returns true if the text is readable although `odd` of `length` bytes are not text.
pub(super) fn is_mostly_text(odd: usize, length: usize) -> bool {
    length >= SHORTEST && odd <= 1 + length / ONE_ODD_OF
}

fn written(bytes: &[u8], write_odd: impl Fn(&[u8], &mut String)) -> Option<String> {
    // Text has no NUL bytes, and most binary data has.
    if memchr::memchr(0, bytes).is_some() {
        return None;
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    let mut odd = 0;
    for chunk in bytes.utf8_chunks() {
        odd += push_escaped(chunk.valid(), &mut text) + chunk.invalid().len();
        if !is_mostly_text(odd, bytes.len()) {
            return None;
        }
        if !chunk.invalid().is_empty() {
            write_odd(chunk.invalid(), &mut text);
        }
    }
    Some(text)
}

/// Appends `valid` with its control characters escaped. Returns the number of control characters.
fn push_escaped(valid: &str, text: &mut String) -> usize {
    if is_text(valid.as_bytes()) {
        text.push_str(valid);
        return 0;
    }
    let mut odd = 0;
    let mut buffer = [0; 4];
    for character in valid.chars() {
        let encoded = character.encode_utf8(&mut buffer);
        if is_text(encoded.as_bytes()) {
            text.push(character);
        } else {
            odd += 1;
            let _ = write!(text, "\\x{:02x}", u32::from(character));
        }
    }
    odd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_odd_bytes_are_shown_in_their_place() {
        assert_eq!(text(b"caf\xE9 au lait").as_deref(), Some("caf\u{FFFD} au lait"));
        assert_eq!(escaped(b"caf\xE9 au lait").as_deref(), Some("caf\\xe9 au lait"));
        assert_eq!(
            text(b"MSH|^~\\&|a\rPID|1\x1c\r").as_deref(),
            Some("MSH|^~\\&|a\rPID|1\\x1c\r")
        );
    }

    #[test]
    fn many_odd_bytes_are_not_text() {
        assert_eq!(text(b"\x10\x14\0\x04MQTT\x04\x02\0\x3c\0\x08sensor-1"), None);
        assert_eq!(text(b"\x01ab"), None);
        assert_eq!(text(&[0xFF; 100]), None);
    }
}

//! Text: recognizes text, and makes it printable.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns `text` for one line of a log or a terminal: characters that move a cursor, begin an
/// escape sequence, end a line or change the direction of writing are escaped.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_steering) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_steering(character) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Returns true for control characters (C0, DEL, C1), line and paragraph separators, and characters
/// that change the direction of the text around them (Unicode UAX #9).
pub(crate) const fn is_steering(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// Returns `text` without the SP and HTAB around it: the optional white space of RFC 9110 §5.6.3,
/// which does not include CR and FF.
pub(crate) fn trim_white_space(text: &[u8]) -> &[u8] {
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = text
        .iter()
        .rposition(|byte| !is_white(byte))
        .map_or(0, |last| last + 1);
    let start = text[..end].iter().position(|byte| !is_white(byte)).unwrap_or(end);
    &text[start..end]
}

/// Returns how many bytes at the end are the beginning of a UTF-8 character.
pub(crate) fn cut_character(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let Some(start) = tail.iter().rposition(|&byte| byte & 0xC0 != 0x80) else {
        return 0;
    };
    let width = match tail[start] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    let present = tail.len() - start;
    if present < width { present } else { 0 }
}

/// Returns true for text that a terminal can show: UTF-8 without control characters other than
/// those for formatting and for terminals.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    const BLOCK: usize = 256;
    let mut bits_of_all = 0;
    for block in bytes.chunks(BLOCK) {
        // Whole blocks without an early exit are compared many bytes at a time.
        let (controls, bits) = block.iter().fold((0, 0), |(controls, bits), &byte| {
            (controls | control(byte), bits | byte)
        });
        if controls != 0 {
            return false;
        }
        bits_of_all |= bits;
    }
    bits_of_all.is_ascii() || str::from_utf8(bytes).is_ok()
}

/// Returns 1 for a control character other than BEL to CR and ESC, otherwise 0, without a branch.
fn control(byte: u8) -> u8 {
    let is_in = |first: u8, last: u8| u8::from(byte.wrapping_sub(first) <= last - first);
    is_in(0, 6) | is_in(14, 26) | is_in(28, 31) | is_in(127, 127)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_steer_a_terminal_are_escaped() {
        assert_eq!(printable("caf\u{e9} \u{4f60}"), "caf\u{e9} \u{4f60}");
        assert_eq!(
            printable("a\nb\x1b[2J\x7f\u{9b}\u{202e}"),
            "a\\nb\\u{1b}[2J\\u{7f}\\u{9b}\\u{202e}"
        );
    }

    #[test]
    fn cut_characters_are_found() {
        for (bytes, cut) in [
            (&b""[..], 0),
            (b"ab", 0),
            ("aé".as_bytes(), 0),
            (b"a\xC3", 1),
            (b"\xE4\xBD", 2),
            (b"\xF0\x9F\x98", 3),
            (b"\x80\x80\x80", 0),
            (b"a\xFF", 0),
        ] {
            assert_eq!(cut_character(bytes), cut, "{bytes:?}");
        }
    }

    #[test]
    fn text_has_no_control_characters_of_its_own() {
        assert!(is_text("tab\t line\r\n \x1b[1mé".as_bytes()));
        assert!(!is_text(b"a\0"));
        assert!(!is_text(b"\x01"));
        assert!(!is_text(b"\xFF"));
        for byte in 0..=127_u8 {
            let text = [b'a', byte].repeat(50);
            let is_control = matches!(byte, 0..=6 | 14..=26 | 28..=31 | 127);
            assert_eq!(is_text(&text), !is_control, "{byte}");
        }
    }
}

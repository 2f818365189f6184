//! Text that is not UTF-8.

use encoding_rs::Encoding;

use super::readable::is_mostly_text;
use crate::text::is_text;

/// Number of bytes at the start of a document that are searched for its encoding, as in browsers.
const PRESCANNED: usize = 1024;

/// Returns the text of `bytes`, if their byte order mark, the declared charset (any label of the
/// WHATWG Encoding Standard) or the document itself names an encoding in which they are text. A few
/// invalid bytes become U+FFFD. `cut` is true if the last character may be incomplete.
pub(super) fn to_utf8(bytes: &[u8], content_type: Option<&[u8]>, cut: bool) -> Option<String> {
    let content_type = content_type?;
    let label = declared(content_type).or_else(|| in_document(content_type, bytes))?;
    let declared = Encoding::for_label(label)?;
    let encoding = Encoding::for_bom(bytes).map_or(declared, |(marked, _)| marked);
    let mut decoder = encoding.new_decoder_with_bom_removal();
    let room = decoder.max_utf8_buffer_length(bytes.len())?;
    let mut text = String::with_capacity(room);
    let (_, _, has_odd) = decoder.decode_to_string(bytes, &mut text, !cut);
    let odd = if has_odd {
        text.matches(char::REPLACEMENT_CHARACTER).count()
    } else {
        0
    };
    let is_readable = odd == 0 || is_mostly_text(odd, bytes.len());
    (is_readable && is_text(text.as_bytes())).then_some(text)
}

/// Finds the label in the `meta` element of an HTML document or in the declaration of an XML one.
fn in_document<'a>(content_type: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let is = |word: &[u8]| {
        content_type
            .windows(word.len())
            .any(|found| found.eq_ignore_ascii_case(word))
    };
    let name: &[u8] = match () {
        () if is(b"html") => b"charset=",
        () if is(b"xml") => b"encoding=",
        () => return None,
    };
    let start = &bytes[..bytes.len().min(PRESCANNED)];
    let at = start
        .windows(name.len())
        .position(|found| found.eq_ignore_ascii_case(name))?;
    let value = &start[at + name.len()..];
    let value = value
        .strip_prefix(b"\"")
        .or_else(|| value.strip_prefix(b"'"))
        .unwrap_or(value);
    let end = value
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && !b"-_:.".contains(byte))?;
    Some(&value[..end])
}

/// Returns the `charset` parameter of a media type (RFC 9110 §8.3.2).
fn declared(content_type: &[u8]) -> Option<&[u8]> {
    content_type
        .split(|&byte| byte == b';')
        .skip(1)
        .find_map(|parameter| {
            let parameter = parameter.trim_ascii();
            let (name, value) = parameter.split_at_checked("charset=".len())?;
            let unquoted = value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""));
            name.eq_ignore_ascii_case(b"charset=")
                .then_some(unquoted.unwrap_or(value))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8], content_type: &str) -> Option<String> {
        to_utf8(bytes, Some(content_type.as_bytes()), false)
    }

    #[test]
    fn declared_charsets() {
        assert_eq!(declared(b"text/html; charset=UTF-8"), Some(&b"UTF-8"[..]));
        assert_eq!(
            declared(b"text/html;a=b;Charset=\"latin1\""),
            Some(&b"latin1"[..])
        );
        assert_eq!(declared(b"text/html"), None);
    }

    #[test]
    fn charsets_become_utf_8() {
        let cases: [(&[u8], &str, &str); 8] = [
            (b"caf\xE9", "text/plain; charset=ISO-8859-1", "café"),
            (b"\xFF\xFEa\0\xE9\0", "text/plain; charset=utf-16", "aé"),
            (b"\xFE\xFF\0a\0\xE9", "text/plain; charset=utf-16", "aé"),
            (b"\xC4\xE3\xBA\xC3", "text/html; charset=GBK", "你好"),
            (
                b"\x93\xFA\x96\x7B",
                "application/xml; charset=\"Shift_JIS\"",
                "日本",
            ),
            (b"\x1B$BF|K\\\x1B(B", "text/html; charset=iso-2022-jp", "日本"),
            (
                b"\xCF\xF0\xE8\xE2\xE5\xF2",
                "text/html; charset=windows-1251",
                "Привет",
            ),
            (b"\xB0\xA1", "text/html;charset=euc-kr", "가"),
        ];
        for (bytes, content_type, text) in cases {
            assert_eq!(
                shown(bytes, content_type).as_deref(),
                Some(text),
                "{content_type}"
            );
        }
    }

    #[test]
    fn content_that_is_not_text_in_its_charset_stays_bytes() {
        assert_eq!(shown(b"\xFE\xFF\0a\xD8\0", "text/plain; charset=utf-16"), None);
        assert_eq!(shown(b"\0\x01\xFF", "text/plain; charset=latin1"), None);
        assert_eq!(shown(b"caf\xE9", "text/plain; charset=unheard-of"), None);
        assert_eq!(shown(b"caf\xE9", "text/plain"), None);
        assert_eq!(to_utf8(b"caf\xE9", None, false), None);
    }

    #[test]
    fn a_cut_last_character_does_not_make_text_binary() {
        let gbk = Some(&b"text/html; charset=gbk"[..]);
        assert_eq!(to_utf8(b"\xC4\xE3\xBA", gbk, true).as_deref(), Some("你"));
        assert_eq!(to_utf8(b"\xC4\xE3\xBA", gbk, false), None);
    }
}

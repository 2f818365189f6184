//! Text that is not UTF-8.

use crate::text::is_text;

/// The text of `bytes`, when their byte order mark or the declared charset names one that is
/// known here and the result is text.
pub(super) fn to_utf8(bytes: &[u8], content_type: Option<&[u8]>) -> Option<String> {
    let charset = declared(content_type?)?;
    let text = match bytes {
        [0xFF, 0xFE, rest @ ..] => utf_16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => utf_16(rest, u16::from_be_bytes),
        _ if is(charset, &["utf-16le"]) => utf_16(bytes, u16::from_le_bytes),
        _ if is(charset, &["utf-16", "utf-16be"]) => utf_16(bytes, u16::from_be_bytes),
        // The browsers' reading of latin1 is windows-1252; they differ in 0x80–0x9F only,
        // where latin1 has control characters.
        _ if is(charset, &["iso-8859-1", "latin1", "us-ascii", "windows-1252"]) => {
            Some(bytes.iter().map(|&byte| char::from(byte)).collect())
        }
        _ => None,
    }?;
    is_text(text.as_bytes()).then_some(text)
}

/// The `charset` parameter of a media type (RFC 9110 §8.3.2).
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

fn is(charset: &[u8], names: &[&str]) -> bool {
    names
        .iter()
        .any(|name| charset.eq_ignore_ascii_case(name.as_bytes()))
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|&pair| unit(pair));
    let text = char::decode_utf16(units).collect::<Result<String, _>>().ok()?;
    rest.is_empty().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn known_charsets_become_utf_8() {
        let latin1 = Some(&b"text/plain; charset=ISO-8859-1"[..]);
        assert_eq!(to_utf8(b"caf\xE9", latin1).as_deref(), Some("café"));
        let utf_16 = Some(&b"text/plain; charset=utf-16"[..]);
        assert_eq!(to_utf8(b"\xFF\xFEa\0\xE9\0", utf_16).as_deref(), Some("aé"));
        assert_eq!(to_utf8(b"\xFE\xFF\0a\0\xE9", utf_16).as_deref(), Some("aé"));
        assert_eq!(to_utf8(b"\0a\xD8\0", utf_16), None);
        assert_eq!(to_utf8(b"caf\xE9", None), None);
        assert_eq!(to_utf8(b"\0\x01\xFF", latin1), None);
    }
}

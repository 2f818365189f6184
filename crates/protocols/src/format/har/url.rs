//! Absolute URLs (RFC 3986) and their queries.

use std::borrow::Cow;

/// Appends an absolute URL. What RFC 3986 does not allow in one is percent-encoded.
pub(super) fn push(scheme: &str, authority: &[u8], path: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(b"://");
    push_allowed(authority, b"/?#", out);
    if !path.starts_with(b"/") {
        out.push(b'/');
    }
    push_allowed(path, b"[]#", out);
}

/// Appends `text`, with `but` and the characters that no URL has percent-encoded.
fn push_allowed(text: &[u8], but: &[u8], out: &mut Vec<u8>) {
    for (at, &byte) in text.iter().enumerate() {
        let is_escape = || {
            let digits = text.get(at + 1..at + 3);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        let is_allowed = match byte {
            b'%' => is_escape(),
            _ => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte),
        };
        if is_allowed && !but.contains(&byte) {
            out.push(byte);
        } else {
            let digit = |digit: u8| b"0123456789ABCDEF"[usize::from(digit)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Returns the query of a path, without the question mark.
pub(super) fn query(path: &[u8]) -> Option<&[u8]> {
    let path = path.split(|&byte| byte == b'#').next()?;
    let start = memchr::memchr(b'?', path)?;
    Some(&path[start + 1..])
}

/// Returns the names and values of a query, or of a form that is encoded like one
/// (<https://url.spec.whatwg.org/#urlencoded-parsing>).
pub(super) fn parameters(query: &[u8]) -> impl Iterator<Item = [Cow<'_, [u8]>; 2]> {
    let parts = query.split(|&byte| byte == b'&').filter(|part| !part.is_empty());
    parts.map(|part| {
        let (name, value) = match memchr::memchr(b'=', part) {
            Some(at) => (&part[..at], &part[at + 1..]),
            None => (part, &[][..]),
        };
        [decoded(name), decoded(value)]
    })
}

/// Undoes percent-encoding, unless the result is not UTF-8.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = after;
        let digit = |at: usize| after.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(0));
                rest = &after[2..];
            }
            (b'+', ..) => decoded.push(b' '),
            _ => decoded.push(*byte),
        }
    }
    if str::from_utf8(&decoded).is_ok() {
        Cow::Owned(decoded)
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(scheme: &str, authority: &str, path: &str) -> String {
        let mut out = Vec::new();
        push(scheme, authority.as_bytes(), path.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn urls_have_only_characters_of_urls() {
        assert_eq!(url("https", "h:1", "/a%20b?c=d"), "https://h:1/a%20b?c=d");
        assert_eq!(url("https", "[::1]:443", "*"), "https://[::1]:443/*");
        assert_eq!(
            url("wss", "u@h/x", "/a b\"<é>%zz#f[0]"),
            "wss://u@h%2Fx/a%20b%22%3C%C3%A9%3E%25zz%23f%5B0%5D"
        );
    }

    #[test]
    fn parameters_are_decoded_where_they_are_text() {
        let of = |query: &'static str| -> Vec<String> {
            parameters(query.as_bytes())
                .map(|pair| {
                    pair.map(|part| String::from_utf8(part.into_owned()).unwrap())
                        .join("=")
                })
                .collect()
        };
        assert_eq!(of("a=1&&b&c=x+y%26%C3%A9&%=%4"), ["a=1", "b=", "c=x y&é", "%=%4"]);
        assert_eq!(of("a=%ff+"), ["a=%ff+"]);
        assert_eq!(query(b"/a?b?c#d?e"), Some(&b"b?c"[..]));
        assert_eq!(query(b"/a#b?c"), None);
    }
}

//! Credentials and secret parameters in URLs, also in text and inside other URLs, where they are percent-encoded.

use std::ops::Range;

use super::names::LONGEST;
use super::patterns::Secrets;
use super::ranges::Ranges;

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    /// One URL, or the part of one from its path on.
    Url,
    /// The content of a form: parameters from the first byte on.
    Form,
    /// Words, with URLs among them.
    Words,
}

/// Finds the credentials of URLs and the values of secret parameters.
pub(super) fn find(text: &[u8], kind: Text, secrets: &Secrets, found: &mut Ranges) {
    let mut at = 0;
    if kind == Text::Form {
        at = parameter(text, 0, kind, secrets, found);
    }
    // Most texts have none of the signs.
    while let Some(step) = text[at..].iter().position(|byte| is_sign(*byte)) {
        let (sign, next) = sign(text, at + step);
        at = match sign {
            b'?' | b'&' | b'#' | b';' => parameter(text, next, kind, secrets, found),
            b':' => authority(text, next, kind, found),
            _ => next,
        };
    }
}

/// Hides everything before the host of an authority (RFC 3986 §3.2.1).
pub(super) fn find_user(authority: &[u8], found: &mut Ranges) {
    if let Some(end) = memchr::memrchr(b'@', authority) {
        found.hide(0..end);
    }
}

const fn is_sign(byte: u8) -> bool {
    matches!(byte, b'?' | b'&' | b'#' | b';' | b':' | b'%')
}

/// Returns the sign at `at`, which may be percent-encoded, and the place of the next one.
fn sign(text: &[u8], at: usize) -> (u8, usize) {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if let [b'%', high, low, ..] = text[at..]
        && let (Some(high), Some(low)) = (digit(high), digit(low))
    {
        return (u8::try_from(high * 16 + low).unwrap_or(b'%'), at + 3);
    }
    (text[at], at + 1)
}

/// Hides the value of the parameter that begins at `start`, if it is secret. Returns where to go on.
fn parameter(text: &[u8], start: usize, kind: Text, secrets: &Secrets, found: &mut Ranges) -> usize {
    // The last bytes of its name.
    let mut name = [0; LONGEST];
    let mut length = 0;
    let mut at = start;
    loop {
        let Some(_) = text.get(at) else { return text.len() };
        let (byte, next) = sign(text, at);
        if byte == b'=' {
            let is_encoded = next > at + 1;
            if !secrets.has_parameter(&name[..length]) {
                return next;
            }
            let end = next + value(&text[next..], is_encoded, kind);
            found.hide(next..end);
            return end;
        }
        let is_end = match byte {
            b':' => authority(text, next, kind, &mut Ranges::default()) != next,
            b'"' | b'<' | b'>' => kind == Text::Words,
            _ => is_sign(byte) || kind == Text::Words && byte.is_ascii_whitespace(),
        };
        if is_end {
            return at;
        }
        if length == LONGEST {
            name.copy_within(1.., 0);
            length -= 1;
        }
        name[length] = byte;
        length += 1;
        at = next;
    }
}

/// Returns the length of the value of a parameter, encoded as a whole with its URL or not.
fn value(rest: &[u8], is_encoded: bool, kind: Text) -> usize {
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        let is_end = match byte {
            b'&' => true,
            b'#' => kind != Text::Form,
            b'%' if is_encoded => matches!(sign(rest, at).0, b'&' | b'#'),
            b'"' | b'<' | b'>' => kind == Text::Words,
            _ => kind == Text::Words && byte.is_ascii_whitespace(),
        };
        if is_end {
            break;
        }
        at += 1;
    }
    at
}

/// Hides the credentials of a URL whose scheme ends before `start`. Returns where to go on.
fn authority(text: &[u8], start: usize, kind: Text, found: &mut Ranges) -> usize {
    let mut at = start;
    for _ in 0..2 {
        match text.get(at).map(|_| sign(text, at)) {
            Some((b'/', next)) => at = next,
            _ => return start,
        }
    }
    let (start, mut user) = (at, None);
    let mut before = (0, at);
    while let Some(&byte) = text.get(at) {
        let (sign, next) = sign(text, at);
        match sign {
            b'@' => user = Some(at),
            b'/' if before.0 == b':' => {
                // That is the scheme of another URL.
                at = before.1;
                break;
            }
            b'/' | b'?' | b'#' | b'"' | b'<' | b'>' => break,
            _ if kind != Text::Url && byte.is_ascii_whitespace() => break,
            _ => {}
        }
        before = (sign, at);
        at = next;
    }
    if let Some(end) = user {
        found.hide(start..end);
    }
    at
}

/// The range of `inner` in `outer`, which it is a part of.
pub(super) fn range_in(outer: &[u8], inner: &[u8]) -> Range<usize> {
    let start = inner.as_ptr().addr() - outer.as_ptr().addr();
    start..start + inner.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str, kind: Text) -> String {
        let mut found = Ranges::default();
        find(text.as_bytes(), kind, &Secrets::default(), &mut found);
        let masked = found.mask(text.as_bytes());
        String::from_utf8(masked.unwrap_or_else(|| text.into())).unwrap()
    }

    #[test]
    fn parameters_of_urls() {
        for (text, expected) in [
            ("/a?token=s", "/a?token=***"),
            ("/a?x=1&token=s&y=2#f", "/a?x=1&token=***&y=2#f"),
            ("/a?x=1;password=s", "/a?x=1;password=***"),
            ("/a;jsessionid=s/b?x=1", "/a;jsessionid=***"),
            ("/a?%74oken=s", "/a?%74oken=***"),
            ("/a?password=a b'c?d;e%26f", "/a?password=***"),
            ("/a#access_token=s&x=1", "/a#access_token=***&x=1"),
            ("/a?user%5Bpassword%5D=s&x", "/a?user%5Bpassword%5D=***&x"),
            (
                "/a?to=https%3A%2F%2Fh%2F%3Ftoken%3Ds%26y%3D1&z=1",
                "/a?to=https%3A%2F%2Fh%2F%3Ftoken%3D***%26y%3D1&z=1",
            ),
            ("/a?token", "/a?token"),
            ("/a?token=", "/a?token="),
            ("/a?tokens=1&q=a=b", "/a?tokens=1&q=a=b"),
            (
                "/?ns:token=s&a/token=t& token=u",
                "/?ns:token=***&a/token=***& token=***",
            ),
            ("/?http://u:p@h/?token=s", "/?http://***@h/?token=***"),
            ("/%", "/%"),
            ("/?%3", "/?%3"),
        ] {
            assert_eq!(masked(text, Text::Url), expected, "{text}");
        }
    }

    #[test]
    fn credentials_of_urls() {
        for (text, expected) in [
            ("https://u:p@h/a@b", "https://***@h/a@b"),
            ("https://u:p@x@h:1", "https://***@h:1"),
            ("https://token@h", "https://***@h"),
            ("https://h:1/a", "https://h:1/a"),
            ("/?u=http%3A%2F%2Fu%3Ap%40h%2F", "/?u=http%3A%2F%2F***%40h%2F"),
            ("a://b://u:p@c", "a://b://***@c"),
            ("://", "://"),
        ] {
            assert_eq!(masked(text, Text::Url), expected, "{text}");
        }
    }

    #[test]
    fn words_and_forms() {
        for (text, expected) in [
            (
                "<https://u:p@h/?token=s>; rel=x, <https://h/?sig=t>",
                "<https://***@h/?token=***>; rel=x, <https://h/?sig=***>",
            ),
            ("0; url=/a?token=s next", "0; url=/a?token=*** next"),
        ] {
            assert_eq!(masked(text, Text::Words), expected, "{text}");
        }
        for (text, expected) in [
            ("password=a b&x=1", "password=***&x=1"),
            ("x=1&user[password]=s#t", "x=1&user[password]=***"),
            ("", ""),
        ] {
            assert_eq!(masked(text, Text::Form), expected, "{text}");
        }
    }

    #[test]
    fn long_names_are_known_by_their_end() {
        let text = format!("/?{}_token=s", "a".repeat(1000));
        assert!(masked(&text, Text::Url).ends_with("_token=***"));
    }
}

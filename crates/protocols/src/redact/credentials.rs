//! Passwords in URLs and in connection strings.

use std::ops::Range;

use super::names_secret;

/// Bytes of the longest scheme that is looked for before `://`, and of a name before `=`.
const LONGEST_NAME: usize = 64;

/// Finds the passwords in a text, in order: of `scheme://user:password@host` and of `password=value`.
pub(super) fn in_text(text: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(step) = text[at..].iter().position(|byte| matches!(byte, b':' | b'=')) {
        let sign = at + step;
        let range = if text[sign] == b'=' {
            of_assignment(text, sign)
        } else {
            of_url(text, sign)
        };
        at = match range {
            Some(range) => {
                let end = range.end;
                if !range.is_empty() {
                    found.push(range);
                }
                end.max(sign + 1)
            }
            None => sign + 1,
        };
    }
    found
}

/// The value of `name=value`, up to white space or a sign that ends it, or in its quotes.
fn of_assignment(text: &[u8], sign: usize) -> Option<Range<usize>> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let before = &text[sign.saturating_sub(LONGEST_NAME)..sign];
    let name = before.rsplit(|byte| !is_name(byte)).next()?;
    if !names_secret(name) {
        return None;
    }
    let start = sign + 1;
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'&' | b';' | b',' | b'\'' | b'"');
    match text.get(start) {
        Some(&quote @ (b'\'' | b'"')) => {
            let inner = start + 1;
            let end = memchr::memchr(quote, &text[inner..]).map_or(text.len(), |end| inner + end);
            Some(inner..end)
        }
        Some(_) => {
            let end = text[start..].iter().position(is_end);
            Some(start..end.map_or(text.len(), |end| start + end))
        }
        None => None,
    }
}

/// The password of a URL whose scheme ends at `colon`. Without one, the range is empty.
fn of_url(text: &[u8], colon: usize) -> Option<Range<usize>> {
    let rest = text.get(colon..)?.strip_prefix(b"://")?;
    let start = text.len() - rest.len();
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'?' | b'#' | b'\'' | b'"');
    let length = rest.iter().position(is_end).unwrap_or(rest.len());
    let authority = &rest[..length];
    let Some(at) = memchr::memrchr(b'@', authority) else {
        return Some(start..start);
    };
    match memchr::memchr(b':', &authority[..at]) {
        Some(separator) => Some(start + separator + 1..start + at),
        None => Some(start..start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let mut shown = text.as_bytes().to_vec();
        for range in in_text(text.as_bytes()).into_iter().rev() {
            shown.splice(range, *b"*");
        }
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn urls_and_connection_strings() {
        for (text, expected) in [
            ("postgres://u:p@h/d?x=1", "postgres://u:*@h/d?x=1"),
            ("https://h:80/a@b", "https://h:80/a@b"),
            ("https://token@h", "https://token@h"),
            ("a://u:p:q@h b://v:w@i", "a://u:*@h b://v:*@i"),
            ("host=h password=x y", "host=h password=* y"),
            ("PGPASSWORD='a b' psql", "PGPASSWORD='*' psql"),
            ("user=a;pwd=b;x=c", "user=a;pwd=*;x=c"),
            ("passwordless=1", "passwordless=1"),
            ("password=", "password="),
        ] {
            assert_eq!(masked(text), expected, "{text}");
        }
    }
}

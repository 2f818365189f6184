//! Cookies (RFC 6265).

use crate::format::json_lines::object::{Array, Object};
use crate::text::trim_white_space;

/// Adds the cookies of a request's Cookie fields.
pub(super) fn add_sent(fields: &[(&[u8], &[u8])], object: &mut Object<'_>) {
    let mut cookies = object.array("cookies");
    for value in values(fields, b"cookie") {
        for part in value.split(|&byte| byte == b';') {
            let part = trim_white_space(part);
            if !part.is_empty() {
                let (name, value) = split(part);
                drop(open(&mut cookies, name, value));
            }
        }
    }
}

/// Adds the cookies of a response's Set-Cookie fields.
pub(super) fn add_set(fields: &[(&[u8], &[u8])], object: &mut Object<'_>) {
    let mut cookies = object.array("cookies");
    for value in values(fields, b"set-cookie") {
        let mut parts = value.split(|&byte| byte == b';').map(trim_white_space);
        let Some(first) = parts.next() else { continue };
        let (name, value) = split(first);
        let mut cookie = open(&mut cookies, name, value);
        for part in parts {
            add_attribute(part, &mut cookie);
        }
    }
}

/// An attribute that is repeated counts once, since a member must not be repeated.
fn add_attribute(part: &[u8], cookie: &mut Cookie<'_>) {
    let (name, value) = split(part);
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    let attributes = [
        ("path", "path"),
        ("domain", "domain"),
        ("expires", "expires"),
        ("samesite", "sameSite"),
        ("max-age", "_maxAge"),
        ("httponly", "httpOnly"),
        ("secure", "secure"),
    ];
    let Some(at) = attributes.iter().position(|(known, _)| is(known)) else {
        return;
    };
    if std::mem::replace(&mut cookie.has[at], true) {
        return;
    }
    let member = attributes[at].1;
    match member {
        "httpOnly" | "secure" => cookie.object.boolean(member, true),
        "expires" => match iso_time(value) {
            Some(time) => cookie.object.string(member, &time),
            None => cookie.object.wire_string("_expires", value),
        },
        _ => cookie.object.wire_string(member, value),
    }
}

/// A cookie that is being written, and the attributes that it has.
struct Cookie<'a> {
    object: Object<'a>,
    has: [bool; 7],
}

fn open<'a>(cookies: &'a mut Array<'_>, name: &[u8], value: &[u8]) -> Cookie<'a> {
    let mut object = Object::open(cookies.element());
    object.wire_string("name", name);
    object.wire_string("value", value);
    Cookie {
        object,
        has: [false; 7],
    }
}

fn values<'a>(fields: &'a [(&[u8], &[u8])], name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let named = fields
        .iter()
        .filter(move |(field, _)| field.eq_ignore_ascii_case(name));
    named.map(|(_, value)| *value)
}

/// Splits a pair at its first equals sign.
fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'=', pair) {
        Some(at) => (trim_white_space(&pair[..at]), trim_white_space(&pair[at + 1..])),
        None => (pair, &[]),
    }
}

/// Reads a date as servers write it, such as `Wed, 21 Oct 2026 07:28:00 GMT` (RFC 6265 §5.1.1).
fn iso_time(date: &[u8]) -> Option<String> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let date = str::from_utf8(date).ok()?;
    let mut words = date
        .split([' ', '-', ','])
        .filter(|word| !word.is_empty())
        .skip(1);
    let day: u8 = words.next()?.parse().ok()?;
    let month = words.next()?.get(..3)?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let year: u16 = words.next()?.parse().ok()?;
    let year = match year {
        0..=69 => year + 2000,
        70..=99 => year + 1900,
        _ => year,
    };
    let mut time = words.next()?.split(':').map(|part| part.parse::<u8>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let is_time =
        (1..=31).contains(&day) && (1601..=9999).contains(&year) && hour < 24 && minute < 60 && second < 60;
    is_time.then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(value: &str) -> String {
        let mut out = Vec::new();
        add_set(&[(b"Set-Cookie", value.as_bytes())], &mut Object::open(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sent_cookies_are_split() {
        let mut out = Vec::new();
        let fields: [(&[u8], &[u8]); 3] = [
            (b"Cookie", b"a=1; b=x=y;; c"),
            (b"Host", b"h"),
            (b"cookie", b" d = 2"),
        ];
        add_sent(&fields, &mut Object::open(&mut out));
        let cookies = r#"{"cookies":[{"name":"a","value":"1"},{"name":"b","value":"x=y"},{"name":"c","value":""},{"name":"d","value":"2"}]}"#;
        assert_eq!(String::from_utf8(out).unwrap(), cookies);
    }

    #[test]
    fn attributes_of_cookies_that_are_set() {
        assert_eq!(
            set("a=1; Path=/; Domain=h; Secure; HttpOnly; SameSite=Lax; path=/again; Other=1"),
            r#"{"cookies":[{"name":"a","value":"1","path":"/","domain":"h","secure":true,"httpOnly":true,"sameSite":"Lax"}]}"#
        );
        for (date, time) in [
            (
                "Wed, 21 Oct 2026 07:28:00 GMT",
                r#""expires":"2026-10-21T07:28:00Z""#,
            ),
            (
                "Wednesday, 21-Oct-26 07:28:00 GMT",
                r#""expires":"2026-10-21T07:28:00Z""#,
            ),
            ("never", r#""_expires":"never""#),
            (
                "Wed, 41 Oct 2026 07:28:00 GMT",
                r#""_expires":"Wed, 41 Oct 2026 07:28:00 GMT""#,
            ),
        ] {
            let cookie = set(&format!("a=1; expires={date}"));
            assert!(cookie.contains(time), "{cookie}");
        }
    }
}

//! Header fields.

use bytes::Bytes;

use super::Privacy;
use super::patterns::Secrets;
use super::ranges::Ranges;
use super::urls::{self, Text, range_in};
use crate::head::{Lines, split_field, split_head};
use crate::message::{Http1Kind, Http1Message};
use crate::privacy::Level;
use crate::text::trim_white_space;

/// Authentication schemes, which are shown before the masked credentials (RFC 9110 §11).
const SCHEMES: [&[u8]; 16] = [
    b"aws4-hmac-sha256",
    b"apikey",
    b"basic",
    b"bearer",
    b"digest",
    b"dpop",
    b"gnap",
    b"hawk",
    b"hoba",
    b"mutual",
    b"negotiate",
    b"ntlm",
    b"oauth",
    b"scram-sha-256",
    b"token",
    b"vapid",
];

/// Attributes of Set-Cookie (RFC 6265 §4.1.1 and later), which are not secret.
const ATTRIBUTES: [&[u8]; 9] = [
    b"domain",
    b"expires",
    b"httponly",
    b"max-age",
    b"partitioned",
    b"path",
    b"priority",
    b"samesite",
    b"secure",
];

/// Fields whose values are metadata. Of paths the query is not, of a media type the parameters are not.
const METADATA: [&[u8]; 13] = [
    b":authority",
    b":method",
    b":protocol",
    b":scheme",
    b":status",
    b"content-encoding",
    b"content-length",
    b"date",
    b"grpc-status",
    b"host",
    b"last-modified",
    b"transfer-encoding",
    b"upgrade",
];

/// Fields whose values a decoder needs, beside [`METADATA`].
const DECODED: [&[u8]; 3] = [b"connection", b"grpc-encoding", b"sec-websocket-extensions"];
/// Stands for concealed bytes.
static STARS: [u8; 64 * 1024] = [b'*'; 64 * 1024];

/// Returns a copy of a value in which what is no metadata is replaced by as many asterisks, unless a decoder needs it.
pub(crate) fn concealed(name: Option<&[u8]>, value: &[u8]) -> Bytes {
    let mut found = Ranges::default();
    match name {
        None => found.hide(0..value.len()),
        Some(name) if DECODED.iter().any(|known| name.eq_ignore_ascii_case(known)) => {}
        Some(name) => hide_beside_metadata(name, value, &mut found),
    }
    if found.is_all(value.len()) && value.len() <= STARS.len() {
        return Bytes::from_static(&STARS[..value.len()]);
    }
    Bytes::from(found.cover(value))
}

/// Finds what is masked in the head of an HTTP/1 message, and in its trailers.
pub(super) fn find_in_heads(privacy: &Privacy, message: &Http1Message) -> (Ranges, Ranges) {
    let mut head = Ranges::default();
    let (start_line, fields) = split_head(&message.head);
    let start = range_in(&message.head, start_line).start;
    head.hide_in(start, of_start_line(privacy, message.kind, start_line));
    of_lines(privacy, &message.head, fields, &mut head);
    let mut trailers = Ranges::default();
    of_lines(
        privacy,
        &message.trailers,
        Lines::of(&message.trailers),
        &mut trailers,
    );
    (head, trailers)
}

fn of_start_line(privacy: &Privacy, kind: Http1Kind, line: &[u8]) -> Ranges {
    let mut found = Ranges::default();
    let space = memchr::memchr(b' ', line).unwrap_or(line.len());
    let rest = &line[line.len().min(space + 1)..];
    // The target has the version behind it, which is no secret, and a status line has its reason.
    let shown = match (memchr::memrchr(b' ', rest), kind) {
        (Some(end), Http1Kind::Request) if rest[end + 1..].starts_with(b"HTTP/") => &rest[..end],
        _ => rest,
    };
    let mut part = Ranges::default();
    match kind {
        Http1Kind::Request => {
            of_url(privacy, shown, &mut part);
            if line[..space].eq_ignore_ascii_case(b"CONNECT") && privacy.secrets.is_some() {
                urls::find_user(shown, &mut part);
            }
        }
        Http1Kind::Response { .. } => {
            find_own(privacy, shown, &mut part);
            if privacy.level == Level::Metadata
                && let Some(end) = memchr::memchr(b' ', shown)
            {
                part.hide(end + 1..shown.len());
            }
        }
    }
    found.hide_in(range_in(line, rest).start, part);
    found
}

fn of_lines(privacy: &Privacy, text: &[u8], lines: Lines<'_>, found: &mut Ranges) {
    for line in lines {
        let (name, value) = split_field(line);
        if name.len() == line.len() {
            // Without a colon it is not a field, and may be part of any.
            found.hide(range_in(text, line));
            continue;
        }
        let mut part = Ranges::default();
        of_value(privacy, Some(trim_white_space(name)), value, &mut part);
        found.hide_in(range_in(text, value).start, part);
    }
}

/// Finds what is masked in the value of a field whose name may be unknown.
pub(super) fn of_value(privacy: &Privacy, name: Option<&[u8]>, value: &[u8], found: &mut Ranges) {
    let Some(name) = name else {
        return found.hide(0..value.len());
    };
    if let Some(secrets) = &privacy.secrets {
        secrets.find_in(value, found);
        find_builtin(secrets, name, value, found);
    }
    if privacy.level == Level::Metadata {
        hide_beside_metadata(name, value, found);
    }
}

/// Finds what is masked in a URL.
pub(super) fn of_url(privacy: &Privacy, url: &[u8], found: &mut Ranges) {
    if let Some(secrets) = &privacy.secrets {
        secrets.find_in(url, found);
        urls::find(url, Text::Url, secrets, found);
    }
    if privacy.level == Level::Metadata {
        let start = url.iter().position(|byte| matches!(byte, b'?' | b'#' | b';'));
        if let Some(start) = start {
            found.hide(start + 1..url.len());
        }
        // Without the parameters of the path, what remains is searched for credentials.
        urls::find(url, Text::Url, &Secrets::default(), found);
    }
}

fn find_own(privacy: &Privacy, text: &[u8], found: &mut Ranges) {
    if let Some(secrets) = &privacy.secrets {
        secrets.find_in(text, found);
    }
}

fn find_builtin(secrets: &Secrets, name: &[u8], value: &[u8], found: &mut Ranges) {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if is("cookie") {
        of_cookies(value, false, found);
    } else if is("set-cookie") {
        of_cookies(value, true, found);
    } else if secrets.has_header(name) {
        found.hide(scheme(value)..value.len());
    } else if is("sec-websocket-protocol") {
        of_protocols(value, found);
    } else if is("host") || is(":authority") {
        urls::find_user(value, found);
    } else {
        let is_url = is(":path") || is("referer") || is("location") || is("content-location");
        let kind = if is_url { Text::Url } else { Text::Words };
        urls::find(value, kind, secrets, found);
    }
}

/// The length of the authentication scheme at the beginning, with the space behind it.
fn scheme(value: &[u8]) -> usize {
    match memchr::memchr(b' ', value) {
        Some(end)
            if SCHEMES
                .iter()
                .any(|scheme| scheme.eq_ignore_ascii_case(&value[..end])) =>
        {
            end + 1
        }
        _ => 0,
    }
}

/// The values of cookies. In Set-Cookie the first part is the cookie, and the others are attributes.
fn of_cookies(value: &[u8], is_set: bool, found: &mut Ranges) {
    let parts = value.split(|byte| *byte == b';');
    for (number, part) in parts.enumerate() {
        let (name, start) = match memchr::memchr(b'=', part) {
            Some(sign) => (&part[..sign], sign + 1),
            None => (part, 0),
        };
        let name = trim_white_space(name);
        let is_attribute = is_set
            && number > 0
            && ATTRIBUTES
                .iter()
                .any(|attribute| attribute.eq_ignore_ascii_case(name));
        if !is_attribute {
            found.hide(range_in(value, trim_white_space(&part[start..])));
        }
    }
}

/// Tokens that are sent as the name of a protocol, because browsers cannot set other fields.
fn of_protocols(value: &[u8], found: &mut Ranges) {
    /// No registered name is longer.
    const LONGEST: usize = 48;
    for protocol in value.split(|byte| *byte == b',') {
        let protocol = trim_white_space(protocol);
        let is_token = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        let has_bearer = protocol
            .windows(6)
            .any(|window| window.eq_ignore_ascii_case(b"bearer"));
        let is_long = protocol
            .split(|byte| !is_token(byte))
            .any(|part| part.len() > LONGEST);
        if has_bearer || is_long {
            found.hide(range_in(value, protocol));
        }
    }
}

fn hide_beside_metadata(name: &[u8], value: &[u8], found: &mut Ranges) {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if is(b":path") {
        let start = value.iter().position(|byte| matches!(byte, b'?' | b'#' | b';'));
        found.hide(start.map_or(value.len(), |start| start + 1)..value.len());
        urls::find(value, Text::Url, &Secrets::default(), found);
    } else if is(b"content-type") {
        let start = memchr::memchr(b';', value);
        found.hide(start.map_or(value.len(), |start| start + 1)..value.len());
    } else if is(b"host") || is(b":authority") {
        urls::find_user(value, found);
    } else if !METADATA.iter().any(|known| is(known)) {
        found.hide(0..value.len());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn shown(level: Level, redacts: bool, name: &str, value: &str) -> String {
        let privacy = Privacy {
            level,
            secrets: redacts.then(Arc::default),
        };
        let mut found = Ranges::default();
        of_value(&privacy, Some(name.as_bytes()), value.as_bytes(), &mut found);
        let masked = found.mask(value.as_bytes());
        String::from_utf8(masked.unwrap_or_else(|| value.into())).unwrap()
    }

    #[test]
    fn secrets_of_fields() {
        for (name, value, expected) in [
            ("Authorization", "Bearer s", "Bearer ***"),
            ("authorization", "Basic czpz==", "Basic ***"),
            ("Authorization", "s3cret", "***"),
            ("Authorization", "my s3cret", "***"),
            (
                "Proxy-Authorization",
                "Digest username=\"u\", response=\"s\"",
                "Digest ***",
            ),
            ("X-Api-Key", "s", "***"),
            ("Cookie", "a=s; b=t", "a=***; b=***"),
            ("Cookie", "a=s=t;b", "a=***;***"),
            ("Cookie", "s", "***"),
            (
                "Set-Cookie",
                "a=s; Path=/; HttpOnly; Max-Age=5; odd=t",
                "a=***; Path=/; HttpOnly; Max-Age=5; odd=***",
            ),
            ("Set-Cookie", "Path=s", "Path=***"),
            ("Referer", "https://u:p@h/?token=a b", "https://***@h/?token=***"),
            ("Location", "/#id_token=s&x=1", "/#id_token=***&x=1"),
            (
                "Link",
                "<https://h/?sig=s>; rel=next",
                "<https://h/?sig=***>; rel=next",
            ),
            (
                "Sec-WebSocket-Protocol",
                "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.abc",
                "v4.channel.k8s.io, ***",
            ),
            ("Host", "u:p@h", "***@h"),
            ("Accept", "*/*", "*/*"),
            ("WWW-Authenticate", "Basic realm=\"x\"", "Basic realm=\"x\""),
        ] {
            assert_eq!(shown(Level::Full, true, name, value), expected, "{name}: {value}");
            assert_eq!(shown(Level::Headers, false, name, value), value);
        }
    }

    #[test]
    fn metadata_has_few_values() {
        for (name, value, expected) in [
            (":path", "/a/b?q=1", "/a/b?***"),
            (":path", "/a;x=1/b", "/a;***"),
            (":path", "/a", "/a"),
            ("Host", "h:1", "h:1"),
            (
                "Content-Type",
                "multipart/form-data; boundary=x",
                "multipart/form-data;***",
            ),
            ("Content-Length", "5", "5"),
            ("User-Agent", "x", "***"),
            ("Referer", "https://h/", "***"),
        ] {
            assert_eq!(shown(Level::Metadata, false, name, value), expected, "{name}");
        }
    }
}

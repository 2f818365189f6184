//! HTTP/1 messages: the stored wire bytes, split into their parts.

use super::object::{Array, Object};
use super::{add_body, add_part};
use crate::message::{Http1Kind, Http1Message};
use crate::text::trim_white_space;

/// Adds the members of `message`. Returns true if its body was cut at `limit`.
pub(super) fn add(message: &Http1Message, limit: Option<usize>, object: &mut Object<'_>) -> bool {
    let (start_line, fields) = split_head(&message.head);
    if !message.head.is_empty() {
        object.wire_string("start_line", start_line);
        if message.kind == Http1Kind::Request {
            add_request_line(start_line, fields.clone(), object);
        }
    }
    if let Http1Kind::Response { status } = message.kind {
        object.number("status", status);
    }
    if !message.head.is_empty() {
        add_fields("headers", fields, object);
    }
    if message.body.complete || !message.trailers.is_empty() {
        add_fields("trailers", Lines(&message.trailers), object);
    }
    let truncated = add_body(&message.body, limit, object);
    add_part(message.part, object);
    if !message.anomalies.is_empty() {
        let mut anomalies = object.array("anomalies");
        for anomaly in &message.anomalies {
            anomalies.string(&anomaly.to_string());
        }
    }
    truncated
}

fn split_head(head: &[u8]) -> (&[u8], Lines<'_>) {
    // A request line may follow empty lines (RFC 9112 §2.2).
    let blank = head
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let head = &head[blank..];
    let end = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    let (start_line, fields) = head.split_at(end);
    (without_line_end(start_line), Lines(fields))
}

/// Adds the method and the parts of the target (RFC 9112 §3). The authority of an origin-form
/// target is that of the Host field, if there is exactly one.
fn add_request_line(start_line: &[u8], fields: Lines<'_>, object: &mut Object<'_>) {
    let Some((method, target)) = split_request_line(start_line) else {
        return;
    };
    object.wire_string("method", method);
    if method == b"CONNECT" {
        object.wire_string("authority", target);
        return;
    }
    if let Some((scheme, rest)) = split_scheme(target) {
        let path = rest
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?'))
            .unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path);
        object.wire_string("path", if path.is_empty() { b"/" } else { path });
        object.wire_string("authority", authority);
        object.wire_string("scheme", scheme);
        return;
    }
    object.wire_string("path", target);
    let mut hosts = fields
        .map(split_field)
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"host"));
    if let (Some((_, host)), None) = (hosts.next(), hosts.next()) {
        object.wire_string("authority", host);
    }
}

/// Splits a request line into method and target. Everything between the first space and the version
/// is the target, even if it contains spaces.
fn split_request_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', line)?;
    let (method, rest) = (&line[..space], trim_white_space(&line[space..]));
    let target = match memchr::memrchr(b' ', rest) {
        Some(space) if rest[space + 1..].starts_with(b"HTTP/") => trim_white_space(&rest[..space]),
        _ => rest,
    };
    (!method.is_empty() && !target.is_empty()).then_some((method, target))
}

/// Splits an absolute-form target into its scheme and the text after `://`.
fn split_scheme(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', target)?;
    let rest = target[colon..].strip_prefix(b"://")?;
    let scheme = &target[..colon];
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    scheme.iter().all(is_scheme).then_some((scheme, rest))
}

fn add_fields(name: &'static str, fields: Lines<'_>, object: &mut Object<'_>) {
    let mut list: Array<'_> = object.array(name);
    for line in fields {
        let (name, value) = split_field(line);
        list.field(Some(name), Some(value));
    }
}

/// Splits a line into the name up to the colon, with any white space before the colon, and the
/// value without the white space around it (RFC 9110 §5.5). A line without a colon is a name
/// without a value.
fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        Some(colon) => (&line[..colon], trim_white_space(&line[colon + 1..])),
        None => (line, &[]),
    }
}

/// The lines of a field section up to its empty line. Folded lines (RFC 9112 §5.2) are one item,
/// with the fold in it; a bare LF ends a line too.
#[derive(Clone)]
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let folds = |end: &usize| matches!(self.0.get(end + 1), Some(b' ' | b'\t'));
        let end = memchr::memchr_iter(b'\n', self.0).find(|end| !folds(end));
        let (line, rest) = self.0.split_at(end.map_or(self.0.len(), |end| end + 1));
        self.0 = rest;
        let line = without_line_end(line);
        if line.is_empty() {
            self.0 = &[];
            return None;
        }
        Some(line)
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(section: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pair = |(name, value): (&[u8], &[u8])| (text(name), text(value));
        Lines(section.as_bytes()).map(split_field).map(pair).collect()
    }

    fn request_line(head: &str) -> String {
        let mut out = Vec::new();
        let (start_line, fields) = split_head(head.as_bytes());
        add_request_line(start_line, fields, &mut Object::open(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_survive_odd_spacing() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            fields("A: 1\r\nb:2\nC :  3 \r\nFold: x\r\n  y\r\nno colon\r\nEmpty:\r\n\r\nnot: seen"),
            [
                pair("A", "1"),
                pair("b", "2"),
                pair("C ", "3"),
                pair("Fold", "x\r\n  y"),
                pair("no colon", ""),
                pair("Empty", ""),
            ]
        );
        assert_eq!(fields(""), []);
        assert_eq!(fields("A: cut"), [pair("A", "cut")]);
    }

    #[test]
    fn targets_in_all_four_forms() {
        for (head, expected) in [
            (
                "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n",
                r#"{"method":"GET","path":"/a?b","authority":"h"}"#,
            ),
            (
                "GET / HTTP/1.1\nhost: h\nHost: i\n\n",
                r#"{"method":"GET","path":"/"}"#,
            ),
            (
                "\r\nGET http://h:1?q HTTP/1.1\r\nHost: other\r\n\r\n",
                r#"{"method":"GET","path":"?q","authority":"h:1","scheme":"http"}"#,
            ),
            (
                "GET http://h HTTP/1.1\r\n\r\n",
                r#"{"method":"GET","path":"/","authority":"h","scheme":"http"}"#,
            ),
            (
                "CONNECT h:443 HTTP/1.1\r\n\r\n",
                r#"{"method":"CONNECT","authority":"h:443"}"#,
            ),
            ("OPTIONS * HTTP/1.1\r\n\r\n", r#"{"method":"OPTIONS","path":"*"}"#),
            ("GET\r\n\r\n", "{}"),
        ] {
            assert_eq!(request_line(head), expected);
        }
    }
}

//! HTTP/1 messages: the stored wire bytes, split into their parts.

use super::object::{Array, Object};
use super::{add_body, add_part};
use crate::head::{Lines, RequestLine, split_field, split_head};
use crate::message::{Http1Kind, Http1Message};

/// Adds the members of `message`. Returns true if its body was cut at `limit`.
pub(super) fn add(message: &Http1Message, limit: Option<usize>, object: &mut Object<'_>) -> bool {
    let (start_line, fields) = split_head(&message.head);
    if !message.head.is_empty() {
        object.wire_string("start_line", start_line);
        if message.kind == Http1Kind::Request {
            add_request_line(start_line, &fields, object);
        }
    }
    if let Http1Kind::Response { status } = message.kind {
        object.number("status", status);
    }
    if !message.head.is_empty() {
        add_fields("headers", fields, object);
    }
    if message.body.complete || !message.trailers.is_empty() {
        add_fields("trailers", Lines::of(&message.trailers), object);
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

fn add_request_line(start_line: &[u8], fields: &Lines<'_>, object: &mut Object<'_>) {
    let Some(line) = RequestLine::parse(start_line, fields) else {
        return;
    };
    object.wire_string("method", line.method);
    for (member, part) in [
        ("path", line.path),
        ("authority", line.authority),
        ("scheme", line.scheme),
    ] {
        if let Some(part) = part {
            object.wire_string(member, part);
        }
    }
}

fn add_fields(name: &'static str, fields: Lines<'_>, object: &mut Object<'_>) {
    let mut list: Array<'_> = object.array(name);
    for line in fields {
        let (name, value) = split_field(line);
        list.field(Some(name), Some(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(section: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pair = |(name, value): (&[u8], &[u8])| (text(name), text(value));
        Lines::of(section.as_bytes()).map(split_field).map(pair).collect()
    }

    fn request_line(head: &str) -> String {
        let mut out = Vec::new();
        let (start_line, fields) = split_head(head.as_bytes());
        add_request_line(start_line, &fields, &mut Object::open(&mut out));
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

//! The field section of a message, and its start line.

use bytes::Bytes;

use crate::format::exchange_lines::value_of;
use crate::format::json_lines::object::Object;
use crate::head::{split_field, split_head};
use crate::message::{Content, Field, Http1Kind, Message};

/// Names and values.
pub(super) type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Returns the fields of a message, without pseudo-header fields (RFC 9113 §8.3).
pub(super) fn of(message: &Message) -> Fields<'_> {
    match &message.content {
        Content::Http1(http1) => split_head(&http1.head).1.map(split_field).collect(),
        Content::Http2(http2) => {
            let pairs = http2.fields.iter().map(pair);
            pairs.filter(|(name, _)| !name.starts_with(b":")).collect()
        }
        _ => Vec::new(),
    }
}

fn pair(field: &Field) -> (&[u8], &[u8]) {
    (part(field.name.as_ref()), part(field.value.as_ref()))
}

/// A part that depends on lost HPACK state is shown as the text format shows it.
fn part(part: Option<&Bytes>) -> &[u8] {
    part.map_or(b"?", |part| part)
}

/// Returns the value of the first field of that name.
pub(super) fn value<'a>(fields: &Fields<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let field = fields
        .iter()
        .find(|(field, _)| field.eq_ignore_ascii_case(name))?;
    Some(field.1)
}

pub(super) fn add(fields: &[(&[u8], &[u8])], member: &'static str, object: &mut Object<'_>) {
    let mut list = object.array(member);
    for (name, value) in fields {
        let mut field = Object::open(list.element());
        field.wire_string("name", name);
        field.wire_string("value", value);
    }
}

/// Returns the protocol version of a message.
pub(super) fn version(message: &Message) -> &[u8] {
    let Content::Http1(http1) = &message.content else {
        return b"HTTP/2";
    };
    let line = split_head(&http1.head).0;
    let version = match http1.kind {
        Http1Kind::Request => line.rsplit(|&byte| byte == b' ').next(),
        Http1Kind::Response { .. } => line.split(|&byte| byte == b' ').next(),
    };
    version
        .filter(|version| version.starts_with(b"HTTP/"))
        .unwrap_or(b"HTTP/1.0")
}

/// Returns the reason phrase of a response (RFC 9112 §4).
pub(super) fn reason(message: &Message) -> &[u8] {
    let Content::Http1(http1) = &message.content else {
        return b"";
    };
    split_head(&http1.head)
        .0
        .splitn(3, |&byte| byte == b' ')
        .nth(2)
        .unwrap_or(b"")
}

/// Bytes of the start line and the fields; those of HTTP/2 are not known.
pub(super) fn size(message: &Message) -> i64 {
    match &message.content {
        Content::Http1(http1) => i64::try_from(http1.head.len()).unwrap_or(-1),
        _ => -1,
    }
}

/// Returns the fields after the body.
pub(super) fn trailers(message: &Message) -> Fields<'_> {
    match &message.content {
        Content::Http1(http1) => crate::head::Lines::of(&http1.trailers).map(split_field).collect(),
        Content::Http2(http2) => {
            let pairs = http2.trailers.iter().map(pair);
            pairs.collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the value of a pseudo-header field.
pub(super) fn pseudo<'a>(message: &'a Message, name: &[u8]) -> Option<&'a [u8]> {
    match &message.content {
        Content::Http2(http2) => value_of(&http2.fields, name),
        _ => None,
    }
}

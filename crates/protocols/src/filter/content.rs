//! The fields that the content of a message has by itself.

use memchr::memmem::Finder;

use super::field::FieldName;
use super::headers::values_of;
use crate::head::{RequestLine, method, split_head};
use crate::message::{Content, Http1Kind, Http2Kind, WebSocketMessage};

/// Which half of an exchange a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Request,
    Response,
}

pub(super) fn side_of(content: &Content) -> Option<Half> {
    let is_request = match content {
        Content::Http1(message) => message.kind == Http1Kind::Request,
        Content::Http2(message) => message.kind == Http2Kind::Request,
        _ => return None,
    };
    Some(if is_request { Half::Request } else { Half::Response })
}

pub(super) const fn is_http(content: &Content) -> bool {
    matches!(
        content,
        Content::Http1(_) | Content::Http2(_) | Content::Http2Frame(_) | Content::ServerSentEvent(_)
    )
}

pub(super) fn length_of(content: &Content) -> Option<u64> {
    Some(match content {
        Content::Http1(message) => {
            (message.head.len() + message.trailers.len()) as u64 + message.body.wire_len
        }
        Content::Http2(message) => message.body.wire_len,
        Content::Http2Frame(frame) => 9 + u64::from(frame.length),
        Content::Grpc(message) => message.wire_len,
        Content::WebSocket(message) => message.wire_len,
        Content::Raw(raw) => raw.data.len() as u64,
        Content::ServerSentEvent(event) => event.data.len() as u64,
        Content::Fact(_) | Content::Gap(_) | Content::Unanswered => return None,
    })
}

pub(super) fn body_of(content: &Content) -> Option<&[u8]> {
    Some(match content {
        Content::Http1(message) => &message.body.data,
        Content::Http2(message) => &message.body.data,
        Content::Grpc(message) => &message.data,
        Content::WebSocket(message) => &message.data,
        Content::Raw(raw) => &raw.data,
        Content::ServerSentEvent(event) => event.data.as_bytes(),
        Content::Http2Frame(_) | Content::Fact(_) | Content::Gap(_) | Content::Unanswered => return None,
    })
}

pub(super) fn stream_of(content: &Content) -> Option<u32> {
    match content {
        Content::Http2(message) => Some(message.stream),
        Content::Http2Frame(frame) => Some(frame.stream),
        Content::Grpc(message) => Some(message.stream),
        Content::WebSocket(message) => message.stream,
        Content::ServerSentEvent(event) => event.stream,
        _ => None,
    }
}

/// Returns method, URI or host of a request.
pub(super) fn request_part(content: &Content, name: FieldName) -> Option<&[u8]> {
    match content {
        Content::Http1(message) => {
            let (start_line, fields) = split_head(&message.head);
            // Headers are read only where they decide.
            let line = || RequestLine::with_host(start_line, || None);
            match name {
                FieldName::Method => method(start_line),
                FieldName::Uri => line()?.path,
                _ => RequestLine::parse(start_line, &fields)?.authority,
            }
        }
        Content::Http2(message) => {
            let pseudo: &[u8] = match name {
                FieldName::Method => b":method",
                FieldName::Uri => b":path",
                _ => b":authority",
            };
            values_of(message.fields.iter(), pseudo).next()
        }
        _ => None,
    }
}

/// Returns a request's URI without its query.
pub(super) fn uri_path(uri: &[u8]) -> &[u8] {
    memchr::memchr(b'?', uri).map_or(uri, |mark| &uri[..mark])
}

/// Returns the query of a request's URI, without the question mark.
pub(super) fn uri_query(uri: &[u8]) -> Option<&[u8]> {
    memchr::memchr(b'?', uri).map(|mark| &uri[mark + 1..])
}

/// A status line (RFC 9112 §4).
pub(super) struct StatusLine<'a> {
    version: &'a [u8],
    /// Empty if there is none.
    pub(super) phrase: &'a [u8],
}

pub(super) fn response_line(content: &Content) -> Option<StatusLine<'_>> {
    let Content::Http1(message) = content else {
        return None;
    };
    if message.kind == Http1Kind::Request {
        return None;
    }
    let mut words = split_head(&message.head).0.splitn(3, |byte| *byte == b' ');
    let version = words.next()?;
    Some(StatusLine {
        version,
        phrase: words.nth(1).unwrap_or_default(),
    })
}

/// Returns the version on the start line of a request or response of HTTP/1.
pub(super) fn version_of(content: &Content, half: Half) -> Option<&[u8]> {
    let Content::Http1(message) = content else {
        return None;
    };
    match (half, message.kind) {
        (Half::Request, Http1Kind::Request) => {
            let line = split_head(&message.head).0;
            let version = &line[memchr::memrchr(b' ', line)? + 1..];
            version.starts_with(b"HTTP/").then_some(version)
        }
        (Half::Response, Http1Kind::Response { .. }) => response_line(content).map(|line| line.version),
        _ => None,
    }
}

/// Returns the status code of a WebSocket close frame (RFC 6455 §5.5.1).
pub(super) fn close_status(message: &WebSocketMessage) -> Option<u16> {
    let status = message.data.first_chunk::<2>()?;
    (message.opcode == 8).then(|| u16::from_be_bytes(*status))
}

/// Returns true if the text is in the head or the body.
pub(super) fn is_in_content(content: &Content, finder: &Finder<'_>) -> bool {
    let is_in = |bytes: &[u8]| finder.find(bytes).is_some();
    let in_head = match content {
        Content::Http1(message) => is_in(&message.head) || is_in(&message.trailers),
        Content::Http2(message) => message.fields.iter().chain(&message.trailers).any(|field| {
            let is_in = |part: &Option<bytes::Bytes>| part.as_deref().is_some_and(is_in);
            is_in(&field.name) || is_in(&field.value)
        }),
        _ => false,
    };
    in_head || body_of(content).is_some_and(is_in)
}

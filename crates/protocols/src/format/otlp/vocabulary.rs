//! What the fields and codes of HTTP and gRPC are called, and where they are in a message.

use crate::head::{split_field, split_head};
use crate::message::{Content, Message};

/// The methods of RFC 9110 and RFC 5789; all others are `_OTHER`.
pub(super) fn is_known(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE" | b"CONNECT" | b"OPTIONS" | b"TRACE" | b"PATCH"
    )
}

pub(super) fn is_grpc_type(media_type: &[u8]) -> bool {
    let rest = media_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Returns all fields of a message that are known.
pub(super) fn fields(message: &Message) -> Box<dyn Iterator<Item = (&[u8], &[u8])> + '_> {
    match &message.content {
        Content::Http1(http1) => Box::new(split_head(&http1.head).1.map(split_field)),
        Content::Http2(http2) => Box::new(
            http2
                .fields
                .iter()
                .filter_map(|field| Some((field.name.as_deref()?, field.value.as_deref()?))),
        ),
        _ => Box::new(std::iter::empty()),
    }
}

/// Returns the value of the first field of that name.
pub(super) fn field<'a>(message: &'a Message, name: &[u8]) -> Option<&'a [u8]> {
    let mut fields = fields(message);
    let field = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
    field.map(|(_, value)| value)
}

/// Returns an authority without the user and the password before its host.
pub(super) fn without_user(authority: &[u8]) -> &[u8] {
    let at = memchr::memrchr(b'@', authority);
    &authority[at.map_or(0, |at| at + 1)..]
}

/// Splits an authority into its host, without the brackets of an IPv6 address, and its port.
pub(super) fn split_authority(authority: &[u8]) -> (Option<&[u8]>, Option<u16>) {
    let authority = without_user(authority);
    let colon = memchr::memrchr(b':', authority).filter(|&colon| !authority[colon..].contains(&b']'));
    let (host, port) = authority.split_at(colon.unwrap_or(authority.len()));
    let port = port
        .get(1..)
        .and_then(|port| str::from_utf8(port).ok()?.parse().ok());
    let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
    let host = bare.unwrap_or(host);
    ((!host.is_empty()).then_some(host), port)
}

/// The names of the codes of gRPC.
pub(super) const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

//! The protocols that a stream may begin with. Adding one is adding its line here.

use std::sync::Arc;

use crate::decoder::Detection;
use crate::detect::Protocol;
use crate::http1::{self, Upgrade};
use crate::http2::{self, Http2Decoder};
use crate::websocket::{self, WebSocketDecoder};

/// The protocols in the order in which they are probed: those that begin with an unmistakable text
/// first, those recognized by the form of binary frames last.
///
/// | protocol | evidence at the start of any event | where bytes are missing before it |
/// |---|---|---|
/// | HTTP/1 response | `HTTP/1.`, a digit, a space, three digits and what ends them; an empty line may precede | the same |
/// | HTTP/1 request | a whole request line: a token, a target, `HTTP/1.0` or `HTTP/1.1` and the line's end; an empty line may precede. Behind raw bytes that end no line, a well-known method | the same |
/// | HTTP/2 | the client's preface; a SETTINGS frame with plausible parameters; an empty one and a frame header after it, or nothing; three plausible frames in a row, or whole ones, not DATA alone, that end with the bytes when no more come | the same |
/// | WebSocket | none: it begins after its handshake only | whole frames that end with the bytes and have [`websocket::detect`]'s evidence |
///
/// An event that has none of it is raw, byte for byte. A decoder that loses the framing of a
/// protocol hands the rest back to be recognized like this.
pub(super) static PROTOCOLS: &[&Protocol] = &[&http1::RESPONSES, &http1::REQUESTS, &HTTP2, &WEBSOCKET];

/// Returns true if these bytes are almost certainly the first of one direction of a connection, or
/// of an HTTP/1 message.
pub(super) fn begins_connection(bytes: &[u8]) -> bool {
    http1::begins_message(bytes) || http2::opens_connection(bytes)
}

/// Returns the protocol of a connection after an HTTP/1 upgrade; `None` if it must be detected.
/// `client` is true for the direction of the requests.
pub(crate) fn upgraded(upgrade: Upgrade, client: bool) -> Option<&'static Protocol> {
    match upgrade {
        Upgrade::Http2 => Some(&HTTP2_UPGRADED),
        Upgrade::Other => None,
        Upgrade::WebSocket if client => Some(&WEBSOCKET_CLIENT),
        Upgrade::WebSocket => Some(&WEBSOCKET_SERVER),
    }
}

static HTTP2: Protocol = Protocol {
    recognize: |bytes, _, place| {
        if !place.after_loss && http2::detect_start(bytes) == Detection::Yes {
            Detection::Yes
        } else {
            http2::detect(bytes)
        }
    },
    recognize_quiet: |bytes, place| {
        !place.after_loss && http2::is_empty_settings(bytes) || http2::detect_quiet(bytes)
    },
    start: |options, first| {
        Box::new(Http2Decoder::new(
            Arc::clone(options),
            http2::starts_connection(first),
        ))
    },
    reports_requests: false,
};

static HTTP2_UPGRADED: Protocol = Protocol {
    start: |options, _| Box::new(Http2Decoder::new(Arc::clone(options), true)),
    ..HTTP2
};

/// WebSocket, picked up in the middle.
static WEBSOCKET: Protocol = Protocol {
    recognize: |bytes, _, place| {
        if place.after_loss {
            websocket::detect(bytes)
        } else {
            Detection::No
        }
    },
    recognize_quiet: |_, _| false,
    start: |options, _| Box::new(WebSocketDecoder::attached(Arc::clone(options))),
    reports_requests: false,
};

/// WebSocket: the client's frames after the handshake, from the first on.
static WEBSOCKET_CLIENT: Protocol = Protocol {
    start: |options, _| Box::new(WebSocketDecoder::new(Arc::clone(options)).from_client(true)),
    ..WEBSOCKET
};

/// WebSocket: the server's frames after the handshake, from the first on.
static WEBSOCKET_SERVER: Protocol = Protocol {
    start: |options, _| Box::new(WebSocketDecoder::new(Arc::clone(options)).from_client(false)),
    ..WEBSOCKET
};

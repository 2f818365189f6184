//! The protocols that a stream may begin with. Adding one is adding its line here.

use crate::decoder::Detection;
use crate::detect::{Protocol, ProtocolDecoder};
use crate::http1::{self, Upgrade};
use crate::http2::{self, Http2Decoder};
use crate::websocket::{self, WebSocketDecoder};

/// In the order in which they are asked: what begins with an unmistakable text first, what is
/// told from the shape of binary frames last.
pub(super) static PROTOCOLS: &[&Protocol] = &[
    &http1::RESPONSES,
    &http1::REQUESTS,
    &HTTP2,
    &WEBSOCKET_CLIENT,
    &WEBSOCKET_SERVER,
];

/// What a connection goes on with after an HTTP/1 upgrade; `None`: to be detected.
pub(crate) fn upgraded(upgrade: Upgrade) -> Option<&'static Protocol> {
    match upgrade {
        Upgrade::Http2 => Some(&HTTP2_UPGRADED),
        Upgrade::Other => None,
        Upgrade::WebSocket => Some(&WEBSOCKET_UPGRADED),
    }
}

static HTTP2: Protocol = Protocol {
    probe: |bytes, _| http2::detect(bytes),
    probe_quiet: http2::detect_quiet,
    start: |options, first| Box::new(Http2Decoder::new(**options, http2::starts_connection(first))),
    tells_requests: false,
};

static HTTP2_UPGRADED: Protocol = Protocol {
    start: |options, _| Box::new(Http2Decoder::new(**options, true)),
    ..HTTP2
};

/// Picked up in the middle: masked frames.
static WEBSOCKET_CLIENT: Protocol = Protocol {
    probe: |bytes, _| last_fragment(bytes, true),
    probe_quiet: |_| false,
    start: |options, _| Box::new(WebSocketDecoder::attached(**options)),
    tells_requests: false,
};

/// Picked up in the middle: frames that are not masked.
static WEBSOCKET_SERVER: Protocol = Protocol {
    probe: |bytes, _| last_fragment(bytes, false),
    ..WEBSOCKET_CLIENT
};

/// After the handshake, from the first frame on.
static WEBSOCKET_UPGRADED: Protocol = Protocol {
    start: |options, _| Box::new(WebSocketDecoder::new(**options)),
    ..WEBSOCKET_CLIENT
};

/// A frame without FIN could as well be text; one with it cannot be ASCII.
fn last_fragment(bytes: &[u8], client: bool) -> Detection {
    match bytes.first() {
        Some(first) if *first < 0x80 => Detection::No,
        _ => websocket::detect(bytes, client),
    }
}

impl ProtocolDecoder for Http2Decoder {}
impl ProtocolDecoder for WebSocketDecoder {}

//! HTTP/1.0 and HTTP/1.1 (RFC 9112), one direction of one connection.
//!
//! ```text
//!                     head, no body
//!                    ┌─────────────┐
//!                    ▼             │      head with a body
//!   ─────────────► Start ──────────┴─────────────────────────► Body
//!                  ▲ │ ▲ └───────── last byte, lengths ────────┘ │
//!                  │ │ │                                         │
//!   a whole head   │ │ │ method known, or bytes decide           │ bytes that cannot
//!   is found       │ │ └──────── Awaiting ◄── response head      │ be framed, a gap
//!                  │ │                        whose body depends │ of unknown size
//!                  │ │ no head, gap           on the request     │
//!                  │ ▼                                           │
//!                 Searching ◄────────────────────────────────────┘
//!
//!   Start ── head over its limit ──► LongHead ── its end ──► as behind any head
//!   Start ── 101, 2xx to CONNECT, bytes of what a request asked to upgrade to ──► Over
//! ```
//!
//! A gap inside a body of known length, or inside a chunk, does not lose the framing: the body is
//! marked and the following message is found exactly. Over is the hand-over to another protocol.
//! Memory: one head or chunk line, one body, and the bytes held in Awaiting, each with its limit;
//! rarely used state is boxed.

mod awaiting;
mod chunked;
mod decoder;
mod exchanges;
mod framing;
mod head;
mod heads;
mod held;
mod long_head;
mod messages;
mod normal;
mod open;
mod pairs;
mod peer;
mod recognize;
mod search;
mod state;
mod stream;

use crate::decoder::Detection;
use crate::detect::Protocol;
use decoder::Http1Decoder;
use head::Side;
pub(crate) use head::Upgrade;

/// A direction that begins with a request.
pub(crate) static REQUESTS: Protocol = Protocol {
    recognize: |bytes, _, place| {
        if place.mid_line && !search::may_be_known_method(bytes) {
            Detection::No
        } else {
            recognize::request(bytes)
        }
    },
    recognize_quiet: |_, _| false,
    start: |options, _| Box::new(Http1Decoder::new(options, Side::Requests)),
    reports_requests: true,
};

/// A direction that begins with a response.
pub(crate) static RESPONSES: Protocol = Protocol {
    recognize: |bytes, _, _| recognize::response(bytes),
    recognize_quiet: |_, _| false,
    start: |options, _| Box::new(Http1Decoder::new(options, Side::Responses)),
    reports_requests: false,
};

/// Returns true if a start line begins here.
pub(crate) fn begins_message(bytes: &[u8]) -> bool {
    recognize::response(bytes) == Detection::Yes || recognize::request(bytes) == Detection::Yes
}

#[cfg(test)]
mod tests;

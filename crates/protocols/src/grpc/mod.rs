//! gRPC over HTTP/2: length-prefixed messages (gRPC HTTP/2 protocol mapping) and their content.
//!
//! ```text
//!                 5 bytes: flag and length              length bytes
//!   ┌────────┐ ────────────────────────► ┌─────────┐ ────────────────► emit,
//!   │ Prefix │                           │ Message │                   back to Prefix
//!   └────────┘ ◄──────────────────────── └─────────┘
//!     ▲    │ flag other than 0, 1             │ gap
//!     │    ▼                                  ▼
//!     │  ┌─────────┐                      ┌──────┐
//!     │  │ Foreign │                      │ Lost │ skips to a DATA frame that is one whole message
//!     │  └─────────┘                      └──────┘
//!     └──────────────────────────────────────┘
//! ```
//!
//! The status is in the trailers, which belong to the stream's HTTP/2 message.

mod deframer;
mod protobuf;

pub use deframer::Deframer;
pub use protobuf::dump;

/// Returns true if a media type is gRPC: `application/grpc`, alone or with a suffix such as
/// `+proto`. `application/grpc-web` is not, because it frames its trailers differently.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    content_type
        .split_at_checked(NAME.len())
        .is_some_and(|(name, rest)| {
            name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
        })
}

//! HTTP/2 (RFC 9113), one direction at a time, from any point on.
//!
//! ```text
//!  start seen                                             start missed, gap
//!      │                                                          │
//!      ▼                                                          ▼
//!  ┌─────────┐  preface or   ┌────────┐  frames believed    ┌───────────┐
//!  │ Preface │ ────────────► │ InStep │ ◄────────────────── │ Searching │
//!  └─────────┘  first frame  └────────┘ ──────────────────► └───────────┘
//!                             │  ▲   gap, or bytes that are not a frame header
//!                             ▼  │
//!    9 bytes ─► DATA ──── pieces pass through ──────────┐
//!           ├─► HEADERS, PUSH_PROMISE, CONTINUATION ──► │ header block ─► HPACK
//!           ├─► other frames, collected ────────────────┤
//!           └─► too large, passed over and counted      ▼
//!                                        view: frames │ messages per stream
//! ```
//!
//! A stream in one direction:
//!
//! ```text
//!          HEADERS 1xx (a message of its own)
//!            ┌────┐
//!            │    ▼
//!   idle ──► waiting ── HEADERS ──► open ── DATA* ──► HEADERS (trailers) ──► ended
//!     │                              │ │                                      ▲
//!     └── DATA (fields were lost) ───┘ └── END_STREAM, RST_STREAM, eviction ──┘
//! ```
//!
//! The frame types that need no negotiated state come from the h2 crate, in [`codec`] alone.
//! Protocols carried in DATA are in [`carried`]: gRPC, and WebSocket over extended CONNECT. Another
//! protocol on top of a stream is one more variant there.

mod carried;
mod chain;
mod codec;
mod decoder;
mod error_names;
mod events;
mod frame;
mod frame_view;
pub mod hpack;
mod message_view;
mod pairs;
mod presenter;
mod resync;
mod section;
mod splitter;
mod streams;

pub use chain::{detect, detect_quiet, detect_start, is_empty_settings, opens_connection, starts_connection};
pub use decoder::Http2Decoder;
pub(crate) use error_names::ERROR_NAMES;

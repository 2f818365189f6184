//! Captured packets as events: TCP streams put together (RFC 9293), TLS decrypted, plain HTTP as it is.
//!
//! ```text
//! packet ── headers ── fragments ── flow: two streams ── TLS session or plain ── CapturedEvent
//! ```
//!
//! What is not in the capture is a gap in its stream; what cannot be decrypted is counted by its reason.

mod capture;
mod flow;
mod fragments;
mod order;
mod processes;
mod stream;
mod tally;

pub use capture::Capture;
pub use tally::{NotShown, Reason, Tally};

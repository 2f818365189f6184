//! HTTP/2 and gRPC:
//!
//! - `frames`: frame by frame, in both views, also if senders misbehave.
//! - `content`: the content of streams: DATA in parts, content codings, event streams, WebSockets.
//! - `grpc`: gRPC messages on streams.
//! - `limits`: too much, too many, damaged, or not HTTP/2 at all.
//! - `loss`: connections whose beginning, or any one event, is missing.
//! - `recorded`: recorded connections compared with their known content.
//! - `differential`: random connections made and read by h2.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod content;
mod differential;
mod frames;
mod grpc;
mod limits;
mod loss;
#[path = "../support/random.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod random;
mod recorded;
mod support;

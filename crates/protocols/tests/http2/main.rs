//! HTTP/2 and gRPC:
//!
//! - `frames`: frame by frame, in both views, also where senders misbehave.
//! - `content`: what streams carry: DATA in parts, content codings, event streams, WebSockets.
//! - `grpc`: gRPC messages on streams.
//! - `limits`: too much, too many, damaged, or not HTTP/2 at all.
//! - `loss`: connections of which the beginning or any one event is missing.
//! - `recorded`: recorded connections against what is really in the bytes.
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

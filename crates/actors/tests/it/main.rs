//! The pipeline as a whole, on virtual time unless said otherwise.
//!
//! * `routing`: which Worker gets what, in which order, under which origin
//! * `connections`: their numbers
//! * `lifecycle`: idle-stop, close events, fd reuse, age, draining
//! * `determinism`: a replay is the same everywhere
//! * `ends`: both ends of exchanges, joined
//! * `facts`: events without a stream
//! * `inject`: fault injection
//! * `sleep`: silent streams, whose decoders are kept
//! * `limits`: bounds that are reached, and an Arbiter that is stuck
//! * `schedules`: random runs
//! * `sink`: outputs that fail, block and come back
//! * `outputs`: several of them, of views, records, captured events
//! * `torn`: outputs that fail in the middle of a record
//! * `restart`: panics of decoders, formatters, the Sink, the source

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod connections;
mod determinism;
mod ends;
mod facts;
mod inject;
mod lifecycle;
mod limits;
mod outputs;
mod restart;
mod routing;
mod schedules;
mod sink;
mod sleep;
mod support;
mod torn;

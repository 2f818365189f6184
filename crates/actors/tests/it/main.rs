//! The pipeline as a whole, on virtual time unless said otherwise.
//!
//! * `routing`: which Worker gets what, in which order, under which identity
//! * `lifecycle`: idle-stop, close events, fd reuse, age, draining
//! * `restart`: panics of decoders, formatters, the Sink, the source

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod lifecycle;
mod restart;
mod routing;
mod support;

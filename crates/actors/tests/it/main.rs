//! The pipeline as a whole, on virtual time unless said otherwise.
//!
//! * `routing`: which Worker gets what, in which order, under which identity
//! * `lifecycle`: idle-stop, close events, fd reuse, age, draining

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod lifecycle;
mod routing;
mod support;

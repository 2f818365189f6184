//! Captures real programs. Needs root, a kernel with BTF, and the peers that each test names; a
//! test that cannot run says `SKIPPED` and why, and fails when `ECAPTURE_REQUIRE_PRIVILEGED=1`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bulk;
mod content;
mod filters;
#[path = "../support/frames.rs"]
mod frames;
mod go;
mod identity;
mod left;
mod packets;
#[path = "../support/random.rs"]
mod random;
mod requests;
mod support;
mod verdicts;
mod verifier;

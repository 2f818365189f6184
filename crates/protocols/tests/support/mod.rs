//! Code shared by the tests over recorded streams.

pub(crate) mod fixture;
pub(crate) mod player;
#[expect(dead_code, reason = "shared; no file needs all of it")]
pub(crate) mod random;

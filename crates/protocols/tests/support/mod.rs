//! What the tests over recorded streams share.

pub(crate) mod fixture;
pub(crate) mod player;
#[expect(dead_code, reason = "shared; no file needs all of it")]
pub(crate) mod random;

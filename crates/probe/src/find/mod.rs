//! What to attach to: at the start, during a capture, and what cannot be captured.

pub(crate) mod discovery;
pub(crate) mod examine;
pub(crate) mod facts;
pub mod survey;
pub mod target;

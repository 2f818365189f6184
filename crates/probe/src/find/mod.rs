//! Finds the files to attach to, at the start and during a capture, and what cannot be captured.

pub(crate) mod discovery;
pub(crate) mod examine;
pub(crate) mod facts;
pub(crate) mod programs;
pub mod survey;
pub mod target;

//! What `/proc/PID` says about a process.

pub(crate) mod container;
pub(crate) mod maps;
pub mod process;

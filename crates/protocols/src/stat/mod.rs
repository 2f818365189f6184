//! Figures of many exchanges: calls, errors, latency and bytes of each group, such as each process or path.
//!
//! ```text
//! message ─▶ Observations (a format) ─▶ record ─▶ Groups ─▶ table, or JSON
//! ```

mod groups;
mod observation;
mod sketch;
mod template;

pub use groups::{By, Groups};
pub use observation::Observations;

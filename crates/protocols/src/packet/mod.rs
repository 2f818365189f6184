//! Packets as a host's interfaces carry them: what is in their headers, which filter lets them through, and which of
//! them wait for keys; and the table in which what is known of connections is kept.

mod filter;
mod headers;
mod keys;
mod recent;

pub use filter::{Filter, FilterError, Instruction};
pub use headers::{Flow, Headers};
pub use keys::{Handshakes, KeyWatch};
pub use recent::Recent;

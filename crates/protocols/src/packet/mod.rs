//! Packets as a host's interfaces carry them: what is in their headers, which filter lets them through, and which of
//! them wait for keys; and the table in which what is known of connections is kept.

mod filter;
mod headers;
mod ip;
mod keys;
mod link;
mod recent;
mod tcp;

pub use filter::{Filter, FilterError, Instruction};
pub use headers::{Flow, Headers};
pub(crate) use ip::{Datagram, Fragment, TCP, datagram};
pub use keys::{Handshakes, KeyWatch};
pub(crate) use link::{Network, network};
pub use recent::Recent;
pub(crate) use tcp::{Segment, segment};

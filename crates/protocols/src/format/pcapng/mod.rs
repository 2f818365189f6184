//! Plaintext as packets: what a connection would look like in a capture of packets if it had no TLS.
//!
//! Each event becomes one or more TCP segments. A connection begins with a handshake if its first bytes
//! were captured, and ends with FINs when its end is seen. Sequence numbers are positions in the stream:
//! where bytes are missing they jump, as where a capture of packets lost some. The comment of each packet
//! names the process.
//!
//! Wireshark recognizes HTTP/1 and WebSocket on any port (443, too), HTTP/2 on the ports of HTTP only: see
//! [`endpoints`].

mod connection;
mod endpoints;
mod segment;
mod table;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use super::EventFormat;
use super::audit::Audit;
use crate::event::CapturedEvent;
use crate::pcapng::{InterfaceBlock, LinkType, SectionBlock, Writer};
use table::Table;

/// Packets of the plaintext, as a pcapng file.
#[derive(Debug, Default)]
pub struct Pcapng {
    /// Wall clock minus kernel clock, nanoseconds. Without it times count from the start of the host.
    pub wall_clock_offset_ns: Option<i64>,
    /// The start of the file, as a comment of its section.
    pub audit: Option<Arc<Audit>>,
    /// Of one output: its Sink hands over all events in order.
    table: Mutex<Table>,
}

impl Pcapng {
    /// Creates the format of one output.
    pub fn new(wall_clock_offset_ns: Option<i64>, audit: Option<Arc<Audit>>) -> Self {
        Self {
            wall_clock_offset_ns,
            audit,
            table: Mutex::default(),
        }
    }
}

impl EventFormat for Pcapng {
    fn begin(&self, out: &mut Vec<u8>) {
        let writer = Writer::default();
        let audit = self.audit.as_ref().map(|audit| audit.comment());
        let section = SectionBlock {
            application: Some(concat!("ecapture ", env!("CARGO_PKG_VERSION"))),
            comment: Some(
                "Plaintext of TLS connections as TCP segments made by ecapture. Addresses from 192.0.2.0/24 stand \
                 for unknown ones, port 80 for the real port of HTTP/2.",
            ),
            audit: audit.as_deref(),
            ..SectionBlock::default()
        };
        writer.section(&section, out);
        let interface = InterfaceBlock {
            link_type: LinkType::RAW,
            snap_length: 0,
            name: Some("plaintext"),
            description: Some("plaintext of TLS connections"),
            filter: None,
            comment: None,
        };
        writer.interface(&interface, out);
    }

    fn takes(&self, event: &CapturedEvent) -> bool {
        !matches!(event, CapturedEvent::Observed(_))
    }

    fn write(&self, event: &CapturedEvent, out: &mut Vec<u8>) {
        let offset_ns = self.wall_clock_offset_ns.unwrap_or(0);
        let timestamp_ns = event.timestamp_ns().saturating_add_signed(offset_ns);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            CapturedEvent::Data(data) => table.data(data, timestamp_ns, out),
            CapturedEvent::Close { close, .. } => table.close(*close, timestamp_ns, out),
            // Not a packet.
            CapturedEvent::Observed(_) => {}
        }
    }
}

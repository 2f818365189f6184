//! Captured packets as a pcapng file: interfaces, packets with their processes, the keys that decrypt them, figures.

use std::fmt::Write as _;
use std::sync::Arc;

use super::audit::Audit;
use super::{EventFormat, keylog};
use crate::event::{
    CapturedEvent, Fact, Interface, InterfaceFigures, Observed, Packet, PacketFact, Process, Secret,
};
use crate::pcapng::{InterfaceBlock, PacketBlock, SecretsType, SectionBlock, StatisticsBlock, Writer};

/// Packets and secrets among the events, each as one block. A reader needs the interfaces of all packets: a target
/// that begins again, such as a file that is rotated, repeats their blocks.
#[derive(Debug, Clone, Default)]
pub struct Packets {
    /// Wall clock minus kernel monotonic clock, in nanoseconds.
    pub wall_clock_offset_ns: i64,
    /// The machine, such as `x86_64`.
    pub hardware: &'static str,
    /// The program that writes the file, with its version.
    pub application: &'static str,
    /// The start of the file, as a comment of its section.
    pub audit: Option<Arc<Audit>>,
}

impl EventFormat for Packets {
    fn begin(&self, out: &mut Vec<u8>) {
        let audit = self.audit.as_ref().map(|audit| audit.comment());
        let section = SectionBlock {
            hardware: Some(self.hardware),
            os: Some("Linux"),
            application: Some(self.application),
            comment: None,
            audit: audit.as_deref(),
        };
        Writer::default().section(&section, out);
    }

    fn takes(&self, event: &CapturedEvent) -> bool {
        match event {
            CapturedEvent::Observed(observed) => {
                matches!(observed.fact, Fact::Packets(_) | Fact::Secret(_))
            }
            CapturedEvent::Data(_) | CapturedEvent::Close { .. } => false,
        }
    }

    fn write(&self, event: &CapturedEvent, out: &mut Vec<u8>) {
        let CapturedEvent::Observed(observed) = event else {
            return;
        };
        match &observed.fact {
            Fact::Secret(secret) => write_secret(secret, out),
            Fact::Packets(PacketFact::Interface(interface)) => write_interface(interface, out),
            Fact::Packets(PacketFact::Packet(packet)) => self.write_packet(observed, packet, out),
            Fact::Packets(PacketFact::Figures(figures)) => self.write_figures(observed, figures, out),
            Fact::Process(_) | Fact::ShellCommand(_) | Fact::Sql(_) => {}
        }
    }
}

impl Packets {
    const fn wall_clock(&self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_add_signed(self.wall_clock_offset_ns)
    }

    fn write_packet(&self, observed: &Observed, packet: &Packet, out: &mut Vec<u8>) {
        let mut comment = String::new();
        add_processes(packet, &mut comment);
        let flags = if packet.sent {
            PacketBlock::OUTBOUND
        } else {
            PacketBlock::INBOUND
        };
        let block = PacketBlock {
            interface: packet.interface,
            timestamp_ns: self.wall_clock(observed.timestamp_ns),
            original_length: packet.length,
            data: &packet.data,
            flags: Some(flags),
            drops: None,
            comment: &comment,
        };
        Writer::default().packet(&block, out);
    }

    fn write_figures(&self, observed: &Observed, figures: &InterfaceFigures, out: &mut Vec<u8>) {
        let end_ns = self.wall_clock(observed.timestamp_ns);
        let block = StatisticsBlock {
            interface: figures.interface,
            timestamp_ns: end_ns,
            start_ns: Some(self.wall_clock(figures.start_ns)),
            end_ns: Some(end_ns),
            received: Some(figures.received),
            dropped: Some(figures.dropped),
            accepted: Some(figures.accepted),
            ..StatisticsBlock::default()
        };
        Writer::default().statistics(&block, out);
    }
}

fn write_interface(interface: &Interface, out: &mut Vec<u8>) {
    let block = InterfaceBlock {
        link_type: interface.link_type,
        snap_length: interface.snap_length,
        name: Some(&interface.name),
        description: None,
        filter: interface.filter.as_deref(),
        comment: None,
    };
    Writer::default().interface(&block, out);
}

fn write_secret(secret: &Secret, out: &mut Vec<u8>) {
    let mut line = Vec::with_capacity(256);
    keylog::write(secret, &mut line);
    Writer::default().secrets(SecretsType::TLS_KEY_LOG, &line, out);
}

/// `from pid 4711 (curl) to pid 99 (nginx)`
fn add_processes(packet: &Packet, comment: &mut String) {
    let mut add = |preposition: &str, process: Option<Process>| {
        if let Some(Process { pid, comm, .. }) = process {
            let space = if comment.is_empty() { "" } else { " " };
            write!(comment, "{space}{preposition} pid {pid} ({comm})").expect("a string takes everything");
        }
    };
    add("from", packet.sender);
    add("to", packet.receiver);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::pcapng::LinkType;

    #[test]
    fn processes_are_named_where_they_are_known() {
        let process = |pid, comm: &str| Process {
            pid,
            comm: comm.into(),
            ..Process::default()
        };
        let comment = |sender, receiver| {
            let mut comment = String::new();
            let packet = Packet {
                interface: 0,
                sent: true,
                length: 0,
                data: Bytes::new(),
                sender,
                receiver,
            };
            add_processes(&packet, &mut comment);
            comment
        };
        let (curl, nginx) = (process(1, "curl"), process(2, "nginx"));
        assert_eq!(comment(None, None), "");
        assert_eq!(comment(Some(curl), None), "from pid 1 (curl)");
        assert_eq!(comment(None, Some(nginx)), "to pid 2 (nginx)");
        assert_eq!(
            comment(Some(curl), Some(nginx)),
            "from pid 1 (curl) to pid 2 (nginx)"
        );
    }

    #[test]
    fn events_without_packets_are_left_out() {
        let format = Packets::default();
        let interface = Fact::Packets(PacketFact::Interface(Interface {
            number: 0,
            name: "lo".into(),
            link_type: LinkType::ETHERNET,
            snap_length: 0,
            filter: None,
        }));
        for (fact, taken) in [
            (interface, true),
            (Fact::Process(crate::ProcessTls::default()), false),
        ] {
            let event = CapturedEvent::Observed(Box::new(Observed {
                timestamp_ns: 0,
                process: Process::default(),
                container_id: None,
                program: None,
                fact,
            }));
            let mut bytes = Vec::new();
            format.write(&event, &mut bytes);
            assert_eq!((format.takes(&event), !bytes.is_empty()), (taken, taken));
        }
    }
}

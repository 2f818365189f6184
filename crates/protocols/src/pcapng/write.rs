//! Writes blocks.

use super::options::option;
use super::{ByteOrder, LinkType, SecretsType, block, padding};

/// Times are in nanoseconds: ten to the power of minus this.
const NANOSECONDS: u8 = 9;

/// Appends whole blocks to buffers. All blocks of a section have the byte order of its writer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Writer {
    /// The order of all numbers.
    pub order: ByteOrder,
}

/// A Section Header Block: the first block of a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct SectionBlock<'a> {
    /// The machine, such as `x86_64`.
    pub hardware: Option<&'a str>,
    /// Its operating system.
    pub os: Option<&'a str>,
    /// The program that writes the file.
    pub application: Option<&'a str>,
    /// Comment for the reader.
    pub comment: Option<&'a str>,
    /// Another comment: the start of the file.
    pub audit: Option<&'a str>,
}

/// An Interface Description Block. The first one of a section describes interface 0, the next one
/// interface 1, and so on. Times of its packets are in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct InterfaceBlock<'a> {
    /// The type of header that its packets begin with.
    pub link_type: LinkType,
    /// Maximum number of bytes captured of a packet; 0: no limit.
    pub snap_length: u32,
    /// Name, such as `eth0`.
    pub name: Option<&'a str>,
    /// Description, such as the name of the device.
    pub description: Option<&'a str>,
    /// The filter expression that selected its packets.
    pub filter: Option<&'a str>,
    /// Comment for the reader.
    pub comment: Option<&'a str>,
}

/// An Enhanced Packet Block.
#[derive(Debug, Clone, Copy)]
pub struct PacketBlock<'a> {
    /// Number of the interface.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// Length of the packet before it was cut to `data`.
    pub original_length: u32,
    /// The captured bytes.
    pub data: &'a [u8],
    /// Direction and reception, such as [`Self::INBOUND`].
    pub flags: Option<u32>,
    /// Number of packets of the interface that were lost between the previous packet and this one.
    pub drops: Option<u64>,
    /// Comment for the reader; nothing if it is empty.
    pub comment: &'a str,
}

impl PacketBlock<'_> {
    /// The packet was received.
    pub const INBOUND: u32 = 1;
    /// The packet was sent.
    pub const OUTBOUND: u32 = 2;
}

/// An Interface Statistics Block. Only what is known is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct StatisticsBlock<'a> {
    /// Number of the interface.
    pub interface: u32,
    /// When the figures were taken, nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// When the capture began, nanoseconds since 1970.
    pub start_ns: Option<u64>,
    /// When the capture ended, nanoseconds since 1970.
    pub end_ns: Option<u64>,
    /// Packets that the interface received.
    pub received: Option<u64>,
    /// Packets that the interface dropped for want of resources.
    pub dropped: Option<u64>,
    /// Packets that the filter accepted.
    pub accepted: Option<u64>,
    /// Packets that the operating system dropped.
    pub os_dropped: Option<u64>,
    /// Packets that were delivered to the file.
    pub delivered: Option<u64>,
    /// Comment for the reader.
    pub comment: Option<&'a str>,
}

impl Writer {
    /// Appends the header of a section whose length is not known yet.
    pub fn section(self, section: &SectionBlock<'_>, out: &mut Vec<u8>) {
        self.block(block::SECTION, out, |out| {
            self.u32(block::BYTE_ORDER_MAGIC, out);
            // Version 1.0.
            self.u16(1, out);
            self.u16(0, out);
            self.u64(u64::MAX, out);
            let mut options = self.options(out);
            options.text(option::COMMENT, section.comment);
            options.text(option::COMMENT, section.audit);
            options.text(option::SECTION_HARDWARE, section.hardware);
            options.text(option::SECTION_OS, section.os);
            options.text(option::SECTION_APPLICATION, section.application);
            options.end();
        });
    }

    /// Appends the description of the next interface.
    pub fn interface(self, interface: &InterfaceBlock<'_>, out: &mut Vec<u8>) {
        self.block(block::INTERFACE, out, |out| {
            self.u16(interface.link_type.0, out);
            self.u16(0, out);
            self.u32(interface.snap_length, out);
            let mut options = self.options(out);
            options.text(option::COMMENT, interface.comment);
            options.text(option::INTERFACE_NAME, interface.name);
            options.text(option::INTERFACE_DESCRIPTION, interface.description);
            options.value(option::INTERFACE_RESOLUTION, &[NANOSECONDS]);
            if let Some(filter) = interface.filter {
                // A byte of 0 says that text of libpcap's language follows.
                let filter = [b"\0", filter.as_bytes()].concat();
                options.value(option::INTERFACE_FILTER, &filter);
            }
            options.end();
        });
    }

    /// Appends a packet.
    pub fn packet(self, packet: &PacketBlock<'_>, out: &mut Vec<u8>) {
        self.block(block::ENHANCED_PACKET, out, |out| {
            self.u32(packet.interface, out);
            self.time(packet.timestamp_ns, out);
            self.u32(length(packet.data), out);
            self.u32(packet.original_length, out);
            padded(packet.data, out);
            let mut options = self.options(out);
            options.text(
                option::COMMENT,
                (!packet.comment.is_empty()).then_some(packet.comment),
            );
            if let Some(flags) = packet.flags {
                options.value(option::PACKET_FLAGS, &self.order.of_u32(flags));
            }
            options.number(option::PACKET_DROPS, packet.drops);
            options.end();
        });
    }

    /// Appends secrets. A reader needs them before the packets that they decrypt.
    pub fn secrets(self, kind: SecretsType, secrets: &[u8], out: &mut Vec<u8>) {
        self.block(block::SECRETS, out, |out| {
            self.u32(kind.0, out);
            self.u32(length(secrets), out);
            padded(secrets, out);
        });
    }

    /// Appends the figures of an interface.
    pub fn statistics(self, statistics: &StatisticsBlock<'_>, out: &mut Vec<u8>) {
        self.block(block::STATISTICS, out, |out| {
            self.u32(statistics.interface, out);
            self.time(statistics.timestamp_ns, out);
            let mut options = self.options(out);
            options.text(option::COMMENT, statistics.comment);
            options.time(option::STATISTICS_START, statistics.start_ns);
            options.time(option::STATISTICS_END, statistics.end_ns);
            options.number(option::STATISTICS_RECEIVED, statistics.received);
            options.number(option::STATISTICS_DROPPED, statistics.dropped);
            options.number(option::STATISTICS_ACCEPTED, statistics.accepted);
            options.number(option::STATISTICS_OS_DROPPED, statistics.os_dropped);
            options.number(option::STATISTICS_DELIVERED, statistics.delivered);
            options.end();
        });
    }

    /// Appends a block of type `kind` around what `body` appends.
    pub(super) fn block(self, kind: u32, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        self.u32(kind, out);
        self.u32(0, out);
        body(out);
        out.extend(std::iter::repeat_n(0, padding(out.len() - start)));
        let total = u32::try_from(out.len() - start + 4).unwrap_or(u32::MAX);
        let total = self.order.of_u32(total);
        out.extend_from_slice(&total);
        out[start + 4..start + 8].copy_from_slice(&total);
    }

    const fn options(self, out: &mut Vec<u8>) -> OptionWriter<'_> {
        OptionWriter {
            writer: self,
            out,
            any: false,
        }
    }

    fn u16(self, value: u16, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.order.of_u16(value));
    }

    pub(super) fn u32(self, value: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.order.of_u32(value));
    }

    fn u64(self, value: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.order.of_u64(value));
    }

    /// The upper half comes first in both byte orders.
    fn time(self, nanoseconds: u64, out: &mut Vec<u8>) {
        self.u32((nanoseconds >> 32) as u32, out);
        self.u32((nanoseconds & 0xFFFF_FFFF) as u32, out);
    }
}

struct OptionWriter<'a> {
    writer: Writer,
    out: &'a mut Vec<u8>,
    any: bool,
}

impl OptionWriter<'_> {
    /// The length of a value is a number of 16 bits: bytes that do not fit are cut.
    fn value(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.writer.u16(code, self.out);
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.writer.u16(length, self.out);
        padded(value, self.out);
        self.any = true;
    }

    /// Text is cut between two characters.
    fn text(&mut self, code: u16, text: Option<&str>) {
        if let Some(text) = text {
            let end = text.floor_char_boundary(usize::from(u16::MAX));
            self.value(code, &text.as_bytes()[..end]);
        }
    }

    fn number(&mut self, code: u16, value: Option<u64>) {
        if let Some(value) = value {
            self.value(code, &self.writer.order.of_u64(value));
        }
    }

    fn time(&mut self, code: u16, nanoseconds: Option<u64>) {
        if let Some(nanoseconds) = nanoseconds {
            let mut value = Vec::with_capacity(8);
            self.writer.time(nanoseconds, &mut value);
            self.value(code, &value);
        }
    }

    fn end(self) {
        if self.any {
            self.writer.u32(u32::from(option::END), self.out);
        }
    }
}

fn padded(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(bytes);
    out.extend(std::iter::repeat_n(0, padding(bytes.len())));
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

//! The options of blocks: code, length, value, padding.

use super::fields::Fields;
use super::{ByteOrder, padding};

/// Codes of options.
pub mod option {
    /// The end of the options; of every block.
    pub const END: u16 = 0;
    /// Comment for the reader; of every block, as often as needed.
    pub const COMMENT: u16 = 1;
    /// Section: the machine.
    pub const SECTION_HARDWARE: u16 = 2;
    /// Section: its operating system.
    pub const SECTION_OS: u16 = 3;
    /// Section: the program that wrote it.
    pub const SECTION_APPLICATION: u16 = 4;
    /// Interface: its name.
    pub const INTERFACE_NAME: u16 = 2;
    /// Interface: its description.
    pub const INTERFACE_DESCRIPTION: u16 = 3;
    /// Interface: the resolution of its times.
    pub const INTERFACE_RESOLUTION: u16 = 9;
    /// Interface: the filter that selected its packets.
    pub const INTERFACE_FILTER: u16 = 11;
    /// Interface: seconds to add to its times.
    pub const INTERFACE_OFFSET: u16 = 14;
    /// Packet: direction and reception.
    pub const PACKET_FLAGS: u16 = 2;
    /// Packet: number of packets lost since the previous one.
    pub const PACKET_DROPS: u16 = 4;
    /// Statistics: time when the capture began.
    pub const STATISTICS_START: u16 = 2;
    /// Statistics: time when it ended.
    pub const STATISTICS_END: u16 = 3;
    /// Statistics: packets received.
    pub const STATISTICS_RECEIVED: u16 = 4;
    /// Statistics: packets that the interface dropped.
    pub const STATISTICS_DROPPED: u16 = 5;
    /// Statistics: packets that the filter accepted.
    pub const STATISTICS_ACCEPTED: u16 = 6;
    /// Statistics: packets that the operating system dropped.
    pub const STATISTICS_OS_DROPPED: u16 = 7;
    /// Statistics: packets delivered.
    pub const STATISTICS_DELIVERED: u16 = 8;
}

/// The options of one block, as pairs of code and value. What does not fit into the block ends them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options<'a>(Fields<'a>);

impl<'a> Options<'a> {
    pub(super) const fn new(fields: Fields<'a>) -> Self {
        Self(fields)
    }

    pub(super) const fn none() -> Self {
        Self(Fields {
            order: ByteOrder::Little,
            rest: &[],
        })
    }

    /// Returns the first value of `code`.
    pub fn get(&self, code: u16) -> Option<&'a [u8]> {
        self.clone()
            .find(|&(found, _)| found == code)
            .map(|(_, value)| value)
    }

    /// Returns the first value of `code` as a number of 64 bits.
    pub fn number(&self, code: u16) -> Option<u64> {
        let value = self.get(code)?.first_chunk::<8>()?;
        Some(self.0.order.u64(*value))
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let code = self.0.u16()?;
        let length = usize::from(self.0.u16()?);
        let value = (code != option::END).then(|| self.0.bytes(length)).flatten();
        if value.is_none() {
            self.0.rest = &[];
        }
        self.0.skip(padding(length));
        Some((code, value?))
    }
}

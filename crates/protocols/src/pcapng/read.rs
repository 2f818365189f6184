//! Reads blocks. The caller holds the bytes of the file: [`Reader::read`] says what its next bytes are, or
//! how many more it needs.

use super::classic::ClassicFile;
use super::fields::Fields;
use super::options::{Options, option};
use super::{ByteOrder, LinkType, SecretsType, block, padding};
use crate::limits::{CAPTURE_BLOCK_BYTES, CAPTURE_INTERFACES};

/// Reads one capture file from its beginning.
#[derive(Debug, Default)]
pub struct Reader {
    format: Format,
}

#[derive(Debug, Default)]
enum Format {
    /// Nothing was read yet.
    #[default]
    Unknown,
    Classic(ClassicFile),
    Pcapng(Section),
}

/// The meaning of a file's next bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The file has to have at least this many bytes in all from here. If it is at its end, it is
    /// cut there; with no bytes left it is complete.
    Need(usize),
    /// A block, or the header or a packet of a classic file.
    Block {
        /// Number of bytes to skip to the next one; never 0.
        length: usize,
        /// Its content.
        block: Block<'a>,
    },
}

/// One block.
#[derive(Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// A new section: the interfaces are counted from 0 again.
    Section,
    /// The next interface of the section.
    Interface {
        /// The type of header that its packets begin with.
        link_type: LinkType,
        /// Maximum number of bytes captured of a packet; 0: no limit.
        snap_length: u32,
        /// Its options; none in a classic file.
        options: Options<'a>,
    },
    /// A packet.
    Packet(Packet<'a>),
    /// Secrets by which packets can be decrypted.
    Secrets {
        /// Their type.
        kind: SecretsType,
        /// The secrets themselves.
        secrets: &'a [u8],
    },
    /// Figures of an interface.
    Statistics {
        /// Its number.
        interface: u32,
        /// The figures.
        options: Options<'a>,
    },
    /// A block of a type that is not read.
    Other {
        /// Its type.
        kind: u32,
    },
    /// A block whose frame is right and whose content is not.
    Damaged(BlockFault),
}

/// A captured packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Number of the interface in its section.
    pub interface: u32,
    /// The type of header that it begins with.
    pub link_type: LinkType,
    /// Nanoseconds since 1970; `None` in a Simple Packet Block.
    pub timestamp_ns: Option<u64>,
    /// Its length before it was captured.
    pub original_length: u32,
    /// The captured bytes.
    pub data: &'a [u8],
    /// Its options; none in a classic file.
    pub options: Options<'a>,
}

/// Why a file cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// It does not begin as a capture file does.
    #[error("expected a pcapng or pcap file, observed first bytes {0:02x?}")]
    Magic([u8; 4]),
    /// A block or packet that says it has an impossible length.
    #[error(
        "expected a block of 12 to {CAPTURE_BLOCK_BYTES} bytes, a multiple of 4, observed a length of {0}"
    )]
    BlockLength(u64),
    /// The length at the end of a block is not the one at its beginning.
    #[error("expected a length of {0} at the end of the block, too, observed {1}")]
    LengthsDiffer(u32, u32),
    /// A section whose byte order cannot be known.
    #[error("expected the byte-order magic of a section, observed {0:02x?}")]
    ByteOrderMagic([u8; 4]),
    /// A section of a version of the format that does not exist yet.
    #[error("expected pcapng version 1, observed version {0}")]
    Version(u16),
    /// More interfaces than the limit.
    #[error("expected at most {CAPTURE_INTERFACES} interfaces in a section")]
    Interfaces,
    /// A packet of a classic file that says it has an impossible length.
    #[error("expected a packet of at most {CAPTURE_BLOCK_BYTES} bytes, observed a length of {0}")]
    PacketLength(u32),
}

/// A fault in the content of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    /// It is shorter than its fields.
    #[error("a block of type {kind:#x} is too short for its fields")]
    Short {
        /// Its type.
        kind: u32,
    },
    /// No such interface was described.
    #[error("a packet of interface {0}, which is not described")]
    UnknownInterface(u32),
}

impl Reader {
    /// Reads what `input` begins with: all bytes of the file after those that were skipped already, or
    /// as many as are there.
    pub fn read<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, CaptureError> {
        match &mut self.format {
            Format::Classic(file) => file.packet(input),
            Format::Pcapng(section) => section.block(input),
            Format::Unknown => self.begin(input),
        }
    }

    fn begin<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, CaptureError> {
        let Some(&magic) = input.first_chunk::<4>() else {
            return Ok(Step::Need(4));
        };
        if ByteOrder::Little.u32(magic) == block::SECTION {
            self.format = Format::Pcapng(Section::default());
            return self.read(input);
        }
        let (file, step) = ClassicFile::begin(magic, input)?;
        self.format = file.map_or(Format::Unknown, Format::Classic);
        Ok(step)
    }
}

/// A section of a pcapng file.
#[derive(Debug, Default)]
struct Section {
    order: ByteOrder,
    interfaces: Vec<Interface>,
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link_type: LinkType,
    snap_length: u32,
    /// `if_tsresol`.
    resolution: u8,
    /// `if_tsoffset`, seconds.
    offset: i64,
}

impl Section {
    fn block<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, CaptureError> {
        let (Some(kind), Some(length)) = (word(input, 0), word(input, 4)) else {
            return Ok(Step::Need(8));
        };
        // The byte order of a section is not known before its magic, its type is the same in both.
        let is_section = ByteOrder::Little.u32(kind) == block::SECTION;
        if is_section {
            let Some(magic) = word(input, 8) else {
                return Ok(Step::Need(12));
            };
            *self = Self {
                order: byte_order(magic)?,
                interfaces: Vec::new(),
            };
        }
        let declared = self.order.u32(length);
        let length = declared as usize;
        if !(block::FRAMING..=CAPTURE_BLOCK_BYTES).contains(&length) || !length.is_multiple_of(4) {
            return Err(CaptureError::BlockLength(u64::from(declared)));
        }
        let Some((_, &trailer)) = input.get(..length).and_then(<[u8]>::split_last_chunk::<4>) else {
            return Ok(Step::Need(length));
        };
        let trailer = self.order.u32(trailer);
        if trailer != declared {
            return Err(CaptureError::LengthsDiffer(declared, trailer));
        }
        let kind = self.order.u32(kind);
        let body = Fields {
            order: self.order,
            rest: &input[8..length - 4],
        };
        let block = if is_section {
            header(body)?
        } else {
            self.body(kind, body)?
        };
        let block = block.unwrap_or(Block::Damaged(BlockFault::Short { kind }));
        Ok(Step::Block { length, block })
    }

    /// Reads a block other than a section's header; `None` if it is too short for its fields.
    fn body<'a>(&mut self, kind: u32, body: Fields<'a>) -> Result<Option<Block<'a>>, CaptureError> {
        Ok(match kind {
            block::INTERFACE if self.interfaces.len() >= CAPTURE_INTERFACES => {
                return Err(CaptureError::Interfaces);
            }
            block::INTERFACE => self.interface(body),
            block::ENHANCED_PACKET | block::OBSOLETE_PACKET => self.packet(kind, body),
            block::SIMPLE_PACKET => self.simple_packet(body),
            block::SECRETS => secrets(body),
            block::STATISTICS => statistics(body),
            other => Some(Block::Other { kind: other }),
        })
    }

    fn interface<'a>(&mut self, mut body: Fields<'a>) -> Option<Block<'a>> {
        let link_type = LinkType(body.u16()?);
        let _reserved = body.u16()?;
        let snap_length = body.u32()?;
        let options = Options::new(body);
        let offset = options.number(option::INTERFACE_OFFSET);
        let resolution = options.get(option::INTERFACE_RESOLUTION);
        self.interfaces.push(Interface {
            link_type,
            snap_length,
            resolution: resolution.and_then(|value| value.first().copied()).unwrap_or(6),
            offset: offset.unwrap_or(0).cast_signed(),
        });
        Some(Block::Interface {
            link_type,
            snap_length,
            options,
        })
    }

    fn packet<'a>(&self, kind: u32, mut body: Fields<'a>) -> Option<Block<'a>> {
        let interface = match kind {
            block::OBSOLETE_PACKET => {
                let interface = body.u16()?;
                let _drops = body.u16()?;
                u32::from(interface)
            }
            _ => body.u32()?,
        };
        let ticks = u64::from(body.u32()?) << 32 | u64::from(body.u32()?);
        let captured = body.u32()? as usize;
        let original_length = body.u32()?;
        let data = body.bytes(captured)?;
        body.skip(padding(captured));
        let Some(described) = self.interfaces.get(interface as usize) else {
            return Some(Block::Damaged(BlockFault::UnknownInterface(interface)));
        };
        Some(Block::Packet(Packet {
            interface,
            link_type: described.link_type,
            timestamp_ns: Some(described.nanoseconds(ticks)),
            original_length,
            data,
            options: Options::new(body),
        }))
    }

    /// A packet of interface 0, without a time, cut at the interface's limit.
    fn simple_packet<'a>(&self, mut body: Fields<'a>) -> Option<Block<'a>> {
        let original_length = body.u32()?;
        let Some(described) = self.interfaces.first() else {
            return Some(Block::Damaged(BlockFault::UnknownInterface(0)));
        };
        let limit = match described.snap_length {
            0 => u32::MAX,
            limit => limit,
        };
        Some(Block::Packet(Packet {
            interface: 0,
            link_type: described.link_type,
            timestamp_ns: None,
            original_length,
            data: body.bytes(original_length.min(limit) as usize)?,
            options: Options::none(),
        }))
    }
}

fn header<'a>(mut body: Fields<'_>) -> Result<Option<Block<'a>>, CaptureError> {
    let _magic = body.u32();
    match body.u16() {
        None => Ok(None),
        Some(1) => Ok(Some(Block::Section)),
        Some(other) => Err(CaptureError::Version(other)),
    }
}

fn secrets(mut body: Fields<'_>) -> Option<Block<'_>> {
    let kind = SecretsType(body.u32()?);
    let length = body.u32()? as usize;
    Some(Block::Secrets {
        kind,
        secrets: body.bytes(length)?,
    })
}

fn statistics(mut body: Fields<'_>) -> Option<Block<'_>> {
    let interface = body.u32()?;
    let _time = body.bytes(8)?;
    Some(Block::Statistics {
        interface,
        options: Options::new(body),
    })
}

fn word(input: &[u8], at: usize) -> Option<[u8; 4]> {
    input.get(at..)?.first_chunk().copied()
}

impl Interface {
    /// Turns a time of a packet into nanoseconds since 1970. What cannot be expressed is cut to the nearest.
    fn nanoseconds(&self, ticks: u64) -> u64 {
        const SECOND: u128 = 1_000_000_000;
        let exponent = u32::from(self.resolution & 0x7F);
        let per_second = match self.resolution & 0x80 {
            0 => 10_u128.checked_pow(exponent),
            _ => 1_u128.checked_shl(exponent),
        };
        // Ticks are below 2^64, so the product is below 2^94; more ticks per second than fit: time 0.
        let since = per_second.map_or(0, |per_second| u128::from(ticks) * SECOND / per_second);
        let offset = i128::from(self.offset) * 1_000_000_000;
        let time = i128::try_from(since).unwrap_or(i128::MAX).saturating_add(offset);
        u64::try_from(time.max(0)).unwrap_or(u64::MAX)
    }
}

fn byte_order(magic: [u8; 4]) -> Result<ByteOrder, CaptureError> {
    [ByteOrder::Little, ByteOrder::Big]
        .into_iter()
        .find(|order| order.u32(magic) == block::BYTE_ORDER_MAGIC)
        .ok_or(CaptureError::ByteOrderMagic(magic))
}

/// Turns times of an interface with this resolution and offset into nanoseconds, for tests.
#[cfg(test)]
pub(super) fn tests_interface(resolution: u8, offset: i64) -> impl Fn(u64) -> u64 {
    let interface = Interface {
        link_type: LinkType::RAW,
        snap_length: 0,
        resolution,
        offset,
    };
    move |ticks| interface.nanoseconds(ticks)
}

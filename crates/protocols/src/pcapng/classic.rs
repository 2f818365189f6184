//! Classic pcap files: a header of 24 bytes, and 16 bytes before each packet.

use super::options::Options;
use super::read::{Block, CaptureError, Packet, Step};
use super::{ByteOrder, LinkType};
use crate::limits::CAPTURE_BLOCK_BYTES;

const HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
/// The first bytes of a file whose times are in microseconds.
const MICROSECONDS: u32 = 0xA1B2_C3D4;
/// The first bytes of a file whose times are in nanoseconds.
const NANOSECONDS: u32 = 0xA1B2_3C4D;

/// Returns true if classic files begin so.
pub(super) fn is_magic(magic: [u8; 4]) -> bool {
    resolution(magic).is_some()
}

/// The byte order, and the nanoseconds of one unit of the second part of a time.
fn resolution(magic: [u8; 4]) -> Option<(ByteOrder, u64)> {
    let mut orders = [ByteOrder::Little, ByteOrder::Big].into_iter();
    orders.find_map(|order| match order.u32(magic) {
        MICROSECONDS => Some((order, 1000)),
        NANOSECONDS => Some((order, 1)),
        _ => None,
    })
}

/// A classic file after its header.
#[derive(Debug)]
pub(super) struct ClassicFile {
    order: ByteOrder,
    /// Nanoseconds of one unit of the second part of a time.
    nanoseconds: u64,
    link_type: LinkType,
}

impl ClassicFile {
    /// Reads the header. There is no file if more bytes are needed.
    pub(super) fn begin(magic: [u8; 4], input: &[u8]) -> Result<(Option<Self>, Step<'_>), CaptureError> {
        let (order, nanoseconds) = resolution(magic).ok_or(CaptureError::Magic(magic))?;
        let Some(&header) = input.first_chunk::<HEADER>() else {
            return Ok((None, Step::Need(HEADER)));
        };
        let [.., snap_length, link] = words::<HEADER, 6>(order, header);
        // Its upper bits say whether frame check sequences follow the packets.
        let link_type = LinkType((link & 0xFFFF) as u16);
        let file = Self {
            order,
            nanoseconds,
            link_type,
        };
        let block = Block::Interface {
            link_type,
            snap_length,
            options: Options::none(),
        };
        Ok((
            Some(file),
            Step::Block {
                length: HEADER,
                block,
            },
        ))
    }

    pub(super) fn packet<'a>(&self, input: &'a [u8]) -> Result<Step<'a>, CaptureError> {
        let Some((header, rest)) = input.split_first_chunk::<PACKET_HEADER>() else {
            return Ok(Step::Need(PACKET_HEADER));
        };
        let [seconds, fraction, captured, original_length] = words(self.order, *header);
        if captured as usize > CAPTURE_BLOCK_BYTES {
            return Err(CaptureError::PacketLength(captured));
        }
        let length = PACKET_HEADER + captured as usize;
        let Some(data) = rest.get(..captured as usize) else {
            return Ok(Step::Need(length));
        };
        let timestamp_ns = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.nanoseconds;
        let packet = Packet {
            interface: 0,
            link_type: self.link_type,
            timestamp_ns: Some(timestamp_ns),
            original_length,
            data,
            options: Options::none(),
        };
        Ok(Step::Block {
            length,
            block: Block::Packet(packet),
        })
    }
}

fn words<const BYTES: usize, const WORDS: usize>(order: ByteOrder, bytes: [u8; BYTES]) -> [u32; WORDS] {
    let (words, _rest) = bytes.as_chunks::<4>();
    std::array::from_fn(|at| order.u32(words[at]))
}

//! One connection as packets.

use std::fmt::Write as _;

use super::endpoints::Endpoints;
use super::segment::{Flags, LONGEST, Segment};
use crate::event::{DataEvent, Direction};
use crate::pcapng::{PacketBlock, Writer};

/// A connection in the file.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) endpoints: Endpoints,
    /// The socket by which its end is reported.
    pub(super) sock: Option<u64>,
    /// Its socket was closed; the library may still hand out what it received before.
    pub(super) is_closing: bool,
    /// When it was used last, in events of the table.
    pub(super) used: u64,
    /// What the comments of its packets say: of received ones and of sent ones.
    comments: [String; 2],
    halves: [Half; 2],
}

/// One direction: the sequence number of its SYN is 0, so that of its first byte is 1.
#[derive(Debug, Clone, Copy, Default)]
struct Half {
    /// Something was written.
    has_begun: bool,
    /// What to add to positions of the capture.
    base: u64,
    /// Position of the next byte.
    next: u64,
}

/// Bytes that are missing before an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    None,
    Bytes(u64),
    Unknown,
}

impl Half {
    /// Moves on to the position of the next bytes.
    fn go_to(&mut self, offset: Option<u64>) -> Missing {
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        let Some(offset) = offset else {
            return Missing::None;
        };
        let position = self.base.wrapping_add(offset);
        match position.checked_sub(self.next) {
            Some(0) => Missing::None,
            Some(bytes) => {
                self.next = position;
                if has_begun {
                    Missing::Bytes(bytes)
                } else {
                    Missing::None
                }
            }
            // Positions begin again: one byte stands for the bytes in between, whose number is unknown.
            None => {
                self.next = self.next.wrapping_add(1);
                self.base = self.next.wrapping_sub(offset);
                Missing::Unknown
            }
        }
    }

    /// Sequence numbers are positions modulo 2^32.
    const fn sequence(&self) -> u32 {
        (self.next.wrapping_add(1) & 0xFFFF_FFFF) as u32
    }
}

/// What a packet is written with.
pub(super) struct Out<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    /// Memory for one packet.
    pub(super) packet: &'a mut Vec<u8>,
    pub(super) timestamp_ns: u64,
}

impl Connection {
    /// The connection whose first event this is.
    pub(super) fn new(event: &DataEvent, endpoints: Endpoints) -> Self {
        Self {
            endpoints,
            sock: event.socket.map(|socket| socket.sock),
            is_closing: false,
            used: 0,
            comments: [Direction::Read, Direction::Write]
                .map(|direction| comment(event, &endpoints, direction)),
            halves: [Half::default(); 2],
        }
    }

    /// Opens it as TCP does, in three segments.
    pub(super) fn open(&self, out: &mut Out<'_>) {
        let outwards = if self.endpoints.is_client {
            Direction::Write
        } else {
            Direction::Read
        };
        for (direction, flags, sequence) in [
            (outwards, Flags::SYN, 0),
            (outwards.opposite(), Flags::SYN_ACK, 0),
            (outwards, Flags::ACK, 1),
        ] {
            let acknowledged = u32::from(flags != Flags::SYN);
            self.put(
                direction,
                flags,
                (sequence, acknowledged),
                &[],
                self.comment(direction),
                out,
            );
        }
    }

    /// Appends the bytes of an event.
    pub(super) fn data(&mut self, event: &DataEvent, out: &mut Out<'_>) {
        let half = usize::from(event.direction.data_type());
        let missing = self.halves[half].go_to(event.stream_offset);
        let usual = self.comment(event.direction);
        let marked = match missing {
            Missing::None => None,
            Missing::Bytes(bytes) => Some(format!("{usual}; {bytes} bytes are missing before this")),
            Missing::Unknown => Some(format!(
                "{usual}; an unknown number of bytes is missing before this, 1 byte stands for them"
            )),
        };
        let mut comment = marked.as_deref().unwrap_or(self.comment(event.direction));
        for payload in event.payload.chunks(LONGEST) {
            let numbers = self.numbers(event.direction);
            self.put(event.direction, Flags::PUSH_ACK, numbers, payload, comment, out);
            comment = &self.comments[half];
            let next = &mut self.halves[half].next;
            *next = next.wrapping_add(payload.len() as u64);
        }
    }

    /// Ends it: the process closes, the peer closes, the process acknowledges that.
    pub(super) fn close(&mut self, out: &mut Out<'_>) {
        for (direction, flags) in [
            (Direction::Write, Flags::FIN_ACK),
            (Direction::Read, Flags::FIN_ACK),
            (Direction::Write, Flags::ACK),
        ] {
            let numbers = self.numbers(direction);
            self.put(direction, flags, numbers, &[], self.comment(direction), out);
            if flags == Flags::FIN_ACK {
                let next = &mut self.halves[usize::from(direction.data_type())].next;
                *next = next.wrapping_add(1);
            }
        }
    }

    fn comment(&self, direction: Direction) -> &str {
        &self.comments[usize::from(direction.data_type())]
    }

    /// The sequence numbers of the next segment in `direction`: its own, and the acknowledged one.
    const fn numbers(&self, direction: Direction) -> (u32, u32) {
        let [read, written] = &self.halves;
        match direction {
            Direction::Read => (read.sequence(), written.sequence()),
            Direction::Write => (written.sequence(), read.sequence()),
        }
    }

    fn put(
        &self,
        direction: Direction,
        flags: Flags,
        (sequence, acknowledged): (u32, u32),
        payload: &[u8],
        comment: &str,
        out: &mut Out<'_>,
    ) {
        let (from, to) = self.endpoints.way(direction);
        let segment = Segment {
            from,
            to,
            sequence,
            acknowledged,
            flags,
            payload,
        };
        segment.write(out.packet);
        let block = PacketBlock {
            interface: 0,
            timestamp_ns: out.timestamp_ns,
            original_length: u32::try_from(out.packet.len()).unwrap_or(u32::MAX),
            data: out.packet,
            flags: Some(match direction {
                Direction::Read => PacketBlock::INBOUND,
                Direction::Write => PacketBlock::OUTBOUND,
            }),
            drops: None,
            comment,
        };
        Writer::default().packet(&block, out.bytes);
    }
}

/// The process, as captured packets name it, and the addresses where others stand in the packets.
fn comment(event: &DataEvent, endpoints: &Endpoints, direction: Direction) -> String {
    let mut comm = Vec::new();
    event.process.comm.push_shown(&mut comm);
    let preposition = match direction {
        Direction::Read => "to",
        Direction::Write => "from",
    };
    let mut comment = format!(
        "{preposition} pid {} ({})",
        event.process.pid,
        String::from_utf8_lossy(&comm)
    );
    let written = match event.socket {
        None => write!(comment, "; addresses unknown"),
        Some(socket) => {
            let canonical = |address: std::net::SocketAddr| (address.ip().to_canonical(), address.port());
            let is_real = canonical(socket.tuple.source) == canonical(endpoints.client)
                && canonical(socket.tuple.destination) == canonical(endpoints.server);
            if is_real {
                Ok(())
            } else {
                write!(comment, "; real addresses {}", socket.tuple)
            }
        }
    };
    written.expect("writing to a string does not fail");
    comment
}

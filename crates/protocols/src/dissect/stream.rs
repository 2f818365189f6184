//! One direction of a TCP connection, put in order.
//!
//! A byte that is missing may still come: the segment was reordered, or is sent again. It will not once the
//! receiver has acknowledged it, because then only the capture missed it. As packets of the two directions may
//! be captured in another order than they were sent in, a few more packets are waited for nevertheless.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::limits::{STREAM_HELD_BYTES, STREAM_PATIENCE};

/// What comes next in a direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    /// So many bytes are not in the capture.
    Gap(u64),
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The position of the next byte: sequence numbers, continued beyond 32 bits. `None` before the first
    /// segment.
    next: Option<u64>,
    /// The sequence number of the first byte.
    first: Option<u32>,
    /// Segments behind a hole, by position.
    held: BTreeMap<u64, Bytes>,
    held_bytes: usize,
    /// What the receiver has acknowledged.
    acknowledged: u64,
    /// Position behind the last byte.
    end: Option<u64>,
    /// Packets since there is a hole.
    waited: u32,
}

/// Positions begin here, so that what lies before the first segment has one as well.
const ORIGIN: u64 = 1 << 32;
/// Segments further ahead are not of this connection: the largest window of RFC 7323.
const FURTHEST: u64 = 1 << 30;

impl Stream {
    /// Sets where it begins: behind its SYN. One that is sent again, or captured after data, changes nothing.
    pub(super) fn begin(&mut self, sequence: u32) {
        self.first.get_or_insert(sequence.wrapping_add(1));
        self.next
            .get_or_insert(ORIGIN + u64::from(sequence.wrapping_add(1)));
    }

    /// Returns true if it may be what this SYN begins: it begins there, or nothing is known of it.
    pub(super) fn can_begin(&self, sequence: u32) -> bool {
        self.first.is_none_or(|first| first == sequence.wrapping_add(1))
    }

    /// Adds a segment; appends what is in order now.
    pub(super) fn add(&mut self, sequence: u32, payload: &[u8], fin: bool, pieces: &mut Vec<Piece>) {
        self.first.get_or_insert(sequence);
        let next = *self.next.get_or_insert(ORIGIN + u64::from(sequence));
        let Some(position) = position(next, sequence) else {
            return;
        };
        let end = position + payload.len() as u64;
        if fin {
            self.end = Some(end);
        }
        if payload.is_empty() || end <= next || position > next + FURTHEST {
            return;
        }
        if position <= next {
            let known = usize::try_from(next - position).unwrap_or(usize::MAX);
            pieces.push(Piece::Data(Bytes::copy_from_slice(&payload[known..])));
            self.next = Some(end);
            self.release(pieces);
        } else {
            self.hold(position, payload);
            if self.held_bytes > STREAM_HELD_BYTES {
                self.skip_hole(pieces);
            }
        }
    }

    /// The receiver says what it has.
    pub(super) fn acknowledge(&mut self, sequence: u32) {
        if let Some(next) = self.next
            && let Some(position) = position(next, sequence)
            && position <= next + FURTHEST
        {
            self.acknowledged = self.acknowledged.max(position);
        }
    }

    /// A packet of the connection has passed: a hole that nothing will fill is given up.
    pub(super) fn pass(&mut self, pieces: &mut Vec<Piece>) {
        if self.held.is_empty() {
            self.waited = 0;
            return;
        }
        self.waited += 1;
        if self.waited > STREAM_PATIENCE && self.next.is_some_and(|next| self.acknowledged > next) {
            self.skip_hole(pieces);
        }
    }

    /// Nothing follows: all holes are gaps, one before the FIN as well.
    pub(super) fn finish(&mut self, pieces: &mut Vec<Piece>) {
        while !self.held.is_empty() {
            self.skip_hole(pieces);
        }
        // What was acknowledged was sent; one number more may be that of a FIN.
        let end = self.end.unwrap_or(self.acknowledged.saturating_sub(1));
        if let Some(next) = self.next.filter(|&next| end > next) {
            pieces.push(Piece::Gap(end - next));
            self.next = Some(end);
        }
    }

    /// Returns true if all bytes up to its FIN were seen.
    pub(super) fn is_complete(&self) -> bool {
        self.end.is_some() && self.next >= self.end
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Of two segments at one position the longer one is kept.
    fn hold(&mut self, position: u64, payload: &[u8]) {
        let held = self.held.entry(position).or_default();
        if payload.len() > held.len() {
            self.held_bytes += payload.len() - held.len();
            *held = Bytes::copy_from_slice(payload);
        }
    }

    pub(super) fn skip_hole(&mut self, pieces: &mut Vec<Piece>) {
        if let (Some((&position, _)), Some(next)) = (self.held.first_key_value(), self.next) {
            pieces.push(Piece::Gap(position.saturating_sub(next)));
            self.next = Some(position);
            self.release(pieces);
        }
    }

    /// Appends the held segments that are in order now.
    fn release(&mut self, pieces: &mut Vec<Piece>) {
        self.waited = 0;
        while let (Some(next), Some(entry)) = (self.next, self.held.first_entry()) {
            if *entry.key() > next {
                break;
            }
            let (position, payload) = entry.remove_entry();
            self.held_bytes -= payload.len();
            let known = usize::try_from(next - position).unwrap_or(usize::MAX);
            if known < payload.len() {
                self.next = Some(position + payload.len() as u64);
                pieces.push(Piece::Data(payload.slice(known..)));
            }
        }
    }
}

/// The position of a sequence number: the one that is nearest to `next`. `None` before the origin.
fn position(next: u64, sequence: u32) -> Option<u64> {
    let [_, _, _, _, lower @ ..] = next.to_be_bytes();
    let distance = sequence.wrapping_sub(u32::from_be_bytes(lower)).cast_signed();
    next.checked_add_signed(i64::from(distance))
}

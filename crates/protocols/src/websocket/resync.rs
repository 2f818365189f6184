//! Finds frames again after a gap or a late attach.

use std::borrow::Cow;

use super::frame::{self, FrameHeader, unmask};
use crate::limits::Limits;

/// Number of frames in a row that are accepted if the first one starts an event. Libraries write
/// whole frames.
const FRAMES_AT_EVENT_START: u32 = 2;
/// Number of frames in a row that are accepted anywhere else.
const FRAMES_ANYWHERE: u32 = 3;
/// Number of event starts watched at once.
const WATCHED: usize = 32;
/// Number of payload bytes that one scan may examine for each byte it scans. Candidates that it
/// does not reach are skipped.
const CHECKED_PER_BYTE: usize = 32;

/// Bytes in which no frame was found yet.
#[derive(Debug, Default)]
pub(super) struct Search {
    buffer: Vec<u8>,
    /// Event starts that may still turn out to start a frame.
    starts: Vec<Start>,
    /// Time of the newest byte.
    last_ns: u64,
    /// What is in payloads decides nothing.
    without_content: bool,
}

#[derive(Debug, Clone, Copy)]
struct Start {
    offset: usize,
    timestamp_ns: u64,
    /// Length of the buffer at which another scan can show more than the previous one.
    needs: usize,
}

/// Where frames start again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Bytes to skip.
    pub(super) skipped: Vec<u8>,
    /// The bytes that follow them.
    pub(super) bytes: Vec<u8>,
    /// Time of its first byte.
    pub(super) timestamp_ns: u64,
}

impl Search {
    /// Begins a search. `without_content`: see [`Options`](crate::Options::without_content).
    pub(super) fn new(without_content: bool) -> Self {
        Self {
            without_content,
            ..Self::default()
        }
    }

    /// Examines the next event. Holds at most `limits.detect_bytes` afterwards; bytes that are
    /// finally skipped are appended to `skipped`.
    pub(super) fn push(
        &mut self,
        event: &[u8],
        is_event_start: bool,
        timestamp_ns: u64,
        masked: Option<bool>,
        limits: &Limits,
        skipped: &mut Vec<u8>,
    ) -> Option<Found> {
        if is_event_start && self.starts.len() < WATCHED {
            self.starts.push(Start {
                offset: self.buffer.len(),
                timestamp_ns,
                needs: 0,
            });
        }
        self.buffer.extend_from_slice(event);
        self.last_ns = timestamp_ns;
        let mut found = None;
        let mut unlimited = Examined::new(usize::MAX, self.without_content);
        let buffer = &self.buffer;
        self.starts.retain_mut(|start| {
            if found.is_some() {
                return false;
            }
            if buffer.len() < start.needs {
                return true;
            }
            let bytes = &buffer[start.offset..];
            match examine(bytes, FRAMES_AT_EVENT_START, masked, limits, &mut unlimited) {
                Verdict::Yes => found = Some((start.offset, start.timestamp_ns)),
                Verdict::No => {}
                Verdict::Needs(length) => {
                    start.needs = start.offset + length;
                    return true;
                }
            }
            false
        });
        if found.is_none() && self.buffer.len() >= limits.detect_bytes {
            found = self.scan(masked, limits).map(|start| (start, timestamp_ns));
            if found.is_none() {
                self.forget(limits, skipped);
            }
        }
        found.map(|(start, timestamp_ns)| self.take(start, timestamp_ns))
    }

    /// Decides when no more bytes come for now: takes the best start there is.
    pub(super) fn settle(&mut self, masked: Option<bool>, limits: &Limits) -> Option<Found> {
        let start = self.scan(masked, limits)?;
        Some(self.take(start, self.last_ns))
    }

    /// Gives up the search and returns the bytes held and the time of the newest.
    pub(super) fn into_parts(self) -> (Vec<u8>, u64) {
        (self.buffer, self.last_ns)
    }

    /// Returns the number of bytes held.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    fn scan(&self, masked: Option<bool>, limits: &Limits) -> Option<usize> {
        let left = self.buffer.len().saturating_mul(CHECKED_PER_BYTE);
        let mut payloads = Examined::new(left, self.without_content);
        let anywhere = |&start: &usize| {
            let bytes = &self.buffer[start..];
            examine(bytes, FRAMES_ANYWHERE, masked, limits, &mut payloads) == Verdict::Yes
        };
        (0..self.buffer.len()).find(anywhere)
    }

    fn take(&mut self, start: usize, timestamp_ns: u64) -> Found {
        self.starts.clear();
        let mut skipped = std::mem::take(&mut self.buffer);
        let bytes = skipped.split_off(start);
        Found {
            skipped,
            bytes,
            timestamp_ns,
        }
    }

    /// Drops the older bytes, so that each byte is scanned about twice.
    fn forget(&mut self, limits: &Limits, skipped: &mut Vec<u8>) {
        let dropped = self.buffer.len() - limits.detect_bytes / 2;
        skipped.extend(self.buffer.drain(..dropped));
        self.starts.retain(|start| start.offset >= dropped);
        for start in &mut self.starts {
            start.offset -= dropped;
            start.needs = start.needs.saturating_sub(dropped);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Yes,
    No,
    /// At least this many bytes are needed to decide.
    Needs(usize),
}

/// Checks whether `bytes` begin with `frames` plausible frames, or with fewer that end with the
/// bytes.
fn examine(
    bytes: &[u8],
    frames: u32,
    masked: Option<bool>,
    limits: &Limits,
    payloads: &mut Examined,
) -> Verdict {
    let mut rest = bytes;
    for seen in 0..frames {
        if seen > 0 && seen + 1 >= frames && rest.is_empty() {
            return Verdict::Yes;
        }
        if rest.first().is_some_and(|&first| !may_start(first)) {
            return Verdict::No;
        }
        let Some(header) = FrameHeader::parse(rest) else {
            return Verdict::Needs(bytes.len() + 1);
        };
        if !header.is_plausible(masked.or(mask_of(bytes)), limits) {
            return Verdict::No;
        }
        // Eight length octets, at least five of them zero, are enough evidence.
        let Ok(length) = u16::try_from(header.length) else {
            return Verdict::Yes;
        };
        let Some((payload, after)) = rest[header.size..].split_at_checked(length.into()) else {
            let missing = usize::from(length) - (rest.len() - header.size);
            return Verdict::Needs(bytes.len() + missing);
        };
        if !payloads.are_plausible(&header, payload) {
            return Verdict::No;
        }
        rest = after;
    }
    Verdict::Yes
}

pub(super) fn may_start(first: u8) -> bool {
    first & 0x30 == 0 && matches!(first & 0x0f, 0..=2 | 8..=10)
}

fn mask_of(bytes: &[u8]) -> Option<bool> {
    bytes.get(1).map(|second| second & 0x80 != 0)
}

/// How much of payloads is examined.
pub(super) struct Examined {
    /// The number of bytes that may still be.
    left: usize,
    /// Only the status codes of Close frames are.
    without_content: bool,
}

impl Examined {
    pub(super) const fn new(left: usize, without_content: bool) -> Self {
        Self {
            left,
            without_content,
        }
    }

    /// Returns true if real senders send such a payload.
    pub(super) fn are_plausible(&mut self, header: &FrameHeader, payload: &[u8]) -> bool {
        let payload = if self.without_content {
            &payload[..payload.len().min(header.kept_without_content())]
        } else {
            payload
        };
        let is_text = header.opcode == frame::TEXT && !header.compressed;
        if !is_text && header.opcode != frame::CLOSE {
            return true;
        }
        let Some(then_left) = self.left.checked_sub(payload.len()) else {
            return false;
        };
        self.left = then_left;
        let payload = match header.mask {
            None => Cow::Borrowed(payload),
            Some(key) => {
                let mut payload = payload.to_vec();
                unmask(&mut payload, key, 0);
                Cow::Owned(payload)
            }
        };
        let text = match payload.as_ref() {
            [high, low, reason @ ..] if header.opcode == frame::CLOSE => {
                if !(1000..5000).contains(&u16::from_be_bytes([*high, *low])) {
                    return false;
                }
                reason
            }
            [_] if header.opcode == frame::CLOSE => return false,
            text => text,
        };
        match std::str::from_utf8(text) {
            Ok(_) => true,
            // A fragment may end inside a character.
            Err(error) => !header.fin && error.error_len().is_none(),
        }
    }
}

//! Finds the next start of a frame after a gap or a late attach.

use bytes::{Bytes, BytesMut};

use crate::http2::chain::Chain;
use crate::http2::frame::HEAD_BYTES;
use crate::limits::Limits;

/// Maximum number of remembered offsets that may still turn out to be the start of a frame.
const CANDIDATES: usize = 64;

/// Holds bytes until some of them are accepted as frames, at most [`Limits::http2_resync_bytes`].
#[derive(Debug)]
pub(super) struct Resync {
    held: BytesMut,
    candidates: Vec<Candidate>,
    /// Offsets below this one were examined.
    scanned: usize,
    limit: usize,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    offset: usize,
    /// An event starts here; senders mostly start a write with a frame.
    event_start: bool,
}

/// The result of a search.
#[derive(Debug)]
pub(super) struct Synced {
    /// The bytes skipped.
    pub(super) skipped: Bytes,
    /// The bytes from the first frame on.
    pub(super) rest: Bytes,
}

impl Resync {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            held: BytesMut::new(),
            candidates: Vec::new(),
            scanned: 0,
            limit: limits.http2_resync_bytes,
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Notes that the next byte is the first of an event.
    pub(super) fn event_starts(&mut self) {
        if self.candidates.len() < CANDIDATES {
            self.candidates.push(Candidate {
                offset: self.held.len(),
                event_start: true,
            });
        }
    }

    /// Takes the next bytes. `Err` holds the bytes that had to be dropped.
    pub(super) fn push(&mut self, bytes: &Bytes) -> Result<Synced, Bytes> {
        self.held.extend_from_slice(bytes);
        self.scan();
        let found = self.believed(|chain, event_start| chain.is_believed() || event_start && chain.fills());
        match found {
            Some(offset) => Ok(self.leave(offset)),
            None => Err(self.shrink()),
        }
    }

    /// Decides when no more bytes come for now: an event that begins with a complete frame is
    /// accepted.
    pub(super) fn settle(&mut self) -> Option<Synced> {
        let offset = self.believed(|chain, event_start| event_start && chain.has_begun())?;
        Some(self.leave(offset))
    }

    /// Gives up the search and returns the bytes held.
    pub(super) fn abandon(&mut self) -> Bytes {
        self.leave(self.held.len()).skipped
    }

    /// Remembers every offset that may be the start of a frame, up to the first that is accepted.
    fn scan(&mut self) {
        while self.scanned + HEAD_BYTES <= self.held.len() {
            let offset = self.scanned;
            self.scanned += 1;
            if self.candidates.len() == CANDIDATES || self.event_starts_at(offset) {
                continue;
            }
            let chain = Chain::follow(&self.held[offset..]);
            if chain != Chain::Broken {
                self.candidates.push(Candidate {
                    offset,
                    event_start: false,
                });
            }
            if chain.is_believed() {
                break;
            }
        }
    }

    fn event_starts_at(&self, offset: usize) -> bool {
        self.candidates.iter().any(|candidate| candidate.offset == offset)
    }

    fn believed(&mut self, enough: impl Fn(Chain, bool) -> bool) -> Option<usize> {
        let held = &self.held;
        let mut found: Option<Candidate> = None;
        self.candidates.retain(|candidate| {
            let chain = Chain::follow(&held[candidate.offset..]);
            let better = found.is_none_or(|found| candidate.event_start && !found.event_start);
            if better && enough(chain, candidate.event_start) {
                found = Some(*candidate);
            }
            chain != Chain::Broken
        });
        found.map(|candidate| candidate.offset)
    }

    fn leave(&mut self, offset: usize) -> Synced {
        let mut rest = std::mem::take(&mut self.held).freeze();
        let skipped = rest.split_to(offset);
        self.candidates.clear();
        self.scanned = 0;
        Synced { skipped, rest }
    }

    /// Drops the older half of the bytes when there are too many.
    fn shrink(&mut self) -> Bytes {
        if self.held.len() <= self.limit {
            return Bytes::new();
        }
        let gone = self.held.len() - self.limit / 2;
        let passed = Bytes::copy_from_slice(&self.held.split_to(gone));
        self.candidates.retain(|candidate| candidate.offset >= gone);
        for candidate in &mut self.candidates {
            candidate.offset -= gone;
        }
        self.scanned = self.scanned.saturating_sub(gone);
        passed
    }
}

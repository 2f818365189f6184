//! Cuts the bytes of one direction into records (RFC 8446 §5.1), also where bytes are missing.

use bytes::{Buf as _, BytesMut};

use crate::limits::TLS_RECORD_BYTES;

/// Type, version and length before each record.
pub(super) const HEADER: usize = 5;

/// Types of records.
pub(super) mod kind {
    pub(in crate::tls) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(in crate::tls) const HANDSHAKE: u8 = 22;
    pub(in crate::tls) const APPLICATION_DATA: u8 = 23;
}

/// Records of one direction, from bytes in pieces.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// From the beginning of a record on. While a record has a hole, only its header.
    held: BytesMut,
    /// Bytes still to come of a record that has a hole.
    damaged: Option<usize>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// A record begins where the last one ended.
    #[default]
    InStep,
    /// Bytes are missing, and with them the place where a record begins.
    Lost,
    /// Not records.
    Broken,
}

/// What comes next in a direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More bytes are needed.
    More,
    /// A record of so many bytes, header included, is at the beginning of what is held.
    Record(usize),
    /// A record that cannot be opened because of a hole in it; its header said that so many bytes follow.
    Damaged { kind: u8, length: usize },
    /// No record begins here.
    Broken,
}

impl Records {
    /// Adds what comes next.
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        if let Some(missing) = &mut self.damaged {
            let skipped = bytes.len().min(*missing);
            *missing -= skipped;
            bytes = &bytes[skipped..];
        }
        if self.state != State::Broken {
            self.held.extend_from_slice(bytes);
        }
    }

    /// So many bytes are missing here. Whole records that wait for the other direction are lost with them.
    pub(super) fn gap(&mut self, bytes: u64) {
        if self.state != State::InStep {
            self.held.clear();
            return;
        }
        let missing = match (self.damaged, header(&self.held)) {
            (Some(missing), _) => missing,
            (None, Some((_, length))) if self.held.len() < HEADER + length => {
                HEADER + length - self.held.len()
            }
            // The next header is among what is missing, or behind records that were not taken.
            (None, _) => return self.lose(),
        };
        match usize::try_from(bytes)
            .ok()
            .and_then(|bytes| missing.checked_sub(bytes))
        {
            Some(rest) => {
                self.damaged = Some(rest);
                self.held.truncate(HEADER);
            }
            None => self.lose(),
        }
    }

    fn lose(&mut self) {
        self.held.clear();
        self.damaged = None;
        self.state = State::Lost;
    }

    /// Says what comes next.
    pub(super) fn next(&mut self) -> Next {
        match (self.state, self.damaged) {
            (State::Broken, _) => Next::Broken,
            (State::InStep, Some(0)) => {
                self.damaged = None;
                let (kind, length) = header(&self.held).unwrap_or_default();
                self.held.advance(HEADER.min(self.held.len()));
                Next::Damaged { kind, length }
            }
            (State::Lost, _) | (State::InStep, Some(_)) => Next::More,
            (State::InStep, None) if self.held.len() < HEADER => Next::More,
            (State::InStep, None) => match header(&self.held) {
                None => {
                    self.state = State::Broken;
                    self.held = BytesMut::new();
                    Next::Broken
                }
                Some((_, length)) if self.held.len() < HEADER + length => Next::More,
                Some((_, length)) => Next::Record(HEADER + length),
            },
        }
    }

    /// The type of the record that [`Self::next`] found.
    pub(super) fn kind(&self) -> u8 {
        self.held.first().copied().unwrap_or_default()
    }

    /// Takes the record that [`Self::next`] found.
    pub(super) fn take(&mut self, length: usize) -> BytesMut {
        self.held.split_to(length)
    }

    /// Returns true if a place where a record begins is searched for.
    pub(super) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// While lost: the next place where a record of encrypted data may be as a whole, by its start and end in
    /// what is held. Forgets what is before it.
    pub(super) fn candidate(&mut self) -> Option<usize> {
        let mut start = 0;
        let found = loop {
            let rest = &self.held[start..];
            let Some(at) = rest.iter().position(|&byte| byte == kind::APPLICATION_DATA) else {
                start = self.held.len();
                break None;
            };
            start += at;
            let rest = &self.held[start..];
            if rest.len() < HEADER {
                break None;
            }
            match header(rest) {
                Some((_, length)) if length > 16 && rest[1..3] == [3, 3] => {
                    break (rest.len() >= HEADER + length).then_some(HEADER + length);
                }
                _ => start += 1,
            }
        };
        self.held.advance(start);
        found
    }

    /// While lost: what is held of the candidate.
    pub(super) fn candidate_bytes(&self, length: usize) -> &[u8] {
        &self.held[..length]
    }

    /// While lost: the candidate was not a record.
    pub(super) fn reject(&mut self) {
        self.held.advance(1.min(self.held.len()));
    }

    /// While lost: the candidate was a record.
    pub(super) fn accept(&mut self, length: usize) {
        self.held.advance(length);
        self.state = State::InStep;
    }

    /// No record is searched for any more.
    pub(super) fn give_up(&mut self) {
        self.state = State::Broken;
        self.held = BytesMut::new();
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}

/// Type and length of the record that begins here, if one can.
fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let &[kind, 3, 0..=4, high, low] = bytes.first_chunk::<HEADER>()? else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_kind = (kind::CHANGE_CIPHER_SPEC..=kind::APPLICATION_DATA).contains(&kind);
    (is_kind && length <= TLS_RECORD_BYTES).then_some((kind, length))
}

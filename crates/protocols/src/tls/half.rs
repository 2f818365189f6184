//! One direction of a connection.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::cipher::Cipher;
use super::handshake::{Message, Messages};
use super::record::{HEADER, Next, Records, kind};
use crate::limits::{TLS_TRIALS, TLS_TRIALS_AHEAD};

/// Records, messages and keys of one direction.
#[derive(Debug, Default)]
pub(super) struct Half {
    pub(super) records: Records,
    pub(super) messages: Messages,
    /// The keys in use; none while records are not encrypted.
    pub(super) current: Option<Cipher>,
    /// The keys that follow. They are tried as well where the change to them may have been missed.
    pub(super) next: Option<Cipher>,
    /// Records hold data of the application.
    pub(super) is_application: bool,
    /// Bytes are missing since the last record.
    pub(super) has_gap: bool,
    /// Records of early data that cannot be opened may come.
    pub(super) skips_early_data: bool,
    trials: u32,
}

/// What a record turned out to be.
#[derive(Debug)]
pub(super) enum Opened {
    /// Content of this type.
    Content(u8, Bytes),
    /// To be ignored.
    Nothing,
    /// None of the keys fits.
    Failed,
}

impl Half {
    /// Opens the record that [`Records::next`] found.
    pub(super) fn open(&mut self, length: usize) -> Opened {
        let mut record = self.records.take(length);
        let outer = record[0];
        let Some(current) = &mut self.current else {
            return Opened::Content(outer, record.split_off(HEADER).freeze());
        };
        // In TLS 1.3 all that is encrypted has this type. What is not is there for middleboxes (RFC 8446 §D.4), or
        // was captured after what the other side answered.
        if current.is_traffic() && outer != kind::APPLICATION_DATA {
            return match outer {
                kind::HANDSHAKE => Opened::Content(outer, record.split_off(HEADER).freeze()),
                _ => Opened::Nothing,
            };
        }
        if let Some((inner, range)) = current.open(&mut record, 0) {
            return content(inner, range, record);
        }
        if let Some(next) = &mut self.next
            && let Some((inner, range)) = next.open(&mut record, 0)
        {
            self.change_keys();
            return content(inner, range, record);
        }
        if self.skips_early_data {
            Opened::Nothing
        } else {
            Opened::Failed
        }
    }

    /// The next keys are in use.
    pub(super) fn change_keys(&mut self) {
        self.current = self.next.take();
        self.messages.clear();
        self.skips_early_data = false;
    }

    /// Searches for a record after a gap; it is known by the number under which it can be opened.
    pub(super) fn search(&mut self) -> Option<(u8, Bytes)> {
        while let Some(length) = self.records.candidate() {
            let mut record = BytesMut::from(self.records.candidate_bytes(length));
            for ahead in 0..TLS_TRIALS_AHEAD {
                for is_next in [false, true] {
                    let cipher = if is_next {
                        &mut self.next
                    } else {
                        &mut self.current
                    };
                    let Some(cipher) = cipher else { continue };
                    if self.trials == TLS_TRIALS {
                        self.records.give_up();
                        return None;
                    }
                    self.trials += 1;
                    if let Some((inner, range)) = cipher.open(&mut record, ahead) {
                        self.trials = 0;
                        self.records.accept(length);
                        if is_next {
                            self.change_keys();
                        }
                        self.messages.clear();
                        return Some((inner, record.freeze().slice(range)));
                    }
                }
            }
            self.records.reject();
        }
        None
    }

    /// The messages in `content` of type handshake.
    pub(super) fn read_messages(&mut self, content: &[u8]) -> Vec<Message> {
        let mut found = Vec::new();
        self.messages.read(content, |message| found.push(message));
        found
    }

    /// See [`Records::next`].
    pub(super) fn next_record(&mut self) -> Next {
        self.records.next()
    }
}

fn content(kind: u8, range: Range<usize>, record: BytesMut) -> Opened {
    Opened::Content(kind, record.freeze().slice(range))
}

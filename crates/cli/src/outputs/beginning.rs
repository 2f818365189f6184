//! What stands at the beginning of every file of an output.

use std::collections::VecDeque;

/// Records of an output that every later file begins with, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeated {
    /// It is in its own file only.
    Never,
    /// Every file needs it.
    Always,
    /// Later files may need it: the newest of these are repeated.
    Recent,
}

/// Number of records and their bytes that are repeated as [`Repeated::Recent`]: some thousand keys.
const RECENT: usize = 4096;
const RECENT_BYTES: usize = 1024 * 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// What stands first, whatever was written before.
    fixed: Vec<u8>,
    repeated: fn(&[u8]) -> Repeated,
    always: Vec<u8>,
    recent: VecDeque<Box<[u8]>>,
    recent_bytes: usize,
}

impl Default for Beginning {
    fn default() -> Self {
        Self::new(Vec::new(), |_| Repeated::Never)
    }
}

impl Beginning {
    /// `fixed` comes first; `repeated` says which records follow it in later files.
    pub(crate) fn new(fixed: Vec<u8>, repeated: fn(&[u8]) -> Repeated) -> Self {
        Self {
            fixed,
            repeated,
            always: Vec::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
        }
    }

    /// Notes a record that is written.
    pub(super) fn note(&mut self, record: &[u8]) {
        match (self.repeated)(record) {
            Repeated::Never => {}
            Repeated::Always => self.always.extend_from_slice(record),
            Repeated::Recent => {
                self.recent.push_back(record.into());
                self.recent_bytes += record.len();
                while self.recent.len() > RECENT || self.recent_bytes > RECENT_BYTES {
                    let oldest = self.recent.pop_front();
                    self.recent_bytes -= oldest.map_or(0, |record| record.len());
                }
            }
        }
    }

    /// Returns true if no file has one.
    pub(super) fn is_empty(&self) -> bool {
        self.fixed.is_empty()
    }

    /// The beginning of the next file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.fixed.clone();
        self.write_repeated(&mut bytes);
        bytes
    }

    /// Appends what follows the fixed part.
    pub(super) fn write_repeated(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.always);
        for record in &self.recent {
            out.extend_from_slice(record);
        }
    }

    /// Bytes of [`Self::bytes`].
    pub(super) fn len(&self) -> u64 {
        (self.fixed.len() + self.always.len() + self.recent_bytes) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(record: &[u8]) -> Repeated {
        match record.first() {
            Some(b'i') => Repeated::Always,
            Some(b'k') => Repeated::Recent,
            _ => Repeated::Never,
        }
    }

    #[test]
    fn interfaces_and_the_newest_keys_are_repeated() {
        let mut beginning = Beginning::new(b"header,".to_vec(), kind);
        for record in ["i0,", "packet,", "k0,", "i1,"] {
            beginning.note(record.as_bytes());
        }
        assert_eq!(beginning.bytes(), b"header,i0,i1,k0,");
        assert_eq!(beginning.len(), 16);
        for _ in 0..RECENT {
            beginning.note(b"k1,");
        }
        let bytes = beginning.bytes();
        assert_eq!(bytes.len() as u64, beginning.len());
        assert!(bytes.starts_with(b"header,i0,i1,k1,"));
        assert_eq!(bytes.len(), 13 + 3 * RECENT);
    }
}

//! The bytes that each process has put into the ring buffer while it was filling up, so that a
//! process that floods it is named, and loses its own records before those of others.

use core::mem::offset_of;

/// The bytes that one process has put into the ring while more than an eighth of it waited for the
/// reader.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Bytes of the ring that it occupied and that the reader had not reached, at its last record.
    pub bytes: u64,
    /// Position of the reader at that time (`BPF_RB_CONS_POS`).
    pub consumed: u64,
    /// Approximate end of its last record.
    pub position: u64,
    /// Bytes of payload in all.
    pub total_bytes: u64,
    /// Calls that found the process's share used up, in all.
    pub refused_calls: u64,
    /// Bytes of payload of these calls.
    pub refused_bytes: u64,
    /// Name of the process's first thread seen.
    pub comm: [u8; 16],
}

impl Share {
    /// Returns how many bytes of the ring still wait for a reader at position `consumed`, on the
    /// assumption that the bytes of the process are evenly distributed up to its last record.
    #[expect(
        clippy::inline_always,
        reason = "the verifier checks a separate program more cheaply"
    )]
    #[inline(always)]
    pub fn waiting(&self, consumed: u64) -> u64 {
        if self.position <= consumed || self.position <= self.consumed {
            return 0;
        }
        // In units of 256 bytes, so that the product fits.
        let left = (self.position - consumed) >> 8;
        let all = (self.position - self.consumed) >> 8;
        (self.bytes * left).checked_div(all).unwrap_or(self.bytes)
    }
}

const _: () = assert!(size_of::<Share>() == 64);
const _: () = assert!(offset_of!(Share, comm) == 48);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_reader_has_passed_does_not_wait() {
        let share = Share {
            bytes: 4096,
            consumed: 1 << 20,
            position: (1 << 20) + 65_536,
            total_bytes: 0,
            refused_calls: 0,
            refused_bytes: 0,
            comm: [0; 16],
        };
        assert_eq!(share.waiting(1 << 20), 4096);
        assert_eq!(share.waiting((1 << 20) + 32_768), 2048);
        assert_eq!(share.waiting((1 << 20) + 65_536), 0);
        assert_eq!(share.waiting(1 << 30), 0);
    }
}

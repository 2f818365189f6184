//! How many spans each trace has got that others began.
//!
//! A sender may write the same `traceparent` into all its requests, for hours. Such a trace would grow without
//! end, so after a number of spans the others begin traces of their own, linked to it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::{ADOPTED_TRACES, SPANS_OF_ADOPTED_TRACE};

/// Bits of a slot that count; the others tell traces apart.
const COUNT_BITS: u32 = 24;

/// A slot for each trace; one that takes the slot of another begins to count again.
#[derive(Debug)]
pub(super) struct Adopted(Box<[AtomicU64]>);

impl Default for Adopted {
    fn default() -> Self {
        Self((0..ADOPTED_TRACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Adopted {
    /// Counts a span of `trace`. Returns false if it has got as many as it may.
    pub(super) fn admit(&self, trace: &[u8; 16]) -> bool {
        // The last bytes are the random ones (W3C Trace Context §3.2.2.3).
        let key = trace[8..].iter().fold(0, |key, &byte| key << 8 | u64::from(byte));
        let tag = key >> COUNT_BITS << COUNT_BITS;
        let slot = usize::try_from(key % self.0.len() as u64).unwrap_or(0);
        let counted = |slot: u64| {
            let is_same = slot >> COUNT_BITS << COUNT_BITS == tag;
            let count = if is_same { slot - tag } else { 0 };
            tag | (count + 1).min(SPANS_OF_ADOPTED_TRACE + 1)
        };
        // Two Workers may take a slot at once; the count of one more or less is of no matter.
        let counted = counted(self.0[slot].load(Relaxed));
        self.0[slot].store(counted, Relaxed);
        counted - tag <= SPANS_OF_ADOPTED_TRACE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_gets_so_many_spans_and_others_theirs() {
        let adopted = Adopted::default();
        let (one, other) = ([1; 16], [2; 16]);
        for _ in 0..SPANS_OF_ADOPTED_TRACE {
            assert!(adopted.admit(&one));
        }
        assert!(!adopted.admit(&one));
        assert!(!adopted.admit(&one));
        assert!(adopted.admit(&other));
        assert!(!adopted.admit(&one));
    }
}

//! A limit on how far the content of a connection may expand.
//!
//! Deflate turns a byte into at most 1,032, brotli and Zstandard into millions, and a peer may send
//! hundreds of such bodies in one TLS record. So besides the limit of each body there is one for
//! each direction of a connection: the output of its codings, beyond a fixed amount, is at most a
//! multiple of the bytes received. One event therefore never becomes more than `expansion_bytes +
//! expansion_ratio × its length`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::limits::Limits;

/// The allowance of one direction of a connection, shared by all its bodies. Created when the first
/// body asks for it, so that a connection without codings has none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expansion(Option<Arc<Allowance>>);

#[derive(Debug)]
struct Allowance {
    /// Bytes still allowed. If negative, more was used than allowed, and later bytes make up for it
    /// first.
    left: AtomicI64,
    fixed: i64,
    ratio: i64,
}

impl Expansion {
    /// Returns the same allowance for one more body.
    pub(crate) fn share(&mut self, limits: &Limits) -> Self {
        let allowance = self.0.get_or_insert_with(|| {
            let fixed = signed(limits.expansion_bytes);
            Arc::new(Allowance {
                left: AtomicI64::new(fixed),
                fixed,
                ratio: signed(limits.expansion_ratio),
            })
        });
        Self(Some(Arc::clone(allowance)))
    }

    /// Returns true if no body has asked for it.
    pub(crate) fn is_new(&self) -> bool {
        self.0.is_none()
    }

    /// Returns how many bytes `wire` received bytes may expand to. Allowance that earlier bytes did
    /// not use is kept, but never more than the fixed amount, so a long plain download does not pay
    /// for a bomb after it.
    pub(crate) fn allow(&self, wire: usize) -> usize {
        // Only one decoder, and so one thread, uses it at a time.
        let Some(allowance) = &self.0 else { return 0 };
        let left = allowance.left.load(Relaxed).min(allowance.fixed);
        let allowed = left.saturating_add(signed(wire).saturating_mul(allowance.ratio));
        allowance.left.store(allowed, Relaxed);
        usize::try_from(allowed).unwrap_or(0)
    }

    /// Charges `bytes` to the allowance, which may become negative.
    pub(crate) fn spend(&self, bytes: usize) {
        if let Some(allowance) = &self.0 {
            allowance.left.fetch_sub(signed(bytes), Relaxed);
        }
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_a_connection_share_the_allowance() {
        let limits = Limits {
            expansion_bytes: 1000,
            expansion_ratio: 10,
            ..Limits::default()
        };
        let mut connection = Expansion::default();
        let (one, other) = (connection.share(&limits), connection.share(&limits));
        assert_eq!(one.allow(5), 1050);
        one.spend(1050);
        assert_eq!(other.allow(5), 50);
        assert_eq!(one.allow(1_000_000), 10_000_050);
        assert_eq!(one.allow(1), 1010, "no more is kept than the fixed amount");
        one.spend(1050);
        assert_eq!(
            (one.allow(3), one.allow(2)),
            (0, 10),
            "what was used too much is paid first"
        );
    }
}

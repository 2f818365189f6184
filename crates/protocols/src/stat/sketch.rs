//! Quantiles of latencies in bounded memory.
//!
//! The buckets are those of a floating-point number with five bits after its first one: each is at most 1/32 as
//! wide as the values in it are large, and the middle of a bucket stands for them. So a quantile is at most 1.6 %
//! (1/64) off, from 64 µs on; below, it is exact to a microsecond. Latencies beyond [`LONGEST_US`] count as that.

/// Bits that are kept of a value after its first one.
const KEPT_BITS: u32 = 5;
/// Values below are their own buckets.
const EXACT: u64 = 1 << (KEPT_BITS + 1);
/// Bits of the longest latency.
const LONGEST_BITS: u32 = 36;
/// The longest latency with a bucket, about 19 hours.
const LONGEST_US: u64 = (1 << LONGEST_BITS) - 1;
const BUCKETS: usize = (1 << KEPT_BITS) * (LONGEST_BITS - KEPT_BITS + 1) as usize;

/// The number of latencies in each bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct Sketch {
    /// Up to the highest one that is used.
    counts: Vec<u32>,
    total: u64,
}

impl Sketch {
    pub(super) fn add(&mut self, nanoseconds: u64) {
        let index = bucket((nanoseconds / 1000).min(LONGEST_US)).min(BUCKETS - 1);
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = self.counts[index].saturating_add(1);
        self.total += 1;
    }

    /// Returns the latency in microseconds that `per_mille` of all do not exceed; `None` without any.
    pub(super) fn quantile(&self, per_mille: u64) -> Option<u64> {
        let rank = (self.total * per_mille).div_ceil(1000).max(1);
        let mut passed = 0;
        let index = self.counts.iter().position(|&count| {
            passed += u64::from(count);
            passed >= rank
        })?;
        Some(middle(index))
    }
}

fn bucket(microseconds: u64) -> usize {
    if microseconds < EXACT {
        return usize::try_from(microseconds).unwrap_or(0);
    }
    let shift = microseconds.ilog2() - KEPT_BITS;
    let kept = (microseconds >> shift) - (1 << KEPT_BITS);
    let index = EXACT + u64::from(shift - 1) * (1 << KEPT_BITS) + kept;
    usize::try_from(index).unwrap_or(BUCKETS)
}

fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let Some(above) = bucket.checked_sub(EXACT) else {
        return bucket;
    };
    let shift = above / (1 << KEPT_BITS) + 1;
    let kept = above % (1 << KEPT_BITS) + (1 << KEPT_BITS);
    (kept << shift) + (1 << (shift - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_within_the_error() {
        let mut value = 1_u64;
        while value < LONGEST_US {
            let shown = middle(bucket(value));
            assert!(shown.abs_diff(value) * 64 <= value, "{value} is shown as {shown}");
            value += value / 50 + 1;
        }
        assert!(bucket(LONGEST_US) < BUCKETS);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_latencies() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.quantile(500), None);
        for microseconds in 1..=10_000_u64 {
            sketch.add(microseconds * 1000);
        }
        for (per_mille, exact) in [(500, 5000_u64), (900, 9000), (990, 9900), (1000, 10_000)] {
            let shown = sketch.quantile(per_mille).unwrap_or(0);
            assert!(shown.abs_diff(exact) * 64 <= exact, "{per_mille}: {shown}");
        }
    }
}

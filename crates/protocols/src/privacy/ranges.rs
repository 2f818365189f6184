//! Ranges of a text that are masked.

use std::ops::Range;

use crate::redact::MASK;

/// Ranges in any order, which may overlap.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<Range<usize>>);

impl Ranges {
    /// Adds a range; an empty one has nothing to hide.
    pub(super) fn hide(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.0.push(range);
        }
    }

    /// Adds the ranges of a part that begins at `start`.
    pub(super) fn hide_in(&mut self, start: usize, part: Self) {
        let moved = part.0.into_iter();
        self.0
            .extend(moved.map(|range| range.start + start..range.end + start));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if one range has all of a text of `length` bytes.
    pub(super) fn is_all(&self, length: usize) -> bool {
        self.0.contains(&(0..length))
    }

    /// Returns `text` with an asterisk for each byte of a range.
    pub(super) fn cover(&self, text: &[u8]) -> Vec<u8> {
        let mut covered = text.to_vec();
        for range in &self.0 {
            covered[range.clone()].fill(b'*');
        }
        covered
    }

    /// Returns `text` with each range replaced by the mask; `None` if there is none.
    pub(super) fn mask(mut self, text: &[u8]) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.sort_unstable_by_key(|range| range.start);
        let mut out = Vec::with_capacity(text.len());
        let mut done = 0;
        for range in self.0 {
            if range.end <= done {
                continue;
            }
            // A range that continues the one before needs no mask of its own.
            if range.start > done || out.is_empty() {
                out.extend_from_slice(&text[done..range.start]);
                out.extend_from_slice(MASK);
            }
            done = range.end;
        }
        out.extend_from_slice(&text[done..]);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_ranges_are_one() {
        for (ranges, expected) in [
            (vec![0..1, 1..2], "***cdef"),
            (vec![3..6, 1..4], "a***"),
            (vec![1..2, 2..3, 5..6], "a***de***"),
            (vec![0..6, 2..3], "***"),
        ] {
            let mut all = Ranges::default();
            for range in ranges {
                all.hide(range);
            }
            assert_eq!(all.mask(b"abcdef").unwrap(), expected.as_bytes());
        }
        assert_eq!(Ranges::default().mask(b"abc"), None);
    }
}

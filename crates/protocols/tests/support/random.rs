//! Seeded random values: the same in every run, so that a failure can be repeated from its seed.

/// xorshift64*, enough to choose sizes and splits.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number in `0..bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % bound
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// Returns a length that is mostly short, and sometimes up to `longest`.
    pub(crate) fn length(&mut self, longest: usize) -> usize {
        match self.below(8) {
            0 => self.below(longest + 1),
            1 => self.below(1000.min(longest + 1)),
            _ => self.below(40.min(longest + 1)),
        }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_be_bytes()[0]).collect()
    }

    pub(crate) fn text(&mut self, length: usize) -> String {
        const LETTERS: [char; 16] = [
            'a', 'b', 'e', 'n', 't', ' ', ' ', '?', '"', '\\', '\n', '{', 'ä', '你', '😀', '0',
        ];
        (0..length).map(|_| LETTERS[self.below(LETTERS.len())]).collect()
    }

    pub(crate) fn key(&mut self) -> [u8; 4] {
        *self.next().to_be_bytes().first_chunk().unwrap()
    }

    /// Cuts `bytes` into pieces of random size.
    pub(crate) fn pieces<'a>(&mut self, bytes: &'a [u8], largest: usize) -> Vec<&'a [u8]> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + self.below(largest)).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}

//! Integers and string literals (RFC 7541 §5).

/// A position in a header block.
pub(super) struct Cursor<'a> {
    pub(super) block: &'a [u8],
    pub(super) position: usize,
}

/// A string literal as encoded in the block.
#[derive(Clone, Copy)]
pub(super) struct Literal {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) huffman: bool,
}

impl Cursor<'_> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.block.get(self.position).copied()
    }

    /// Reads an integer with a prefix of `prefix_bits` bits (§5.1). `None` if it is cut off or
    /// above `u32::MAX`.
    pub(super) fn integer(&mut self, prefix_bits: u32) -> Option<usize> {
        let mask = (1_u8 << prefix_bits) - 1;
        let prefix = self.peek()? & mask;
        self.position += 1;
        if prefix < mask {
            return Some(usize::from(prefix));
        }
        let mut value = u64::from(prefix);
        for shift in (0..=28).step_by(7) {
            let byte = self.peek()?;
            self.position += 1;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok().map(|value| value as usize);
            }
        }
        None
    }

    /// Reads a string literal (§5.2); `None` if it is cut off.
    pub(super) fn literal(&mut self) -> Option<Literal> {
        let huffman = self.peek()? & 0x80 != 0;
        let length = self.integer(7)?;
        let start = self.position;
        let end = start.checked_add(length).filter(|&end| end <= self.block.len())?;
        self.position = end;
        Some(Literal { start, end, huffman })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(block: &[u8], prefix_bits: u32) -> Option<usize> {
        Cursor { block, position: 0 }.integer(prefix_bits)
    }

    #[test]
    fn the_rfc_examples_of_integers() {
        // RFC 7541 C.1.
        assert_eq!(integer(&[0b1110_1010], 5), Some(10));
        assert_eq!(integer(&[0b1111_1111, 0b1001_1010, 0b0000_1010], 5), Some(1337));
        assert_eq!(integer(&[42], 7), Some(42));
    }

    #[test]
    fn oversized_and_cut_off_integers_are_refused() {
        assert_eq!(integer(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 7), None);
        assert_eq!(integer(&[0x7f, 0xff], 7), None);
        assert_eq!(integer(&[], 7), None);
        assert_eq!(
            integer(&[0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f], 7),
            Some(u32::MAX as usize)
        );
    }
}

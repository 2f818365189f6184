//! The Huffman code for string literals (RFC 7541 §5.2 and appendix B).
//!
//! The code is canonical: codes of one length are consecutive and in symbol order, so the lengths
//! alone determine it and the tables are computed from them when the crate is compiled.

use bytes::BytesMut;

/// Longest code in bits.
const LONGEST: usize = 30;
/// Codes up to this many bits are found in one lookup; they cover all printable ASCII characters
/// except eleven.
const DIRECT: usize = 10;
/// End of string; as data it is an error.
const END_OF_STRING: u16 = 256;

/// Code length in bits of every symbol.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];

/// Symbols ordered by code.
static SYMBOLS: [u16; 257] = symbols();
/// For each length: first code, and the position of its symbol in [`SYMBOLS`].
static FIRST: [(u32, u16); LONGEST + 2] = first_codes();
/// For each `DIRECT` bits: symbol and code length, length 0 where the code is longer.
static DIRECT_CODES: [(u8, u8); 1 << DIRECT] = direct_codes();

/// Decodes `coded` and appends the result to `out`. `None` if it is not a valid string: it has an
/// end-of-string symbol, or padding that is longer than 7 bits or not all ones.
pub(super) fn decode(coded: &[u8], out: &mut BytesMut) -> Option<()> {
    let start = out.len();
    out.resize(start + decoded_bound(coded.len()), 0);
    let written = decode_into(coded, &mut out[start..]);
    out.truncate(start + written.unwrap_or(0));
    written.map(|_| ())
}

/// Decodes into `out`, which has room for the bound. Returns the number of bytes written.
fn decode_into(coded: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut rest = coded.iter();
    let (mut bits, mut available, mut written) = (0_u64, 0_usize, 0_usize);
    loop {
        while available <= 56 {
            let Some(&byte) = rest.next() else { break };
            bits |= u64::from(byte) << (56 - available);
            available += 8;
        }
        if available < 5 {
            break;
        }
        match next_symbol(bits, available) {
            Some((symbol, length)) => {
                *out.get_mut(written)? = symbol;
                written += 1;
                bits <<= length;
                available -= length;
            }
            None => break,
        }
    }
    let ones = if available == 0 {
        0
    } else {
        u64::MAX << (64 - available)
    };
    (available < 8 && bits == ones).then_some(written)
}

/// Returns an upper bound of the decoded size: the shortest code has 5 bits.
pub(super) fn decoded_bound(coded: usize) -> usize {
    coded.saturating_mul(8) / 5
}

/// Returns the symbol at the top of `bits` and its length; `None` if it is cut off or ends the
/// string.
fn next_symbol(bits: u64, available: usize) -> Option<(u8, usize)> {
    let (symbol, length) = DIRECT_CODES[(bits >> (64 - DIRECT)) as usize];
    if length != 0 {
        return (usize::from(length) <= available).then_some((symbol, usize::from(length)));
    }
    let mut length = DIRECT + 1;
    while length <= LONGEST {
        let code = u32::try_from(bits >> (64 - length)).ok()?;
        let (first, position) = FIRST[length];
        let (_, next) = FIRST[length + 1];
        if code >= first && code - first < u32::from(next - position) {
            let symbol = SYMBOLS[usize::from(position) + (code - first) as usize];
            return u8::try_from(symbol)
                .ok()
                .filter(|_| length <= available)
                .map(|symbol| (symbol, length));
        }
        length += 1;
    }
    None
}

const fn symbols() -> [u16; 257] {
    let mut ordered = [0; 257];
    let (mut position, mut length) = (0, 1);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol <= END_OF_STRING {
            if LENGTHS[symbol as usize] as usize == length {
                ordered[position] = symbol;
                position += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    ordered
}

const fn first_codes() -> [(u32, u16); LONGEST + 2] {
    let mut first = [(0, 0); LONGEST + 2];
    let (mut code, mut position, mut length) = (0_u32, 0_u16, 1);
    while length <= LONGEST {
        first[length] = (code, position);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code += 1;
                position += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    first[length] = (code, position);
    first
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "codes of at most ten bits are for symbols below 256"
)]
const fn direct_codes() -> [(u8, u8); 1 << DIRECT] {
    let mut direct = [(0, 0); 1 << DIRECT];
    let mut length = 1;
    while length <= DIRECT {
        let (first, position) = FIRST_CODES[length];
        let (_, next) = FIRST_CODES[length + 1];
        let mut index = 0;
        while index < (next - position) as usize {
            let symbol = ORDERED[position as usize + index];
            let start = (first as usize + index) << (DIRECT - length);
            let mut filler = 0;
            while filler < 1 << (DIRECT - length) {
                direct[start + filler] = (symbol as u8, length as u8);
                filler += 1;
            }
            index += 1;
        }
        length += 1;
    }
    direct
}

const FIRST_CODES: [(u32, u16); LONGEST + 2] = first_codes();
const ORDERED: [u16; 257] = symbols();

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = BytesMut::new();
        decode(coded, &mut out).map(|()| out.to_vec())
    }

    #[test]
    fn the_rfc_examples_decode() {
        // RFC 7541 C.4.1 and C.6.1.
        let authority = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decoded(&authority).as_deref(), Some(&b"www.example.com"[..]));
        assert_eq!(decoded(&[0x64, 0x02]).as_deref(), Some(&b"302"[..]));
    }

    #[test]
    fn every_symbol_decodes_from_its_code() {
        for (position, &symbol) in SYMBOLS.iter().enumerate() {
            let length = usize::from(LENGTHS[usize::from(symbol)]);
            let (first, first_position) = FIRST[length];
            let code = first + u32::try_from(position).unwrap() - u32::from(first_position);
            let padded = (u64::from(code) << (64 - length)) | (u64::MAX >> length);
            let bytes = padded.to_be_bytes();
            let expected = u8::try_from(symbol).ok().map(|symbol| vec![symbol]);
            assert_eq!(decoded(&bytes[..length.div_ceil(8)]), expected, "symbol {symbol}");
        }
    }

    #[test]
    fn bad_padding_is_refused() {
        assert_eq!(decoded(&[0x07, 0xff]), None, "a whole byte of padding");
        assert_eq!(decoded(&[0x00]), None, "zeros as padding");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "end of string");
        assert_eq!(decoded(&[]).as_deref(), Some(&b""[..]));
    }
}

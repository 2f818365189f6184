//! Writes for origins and formats without the cost of formatting: numbers, addresses, plain runs of text.

use std::io::Write;
use std::net::SocketAddr;

/// Appends decimal digits.
pub(crate) fn push_number(value: u64, out: &mut Vec<u8>) {
    match u8::try_from(value) {
        Ok(value) => push_octet(value, out),
        Err(_) => push_digits(value, out),
    }
}

/// Appends hexadecimal digits, without leading zeros.
pub(crate) fn push_hexadecimal(value: u64, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value:x}");
}

/// Appends one to three decimal digits. Pieces of a fixed length are copied without a call.
fn push_octet(value: u8, out: &mut Vec<u8>) {
    let [hundreds, tens, ones] = [value / 100, value / 10 % 10, value % 10].map(|digit| b'0' + digit);
    match value {
        0..10 => out.push(ones),
        10..100 => out.extend_from_slice(&[tens, ones]),
        100.. => out.extend_from_slice(&[hundreds, tens, ones]),
    }
}

fn push_digits(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = decimal_digit(value % 10);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Returns the last decimal digit of `value`.
pub(crate) fn decimal_digit(value: u64) -> u8 {
    b"0123456789"[(value % 10) as usize]
}

/// Appends `a.b.c.d:port` or `[a:b::c]:port`.
pub(crate) fn push_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address {
        SocketAddr::V4(address) => {
            for (index, octet) in address.ip().octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                push_octet(octet, out);
            }
            out.push(b':');
            push_number(address.port().into(), out);
        }
        SocketAddr::V6(address) => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "{address}");
        }
    }
}

/// Returns how many bytes from the start are not marked. `mark` gets eight bytes at a time, the
/// first one lowest, and sets the highest bit of those that it marks; above the first mark any bit
/// may be set.
#[inline]
pub(crate) fn unmarked_length(bytes: &[u8], mark: impl Fn(u64) -> u64) -> usize {
    let first_mark = |word: [u8; 8]| mark(u64::from_le_bytes(word)).trailing_zeros() as usize / 8;
    for (index, &word) in bytes.as_chunks().0.iter().enumerate() {
        let place = first_mark(word);
        if place < 8 {
            return 8 * index + place;
        }
    }
    // The last eight bytes begin with some that are known to be unmarked.
    if let Some(&last) = bytes.last_chunk() {
        return bytes.len() - 8 + first_mark(last);
    }
    let mut padded = [b' '; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    first_mark(padded).min(bytes.len())
}

/// Marks the ASCII characters that both formats escape: control characters except DEL, the double
/// quote and the backslash.
#[inline]
pub(crate) fn mark_escaped(word: u64) -> u64 {
    // A byte that is less than its subtrahend borrows, which sets its highest bit.
    let controls = word.wrapping_sub(each(b' '));
    let quotes = (word ^ each(b'"')).wrapping_sub(each(1));
    let backslashes = (word ^ each(b'\\')).wrapping_sub(each(1));
    (controls | quotes | backslashes) & !word & each(0x80)
}

/// Marks the same as [`mark_escaped`], and DEL, and the first byte of every non-ASCII character
/// that may steer a terminal.
#[inline]
pub(crate) fn mark_steering(word: u64) -> u64 {
    let deletes = (word ^ each(0x7F)).wrapping_sub(each(1)) & !word & each(0x80);
    let ascii = mark_escaped(word) | deletes;
    if word & each(0x80) == 0 {
        return ascii;
    }
    let first_bytes = STEERING.map(|first| {
        let same = word ^ each(first);
        same.wrapping_sub(each(1)) & !same & each(0x80)
    });
    first_bytes.iter().fold(ascii, |marks, mark| marks | mark)
}

/// First bytes of the non-ASCII characters that [`is_steering`](crate::text::is_steering) finds:
/// C1, U+061C, U+2000 to U+2FFF.
const STEERING: [u8; 3] = [0xC2, 0xD8, 0xE2];

/// Marks the same as [`mark_escaped`], and DEL and all bytes that are not ASCII.
pub(crate) fn mark_unprintable(word: u64) -> u64 {
    let deletes = (word ^ each(0x7F)).wrapping_sub(each(1));
    mark_escaped(word) | (deletes | word) & each(0x80)
}

/// Returns a word of eight copies of a byte.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_marked_at_every_place() {
        for byte in 0..=u8::MAX {
            let escaped = matches!(byte, 0..0x20 | b'"' | b'\\');
            let unprintable = escaped || byte >= 0x7F;
            for (length, place) in (1..20).flat_map(|length| (0..length).map(move |place| (length, place))) {
                let mut text = vec![b'~'; length];
                text[place] = byte;
                let expected = |marked: bool| if marked { place } else { length };
                assert_eq!(unmarked_length(&text, mark_escaped), expected(escaped), "{byte}");
                let steers = escaped || byte == 0x7F || STEERING.contains(&byte);
                assert_eq!(unmarked_length(&text, mark_steering), expected(steers), "{byte}");
                assert_eq!(
                    unmarked_length(&text, mark_unprintable),
                    expected(unprintable),
                    "{byte}"
                );
            }
        }
        assert_eq!(unmarked_length(b"", mark_escaped), 0);
    }

    #[test]
    fn numbers() {
        for value in (0..1100).chain([12_345, u64::MAX]) {
            let mut out = Vec::new();
            push_number(value, &mut out);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }

    #[test]
    fn addresses() {
        for address in ["0.0.0.0:0", "10.20.255.1:65535", "[::1]:443", "[fe80::1%3]:1"] {
            let mut out = Vec::new();
            push_address(address.parse().unwrap(), &mut out);
            assert_eq!(out, address.as_bytes());
        }
    }
}

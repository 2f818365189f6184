//! The dump format of `hexdump -C`, as Go's `hex.Dump` prints it.

const PER_LINE: usize = 16;

/// Number of bytes that the dump of a full line takes.
const LINE_LEN: usize = 79;

/// Appends the dump of `bytes`; nothing if there are none.
pub(super) fn dump(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(PER_LINE) * LINE_LEN);
    for (index, line) in bytes.chunks(PER_LINE).enumerate() {
        dump_line(index * PER_LINE, line, out);
    }
}

fn dump_line(offset: usize, line: &[u8], out: &mut Vec<u8>) {
    for shift in (0..8).rev() {
        out.push(digit(offset >> (shift * 4)));
    }
    out.push(b' ');
    for column in 0..PER_LINE {
        if column % 8 == 0 {
            out.push(b' ');
        }
        match line.get(column) {
            Some(&byte) => out.extend([digit(usize::from(byte >> 4)), digit(usize::from(byte)), b' ']),
            None => out.extend_from_slice(b"   "),
        }
    }
    out.extend_from_slice(b" |");
    out.extend(
        line.iter()
            .map(|&byte| if (0x20..0x7F).contains(&byte) { byte } else { b'.' }),
    );
    out.extend_from_slice(b"|\n");
}

fn digit(value: usize) -> u8 {
    b"0123456789abcdef"[value & 0xF]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        dump(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dumps_full_and_short_lines() {
        assert_eq!(dumped(b""), "");
        assert_eq!(
            dumped(b"0123456789abcde\n\x80~"),
            "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 0a  |0123456789abcde.|\n\
             00000010  80 7e                                             |.~|\n"
        );
    }
}

//! A chain over the lines of a file: each line holds the hash of the line before it, so that whoever changes,
//! removes or puts in a line leaves a trace. [`check`] finds it.
//!
//! ```text
//! {"v":1,"kind":"raw",…,"chain":{"line":7,"previous":"<SHA-256 of line 6, without its line feed, in hexadecimal>"}}
//! ```
//!
//! The chain goes on over rotated files and over runs that append to the same file. A run that ends in order
//! closes it with a line of kind `chain.end`, so that a file without its last lines is recognized. There is no
//! secret in it: who can rewrite the whole file can make a new chain, and only the last hash, kept elsewhere, tells.

pub(crate) mod check;

use std::fmt;
use std::io::{self, Write as _};

use sha2::{Digest as _, Sha256};

/// The line that closes the chain, without its link.
const CLOSING: &[u8] = b"{\"v\":1,\"kind\":\"chain.end\"}";

/// Longest text of a link, with its braces: a number of 20 digits and a hash.
const LINK_BYTES: usize = 1024;

/// SHA-256 of a line, without its line feed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    pub(crate) fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }

    /// Reads 64 hexadecimal digits in lower case.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        if text.len() != 2 * hash.len() {
            return None;
        }
        for (byte, digits) in hash.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a line says of its place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number, from 1 on, over all files of the chain.
    pub(crate) line: u64,
    /// Of the line before it; all zeros for a line without one.
    pub(crate) previous: Hash,
}

impl Link {
    /// Reads it off `end`, the last [`LINK_BYTES`] of a line or all of it.
    fn parse(end: &[u8]) -> Option<Self> {
        const BEGINNING: &[u8] = b",\"chain\":{\"line\":";
        let rest = end.strip_suffix(b"\"}}")?;
        let begin = rest
            .windows(BEGINNING.len())
            .rposition(|found| found == BEGINNING)?;
        let text = std::str::from_utf8(&rest[begin + BEGINNING.len()..]).ok()?;
        let (line, previous) = text.split_once(",\"previous\":\"")?;
        Some(Self {
            line: line.parse().ok().filter(|&line| line > 0)?,
            previous: Hash::parse(previous.as_bytes())?,
        })
    }
}

/// The end of a chain, to which lines are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Chain {
    /// Number of the last line.
    lines: u64,
    /// Its hash.
    last: Hash,
}

impl Chain {
    /// The chain that continues after `last`, the last line of a file.
    pub(crate) fn after(last: &[u8]) -> Self {
        let link = Link::parse(&last[last.len().saturating_sub(LINK_BYTES)..]);
        Self {
            lines: link.map_or(0, |link| link.line),
            last: Hash::of(last),
        }
    }

    /// Writes `line`, a JSON object, to `out` with its link and a line feed.
    pub(crate) fn add(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        let open = line.strip_suffix(b"}").unwrap_or(line);
        self.lines += 1;
        out.extend_from_slice(open);
        let written = write!(
            out,
            ",\"chain\":{{\"line\":{},\"previous\":\"{}\"}}}}",
            self.lines, self.last
        );
        debug_assert!(written.is_ok(), "memory takes everything");
        self.last = Hash::of(&out[begin..]);
        out.push(b'\n');
    }

    /// Writes the line that closes it.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) {
        self.add(CLOSING, out);
    }

    /// Lines in it.
    pub(crate) const fn lines(&self) -> u64 {
        self.lines
    }

    /// Of the last line.
    pub(crate) const fn last(&self) -> Hash {
        self.last
    }
}

/// The last line of a file, without its line feed: `None` of an empty file.
///
/// # Errors
///
/// Those of reading, and a last line of more than `limit` bytes.
pub(crate) fn last_line(file: &mut (impl io::Read + io::Seek), limit: usize) -> io::Result<Option<Vec<u8>>> {
    const BLOCK: usize = 64 * 1024;
    let mut at = file.seek(io::SeekFrom::End(0))?;
    // Backwards, so in reverse order.
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut is_end = true;
    while at > 0 {
        let size = at.min(BLOCK as u64);
        at -= size;
        let mut block = vec![0; usize::try_from(size).unwrap_or(BLOCK)];
        file.seek(io::SeekFrom::Start(at))?;
        file.read_exact(&mut block)?;
        if std::mem::take(&mut is_end) && block.last() == Some(&b'\n') {
            block.pop();
        }
        if let Some(line_feed) = block.iter().rposition(|&byte| byte == b'\n') {
            blocks.push(block.split_off(line_feed + 1));
            break;
        }
        blocks.push(block);
        if blocks.len() * BLOCK > limit {
            return Err(io::Error::other(format!(
                "its last line has more than {limit} bytes"
            )));
        }
    }
    blocks.reverse();
    Ok((!blocks.is_empty()).then(|| blocks.concat()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_line_holds_the_hash_of_the_line_before() {
        let (mut chain, mut out) = (Chain::default(), Vec::new());
        chain.add(b"{\"v\":1}", &mut out);
        chain.add(b"{\"v\":2}", &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let zeros = "0".repeat(64);
        assert_eq!(
            lines[0],
            format!("{{\"v\":1,\"chain\":{{\"line\":1,\"previous\":\"{zeros}\"}}}}")
        );
        let link = Link::parse(lines[1].as_bytes());
        let expected = Link {
            line: 2,
            previous: Hash::of(lines[0].as_bytes()),
        };
        assert_eq!(link, Some(expected));
        assert_eq!(Chain::after(lines[1].as_bytes()), chain);
    }

    #[test]
    fn a_text_that_looks_like_a_link_is_none() {
        for line in [
            "{\"v\":1}",
            "{\"v\":1,\"chain\":{\"line\":0,\"previous\":\"\"}}",
            ",\"chain\":{\"line\":1,\"previous\":\"00\"}}",
            "\"}}",
            "",
        ] {
            assert_eq!(Link::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn the_last_line_is_found_at_every_length() {
        for length in [0, 1, 2, 65_534, 65_535, 65_536, 65_537, 200_000] {
            for end in ["", "\n"] {
                let line = "x".repeat(length);
                let mut file = Cursor::new(format!("first\n{line}{end}"));
                let expected = match (length, end) {
                    (0, "") => "first",
                    _ => &line,
                };
                let found = last_line(&mut file, usize::MAX).unwrap();
                assert_eq!(found.as_deref(), Some(expected.as_bytes()), "{length} {end:?}");
            }
        }
        assert_eq!(last_line(&mut Cursor::new(""), 10).unwrap(), None);
        assert!(last_line(&mut Cursor::new("x".repeat(200_000)), 100_000).is_err());
    }
}

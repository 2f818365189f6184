//! Checks a chain: finds the first line that was changed, removed or put in.

use std::fmt;
use std::io::{self, BufRead};

use sha2::{Digest as _, Sha256};

use super::{CLOSING, Hash, LINK_BYTES, Link};

/// The first trace of tampering. Lines are counted in their file, from 1 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The line after it holds another hash.
    Changed { line: u64 },
    /// The hash that the second holds is not that of the first, and its own has changed as well.
    ChangedOneOf { first: u64, second: u64 },
    /// The chain goes on with a later line than the next one.
    Missing { before: u64, first: u64, last: u64 },
    /// The first line is not the first one of the chain.
    NoBeginning { number: u64 },
    /// It holds the number of a line that was there before.
    OutOfPlace { line: u64, number: u64 },
    /// A line without a link within the chain.
    PutIn { line: u64 },
    /// No line of the file is in a chain.
    NoChain,
    /// The chain is not closed.
    Open { last: u64 },
    /// The last hash is not the one that was kept elsewhere.
    OtherEnd { expected: Hash, observed: Hash },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { line } => write!(f, "line {line} was changed"),
            Self::ChangedOneOf { first, second } => write!(f, "line {first} or {second} was changed"),
            Self::Missing { before, first, last } if first == last => {
                write!(
                    f,
                    "before line {before}, a line was removed or moved: number {first} of the chain"
                )
            }
            Self::Missing { before, first, last } => write!(
                f,
                "before line {before}, lines were removed or moved: numbers {first} to {last} of the chain"
            ),
            Self::NoBeginning { number } => write!(
                f,
                "line 1 is number {number} of the chain: the lines before it were removed, or are in another file; \
                 give that file first, or --partial"
            ),
            Self::OutOfPlace { line, number } => {
                write!(
                    f,
                    "line {line} was put in or moved: it is number {number} of the chain"
                )
            }
            Self::PutIn { line } => write!(
                f,
                "line {line} is not in the chain: it was put in or changed, or the run that wrote it was killed"
            ),
            Self::NoChain => write!(
                f,
                "no line is in a chain; write the file with `-o jsonl:FILE,chain`"
            ),
            Self::Open { last } => write!(
                f,
                "the chain is not closed after line {last}: later lines were removed, or the run was killed or \
                 goes on"
            ),
            Self::OtherEnd { expected, observed } => {
                write!(
                    f,
                    "the last line's hash is {observed}, not {expected}: later lines were removed, or all rewritten"
                )
            }
        }
    }
}

/// The place of a chain at which the next line is checked.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// Lines of this file.
    lines: u64,
    /// The line before; `None` before the first.
    before: Option<Before>,
    /// The chain has begun.
    begun: bool,
    /// It may begin in a file that is not there.
    partial: bool,
    /// The line whose hash is not the one that the next line holds, until the line after that tells which of
    /// the two was changed.
    suspect: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Before {
    hash: Hash,
    /// `None` of a line outside of the chain.
    number: Option<u64>,
    is_closing: bool,
}

/// One line, as far as the chain is concerned.
#[derive(Debug)]
struct Line {
    hash: Hash,
    link: Option<Link>,
    is_closing: bool,
}

impl Checker {
    /// With `partial` the first file may begin with any line of the chain.
    pub(crate) fn new(partial: bool) -> Self {
        Self {
            partial,
            ..Self::default()
        }
    }

    /// Checks the lines of one file, which go on where the last file's ended.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub(crate) fn file(&mut self, mut file: impl BufRead) -> io::Result<Option<Fault>> {
        self.lines = 0;
        while let Some(line) = Line::read(&mut file)? {
            if let Some(fault) = self.line(&line) {
                return Ok(Some(fault));
            }
        }
        Ok(None)
    }

    fn line(&mut self, next: &Line) -> Option<Fault> {
        self.lines += 1;
        let at = self.lines;
        let before = self.before.replace(Before {
            hash: next.hash,
            number: next.link.map(|link| link.line),
            is_closing: next.is_closing,
        });
        let Some(link) = next.link else {
            // What an earlier run without a chain has written is no part of it.
            return self.begun.then_some(Fault::PutIn { line: at });
        };
        self.begun = true;
        let expected = match before {
            Some(Before { number, .. }) => number.map_or(1, |number| number + 1),
            None if self.partial => link.line,
            None => 1,
        };
        if before.is_none() && link.line > expected {
            return Some(Fault::NoBeginning { number: link.line });
        }
        if link.line > expected {
            let (first, last) = (expected, link.line - 1);
            return Some(Fault::Missing {
                before: at,
                first,
                last,
            });
        }
        if link.line < expected {
            return Some(Fault::OutOfPlace {
                line: at,
                number: link.line,
            });
        }
        let fits = match before {
            Some(before) => before.hash == link.previous,
            None => self.partial || link.previous == Hash::default(),
        };
        match (self.suspect.take(), fits) {
            (Some(first), true) => Some(Fault::Changed { line: first }),
            (Some(first), false) => Some(Fault::ChangedOneOf {
                first,
                second: first + 1,
            }),
            (None, true) => None,
            // The first line of the file: the one before it is in another file.
            (None, false) if at == 1 => Some(Fault::Changed { line: 1 }),
            (None, false) => {
                self.suspect = Some(at - 1);
                None
            }
        }
    }

    /// No file follows. `kept` is the hash of the last line, from elsewhere.
    pub(crate) fn end(&self, kept: Option<Hash>) -> Option<Fault> {
        let last = self.before.filter(|_| self.begun)?;
        if let Some(first) = self.suspect {
            return Some(Fault::ChangedOneOf {
                first,
                second: first + 1,
            });
        }
        if let Some(expected) = kept.filter(|kept| *kept != last.hash) {
            return Some(Fault::OtherEnd {
                expected,
                observed: last.hash,
            });
        }
        (!last.is_closing).then_some(Fault::Open { last: self.lines })
    }

    /// Whether there is a chain at all.
    pub(crate) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Hash and number in the chain of the last line.
    pub(crate) fn last(&self) -> Option<(Hash, u64)> {
        self.before.and_then(|line| Some((line.hash, line.number?)))
    }
}

impl Line {
    /// Reads the next line, and keeps no more of it than its end. `None` at the end of the file.
    fn read(file: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut hasher = Sha256::new();
        // At most twice `LINK_BYTES`.
        let mut end = Vec::new();
        let mut length = 0;
        loop {
            let bytes = file.fill_buf()?;
            if bytes.is_empty() {
                if length == 0 {
                    return Ok(None);
                }
                break;
            }
            let line_feed = bytes.iter().position(|&byte| byte == b'\n');
            let part = &bytes[..line_feed.unwrap_or(bytes.len())];
            hasher.update(part);
            length += part.len();
            end.extend_from_slice(&part[part.len().saturating_sub(LINK_BYTES)..]);
            end.drain(..end.len().saturating_sub(LINK_BYTES));
            let used = part.len() + usize::from(line_feed.is_some());
            file.consume(used);
            if line_feed.is_some() {
                break;
            }
        }
        let link = Link::parse(&end);
        let open = CLOSING.strip_suffix(b"}").unwrap_or(CLOSING);
        Ok(Some(Self {
            hash: Hash(hasher.finalize().into()),
            link,
            is_closing: link.is_some() && length == end.len() && end.starts_with(open),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Chain;
    use super::*;

    /// Six lines and the closing one.
    fn lines() -> Vec<String> {
        let (mut chain, mut out) = (Chain::default(), Vec::new());
        for number in 1..=6 {
            chain.add(format!("{{\"v\":{number}}}").as_bytes(), &mut out);
        }
        chain.close(&mut out);
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn check(lines: &[String]) -> Option<Fault> {
        let text = lines.join("\n") + "\n";
        let mut checker = Checker::default();
        let fault = checker.file(text.as_bytes()).unwrap();
        fault.or_else(|| checker.end(None))
    }

    #[test]
    fn an_untouched_file_has_no_fault() {
        assert_eq!(check(&lines()), None);
    }

    #[test]
    fn every_changed_line_is_named() {
        for changed in 0..6 {
            let mut lines = lines();
            lines[changed] = lines[changed].replace("\"v\":", "\"w\":");
            let line = changed as u64 + 1;
            let expected = match changed {
                // Nothing behind the closing line tells which of the two it was.
                5 => Fault::ChangedOneOf { first: 6, second: 7 },
                _ => Fault::Changed { line },
            };
            assert_eq!(check(&lines), Some(expected));
        }
    }

    #[test]
    fn every_removed_line_is_named() {
        for removed in 0..7_u64 {
            let mut lines = lines();
            lines.remove(usize::try_from(removed).unwrap());
            let number = removed + 1;
            let expected = match removed {
                0 => Some(Fault::NoBeginning { number: 2 }),
                6 => Some(Fault::Open { last: 6 }),
                _ => Some(Fault::Missing {
                    before: number,
                    first: number,
                    last: number,
                }),
            };
            assert_eq!(check(&lines), expected, "{removed}");
        }
    }

    #[test]
    fn a_part_of_a_chain_may_begin_anywhere() {
        let text = lines()[3..].join("\n");
        let mut checker = Checker::new(true);
        assert_eq!(checker.file(text.as_bytes()).unwrap(), None);
        assert_eq!(checker.end(None), None);
    }

    #[test]
    fn every_line_put_in_is_named() {
        for at in 1..7 {
            let mut with_foreign = lines();
            with_foreign.insert(at, "{\"v\":9}".into());
            let line = at as u64 + 1;
            assert_eq!(check(&with_foreign), Some(Fault::PutIn { line }));
            let mut with_copy = lines();
            with_copy.insert(at, lines()[at - 1].clone());
            let number = at as u64;
            assert_eq!(check(&with_copy), Some(Fault::OutOfPlace { line, number }));
        }
    }

    #[test]
    fn swapped_lines_are_named() {
        for at in 1..5 {
            let mut lines = lines();
            lines.swap(at, at + 1);
            let number = at as u64 + 1;
            let expected = Fault::Missing {
                before: number,
                first: number,
                last: number,
            };
            assert_eq!(check(&lines), Some(expected));
        }
    }

    #[test]
    fn a_file_that_is_cut_is_not_closed() {
        for kept in 1..7 {
            let expected = Fault::Open { last: kept as u64 };
            assert_eq!(check(&lines()[..kept]), Some(expected));
        }
    }

    #[test]
    fn a_chain_goes_on_in_the_next_file() {
        let all = lines();
        let (first, second) = all.split_at(3);
        let mut checker = Checker::default();
        for part in [first, second] {
            assert_eq!(checker.file(part.join("\n").as_bytes()).unwrap(), None);
        }
        assert_eq!(checker.end(None), None);
        let (last, number) = checker.last().unwrap();
        assert_eq!(number, 7);
        assert_eq!(checker.end(Some(last)), None);
        let fault = checker.end(Some(Hash::default()));
        assert!(matches!(fault, Some(Fault::OtherEnd { .. })));
    }

    #[test]
    fn lines_from_before_the_chain_are_no_part_of_it() {
        let before = "{\"v\":0}";
        let mut chain = Chain::after(before.as_bytes());
        let mut out = format!("{before}\n").into_bytes();
        chain.add(b"{\"v\":1}", &mut out);
        chain.close(&mut out);
        let mut checker = Checker::default();
        assert_eq!(checker.file(out.as_slice()).unwrap(), None);
        assert_eq!(checker.end(None), None);
    }
}

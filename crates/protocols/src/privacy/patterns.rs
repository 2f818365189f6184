//! Which values are secrets: the known ones, and those of a file.

use regex::bytes::{Regex, RegexBuilder};

use super::names::{is_secret_header, is_secret_parameter};
use super::ranges::Ranges;
use crate::limits::{PATTERN_BYTES, PATTERN_FILE_BYTES, PATTERN_MATCHES, PATTERNS};

/// The values that are masked.
#[derive(Debug, Default)]
pub struct Secrets {
    headers: Vec<Glob>,
    parameters: Vec<Glob>,
    /// All patterns of text as one.
    text: Option<Regex>,
}

/// What is wrong with a file of patterns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The file has too many bytes.
    #[error("{observed} bytes, at most {PATTERN_FILE_BYTES} expected")]
    Length {
        /// Its bytes.
        observed: usize,
    },
    /// The file has too many lines.
    #[error("more than {PATTERNS} patterns")]
    Number,
    /// A line is not a pattern.
    #[error("line {line}: `header NAME`, `query NAME` or `text REGEX` expected, observed `{observed}`")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// Its text.
        observed: String,
    },
    /// The pattern matches an empty text, and so everywhere.
    #[error("line {line}: the pattern matches the empty text")]
    Empty {
        /// Its number, from 1.
        line: usize,
    },
    /// A regular expression is wrong.
    #[error("line {line}: {problem}")]
    Regex {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// All regular expressions together take too much memory.
    #[error("the patterns of text take more than {PATTERN_BYTES} bytes of memory")]
    Memory,
}

impl Secrets {
    /// Reads a file of patterns, which are added to what is known. Each line is `header NAME`, `query NAME` (`*`
    /// stands for any text, without regard to case) or `text REGEX`; empty lines and those that begin with `#` are
    /// left out.
    ///
    /// # Errors
    ///
    /// The first line that is wrong.
    pub fn parse(file: &str) -> Result<Self, PatternError> {
        if file.len() > PATTERN_FILE_BYTES {
            return Err(PatternError::Length { observed: file.len() });
        }
        let mut secrets = Self::default();
        let mut text = Vec::new();
        for (index, line) in file.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || PatternError::Line {
                line: number,
                observed: crate::printable(line).chars().take(80).collect(),
            };
            let (kind, pattern) = line.split_once([' ', '\t']).ok_or_else(wrong)?;
            let pattern = pattern.trim();
            match kind {
                "header" => secrets.headers.push(Glob::new(pattern).ok_or_else(wrong)?),
                "query" => secrets.parameters.push(Glob::new(pattern).ok_or_else(wrong)?),
                "text" => text.push(checked(pattern, number)?),
                _ => return Err(wrong()),
            }
            if secrets.headers.len() + secrets.parameters.len() + text.len() > PATTERNS {
                return Err(PatternError::Number);
            }
        }
        if !text.is_empty() {
            secrets.text = Some(compile(&text.join("|")).map_err(|_| PatternError::Memory)?);
        }
        Ok(secrets)
    }

    /// Returns true if text is searched for patterns. A secret that is shown in two parts is not found.
    pub fn searches_text(&self) -> bool {
        self.text.is_some()
    }

    /// Finds what the patterns of text match. After too many matches the rest is hidden, so that the time is linear in
    /// the text for every pattern.
    pub(super) fn find_in(&self, text: &[u8], found: &mut Ranges) {
        let Some(pattern) = &self.text else { return };
        for (number, matched) in pattern.find_iter(text).enumerate() {
            if number == PATTERN_MATCHES {
                return found.hide(matched.start()..text.len());
            }
            found.hide(matched.range());
        }
    }

    pub(super) fn has_header(&self, name: &[u8]) -> bool {
        is_secret_header(name) || self.headers.iter().any(|glob| glob.matches(name))
    }

    pub(super) fn has_parameter(&self, name: &[u8]) -> bool {
        is_secret_parameter(name) || self.parameters.iter().any(|glob| glob.matches(name))
    }
}

/// Returns the pattern as a part of all.
fn checked(pattern: &str, line: usize) -> Result<String, PatternError> {
    // Compiled without its brackets, because they could make a wrong pattern right.
    let compiled = compile(pattern).map_err(|error| PatternError::Regex {
        line,
        problem: error.to_string().lines().last().unwrap_or_default().to_owned(),
    })?;
    if compiled.is_match(b"") {
        return Err(PatternError::Empty { line });
    }
    Ok(format!("(?:{pattern})"))
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build()
}

/// A name in which `*` stands for any text.
#[derive(Debug)]
struct Glob(Vec<Vec<u8>>);

impl Glob {
    /// `None` if it has no sign of a name.
    fn new(pattern: &str) -> Option<Self> {
        let is_sign = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'=');
        let is_name = pattern.bytes().all(is_sign) && pattern.bytes().any(|byte| byte != b'*');
        let parts = pattern.split('*').map(|part| part.to_ascii_lowercase().into());
        is_name.then(|| Self(parts.collect()))
    }

    fn matches(&self, name: &[u8]) -> bool {
        let name = name.to_ascii_lowercase();
        let [first, middle @ .., last] = &*self.0 else {
            return self.0.first().is_some_and(|whole| *whole == name);
        };
        let Some(mut rest) = name.strip_prefix(&**first) else {
            return false;
        };
        for part in middle {
            // The first place leaves the most for what follows.
            let Some(at) = memchr::memmem::find(rest, part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_patterns_are_added() {
        let secrets = Secrets::parse("# ours\n\nheader X-Our-*\nquery c?de\n text  sk_[a-z]+\n").unwrap();
        assert!(secrets.has_header(b"x-our-id"));
        assert!(secrets.has_header(b"Authorization"));
        assert!(!secrets.has_header(b"x-their-id"));
        assert!(secrets.has_parameter(b"C?DE"));
        let mut found = Ranges::default();
        secrets.find_in(b"a sk_b sk_ sk_cd", &mut found);
        assert_eq!(found.mask(b"a sk_b sk_ sk_cd").unwrap(), b"a *** sk_ ***");
    }

    #[test]
    fn wrong_lines_are_named() {
        for (file, part) in [
            ("header", "line 1: `header NAME`"),
            ("\nheader *", "line 2: `header NAME`"),
            ("header a b", "`header a b`"),
            ("cookie a", "`cookie a`"),
            ("text (", "line 1: error: unclosed group"),
            ("text a*", "empty"),
            ("text a)(b", "line 1"),
        ] {
            let error = Secrets::parse(file).unwrap_err().to_string();
            assert!(error.contains(part), "{file}: {error}");
        }
        let many = "text a\n".repeat(PATTERNS + 1);
        assert_eq!(Secrets::parse(&many).unwrap_err(), PatternError::Number);
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, expected) in [
            ("a", "A", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("*b", "aab", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
        ] {
            let glob = Glob::new(pattern).unwrap();
            assert_eq!(glob.matches(name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn after_many_matches_the_rest_is_hidden() {
        let secrets = Secrets::parse("text a").unwrap();
        let text = "ab".repeat(PATTERN_MATCHES + 10);
        let mut found = Ranges::default();
        secrets.find_in(text.as_bytes(), &mut found);
        let masked = found.mask(text.as_bytes()).unwrap();
        assert!(masked.ends_with(b"***b***"));
    }
}

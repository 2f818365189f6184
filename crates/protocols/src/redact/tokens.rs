//! SQL as tokens, as far as it is needed to find literals.

use std::ops::Range;

/// How a server reads its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// MariaDB and MySQL with their default `sql_mode`: `"…"` is a string, `\` escapes, `#` begins a comment.
    MySql,
    /// PostgreSQL with `standard_conforming_strings`: `"…"` is a name, `\` escapes in `E'…'` only, `$tag$` quotes.
    Postgres,
}

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, or a name without quotes.
    Word,
    /// A name in quotes.
    Name,
    /// A string; the range is that inside of its quotes.
    String {
        inner: (usize, usize),
    },
    /// A string in dollar quotes.
    Dollars {
        inner: (usize, usize),
    },
    Number,
    /// A parameter, `?` or `$1`.
    Parameter,
    /// Any other byte.
    Sign(u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

/// Splits a text into tokens, without white space and comments.
pub(super) struct Tokens<'text> {
    text: &'text [u8],
    at: usize,
    dialect: Dialect,
    /// The last token was a word that makes `\` escape in a string right behind it.
    escapes: bool,
}

impl<'text> Tokens<'text> {
    pub(super) fn of(text: &'text [u8], dialect: Dialect) -> Self {
        Self {
            text,
            at: 0,
            dialect,
            escapes: false,
        }
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    /// Passes white space and comments.
    fn pass_blank(&mut self) {
        loop {
            let (byte, next) = (self.byte(self.at), self.byte(self.at + 1));
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'-' if next == b'-' && self.is_line_comment() => self.pass_line(),
                b'#' if self.dialect == Dialect::MySql => self.pass_line(),
                b'/' if next == b'*' => self.pass_comment(),
                b'*' if next == b'/' && self.dialect == Dialect::MySql => self.at += 2,
                _ => return,
            }
            self.escapes = false;
            if self.at >= self.text.len() {
                return;
            }
        }
    }

    fn is_line_comment(&self) -> bool {
        self.dialect == Dialect::Postgres || self.at + 2 >= self.text.len() || self.byte(self.at + 2) <= b' '
    }

    fn pass_line(&mut self) {
        self.at = self
            .next_byte(b'\n', self.at)
            .map_or(self.text.len(), |end| end + 1);
    }

    /// Comments of MySQL that begin with `/*!` or `/*M!` are executed.
    fn pass_comment(&mut self) {
        if self.dialect == Dialect::MySql {
            let mut at = self.at + 2;
            if self.byte(at) == b'M' {
                at += 1;
            }
            if self.byte(at) == b'!' {
                at += 1;
                while self.byte(at).is_ascii_digit() {
                    at += 1;
                }
                self.at = at;
                return;
            }
        }
        let (mut depth, mut at) = (1, self.at + 2);
        while depth > 0 && at < self.text.len() {
            match (self.byte(at), self.byte(at + 1)) {
                (b'*', b'/') => {
                    depth -= 1;
                    at += 2;
                }
                (b'/', b'*') if self.dialect == Dialect::Postgres => {
                    depth += 1;
                    at += 2;
                }
                _ => at += 1,
            }
        }
        self.at = at.min(self.text.len());
    }

    fn next_byte(&self, byte: u8, from: usize) -> Option<usize> {
        let found = memchr::memchr(byte, self.text.get(from..)?)?;
        Some(from + found)
    }

    /// A token in quotes that begin at `start`.
    fn quoted(&mut self, start: usize, quote: u8, escapes: bool) -> (usize, usize) {
        let mut at = start + 1;
        while at < self.text.len() {
            let byte = self.byte(at);
            if byte == b'\\' && escapes {
                at += 2;
            } else if byte == quote {
                if self.byte(at + 1) == quote {
                    at += 2;
                } else {
                    self.at = at + 1;
                    return (start + 1, at);
                }
            } else {
                at += 1;
            }
        }
        self.at = self.text.len();
        (start + 1, self.text.len())
    }

    /// `$tag$…$tag$`, if that is what begins at `start`.
    fn dollars(&mut self, start: usize) -> Option<Kind> {
        let mut end = start + 1;
        while is_word(self.byte(end)) && self.byte(end) != b'$' {
            end += 1;
        }
        if self.byte(end) != b'$' || self.byte(start + 1).is_ascii_digit() {
            return None;
        }
        let tag = &self.text[start..=end];
        let inner = end + 1;
        let found = memchr::memmem::find(&self.text[inner..], tag);
        let close = found.map_or(self.text.len(), |found| inner + found);
        self.at = (close + tag.len()).min(self.text.len());
        Some(Kind::Dollars {
            inner: (inner, close),
        })
    }

    fn number(&mut self) -> Kind {
        let mut at = self.at + 1;
        loop {
            let byte = self.byte(at);
            let is_sign = matches!(byte, b'+' | b'-') && matches!(self.byte(at - 1), b'e' | b'E');
            let is_exponent = is_sign && !self.text[self.at..].starts_with(b"0x");
            if !(byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_' || is_exponent) {
                break;
            }
            at += 1;
        }
        self.at = at;
        Kind::Number
    }

    fn word(&mut self) -> Kind {
        let start = self.at;
        while is_word(self.byte(self.at)) {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        self.escapes = word.eq_ignore_ascii_case(b"e");
        Kind::Word
    }
}

/// Returns true for bytes of names; those beyond ASCII belong to letters.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.pass_blank();
        let start = self.at;
        let byte = *self.text.get(start)?;
        let is_mysql = self.dialect == Dialect::MySql;
        let escapes = std::mem::take(&mut self.escapes) || is_mysql;
        let string = |inner| Kind::String { inner };
        let kind = match byte {
            b'\'' => string(self.quoted(start, byte, escapes)),
            b'"' if is_mysql => string(self.quoted(start, byte, true)),
            b'"' | b'`' => {
                self.quoted(start, byte, false);
                Kind::Name
            }
            b'?' if is_mysql => self.sign(Kind::Parameter),
            b'$' if !is_mysql => match self.dollars(start) {
                Some(kind) => kind,
                None if self.byte(start + 1).is_ascii_digit() => {
                    self.number();
                    Kind::Parameter
                }
                None => self.sign(Kind::Sign(byte)),
            },
            b'0'..=b'9' => self.number(),
            b'.' if self.byte(start + 1).is_ascii_digit() => self.number(),
            _ if is_word(byte) => self.word(),
            _ => self.sign(Kind::Sign(byte)),
        };
        Some(Token {
            kind,
            range: start..self.at,
        })
    }
}

impl Tokens<'_> {
    fn sign(&mut self, kind: Kind) -> Kind {
        self.at += 1;
        kind
    }
}

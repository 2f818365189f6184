//! Masks secrets in statements and command lines.
//!
//! Everything here reads each byte a fixed number of times, whatever the text is, and only guesses to the safe
//! side: a literal without an end is masked to the end of the text.

mod credentials;
mod query;
mod shell;
mod sql;
mod statement;
mod tokens;

pub use query::query;
pub use shell::command_line;
pub use sql::{Masked, literals, message, passwords};
pub use statement::{begins_with, placeholders};
pub use tokens::Dialect;

/// What is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redaction {
    /// Nothing.
    Nothing,
    /// What is known to be a password.
    #[default]
    Passwords,
    /// Also all literals of statements, and the values of their parameters.
    Literals,
}

/// What is written in the place of a secret.
pub const MASK: &[u8] = b"***";

/// Ranges of a text that are masked, in order.
#[derive(Debug, Default)]
struct Mask {
    out: Vec<u8>,
    /// Bytes of the text that are in `out`, or were masked.
    done: usize,
    masks: u64,
}

impl Mask {
    /// Masks `range` of `text`, which is behind all ranges before it.
    fn hide(&mut self, text: &[u8], range: std::ops::Range<usize>) {
        self.replace(text, range, MASK);
    }

    /// Puts `with` in the place of `range`.
    fn replace(&mut self, text: &[u8], range: std::ops::Range<usize>, with: &[u8]) {
        let start = range.start.max(self.done);
        if range.end <= start {
            return;
        }
        self.out.extend_from_slice(&text[self.done..start]);
        self.out.extend_from_slice(with);
        self.done = range.end;
        self.masks += 1;
    }

    /// The text with its masks; `None` if nothing was masked.
    fn finish(mut self, text: &[u8]) -> Option<Vec<u8>> {
        if self.masks == 0 {
            return None;
        }
        self.out.extend_from_slice(&text[self.done..]);
        Some(self.out)
    }
}

/// Returns true if `text` has `word`, which is in lower case, in whatever case.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len())
        .any(|window| window.eq_ignore_ascii_case(word))
}

/// Returns true if a value of that name is a secret: `PGPASSWORD`, `db_password`, `AWS_SECRET_ACCESS_KEY`.
fn names_secret(name: &[u8]) -> bool {
    /// No name of a secret is longer.
    const LONGEST: usize = 128;
    let ends =
        |end: &[u8]| name.len() >= end.len() && name[name.len() - end.len()..].eq_ignore_ascii_case(end);
    name.len() <= LONGEST
        && ([
            &b"password"[..],
            b"passwd",
            b"passphrase",
            b"secret",
            b"token",
            b"pwd",
        ]
        .iter()
        .any(|end| ends(end))
            || ends(b"api_key")
            || ends(b"apikey")
            || ends(b"api-key")
            || ends(b"access_key")
            || ends(b"secret_key")
            || ends(b"private_key"))
}

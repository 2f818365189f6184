//! The language of `--filter`: Wireshark's field names and operators over decoded messages.
//!
//! ```text
//! expression  one (("or" | "||") one)*
//! one         and (("xor" | "^^") and)*
//! and         not (("and" | "&&") not)*
//! not         ("not" | "!") not | "(" expression ")" | comparison
//! comparison  ["any" | "all"] operand (operator value | ["not"] "in" "{" item ("," item)* "}")
//!             | field | layer "contains" "text" | "text"
//! operand     field [slice] | ("len" | "lower" | "upper") "(" field ")" [slice]
//! operator    == eq any_eq  === all_eq  != ne all_ne  !== ~= any_ne  < lt  <= le  > gt  >= ge  contains  matches ~
//! item        value | value ".." value
//! field       http.host, http.header["name"], …   ([`fields`])
//! slice       "[" range ("," range)* "]", where a range is 3, 0:4, :4, 4:, 2-3 or -2:
//! value       1234, 0x1f, 017, 0.5, "text", r"text", 68:65:6c, 10.0.0.0/8, ::1
//! ```
//!
//! It has three values: what is not known is neither equal nor different, and a message is selected
//! only if the expression is true. So `not http.response.code == 200` does not select a message
//! without a status. As in Wireshark, `==` is true if any of several values is equal, and `!=` if
//! all are different; text is compared byte by byte, and `matches` ignores case.
//!
//! Expressions are bounded in length, depth and items; regular expressions take time linear in the
//! text ([`regex`]).

mod content;
mod cursor;
mod early;
mod error;
mod evaluate;
mod field;
mod headers;
mod lexer;
mod operand;
mod origin;
mod parser;
mod subject;
mod table;
mod value;
mod values;

pub use error::FilterError;
pub use field::fields;
pub use subject::Subject;

use evaluate::Test;

/// Longest expression in bytes.
pub const MAX_LENGTH: usize = 4096;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 64;
/// Most items of one set.
pub const MAX_ITEMS: usize = 256;
/// Most regular expressions.
const MAX_REGEXES: usize = 16;
/// Memory of one compiled regular expression in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Filter {
    test: Test,
    text: String,
}

impl Filter {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// The position of the first problem, and what is expected there.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(Self {
            test: parser::parse(text)?,
            text: text.to_owned(),
        })
    }

    /// Returns the expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Evaluates the expression. `None` if something that decides is not known.
    pub fn verdict(&self, subject: &Subject<'_>) -> Option<bool> {
        self.test.verdict(subject)
    }

    /// Returns true if a request may have to wait for its response.
    pub fn needs_response(&self) -> bool {
        self.test.needs_response()
    }

    /// Returns true if it asks for what is in bodies and payloads, also for its decoded length or for a text anywhere
    /// in a message. Such an expression has no answer where content is left out
    /// ([`Options::without_content`](crate::Options::without_content)).
    pub fn reads_content(&self) -> bool {
        self.test.reads_content()
    }

    /// Returns true if it selects requests and responses, so that text shows them instead of frames.
    pub fn needs_exchange(&self) -> bool {
        self.test.needs_exchange()
    }
}

#[cfg(test)]
mod early_tests;
#[cfg(test)]
mod tests;

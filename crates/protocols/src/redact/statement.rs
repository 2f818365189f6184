//! What a statement's text says of it.

use super::tokens::{Dialect, Kind, Tokens};

/// Returns the number of places for values in a statement of MariaDB: its `?`.
pub fn placeholders(text: &[u8]) -> usize {
    Tokens::of(text, Dialect::MySql)
        .filter(|token| token.kind == Kind::Parameter)
        .count()
}

/// Returns true if a statement of MariaDB begins with one of `words`, which are in lower case. Parentheses and comments
/// before it do not matter.
pub fn begins_with(text: &[u8], words: &[&str]) -> bool {
    let first = Tokens::of(text, Dialect::MySql).find(|token| token.kind != Kind::Sign(b'('));
    first.is_some_and(|first| {
        let word = &text[first.range];
        words
            .iter()
            .any(|each| word.eq_ignore_ascii_case(each.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_outside_of_strings_names_and_comments() {
        for (text, expected) in [
            ("select ?, '?', \"?\", `?` -- ?\n, ?", 2),
            ("select /* ? */ '\\'?' # ?", 0),
            ("insert into t values (?,?,?)", 3),
            ("", 0),
        ] {
            assert_eq!(placeholders(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_first_word_is_behind_comments_and_parentheses() {
        for text in ["SELECT 1", " /* a */ ((select 1))", "-- x\n(Select 1)"] {
            assert!(begins_with(text.as_bytes(), &["with", "select"]), "{text}");
        }
        for text in ["show warnings", "selects", "", "(", "'select'"] {
            assert!(!begins_with(text.as_bytes(), &["with", "select"]), "{text}");
        }
    }
}

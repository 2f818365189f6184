//! Splits an expression into tokens.

use super::error::FilterError;

/// A token, and the byte at which it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) offset: usize,
    pub(super) kind: TokenKind<'a>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind<'a> {
    /// An operator, a bracket or a comma.
    Sign(&'static str),
    /// A name, a number or an address.
    Word(&'a str),
    /// What stands between quotes, without escapes.
    Text(Vec<u8>),
    End,
}

/// Longer signs first.
const SIGNS: [&str; 22] = [
    "===", "!==", "&&", "||", "^^", "==", "!=", "~=", "<=", ">=", "..", "!", "<", ">", "~", "(", ")", "{",
    "}", "[", "]", ",",
];

const UNCLOSED: &str = "the quote is not closed";

/// Splits `text` into tokens; the last is [`TokenKind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, FilterError> {
    let mut tokens = Vec::new();
    let mut offset = 0;
    while let Some(first) = text[offset..].chars().next() {
        let rest = &text[offset..];
        if first.is_whitespace() {
            offset += first.len_utf8();
            continue;
        }
        let (kind, length) = if first == '"' {
            quoted(text, offset)?
        } else if rest.starts_with("r\"") || rest.starts_with("R\"") {
            raw(text, offset)?
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            (TokenKind::Sign(sign), sign.len())
        } else {
            let length = word_length(rest);
            if length == 0 {
                let problem = format!("`{first}` is not expected; put text into double quotes");
                return Err(FilterError::at(text, offset, problem));
            }
            (TokenKind::Word(&rest[..length]), length)
        };
        tokens.push(Token { offset, kind });
        offset += length;
    }
    tokens.push(Token {
        offset,
        kind: TokenKind::End,
    });
    Ok(tokens)
}

/// Letters, digits and what names, numbers and addresses have between them. Two dots end a word.
fn word_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_part =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'/' | b'-' | b'%');
    (0..bytes.len())
        .find(|&at| !is_part(bytes[at]) || bytes[at..].starts_with(b".."))
        .unwrap_or(bytes.len())
}

/// Reads text in quotes after an `r`: a backslash is one, and there is no quote in it.
fn raw(text: &str, offset: usize) -> Result<(TokenKind<'_>, usize), FilterError> {
    let value = &text[offset + 2..];
    match value.find('"') {
        None => Err(FilterError::at(text, offset, UNCLOSED)),
        Some(end) => Ok((TokenKind::Text(value.as_bytes()[..end].to_vec()), end + 3)),
    }
}

/// Reads text in quotes: `\"`, `\\`, `\n`, `\r`, `\t` and `\x1f` are escapes.
fn quoted(text: &str, offset: usize) -> Result<(TokenKind<'_>, usize), FilterError> {
    let bytes = text.as_bytes();
    let mut value = Vec::new();
    let mut at = offset + 1;
    loop {
        match bytes.get(at) {
            None => return Err(FilterError::at(text, offset, UNCLOSED)),
            Some(b'"') => return Ok((TokenKind::Text(value), at + 1 - offset)),
            Some(b'\\') => {
                let (byte, length) = escape(&bytes[at + 1..]).ok_or_else(|| {
                    let problem = "an unknown escape; use \\\", \\\\, \\n, \\r, \\t or \\x1f, or r\"…\" for text without escapes";
                    FilterError::at(text, at, problem)
                })?;
                value.push(byte);
                at += 1 + length;
            }
            Some(&byte) => {
                value.push(byte);
                at += 1;
            }
        }
    }
}

fn escape(rest: &[u8]) -> Option<(u8, usize)> {
    Some(match rest {
        [b'n', ..] => (b'\n', 1),
        [b'r', ..] => (b'\r', 1),
        [b't', ..] => (b'\t', 1),
        [byte @ (b'"' | b'\\'), ..] => (*byte, 1),
        [b'x', high, low, ..] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let value = digit(*high)? * 16 + digit(*low)?;
            (u8::try_from(value).ok()?, 3)
        }
        _ => return None,
    })
}

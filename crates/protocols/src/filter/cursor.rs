//! Where the parser is in the tokens of an expression.

use super::error::FilterError;
use super::lexer::{Token, TokenKind, tokens};

/// The state of the parser.
pub(super) struct Parser<'a> {
    source: &'a str,
    pub(super) tokens: Vec<Token<'a>>,
    pub(super) next: usize,
    pub(super) depth: usize,
    /// Regular expressions so far.
    pub(super) regexes: usize,
}

impl<'a> Parser<'a> {
    /// Begins with the first token of `source`.
    pub(super) fn new(source: &'a str) -> Result<Self, FilterError> {
        Ok(Self {
            source,
            tokens: tokens(source)?,
            next: 0,
            depth: 0,
            regexes: 0,
        })
    }

    pub(super) fn peek(&self) -> &TokenKind<'a> {
        &self.tokens[self.next].kind
    }

    pub(super) fn advance(&mut self) -> TokenKind<'a> {
        let kind = self.tokens[self.next].kind.clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        kind
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> FilterError {
        FilterError::at(self.source, self.tokens[self.next].offset, problem)
    }

    pub(super) fn error_before(&self, problem: impl Into<String>) -> FilterError {
        FilterError::at(
            self.source,
            self.tokens[self.next.saturating_sub(1)].offset,
            problem,
        )
    }

    /// Takes the next token if it is this sign, or this word.
    pub(super) fn take(&mut self, sign: &str, word: &str) -> bool {
        let is_it = match self.peek() {
            TokenKind::Sign(found) => *found == sign,
            TokenKind::Word(found) => !word.is_empty() && *found == word,
            TokenKind::Text(_) | TokenKind::End => false,
        };
        if is_it {
            self.advance();
        }
        is_it
    }
}

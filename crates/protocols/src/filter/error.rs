//! What is wrong with an expression.

/// The first problem of an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {}: {problem}", position + 1)]
pub struct FilterError {
    /// Where it is, in characters from 0.
    pub position: usize,
    /// What it is, and what helps.
    pub problem: String,
}

impl FilterError {
    /// Makes the error of the byte `offset` of `text`.
    pub(super) fn at(text: &str, offset: usize, problem: impl Into<String>) -> Self {
        let offset = text.floor_char_boundary(offset);
        Self {
            position: text[..offset].chars().count(),
            problem: problem.into(),
        }
    }
}

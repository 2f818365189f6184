//! The left side of a comparison: a field, or what is made of its values.

use std::borrow::Cow;

use super::field::Field;
use super::subject::Subject;
use super::value::Value;

/// A field, with what is done to its values: first the function, then the slice.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) field: Field,
    pub(super) function: Option<Function>,
    /// Empty for the whole value.
    pub(super) slice: Vec<Range>,
}

/// A function of one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    /// The number of bytes.
    Length,
    /// ASCII letters in lower case.
    Lower,
    /// ASCII letters in upper case.
    Upper,
}

/// Some bytes of a text. Negative positions count from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: i64,
    pub(super) to: RangeEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeEnd {
    /// After so many bytes.
    After(i64),
    /// With the byte at this position.
    With(i64),
    /// At the end of the text.
    Last,
}

impl Operand {
    /// Calls `take` with each known value.
    pub(super) fn each(&self, subject: &Subject<'_>, take: &mut dyn FnMut(&Value<'_>)) {
        if self.function.is_none() && self.slice.is_empty() {
            return subject.each(&self.field, &mut |value| take(&value));
        }
        subject.each(&self.field, &mut |value| {
            let Value::Text(text) = value else { return };
            let text: Cow<'_, [u8]> = match self.function {
                None => text.into(),
                Some(Function::Lower) => text.to_ascii_lowercase().into(),
                Some(Function::Upper) => text.to_ascii_uppercase().into(),
                Some(Function::Length) => {
                    return take(&Value::Number(i64::try_from(text.len()).unwrap_or(i64::MAX)));
                }
            };
            if self.slice.is_empty() {
                take(&Value::Text(&text));
            } else {
                take(&Value::Text(&slice(&text, &self.slice)));
            }
        });
    }
}

/// Returns the bytes of these ranges, one after the other, up to the first range that the text does not have.
fn slice(text: &[u8], ranges: &[Range]) -> Vec<u8> {
    let parts = ranges.iter().map_while(|range| range.of(text));
    parts.flatten().copied().collect()
}

impl Range {
    fn of(self, text: &[u8]) -> Option<&[u8]> {
        let from = place(self.from, text)?;
        let end = match self.to {
            RangeEnd::After(bytes) => from.checked_add(usize::try_from(bytes).ok()?)?,
            RangeEnd::With(last) => place(last, text)?.checked_add(1)?,
            RangeEnd::Last => text.len(),
        };
        text.get(from..end).filter(|part| !part.is_empty())
    }
}

fn place(position: i64, text: &[u8]) -> Option<usize> {
    if position < 0 {
        let back = usize::try_from(position.unsigned_abs()).ok()?;
        text.len().checked_sub(back)
    } else {
        usize::try_from(position).ok()
    }
}

/// Reads a range as it is written between brackets: `3`, `0:4`, `:4`, `4:`, `2-3`.
pub(super) fn range(word: &str) -> Option<Range> {
    let number = |text: &str| -> Option<i64> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let value: i64 = digits
            .parse()
            .ok()
            .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        Some(if digits.len() == text.len() { value } else { -value })
    };
    if let Some((from, length)) = word.split_once(':') {
        let from = if from.is_empty() { 0 } else { number(from)? };
        let to = match length {
            "" => RangeEnd::Last,
            length => RangeEnd::After(number(length).filter(|&length| length > 0)?),
        };
        return Some(Range { from, to });
    }
    // The sign of the first number is not the one between two.
    let between = word.get(1..).and_then(|rest| rest.find('-')).map(|at| at + 1);
    Some(match between {
        Some(at) => Range {
            from: number(&word[..at])?,
            to: RangeEnd::With(number(&word[at + 1..])?),
        },
        None => Range {
            from: number(word)?,
            to: RangeEnd::After(1),
        },
    })
}

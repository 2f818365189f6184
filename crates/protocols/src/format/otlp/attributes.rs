//! Attributes of spans, resources and data points.

use std::borrow::Cow;

use super::messages::{AnyValue, KeyValue, List, Value};
use crate::limits::SPAN_ATTRIBUTE_BYTES;

/// Attributes in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    values: Vec<KeyValue>,
    /// A text was longer than it may be.
    pub(super) is_cut: bool,
}

impl Attributes {
    pub(super) fn text(&mut self, key: &str, text: &str) {
        let kept = floor(text, SPAN_ATTRIBUTE_BYTES);
        self.is_cut |= kept.len() < text.len();
        self.add(key, Value::Text(kept.to_owned()));
    }

    /// Adds captured bytes; what is not UTF-8 is replaced.
    pub(super) fn bytes(&mut self, key: &str, bytes: &[u8]) {
        self.text(key, &lossy(bytes));
    }

    pub(super) fn number(&mut self, key: &str, number: impl TryInto<i64>) {
        self.add(key, Value::Number(number.try_into().unwrap_or(i64::MAX)));
    }

    pub(super) fn list(&mut self, key: &str, texts: &[&str]) {
        let values = texts.iter().map(|text| any(Value::Text((*text).to_owned())));
        self.add(
            key,
            Value::List(List {
                values: values.collect(),
            }),
        );
    }

    fn add(&mut self, key: &str, value: Value) {
        self.values.push(KeyValue {
            key: key.to_owned(),
            value: Some(any(value)),
        });
    }

    pub(super) fn into_values(self) -> Vec<KeyValue> {
        self.values
    }
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// Returns captured bytes as text. Texts of protobuf must be UTF-8.
pub(super) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Cuts `text` to at most `bytes` bytes, between two characters.
pub(super) fn floor(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

//! The header and trailer fields of a message.

use super::field::{Field, FieldName, Kind};
use super::value::Value;
use crate::head::{Lines, split_field, split_head};
use crate::message::{Content, Field as Http2Field};

/// Calls `take` with each value of a header: only those of the message itself.
pub(super) fn each_header(content: &Content, field: &Field, take: &mut dyn FnMut(Value<'_>)) {
    let mut take = |value| match field.kind() {
        Kind::Number => decimal(value).map(Value::Number).into_iter().for_each(&mut *take),
        _ => take(Value::Text(value)),
    };
    match (content, field.name()) {
        (Content::Http1(message), FieldName::Header) => {
            let fields = split_head(&message.head).1.chain(Lines::of(&message.trailers));
            let is_named = |(name, _): &(&[u8], &[u8])| name.eq_ignore_ascii_case(field.header().as_bytes());
            fields
                .map(split_field)
                .filter(is_named)
                .for_each(|(_, value)| take(value));
        }
        (Content::Http2(message), name) => {
            let fields = message.fields.iter().chain(&message.trailers);
            match name {
                FieldName::Http2HeaderName => fields
                    .filter_map(|field| field.name.as_deref())
                    .for_each(&mut take),
                FieldName::Http2HeaderValue => {
                    fields
                        .filter_map(|field| field.value.as_deref())
                        .for_each(&mut take);
                }
                _ => values_of(fields, field.header().as_bytes()).for_each(&mut take),
            }
        }
        _ => {}
    }
}

/// Returns the values of the fields of that name.
pub(super) fn values_of<'a>(
    fields: impl Iterator<Item = &'a Http2Field>,
    name: &[u8],
) -> impl Iterator<Item = &'a [u8]> {
    fields.filter_map(move |field| {
        let is_named = field.name.as_deref()?.eq_ignore_ascii_case(name);
        field.value.as_deref().filter(|_| is_named)
    })
}

fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

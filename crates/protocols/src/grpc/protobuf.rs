//! Reads protobuf without its schema: field numbers, wire types and a guess at what the
//! length-delimited fields are.

use bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::limits::Limits;
use crate::message::{ProtobufField, ProtobufValue};

/// Returns the fields of `data`, or `None` if it cannot be read as protobuf up to its last byte.
/// Returns at most [`Limits::protobuf_fields`] fields over all levels, and
/// [`Limits::protobuf_depth`] levels: deeper fields are returned as bytes, fields beyond the count
/// are left out.
///
/// A length-delimited field is text if it is UTF-8 without control characters; otherwise a message
/// if it can be read as one; otherwise text if its only control characters are line ends and tabs;
/// otherwise bytes. A message that happens to be printable is therefore shown as text.
pub fn dump(data: &Bytes, limits: &Limits) -> Option<Vec<ProtobufField>> {
    let mut left = limits.protobuf_fields;
    message(data, limits.protobuf_depth, &mut left)
}

fn message(data: &Bytes, depth: usize, left: &mut usize) -> Option<Vec<ProtobufField>> {
    let mut fields = Vec::new();
    let mut rest = data.clone();
    while !rest.is_empty() && *left > 0 {
        *left -= 1;
        fields.push(field(&mut rest, depth, left)?);
    }
    Some(fields)
}

fn field(rest: &mut Bytes, depth: usize, left: &mut usize) -> Option<ProtobufField> {
    let (number, wire_type) = decode_key(rest).ok()?;
    let value = match wire_type {
        WireType::Varint => ProtobufValue::Varint(decode_varint(rest).ok()?),
        WireType::SixtyFourBit => ProtobufValue::Fixed64(rest.try_get_u64_le().ok()?),
        WireType::ThirtyTwoBit => ProtobufValue::Fixed32(rest.try_get_u32_le().ok()?),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
            if length > rest.len() {
                return None;
            }
            delimited(&rest.split_to(length), depth, left)
        }
        // Groups have been deprecated since before gRPC; their wire types are more often chance.
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    Some(ProtobufField { number, value })
}

fn delimited(data: &Bytes, depth: usize, left: &mut usize) -> ProtobufValue {
    let text = str::from_utf8(data).ok();
    if let Some(text) = text.filter(|text| !text.contains(char::is_control)) {
        return ProtobufValue::Text(text.to_owned());
    }
    let before = *left;
    if depth > 1
        && let Some(fields) = message(data, depth - 1, left)
    {
        return ProtobufValue::Message(fields);
    }
    // A failed attempt does not use up the count, because its fields are not kept.
    *left = before;
    let is_shown = |character: char| matches!(character, '\n' | '\r' | '\t') || !character.is_control();
    match text.filter(|text| text.chars().all(is_shown)) {
        Some(text) => ProtobufValue::Text(text.to_owned()),
        None => ProtobufValue::Bytes(data.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumped(data: &[u8]) -> Option<Vec<ProtobufField>> {
        dump(&Bytes::copy_from_slice(data), &Limits::default())
    }

    fn field_of(number: u32, value: ProtobufValue) -> ProtobufField {
        ProtobufField { number, value }
    }

    #[test]
    fn every_wire_type_is_read() {
        let data = b"\x08\x96\x01\x11\x01\0\0\0\0\0\0\0\x1d\x02\0\0\0\x22\x02hi\x2a\x02\x08\x01\x32\x01\xff";
        let inner = vec![field_of(1, ProtobufValue::Varint(1))];
        let expected = vec![
            field_of(1, ProtobufValue::Varint(150)),
            field_of(2, ProtobufValue::Fixed64(1)),
            field_of(3, ProtobufValue::Fixed32(2)),
            field_of(4, ProtobufValue::Text("hi".into())),
            field_of(5, ProtobufValue::Message(inner)),
            field_of(6, ProtobufValue::Bytes(Bytes::from_static(b"\xff"))),
        ];
        assert_eq!(dumped(data), Some(expected));
    }

    #[test]
    fn other_bytes_are_not_a_message() {
        assert_eq!(dumped(b"\x00\x01"), None, "field number 0");
        assert_eq!(dumped(b"\x0a\x05hi"), None, "cut off");
        assert_eq!(dumped(b"\x0b"), None, "a group");
        assert_eq!(dumped(b""), Some(vec![]));
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let mut nested = vec![0x08, 0x01];
        for _ in 0..40 {
            nested.splice(0..0, [0x0a, u8::try_from(nested.len()).unwrap()]);
        }
        let mut levels = 0;
        let mut fields = dumped(&nested).unwrap();
        while let ProtobufValue::Message(inner) = &fields[0].value {
            levels += 1;
            fields = inner.clone();
        }
        assert_eq!(levels, Limits::default().protobuf_depth - 1);
        let many = dumped(&[0x08, 0x01].repeat(10_000)).unwrap();
        assert_eq!(many.len(), Limits::default().protobuf_fields);
    }
}

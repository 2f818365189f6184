//! The values of parameters in MariaDB's message `COM_STMT_EXECUTE`, in the binary form of its documentation ("Binary
//! Protocol").
//!
//! A client sends the types of the values with a statement's first execution, and may leave them out later. A message
//! whose parts do not fill it exactly has no known values.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::{Buf, Bytes};
use ecapture_protocols::SqlParameter;

use crate::limits;

/// The number that stands for the statement prepared last.
const LAST_PREPARED: u32 = u32::MAX;

/// A prepared statement: the process, the connection, and the server's number of it.
type Key = (u32, u64, u32);

/// What clients have said of their prepared statements.
#[derive(Debug, Default)]
pub(super) struct Values {
    by_statement: HashMap<Key, Known>,
    /// Bytes of `by_statement`.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Known {
    types: Bytes,
    /// Values for its next execution were sent before it.
    are_apart: bool,
}

/// A type, and true if it has no sign.
type Type = (u8, bool);

impl Values {
    /// Takes the first bytes of `COM_STMT_SEND_LONG_DATA`: the next execution has not all of its values.
    pub(super) fn apart(&mut self, pid: u32, connection: u64, mut message: &[u8]) {
        if let Ok(number) = message.try_get_u32_le() {
            let key = (pid, connection, number);
            let mut known = self.forget(key);
            known.are_apart = true;
            self.remember(key, known);
        }
    }

    /// Returns the values in a whole message, of a statement with `count` parameters; none if they are not known.
    pub(super) fn executed(
        &mut self,
        pid: u32,
        connection: u64,
        mut message: Bytes,
        count: usize,
    ) -> Vec<SqlParameter> {
        let Ok(number) = message.try_get_u32_le() else {
            return Vec::new();
        };
        let key = (pid, connection, number);
        let known = self.forget(key);
        let Some((nulls, types)) = beginning(&mut message, count, known.types) else {
            return Vec::new();
        };
        if number != LAST_PREPARED {
            self.remember(
                key,
                Known {
                    types: types.clone(),
                    are_apart: false,
                },
            );
        }
        let values = values(message, &nulls, &types);
        values.filter(|_| !known.are_apart).unwrap_or_default()
    }

    fn forget(&mut self, key: Key) -> Known {
        let known = self.by_statement.remove(&key);
        if let Some(known) = &known {
            self.bytes -= cost(known);
        }
        known.unwrap_or_default()
    }

    fn remember(&mut self, key: Key, known: Known) {
        if self.bytes + cost(&known) > limits::SQL_TYPE_BYTES {
            self.by_statement.clear();
            self.bytes = 0;
        }
        self.bytes += cost(&known);
        self.by_statement.insert(key, known);
    }
}

fn cost(known: &Known) -> usize {
    size_of::<(Key, Known)>() + known.types.len()
}

/// What is between the number of the statement and the values: the flags, the number of executions, which values are
/// NULL, and the types, if they are not those of before.
fn beginning(message: &mut Bytes, count: usize, before: Bytes) -> Option<(Bytes, Bytes)> {
    const FLAGS_AND_EXECUTIONS: usize = 5;
    take(message, FLAGS_AND_EXECUTIONS)?;
    if count == 0 {
        return Some((Bytes::new(), Bytes::new()));
    }
    let nulls = take(message, count.div_ceil(8))?;
    let types = match message.try_get_u8().ok()? {
        0 => before,
        // A copy: it must not keep the whole message.
        1 => Bytes::copy_from_slice(&take(message, 2 * count)?),
        _ => return None,
    };
    (types.len() == 2 * count).then_some((nulls, types))
}

fn values(mut message: Bytes, nulls: &[u8], types: &[u8]) -> Option<Vec<SqlParameter>> {
    let mut values = Vec::with_capacity(types.len() / 2);
    for (index, kind) in types.as_chunks::<2>().0.iter().enumerate() {
        let is_null = nulls.get(index / 8)? >> (index % 8) & 1 == 1;
        values.push(if is_null || kind[0] == NULL {
            SqlParameter::Null
        } else {
            SqlParameter::Text(value(&mut message, (kind[0], kind[1] & UNSIGNED != 0))?)
        });
    }
    message.is_empty().then_some(values)
}

const NULL: u8 = 6;
const UNSIGNED: u8 = 0x80;

/// A value as text. `enum_field_types` of MariaDB.
fn value(message: &mut Bytes, (kind, is_unsigned): Type) -> Option<Bytes> {
    let text = match (kind, is_unsigned) {
        (1, false) => message.try_get_i8().ok()?.to_string(),
        (1, true) => message.try_get_u8().ok()?.to_string(),
        (2 | 13, false) => message.try_get_i16_le().ok()?.to_string(),
        (2 | 13, true) => message.try_get_u16_le().ok()?.to_string(),
        (3 | 9, false) => message.try_get_i32_le().ok()?.to_string(),
        (3 | 9, true) => message.try_get_u32_le().ok()?.to_string(),
        (8, false) => message.try_get_i64_le().ok()?.to_string(),
        (8, true) => message.try_get_u64_le().ok()?.to_string(),
        (4, _) => format!("{:?}", message.try_get_f32_le().ok()?),
        (5, _) => format!("{:?}", message.try_get_f64_le().ok()?),
        (7 | 10 | 12 | 14, _) => date(&with_length(message)?, kind == 10 || kind == 14)?,
        (11, _) => time(&with_length(message)?)?,
        (0 | 15 | 16 | 245..=255, _) => return with_length(message),
        _ => return None,
    };
    Some(Bytes::from(text))
}

/// Year, month, day; hour, minute, second; microseconds: what is zero at the end is left out.
fn date(mut bytes: &[u8], is_day: bool) -> Option<String> {
    let length = bytes.len();
    if !matches!(length, 0 | 4 | 7 | 11) {
        return None;
    }
    let year = bytes.try_get_u16_le().unwrap_or(0);
    let [month, day, hour, minute, second] = [(); 5].map(|()| bytes.try_get_u8().unwrap_or(0));
    let micros = bytes.try_get_u32_le().unwrap_or(0);
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if !is_day {
        let _infallible = write!(text, " {hour:02}:{minute:02}:{second:02}");
    }
    if micros != 0 {
        let _infallible = write!(text, ".{micros:06}");
    }
    Some(text)
}

/// Sign, days, hour, minute, second; microseconds.
fn time(mut bytes: &[u8]) -> Option<String> {
    let length = bytes.len();
    if !matches!(length, 0 | 8 | 12) {
        return None;
    }
    let sign = if bytes.try_get_u8().unwrap_or(0) == 0 {
        ""
    } else {
        "-"
    };
    let days = bytes.try_get_u32_le().unwrap_or(0);
    let [hour, minute, second] = [(); 3].map(|()| bytes.try_get_u8().unwrap_or(0));
    let micros = bytes.try_get_u32_le().unwrap_or(0);
    let hours = u64::from(days) * 24 + u64::from(hour);
    let mut text = format!("{sign}{hours:02}:{minute:02}:{second:02}");
    if micros != 0 {
        let _infallible = write!(text, ".{micros:06}");
    }
    Some(text)
}

/// Bytes behind their length, which has one, three, four or nine bytes.
fn with_length(message: &mut Bytes) -> Option<Bytes> {
    let length = match message.try_get_u8().ok()? {
        short @ 0..=250 => u64::from(short),
        252 => u64::from(message.try_get_u16_le().ok()?),
        253 => message.try_get_uint_le(3).ok()?,
        254 => message.try_get_u64_le().ok()?,
        _ => return None,
    };
    take(message, usize::try_from(length).ok()?)
}

fn take(message: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= message.len()).then(|| message.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 1;
    const CONNECTION: u64 = 2;

    /// A message for statement `number`; without types as from a second execution.
    fn message(number: u32, nulls: &[u8], types: Option<&[u8]>, values: &[u8]) -> Bytes {
        let mut message = number.to_le_bytes().to_vec();
        message.extend([0, 1, 0, 0, 0]);
        message.extend(nulls);
        message.push(types.is_some().into());
        message.extend(types.unwrap_or_default());
        message.extend(values);
        Bytes::from(message)
    }

    fn text(value: &'static str) -> SqlParameter {
        SqlParameter::Text(Bytes::from_static(value.as_bytes()))
    }

    #[test]
    fn every_type_is_shown_as_text() {
        let cases: [(&[u8], &[u8], &'static str); 18] = [
            (&[1, 0], &[0xFF], "-1"),
            (&[1, UNSIGNED], &[0xFF], "255"),
            (&[2, 0], &[0xFE, 0xFF], "-2"),
            (&[13, UNSIGNED], &[0xE8, 0x07], "2024"),
            (&[3, 0], &[1, 0, 0, 0x80], "-2147483647"),
            (&[9, UNSIGNED], &[1, 0, 0, 0x80], "2147483649"),
            (&[8, 0], &[0xFF; 8], "-1"),
            (&[8, UNSIGNED], &[0xFF; 8], "18446744073709551615"),
            (&[4, 0], &[0, 0, 0xC0, 0x3F], "1.5"),
            (&[5, 0], &[0, 0, 0, 0, 0, 0, 0xF8, 0xBF], "-1.5"),
            (&[10, 0], &[4, 0xE8, 0x07, 2, 29], "2024-02-29"),
            (&[12, 0], &[0], "0000-00-00 00:00:00"),
            (
                &[7, 0],
                &[11, 0xE8, 0x07, 2, 29, 1, 2, 3, 4, 0, 0, 0],
                "2024-02-29 01:02:03.000004",
            ),
            (&[11, 0], &[8, 1, 1, 0, 0, 0, 2, 3, 4], "-26:03:04"),
            (
                &[11, 0],
                &[12, 0, 0, 0, 0, 0, 2, 3, 4, 5, 0, 0, 0],
                "02:03:04.000005",
            ),
            (&[253, 0], b"\x03abc", "abc"),
            (&[252, 0], b"\xfc\x03\0abc", "abc"),
            (&[246, 0], b"\xfd\x03\0\x001.5", "1.5"),
        ];
        for (kind, bytes, expected) in cases {
            let mut values = Values::default();
            let whole = message(7, &[0], Some(kind), bytes);
            let found = values.executed(PID, CONNECTION, whole.clone(), 1);
            assert_eq!(found, [text(expected)], "{kind:?}");
            for length in 0..whole.len() {
                let found = values.executed(PID, CONNECTION, whole.slice(..length), 1);
                assert_eq!(found, [], "{kind:?}, {length} bytes");
            }
        }
    }

    #[test]
    fn types_are_remembered_for_each_statement_of_each_connection() {
        let mut values = Values::default();
        let types: &[u8] = &[253, 0, 3, 0];
        let first = message(7, &[0b10], Some(types), b"\x01a");
        assert_eq!(
            values.executed(PID, CONNECTION, first, 2),
            [text("a"), SqlParameter::Null]
        );
        let second = || message(7, &[0], None, b"\x01b\x05\0\0\0");
        assert_eq!(
            values.executed(PID, CONNECTION, second(), 2),
            [text("b"), text("5")]
        );
        assert_eq!(values.executed(PID, CONNECTION + 1, second(), 2), []);
        let other = message(8, &[0], None, b"\x01b\x05\0\0\0");
        assert_eq!(values.executed(PID, CONNECTION, other, 2), []);
        // The number of parameters is another one, so it was misread: nothing is known from then on.
        assert_eq!(values.executed(PID, CONNECTION, second(), 3), []);
        assert_eq!(values.executed(PID, CONNECTION, second(), 2), []);
    }

    #[test]
    fn values_that_were_sent_apart_are_not_guessed() {
        let mut values = Values::default();
        let types: &[u8] = &[252, 0, 1, 0];
        values.apart(PID, CONNECTION, &7_u32.to_le_bytes());
        // The second value alone, which would be an empty first value and nothing.
        let one = message(7, &[0], Some(types), b"\x00\x01");
        assert_eq!(values.executed(PID, CONNECTION, one, 2), []);
        let both = message(7, &[0], None, b"\x01a\x05");
        assert_eq!(values.executed(PID, CONNECTION, both, 2), [text("a"), text("5")]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut values = Values::default();
        let types = [1, 0].repeat(1000);
        for number in 0..10_000 {
            let ones = message(number, &[0; 125], Some(&types), &[1; 1000]);
            assert_eq!(values.executed(PID, CONNECTION, ones, 1000).len(), 1000);
            assert!(values.bytes <= limits::SQL_TYPE_BYTES);
        }
        let kept: usize = values.by_statement.values().map(cost).sum();
        assert_eq!(kept, values.bytes);
    }

    #[test]
    fn the_statement_prepared_last_is_not_remembered() {
        let mut values = Values::default();
        let first = message(LAST_PREPARED, &[0], Some(&[1, 0]), &[5]);
        assert_eq!(values.executed(PID, CONNECTION, first, 1), [text("5")]);
        let second = message(LAST_PREPARED, &[0], None, &[5]);
        assert_eq!(values.executed(PID, CONNECTION, second, 1), []);
    }
}

//! The trace that a request says it belongs to: W3C Trace Context, `traceparent` and `tracestate`.

use crate::limits::{TRACESTATE_BYTES, TRACESTATE_MEMBERS};

/// The position of a request in a trace, as its sender wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TraceContext {
    pub(super) trace_id: [u8; 16],
    /// The sender's span.
    pub(super) parent_id: [u8; 8],
    pub(super) flags: u8,
    /// Empty if there is none, or none that may be passed on.
    pub(super) state: String,
}

impl TraceContext {
    /// Reads the fields of a request. `None` if there is no `traceparent`, more than one, or one that breaks the
    /// rules (W3C Trace Context §3.2): then the request belongs to no known trace.
    pub(super) fn read<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<Self> {
        let mut parent = None;
        let mut state = State::default();
        for (name, value) in fields {
            if name.eq_ignore_ascii_case(b"traceparent") {
                if parent.replace(value).is_some() {
                    return None;
                }
            } else if name.eq_ignore_ascii_case(b"tracestate") {
                state.add(value);
            }
        }
        let (trace_id, parent_id, flags) = parse_parent(parent?)?;
        Some(Self {
            trace_id,
            parent_id,
            flags,
            state: state.joined(),
        })
    }
}

/// `VERSION-TRACEID-PARENTID-FLAGS` in lower-case hexadecimal digits. A later version may have more after it.
fn parse_parent(value: &[u8]) -> Option<([u8; 16], [u8; 8], u8)> {
    let (head, rest) = value.split_at_checked(55)?;
    let separators = [head[2], head[35], head[52]];
    let [version] = hexadecimal(&head[..2])?;
    let is_framed = match version {
        0xFF => false,
        0 => rest.is_empty(),
        _ => rest.is_empty() || rest[0] == b'-',
    };
    let trace_id: [u8; 16] = hexadecimal(&head[3..35])?;
    let parent_id: [u8; 8] = hexadecimal(&head[36..52])?;
    let [flags] = hexadecimal(&head[53..55])?;
    let is_valid = is_framed && separators == [b'-'; 3] && trace_id != [0; 16] && parent_id != [0; 8];
    is_valid.then_some((trace_id, parent_id, flags))
}

fn hexadecimal<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// The members of all `tracestate` fields, in order.
#[derive(Default)]
struct State {
    members: Vec<String>,
    bytes: usize,
    is_refused: bool,
}

impl State {
    fn add(&mut self, value: &[u8]) {
        let is_printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
        self.is_refused |= !value.iter().all(is_printable) || self.bytes + value.len() > TRACESTATE_BYTES;
        if self.is_refused {
            return;
        }
        self.bytes += value.len() + 1;
        let value = String::from_utf8_lossy(value);
        let members = value
            .split(',')
            .map(str::trim)
            .filter(|member| !member.is_empty());
        for member in members {
            self.is_refused |= !member.contains('=') || self.members.len() >= TRACESTATE_MEMBERS;
            self.members.push(member.to_owned());
        }
    }

    /// Nothing if a member breaks the rules: a part of it would mean something else (§3.3).
    fn joined(self) -> String {
        if self.is_refused {
            return String::new();
        }
        self.members.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    fn read(fields: &[(&str, &str)]) -> Option<TraceContext> {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        TraceContext::read(fields)
    }

    #[test]
    fn a_parent_is_read_by_the_rules() {
        for (value, flags) in [
            (format!("00-{TRACE}-{PARENT}-01"), Some(1)),
            (format!("00-{TRACE}-{PARENT}-00"), Some(0)),
            (format!("00-{TRACE}-{PARENT}-ff"), Some(255)),
            (format!("cc-{TRACE}-{PARENT}-01"), Some(1)),
            (format!("cc-{TRACE}-{PARENT}-01-what-comes-later"), Some(1)),
            (format!("cc-{TRACE}-{PARENT}-01."), None),
            (format!("00-{TRACE}-{PARENT}-01-more"), None),
            (format!("ff-{TRACE}-{PARENT}-01"), None),
            (format!("00-{}-{PARENT}-01", TRACE.to_uppercase()), None),
            (format!("00-{}-{PARENT}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{TRACE}-{PARENT}-1"), None),
            (format!("00-{TRACE}-{PARENT}-0x"), None),
            (format!("00_{TRACE}-{PARENT}-01"), None),
            (format!(" 00-{TRACE}-{PARENT}-01"), None),
            (String::new(), None),
            ("é".repeat(40), None),
        ] {
            let context = read(&[("Traceparent", &value)]);
            assert_eq!(context.as_ref().map(|context| context.flags), flags, "{value}");
            if let Some(context) = context {
                assert_eq!(context.trace_id[..3], [0x0A, 0xF7, 0x65]);
                assert_eq!(context.parent_id[..3], [0xB7, 0xAD, 0x6B]);
            }
        }
    }

    #[test]
    fn two_parents_are_none() {
        let parent = format!("00-{TRACE}-{PARENT}-01");
        assert_eq!(read(&[("traceparent", &parent), ("traceparent", &parent)]), None);
        assert_eq!(read(&[("tracestate", "a=1")]), None);
    }

    #[test]
    fn a_state_is_passed_on_whole_or_not_at_all() {
        let parent = format!("00-{TRACE}-{PARENT}-01");
        let many = (0..33)
            .map(|number| format!("k{number}=v"))
            .collect::<Vec<_>>()
            .join(",");
        for (states, expected) in [
            (vec!["a=1, b=2,", "c=3"], "a=1,b=2,c=3"),
            (vec!["a=1", "no member"], ""),
            (vec!["a=\u{1}"], ""),
            (vec![many.as_str()], ""),
            (vec![&*"a=".repeat(300)], ""),
        ] {
            let mut fields = vec![("traceparent", parent.as_str())];
            fields.extend(states.iter().map(|state| ("tracestate", *state)));
            assert_eq!(read(&fields).unwrap().state, expected, "{states:?}");
        }
    }
}

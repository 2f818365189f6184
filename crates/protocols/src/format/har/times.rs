//! The times of an entry.

use crate::format::exchange_lines::Line;
use crate::format::time;
use crate::message::Message;
use crate::write::push_number;

/// When an exchange began, in kernel time, and how long its phases took; in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) start: u64,
    pub(super) send: u64,
    pub(super) wait: u64,
    pub(super) receive: u64,
}

impl Times {
    /// Those of `line`, which `message` ends.
    pub(super) fn of(message: &Message, line: &Line<'_>) -> Self {
        let asked = line.asked();
        let request = match (line.request, asked) {
            (Some(request), _) => Some((request.first_ns, request.last_ns)),
            (None, Some(asked)) if asked.first_ns > 0 => {
                let last_ns = asked.end.map_or(asked.first_ns, |end| end.last_ns);
                Some((asked.first_ns, last_ns))
            }
            _ => None,
        };
        let response = line
            .response
            .map(|response| (response.first_ns, response.last_ns));
        Self::between(request, response, message.first_ns)
    }

    /// Nothing is counted twice: a response that begins before its request has ended ends the sending.
    fn between(request: Option<(u64, u64)>, response: Option<(u64, u64)>, otherwise_ns: u64) -> Self {
        let start = request.or(response).map_or(otherwise_ns, |(first, _)| first);
        let Some((asked_ns, sent_ns)) = request else {
            let receive = response.map_or(0, |(first, last)| last.saturating_sub(first));
            return Self {
                start,
                receive,
                ..Self::default()
            };
        };
        let Some((first_ns, last_ns)) = response else {
            return Self {
                start,
                send: sent_ns.saturating_sub(asked_ns),
                ..Self::default()
            };
        };
        let first_ns = first_ns.max(asked_ns);
        let sent_ns = sent_ns.clamp(asked_ns, first_ns);
        Self {
            start,
            send: sent_ns - asked_ns,
            wait: first_ns - sent_ns,
            receive: last_ns.saturating_sub(first_ns),
        }
    }

    /// Those of something that was seen at once.
    pub(super) fn at(start: u64) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }
}

/// Appends a time with microseconds: some readers know no more digits.
pub(super) fn push_time(nanoseconds: i64, out: &mut Vec<u8>) {
    time::push(nanoseconds, out);
    out.truncate(out.len() - "000Z".len());
    out.push(b'Z');
}

/// Appends nanoseconds in milliseconds, without loss.
pub(super) fn push_milliseconds(nanoseconds: u64, out: &mut Vec<u8>) {
    push_decimal(nanoseconds, 6, out);
}

/// Appends `number` with its last `digits` digits after the point.
pub(super) fn push_decimal(number: u64, digits: u32, out: &mut Vec<u8>) {
    let unit = 10_u64.pow(digits);
    push_number(number / unit, out);
    let mut rest = number % unit;
    if rest > 0 {
        out.push(b'.');
    }
    let mut unit = unit;
    while rest > 0 {
        unit /= 10;
        push_number(rest / unit, out);
        rest %= unit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_to_the_whole() {
        let times = |request, response| {
            let times = Times::between(request, response, 7);
            [times.start, times.send, times.wait, times.receive]
        };
        assert_eq!(times(Some((10, 15)), Some((40, 100))), [10, 5, 25, 60]);
        // The response begins while the request is sent, and ends before it.
        assert_eq!(times(Some((10, 150)), Some((40, 100))), [10, 30, 0, 60]);
        // Clocks that disagree.
        assert_eq!(times(Some((10, 20)), Some((5, 4))), [10, 0, 0, 0]);
        assert_eq!(times(None, Some((40, 100))), [40, 0, 0, 60]);
        assert_eq!(times(Some((10, 15)), None), [10, 5, 0, 0]);
        assert_eq!(times(None, None), [7, 0, 0, 0]);
    }

    #[test]
    fn milliseconds_are_exact() {
        for (nanoseconds, text) in [
            (0, "0"),
            (1, "0.000001"),
            (1_000_000, "1"),
            (1_050_000, "1.05"),
            (12_345_678_901, "12345.678901"),
        ] {
            let mut out = Vec::new();
            push_milliseconds(nanoseconds, &mut out);
            assert_eq!(out, text.as_bytes());
        }
    }
}

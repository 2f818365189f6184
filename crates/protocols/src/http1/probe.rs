//! Tells the start of a request or a response from anything else.

use crate::decoder::Detection;
use crate::limits::Limits;

/// Longer than any registered method.
const LONGEST_METHOD: usize = 32;

/// What every version of interest begins with.
pub(super) const VERSION: &[u8] = b"HTTP/1.";

/// `HTTP/1.`, a digit, a space, three digits and what may follow them (RFC 9112 §4).
pub(super) fn response(bytes: &[u8], _limits: &Limits) -> Detection {
    if let Some(answer) = prefix(bytes, VERSION) {
        return answer;
    }
    for (index, &byte) in bytes.iter().enumerate().take(13).skip(VERSION.len()) {
        let fits = match index {
            8 => byte == b' ',
            12 => matches!(byte, b' ' | b'\r' | b'\n'),
            7 => matches!(byte, b'0' | b'1'),
            _ => byte.is_ascii_digit(),
        };
        if !fits {
            return Detection::No;
        }
    }
    if bytes.len() < 13 {
        Detection::NeedMore
    } else {
        Detection::Yes
    }
}

/// A whole request line: a method in upper case, a target and `HTTP/1.x` (RFC 9112 §3), after
/// at most one empty line (§2.2).
pub(super) fn request(bytes: &[u8], _limits: &Limits) -> Detection {
    if matches!(bytes, b"\r") {
        return Detection::NeedMore;
    }
    let line = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let method = line.iter().take_while(|&&byte| is_method_byte(byte)).count();
    if method > LONGEST_METHOD {
        return Detection::No;
    }
    let Some(&after_method) = line.get(method) else {
        return Detection::NeedMore;
    };
    if method == 0 || after_method != b' ' {
        return Detection::No;
    }
    let rest = &line[method + 1..];
    let Some(target) = rest.iter().position(|&byte| byte <= b' ' || byte == 0x7F) else {
        return Detection::NeedMore;
    };
    if target == 0 || rest[target] != b' ' {
        Detection::No
    } else {
        version(&rest[target + 1..])
    }
}

/// `HTTP/1.`, a digit and the end of the line.
fn version(bytes: &[u8]) -> Detection {
    if let Some(answer) = prefix(bytes, VERSION) {
        return answer;
    }
    match &bytes[VERSION.len()..] {
        [b'0' | b'1', b'\r', b'\n', ..] | [b'0' | b'1', b'\n', ..] => Detection::Yes,
        [] | [b'0' | b'1'] | [b'0' | b'1', b'\r'] => Detection::NeedMore,
        _ => Detection::No,
    }
}

pub(super) const fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')
}

/// The answer as long as `bytes` are no longer than `expected` or do not begin with it.
pub(super) fn prefix(bytes: &[u8], expected: &[u8]) -> Option<Detection> {
    let compared = bytes.len().min(expected.len());
    if bytes[..compared] != expected[..compared] {
        Some(Detection::No)
    } else if bytes.len() < expected.len() {
        Some(Detection::NeedMore)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers for every prefix: need more until `decided`, then `answer`.
    fn check(probe: fn(&[u8], &Limits) -> Detection, bytes: &str, decided: usize, answer: Detection) {
        for len in 0..=bytes.len() {
            let expected = if len < decided {
                Detection::NeedMore
            } else {
                answer
            };
            let observed = probe(&bytes.as_bytes()[..len], &Limits::default());
            assert_eq!(observed, expected, "{:?}", &bytes[..len]);
        }
    }

    #[test]
    fn responses() {
        check(response, "HTTP/1.1 200 OK\r\n", 13, Detection::Yes);
        check(response, "HTTP/1.0 404\r\n", 13, Detection::Yes);
        check(response, "HTTP/2 200", 6, Detection::No);
        check(response, "HTTP/1.1 20x", 12, Detection::No);
        check(response, "GET / HTTP/1.1", 1, Detection::No);
    }

    #[test]
    fn requests() {
        check(request, "GET / HTTP/1.1\r\nx", 16, Detection::Yes);
        check(request, "M-SEARCH * HTTP/1.1\n", 20, Detection::Yes);
        check(request, "\r\nGET / HTTP/1.0\n", 17, Detection::Yes);
        check(request, "PRI * HTTP/2.0\r\n", 12, Detection::No);
        check(request, "EHLO example\r\n", 13, Detection::No);
        check(request, "MAIL FROM: <a>", 12, Detection::No);
        check(request, "get / HTTP/1.1", 1, Detection::No);
        check(request, "GET  / HTTP/1.1", 5, Detection::No);
        check(request, "GET / HTTP/1.1x", 15, Detection::No);
        check(request, &"A".repeat(40), 33, Detection::No);
    }
}

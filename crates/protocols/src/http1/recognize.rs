//! Recognizes the start of a request or a response.

use crate::decoder::Detection;

/// Longer than any registered method.
const LONGEST_METHOD: usize = 32;

/// Longest target with white space whose end is waited for.
const LONGEST_ODD_TARGET: usize = 8 * 1024;

/// The beginning of every supported version.
pub(super) const VERSION: &[u8] = b"HTTP/1.";

/// Recognizes a response: `HTTP/1.`, a digit, a space, three digits and what may follow them (RFC
/// 9112 §4), after at most one empty line.
pub(super) fn response(bytes: &[u8]) -> Detection {
    if matches!(bytes, b"\r") {
        return Detection::NeedMore;
    }
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
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

/// Recognizes a complete request line: a method, which is any token (RFC 9110 §9.1), a target and
/// `HTTP/1.x` (RFC 9112 §3), after at most one empty line (§2.2). A target that begins like one may
/// contain any byte except a line end.
pub(super) fn request(bytes: &[u8]) -> Detection {
    if matches!(bytes, b"\r") {
        return Detection::NeedMore;
    }
    let line = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let method = line
        .iter()
        .take(LONGEST_METHOD + 1)
        .take_while(|&&byte| is_token_byte(byte))
        .count();
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
    if target > 0 && rest[target] == b' ' {
        let plain = version(&rest[target + 1..]);
        if plain != Detection::No {
            return plain;
        }
    }
    if begins_target(&rest[..target]) {
        odd_target(rest)
    } else {
        Detection::No
    }
}

/// Recognizes the origin form, the absolute form and an authority with a port (RFC 9112 §3.2).
fn begins_target(text: &[u8]) -> bool {
    let digits_end = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let has_port = digits_end > 0 && text[..text.len() - digits_end].ends_with(b":");
    text.starts_with(b"/") || memchr::memmem::find(text, b"://").is_some() || has_port
}

/// Recognizes the rest of a request line whose target contains white space or control characters.
fn odd_target(rest: &[u8]) -> Detection {
    let Some(end) = memchr::memchr(b'\n', &rest[..rest.len().min(LONGEST_ODD_TARGET)]) else {
        return if rest.len() < LONGEST_ODD_TARGET {
            Detection::NeedMore
        } else {
            Detection::No
        };
    };
    let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
    let is_request = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
    if is_request { Detection::Yes } else { Detection::No }
}

/// Recognizes `HTTP/1.`, a digit and the end of the line.
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

/// Returns true for the characters of methods and field names (RFC 9110 §5.6.2).
pub(super) const fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

/// Returns the answer if `bytes` are not longer than `expected`, or do not begin with it.
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
    fn check(recognize: fn(&[u8]) -> Detection, bytes: &str, decided: usize, answer: Detection) {
        for len in 0..=bytes.len() {
            let expected = if len < decided {
                Detection::NeedMore
            } else {
                answer
            };
            let observed = recognize(&bytes.as_bytes()[..len]);
            assert_eq!(observed, expected, "{:?}", &bytes[..len]);
        }
    }

    #[test]
    fn responses() {
        check(response, "HTTP/1.1 200 OK\r\n", 13, Detection::Yes);
        check(response, "HTTP/1.0 404\r\n", 13, Detection::Yes);
        check(response, "\r\nHTTP/1.0 404\r\n", 15, Detection::Yes);
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
        check(request, "get / HTTP/1.1\r\n", 16, Detection::Yes);
        check(request, "X2-y /a bÿ HTTP/1.1\n", 21, Detection::Yes);
        check(request, "say /a b HTTP/2\n", 16, Detection::No);
        check(request, "GET  / HTTP/1.1", 5, Detection::No);
        check(request, "GET / HTTP/1.1x\n", 16, Detection::No);
        check(request, &"A".repeat(40), 33, Detection::No);
    }
}

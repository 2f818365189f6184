//! Finds the next message after bytes that belong to no message.

use bytes::Bytes;
use memchr::memmem;

use crate::decoder::Detection;
use crate::http1::head::{self, HeadScan, Side};
use crate::http1::recognize::{self, VERSION};
use crate::limits::Limits;

/// Longest start of a request line that is kept until its version is received.
const LONGEST_LINE_START: usize = 8 * 1024;

/// Methods that are recognised even directly after the last byte of something else.
const METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"PROPFIND",
    b"REPORT",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"PROPPATCH",
    b"SEARCH",
    b"PURGE",
];

/// Number of bytes of the longest of [`METHODS`].
const LONGEST_KNOWN: usize = 9;

/// Maximum number of times that a byte before an empty line is parsed, as part of the heads that
/// may end there.
const PARSES: usize = 16;

/// The beginning of the input after a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole, valid head.
    Head,
    /// A start line whose head has not ended.
    OpenHead,
    /// A possible beginning of a start line, or no bytes.
    Nothing,
}

/// Removes the bytes before the next complete, valid head from `input`; without one, all bytes
/// except a possible beginning of one. Returns the bytes removed, and what `input` begins with now.
///
/// Linear in the input: each empty line is searched for once, and ends all the heads that may have
/// begun after the previous one. At most [`PARSES`] times their bytes are parsed to try these
/// heads; after that only the last one is tried, which is the likeliest.
pub(super) fn next_head(input: &mut Bytes, side: Side, limits: &Limits) -> (Bytes, Next) {
    let limit = limits.http1_head_bytes;
    let mut from = 0;
    let mut ends = Ends::default();
    while let Some(start) = candidate(input, from, side) {
        from = start + 1;
        match recognize(&input[start..], side) {
            Detection::Yes => {}
            Detection::NeedMore => return (input.split_to(start), Next::Nothing),
            Detection::No => continue,
        }
        match ends.after(input, start) {
            None if input.len() - start <= limit => return (input.split_to(start), Next::OpenHead),
            // Heads that begin even further from the end are too long as well.
            None => from = from.max(input.len() - limit),
            Some(end) if end - start > limit => from = from.max(end - limit),
            Some(end) => {
                if head::parse(&input.slice(start..end), side, limits).is_some() {
                    return (input.split_to(start), Next::Head);
                }
                if !ends.may_parse_on(end - start) {
                    from = from.max(last_line(&input[..end]));
                }
            }
        }
    }
    let kept = input.len() - from - tail(&input[from..], side).min(input.len() - from);
    (input.split_to(from + kept), Next::Nothing)
}

/// The empty line that ends the heads under consideration.
#[derive(Default)]
struct Ends {
    /// Where the head of the first candidate ends.
    end: usize,
    /// No empty line follows.
    none: bool,
    /// Number of bytes that may still be parsed before `end`.
    left: usize,
}

impl Ends {
    /// Returns where a head that begins at `start` ends. `start` must not decrease from call to
    /// call.
    fn after(&mut self, input: &[u8], start: usize) -> Option<usize> {
        if self.none {
            return None;
        }
        if self.end <= start {
            match HeadScan::default().end(&input[start..]) {
                None => {
                    self.none = true;
                    return None;
                }
                Some(length) => {
                    self.end = start + length;
                    self.left = PARSES * length;
                }
            }
        }
        Some(self.end)
    }

    /// Notes that `bytes` before the end were parsed in vain. Returns false if only the last line
    /// may still be tried.
    fn may_parse_on(&mut self, bytes: usize) -> bool {
        self.left = self.left.saturating_sub(bytes);
        self.left > 0
    }
}

/// Returns the beginning of the last line that names a version.
fn last_line(input: &[u8]) -> usize {
    let version = memmem::rfind(input, VERSION).unwrap_or(0);
    memchr::memrchr(b'\n', &input[..version]).map_or(0, |newline| newline + 1)
}

/// Returns true if `bytes` begin with one of the well-known methods, or with the beginning of one.
pub(super) fn may_be_known_method(bytes: &[u8]) -> bool {
    // Nearly all other bytes are rejected here.
    match bytes.first() {
        None | Some(b'\r') => return true,
        Some(b'A'..=b'Z') => {}
        _ => return false,
    }
    // One byte more than the longest method: then it is not a known method.
    let start = &bytes[..bytes.len().min(LONGEST_KNOWN + 1)];
    let len = start
        .iter()
        .take_while(|&&byte| recognize::is_token_byte(byte))
        .count();
    if len > LONGEST_KNOWN {
        return false;
    }
    let method = &bytes[..len];
    let fits = |known: &&[u8]| *known == method || len == bytes.len() && known.starts_with(method);
    METHODS.iter().any(fits)
}

/// Finds the first text at or after `from` that looks like a start line.
fn candidate(input: &[u8], from: usize, side: Side) -> Option<usize> {
    match side {
        Side::Responses => memmem::find(&input[from..], VERSION).map(|offset| from + offset),
        Side::Requests => memmem::find_iter(&input[from..], VERSION)
            .find_map(|offset| line_start(&input[from..], offset))
            .map(|offset| from + offset),
    }
}

/// Returns the beginning of the request line whose version is at `version`.
fn line_start(input: &[u8], version: usize) -> Option<usize> {
    let target_end = version.checked_sub(1).filter(|&index| input[index] == b' ')?;
    let window = target_end.saturating_sub(LONGEST_LINE_START);
    let method_end = window + input[window..target_end].iter().rposition(|&byte| byte <= b' ')?;
    if input[method_end] != b' ' {
        return None;
    }
    let before = &input[..method_end];
    let run = before
        .iter()
        .rev()
        .take_while(|&&byte| recognize::is_token_byte(byte))
        .count();
    let method = &before[method_end - run..];
    // At the beginning of a line any method is accepted; elsewhere the preceding bytes may look
    // like part of one.
    let begins_line = run > 0 && before[..method_end - run].ends_with(b"\n");
    let known = METHODS
        .iter()
        .filter(|known| method.ends_with(known))
        .map(|known| known.len())
        .max();
    // Nor are there methods with small letters: they are the end of a text whose beginning is missing.
    let follows_text = known.is_some_and(|known| {
        let before = &method[..run - known];
        before
            .iter()
            .any(|byte| !matches!(byte, b'A'..=b'Z' | b'-' | b'_'))
    });
    let len = if begins_line && !follows_text {
        Some(run)
    } else {
        known
    };
    len.map(|len| method_end - len)
}

fn recognize(input: &[u8], side: Side) -> Detection {
    match side {
        Side::Requests => recognize::request(input),
        Side::Responses => recognize::response(input),
    }
}

/// Returns how many bytes at the end may be the beginning of a start line.
fn tail(input: &[u8], side: Side) -> usize {
    match side {
        Side::Responses => (1..VERSION.len())
            .rev()
            .find(|&len| input.ends_with(&VERSION[..len]))
            .unwrap_or(0),
        Side::Requests => {
            let window = &input[input.len().saturating_sub(LONGEST_LINE_START)..];
            let breaks = window.iter().enumerate().rev().filter(|(_, byte)| **byte <= b' ');
            // A start line has two spaces before its version is complete.
            breaks
                .map(|(index, _)| window.len() - index - 1)
                .nth(2)
                .unwrap_or(window.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(text: &'static str, side: Side) -> (usize, bool, usize) {
        let mut input = Bytes::from_static(text.as_bytes());
        let (removed, next) = next_head(&mut input, side, &Limits::default());
        (removed.len(), next == Next::Head, input.len())
    }

    #[test]
    fn a_whole_head_is_found_at_any_place() {
        let text = "rest of a bodyHTTP/1.1 200 OK\r\nA: b\r\n\r\nx";
        assert_eq!(search(text, Side::Responses), (14, true, text.len() - 14));
        let text = "{\"a\": 1}POST /x HTTP/1.1\r\nA: b\r\n\r\nx";
        assert_eq!(search(text, Side::Requests), (8, true, text.len() - 8));
        let text = "ABCGET / HTTP/1.0\r\n\r\n";
        assert_eq!(search(text, Side::Requests), (3, true, text.len() - 3));
        for (text, before) in [
            ("line\nlPOST / HTTP/1.1\r\n\r\n", 6),
            ("line\n3GET / HTTP/1.1\r\n\r\n", 6),
            ("line\nM-SEARCH * HTTP/1.1\r\n\r\n", 5),
            ("line\nBMOVE / HTTP/1.1\r\n\r\n", 5),
        ] {
            assert_eq!(
                search(text, Side::Requests),
                (before, true, text.len() - before),
                "{text}"
            );
        }
    }

    #[test]
    fn texts_that_only_look_like_a_head_are_skipped() {
        let text = "HTTP/1.1 is HTTP/1.1 20x HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(search(text, Side::Responses), (25, true, 19));
        let text = "say HTTP/1.1 or x GET HTTP/1.1\r\n\r\n";
        assert!(!search(text, Side::Requests).1);
    }

    #[test]
    fn a_possible_beginning_of_a_head_is_kept() {
        assert_eq!(search("abcHTT", Side::Responses), (3, false, 3));
        assert_eq!(
            search("abcHTTP/1.1 200 OK\r\nA:", Side::Responses),
            (3, false, 22 - 3)
        );
        assert_eq!(search("abc", Side::Responses), (3, false, 0));
        let (_, found, kept) = search("a b c d e GET /xyz", Side::Requests);
        assert!(!found && kept >= "GET /xyz".len());
    }

    /// 4,000 start lines without an empty line, and before one that ends a head of too many fields.
    #[test]
    fn an_empty_line_that_ends_many_heads_is_parsed_a_few_times() {
        let lines = "HTTP/1.1 200\n".repeat(4000);
        let mut input = Bytes::from(lines.clone());
        assert_eq!(
            next_head(&mut input, Side::Responses, &Limits::default()).1,
            Next::OpenHead
        );
        let fields = "a:b\n".repeat(1100);
        let mut input = Bytes::from(format!("{lines}{fields}\nHTTP/1.1 204 No Content\r\n\r\n"));
        let (_, next) = next_head(&mut input, Side::Responses, &Limits::default());
        assert_eq!((next, input.len()), (Next::Head, 27));
    }
}

//! Finds the next message after bytes that belong to none.

use bytes::{Buf, Bytes};
use memchr::memmem;

use crate::decoder::Detection;
use crate::http1::head::{self, HeadScan, Side};
use crate::http1::probe::{self, VERSION};
use crate::limits::Limits;

/// Longest start of a request line that is kept while its version has not come.
const LONGEST_LINE_START: usize = 8 * 1024;

/// Methods that are recognised where they follow the last byte of something else.
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

/// Removes from `input` what comes before the next whole, valid head; all of it but the
/// possible beginning of one, when there is none. Returns what was removed, and whether
/// `input` begins with a head now.
pub(super) fn next_head(input: &mut Bytes, side: Side, limits: &Limits) -> (Bytes, bool) {
    let mut from = 0;
    while let Some(start) = candidate(input, from, side) {
        match check(&input.slice(start..), side, limits) {
            Detection::Yes => return (input.split_to(start), true),
            Detection::NeedMore => return (input.split_to(start), false),
            Detection::No => from = start + 1,
        }
    }
    let kept = input.len() - from - tail(&input[from..], side).min(input.len() - from);
    (input.split_to(from + kept), false)
}

/// Where the first text at or after `from` stands that looks like a start line.
fn candidate(input: &[u8], from: usize, side: Side) -> Option<usize> {
    match side {
        Side::Responses => memmem::find(&input[from..], VERSION).map(|offset| from + offset),
        Side::Requests => memmem::find_iter(&input[from..], VERSION)
            .find_map(|offset| line_start(&input[from..], offset))
            .map(|offset| from + offset),
    }
}

/// Where the request line begins whose version is at `version`.
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
        .take_while(|&&byte| probe::is_method_byte(byte))
        .count();
    let method = &before[method_end - run..];
    // Where a line begins any method may stand, elsewhere what precedes it may look like one.
    let begins_line = run > 0 && before[..method_end - run].ends_with(b"\n");
    let known = METHODS
        .iter()
        .filter(|known| method.ends_with(known))
        .map(|known| known.len())
        .max();
    let len = if begins_line { Some(run) } else { known };
    len.map(|len| method_end - len)
}

fn check(input: &Bytes, side: Side, limits: &Limits) -> Detection {
    let probed = match side {
        Side::Requests => probe::request(input, limits),
        Side::Responses => probe::response(input, limits),
    };
    if probed != Detection::Yes {
        return probed;
    }
    match HeadScan::default().end(input) {
        Some(end) if end <= limits.http1_head_bytes => {
            let head = head::parse(&input.slice(..end), side, limits);
            if head.is_some() {
                Detection::Yes
            } else {
                Detection::No
            }
        }
        None if input.len() <= limits.http1_head_bytes => Detection::NeedMore,
        _ => Detection::No,
    }
}

/// How many bytes at the end may be the beginning of a start line.
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

/// Removes the empty lines that may stand before a start line (RFC 9112 §2.2).
pub(super) fn skip_empty_lines(input: &mut Bytes) {
    loop {
        match input[..] {
            [b'\r', b'\n', ..] => input.advance(2),
            [b'\n', ..] => input.advance(1),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(text: &'static str, side: Side) -> (usize, bool, usize) {
        let mut input = Bytes::from_static(text.as_bytes());
        let (removed, found) = next_head(&mut input, side, &Limits::default());
        (removed.len(), found, input.len())
    }

    #[test]
    fn a_whole_head_is_found_wherever_it_stands() {
        let text = "rest of a bodyHTTP/1.1 200 OK\r\nA: b\r\n\r\nx";
        assert_eq!(search(text, Side::Responses), (14, true, text.len() - 14));
        let text = "{\"a\": 1}POST /x HTTP/1.1\r\nA: b\r\n\r\nx";
        assert_eq!(search(text, Side::Requests), (8, true, text.len() - 8));
        let text = "ABCGET / HTTP/1.0\r\n\r\n";
        assert_eq!(search(text, Side::Requests), (3, true, text.len() - 3));
    }

    #[test]
    fn texts_that_only_look_like_one_are_passed_over() {
        let text = "HTTP/1.1 is HTTP/1.1 20x HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(search(text, Side::Responses), (25, true, 19));
        let text = "say HTTP/1.1 or x GET HTTP/1.1\r\n\r\n";
        assert!(!search(text, Side::Requests).1);
    }

    #[test]
    fn a_possible_beginning_is_kept() {
        assert_eq!(search("abcHTT", Side::Responses), (3, false, 3));
        assert_eq!(
            search("abcHTTP/1.1 200 OK\r\nA:", Side::Responses),
            (3, false, 22 - 3)
        );
        assert_eq!(search("abc", Side::Responses), (3, false, 0));
        let (_, found, kept) = search("a b c d e GET /xyz", Side::Requests);
        assert!(!found && kept >= "GET /xyz".len());
    }
}

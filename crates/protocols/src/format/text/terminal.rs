//! Makes captured text safe for a terminal.
//!
//! A peer chooses what a body contains, so on a terminal
//! - characters that steer it are shown as escapes: control characters except LF and TAB, DEL, C1,
//!   changes of the direction of writing, and bytes that are not UTF-8. A CR before an LF is left
//!   out;
//! - a captured line that begins like the header line or a mark is shown with a backslash before
//!   it. So a line that begins with a time, `PID:` or `[ecapture: ` is our own. If colours are on, these
//!   lines are coloured, and captured text is not, because escape sequences never pass.
//!
//! Output that goes elsewhere is written as captured.

use std::io::Write;

use super::heading::begins_with_time;
use crate::text::is_steering;

/// The beginnings of our own lines.
const OWN_LINES: [&str; 2] = ["PID:", "[ecapture:"];

/// Makes the text in `out` from `start` on safe for a terminal.
pub(super) fn make_harmless(out: &mut Vec<u8>, start: usize) {
    let text = &out[start..];
    let is_plain = |byte: &u8| matches!(byte, b'\t' | b'\n' | b' '..=b'~');
    if text.iter().all(is_plain) && !has_own_line(text) {
        return;
    }
    let text = out.split_off(start);
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        push_line(line, out);
    }
}

fn has_own_line(text: &[u8]) -> bool {
    text.split(|&byte| byte == b'\n').any(is_own_line)
}

/// Returns true if `line` looks like one of our own; characters without a width are ignored.
fn is_own_line(line: &[u8]) -> bool {
    let first = &line[..line.len().min(64)];
    let shown = String::from_utf8_lossy(first);
    let shown = shown.trim_start_matches(|character| is_steering(character) || is_invisible(character));
    OWN_LINES.iter().any(|own| shown.starts_with(own)) || begins_with_time(shown)
}

/// Returns true for characters that have no width and do not steer the terminal either.
const fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{34f}' | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

fn push_line(line: &[u8], out: &mut Vec<u8>) {
    if is_own_line(line) {
        out.push(b'\\');
    }
    let (line, end) = match line {
        [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] => (line, &b"\n"[..]),
        _ => (line, &b""[..]),
    };
    for chunk in line.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_character(character, out);
        }
        for byte in chunk.invalid() {
            // Writing to a vector cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.extend_from_slice(end);
}

fn push_character(character: char, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = match character {
        '\t' => write!(out, "\t"),
        '\0'..='\u{9f}' if is_steering(character) => write!(out, "\\x{:02x}", u32::from(character)),
        _ if is_steering(character) => write!(out, "\\u{{{:x}}}", u32::from(character)),
        _ => write!(out, "{character}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &[u8]) -> String {
        let mut out = b"before\n".to_vec();
        out.extend_from_slice(text);
        make_harmless(&mut out, 7);
        String::from_utf8(out).unwrap().split_off(7)
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(
            shown(b"A: \x1b]52;c;eA==\x07\r\n\r\nb\x9b2J \xc2\x9b2J\x7f\x08 \re"),
            "A: \\x1b]52;c;eA==\\x07\n\nb\\x9b2J \\x9b2J\\x7f\\x08 \\x0de"
        );
        assert_eq!(shown("\u{202e}abc \u{2066}".as_bytes()), "\\u{202e}abc \\u{2066}");
        assert_eq!(shown("caf\u{e9}\t\u{4f60}\n".as_bytes()), "caf\u{e9}\t\u{4f60}\n");
    }

    #[test]
    fn no_captured_line_begins_like_our_own() {
        let forged = "PID:1, Comm:sshd,\n[ecapture: 3 bytes lost]\nsee [ecapture: x]\n\u{200b}PID:2\n";
        assert_eq!(
            shown(forged.as_bytes()),
            "\\PID:1, Comm:sshd,\n\\[ecapture: 3 bytes lost]\nsee [ecapture: x]\n\\\u{200b}PID:2\n"
        );
        assert_eq!(shown(b"PID 1\n"), "PID 1\n");
        for forged in [
            "14:20:05.123456 sshd[1] <- 10.0.0.1:22\n",
            "2026-11-28T14:20:05.123456+01:00 -> PID:1\n",
            "123:20:05.123456 sshd[1]\n",
        ] {
            assert_eq!(shown(forged.as_bytes()), format!("\\{forged}"));
        }
        for other in [
            "14:20:05 up 3 days\n",
            "Date: 14:20:05.123456\n",
            "14:20:05.12345 x\n",
            "1:20:05.123456\n",
        ] {
            assert_eq!(shown(other.as_bytes()), other);
        }
    }
}

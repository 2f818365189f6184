//! The chunked transfer coding (RFC 9112 §7.1).
//!
//! ```text
//!              size line                     CRLF
//!   ──► Size ───────────► Data ──► DataEnd ───────► Size
//!         │ size 0
//!         ▼
//!      Trailers ── empty line ──► end
//! ```
//! In every state, a line that no recipient accepts ends the body as bad.

use bytes::{Buf, Bytes};
use memchr::memchr;

use crate::body::BodyBuilder;
use crate::http1::head::HeadScan;
use crate::limits::Limits;
use crate::text::trim_white_space;

/// Where a chunked body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunked {
    Size,
    Data {
        left: u64,
    },
    DataEnd,
    Trailers,
    /// The rest of a trailer section beyond its limit; `empty` is true if the current line is empty
    /// so far.
    LongTrailers {
        empty: bool,
    },
}

/// The point of a chunked body that the input reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The input begins with something that is not chunked framing.
    Bad,
    /// The end, with the trailer section without its empty line.
    End(Bytes),
    /// The beginning of a trailer section beyond its limit; the rest of it is skipped.
    Cut(Bytes),
    /// The end of such a section, after this many more bytes.
    CutEnd(usize),
    /// This many bytes of such a section; more follow.
    CutMore(usize),
    /// The rest of the input is the beginning of a line or of the trailer section.
    More,
}

impl Chunked {
    /// Moves content from `input` to `body`. Sets `odd` if recipients would read the framing of a
    /// line differently.
    pub(super) fn read(
        &mut self,
        input: &mut Bytes,
        body: &mut BodyBuilder,
        limits: &Limits,
        odd: &mut bool,
    ) -> Progress {
        loop {
            match self {
                Self::Data { left } => {
                    let piece = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                    body.push(&input.split_to(piece));
                    *left -= piece as u64;
                    if *left > 0 {
                        return Progress::More;
                    }
                    *self = Self::DataEnd;
                }
                Self::DataEnd => {
                    match input[..] {
                        [b'\r', b'\n', ..] => input.advance(2),
                        [b'\n', ..] => {
                            *odd = true;
                            input.advance(1);
                        }
                        [] | [b'\r'] => return Progress::More,
                        _ => return Progress::Bad,
                    }
                    *self = Self::Size;
                }
                Self::Size => match read_size_line(input, limits, odd) {
                    Line::More => return Progress::More,
                    Line::Bad => return Progress::Bad,
                    Line::Size(0) => *self = Self::Trailers,
                    Line::Size(left) => *self = Self::Data { left },
                },
                Self::Trailers => {
                    let progress = read_trailers(input, limits, odd);
                    if let Progress::Cut(kept) = &progress {
                        let last = memchr::memrchr(b'\n', kept).map_or(0, |last| last + 1);
                        let empty = matches!(kept[last..], [] | [b'\r']);
                        *self = Self::LongTrailers { empty };
                    }
                    return progress;
                }
                Self::LongTrailers { empty } => return pass_trailers(input, empty),
            }
        }
    }
}

enum Line {
    Bad,
    More,
    Size(u64),
}

fn read_size_line(input: &mut Bytes, limits: &Limits, odd: &mut bool) -> Line {
    let Some(end) = memchr(b'\n', &input[..input.len().min(limits.http1_chunk_line_bytes)]) else {
        let possible = input.iter().next().is_none_or(u8::is_ascii_hexdigit);
        let short = input.len() < limits.http1_chunk_line_bytes;
        return if possible && short { Line::More } else { Line::Bad };
    };
    let line = &input[..end];
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let Some(size) = hexadecimal(&text[..digits]) else {
        return Line::Bad;
    };
    // Only SP and HTAB may precede an extension (RFC 9112 §7.1.1), and nothing may follow the size
    // without one; many recipients treat more characters as white space.
    let rest = text[digits..].trim_ascii_start();
    if !rest.is_empty() && rest[0] != b';' {
        return Line::Bad;
    }
    let between = &text[digits..text.len() - rest.len()];
    let is_sound = between.is_empty() || !rest.is_empty() && trim_white_space(between).is_empty();
    let has_control = rest.iter().any(|&byte| byte != b'\t' && byte.is_ascii_control());
    *odd |= text.len() == line.len() || has_control || !is_sound;
    input.advance(end + 1);
    Line::Size(size)
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

fn read_trailers(input: &mut Bytes, limits: &Limits, odd: &mut bool) -> Progress {
    let empty_line = match input[..] {
        [b'\r', b'\n', ..] => Some(2),
        [b'\n', ..] => Some(1),
        [] | [b'\r'] => return Progress::More,
        _ => None,
    };
    if let Some(len) = empty_line {
        *odd |= len == 1;
        input.advance(len);
        return Progress::End(Bytes::new());
    }
    let mut scan = HeadScan::default();
    match scan.end(input) {
        Some(end) if end <= limits.http1_chunk_line_bytes => {
            *odd |= scan.has_bare_lf();
            let section = input.split_to(end);
            let text = section
                .strip_suffix(b"\r\n")
                .or_else(|| section.strip_suffix(b"\n"));
            Progress::End(section.slice(..text.map_or(end, <[u8]>::len)))
        }
        None if input.len() < limits.http1_chunk_line_bytes => Progress::More,
        _ => Progress::Cut(input.split_to(limits.http1_chunk_line_bytes.min(input.len()))),
    }
}

fn pass_trailers(input: &mut Bytes, empty: &mut bool) -> Progress {
    let before = input.len();
    while !input.is_empty() {
        match input.get_u8() {
            b'\n' if *empty => return Progress::CutEnd(before - input.len()),
            b'\n' => *empty = true,
            b'\r' => {}
            _ => *empty = false,
        }
    }
    Progress::CutMore(before)
}

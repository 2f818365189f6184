//! A head beyond its limit: its beginning is kept, and the rest is read for what frames the message.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memrchr};

use crate::http1::head::{self, Head, Side};
use crate::http1::recognize::VERSION;
use crate::limits::Limits;

/// Most bytes looked at of one line.
const LONGEST_LINE: usize = 8 * 1024;

/// Fields that say how the message is framed and how its content is to be read.
const TELLING: [&[u8]; 5] = [
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"transfer-encoding",
    b"upgrade",
];

/// A head that is being read. Holds at most its limit, one line, and as much again as a chunk line
/// may have.
pub(super) struct LongHead {
    /// The first bytes, as on the wire.
    kept: BytesMut,
    /// Length of all of it so far.
    length: u64,
    /// Start line and telling fields.
    telling: BytesMut,
    /// The beginning of the line under way, its length, and its last bytes.
    line: BytesMut,
    line_len: usize,
    tail: [u8; VERSION.len() + 2],
    /// The line before was taken into `telling`, so its folded rest is too.
    takes_folds: bool,
    /// Time of the event that brought the first byte.
    pub(super) start_ns: u64,
}

/// What became of a long head.
pub(super) struct Ended {
    /// Its first bytes.
    pub(super) kept: Bytes,
    /// Bytes that follow them and are not kept.
    pub(super) cut: usize,
    /// `None`: it is no head.
    pub(super) head: Option<Head>,
}

impl LongHead {
    pub(super) fn new(start_ns: u64) -> Self {
        Self {
            kept: BytesMut::new(),
            length: 0,
            telling: BytesMut::new(),
            line: BytesMut::new(),
            line_len: 0,
            tail: [0; VERSION.len() + 2],
            takes_folds: false,
            start_ns,
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.kept.len() + self.telling.len() + self.line.len()
    }

    /// Takes bytes up to the end of the head, which is an empty line. True when it is there.
    pub(super) fn read(&mut self, input: &mut Bytes, limits: &Limits) -> bool {
        while !input.is_empty() {
            let newline = memchr(b'\n', input);
            let piece = input.split_to(newline.map_or(input.len(), |end| end + 1));
            let room = limits.http1_head_bytes.saturating_sub(self.kept.len());
            self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
            self.length += piece.len() as u64;
            self.add_to_line(&piece);
            if newline.is_some() && self.end_line(limits) {
                return true;
            }
        }
        false
    }

    /// Reads what the telling lines say.
    pub(super) fn end(mut self, side: Side, limits: &Limits) -> Ended {
        self.telling.extend_from_slice(b"\r\n");
        let kept = self.kept.freeze();
        let cut = usize::try_from(self.length).unwrap_or(usize::MAX) - kept.len();
        let head = head::parse(&self.telling.freeze(), side, limits);
        Ended { kept, cut, head }
    }

    fn add_to_line(&mut self, piece: &[u8]) {
        let room = LONGEST_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
        self.line_len += piece.len();
        for &byte in &piece[piece.len().saturating_sub(2 * self.tail.len())..] {
            if !matches!(byte, b'\r' | b'\n') {
                self.tail.rotate_left(1);
                self.tail[VERSION.len() + 1] = byte;
            }
        }
    }

    /// Keeps the line if it tells something. True for the empty line.
    fn end_line(&mut self, limits: &Limits) -> bool {
        let line = std::mem::take(&mut self.line);
        let whole = std::mem::take(&mut self.line_len) == line.len();
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            return true;
        }
        let is_start_line = self.telling.is_empty();
        let is_fold = matches!(text[0], b' ' | b'\t');
        self.takes_folds = is_start_line || if is_fold { self.takes_folds } else { tells(text) };
        if self.takes_folds && self.telling.len() + text.len() <= LONGEST_LINE + limits.http1_chunk_line_bytes
        {
            if is_start_line && !whole {
                self.add_long_start_line(text);
            } else {
                self.telling.extend_from_slice(text);
            }
            self.telling.extend_from_slice(b"\r\n");
        }
        false
    }

    /// Of a request line only the method and the version matter.
    fn add_long_start_line(&mut self, text: &[u8]) {
        let method = memchr(b' ', text).map_or(&[][..], |end| &text[..end]);
        let version = memrchr(b' ', &self.tail).map_or(&[][..], |space| &self.tail[space + 1..]);
        if text.starts_with(VERSION) {
            self.telling.extend_from_slice(text);
        } else {
            self.telling.extend_from_slice(method);
            self.telling.extend_from_slice(b" / ");
            self.telling.extend_from_slice(version);
        }
    }
}

fn tells(line: &[u8]) -> bool {
    let name = &line[..memchr(b':', line).unwrap_or(0)];
    TELLING
        .iter()
        .any(|telling| name.trim_ascii_end().eq_ignore_ascii_case(telling))
}

/// Removes the empty lines at the start of `input` and gives them (RFC 9112 §2.2).
pub(super) fn take_empty_lines(input: &mut Bytes) -> Bytes {
    let mut rest = input.clone();
    loop {
        match rest[..] {
            [b'\r', b'\n', ..] => rest.advance(2),
            [b'\n', ..] => rest.advance(1),
            _ => return input.split_to(input.len() - rest.len()),
        }
    }
}

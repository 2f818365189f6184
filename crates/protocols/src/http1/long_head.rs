//! A head beyond its limit: its beginning is kept, and the rest is read for what frames the message.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memrchr};

use crate::http1::head::{self, Head, Side};
use crate::http1::recognize::VERSION;
use crate::limits::Limits;

/// Maximum number of bytes examined of one line.
const LONGEST_LINE: usize = 8 * 1024;

/// Fields that determine how the message is framed and how its content is read.
const FRAMING_FIELDS: [&[u8]; 5] = [
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"transfer-encoding",
    b"upgrade",
];

/// A head that is being read. Holds at most the limit of a head, one line, and the limit of a chunk
/// line.
pub(super) struct LongHead {
    /// The first bytes, as on the wire.
    kept: BytesMut,
    /// Length of the head so far.
    length: u64,
    /// Start line and framing fields.
    framing: BytesMut,
    /// The beginning of the current line, its length, and its last bytes.
    line: BytesMut,
    line_len: usize,
    tail: [u8; VERSION.len() + 2],
    /// The previous line was copied to `framing`, so its folded continuation is too.
    takes_folds: bool,
    /// Time of the event that brought the first byte.
    pub(super) start_ns: u64,
}

/// The result of a long head.
pub(super) struct Ended {
    /// Its first bytes.
    pub(super) kept: Bytes,
    /// Number of bytes after them that are not kept.
    pub(super) cut: usize,
    /// `None` if it is not a head.
    pub(super) head: Option<Head>,
}

impl LongHead {
    pub(super) fn new(start_ns: u64) -> Self {
        Self {
            kept: BytesMut::new(),
            length: 0,
            framing: BytesMut::new(),
            line: BytesMut::new(),
            line_len: 0,
            tail: [0; VERSION.len() + 2],
            takes_folds: false,
            start_ns,
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.kept.len() + self.framing.len() + self.line.len()
    }

    /// Takes bytes up to the end of the head, which is an empty line. Returns true if it was
    /// reached.
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

    /// Ends the head and parses its framing lines.
    pub(super) fn end(mut self, side: Side, limits: &Limits) -> Ended {
        self.framing.extend_from_slice(b"\r\n");
        let kept = self.kept.freeze();
        let cut = usize::try_from(self.length).unwrap_or(usize::MAX) - kept.len();
        let head = head::parse(&self.framing.freeze(), side, limits);
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

    /// Keeps the line if it determines framing. Returns true for the empty line.
    fn end_line(&mut self, limits: &Limits) -> bool {
        let line = std::mem::take(&mut self.line);
        let whole = std::mem::take(&mut self.line_len) == line.len();
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            return true;
        }
        let is_start_line = self.framing.is_empty();
        let is_fold = matches!(text[0], b' ' | b'\t');
        self.takes_folds = is_start_line
            || if is_fold {
                self.takes_folds
            } else {
                frames_message(text)
            };
        if self.takes_folds && self.framing.len() + text.len() <= LONGEST_LINE + limits.http1_chunk_line_bytes
        {
            if is_start_line && !whole {
                self.add_long_start_line(text);
            } else {
                self.framing.extend_from_slice(text);
            }
            self.framing.extend_from_slice(b"\r\n");
        }
        false
    }

    /// Adds a long start line: only the method and the version of a request line matter.
    fn add_long_start_line(&mut self, text: &[u8]) {
        let method = memchr(b' ', text).map_or(&[][..], |end| &text[..end]);
        let version = memrchr(b' ', &self.tail).map_or(&[][..], |space| &self.tail[space + 1..]);
        if text.starts_with(VERSION) {
            self.framing.extend_from_slice(text);
        } else {
            self.framing.extend_from_slice(method);
            self.framing.extend_from_slice(b" / ");
            self.framing.extend_from_slice(version);
        }
    }
}

fn frames_message(line: &[u8]) -> bool {
    let name = &line[..memchr(b':', line).unwrap_or(0)];
    FRAMING_FIELDS
        .iter()
        .any(|field| name.trim_ascii_end().eq_ignore_ascii_case(field))
}

/// Removes the empty lines at the start of `input` and returns them (RFC 9112 §2.2).
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

//! The output buffer that the per-protocol writers share.

use std::fmt::Arguments;
use std::io::Write;

use crate::format::audit;
use crate::format::text::terminal;
use crate::text::{cut_character, printable};
use crate::write::push_number;

/// The text of one unit and the marks that follow it.
pub(super) struct Page<'a> {
    out: &'a mut Vec<u8>,
    /// Where this unit begins in `out`.
    start: usize,
    marks: Vec<u8>,
    whole_binary: bool,
}

impl<'a> Page<'a> {
    /// Begins a unit. See [`Page::whole_binary`] for `whole_binary`.
    pub(super) fn new(out: &'a mut Vec<u8>, whole_binary: bool) -> Self {
        Self {
            start: out.len(),
            out,
            marks: Vec::new(),
            whole_binary,
        }
    }

    /// Returns true if binary content is written complete and unchanged, because the text is dumped
    /// afterwards.
    pub(super) fn whole_binary(&self) -> bool {
        self.whole_binary
    }

    /// Appends captured bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends a decimal number.
    pub(super) fn number(&mut self, number: u32) {
        push_number(number.into(), self.out);
    }

    /// Appends formatted text.
    pub(super) fn text(&mut self, text: Arguments<'_>) {
        // Writing to a vector cannot fail.
        let _ = self.out.write_fmt(text);
    }

    /// Returns the output, for writers that append to it themselves.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// Ends the current line, if one is open.
    pub(super) fn end_line(&mut self) {
        if self.out.len() > self.start && self.out.last() != Some(&b'\n') {
            self.out.push(b'\n');
        }
    }

    /// Adds a line about the unit; it follows the unit's text and is never cut.
    pub(super) fn mark(&mut self, text: Arguments<'_>) {
        let start = self.marks.len();
        // Writing to a vector cannot fail.
        let _ = write!(self.marks, "[ecapture: {text}]");
        // A mark is one line, whatever captured text it contains.
        if !self.marks[start..].iter().all(|byte| matches!(byte, b' '..=b'~')) {
            let mark = self.marks.split_off(start);
            self.marks
                .extend_from_slice(printable(&String::from_utf8_lossy(&mark)).as_bytes());
        }
        self.marks.push(b'\n');
    }

    /// Keeps the first `limit` bytes of the unit's text, without the bytes of a character that they
    /// would cut.
    pub(super) fn truncate(&mut self, limit: usize) {
        let len = self.out.len() - self.start;
        if len > limit {
            let kept = limit - cut_character(&self.out[self.start..self.start + limit]);
            self.out.truncate(self.start + kept);
            self.mark(format_args!("truncated at {kept} of {len} bytes"));
        }
    }

    /// Colours the marks; captured text is never coloured on a terminal.
    pub(super) fn color_marks(&mut self, color: bool) {
        if color && !self.marks.is_empty() {
            let lines = self.marks.split_inclusive(|&byte| byte == b'\n');
            let colored = lines.map(|line| [b"\x1b[33m", line.trim_ascii_end(), b"\x1b[0m\n"].concat());
            self.marks = colored.collect::<Vec<_>>().concat();
        }
    }

    /// Makes the unit's text safe for a terminal.
    pub(super) fn make_harmless(&mut self) {
        terminal::make_harmless(self.out, self.start);
    }

    /// Keeps the unit's text from looking like the start of a file.
    pub(super) fn protect_audit(&mut self) {
        audit::protect_mark(self.out, self.start);
    }

    /// Ends the unit: its last line and its marks.
    pub(super) fn close(&mut self) {
        self.end_line();
        self.out.append(&mut self.marks);
    }

    /// Returns the marks, for a unit whose text is dumped before them.
    pub(super) fn into_marks(self) -> Vec<u8> {
        self.marks
    }
}

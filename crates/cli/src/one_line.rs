//! Logs whose messages are one line each, whatever foreign text they contain: paths, names of
//! processes, recordings.

use std::io::{self, Write};

use ecapture_protocols::printable;
use tracing_subscriber::fmt::MakeWriter;

/// Makes writers of `M` that take one message each.
pub(crate) struct OneLine<M> {
    inner: M,
    /// The messages are coloured: their own escape sequences pass. Those of others are escaped where
    /// the message is formatted.
    colored: bool,
}

impl<M> OneLine<M> {
    pub(crate) fn new(inner: M, colored: bool) -> Self {
        Self { inner, colored }
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for OneLine<M> {
    type Writer = Message<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Message {
            writer: self.inner.make_writer(),
            colored: self.colored,
        }
    }
}

/// Takes one message per call.
pub(crate) struct Message<W> {
    writer: W,
    colored: bool,
}

impl<W: Write> Write for Message<W> {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        self.writer.write_all(line(message, self.colored).as_bytes())?;
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

fn line(message: &[u8], colored: bool) -> String {
    let text = String::from_utf8_lossy(message);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let parts = text.split('\x1b').map(printable);
    let parts: Vec<_> = parts.collect();
    let separator = if colored { "\x1b" } else { "\\u{1b}" };
    parts.join(separator) + "\n"
}

/// A line of a log target that no event of tracing makes.
pub(crate) fn warning_line(message: &str) -> String {
    let line = serde_json::json!({
        "level": "WARN",
        "fields": { "message": message },
        "target": "ecapture",
    });
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(
            line(b"attached to `x`\n2026 WARN lost: 9 bytes\n", false),
            "attached to `x`\\n2026 WARN lost: 9 bytes\n"
        );
        assert_eq!(
            line(b"\x1b[2mINFO\x1b[0m a\rb\n", true),
            "\x1b[2mINFO\x1b[0m a\\rb\n"
        );
        assert_eq!(line(b"\x1b[2J\xc2\x9b\n", false), "\\u{1b}[2J\\u{9b}\n");
    }
}

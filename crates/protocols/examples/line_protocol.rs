//! A protocol from first byte to message: the smallest decoder that keeps the contract.
//!
//! It reads the replies of a line protocol like SMTP or FTP: three digits, then a space before the
//! last line of a reply or a hyphen before the others (RFC 5321 §4.2.1). Copy it to begin a protocol:
//!
//! 1. a folder `src/NAME/` with the decoder, what recognizes its first bytes, and its tests,
//! 2. one line in the table of `src/detect/table.rs`.
//!
//! A protocol whose messages say more than their bytes also gets a kind of
//! [`Content`] and a writer in each of `src/format/text` and `src/format/json_lines`; this one shows
//! every reply as [`Raw`] bytes.

use bytes::{Bytes, BytesMut};
use ecapture_protocols::decoder::{SkipReason, Skipped};
use ecapture_protocols::message::{Gap, Raw};
use ecapture_protocols::{Content, Detection, Limits, Message, Options, Output, PeerNotice, StreamDecoder};

fn main() {
    let mut decoder = ReplyDecoder::new(Options::default());
    let mut output = Output::default();
    decoder.feed(
        &Bytes::from_static(b"220 ready\r\n250-mx.example\r\n250 SI"),
        1,
        &mut output,
    );
    decoder.feed(&Bytes::from_static(b"ZE\r\n"), 2, &mut output);
    assert_eq!(output.messages.len(), 2);
}

/// Decides whether these bytes begin a reply. Three values, because a prefix may not be enough.
pub fn detect(bytes: &[u8]) -> Detection {
    let is_code = |byte: &u8| byte.is_ascii_digit();
    match bytes {
        [b'2'..=b'5', code @ .., separator] if bytes.len() == 4 => {
            let is_reply = code.iter().all(is_code) && matches!(separator, b' ' | b'-');
            if is_reply { Detection::Yes } else { Detection::No }
        }
        [_, _, _, _, ..] => detect(&bytes[..4]),
        [b'2'..=b'5', code @ ..] if code.iter().all(is_code) => Detection::NeedMore,
        [] => Detection::NeedMore,
        _ => Detection::No,
    }
}

/// Decodes the replies of one direction. Holds at most one reply, up to
/// [`Limits::http1_head_bytes`]; a real protocol gets a limit of its own.
pub struct ReplyDecoder {
    limits: Limits,
    reply: BytesMut,
    /// Number of bytes of `reply` that are whole lines.
    lines: usize,
    first_ns: u64,
    last_ns: u64,
    /// Bytes were lost: the next reply starts after the next final line.
    lost: bool,
}

impl ReplyDecoder {
    /// Creates a decoder for a new stream.
    pub fn new(options: Options) -> Self {
        Self {
            limits: options.limits,
            reply: BytesMut::new(),
            lines: 0,
            first_ns: 0,
            last_ns: 0,
            lost: false,
        }
    }

    /// Ends the reply at the end of its last line.
    fn end_line(&mut self, output: &mut Output) {
        let line = &self.reply[self.lines..];
        let is_last = line.get(3) != Some(&b'-');
        self.lines = self.reply.len();
        if is_last {
            self.emit(output);
        }
    }

    fn emit(&mut self, output: &mut Output) {
        let data = self.reply.split().freeze();
        self.lines = 0;
        if data.is_empty() {
            return;
        }
        if std::mem::take(&mut self.lost) {
            // Every byte is emitted or counted under a name.
            output.skipped.push(Skipped {
                reason: SkipReason::Resync,
                bytes: data.len() as u64,
            });
            return;
        }
        output.messages.push(Message {
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            exchange: None,
            content: Content::Raw(Raw { data }),
        });
    }
}

impl StreamDecoder for ReplyDecoder {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        for line in payload.split_inclusive(|&byte| byte == b'\n') {
            if self.reply.is_empty() {
                self.first_ns = timestamp_ns;
            }
            self.last_ns = timestamp_ns;
            self.reply.extend_from_slice(line);
            if line.ends_with(b"\n") {
                self.end_line(output);
            }
            if self.reply.len() > self.limits.http1_head_bytes {
                self.emit(output);
            }
        }
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        self.emit(output);
        self.lost = true;
        output.messages.push(Message {
            first_ns: timestamp_ns,
            last_ns: timestamp_ns,
            exchange: None,
            content: Content::Gap(gap),
        });
    }

    fn notice(&mut self, _notice: &PeerNotice, _output: &mut Output) {}

    fn idle(&mut self, _output: &mut Output) {}

    fn close(&mut self, output: &mut Output) {
        self.emit(output);
    }

    fn buffered_bytes(&self) -> usize {
        self.reply.len()
    }
}

#[cfg(test)]
mod tests {
    use ecapture_protocols::message::GapReason;

    use super::*;

    const STREAM: &[u8] = b"220 ready\r\n250-mx.example\r\n250-SIZE\r\n250 HELP\r\n354 go\r\n";

    fn replies(output: &Output) -> Vec<Bytes> {
        let raw = |message: &Message| match &message.content {
            Content::Raw(raw) => Some(raw.data.clone()),
            _ => None,
        };
        output.messages.iter().filter_map(raw).collect()
    }

    #[test]
    fn every_split_gives_the_same_replies() {
        for cut in 0..=STREAM.len() {
            let mut decoder = ReplyDecoder::new(Options::default());
            let mut output = Output::default();
            for piece in [&STREAM[..cut], &STREAM[cut..]] {
                decoder.feed(&Bytes::copy_from_slice(piece), 1, &mut output);
            }
            decoder.close(&mut output);
            let expected: [&[u8]; 3] = [
                b"220 ready\r\n",
                b"250-mx.example\r\n250-SIZE\r\n250 HELP\r\n",
                b"354 go\r\n",
            ];
            assert_eq!(replies(&output), expected, "cut at {cut}");
        }
    }

    #[test]
    fn the_probe_decides_on_four_bytes() {
        for (bytes, expected) in [
            (&b""[..], Detection::NeedMore),
            (b"2", Detection::NeedMore),
            (b"220", Detection::NeedMore),
            (b"220 r", Detection::Yes),
            (b"250-", Detection::Yes),
            (b"GET", Detection::No),
            (b"2x", Detection::No),
            (b"2201", Detection::No),
        ] {
            assert_eq!(detect(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_gap_costs_the_reply_it_lies_in() {
        let mut decoder = ReplyDecoder::new(Options::default());
        let mut output = Output::default();
        decoder.feed(&Bytes::from_static(b"220 re"), 1, &mut output);
        let reason = GapReason::KernelLoss;
        decoder.gap(
            Gap {
                bytes: Some(3),
                reason,
            },
            2,
            &mut output,
        );
        decoder.feed(&Bytes::from_static(b"y\r\n354 go\r\n"), 3, &mut output);
        assert_eq!(replies(&output), [&b"220 re"[..], b"354 go\r\n"]);
        assert_eq!(output.skipped.len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut decoder = ReplyDecoder::new(Options::default());
        let mut output = Output::default();
        for _ in 0..100_000 {
            decoder.feed(&Bytes::from_static(b"250-endless\r\n"), 1, &mut output);
            assert!(decoder.buffered_bytes() <= Limits::default().http1_head_bytes);
        }
    }
}

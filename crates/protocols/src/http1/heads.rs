//! Reads the head of a message.

use bytes::{Buf, Bytes};
use memchr::memchr_iter;

use crate::decoder::{Detection, MethodClass, Output, SkipReason};
use crate::detect;
use crate::http1::decoder::{Http1Decoder, skip};
use crate::http1::head::{self, Head, HeadScan, Side, Upgrade};
use crate::http1::long_head::{self, Ended, LongHead};
use crate::http1::recognize;
use crate::http1::state::{Flow, State};
use crate::message::Anomaly;
use crate::raw;

/// The protocol that a request asks the connection to change to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Tunnel,
    Upgrade(Upgrade),
}

impl Asked {
    pub(super) fn by(head: &Head) -> Option<Self> {
        match head.method {
            MethodClass::Connect => Some(Self::Tunnel),
            MethodClass::Head | MethodClass::Other => head.upgrade.map(Self::Upgrade),
        }
    }
}

impl Http1Decoder {
    pub(super) fn read_head(&mut self, input: &mut Bytes, output: &mut Output) -> Flow {
        if matches!(input[..], [b'\r' | b'\n', ..]) {
            self.take_empty_lines(input, output);
        }
        // A single CR begins one more empty line.
        if matches!(input[..], [] | [b'\r']) {
            return Flow::NeedMore;
        }
        if let Some(asked) = self.asked {
            match Self::still_http1(asked, input) {
                Detection::Yes => {}
                Detection::NeedMore => return Flow::NeedMore,
                Detection::No => return self.hand_over_asked(asked),
            }
        }
        let limit = self.options.limits.http1_head_bytes;
        if self.scan.is_new()
            && let Some((head, end)) = head::parse_plain(input, self.side)
            && end <= limit
        {
            return self.begin_message(head, input.split_to(end), input, output);
        }
        match self.scan.end(input) {
            Some(end) if end <= limit => {
                let bare_lf = self.scan.has_bare_lf();
                self.scan = HeadScan::default();
                let bytes = input.slice(..end);
                let Some(mut head) = head::parse(&bytes, self.side, &self.options.limits) else {
                    let most = self.options.limits.http1_header_fields;
                    return if memchr_iter(b'\n', &bytes).count() > most {
                        self.begin_long_head()
                    } else {
                        self.begin_search(false, output)
                    };
                };
                input.advance(end);
                if bare_lf {
                    head.anomalies.push(Anomaly::BareLf);
                }
                self.begin_message(head, bytes, input, output)
            }
            None if self.recognize(input) == Detection::No => self.begin_search(false, output),
            None if input.len() <= limit => Flow::NeedMore,
            _ => self.begin_long_head(),
        }
    }

    /// Takes the empty lines that may precede a start line (RFC 9112 §2.2).
    pub(super) fn take_empty_lines(&mut self, input: &mut Bytes, output: &mut Output) {
        self.scan = HeadScan::default();
        let lines = long_head::take_empty_lines(input);
        self.empty_lines = if self.empty_lines.is_empty() {
            lines
        } else {
            Bytes::from([&self.empty_lines[..], &lines].concat())
        };
        if self.empty_lines.len() > self.options.limits.http1_chunk_line_bytes {
            raw::emit(
                std::mem::take(&mut self.empty_lines),
                self.start_ns,
                self.last_ns,
                output,
            );
        }
    }

    pub(super) fn begin_long_head(&mut self) -> Flow {
        self.scan = HeadScan::default();
        self.state.begin_long_head(LongHead::new(self.start_ns));
        Flow::Continue
    }

    pub(super) fn read_long_head(&mut self, input: &mut Bytes, output: &mut Output) -> Flow {
        let State::LongHead(long) = &mut self.state else {
            return Flow::Continue;
        };
        if !long.read(input, &self.options.limits) {
            return Flow::NeedMore;
        }
        self.start_ns = long.start_ns;
        match self.end_long_head(output) {
            Some((head, bytes)) => self.begin_message(head, bytes, input, output),
            None => self.begin_search(false, output),
        }
    }

    /// Ends a long head. Returns the part kept, if it is a head; otherwise it is emitted raw.
    pub(super) fn end_long_head(&mut self, output: &mut Output) -> Option<(Head, Bytes)> {
        let long = self.state.take_long_head()?;
        let start_ns = long.start_ns;
        let Ended { kept, cut, head } = long.end(self.side, &self.options.limits);
        skip(SkipReason::HeaderLimit, cut, output);
        let Some(mut head) = head else {
            raw::emit(kept, start_ns, self.last_ns, output);
            return None;
        };
        if cut > 0 {
            head.anomalies.push(Anomaly::HeadTooLong);
        }
        Some((head, kept))
    }

    /// Decides whether the bytes after a request that asked for another protocol are a further
    /// request: only the other direction knows the answer.
    pub(super) fn still_http1(asked: Asked, input: &[u8]) -> Detection {
        match (asked, input) {
            // The second byte of a masked frame; no method has such a byte.
            (Asked::Upgrade(Upgrade::WebSocket), [_, second, ..]) if *second >= 0x80 => Detection::No,
            _ => recognize::request(input),
        }
    }

    pub(super) fn hand_over_asked(&mut self, asked: Asked) -> Flow {
        self.hand_over_to(match asked {
            Asked::Tunnel => None,
            Asked::Upgrade(upgrade) => detect::upgraded(upgrade, self.side == Side::Requests),
        });
        Flow::Continue
    }
}

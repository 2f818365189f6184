//! The original's text format.
//!
//! A record is a header line and a text. A message that is complete in itself (HTTP/1, raw bytes)
//! is a record of its own; consecutive units of a stream (such as HTTP/2 frames and WebSocket
//! messages) share one. Every record ends with a newline. Remarks about captured text are lines of
//! the form `[ecapture: …]` after the unit that they belong to.

mod body;
mod fact;
mod grpc;
mod hex;
mod http1;
mod http2;
mod page;
mod raw;
mod sse;
mod terminal;
mod websocket;

use crate::decoder::View;
use crate::event::{Fact, JoinedLate, Origin, StreamOrigin};
use crate::format::text::page::Page;
use crate::format::{Format, Records};
use crate::message::{Content, Gap, GapReason, Message};
use crate::text::printable;
use crate::write::{push_address, push_hexadecimal, push_number};

/// The `--format text` writer.
#[derive(Debug, Clone, Default)]
pub struct Text {
    /// `--hex`: dump the formatted output.
    pub hex: bool,
    /// Colour the header line.
    pub color: bool,
    /// `--tsize`: cut each message after this many bytes.
    pub truncate: Option<usize>,
    /// The output is read on a terminal: captured text can neither steer it nor look like a header
    /// line or a mark (see [`terminal`]).
    pub terminal: bool,
    /// Show HTTP/2 as messages instead of frames.
    pub http2_messages: bool,
    /// Also what was observed about processes.
    pub facts: bool,
}

impl Format for Text {
    fn view(&self) -> View {
        if self.http2_messages {
            View::TextMessages
        } else {
            View::Text
        }
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        for record in Self::records(messages) {
            if let [
                Message {
                    content: Content::Fact(fact),
                    ..
                },
            ] = record
            {
                self.write_fact(origin, fact, out);
                continue;
            }
            self.write_header(origin, out.bytes());
            self.write_record(record, out.bytes());
            out.end(record.len());
        }
    }
}

impl Text {
    /// The messages of each record.
    pub(super) fn records(messages: &[Message]) -> impl Iterator<Item = &[Message]> {
        messages.chunk_by(|first, second| is_streamed(first) && is_streamed(second))
    }

    /// Writes a line without a header: a fact has no stream.
    fn write_fact(&self, origin: &Origin, fact: &Fact, out: &mut Records) {
        if !self.facts {
            return;
        }
        let mut page = Page::new(out.bytes(), false);
        fact::write(origin, fact, &mut page);
        page.color_marks(self.color);
        page.close();
        out.end(1);
    }

    fn write_header(&self, origin: &Origin, out: &mut Vec<u8>) {
        let (start, end) = if self.color {
            (&b"\x1b[36m"[..], &b"\x1b[0m"[..])
        } else {
            (&b""[..], &b""[..])
        };
        out.extend_from_slice(start);
        out.extend_from_slice(b"PID:");
        push_number(origin.process.pid.into(), out);
        out.extend_from_slice(b", Comm:");
        origin.process.comm.push_shown(out);
        if let Some(program) = other_name(origin) {
            out.extend_from_slice(b", Program:");
            out.extend_from_slice(printable(program).as_bytes());
        }
        if let Some(stream) = &origin.stream {
            write_addresses(stream, out);
        }
        out.push(b',');
        out.extend_from_slice(end);
        out.push(b'\n');
    }

    /// Appends a record without its header line.
    pub(super) fn write_record(&self, messages: &[Message], out: &mut Vec<u8>) {
        if !self.hex {
            for message in messages {
                self.write_page(message, Page::new(out, false));
            }
            return;
        }
        let mut text = Vec::new();
        let mut marks = Vec::new();
        for message in messages {
            let mut page = Page::new(&mut text, true);
            self.write_unit(message, &mut page);
            marks.append(&mut page.into_marks());
        }
        hex::dump(&text, out);
        out.extend_from_slice(&marks);
    }

    fn write_page(&self, message: &Message, mut page: Page<'_>) {
        self.write_unit(message, &mut page);
        if self.terminal {
            page.make_harmless();
        }
        page.color_marks(self.color);
        page.close();
    }

    fn write_unit(&self, message: &Message, page: &mut Page<'_>) {
        write_content(&message.content, page);
        if let Some(limit) = self.truncate {
            page.truncate(limit);
        }
    }
}

/// The addresses, or else what tells streams of one process apart.
fn write_addresses(stream: &StreamOrigin, out: &mut Vec<u8>) {
    match stream.socket.map(|socket| socket.tuple) {
        Some(tuple) => {
            out.extend_from_slice(b", Src:");
            push_address(tuple.source, out);
            out.extend_from_slice(b", Dest:");
            push_address(tuple.destination, out);
        }
        // The original has no sessions, so its recordings are printed as the original prints them.
        None if stream.session == 0 => out.extend_from_slice(b", Src::0, Dest::0"),
        None => {
            out.extend_from_slice(b", Src:unknown, Dest:unknown, Session:");
            push_hexadecimal(stream.session, out);
        }
    }
}

/// Returns the program's name if it differs from that of the thread: threads are named after their
/// program unless they set a name of their own.
fn other_name(origin: &Origin) -> Option<&str> {
    let program = origin.program.as_deref()?;
    let is_told = program.as_bytes().starts_with(origin.process.comm.as_bytes());
    (!is_told).then_some(program)
}

/// Returns true if the message is a unit of a stream and shares its record with its neighbours.
fn is_streamed(message: &Message) -> bool {
    match message.content {
        Content::Grpc(_)
        | Content::Http2(_)
        | Content::Http2Frame(_)
        | Content::ServerSentEvent(_)
        | Content::WebSocket(_) => true,
        Content::Fact(_) | Content::Gap(_) | Content::Http1(_) | Content::Raw(_) => false,
    }
}

fn write_content(content: &Content, page: &mut Page<'_>) {
    match content {
        // Has a record of its own.
        Content::Fact(_) => {}
        Content::Gap(gap) => write_gap(*gap, page),
        Content::Grpc(message) => grpc::write(message, page),
        Content::Http1(message) => http1::write(message, page),
        Content::Http2(message) => http2::write_message(message, page),
        Content::Http2Frame(frame) => http2::write_frame(frame, page),
        Content::Raw(raw) => raw::write(raw, page),
        Content::ServerSentEvent(event) => sse::write(event, page),
        Content::WebSocket(message) => websocket::write(message, page),
    }
}

fn write_gap(gap: Gap, page: &mut Page<'_>) {
    let reason = gap.reason.as_str();
    match (gap.reason, gap.bytes) {
        (GapReason::JoinedLate(JoinedLate::OpenBeforeCapture), _) => page.mark(format_args!(
            "shown from the middle: the connection was open before the capture began"
        )),
        (GapReason::JoinedLate(JoinedLate::BeforeProbes), _) => page.mark(format_args!(
            "its beginning may be missing: the connection was opened before the probes were attached"
        )),
        (GapReason::Quarantined, _) => page.mark(format_args!(
            "shown as captured from here: decoding this connection took too long"
        )),
        (_, Some(bytes)) => page.mark(format_args!("{bytes} bytes lost ({reason})")),
        (_, None) => page.mark(format_args!("bytes lost ({reason})")),
    }
}

#[cfg(test)]
mod tests;

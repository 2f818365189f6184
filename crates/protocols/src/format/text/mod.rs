//! The text format: the original's, or one for people at a terminal.
//!
//! A record is a header line and a text. A message that is complete in itself (HTTP/1, raw bytes)
//! is a record of its own; consecutive units of a stream (such as HTTP/2 frames and WebSocket
//! messages) share one. Every record ends with a newline. Remarks about captured text are lines of
//! the form `[ecapture: …]` after the unit that they belong to.

mod body;
mod fact;
mod grpc;
mod heading;
mod hex;
mod http1;
mod http2;
mod page;
mod raw;
mod shell;
mod sql;
mod sse;
mod terminal;
mod websocket;

use std::sync::Arc;

use super::audit::Audit;
use crate::decoder::View;
use crate::event::{Fact, JoinedLate, Origin, ProcessTls, ShellCommand, SqlQuery};
use crate::exchange::Pairing;
use crate::format::text::page::Page;
use crate::format::{Format, MessageEnd, Records};
use crate::message::{Content, Gap, GapReason, Message};

pub(super) use heading::write_terminal;
pub use heading::{Heading, WallClock};

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
    /// The line above each record.
    pub heading: Heading,
    /// `--time`: the line above a record has the time and the direction; on a terminal also the date.
    pub time: bool,
    /// How times are shown.
    pub clock: WallClock,
    /// Show HTTP/2 as messages instead of frames.
    pub http2_messages: bool,
    /// Also facts about processes.
    pub facts: bool,
    /// A message whose sender and receiver are both captured is shown once.
    pub joins: bool,
    /// The start of the file.
    pub audit: Option<Arc<Audit>>,
}

impl Format for Text {
    fn view(&self) -> View {
        if self.http2_messages {
            View::TextMessages
        } else {
            View::Text
        }
    }

    fn begin(&self, out: &mut Vec<u8>) {
        if let Some(audit) = &self.audit {
            audit.write_mark(out);
        }
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        let joins = self.joins && origin.stream.as_ref().is_some_and(|stream| stream.other_end);
        // Which units share a record depends on the calls of one end.
        for record in messages.chunk_by(|first, second| !joins && is_streamed(first) && is_streamed(second)) {
            let timestamp_ns = record.first().map_or(0, |message| message.first_ns);
            let start = out.bytes().len();
            let mut heading_end = start;
            match fact_of(record) {
                Some(Fact::Process(tls)) => {
                    self.write_process(origin, tls, out);
                    continue;
                }
                // Only formats for keys and packets show them.
                Some(Fact::Secret(_) | Fact::Packets(_)) => continue,
                Some(Fact::ShellCommand(command)) => {
                    self.write_command_header(origin, command, timestamp_ns, out.bytes());
                }
                Some(Fact::Sql(query)) => {
                    self.write_query_header(origin, query, timestamp_ns, out.bytes());
                }
                None => heading_end = self.write_header(origin, timestamp_ns, out.bytes()),
            }
            self.write_record(record, out.bytes());
            let end = record.first().filter(|_| joins);
            let end = end.and_then(|message| MessageEnd::of(origin, message));
            out.end_message(record.len(), end.map(|end| end.below(heading_end - start)));
        }
    }

    fn join_messages(&self, shown: (&MessageEnd, &[u8]), other: &MessageEnd, out: &mut Vec<u8>) {
        let (end, record) = shown;
        let (heading, text) = record.split_at(end.heading.min(record.len()));
        out.extend_from_slice(heading);
        heading::write_other_end(self.heading, end, other, out);
        out.extend_from_slice(text);
    }
}

impl Text {
    /// The messages of each record.
    pub(super) fn records(messages: &[Message]) -> impl Iterator<Item = &[Message]> {
        messages.chunk_by(|first, second| is_streamed(first) && is_streamed(second))
    }

    /// Writes a line without a header.
    fn write_process(&self, origin: &Origin, tls: &ProcessTls, out: &mut Records) {
        if !self.facts {
            return;
        }
        let mut page = Page::new(out.bytes(), false);
        fact::write(origin, tls, &mut page);
        page.color_marks(self.color);
        page.close();
        out.end(1);
    }

    /// Returns where the line above the record ends.
    fn write_header(&self, origin: &Origin, timestamp_ns: u64, out: &mut Vec<u8>) -> usize {
        self.write_heading(out, |out| match self.heading {
            Heading::Original => {
                let timed = self.time.then_some((self.clock, timestamp_ns));
                heading::write_original(origin, timed, out);
            }
            Heading::Terminal => {
                heading::write_terminal(origin, self.clock, timestamp_ns, self.time, out);
            }
        })
    }

    /// Writes the line above a command of a shell.
    pub(super) fn write_command_header(
        &self,
        origin: &Origin,
        command: &ShellCommand,
        timestamp_ns: u64,
        out: &mut Vec<u8>,
    ) {
        self.write_heading(out, |out| match self.heading {
            Heading::Original => {
                if self.time {
                    heading::write_time(self.clock, timestamp_ns, true, out);
                }
                shell::write_original(origin, command, out);
            }
            Heading::Terminal => {
                heading::write_terminal(origin, self.clock, timestamp_ns, self.time, out);
                shell::write_terminal(origin, command, out);
            }
        });
    }

    /// Writes the line above a statement of a database on a terminal, and in the original's form what is before its
    /// text in the same line.
    pub(super) fn write_query_header(
        &self,
        origin: &Origin,
        query: &SqlQuery,
        timestamp_ns: u64,
        out: &mut Vec<u8>,
    ) {
        match self.heading {
            Heading::Original => {
                if self.time {
                    heading::write_time(self.clock, timestamp_ns, true, out);
                }
                sql::write_original(origin, query, out);
                // A dump begins in a line of its own.
                if self.hex {
                    out.push(b'\n');
                }
            }
            Heading::Terminal => {
                self.write_heading(out, |out| {
                    heading::write_terminal(origin, self.clock, timestamp_ns, self.time, out);
                    sql::write_terminal(query, out);
                });
            }
        }
    }

    /// Returns where something can be added to the line.
    fn write_heading(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        if self.color {
            out.extend_from_slice(b"\x1b[36m");
        }
        write(out);
        let end = out.len();
        if self.color {
            out.extend_from_slice(b"\x1b[0m");
        }
        out.push(b'\n');
        end
    }

    /// Appends a record of a stream without its header line.
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
        } else if self.audit.is_some() {
            page.protect_audit();
        }
        page.color_marks(self.color);
        page.close();
    }

    fn write_unit(&self, message: &Message, page: &mut Page<'_>) {
        write_content(&message.content, page);
        let exchange = message.exchange.as_ref();
        if exchange.is_some_and(|exchange| exchange.pairing == Some(Pairing::Undecided)) {
            page.mark(format_args!(
                "not decided by the filter: its response came too late"
            ));
        }
        if let Some(limit) = self.truncate {
            page.truncate(limit);
        }
    }
}

/// The fact that a record is, if it is one.
pub(super) fn fact_of(record: &[Message]) -> Option<&Fact> {
    match record {
        [
            Message {
                content: Content::Fact(fact),
                ..
            },
        ] => Some(fact),
        _ => None,
    }
}

/// Returns true if the message is a unit of a stream and shares its record with its neighbours.
fn is_streamed(message: &Message) -> bool {
    match message.content {
        Content::Grpc(_)
        | Content::Http2(_)
        | Content::Http2Frame(_)
        | Content::ServerSentEvent(_)
        | Content::WebSocket(_) => true,
        Content::Fact(_) | Content::Gap(_) | Content::Http1(_) | Content::Raw(_) | Content::Unanswered => {
            false
        }
    }
}

fn write_content(content: &Content, page: &mut Page<'_>) {
    match content {
        Content::Fact(fact) => match &**fact {
            // Is written without a page of its own, or not at all.
            Fact::Process(_) | Fact::Secret(_) | Fact::Packets(_) => {}
            Fact::ShellCommand(command) => shell::write(command, page),
            Fact::Sql(query) => sql::write(query, page),
        },
        Content::Gap(gap) => write_gap(*gap, page),
        Content::Grpc(message) => grpc::write(message, page),
        Content::Http1(message) => http1::write(message, page),
        Content::Http2(message) => http2::write_message(message, page),
        Content::Http2Frame(frame) => http2::write_frame(frame, page),
        Content::Raw(raw) => raw::write(raw, page),
        Content::ServerSentEvent(event) => sse::write(event, page),
        // Views of text do not pair.
        Content::Unanswered => page.mark(format_args!("a request had no response")),
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
        (GapReason::Redacted | GapReason::Privacy, Some(bytes)) => {
            page.mark(format_args!("{bytes} bytes left out ({reason})"));
        }
        (_, Some(bytes)) => page.mark(format_args!("{bytes} bytes lost ({reason})")),
        (_, None) => page.mark(format_args!("bytes lost ({reason})")),
    }
}

#[cfg(test)]
mod tests;

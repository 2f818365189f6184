//! A line for each exchange, for people.
//!
//! ```text
//! 14:20:05.123456 curl[71113] -> 127.0.0.1:8443 GET https://127.0.0.1:8443/hello.json 200 0 -> 38 B 1.654 ms
//! ```
//!
//! The line is written when the response is complete. `->` means that the process sent the request.
//! The bytes are those of the bodies on the wire. The time is from the request's first byte to the
//! response's last one; there is none if either is not known. Where both ends are captured, the line is the
//! client's, and the server's process and time follow, with the difference:
//!
//! ```text
//! 14:20:05.123456 curl[71113] -> 127.0.0.1:8443 GET https://127.0.0.1:8443/hello.json 200 0 -> 38 B 1.654 ms, nginx[812] 0.402 ms (+1.252 ms)
//! ```

use std::io::Write as _;
use std::sync::Arc;

use super::audit::Audit;
use super::text::write_terminal;
use super::{Ends, ExchangeEnd, Format, Records, WallClock};
use crate::decoder::View;
use crate::event::Origin;
use crate::exchange::{Asked, Exchange, Pairing};
use crate::head::{RequestLine, split_head};
use crate::message::{Body, Content, Field, Http1Kind, Http2Kind, Message};
use crate::text::printable;

/// The `exchange` format.
#[derive(Debug, Clone, Default)]
pub struct ExchangeLines {
    /// Turns kernel time into wall-clock time.
    pub clock: WallClock,
    /// The date is written, too.
    pub dated: bool,
    /// The heads of both messages follow the line.
    pub heads: bool,
    /// The bodies follow their heads.
    pub bodies: bool,
    /// Bytes of each body, `None` for all.
    pub truncate: Option<usize>,
    /// Whether an exchange whose ends are both captured has one line.
    pub ends: Ends,
    /// The start of the file.
    pub audit: Option<Arc<Audit>>,
}

impl Format for ExchangeLines {
    fn view(&self) -> View {
        View::Joined
    }

    fn begin(&self, out: &mut Vec<u8>) {
        if let Some(audit) = &self.audit {
            audit.write_mark(out);
        }
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        for message in messages {
            let Some(line) = Line::of(message) else { continue };
            let start = out.bytes().len();
            let insert_at = self.write_exchange(origin, message, &line, out.bytes()) - start;
            let end = (self.ends == Ends::Once).then(|| ExchangeEnd::of(origin, message));
            let end = end.flatten();
            out.end_exchange(1, end.map(|end| end.with_room_at(insert_at)));
        }
    }

    fn join_ends(&self, client: (&ExchangeEnd, &[u8]), server: (&ExchangeEnd, &[u8]), out: &mut Vec<u8>) {
        let (client, line) = client;
        if client.only_joined || server.0.only_joined {
            // Parts of another format, which was in force when they were written.
            return;
        }
        let (before, after) = line.split_at(client.insert_at.min(line.len()));
        out.extend_from_slice(before);
        let process = server.0.process;
        out.extend_from_slice(b", ");
        process.comm.push_shown(out);
        push(out, format_args!("[{}]", process.pid));
        if client.is_complete() && server.0.is_complete() {
            out.push(b' ');
            push_milliseconds(server.0.total_ns(), out);
            out.extend_from_slice(b" (+");
            push_milliseconds(client.total_ns().saturating_sub(server.0.total_ns()), out);
            out.push(b')');
        }
        out.extend_from_slice(after);
    }
}

/// What is known of an exchange.
pub(super) struct Line<'a> {
    pub(super) exchange: Option<&'a Exchange>,
    pub(super) request: Option<&'a Message>,
    pub(super) response: Option<&'a Message>,
}

impl<'a> Line<'a> {
    /// Returns `None` for a message that does not end an exchange.
    pub(super) fn of(message: &'a Message) -> Option<Self> {
        let exchange = message.exchange.as_ref();
        let asked = exchange.and_then(|exchange| exchange.request.as_deref());
        let request = asked.and_then(|asked| asked.message.as_deref());
        let response = match &message.content {
            Content::Unanswered => None,
            Content::Http1(http1) => match http1.kind {
                Http1Kind::Response { status } if status == 101 || status >= 200 => Some(message),
                Http1Kind::Response { .. } | Http1Kind::Request => return None,
            },
            Content::Http2(http2) if http2.kind == Http2Kind::Response => {
                let is_interim = message.status().is_some_and(|status| status < 200);
                (!is_interim).then_some(Some(message))?
            }
            _ => return None,
        };
        Some(Self {
            exchange,
            request,
            response,
        })
    }

    pub(super) fn asked(&self) -> Option<&'a Asked> {
        self.exchange?.request.as_deref()
    }

    pub(super) fn parts(&self) -> Parts<'a> {
        match (self.request, self.asked()) {
            (Some(request), _) => parts_of(request),
            (None, Some(asked)) => match &asked.target {
                Some(target) => [target.method(), target.authority(), target.path()],
                None => [None; 3],
            },
            (None, None) => [None; 3],
        }
    }
}

impl ExchangeLines {
    /// Returns where something about the other end can be inserted.
    fn write_exchange(
        &self,
        origin: &Origin,
        message: &Message,
        line: &Line<'_>,
        out: &mut Vec<u8>,
    ) -> usize {
        // The request goes the other way.
        let asked_ns = line.asked().map_or(0, |asked| asked.first_ns);
        let first_ns = if asked_ns > 0 { asked_ns } else { message.first_ns };
        write_terminal(&origin.mirrored(), self.clock, first_ns, self.dated, out);
        out.push(b' ');
        write_target(line, out);
        match line.response.and_then(Message::status) {
            Some(status) => push(out, format_args!(" {status}")),
            None => push(out, format_args!(" -")),
        }
        write_sizes(line, out);
        write_time(line, out);
        let insert_at = out.len();
        for mark in marks(line) {
            push(out, format_args!(" [ecapture: {mark}]"));
        }
        out.push(b'\n');
        if self.heads {
            self.write_message("> ", line.request, out);
            self.write_message("< ", line.response, out);
        }
        insert_at
    }

    fn write_message(&self, prefix: &str, message: Option<&Message>, out: &mut Vec<u8>) {
        let Some(message) = message else { return };
        match &message.content {
            Content::Http1(http1) => {
                let head = String::from_utf8_lossy(&http1.head);
                for line in head.lines().filter(|line| !line.is_empty()) {
                    push(out, format_args!("{prefix}{}\n", printable(line)));
                }
            }
            Content::Http2(http2) => {
                for field in http2.fields.iter().chain(&http2.trailers) {
                    let text = |part: &Option<bytes::Bytes>| match part {
                        Some(part) => printable(&String::from_utf8_lossy(part)).into_owned(),
                        None => "?".to_owned(),
                    };
                    let (name, value) = (text(&field.name), text(&field.value));
                    push(out, format_args!("{prefix}{name}: {value}\n"));
                }
            }
            _ => {}
        }
        if let Some(body) = body_of(message).filter(|_| self.bodies) {
            self.write_body(body, out);
        }
    }

    fn write_body(&self, body: &Body, out: &mut Vec<u8>) {
        let kept = self.truncate.unwrap_or(usize::MAX).min(body.data.len());
        let data = &body.data[..kept];
        match str::from_utf8(data) {
            Ok(text) => {
                for line in text.lines() {
                    push(out, format_args!("  {}\n", printable(line)));
                }
            }
            Err(_) => push(
                out,
                format_args!("  [ecapture: {} bytes that are not text]\n", data.len()),
            ),
        }
        if kept < body.data.len() || body.truncated_at.is_some() {
            push(
                out,
                format_args!("  [ecapture: cut, {} bytes in all]\n", body.len),
            );
        }
    }
}

/// Writing to a vector cannot fail.
fn push(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(arguments);
}

/// Method and URL. Everything that is captured went through TLS.
fn write_target(line: &Line<'_>, out: &mut Vec<u8>) {
    let [method, authority, path] = line.parts();
    let text = |part: Option<&[u8]>| {
        let part = String::from_utf8_lossy(part.unwrap_or(b"?"));
        printable(&part).into_owned()
    };
    match (authority, path) {
        (None, None) => push(out, format_args!("{} ?", text(method))),
        (Some(_), None) => push(out, format_args!("{} {}", text(method), text(authority))),
        _ => push(
            out,
            format_args!("{} https://{}{}", text(method), text(authority), text(path)),
        ),
    }
}

/// Method, authority and path.
pub(super) type Parts<'a> = [Option<&'a [u8]>; 3];

pub(super) fn parts_of(request: &Message) -> Parts<'_> {
    match &request.content {
        Content::Http1(http1) => {
            let (start_line, fields) = split_head(&http1.head);
            RequestLine::parse(start_line, &fields)
                .map_or([None; 3], |line| [Some(line.method), line.authority, line.path])
        }
        Content::Http2(http2) => [
            value_of(&http2.fields, b":method"),
            value_of(&http2.fields, b":authority"),
            value_of(&http2.fields, b":path"),
        ],
        _ => [None; 3],
    }
}

fn write_sizes(line: &Line<'_>, out: &mut Vec<u8>) {
    let sent = line.request.and_then(body_of).map(|body| body.wire_len);
    let sent = sent.or_else(|| Some(line.asked()?.end?.wire_len));
    let received = line.response.and_then(body_of).map(|body| body.wire_len);
    let shown = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
    push(out, format_args!(" {} -> {} B", shown(sent), shown(received)));
}

fn write_time(line: &Line<'_>, out: &mut Vec<u8>) {
    let (Some(response), Some(asked), Some(exchange)) = (line.response, line.asked(), line.exchange) else {
        return;
    };
    if exchange.has_times() && response.is_complete() {
        out.push(b' ');
        push_milliseconds(response.last_ns.saturating_sub(asked.first_ns), out);
    }
}

fn push_milliseconds(nanoseconds: u64, out: &mut Vec<u8>) {
    let microseconds = nanoseconds / 1000;
    push(
        out,
        format_args!("{}.{:03} ms", microseconds / 1000, microseconds % 1000),
    );
}

/// What the reader must know of the line.
pub(super) fn marks(line: &Line<'_>) -> Vec<String> {
    let mut marks = Vec::new();
    match line.exchange.and_then(|exchange| exchange.pairing) {
        Some(Pairing::Uncertain) => marks.push("the request may be another one".to_owned()),
        Some(Pairing::NoRequest) => marks.push("the request is not known".to_owned()),
        Some(Pairing::NoResponse) => marks.push("no response".to_owned()),
        None if line.response.is_none() => marks.push("not waited for the response".to_owned()),
        Some(Pairing::Certain | Pairing::Undecided) | None => {}
    }
    let is_cut = |message: Option<&Message>| {
        let body = message.and_then(body_of);
        body.is_some_and(|body| !body.complete)
    };
    if is_cut(line.request) {
        marks.push("incomplete request".to_owned());
    }
    if is_cut(line.response) {
        marks.push("incomplete response".to_owned());
    }
    if let Some(Content::Http2(http2)) = line.response.map(|response| &response.content) {
        if let Some(code) = http2.reset {
            marks.push(format!("reset, error {code}"));
        }
        let status =
            value_of(&http2.trailers, b"grpc-status").or_else(|| value_of(&http2.fields, b"grpc-status"));
        if let Some(status) = status.filter(|status| *status != b"0") {
            marks.push(format!(
                "grpc-status {}",
                printable(&String::from_utf8_lossy(status))
            ));
        }
    }
    marks
}

pub(super) fn body_of(message: &Message) -> Option<&Body> {
    match &message.content {
        Content::Http1(message) => Some(&message.body),
        Content::Http2(message) => Some(&message.body),
        _ => None,
    }
}

pub(super) fn value_of<'a>(fields: &'a [Field], name: &[u8]) -> Option<&'a [u8]> {
    let field = fields.iter().find(|field| field.name.as_deref() == Some(name))?;
    field.value.as_deref()
}

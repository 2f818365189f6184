//! One JSON object per message and line. `schema/jsonl.schema.json` describes them.
//!
//! Header names and values that are not UTF-8 are read as ISO 8859-1; a folded HTTP/1 value keeps
//! its fold. `trailers` is present, possibly empty, if the message's end was seen.

mod ends;
mod exchange;
mod fact;
mod http1;
mod http2;
pub(super) mod object;
mod shell;
mod sql;

use std::net::SocketAddr;
use std::sync::Arc;

use object::Object;

use crate::decoder::View;
use crate::event::{Direction, Origin, Socket, StreamOrigin};
use crate::format::audit::Audit;
use crate::format::{ExchangeEnd, Format, Records, time};
use crate::message::{
    Body, Content, Gap, Http1Kind, Http2Kind, Message, Part, ServerSentEvent, WebSocketMessage,
};
use crate::write::push_address;

/// The `--format jsonl` writer.
#[derive(Debug, Clone, Default)]
pub struct JsonLines {
    /// Wall clock minus kernel monotonic clock in nanoseconds; without it `time` is absent.
    pub wall_clock_offset_ns: Option<i64>,
    /// `--tsize`: cut bodies and data after this many bytes.
    pub truncate: Option<usize>,
    /// Also write the HTTP/2 frames that belong to no message.
    pub frames: bool,
    /// The first line of the file.
    pub audit: Option<Arc<Audit>>,
    /// An exchange whose ends are both captured has a line of its own, after the messages of both.
    pub joins: bool,
}

impl Format for JsonLines {
    fn view(&self) -> View {
        View::Structured { frames: self.frames }
    }

    fn begin(&self, out: &mut Vec<u8>) {
        if let Some(audit) = &self.audit {
            audit.write_line(out);
        }
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        let is_shown =
            |message: &&Message| !matches!(&message.content, Content::Fact(fact) if fact.is_for_files());
        for message in messages.iter().filter(is_shown) {
            self.write_line(origin, message, out.bytes());
            out.end(1);
            if self.joins {
                self.write_end(origin, message, out);
            }
        }
    }

    fn join_ends(&self, client: (&ExchangeEnd, &[u8]), server: (&ExchangeEnd, &[u8]), out: &mut Vec<u8>) {
        ends::join(client, server, out);
    }
}

/// Appends an object of figures, as a line; those that are not known are left out.
pub(crate) fn push_figures(
    (kind, name): (&'static str, &str),
    figures: &[(&'static str, Option<u64>)],
    out: &mut Vec<u8>,
) {
    let mut object = Object::open(out);
    object.string(kind, name);
    for (figure, value) in figures {
        if let Some(value) = value {
            object.number(figure, *value);
        }
    }
    drop(object);
    out.push(b'\n');
}

impl JsonLines {
    fn write_line(&self, origin: &Origin, message: &Message, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.number("v", 1_u64);
        object.string("kind", kind(&message.content));
        self.add_times(message, &mut object);
        add_origin(origin, &message.content, &mut object);
        if self.add_content(origin, &message.content, &mut object) {
            object.boolean("truncated", true);
        }
        exchange::add(message, &mut object);
        drop(object);
        out.push(b'\n');
    }

    fn add_times(&self, message: &Message, object: &mut Object<'_>) {
        self.add_time(message.first_ns, object);
        object.number("ts_ns", message.first_ns);
        if !matches!(message.content, Content::Fact(_)) {
            object.number("end_ns", message.last_ns);
        }
    }

    fn add_time(&self, kernel_ns: u64, object: &mut Object<'_>) {
        let offset = self.wall_clock_offset_ns;
        if let Some(nanoseconds) = offset.and_then(|offset| offset.checked_add_unsigned(kernel_ns)) {
            let out = object.member("time");
            out.push(b'"');
            time::push(nanoseconds, out);
            out.push(b'"');
        }
    }

    /// Adds the members of `content`. Returns true if it was cut at the limit.
    fn add_content(&self, origin: &Origin, content: &Content, object: &mut Object<'_>) -> bool {
        let limit = self.truncate;
        match content {
            Content::Fact(fact) => return fact::add(origin, fact, limit, object),
            Content::Gap(gap) => add_gap(*gap, object),
            Content::Grpc(message) => return http2::add_grpc(message, limit, object),
            Content::Http1(message) => return http1::add(message, limit, object),
            Content::Http2Frame(frame) => return http2::add_frame(frame, limit, object),
            Content::Http2(message) => return http2::add_message(message, limit, object),
            Content::Raw(raw) => {
                let mut object = object.object("data");
                object.number("len", raw.data.len() as u64);
                return object.content(&raw.data, false, limit);
            }
            Content::ServerSentEvent(event) => return add_event(event, limit, object),
            Content::Unanswered => {}
            Content::WebSocket(message) => return add_web_socket(message, limit, object),
        }
        false
    }
}

fn kind(content: &Content) -> &'static str {
    match content {
        Content::Fact(fact) => fact::kind(fact),
        Content::Gap(_) => "gap",
        Content::Grpc(_) => "grpc.message",
        Content::Http1(message) => match message.kind {
            Http1Kind::Request => "http1.request",
            Http1Kind::Response { .. } => "http1.response",
        },
        Content::Http2Frame(_) => "http2.frame",
        Content::Http2(message) => match message.kind {
            Http2Kind::Request => "http2.request",
            Http2Kind::Response => "http2.response",
        },
        Content::Raw(_) => "raw",
        Content::ServerSentEvent(_) => "sse.event",
        Content::Unanswered => "exchange",
        Content::WebSocket(_) => "websocket.message",
    }
}

fn add_origin(origin: &Origin, content: &Content, object: &mut Object<'_>) {
    if let Some(stream) = &origin.stream {
        object.string("uuid", &stream.uuid);
        object.number("connection", stream.connection);
    }
    add_process(origin, object);
    if let Some(stream) = &origin.stream {
        add_stream(stream, content, object);
    }
}

fn add_process(origin: &Origin, object: &mut Object<'_>) {
    object.number("pid", origin.process.pid);
    if origin.stream.is_some() {
        object.number("tid", origin.process.tid);
    }
    object.string("comm", &String::from_utf8_lossy(origin.process.comm.as_bytes()));
    if let Some(program) = &origin.program {
        object.string("program", program);
    }
    if let Some(container_id) = &origin.container_id {
        object.string("container_id", container_id);
    }
}

fn add_stream(stream: &StreamOrigin, content: &Content, object: &mut Object<'_>) {
    if let Some(fd) = stream.fd {
        object.number("fd", fd);
    }
    object.string("direction", stream.direction.as_str());
    if let Some(socket) = &stream.socket {
        if let Some((sender, receiver)) = endpoints(socket, stream.direction, content) {
            add_address("src", sender, object);
            add_address("dst", receiver, object);
        }
        object.string("addr_source", socket.address_source.as_str());
    }
    if let Some(version) = stream.tls_version {
        object.string("tls_version", &version.to_string());
    }
    if let Some(reason) = stream.joined_late {
        object.string("joined_late", reason.as_str());
    }
}

/// Returns sender and receiver of the message's bytes. If the captured end is unknown, a request
/// shows it: the side that opened the connection sends requests.
fn endpoints(socket: &Socket, direction: Direction, content: &Content) -> Option<(SocketAddr, SocketAddr)> {
    if let Some(endpoints) = socket.endpoints(direction) {
        return Some(endpoints);
    }
    let is_request = match content {
        Content::Grpc(message) => message.kind == Http2Kind::Request,
        Content::Http1(message) => message.kind == Http1Kind::Request,
        // A pushed request is sent by the server.
        Content::Http2(message) => message.kind == Http2Kind::Request && !message.pushed,
        Content::ServerSentEvent(_) | Content::Unanswered => false,
        Content::Fact(_)
        | Content::Gap(_)
        | Content::Http2Frame(_)
        | Content::Raw(_)
        | Content::WebSocket(_) => return None,
    };
    let (opener, accepter) = (socket.tuple.source, socket.tuple.destination);
    Some(if is_request {
        (opener, accepter)
    } else {
        (accepter, opener)
    })
}

fn add_address(name: &'static str, address: SocketAddr, object: &mut Object<'_>) {
    let out = object.member(name);
    out.push(b'"');
    push_address(address, out);
    out.push(b'"');
}

fn add_gap(gap: Gap, object: &mut Object<'_>) {
    let mut object = object.object("gap");
    match gap.bytes {
        Some(bytes) => object.number("bytes", bytes),
        None => object.member("bytes").extend_from_slice(b"null"),
    }
    object.string("reason", gap.reason.as_str());
}

fn add_body(body: &Body, limit: Option<usize>, object: &mut Object<'_>) -> bool {
    let mut object = object.object("body");
    object.number("wire_len", body.wire_len);
    object.number("len", body.len);
    if let Some(expected) = body.expected {
        object.number("expected", expected);
    }
    let mut encoding = object.array("encoding");
    for coding in &body.encoding {
        encoding.string(coding);
    }
    drop(encoding);
    let is_cut = !body.complete || body.truncated_at.is_some();
    // Content that is in other messages, such as gRPC messages, is not in this one.
    let is_elsewhere = body.data.is_empty() && body.len > 0;
    let truncated = !is_elsewhere && object.content(&body.data, is_cut, limit);
    object.boolean("complete", body.complete);
    if let Some(length) = body.truncated_at {
        object.number("truncated_at", length);
    }
    if let Some(error) = body.error {
        object.string("error", &error.to_string());
    }
    truncated
}

/// Adds `part`, if the message is emitted in parts.
fn add_part(part: Part, object: &mut Object<'_>) {
    match part {
        Part::Whole => {}
        Part::First => object.string("part", "first"),
        Part::Continued { final_part: false } => object.string("part", "continued"),
        Part::Continued { final_part: true } => object.string("part", "final"),
    }
}

fn add_event(event: &ServerSentEvent, limit: Option<usize>, object: &mut Object<'_>) -> bool {
    if let Some(stream) = event.stream {
        object.number("stream", stream);
    }
    let mut object = object.object("message");
    if let Some(name) = &event.event {
        object.string("event", name);
    }
    if let Some(id) = &event.id {
        object.string("id", id);
    }
    if let Some(retry) = event.retry {
        object.number("retry", retry);
    }
    object.number("len", event.data.len() as u64);
    let truncated = object.content(event.data.as_bytes(), false, limit);
    if event.truncated {
        object.boolean("cut", true);
    }
    truncated
}

fn add_web_socket(message: &WebSocketMessage, limit: Option<usize>, object: &mut Object<'_>) -> bool {
    if let Some(stream) = message.stream {
        object.number("stream", stream);
    }
    let mut object = object.object("message");
    object.number("opcode", message.opcode);
    object.boolean("compressed", message.compressed);
    object.number("frames", message.frames);
    object.number("wire_len", message.wire_len);
    object.number("len", message.data.len() as u64);
    let truncated = match (message.opcode, &*message.data) {
        (8, [high, low, reason @ ..]) => {
            object.number("code", u16::from_be_bytes([*high, *low]));
            object.content(reason, !message.complete, limit)
        }
        (_, data) => object.content(data, !message.complete || message.error.is_some(), limit),
    };
    object.boolean("complete", message.complete);
    if let Some(error) = message.error {
        object.string("error", &error.to_string());
    }
    truncated
}

//! An entry: a request, its response, and their times.

use std::net::SocketAddr;

use super::times::{Times, push_milliseconds, push_time};
use super::{Har, cookies, fields, url};
use crate::event::{Origin, Side};
use crate::exchange::Pairing;
use crate::format::exchange_lines::{Line, body_of, marks, parts_of};
use crate::format::json_lines::object::{Object, push_base64, text_of};
use crate::head::{RequestLine, split_head};
use crate::message::{Body, Content, Message};
use crate::write::push_address;

/// The method and the media type of what was not captured.
const UNKNOWN_METHOD: &[u8] = b"UNKNOWN";
const UNKNOWN_TYPE: &[u8] = b"x-unknown";

/// What an entry is about.
pub(super) struct Entry<'a> {
    pub(super) har: &'a Har,
    pub(super) origin: &'a Origin,
    pub(super) line: &'a Line<'a>,
    pub(super) times: Times,
    /// The captured process sent the request; `None` if that is not known.
    pub(super) is_client: Option<bool>,
    /// It is that of a WebSocket.
    pub(super) is_web_socket: bool,
}

/// Returns true if frames follow the response (RFC 6455 §4.2.2).
pub(super) fn opens_web_socket(response: &Message) -> bool {
    let upgrade = |message| {
        let fields = fields::of(message);
        fields::value(&fields, b"upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
    };
    matches!(response.content, Content::Http1(_)) && response.status() == Some(101) && upgrade(response)
}

impl Entry<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        let Times {
            start,
            send,
            wait,
            receive,
        } = self.times;
        let started = object.member("startedDateTime");
        started.push(b'"');
        push_time(self.har.wall_clock(start), started);
        started.push(b'"');
        push_milliseconds(send + wait + receive, object.member("time"));
        self.add_request(object.object("request"));
        self.add_response(object.object("response"));
        drop(object.object("cache"));
        let mut timings = object.object("timings");
        for unseen in ["blocked", "dns", "connect", "ssl"] {
            timings.signed(unseen, -1);
        }
        for (member, nanoseconds) in [("send", send), ("wait", wait), ("receive", receive)] {
            push_milliseconds(nanoseconds, timings.member(member));
        }
        drop(timings);
        self.add_origin(&mut object);
    }

    fn add_request(&self, mut object: Object<'_>) {
        let asked = self.line.asked();
        let target = asked.and_then(|asked| asked.target.as_ref());
        let [method, authority, path] = match (self.line.request, target) {
            (Some(request), _) => parts_of(request),
            (None, Some(target)) => [target.method(), target.authority(), target.path()],
            (None, None) => [None; 3],
        };
        object.wire_string("method", method.unwrap_or(UNKNOWN_METHOD));
        let mut url = Vec::new();
        self.push_url(authority, path, &mut url);
        object.wire_string("url", &url);
        let request = self.line.request;
        let fields = request.map(fields::of).unwrap_or_default();
        object.wire_string("httpVersion", request.map_or(b"", fields::version));
        cookies::add_sent(&fields, &mut object);
        fields::add(&fields, "headers", &mut object);
        add_parameters("queryString", path.and_then(url::query), &mut object);
        object.signed("headersSize", request.map_or(-1, fields::size));
        let body = request.and_then(body_of);
        let wire_len = body
            .map(|body| body.wire_len)
            .or_else(|| Some(asked?.end?.wire_len));
        object.signed("bodySize", signed(wire_len));
        if let Some(body) = body.filter(|body| body.wire_len > 0 || body.len > 0) {
            self.add_posted(body, fields::value(&fields, b"content-type"), &mut object);
        }
        add_trailers(request, &mut object);
        // What is not in the URL as it was sent.
        if let Some(path) = path.filter(|path| !url.ends_with(path)) {
            object.wire_string("_target", path);
        }
        if let Some(protocol) = request.and_then(|request| fields::pseudo(request, b":protocol")) {
            object.wire_string("_protocol", protocol);
        }
    }

    fn push_url(&self, authority: Option<&[u8]>, path: Option<&[u8]>, out: &mut Vec<u8>) {
        let scheme = self.line.request.and_then(scheme_of);
        let scheme = match scheme.and_then(|scheme| str::from_utf8(scheme).ok()) {
            _ if self.is_web_socket => "wss",
            Some("http") => "http",
            _ => "https",
        };
        let mut server = Vec::new();
        let authority = match (authority.filter(|authority| !authority.is_empty()), self.server()) {
            (Some(authority), _) => authority,
            (None, Some(address)) => {
                push_address(address, &mut server);
                &server
            }
            (None, None) => b"unknown",
        };
        url::push(scheme, authority, path.unwrap_or(b"/"), out);
    }

    fn add_posted(&self, body: &Body, content_type: Option<&[u8]>, object: &mut Object<'_>) {
        let mut posted = object.object("postData");
        posted.wire_string("mimeType", content_type.unwrap_or(UNKNOWN_TYPE));
        let text = self.add_content(body, content_type, "_encoding", &mut posted);
        let is_form = content_type.is_some_and(|name| {
            name.to_ascii_lowercase()
                .starts_with(b"application/x-www-form-urlencoded")
        });
        if is_form && text {
            add_parameters("params", Some(&body.data), &mut posted);
        }
    }

    fn add_response(&self, mut object: Object<'_>) {
        let response = self.line.response;
        let status = response.and_then(Message::status);
        object.number("status", status.unwrap_or(0));
        object.wire_string("statusText", response.map_or(b"", fields::reason));
        object.wire_string("httpVersion", response.map_or(b"", fields::version));
        let fields = response.map(fields::of).unwrap_or_default();
        cookies::add_set(&fields, &mut object);
        fields::add(&fields, "headers", &mut object);
        let content_type = fields::value(&fields, b"content-type");
        let body = response.and_then(body_of);
        let mut content = object.object("content");
        content.number("size", body.map_or(0, |body| body.len));
        if let Some(body) = body.filter(|body| !body.encoding.is_empty()) {
            content.signed(
                "compression",
                signed(Some(body.len)) - signed(Some(body.wire_len)),
            );
        }
        content.wire_string("mimeType", content_type.unwrap_or(UNKNOWN_TYPE));
        if let Some(body) = body {
            self.add_content(body, content_type, "encoding", &mut content);
        }
        drop(content);
        object.wire_string("redirectURL", fields::value(&fields, b"location").unwrap_or(b""));
        object.signed("headersSize", response.map_or(-1, fields::size));
        object.signed("bodySize", signed(body.map(|body| body.wire_len)));
        add_trailers(response, &mut object);
        if response.is_none() {
            // As Chromium says it.
            object.string("_error", "no response");
        }
    }

    /// Adds a body, as base64 with `encoding` if it is not text. Returns true if it is.
    fn add_content(
        &self,
        body: &Body,
        content_type: Option<&[u8]>,
        encoding: &'static str,
        object: &mut Object<'_>,
    ) -> bool {
        let kept = self.har.truncate.unwrap_or(usize::MAX).min(body.data.len());
        let is_cut = !body.complete || body.truncated_at.is_some();
        let text = text_of(&body.data, is_cut).filter(|text| is_read_as_utf_8(text, content_type));
        let shown = if let Some(text) = text {
            let shown = &text[..text.floor_char_boundary(kept)];
            object.string("text", shown);
            shown.len()
        } else {
            let out = object.member("text");
            out.push(b'"');
            push_base64(&body.data[..kept], out);
            out.push(b'"');
            object.string(encoding, "base64");
            kept
        };
        if (shown as u64) < body.len || body.truncated_at.is_some() {
            let comment = format!("cut by ecapture: {shown} of {} bytes", body.len);
            object.string("comment", &comment);
            object.number("_shown", shown as u64);
        }
        if let Some(error) = body.error {
            object.string("_error", &error.to_string());
        }
        text.is_some()
    }

    fn server(&self) -> Option<SocketAddr> {
        let socket = self.origin.stream.as_ref()?.socket?;
        let is_source = match socket.local {
            // The side that sends requests is not the server.
            Some(local) => (local == Side::Source) != self.is_client?,
            None => false,
        };
        Some(if is_source {
            socket.tuple.source
        } else {
            socket.tuple.destination
        })
    }

    fn add_origin(&self, object: &mut Object<'_>) {
        let Self { origin, line, .. } = *self;
        if let Some(server) = self.server() {
            object.string("serverIPAddress", &server.ip().to_string());
            object.number("_serverPort", server.port());
        }
        if let Some(stream) = &origin.stream {
            object.string("connection", &stream.connection.to_string());
        }
        if self.is_web_socket {
            object.string("_resourceType", "websocket");
        }
        object.number("_pid", origin.process.pid);
        object.wire_string("_process", origin.process.comm.as_bytes());
        if let Some(program) = &origin.program {
            object.string("_program", program);
        }
        if let Some(container_id) = &origin.container_id {
            object.string("_container", container_id);
        }
        if let Some(is_client) = self.is_client {
            object.string("_side", if is_client { "client" } else { "server" });
        }
        let exchange = line.exchange;
        if let Some(number) = exchange.and_then(|exchange| exchange.number) {
            object.number("_exchange", number);
        }
        if let Some(pairing) = exchange.and_then(|exchange| exchange.pairing) {
            object.string("_pairing", pairing.as_str());
        }
        if let Some(reason) = origin.joined_late() {
            object.string("_joinedLate", reason.as_str());
        }
        self.add_marks(object);
    }

    /// Adds what the reader must know of the entry.
    fn add_marks(&self, object: &mut Object<'_>) {
        let line = self.line;
        let messages = [line.request, line.response];
        let is_incomplete = |message: &Message| body_of(message).is_some_and(|body| !body.complete);
        let is_missing = line.response.is_none() || line.request.is_none();
        if is_missing || messages.into_iter().flatten().any(is_incomplete) {
            object.boolean("_incomplete", true);
        }
        let mut marks = marks(line);
        if let Some(asked) = line
            .asked()
            .filter(|_| line.request.is_none() && line.response.is_some())
        {
            let why = match asked.end {
                Some(_) => "the request was too long to be held for its response",
                None => "the response was too long to be held for the end of its request",
            };
            marks.push(why.to_owned());
        }
        if line.exchange.and_then(|exchange| exchange.pairing) == Some(Pairing::Undecided) {
            marks.push("not waited for the response".to_owned());
        }
        if self.har.wall_clock_offset_ns.is_none() {
            marks.push("the date is unknown".to_owned());
        }
        for message in messages.into_iter().flatten() {
            match &message.content {
                Content::Http1(http1) => marks.extend(http1.anomalies.iter().map(ToString::to_string)),
                Content::Http2(http2) => marks.extend(http2.error.iter().map(ToString::to_string)),
                _ => {}
            }
        }
        if !marks.is_empty() {
            let mut list = object.array("_marks");
            for mark in &marks {
                list.string(mark);
            }
        }
    }
}

/// Returns true if readers get the same bytes again. Without a charset some take text that is neither
/// JSON nor HTML for ISO 8859-1, its historic encoding.
fn is_read_as_utf_8(text: &str, content_type: Option<&[u8]>) -> bool {
    let name = content_type.unwrap_or_default().to_ascii_lowercase();
    let has = |part: &[u8]| memchr::memmem::find(&name, part).is_some();
    text.is_ascii() && !has(b"utf-16") && !has(b"utf-7")
        || has(b"charset=utf-8")
        || has(b"charset=\"utf-8\"")
        || !has(b"charset") && (has(b"json") || has(b"html"))
}

fn scheme_of(request: &Message) -> Option<&[u8]> {
    match &request.content {
        Content::Http1(http1) => {
            let (start_line, fields) = split_head(&http1.head);
            RequestLine::parse(start_line, &fields)?.scheme
        }
        _ => fields::pseudo(request, b":scheme"),
    }
}

fn add_parameters(member: &'static str, query: Option<&[u8]>, object: &mut Object<'_>) {
    let mut list = object.array(member);
    for [name, value] in query.into_iter().flat_map(url::parameters) {
        let mut parameter = Object::open(list.element());
        parameter.wire_string("name", &name);
        parameter.wire_string("value", &value);
    }
}

fn add_trailers(message: Option<&Message>, object: &mut Object<'_>) {
    let trailers = message.map(fields::trailers).unwrap_or_default();
    if !trailers.is_empty() {
        fields::add(&trailers, "_trailers", object);
    }
}

/// -1 is unknown.
fn signed(number: Option<u64>) -> i64 {
    number.and_then(|number| i64::try_from(number).ok()).unwrap_or(-1)
}

//! The span of an exchange.

use ring::digest::{Context, SHA256};

use super::Otlp;
use super::attributes::{Attributes, floor, lossy};
use super::messages::{Link, Span, SpanKind, Status};
use super::trace_context::TraceContext;
use super::vocabulary::{GRPC_CODES, field, fields, is_grpc_type, is_known, split_authority, without_user};
use crate::event::{AddressSource, Direction, Origin};
use crate::exchange::Pairing;
use crate::format::exchange_lines::{Line, body_of, value_of};
use crate::head::split_head;
use crate::http2::ERROR_NAMES;
use crate::limits::SPAN_NAME_BYTES;
use crate::message::{Content, Message};

/// The parent's span is in another process (`SpanFlags`).
const IS_REMOTE: u32 = 0x300;
/// W3C trace flags of a trace that begins here.
const SAMPLED: u32 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

/// What becomes of the end of an exchange.
pub(super) enum Made {
    Span(Box<Span>),
    /// The request was not held; its response will be the span.
    Later,
    /// The exchange is itself an export of OTLP, maybe of this span's predecessor.
    Never,
}

impl Otlp {
    /// Makes the span of the exchange that `message` ends; `index` is its place among those that one event
    /// completed.
    pub(super) fn span(&self, origin: &Origin, message: &Message, line: &Line<'_>, index: usize) -> Made {
        let pairing = line.exchange.and_then(|exchange| exchange.pairing);
        if line.response.is_none() && pairing.is_none() {
            return Made::Later;
        }
        let seen = Seen::of(origin, message, line);
        if seen.is_export() {
            return Made::Never;
        }
        let mut attributes = Attributes::default();
        let error = seen.describe(&mut attributes);
        if let Some(pairing) = pairing {
            attributes.text("ecapture.pairing", pairing.as_str());
        }
        let mut incomplete = seen.incomplete(pairing);
        if attributes.is_cut {
            incomplete.push("attribute_cut");
        }
        if !incomplete.is_empty() {
            attributes.list("ecapture.incomplete", &incomplete);
        }
        let mut span = Span {
            name: seen.name(),
            kind: seen.kind.into(),
            start_time_unix_nano: self.wall_ns(seen.start_ns()),
            end_time_unix_nano: self.wall_ns(message.last_ns.max(seen.start_ns())),
            attributes: attributes.into_values(),
            status: error.then(|| Status {
                code: ERROR,
                ..Status::default()
            }),
            ..Span::default()
        };
        self.place(&mut span, &seen, index);
        Made::Span(Box::new(span))
    }

    /// Gives the span its ids: of the trace that the request names, or of a new one.
    fn place(&self, span: &mut Span, seen: &Seen<'_>, index: usize) {
        let digest = self.digest(seen, index);
        let (trace_id, rest) = digest.split_at(16);
        span.span_id = rest[..8].to_vec();
        let context = seen
            .request()
            .and_then(|request| TraceContext::read(fields(request)));
        let Some(context) = context else {
            span.trace_id = trace_id.to_vec();
            span.flags = SAMPLED;
            return;
        };
        let flags = u32::from(context.flags) | IS_REMOTE;
        if self.adopted.admit(&context.trace_id) {
            span.trace_id = context.trace_id.to_vec();
            span.parent_span_id = context.parent_id.to_vec();
            span.trace_state = context.state;
            span.flags = flags;
        } else {
            span.trace_id = trace_id.to_vec();
            span.flags = SAMPLED;
            span.links.push(Link {
                trace_id: context.trace_id.to_vec(),
                span_id: context.parent_id.to_vec(),
                trace_state: context.state,
                flags,
            });
        }
    }

    /// Returns bytes for ids, which differ for each exchange of each run.
    fn digest(&self, seen: &Seen<'_>, index: usize) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(&self.seed);
        let stream = seen.origin.stream.as_ref();
        let number = seen.line.exchange.and_then(|exchange| exchange.number);
        for part in [
            stream.map_or(0, |stream| stream.connection),
            number.map_or(u64::MAX, u64::from),
            seen.message.first_ns,
            seen.message.last_ns,
            index as u64,
        ] {
            context.update(&part.to_le_bytes());
        }
        context.update(stream.map_or("", |stream| &stream.uuid).as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        bytes
    }

    fn wall_ns(&self, kernel_ns: u64) -> u64 {
        kernel_ns.saturating_add_signed(self.clock.offset_ns.unwrap_or(0))
    }
}

/// An exchange as one process saw it.
struct Seen<'a> {
    origin: &'a Origin,
    message: &'a Message,
    line: &'a Line<'a>,
    kind: SpanKind,
    method: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    is_grpc: bool,
}

impl<'a> Seen<'a> {
    fn of(origin: &'a Origin, message: &'a Message, line: &'a Line<'a>) -> Self {
        let kind = match origin.stream.as_ref().map(|stream| stream.direction) {
            Some(Direction::Read) => SpanKind::Client,
            Some(Direction::Write) => SpanKind::Server,
            None => SpanKind::Unspecified,
        };
        let [method, authority, path] = line.parts();
        let is_grpc = [line.request, line.response]
            .into_iter()
            .flatten()
            .any(|message| field(message, b"content-type").is_some_and(is_grpc_type));
        Self {
            origin,
            message,
            line,
            kind,
            method,
            authority,
            path,
            is_grpc,
        }
    }

    fn request(&self) -> Option<&'a Message> {
        self.line.request
    }

    /// The requests of exporters: a span for each would be exported again, for ever if it is seen again.
    fn is_export(&self) -> bool {
        let path = self.path.unwrap_or_default();
        path.starts_with(b"/opentelemetry.proto.collector.")
            || self.method == Some(b"POST")
                && [&b"/v1/traces"[..], b"/v1/metrics", b"/v1/logs"]
                    .iter()
                    .any(|end| path.ends_with(end))
    }

    /// The method, never the path: there would be as many names as paths.
    fn name(&self) -> String {
        if let Some(method) = self.rpc_method() {
            return floor(&lossy(method), SPAN_NAME_BYTES).to_owned();
        }
        match self.method {
            Some(method) if is_known(method) => lossy(method).into_owned(),
            _ => "HTTP".to_owned(),
        }
    }

    /// `package.Service/Method` of a gRPC call.
    fn rpc_method(&self) -> Option<&'a [u8]> {
        let path = self.path.filter(|_| self.is_grpc)?;
        path.strip_prefix(b"/")
    }

    /// The kernel time of the request's first byte; of the response's if that is not known: no duration is
    /// invented.
    fn start_ns(&self) -> u64 {
        match self.line.asked() {
            Some(asked) if asked.first_ns > 0 => asked.first_ns,
            _ => self.message.first_ns,
        }
    }

    /// Adds what is known. Returns true if the exchange failed, as the conventions define it.
    fn describe(&self, out: &mut Attributes) -> bool {
        self.describe_addresses(out);
        self.describe_url(out);
        self.describe_sizes(out);
        if let Some(agent) = self.request().and_then(|request| field(request, b"user-agent")) {
            out.bytes("user_agent.original", agent);
        }
        let error = if self.is_grpc {
            self.describe_call(out)
        } else {
            self.describe_exchange(out)
        };
        if let Some(error) = &error {
            out.text("error.type", error);
        }
        error.is_some()
    }

    /// Attributes of HTTP. Returns the type of the error, if there is one.
    fn describe_exchange(&self, out: &mut Attributes) -> Option<String> {
        match self.method {
            Some(method) if is_known(method) => out.bytes("http.request.method", method),
            Some(method) => {
                out.text("http.request.method", "_OTHER");
                out.bytes("http.request.method_original", method);
            }
            None => {}
        }
        let status = self.line.response.and_then(Message::status);
        if let Some(status) = status {
            out.number("http.response.status_code", status);
        }
        let is_error = |status: &u16| *status >= if self.kind == SpanKind::Server { 500 } else { 400 };
        let failed = status.filter(is_error).map(|status| status.to_string());
        failed.or_else(|| self.reset())
    }

    /// Attributes of gRPC. Returns the type of the error, if there is one.
    fn describe_call(&self, out: &mut Attributes) -> Option<String> {
        out.text("rpc.system.name", "grpc");
        if let Some(method) = self.rpc_method() {
            out.bytes("rpc.method", method);
        }
        let Some(code) = self.grpc_status() else {
            return self.reset();
        };
        let name = GRPC_CODES
            .get(code)
            .map_or_else(|| code.to_string(), |&name| name.to_owned());
        out.text("rpc.response.status_code", &name);
        // A server does not fail when the client asked for something wrong.
        let is_error = if self.kind == SpanKind::Server {
            matches!(code, 2 | 4 | 12 | 13 | 14 | 15)
        } else {
            code != 0
        };
        is_error.then_some(name)
    }

    fn grpc_status(&self) -> Option<usize> {
        let Content::Http2(response) = &self.line.response?.content else {
            return None;
        };
        let status = value_of(&response.trailers, b"grpc-status")
            .or_else(|| value_of(&response.fields, b"grpc-status"))?;
        str::from_utf8(status).ok()?.parse().ok()
    }

    /// The error of the frame that ended the stream.
    fn reset(&self) -> Option<String> {
        let Content::Http2(response) = &self.line.response?.content else {
            return None;
        };
        let code = response.reset.filter(|&code| code != 0)?;
        let name = ERROR_NAMES.get(usize::try_from(code).ok()?);
        Some(name.map_or_else(|| code.to_string(), |&name| name.to_owned()))
    }

    fn describe_addresses(&self, out: &mut Attributes) {
        let stream = self.origin.stream.as_ref();
        let socket = stream.and_then(|stream| stream.socket);
        let (server, client) = match (socket, stream) {
            // The response goes from the server to the client.
            (Some(socket), Some(stream)) => match socket.endpoints(stream.direction) {
                Some((server, client)) => (Some(server), Some(client)),
                None => (Some(socket.tuple.destination), Some(socket.tuple.source)),
            },
            _ => (None, None),
        };
        let (name, port) = self.authority.map_or((None, None), split_authority);
        match (name, server) {
            (Some(name), _) => {
                out.bytes("server.address", name);
                out.number("server.port", port.unwrap_or(443));
            }
            (None, Some(server)) => {
                out.text("server.address", &server.ip().to_string());
                out.number("server.port", server.port());
            }
            (None, None) => {}
        }
        let peer = if self.kind == SpanKind::Server {
            client
        } else {
            server
        };
        if let Some(peer) = peer {
            let address = peer.ip().to_string();
            out.text("network.peer.address", &address);
            out.number("network.peer.port", peer.port());
            if self.kind == SpanKind::Server {
                out.text("client.address", &address);
                out.number("client.port", peer.port());
            }
        }
        if socket.is_some_and(|socket| socket.address_source == AddressSource::Heuristic) {
            out.text("ecapture.address_source", AddressSource::Heuristic.as_str());
        }
        if let Some(version) = self.http_version() {
            out.text("network.protocol.name", "http");
            out.text("network.protocol.version", version);
        }
        let version = stream.and_then(|stream| stream.tls_version);
        if let Some(minor) = version
            .and_then(|version| version.0.checked_sub(0x0301))
            .filter(|minor| *minor < 4)
        {
            out.text("tls.protocol.name", "tls");
            out.text("tls.protocol.version", &format!("1.{minor}"));
        }
    }

    fn describe_url(&self, out: &mut Attributes) {
        let Some(path) = self.path else { return };
        if self.is_grpc {
            return;
        }
        if self.kind == SpanKind::Server {
            let query = path.iter().position(|&byte| byte == b'?');
            let (path, query) = path.split_at(query.unwrap_or(path.len()));
            out.text("url.scheme", "https");
            out.bytes("url.path", path);
            if let Some(query) = query.get(1..) {
                out.bytes("url.query", query);
            }
        } else if let Some(authority) = self.authority {
            let authority = without_user(authority);
            out.text(
                "url.full",
                &format!("https://{}{}", lossy(authority), lossy(path)),
            );
        }
    }

    fn describe_sizes(&self, out: &mut Attributes) {
        let sent = match (self.request().and_then(body_of), self.line.asked()) {
            (Some(body), _) => body.complete.then_some(body.wire_len),
            (None, Some(asked)) => asked.end.filter(|end| end.complete).map(|end| end.wire_len),
            (None, None) => None,
        };
        if let Some(sent) = sent {
            out.number("http.request.body.size", sent);
        }
        if let Some(response) = self.line.response.filter(|response| response.is_complete())
            && let Some(body) = body_of(response)
        {
            out.number("http.response.body.size", body.wire_len);
        }
    }

    fn http_version(&self) -> Option<&'static str> {
        let message = self.line.response.or(self.line.request)?;
        match &message.content {
            Content::Http2(_) => Some("2"),
            Content::Http1(http1) => {
                let (start_line, _) = split_head(&http1.head);
                let is = |version| memchr::memmem::find(start_line, version).is_some();
                if is(b"HTTP/1.0") {
                    Some("1.0")
                } else {
                    is(b"HTTP/1.1").then_some("1.1")
                }
            }
            _ => None,
        }
    }

    /// Why the span does not say all that happened.
    fn incomplete(&self, pairing: Option<Pairing>) -> Vec<&'static str> {
        let mut reasons = Vec::new();
        match pairing {
            Some(Pairing::NoRequest) => reasons.push("no_request"),
            Some(Pairing::NoResponse) => reasons.push("no_response"),
            _ => {}
        }
        let is_cut = |message: &Message| body_of(message).is_some_and(|body| !body.complete);
        let asked = self.line.asked();
        match (self.request(), asked) {
            (Some(request), _) if is_cut(request) => reasons.push("request_incomplete"),
            (None, Some(_)) => reasons.push("request_not_held"),
            _ => {}
        }
        if asked.is_some_and(|asked| asked.first_ns == 0) {
            reasons.push("start_unknown");
        }
        if self.line.response.is_some_and(is_cut) {
            reasons.push("response_incomplete");
        }
        let has_unknown = |message: &Message| match &message.content {
            Content::Http2(http2) => http2.error.is_some(),
            _ => false,
        };
        if [self.line.request, self.line.response]
            .into_iter()
            .flatten()
            .any(has_unknown)
        {
            reasons.push("fields_unknown");
        }
        reasons
    }
}

//! The expressions that are compared with Wireshark's.

/// What must be the same here and there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Same {
    /// The same messages.
    Messages,
    /// Messages of the same exchanges: a request also has its response's fields, and a response its request's.
    Exchanges,
    /// Not even that, for this reason.
    Different(&'static str),
}

/// An expression.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) ours: &'static str,
    pub(super) wireshark: &'static str,
    pub(super) same: Same,
    /// It selects everything or nothing there.
    pub(super) is_everything: bool,
}

const fn messages(text: &'static str) -> Row {
    Row {
        ours: text,
        wireshark: text,
        same: Same::Messages,
        is_everything: false,
    }
}

const fn exchanges(text: &'static str) -> Row {
    Row {
        same: Same::Exchanges,
        ..messages(text)
    }
}

/// Selects everything or nothing.
const fn everything(text: &'static str) -> Row {
    Row {
        is_everything: true,
        ..messages(text)
    }
}

/// What Wireshark 4.0 does not have, with what means the same there.
const fn written(ours: &'static str, wireshark: &'static str) -> Row {
    Row {
        wireshark,
        ..messages(ours)
    }
}

const fn different(text: &'static str, reason: &'static str) -> Row {
    Row {
        same: Same::Different(reason),
        ..everything(text)
    }
}

pub(super) const HTTP1: &[Row] = &[
    // Layers and existence.
    everything("http"),
    everything("tcp and frame"),
    everything("http2 or websocket or grpc"),
    messages("ip"),
    messages("ipv6"),
    messages("http.request"),
    messages("http.response"),
    messages("http.request == 1"),
    messages("http.response == True"),
    messages("not http.request"),
    messages("http.cookie"),
    messages("http.set_cookie || http.authorization"),
    messages("!http.content_type"),
    exchanges("http.response.code"),
    // Addresses, ports and connections.
    messages("ip.addr == 10.1.0.5"),
    messages("ip.src == 10.1.0.5"),
    messages("ip.dst == 10.0.0.0/8"),
    messages("ip.addr == 10.0.0.0/15"),
    messages("ip.addr != 10.1.0.5"),
    messages("ip.addr !== 10.1.0.5"),
    messages("ip.addr in {10.2.0.0/16, 203.0.113.1}"),
    messages("ip.addr in {10.2.0.0..10.2.0.9}"),
    messages("ip.src in {10.1.0.4..10.1.0.6, 192.0.2.11}"),
    messages("ipv6.src == 2001:db8::5"),
    messages("ipv6.addr == 2001:db8::/124"),
    messages("ipv6.dst != 2001:db8::5"),
    messages("tcp.port == 5001"),
    messages("tcp.srcport == 443"),
    messages("tcp.dstport in {400..499}"),
    messages("tcp.port in {1..10, 5002, 9000..0x2fff}"),
    messages("all tcp.srcport in {443, 5002}"),
    messages("any tcp.port > 5001"),
    messages("all tcp.port < 5002"),
    messages("tcp.port != 5001"),
    everything("tcp.port !== 5001"),
    everything("tcp.port ~= 443"),
    messages("tcp.srcport === 443"),
    messages("tcp.port == 011612"),
    messages("tcp.stream == 1"),
    messages("tcp.stream > 0 and tcp.srcport != 443"),
    // Requests.
    exchanges("http.request.method == \"GET\""),
    exchanges("http.request.method != \"GET\""),
    exchanges("http.request.method in {\"POST\", \"PUT\"}"),
    exchanges("http.request.method > \"H\""),
    exchanges("http.request.uri == \"/upload\""),
    exchanges("http.request.uri contains \"upload\""),
    exchanges("http.request.uri matches \"/upper/CASE\""),
    exchanges("http.request.uri matches r\"\\d$\""),
    exchanges("http.request.uri ~ \"^/[a-z]+\\\\.json\""),
    exchanges("http.request.uri.path == \"/Upper/Case\""),
    exchanges("http.request.uri.query contains \"y=2\""),
    exchanges("http.request.uri[0:7] == \"/upload\""),
    exchanges("http.request.uri[1:5] == 68:65:6c:6c:6f"),
    exchanges("http.request.uri[-2:] == \"/7\""),
    exchanges("http.request.uri[1-3] == \"old\""),
    exchanges("http.request.uri[0:2,-1] == \"/u7\""),
    exchanges("len(http.request.uri) > 7"),
    exchanges("lower(http.host) == \"api.example.org\""),
    exchanges("upper(http.request.uri) contains \"UPPER\""),
    messages("http.request.version == \"HTTP/1.0\""),
    exchanges("http.host == \"api.example.org\""),
    exchanges("http.host matches \"^api\""),
    exchanges("http.host"),
    messages("http.user_agent contains \"curl\""),
    messages("http.user_agent != \"curl/8.0\""),
    messages("http.accept or http.accept_encoding or http.referer"),
    messages("http.authorization matches \"^basic\""),
    messages("http.x_forwarded_for == \"10.1.0.5\""),
    // Responses.
    exchanges("http.response.code == 200"),
    exchanges("http.response.code >= 500"),
    exchanges("http.response.code != 200"),
    exchanges("http.response.code in {400..499, 503}"),
    exchanges("http.response.code == 0x1f4"),
    exchanges("not http.response.code < 400 and http.response.code"),
    messages("http.response.phrase == \"Not Found\""),
    messages("http.response.version == \"HTTP/1.0\""),
    messages("http.server contains \"nginx\" and http.location"),
    messages("http.location[0:5] == \"https\""),
    messages("any http.set_cookie == \"b=2\""),
    messages("http.set_cookie != \"c=3\""),
    messages("all http.set_cookie matches \"^[ab]=\""),
    messages("http.set_cookie !== \"b=2\""),
    exchanges("http.time > 0.3"),
    exchanges("http.time >= 0.05 and http.time < 0.4"),
    // Bodies.
    messages("http.file_data contains \"hello\""),
    messages("http.file_data matches \"^LATER\""),
    messages("http.file_data == \"abcdef\""),
    messages("http.content_length == 17"),
    messages("http.content_length > 4"),
    messages("http.content_length_header == \"17\""),
    messages("http.content_type contains \"json\" or http.content_type contains \"html\""),
    messages("http.transfer_encoding == \"chunked\""),
    messages("frame contains \"gone\""),
    messages("http contains \"curl\""),
    messages("tcp contains 4e:6f:74:20:46"),
    // Together.
    messages("http.request && ip"),
    messages("http.request and not ip or http.authorization"),
    messages("http.authorization or http.request and not ip"),
    messages("(http.authorization or http.request) and not ip"),
    messages("!(http.request or ip)"),
    messages("not not ipv6 and not http.response"),
    written(
        "http.request xor ip",
        "(http.request or ip) and not (http.request and ip)",
    ),
    written(
        "ip ^^ http.response",
        "(http.response or ip) and not (http.response and ip)",
    ),
    messages("tcp.port not in {5000, 5001}"),
    messages("tcp.port ge 5002 and tcp.srcport le 443 and tcp.stream gt 1 and tcp.stream lt 9"),
    messages("tcp.stream eq 0 and http.request and tcp.port ne 1"),
];

pub(super) const HTTP2: &[Row] = &[
    everything("http2"),
    messages("http2.headers.method == \"POST\""),
    messages("http2.headers.path contains \"hello\""),
    messages("http2.headers.path"),
    messages("http2.headers.status == 200"),
    messages("http2.headers.status"),
    messages("http2.headers.status in {200..299} and http2.headers.content_type"),
    messages("http2.headers.content_type contains \"json\""),
    messages("http2.headers.server matches \"^NGINX\""),
    messages("http2.headers.user_agent contains \"curl\""),
    messages("http2.headers.scheme == \"https\""),
    messages("http2.headers.content_length > 10"),
    messages("http2.header.name == \"content-length\""),
    messages("http2.header.value contains \"curl\""),
    messages("not http2.headers.method and http2.header.name"),
    messages("http2.headers.method and http2.headers.path[0:3] == \"/he\""),
    messages("len(http2.headers.path) == 5"),
    messages("http2.headers.authority matches r\"^127\\.\""),
];

pub(super) const WEBSOCKET: &[Row] = &[
    messages("websocket"),
    messages("not websocket"),
    messages("websocket.opcode in {8..10}"),
    messages("websocket.opcode == 2"),
    messages("websocket.payload.text contains \"same words\""),
    messages("websocket.payload.close.status_code == 4001"),
];

pub(super) const GRPC: &[Row] = &[
    messages("grpc"),
    messages("http2.headers.path contains \"/\""),
    messages("http2.headers.content_type contains \"grpc\""),
];

/// Over what nginx and curl say by HTTP/1.
pub(super) const LIVE_HTTP1: &[Row] = &[
    messages("http.request"),
    exchanges("http.request.method in {\"POST\", \"HEAD\"}"),
    exchanges("http.request.uri contains \"hello\""),
    exchanges("http.request.uri[1:4] == \"page\""),
    exchanges("http.response.code >= 400"),
    exchanges("http.response.code != 200"),
    messages("http.user_agent matches \"^TEST\""),
    messages(
        "http.content_type contains \"json\" or http.server contains \"nginx\" and not http.content_type",
    ),
    messages("http.file_data contains \"world\""),
    messages("http.content_length > 1000"),
    messages("http.response and tcp.stream < 2"),
    messages("all http.accept == \"*/*\" and len(http.user_agent) > 4"),
];

/// The same by HTTP/2.
pub(super) const LIVE_HTTP2: &[Row] = &[
    messages("http2.headers.method != \"GET\""),
    messages("http2.headers.path contains \"hello\""),
    messages("http2.headers.path[1:4] == \"page\""),
    messages("http2.headers.status >= 400"),
    messages("http2.headers.status in {200..299} and http2.headers.content_type contains \"json\""),
    messages("http2.headers.user_agent == \"tester/1\""),
    messages("http2.headers.content_length > 1000"),
    messages("tcp.stream in {0..1} and http2.headers.method"),
];

/// What is meant to be different, with the reason.
pub(super) const DIFFERENT: &[Row] = &[
    different(
        "not http.response.code == 200",
        "a message without a status is unknown, not different from 200",
    ),
    different(
        "tcp.port and not http.host contains \"api\"",
        "a message without a host is unknown, not one without the text",
    ),
    different(
        "http.request and http.response.code >= 500",
        "a request has the status of its response",
    ),
    different(
        "http.response and http.request.method == \"GET\"",
        "a response has the method of its request",
    ),
    different(
        "http.request.uri.path == \"/hello.json\"",
        "Wireshark has the path only of a URI with a query",
    ),
    different(
        "frame contains \"shop\"",
        "the whole message, not each of its packets",
    ),
    different(
        "all tcp.port in {443, 5000}",
        "all values are in the set; Wireshark asks for a member that all are equal to",
    ),
    different("frame.len > 100", "the length of the message, not of a packet"),
    different(
        "http.file_data contains 67:6f:6e:65",
        "bytes, as in Wireshark since 4.2; 4.0 searches for the text `67:6f:6e:65`",
    ),
];

/// Not an expression, here and there.
pub(super) const REFUSED: &[&str] = &[
    "http.hots == \"a\"",
    "http.host ==",
    "http.host == \"a",
    "http.host == \"\\q\"",
    "http.response.code == \"x\"",
    "http.response.code contains \"5\"",
    "ip.addr == ::1",
    "ipv6.addr == 10.0.0.1",
    "ip.addr == 10.0.0.0/33",
    "tcp.port in {}",
    "tcp.port in 5",
    "http.request.uri[1:0] == \"x\"",
    "http.request.uri[] == \"x\"",
    "tcp.port == 443.0",
    "http and",
    "(http",
    "http)",
    "http http",
    "443 == tcp.port",
    "http.host matches \"(\"",
];

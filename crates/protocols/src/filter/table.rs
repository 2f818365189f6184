//! The list of all fields, with Wireshark's names where it has the field.

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is there or not.
    Presence,
    /// 1 or 0.
    Flag,
    /// A whole number.
    Number,
    /// Seconds.
    Seconds,
    /// Bytes, mostly text.
    Text,
    /// An IPv4 address, also in IPv6 form.
    Ipv4,
    /// Another IPv6 address.
    Ipv6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldName {
    Address,
    AddressDestination,
    AddressSource,
    Body,
    CloseStatus,
    Comm,
    Compressed,
    Connection,
    Exchange,
    FileData,
    Frame,
    Grpc,
    GrpcData,
    Header,
    Host,
    Http,
    Http2,
    Http2Data,
    Http2Header,
    Http2HeaderName,
    Http2HeaderValue,
    Ipv4,
    Ipv6,
    IsRequest,
    IsResponse,
    Length,
    Method,
    Opcode,
    Pairing,
    Phrase,
    Pid,
    Port,
    PortDestination,
    PortSource,
    Program,
    RequestVersion,
    ResponseVersion,
    Status,
    Stream,
    Tcp,
    TcpStream,
    Time,
    Uid,
    Uri,
    UriPath,
    UriQuery,
    WebSocket,
    WebSocketText,
}

/// One line of the list.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) text: &'static str,
    pub(super) name: FieldName,
    pub(super) kind: Kind,
    /// Only the response has it.
    pub(super) of_response: bool,
    /// Its values are, or depend on, what is in bodies and payloads, not their lengths alone.
    pub(super) of_content: bool,
    /// The header that it is, in lower case.
    pub(super) header: &'static str,
}

const fn entry(text: &'static str, name: FieldName, kind: Kind) -> Entry {
    Entry {
        text,
        name,
        kind,
        of_response: false,
        of_content: false,
        header: "",
    }
}

const fn of_response(text: &'static str, name: FieldName, kind: Kind) -> Entry {
    Entry {
        of_response: true,
        ..entry(text, name, kind)
    }
}

const fn of_content(text: &'static str, name: FieldName, kind: Kind) -> Entry {
    Entry {
        of_content: true,
        ..entry(text, name, kind)
    }
}

/// A header of any version of HTTP.
const fn header(text: &'static str, header: &'static str) -> Entry {
    Entry {
        header,
        ..entry(text, FieldName::Header, Kind::Text)
    }
}

/// A header of HTTP/2.
const fn http2(text: &'static str, header: &'static str, kind: Kind) -> Entry {
    Entry {
        header,
        ..entry(text, FieldName::Http2Header, kind)
    }
}

pub(super) static FIELDS: &[Entry] = &[
    entry("frame", FieldName::Frame, Kind::Presence),
    entry("frame.len", FieldName::Length, Kind::Number),
    entry("ip", FieldName::Ipv4, Kind::Presence),
    entry("ip.addr", FieldName::Address, Kind::Ipv4),
    entry("ip.src", FieldName::AddressSource, Kind::Ipv4),
    entry("ip.dst", FieldName::AddressDestination, Kind::Ipv4),
    entry("ipv6", FieldName::Ipv6, Kind::Presence),
    entry("ipv6.addr", FieldName::Address, Kind::Ipv6),
    entry("ipv6.src", FieldName::AddressSource, Kind::Ipv6),
    entry("ipv6.dst", FieldName::AddressDestination, Kind::Ipv6),
    entry("tcp", FieldName::Tcp, Kind::Presence),
    entry("tcp.port", FieldName::Port, Kind::Number),
    entry("tcp.srcport", FieldName::PortSource, Kind::Number),
    entry("tcp.dstport", FieldName::PortDestination, Kind::Number),
    entry("tcp.stream", FieldName::TcpStream, Kind::Number),
    entry("http", FieldName::Http, Kind::Presence),
    entry("http2", FieldName::Http2, Kind::Presence),
    // Only who reads content finds gRPC messages in it.
    of_content("grpc", FieldName::Grpc, Kind::Presence),
    entry("websocket", FieldName::WebSocket, Kind::Presence),
    entry("http.request", FieldName::IsRequest, Kind::Flag),
    entry("http.request.method", FieldName::Method, Kind::Text),
    entry("http.request.uri", FieldName::Uri, Kind::Text),
    entry("http.request.uri.path", FieldName::UriPath, Kind::Text),
    entry("http.request.uri.query", FieldName::UriQuery, Kind::Text),
    entry("http.request.version", FieldName::RequestVersion, Kind::Text),
    entry("http.host", FieldName::Host, Kind::Text),
    entry("http.response", FieldName::IsResponse, Kind::Flag),
    of_response("http.response.code", FieldName::Status, Kind::Number),
    entry("http.response.phrase", FieldName::Phrase, Kind::Text),
    entry("http.response.version", FieldName::ResponseVersion, Kind::Text),
    of_response("http.time", FieldName::Time, Kind::Seconds),
    of_content("http.file_data", FieldName::FileData, Kind::Text),
    entry("http.header", FieldName::Header, Kind::Text),
    header("http.accept", "accept"),
    header("http.accept_encoding", "accept-encoding"),
    header("http.accept_language", "accept-language"),
    header("http.authorization", "authorization"),
    header("http.cache_control", "cache-control"),
    header("http.connection", "connection"),
    header("http.content_encoding", "content-encoding"),
    Entry {
        kind: Kind::Number,
        ..header("http.content_length", "content-length")
    },
    header("http.content_length_header", "content-length"),
    header("http.content_type", "content-type"),
    header("http.cookie", "cookie"),
    header("http.date", "date"),
    header("http.last_modified", "last-modified"),
    header("http.location", "location"),
    header("http.proxy_authenticate", "proxy-authenticate"),
    header("http.proxy_authorization", "proxy-authorization"),
    header("http.referer", "referer"),
    header("http.server", "server"),
    header("http.set_cookie", "set-cookie"),
    header("http.transfer_encoding", "transfer-encoding"),
    header("http.upgrade", "upgrade"),
    header("http.user_agent", "user-agent"),
    header("http.www_authenticate", "www-authenticate"),
    header("http.x_forwarded_for", "x-forwarded-for"),
    entry("http2.streamid", FieldName::Stream, Kind::Number),
    of_content("http2.data.data", FieldName::Http2Data, Kind::Text),
    entry("http2.header.name", FieldName::Http2HeaderName, Kind::Text),
    entry("http2.header.value", FieldName::Http2HeaderValue, Kind::Text),
    http2("http2.headers.accept", "accept", Kind::Text),
    http2("http2.headers.authority", ":authority", Kind::Text),
    http2("http2.headers.authorization", "authorization", Kind::Text),
    http2("http2.headers.content_encoding", "content-encoding", Kind::Text),
    http2("http2.headers.content_length", "content-length", Kind::Number),
    http2("http2.headers.content_type", "content-type", Kind::Text),
    http2("http2.headers.cookie", "cookie", Kind::Text),
    http2("http2.headers.location", "location", Kind::Text),
    http2("http2.headers.method", ":method", Kind::Text),
    http2("http2.headers.path", ":path", Kind::Text),
    http2("http2.headers.scheme", ":scheme", Kind::Text),
    http2("http2.headers.server", "server", Kind::Text),
    http2("http2.headers.set_cookie", "set-cookie", Kind::Text),
    http2("http2.headers.status", ":status", Kind::Number),
    http2("http2.headers.user_agent", "user-agent", Kind::Text),
    of_content("grpc.compressed_flag", FieldName::Compressed, Kind::Flag),
    of_content("grpc.message_data", FieldName::GrpcData, Kind::Text),
    entry("websocket.opcode", FieldName::Opcode, Kind::Number),
    entry(
        "websocket.payload.close.status_code",
        FieldName::CloseStatus,
        Kind::Number,
    ),
    of_content("websocket.payload.text", FieldName::WebSocketText, Kind::Text),
    of_content("body", FieldName::Body, Kind::Text),
    entry("connection", FieldName::Connection, Kind::Number),
    entry("exchange", FieldName::Exchange, Kind::Number),
    of_response("exchange.pairing", FieldName::Pairing, Kind::Text),
    entry("proc.comm", FieldName::Comm, Kind::Text),
    entry("proc.pid", FieldName::Pid, Kind::Number),
    entry("proc.program", FieldName::Program, Kind::Text),
    entry("proc.uid", FieldName::Uid, Kind::Number),
];

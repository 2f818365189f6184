//! Parses a complete head (RFC 9112 §2–§5) for the facts that the decoder needs.

use std::mem::MaybeUninit;

use bytes::Bytes;
use httparse::{Header, ParserConfig};
use memchr::{memchr, memchr_iter};

use crate::decoder::MethodClass;
use crate::head::{RequestLine, split_head};
use crate::limits::Limits;
use crate::message::{Anomaly, Http1Kind};
use crate::text::trim_white_space;

/// Number of header fields that are parsed without an allocation.
const USUAL_FIELDS: usize = 64;

/// The kind of messages that a direction carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Requests,
    Responses,
}

/// The parts of a start line and header fields that concern framing and content.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) kind: Http1Kind,
    /// `Other` for responses.
    pub(super) method: MethodClass,
    pub(super) minor_version: u8,
    pub(super) length: Length,
    pub(super) transfer: Transfer,
    /// True if there is a `Transfer-Encoding` field, even if it names no coding.
    pub(super) has_transfer: bool,
    pub(super) upgrade: Option<Upgrade>,
    pub(super) content_encoding: Option<Bytes>,
    pub(super) content_type: Option<Bytes>,
    /// The content is an event stream.
    pub(super) is_event_stream: bool,
    /// Where the value of the Host field is in the head.
    host: Host,
    pub(super) anomalies: Vec<Anomaly>,
}

/// All `Host` fields together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    Absent,
    At {
        start: u32,
        len: u32,
    },
    Several,
    /// The head was changed before it was parsed.
    Elsewhere,
}

/// All `Content-Length` fields together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Absent,
    Bad,
    Is(u64),
}

/// All `Transfer-Encoding` fields together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transfer {
    Absent,
    Bad,
    /// Chunked, applied over these codings (a list as in `Content-Encoding`, mostly empty).
    Chunked(Vec<u8>),
    /// These codings without chunked.
    Unchunked(Vec<u8>),
}

/// The protocol that the connection changes to if the other side agrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    Http2,
    Other,
    WebSocket,
}

/// Finds the end of a head that arrives in pieces, without examining a byte twice.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// Where the search continues.
    next: usize,
    /// Up to where the target of a request line has no end; 0 if that is not known.
    in_target: usize,
    has_start_line: bool,
    bare_lf: bool,
}

const fn ends_target(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7F
}

impl HeadScan {
    /// Returns the length of the head with its empty line. `bytes` must begin with those of the
    /// previous call.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let start = self.next;
        for newline in memchr_iter(b'\n', &bytes[start..]).map(|offset| start + offset) {
            self.next = newline;
            let end = match bytes[newline + 1..] {
                [b'\n', ..] => newline + 2,
                [b'\r', b'\n', ..] => newline + 3,
                [] | [b'\r'] => return None,
                _ => 0,
            };
            self.bare_lf |= newline == 0 || bytes[newline - 1] != b'\r' || end == newline + 2;
            if end > 0 {
                return Some(end);
            }
        }
        if self.next == start && start < bytes.len() && bytes[start] != b'\n' {
            self.next = bytes.len();
        }
        None
    }

    /// Returns true if `bytes`, which must begin with those of the previous call, still begin as noted
    /// by [`Self::note`]: with a complete start line, or with a request target that has not ended. So
    /// each byte is examined once, however many events bring them.
    pub(super) fn is_known(&mut self, bytes: &[u8]) -> bool {
        if self.has_start_line {
            return true;
        }
        let goes_on = self.in_target > 0 && !bytes[self.in_target..].iter().copied().any(ends_target);
        self.in_target = if goes_on { bytes.len() } else { 0 };
        goes_on
    }

    /// Notes that `bytes` begin with a start line, a complete one if `whole` is true.
    pub(super) fn note(&mut self, bytes: &[u8], side: Side, whole: bool) {
        self.has_start_line = whole;
        let target = memchr(b' ', bytes).map_or(bytes.len(), |space| space + 1);
        let is_in = side == Side::Requests
            && target < bytes.len()
            && !bytes[target..].iter().copied().any(ends_target);
        self.in_target = if is_in { bytes.len() } else { 0 };
    }

    /// Returns true if no byte has been examined.
    pub(super) fn is_new(&self) -> bool {
        self.next == 0
    }

    pub(super) fn has_bare_lf(&self) -> bool {
        self.bare_lf
    }
}

/// A head, its length, and whether all its lines end in CRLF.
struct Parsed {
    head: Head,
    len: usize,
    is_crlf: bool,
}

/// Parses the head that `input` begins with, if there is nothing odd about it. `None` only means
/// that [`HeadScan`] and [`parse`] must be used instead.
pub(super) fn parse_plain(input: &Bytes, side: Side) -> Option<(Head, usize)> {
    let parsed = parse_with(&ParserConfig::default(), input, side, USUAL_FIELDS).ok()?;
    parsed.is_crlf.then_some((parsed.head, parsed.len))
}

/// Parses `head`, which ends in its empty line. `None` if it is not a head.
pub(super) fn parse(head: &Bytes, side: Side, limits: &Limits) -> Option<Head> {
    let strict = ParserConfig::default();
    let parsed = match parse_with(&strict, head, side, USUAL_FIELDS) {
        Err(httparse::Error::TooManyHeaders) => parse_with(&strict, head, side, limits.http1_header_fields),
        parsed => parsed,
    };
    match parsed {
        Ok(parsed) => Some(parsed.head),
        Err(httparse::Error::TooManyHeaders) => None,
        Err(_) => parse_tolerant(head, side, limits),
    }
}

/// Parses a head that strict recipients reject but that can be framed.
fn parse_tolerant(head: &Bytes, side: Side, limits: &Limits) -> Option<Head> {
    let mut config = ParserConfig::default();
    config
        .ignore_invalid_headers_in_requests(true)
        .ignore_invalid_headers_in_responses(true);
    let (plain, mut anomalies) = super::normal::normalise(head, side);
    let parsed = parse_with(&config, &plain.into(), side, limits.http1_header_fields).ok()?;
    let mut head = parsed.head;
    anomalies.append(&mut head.anomalies);
    head.is_changed();
    Some(Head { anomalies, ..head })
}

fn parse_with(
    config: &ParserConfig,
    input: &Bytes,
    side: Side,
    fields: usize,
) -> Result<Parsed, httparse::Error> {
    if fields == USUAL_FIELDS {
        let mut slots = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
        parse_into(config, input, side, &mut slots)
    } else {
        let mut slots = vec![MaybeUninit::uninit(); fields];
        parse_into(config, input, side, &mut slots)
    }
}

fn parse_into<'input>(
    config: &ParserConfig,
    input: &'input Bytes,
    side: Side,
    slots: &mut [MaybeUninit<Header<'input>>],
) -> Result<Parsed, httparse::Error> {
    match side {
        Side::Requests => {
            let mut request = httparse::Request::new(&mut []);
            let status = config.parse_request_with_uninit_headers(&mut request, input, slots)?;
            let method = match request.method {
                Some("CONNECT") => MethodClass::Connect,
                Some("HEAD") => MethodClass::Head,
                _ => MethodClass::Other,
            };
            let head = Head::new(Http1Kind::Request, method, request.version);
            head.read(input, status, request.headers)
        }
        Side::Responses => {
            let mut response = httparse::Response::new(&mut []);
            let status = config.parse_response_with_uninit_headers(&mut response, input, slots)?;
            let kind = Http1Kind::Response {
                status: response.code.unwrap_or(0),
            };
            let head = Head::new(kind, MethodClass::Other, response.version);
            head.read(input, status, response.headers)
        }
    }
}

/// Returns true if all lines end in CRLF. Every line except the last two ends right before a
/// field's name.
fn is_crlf(head: &[u8], fields: &[Header<'_>]) -> bool {
    let ends_line_before = |field: &Header<'_>| {
        let start = field.name.as_ptr() as usize - head.as_ptr() as usize;
        head[..start].ends_with(b"\r\n")
    };
    head.ends_with(b"\r\n\r\n") && fields.iter().all(ends_line_before)
}

impl Head {
    fn new(kind: Http1Kind, method: MethodClass, version: Option<u8>) -> Self {
        Self {
            kind,
            method,
            minor_version: version.unwrap_or(1),
            length: Length::Absent,
            transfer: Transfer::Absent,
            has_transfer: false,
            upgrade: None,
            content_encoding: None,
            content_type: None,
            is_event_stream: false,
            host: Host::Absent,
            anomalies: Vec::new(),
        }
    }

    fn read(
        mut self,
        input: &Bytes,
        status: httparse::Status<usize>,
        fields: &[Header<'_>],
    ) -> Result<Parsed, httparse::Error> {
        let httparse::Status::Complete(len) = status else {
            return Err(httparse::Error::NewLine);
        };
        for field in fields {
            self.read_field(input, field);
        }
        Ok(Parsed {
            head: self,
            len,
            is_crlf: is_crlf(&input[..len], fields),
        })
    }

    fn read_field(&mut self, head: &Bytes, field: &Header<'_>) {
        // Comparing the length first excludes nearly all other fields at the cost of one
        // comparison.
        if !matches!(field.name.len(), 4 | 7 | 12 | 14 | 16 | 17) {
            return;
        }
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let value = trim_white_space(field.value);
        match field.name.len() {
            4 if is("host") => self.host = self.host.and(head, value),
            7 if is("upgrade") => self.upgrade = Some(self.upgrade.unwrap_or_else(|| upgrade(value))),
            12 if is("content-type") => {
                self.is_event_stream = is_event_stream(value);
                self.content_type = Some(head.slice_ref(value));
            }
            14 if is("content-length") => self.length = self.length.and(value),
            16 if is("content-encoding") => {
                let joined = self
                    .content_encoding
                    .take()
                    .map(|first| join(&first, value).into());
                self.content_encoding = Some(joined.unwrap_or_else(|| head.slice_ref(value)));
            }
            17 if is("transfer-encoding") => {
                self.has_transfer = true;
                let transfer = std::mem::replace(&mut self.transfer, Transfer::Absent);
                self.transfer = transfer.and(value);
            }
            _ => {}
        }
    }

    /// Notes that the head is not shown as it was parsed.
    pub(super) const fn is_changed(&mut self) {
        self.host = Host::Elsewhere;
    }

    /// Returns the parts of the request line that `head`, which was parsed, begins with.
    pub(super) fn request_line<'a>(&self, head: &'a [u8]) -> Option<RequestLine<'a>> {
        let (start_line, fields) = split_head(head);
        match self.host {
            Host::Elsewhere => RequestLine::parse(start_line, &fields),
            Host::At { start, len } => {
                let (start, len) = (start as usize, len as usize);
                RequestLine::with_host(start_line, || head.get(start..start + len))
            }
            Host::Absent | Host::Several => RequestLine::with_host(start_line, || None),
        }
    }

    /// Returns all codings of the content, those of the transfer last.
    pub(super) fn codings(&self) -> Option<Bytes> {
        let transfer = match &self.transfer {
            Transfer::Chunked(codings) | Transfer::Unchunked(codings) => &codings[..],
            Transfer::Absent | Transfer::Bad => &[],
        };
        match (&self.content_encoding, transfer) {
            (content, []) => content.clone(),
            (None, transfer) => Some(Bytes::copy_from_slice(transfer)),
            (Some(content), transfer) => Some(join(content, transfer).into()),
        }
    }
}

impl Host {
    /// Adds a further value, which is a part of `head`.
    fn and(self, head: &[u8], value: &[u8]) -> Self {
        match self {
            Self::Absent => {
                // An empty value may be anywhere.
                let start = (value.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
                match (u32::try_from(start), u32::try_from(value.len())) {
                    (_, Ok(0)) => Self::At { start: 0, len: 0 },
                    (Ok(start), Ok(len)) => Self::At { start, len },
                    _ => Self::Elsewhere,
                }
            }
            Self::At { .. } | Self::Several => Self::Several,
            Self::Elsewhere => Self::Elsewhere,
        }
    }
}

impl Length {
    /// Adds further values, which must all be the same number (RFC 9112 §6.3).
    fn and(mut self, values: &[u8]) -> Self {
        for value in values.split(|&byte| byte == b',').map(trim_white_space) {
            self = match (self, number(value)) {
                (Self::Absent, Some(number)) => Self::Is(number),
                (Self::Is(first), Some(number)) if first == number => self,
                _ => Self::Bad,
            };
        }
        self
    }
}

impl Transfer {
    /// Adds further codings, applied after the previous ones. Chunked must be the last one, and
    /// occur once.
    fn and(mut self, values: &[u8]) -> Self {
        let tokens = values.split(|&byte| byte == b',').map(trim_white_space);
        for token in tokens.filter(|token| !token.is_empty()) {
            let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
            self = match self {
                Self::Bad | Self::Chunked(_) => return Self::Bad,
                Self::Absent if is("chunked") => Self::Chunked(Vec::new()),
                Self::Unchunked(codings) if is("chunked") => Self::Chunked(codings),
                Self::Absent if is("gzip") || is("x-gzip") || is("deflate") => {
                    Self::Unchunked(token.to_vec())
                }
                Self::Unchunked(codings) if is("gzip") || is("x-gzip") || is("deflate") => {
                    Self::Unchunked(join(&codings, token))
                }
                Self::Absent if is("identity") => Self::Absent,
                _ => Self::Bad,
            };
        }
        self
    }
}

fn is_event_stream(content_type: &[u8]) -> bool {
    const EVENT_STREAM: &[u8] = b"text/event-stream";
    let essence = content_type.get(..EVENT_STREAM.len());
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case(EVENT_STREAM))
}

fn join(first: &[u8], second: &[u8]) -> Vec<u8> {
    [first, b",", second].concat()
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

fn upgrade(value: &[u8]) -> Upgrade {
    let mut protocols = value.split(|&byte| byte == b',').map(trim_white_space);
    let first = protocols.next().unwrap_or_default();
    if first.eq_ignore_ascii_case(b"websocket") {
        Upgrade::WebSocket
    } else if first.eq_ignore_ascii_case(b"h2c") {
        Upgrade::Http2
    } else {
        Upgrade::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Option<Head> {
        parse(
            &Bytes::copy_from_slice(text.as_bytes()),
            Side::Requests,
            &Limits::default(),
        )
    }

    fn fields(text: &str) -> Head {
        request(&format!("GET / HTTP/1.1\r\n{text}\r\n")).unwrap()
    }

    #[test]
    fn the_end_is_found_in_any_pieces() {
        for text in ["a\r\nb\r\n\r\nrest", "a\nb\n\nrest", "a\r\nb\n\r\n\r\n"] {
            let whole = HeadScan::default().end(text.as_bytes()).unwrap();
            let mut scan = HeadScan::default();
            let found = (0..=text.len()).find_map(|len| scan.end(&text.as_bytes()[..len]));
            assert_eq!(found, Some(whole), "{text:?}");
            assert!(text[..whole].ends_with("\n\n") || text[..whole].ends_with("\n\r\n"));
        }
    }

    #[test]
    fn bare_line_feeds_are_noticed() {
        for (text, bare) in [
            ("a\r\nb\r\n\r\n", false),
            ("a\nb\r\n\r\n", true),
            ("a\r\n\n", true),
        ] {
            let mut scan = HeadScan::default();
            scan.end(text.as_bytes()).unwrap();
            assert_eq!(scan.has_bare_lf(), bare, "{text:?}");
        }
    }

    #[test]
    fn the_request_line_is_that_of_the_wire() {
        for text in [
            "GET /a HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET /a HTTP/1.1\r\nx: y\r\nhOST:  b:1 \r\nz: y\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost:\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: b\r\nHost: c\r\nHost: d\r\n\r\n",
            "GET /a HTTP/1.1\r\nHosts: b\r\n\r\n",
            "GET http://b/c HTTP/1.1\r\nHost: d\r\n\r\n",
            "CONNECT b:443 HTTP/1.1\r\nHost: d\r\n\r\n",
            "GET /a HTTP/1.1\nHost: b\n\n",
            "GET  /a\x20\x20HTTP/1.1\r\nno colon\r\nHost: b\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: b\r\n c\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost : b\r\n\r\n",
        ] {
            let (start_line, fields) = split_head(text.as_bytes());
            let head = request(text).unwrap();
            let line = head.request_line(text.as_bytes());
            assert_eq!(line, RequestLine::parse(start_line, &fields), "{text:?}");
        }
    }

    #[test]
    fn lengths() {
        assert_eq!(fields("").length, Length::Absent);
        assert_eq!(fields("content-LENGTH: 42 \r\n").length, Length::Is(42));
        assert_eq!(
            fields("Content-Length: 7, 7\r\nContent-Length: 7\r\n").length,
            Length::Is(7)
        );
        for bad in ["+1", "-1", "", "1 2", "0x1", "99999999999999999999", "1,2"] {
            assert_eq!(
                fields(&format!("Content-Length: {bad}\r\n")).length,
                Length::Bad,
                "{bad}"
            );
        }
        assert_eq!(
            fields("Content-Length: 1\r\nContent-Length: 2\r\n").length,
            Length::Bad
        );
    }

    #[test]
    fn transfer_codings() {
        let transfer = |value: &str| fields(&format!("Transfer-Encoding: {value}\r\n")).transfer;
        assert_eq!(transfer("Chunked"), Transfer::Chunked(vec![]));
        assert_eq!(transfer("gzip, chunked"), Transfer::Chunked(b"gzip".to_vec()));
        assert_eq!(transfer("gzip"), Transfer::Unchunked(b"gzip".to_vec()));
        for bad in [
            "chunked, gzip",
            "chunked, chunked",
            "xchunked",
            "chunked, identity",
        ] {
            assert_eq!(transfer(bad), Transfer::Bad, "{bad}");
        }
    }

    #[test]
    fn codings_of_content_and_transfer_join() {
        let head =
            fields("Content-Encoding: br\r\nTransfer-Encoding: gzip, chunked\r\ncontent-encoding: zstd\r\n");
        assert_eq!(head.codings().unwrap(), "br,zstd,gzip");
    }

    #[test]
    fn many_fields_are_read_up_to_the_limit() {
        let with = |count| request(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count)));
        assert!(with(65).is_some());
        assert!(with(1024).is_some());
        assert!(with(1025).is_none());
    }

    #[test]
    fn odd_heads_are_read_and_marked() {
        let head = fields("Content-Length : 5\r\nContent-Type: a/b;\r\n c=d\r\n");
        assert_eq!(head.length, Length::Is(5));
        assert_eq!(head.content_type.unwrap(), "a/b;   c=d");
        assert_eq!(head.anomalies, [Anomaly::ObsFold, Anomaly::SpaceBeforeColon]);
        let head = fields("no colon\r\nbad name: 1\r\nContent-Length: 5\r\nx: \x01\r\n");
        assert_eq!(head.length, Length::Is(5));
        assert_eq!(head.anomalies, [Anomaly::BadFieldLine]);
    }

    #[test]
    fn other_texts_are_not_a_head() {
        assert!(request("GET / HTTP/2.0\r\n\r\n").is_none());
        assert!(request("hello\r\n\r\n").is_none());
    }
}

//! The messages that decoders emit.

mod properties;

use std::fmt;

use bytes::Bytes;

use crate::event::{Fact, JoinedLate};
use crate::exchange::Exchange;

/// One decoded unit, ready to be formatted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Kernel time of the event that brought the first byte, nanoseconds.
    pub first_ns: u64,
    /// Kernel time of the event that brought the last byte, nanoseconds.
    pub last_ns: u64,
    /// The exchange that it belongs to, if the view pairs requests and responses.
    pub exchange: Option<Exchange>,
    /// The unit itself.
    pub content: Content,
}

/// The kinds of units. Boxed where large so that a `Message` stays small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A fact about a process, of no stream.
    Fact(Box<Fact>),
    /// A gap in the captured bytes.
    Gap(Gap),
    /// One gRPC message of an HTTP/2 stream.
    Grpc(Box<GrpcMessage>),
    /// An HTTP/1 request or response.
    Http1(Box<Http1Message>),
    /// An HTTP/2 frame; the text format's unit.
    Http2Frame(Box<Http2Frame>),
    /// An HTTP/2 request or response; the structured format's unit.
    Http2(Box<Http2Message>),
    /// Bytes of no known protocol.
    Raw(Raw),
    /// A request whose response is no longer waited for: the connection has ended
    /// ([`Pairing::NoResponse`](crate::Pairing::NoResponse)), or, in views that join, the request would
    /// have been held for too long. What is known of it is in [`Message::exchange`].
    Unanswered,
    /// One server-sent event.
    ServerSentEvent(Box<ServerSentEvent>),
    /// One WebSocket message or control frame.
    WebSocket(Box<WebSocketMessage>),
}

/// Bytes that the capture did not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Number of bytes, if known.
    pub bytes: Option<u64>,
    /// Why.
    pub reason: GapReason,
}

/// Why bytes are missing from a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// The kernel programs could not deliver them; their counters say why.
    KernelLoss,
    /// The decoder was replaced after a failure; the bytes it held are lost.
    Restart,
    /// The pipeline dropped them to stay within its limits.
    Shed,
    /// None are missing: the rest is shown as captured, because decoding the connection took too
    /// long.
    Quarantined,
    /// The connection was opened before the capture saw it; its first bytes may be missing.
    JoinedLate(JoinedLate),
    /// They were captured, and are left out because they cannot be searched for secrets.
    Redacted,
    /// They are left out because only a part of each message may be shown.
    Privacy,
}

impl GapReason {
    /// Returns the reason's name in both formats.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KernelLoss => "kernel_loss",
            Self::Restart => "restart",
            Self::Shed => "shed",
            Self::Quarantined => "quarantined",
            Self::JoinedLate(reason) => reason.as_str(),
            Self::Redacted => "redacted",
            Self::Privacy => "privacy",
        }
    }
}

/// Bytes of no known protocol, as they were captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// The bytes.
    pub data: Bytes,
}

/// A message body (RFC 9110 §6.4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// Content after de-chunking and decoding, at most the limit's bytes.
    pub data: Bytes,
    /// Bytes of body on the wire, after de-chunking and before decoding.
    pub wire_len: u64,
    /// Bytes after decoding, including those beyond the limit.
    pub len: u64,
    /// Announced length on the wire (`Content-Length`), when announced.
    pub expected: Option<u64>,
    /// Content codings that were undone, in the order they were applied by the sender.
    pub encoding: Vec<&'static str>,
    /// The media type as announced, to choose how it is shown.
    pub content_type: Option<Bytes>,
    /// Every byte of the body was seen.
    pub complete: bool,
    /// Set when `data` was cut at this many bytes.
    pub truncated_at: Option<u64>,
    /// Why decoding stopped early.
    pub error: Option<BodyError>,
}

/// The name of a coding as announced, cut at a length that no registered name reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodingName {
    bytes: [u8; Self::LONGEST],
    len: u8,
}

impl CodingName {
    const LONGEST: usize = 23;

    /// Keeps the first bytes of `name`, or all of it if it is as short as a coding's name.
    pub fn new(name: &[u8]) -> Self {
        let len = name.len().min(Self::LONGEST);
        let mut bytes = [0; Self::LONGEST];
        bytes[..len].copy_from_slice(&name[..len]);
        Self {
            bytes,
            len: u8::try_from(len).unwrap_or(0),
        }
    }
}

impl fmt::Display for CodingName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}",
            self.bytes[..usize::from(self.len)].escape_ascii()
        )
    }
}

/// A number of bytes, displayed in the largest unit without a fraction.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes.is_multiple_of(1 << 20) => write!(formatter, "{} MiB", bytes >> 20),
            bytes if bytes > 0 && bytes.is_multiple_of(1 << 10) => write!(formatter, "{} KiB", bytes >> 10),
            bytes => write!(formatter, "{bytes} bytes"),
        }
    }
}

/// Which rule of RFC 6455 §5 the header of a WebSocket frame breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// A length of 2^63 or more (§5.2).
    #[error("frame length with its highest bit set")]
    LengthBit,
    /// RSV2 or RSV3, which no extension defines (§5.2).
    #[error("reserved bits set in the frame header")]
    ReservedBits,
    /// An opcode from 3 to 7, or from 11 on (§5.2).
    #[error("reserved opcode")]
    ReservedOpcode,
    /// Such an opcode, without FIN.
    #[error("fragment of a reserved opcode")]
    ReservedFragment,
    /// A control frame without FIN (§5.5).
    #[error("fragmented control frame")]
    ControlFragment,
    /// A control frame that is too long (§5.5).
    #[error("control frame of more than 125 bytes")]
    ControlLength,
    /// RFC 7692 §6.1: only the first frame of a message of data may have RSV1.
    #[error("RSV1 set on a frame that is not the first of a message")]
    Compressed,
    /// A length with more octets than it needs (§5.2).
    #[error("frame length not in its shortest form")]
    LengthForm,
    /// The client must mask (§5.1).
    #[error("frame of the client is not masked")]
    NotMasked,
    /// The server must not mask (§5.1).
    #[error("frame of the server is masked")]
    Masked,
}

/// Why a body could not be decoded to its end. The part decoded so far is in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A chunk size line does not follow RFC 9112 §7.1.
    #[error("bad chunk size")]
    BadChunk,
    /// The content does not begin as the coding requires; it is shown as received.
    #[error("not {coding} data")]
    NotCoded {
        /// The coding that was announced.
        coding: &'static str,
    },
    /// The coded stream needs more memory than the limit; it is shown as received.
    #[error("{coding} window of {} exceeds the limit of {}", Size(*.window), Size(*.limit))]
    WindowTooLarge {
        /// The coding.
        coding: &'static str,
        /// Bytes that the stream asks for.
        window: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// The coded stream ends before the body does; the bytes after it are not shown.
    #[error("{bytes} bytes after the end of the {coding} data")]
    Trailing {
        /// The coding.
        coding: &'static str,
        /// How many.
        bytes: u64,
    },
    /// The coded stream is damaged; it is shown as received.
    #[error("corrupt {coding} data")]
    Corrupt {
        /// The coding that failed.
        coding: &'static str,
    },
    /// The body is complete, but the coded stream inside it is not.
    #[error("{coding} data ends early")]
    EndsEarly {
        /// The coding that is not at its end.
        coding: &'static str,
    },
    /// The decoded size passed the limit; the rest was not decoded.
    #[error("decoded body exceeds the limit")]
    OutputLimit,
    /// The connection's codings expand more than the limit allows; the rest was not decoded.
    #[error("decoded content expands beyond the limit")]
    ExpansionLimit,
    /// Bytes inside the body were lost.
    #[error("gap in the body")]
    Gap,
    /// The stream ended before the announced number of bytes was received.
    #[error("ends before its announced length")]
    Incomplete,
    /// A WebSocket frame breaks a rule of RFC 6455 §5 and is shown nevertheless.
    #[error("{fault}")]
    IllegalFrame {
        /// The rule.
        fault: FrameFault,
    },
    /// The coding is unknown; the body is shown as received.
    #[error("unknown content coding {name}")]
    UnknownCoding {
        /// As announced.
        name: CodingName,
    },
    /// More codings than the limit.
    #[error("too many content codings")]
    TooManyCodings,
    /// The content may not be shown ([`crate::privacy::Level`]).
    #[error("{bytes} bytes of content left out for privacy")]
    LeftOut {
        /// How many, on the wire.
        bytes: u64,
    },
}

/// Which part of a message this is, when it had to be emitted in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// The head and the body bytes received so far; more parts may follow.
    First,
    /// Body bytes that follow an earlier part; `final_part` says whether it ends the message.
    Continued {
        /// No further part follows.
        final_part: bool,
    },
}

/// An HTTP/1 message (RFC 9112).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http1Message {
    /// Request or response.
    pub kind: Http1Kind,
    /// Start line and header section as on the wire, up to and including the empty line.
    pub head: Bytes,
    /// The body.
    pub body: Body,
    /// Trailer section as on the wire without the final empty line; empty when there is none.
    pub trailers: Bytes,
    /// Framing that strict recipients reject or that recipients interpret differently.
    pub anomalies: Vec<Anomaly>,
    /// Whole, or which part.
    pub part: Part,
}

/// The kind of a start line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http1Kind {
    /// A request line.
    Request,
    /// A status line with this status code.
    Response {
        /// Status code, 100–999.
        status: u16,
    },
}

/// Oddities in HTTP/1 framing (RFC 9112 §11.2 and others). Marked, never guessed away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Anomaly {
    /// Both `Transfer-Encoding` and `Content-Length`.
    #[error("both Transfer-Encoding and Content-Length")]
    BothLengths,
    /// Several different `Content-Length` values, or one that is not a number.
    #[error("conflicting or invalid Content-Length")]
    BadContentLength,
    /// `Transfer-Encoding` whose last coding is not chunked, or an unknown one.
    #[error("unsupported Transfer-Encoding")]
    BadTransferEncoding,
    /// A line that ends in a bare LF.
    #[error("bare LF line ends")]
    BareLf,
    /// A folded header line (obs-fold).
    #[error("obsolete line folding")]
    ObsFold,
    /// White space between a field name and its colon.
    #[error("space before a header's colon")]
    SpaceBeforeColon,
    /// A header line without a colon, with an invalid name or with control characters.
    #[error("invalid header line")]
    BadFieldLine,
    /// A request target with white space, control characters or bytes beyond ASCII.
    #[error("invalid request target")]
    BadTarget,
    /// A head or trailer section beyond its limit; the rest of it is not shown.
    #[error("header section exceeds the limit and is cut")]
    HeadTooLong,
    /// The request was not seen, and the bytes after the head show that it has no body.
    #[error("read as an answer to HEAD, the request was not seen")]
    GuessedHead,
    /// A chunk size or chunk extension that recipients read differently.
    #[error("bad chunk framing")]
    BadChunk,
}

/// One HTTP field of a decoded field section. A name or value is absent if it depends on lost HPACK
/// state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name as on the wire.
    pub name: Option<Bytes>,
    /// Value as on the wire.
    pub value: Option<Bytes>,
    /// Sent as a never-indexed literal (RFC 7541 §7.1.3).
    pub sensitive: bool,
}

impl Field {
    /// Returns the size of the field in a list (RFC 9113 §6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE).
    pub(crate) fn listed_bytes(&self) -> usize {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        length(&self.name) + length(&self.value) + 32
    }
}

/// An HTTP/2 request or response: one direction of one stream (RFC 9113 §8.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2Message {
    /// Request or response.
    pub kind: Http2Kind,
    /// Stream id; for a pushed request, the id of the promised stream.
    pub stream: u32,
    /// The request came in PUSH_PROMISE, or the response answers a pushed request.
    pub pushed: bool,
    /// Field section with pseudo-header fields, in wire order.
    pub fields: Vec<Field>,
    /// Trailer section.
    pub trailers: Vec<Field>,
    /// The content.
    pub body: Body,
    /// Whole, or which part.
    pub part: Part,
    /// Error code of the RST_STREAM that ended it.
    pub reset: Option<u32>,
    /// Why a field section is incomplete, if one is.
    pub error: Option<Http2Error>,
}

/// Why a field section is incomplete, or which rule of RFC 9113 a frame breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Http2Error {
    /// Fields of the header block are missing.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The header block is longer than the limit.
    #[error("header block exceeds the limit")]
    BlockLimit,
    /// No frame with END_HEADERS follows.
    #[error("rest of the header block is missing")]
    BlockCut,
    /// More padding than payload (§6.1).
    #[error("bad padding")]
    Padding,
    /// The length is not one that the type of the frame allows (§4.2).
    #[error("frame of a wrong length")]
    FrameLength,
    /// The frame is longer than the limit.
    #[error("frame exceeds the limit")]
    FrameLimit,
    /// A CONTINUATION frame that continues nothing (§6.10).
    #[error("CONTINUATION without a header block before it")]
    StrayContinuation,
    /// DATA of a stream without HEADERS (§8.1).
    #[error("content without a header section")]
    NoHeaders,
}

/// Why fields of an HTTP/2 header block are missing (RFC 7541).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The block ends inside a representation, or has one that RFC 7541 does not define. The
    /// dynamic table was dropped, because it is unknown how many entries the rest would have
    /// inserted.
    #[error("header block is damaged")]
    Damaged,
    /// The fields together pass [`Limits::hpack_list_bytes`](crate::Limits::hpack_list_bytes); those beyond are left out.
    #[error("header list exceeds the limit")]
    ListLimit,
    /// A name or value is not valid Huffman code; it is unknown.
    #[error("bad Huffman code")]
    Huffman,
    /// An index beyond both tables, although nothing is missing from them (RFC 7541 §2.3.3).
    #[error("header index beyond the table")]
    Index,
    /// A size update that does not begin the block (RFC 7541 §4.2).
    #[error("table size update inside a header block")]
    SizeUpdate,
}

/// Which side of an exchange an HTTP/2 message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http2Kind {
    /// Carries `:method`.
    Request,
    /// Carries `:status`.
    Response,
}

/// One HTTP/2 frame (RFC 9113 §4.1), decoded to the extent that the text format shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2Frame {
    /// Frame type octet.
    pub frame_type: u8,
    /// Flags octet.
    pub flags: u8,
    /// Stream id without the reserved bit.
    pub stream: u32,
    /// Length field: payload length including padding.
    pub length: u32,
    /// The payload, where it is shown.
    pub detail: Http2Detail,
}

/// The shown payload of an HTTP/2 frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Http2Detail {
    /// Frame header only.
    None,
    /// A complete field section. It is shown with the frame that carried END_HEADERS or, for a
    /// section with CONTINUATION frames, with the HEADERS or PUSH_PROMISE frame.
    Fields {
        /// Fields in wire order.
        fields: Vec<Field>,
        /// PUSH_PROMISE: the promised stream id.
        promised: Option<u32>,
        /// Why the section is incomplete, if it is.
        error: Option<Http2Error>,
    },
    /// DATA shown as received, without padding.
    Data(Bytes),
    /// Some of the content of a DATA frame that is shown in parts because it is long or arrives
    /// slowly; never [`Part::Whole`].
    DataPart {
        /// Content of this part, without padding.
        data: Bytes,
        /// Which part.
        part: Part,
    },
    /// DATA of a stream that carries another protocol, such as gRPC; its messages follow.
    Carrier,
    /// DATA of a stream with a content coding; its decoded content follows in `Merged`.
    CodedData {
        /// Name of the coding as in the field, such as `gzip`.
        coding: Bytes,
    },
    /// Not a frame of its own: the decoded content of a stream that used a content coding.
    Merged(Body),
    /// A frame that breaks a rule of RFC 9113 or RFC 7541, and the part of its payload that is in
    /// no message.
    Malformed {
        /// The payload as received.
        payload: Bytes,
        /// The rule.
        error: Http2Error,
    },
    /// RST_STREAM or GOAWAY.
    Error {
        /// Error code (RFC 9113 §7).
        code: u32,
        /// GOAWAY: last stream id.
        last_stream: Option<u32>,
        /// GOAWAY: additional debug data.
        debug: Bytes,
    },
    /// SETTINGS parameters as (identifier, value).
    Settings(Vec<(u16, u32)>),
}

/// One length-prefixed gRPC message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcMessage {
    /// HTTP/2 stream id.
    pub stream: u32,
    /// Which side sent it.
    pub kind: Http2Kind,
    /// Position in the stream's direction, from 0.
    pub index: u64,
    /// The compressed flag was set.
    pub compressed: bool,
    /// Length on the wire.
    pub wire_len: u64,
    /// Content after decompression.
    pub data: Bytes,
    /// Schema-less dump, when the content reads as protobuf.
    pub fields: Option<Vec<ProtobufField>>,
    /// Set when it could not be decoded or was cut.
    pub error: Option<BodyError>,
}

/// One field of a schema-less protobuf dump.
#[derive(Debug, Clone, PartialEq)]
pub struct ProtobufField {
    /// Field number.
    pub number: u32,
    /// Value by wire type.
    pub value: ProtobufValue,
}

impl Eq for ProtobufField {}

/// A protobuf value, interpreted by its wire type alone.
#[derive(Debug, Clone, PartialEq)]
pub enum ProtobufValue {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 5.
    Fixed32(u32),
    /// Wire type 2 that is printable UTF-8.
    Text(String),
    /// Wire type 2 that can be read as a message.
    Message(Vec<ProtobufField>),
    /// Wire type 2 that is neither.
    Bytes(Bytes),
}

/// One WebSocket message, reassembled, or one control frame (RFC 6455).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketMessage {
    /// Opcode of the (first) frame: 1 text, 2 binary, 8 close, 9 ping, 10 pong. 0 for the rest of
    /// a message whose beginning was lost or already emitted as incomplete.
    pub opcode: u8,
    /// Unmasked and decompressed application data.
    pub data: Bytes,
    /// permessage-deflate was used (RFC 7692).
    pub compressed: bool,
    /// Number of frames it was sent in.
    pub frames: u32,
    /// Length on the wire over all its frames, frame headers included.
    pub wire_len: u64,
    /// Length of the payloads of its frames, as they were sent.
    pub payload_len: u64,
    /// True if the final fragment was seen.
    pub complete: bool,
    /// HTTP/2 stream, for extended CONNECT (RFC 8441).
    pub stream: Option<u32>,
    /// Set when decoding stopped early or the data was cut.
    pub error: Option<BodyError>,
}

/// One event of an event stream (HTML standard §9.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSentEvent {
    /// HTTP/2 stream, if any.
    pub stream: Option<u32>,
    /// `event` field.
    pub event: Option<String>,
    /// `data` lines joined by LF.
    pub data: String,
    /// `id` field.
    pub id: Option<String>,
    /// Reconnection time in milliseconds, if a `retry` field was received after the previous event.
    pub retry: Option<u64>,
    /// Set when [`Limits::sse_event_bytes`](crate::Limits::sse_event_bytes) cut a value.
    pub truncated: bool,
}

//! Protobuf log entries, as the original's eCaptureQ writes them. `schema/log_entry.proto` describes them.

#[rustfmt::skip]
#[expect(missing_docs, unreachable_pub, reason = "generated from the schema")]
mod messages;

pub use messages::{Event, Heartbeat, LogEntry, LogType, log_entry::Payload};

use prost::Message as _;

use super::text::{Text, fact_of};
use super::{Format, Records};
use crate::decoder::View;
use crate::event::{Direction, Fact, Origin, Side, StreamOrigin};
use crate::message::{Content, Http1Kind, Http2Detail, Http2Kind, Message};

/// The `-o protobuf` writer: each record of the text format as an entry.
#[derive(Debug, Clone, Default)]
pub struct Protobuf {
    /// Formats the payloads.
    pub text: Text,
    /// Wall clock minus kernel monotonic clock in nanoseconds; without it timestamps are the kernel's.
    pub wall_clock_offset_ns: Option<i64>,
    /// How a reader finds the end of an entry.
    pub framing: Framing,
}

/// How a reader finds the end of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// A varint before each entry has its length, for files and streams.
    #[default]
    Delimited,
    /// The target keeps records separate and takes at most `limit` bytes in one: a payload that
    /// would make the entry longer is cut, with a mark.
    Message {
        /// Bytes of an entry.
        limit: usize,
    },
}

/// Maximum size of an entry without its payload: the other fields are names and addresses of
/// bounded length.
const BESIDE_PAYLOAD: usize = 4096;

impl Format for Protobuf {
    fn view(&self) -> View {
        self.text.view()
    }

    /// The start of a file is an entry of the program's own log.
    fn begin(&self, out: &mut Vec<u8>) {
        let Some(audit) = &self.text.audit else { return };
        let mut line = Vec::new();
        audit.write_line(&mut line);
        let entry = log_entry(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
        entry.encode_length_delimited(out).expect("a Vec grows");
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        for record in Text::records(messages) {
            // The original has no entries for them.
            if matches!(
                fact_of(record),
                Some(Fact::Process(_) | Fact::Secret(_) | Fact::Packets(_))
            ) {
                continue;
            }
            self.write_entry(origin, record, out.bytes());
            out.end(record.len());
        }
    }
}

impl Protobuf {
    fn write_entry(&self, origin: &Origin, record: &[Message], out: &mut Vec<u8>) {
        let mut payload = Vec::new();
        if let Some(Fact::Sql(query)) = fact_of(record) {
            let first_ns = record.first().map_or(0, |message| message.first_ns);
            self.text
                .write_query_header(origin, query, first_ns, &mut payload);
        }
        if let Some(Fact::ShellCommand(command)) = fact_of(record) {
            self.text.write_command_header(origin, command, 0, &mut payload);
        }
        self.text.write_record(record, &mut payload);
        if let Framing::Message { limit } = self.framing {
            cut(&mut payload, limit.saturating_sub(BESIDE_PAYLOAD));
        }
        let stream = origin.stream.as_ref();
        let tuple = stream.and_then(|stream| stream.socket).map(|socket| socket.tuple);
        let address = |address: std::net::SocketAddr| (address.ip().to_string(), address.port().into());
        let (src_ip, src_port) = tuple.map(|tuple| address(tuple.source)).unwrap_or_default();
        let (dst_ip, dst_port) = tuple.map(|tuple| address(tuple.destination)).unwrap_or_default();
        let event = Event {
            timestamp: self.timestamp(record),
            uuid: stream.map(|stream| stream.uuid.clone()).unwrap_or_default(),
            src_ip,
            src_port,
            dst_ip,
            dst_port,
            pid: origin.process.pid.into(),
            pname: origin.process.comm.to_string(),
            r#type: record_type(stream, record),
            length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload,
        };
        let entry = LogEntry {
            log_type: LogType::Event.into(),
            payload: Some(Payload::EventPayload(event)),
        };
        let room = match self.framing {
            Framing::Delimited => entry.encode_length_delimited(out),
            Framing::Message { .. } => entry.encode(out),
        };
        room.expect("a Vec grows");
    }

    fn timestamp(&self, record: &[Message]) -> i64 {
        let first = record.first().map_or(0, |message| message.first_ns);
        let offset = self.wall_clock_offset_ns.unwrap_or(0);
        offset.saturating_add_unsigned(first)
    }
}

/// Returns the entry of a line of the program's log.
pub fn log_line(line: &str) -> Vec<u8> {
    log_entry(line.to_owned()).encode_to_vec()
}

fn log_entry(line: String) -> LogEntry {
    LogEntry {
        log_type: LogType::ProcessLog.into(),
        payload: Some(Payload::RunLog(line)),
    }
}

/// Returns the entry of a client's heartbeat number `count`, from 0, at `timestamp` in seconds
/// since the Unix epoch.
pub fn heartbeat(timestamp: i64, count: i64) -> Vec<u8> {
    let heartbeat = Heartbeat {
        timestamp,
        count,
        message: format!("heartbeat:{count}"),
    };
    let entry = LogEntry {
        log_type: LogType::Heartbeat.into(),
        payload: Some(Payload::HeartbeatPayload(heartbeat)),
    };
    entry.encode_to_vec()
}

/// Cuts a payload to `limit` bytes, including a mark at its end.
fn cut(payload: &mut Vec<u8>, limit: usize) {
    if payload.len() <= limit {
        return;
    }
    let total = payload.len();
    let mark = format!("\n[ecapture: cut: the record has {total} bytes, this output takes fewer]\n");
    payload.truncate(limit.saturating_sub(mark.len()));
    payload.extend_from_slice(mark.as_bytes());
}

/// Returns the original's number for the kind of a payload.
fn record_type(stream: Option<&StreamOrigin>, record: &[Message]) -> u32 {
    const UNKNOWN: u32 = 0;
    const HTTP1_REQUEST: u32 = 1;
    const HTTP2_REQUEST: u32 = 2;
    const HTTP1_RESPONSE: u32 = 3;
    const HTTP2_RESPONSE: u32 = 4;
    const WEB_SOCKET: u32 = 5;
    let Some(first) = record.first() else {
        return UNKNOWN;
    };
    match &first.content {
        Content::Http1(message) => match message.kind {
            Http1Kind::Request => HTTP1_REQUEST,
            Http1Kind::Response { .. } => HTTP1_RESPONSE,
        },
        Content::Http2(_) | Content::Http2Frame(_) | Content::Grpc(_) => {
            match is_http2_request(stream, record) {
                Some(true) => HTTP2_REQUEST,
                Some(false) => HTTP2_RESPONSE,
                None => UNKNOWN,
            }
        }
        Content::ServerSentEvent(_) => match is_http2_request(stream, record) {
            Some(false) if record.iter().any(is_http2) => HTTP2_RESPONSE,
            _ => HTTP1_RESPONSE,
        },
        Content::WebSocket(_) => WEB_SOCKET,
        Content::Fact(_) | Content::Gap(_) | Content::Raw(_) | Content::Unanswered => UNKNOWN,
    }
}

fn is_http2(message: &Message) -> bool {
    matches!(message.content, Content::Http2(_) | Content::Http2Frame(_))
}

/// Returns true if the client sends this stream's frames, by a field section or else by the
/// addresses.
fn is_http2_request(stream: Option<&StreamOrigin>, record: &[Message]) -> Option<bool> {
    record
        .iter()
        .find_map(|message| has_request_fields(&message.content))
        .or_else(|| {
            let stream = stream?;
            let sends = |side| (side == Side::Source) == (stream.direction == Direction::Write);
            stream.socket?.local.map(sends)
        })
}

fn has_request_fields(content: &Content) -> Option<bool> {
    match content {
        Content::Http2(message) => Some(message.kind == Http2Kind::Request),
        Content::Http2Frame(frame) => match &frame.detail {
            // A promised request is sent by the server.
            Http2Detail::Fields {
                promised: Some(_), ..
            } => Some(false),
            Http2Detail::Fields { fields, .. } => {
                let has = |name: &[u8]| fields.iter().any(|field| field.name.as_deref() == Some(name));
                if has(b":method") {
                    Some(true)
                } else if has(b":status") {
                    Some(false)
                } else {
                    None
                }
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;

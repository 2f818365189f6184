//! The product's own recording: a header line, then one event per line.
//!
//! ```text
//! {"ecapture_recording":1,"wall_clock_offset_ns":1700000000000000000}
//! {"ts":5,"dir":"write","pid":7,"tid":7,"comm":"curl","fd":5,"session":"55d0","offset":0,"text":"GET / HTTP/1.1\r\n\r\n"}
//! {"ts":9,"close":"session","pid":7,"session":"55d0"}
//! {"ts":9,"fact":"process","pid":7,"tid":7,"comm":"curl","implementation":"OpenSSL","file":"/usr/lib/libssl.so.3"}
//! {"ts":9,"fact":"secret","pid":7,"tid":7,"comm":"curl","key":"CLIENT_TRAFFIC_SECRET_0 00…1f a0…ff"}
//! ```
//!
//! Kernel addresses are hexadecimal strings because JSON numbers lose bits in many readers.
//! Connections have no number here: whoever reads the events gives them the same numbers again. A
//! payload is `text` if it is UTF-8, otherwise `base64`. A secret is a line of a key log.

mod reading;
mod shell;
mod sql;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::LineError;
use crate::event::{
    AddressSource, CapturedEvent, Close, Comm, DataEvent, Direction, Fact, JoinedLate, Observed, ProcessTls,
    Side, Socket,
};
use crate::format::{Audit, EventFormat, keylog};
use shell::LineShell;
use sql::LineSql;

/// The first line of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Format version, 1.
    pub ecapture_recording: u64,
    /// Wall clock minus kernel monotonic clock when the recording was made, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_clock_offset_ns: Option<i64>,
}

impl Header {
    /// Creates a header of the current version.
    pub const fn new(wall_clock_offset_ns: Option<i64>) -> Self {
        Self {
            ecapture_recording: 1,
            wall_clock_offset_ns,
        }
    }

    /// Reads a header line. Returns `Ok(None)` if the line is some other JSON object, such as the
    /// first line of a recording of the original.
    pub fn parse(line: &[u8]) -> Result<Option<Self>, LineError> {
        let value: serde_json::Value = serde_json::from_slice(line)?;
        if value.get("ecapture_recording").is_none() {
            return Ok(None);
        }
        let header: Self = serde_json::from_value(value)?;
        match header.ecapture_recording {
            1 => Ok(Some(header)),
            other => Err(LineError::Version(other)),
        }
    }

    /// Appends the header line with its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_line(self, out);
    }
}

/// Appends `event` as one line with its LF.
pub fn write(event: &CapturedEvent, out: &mut Vec<u8>) {
    write_line(&Line::of(event), out);
}

/// Recordings as an output.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    /// Written into the header line.
    pub wall_clock_offset_ns: Option<i64>,
    /// The start of the file, also in the header line. A replay reads past it.
    pub audit: Option<Arc<Audit>>,
}

impl EventFormat for Recorder {
    fn begin(&self, out: &mut Vec<u8>) {
        Header::new(self.wall_clock_offset_ns).write(out);
        if let Some(audit) = &self.audit {
            out.truncate(out.trim_ascii_end().len() - b"}".len());
            out.extend_from_slice(br#","audit":"#);
            audit.write(out);
            out.extend_from_slice(b"}\n");
        }
    }

    /// Packets have a format of their own.
    fn takes(&self, event: &CapturedEvent) -> bool {
        !matches!(event, CapturedEvent::Observed(observed) if matches!(observed.fact, Fact::Packets(_)))
    }

    fn write(&self, event: &CapturedEvent, out: &mut Vec<u8>) {
        write(event, out);
    }
}

/// Reads one event line.
pub fn parse(line: &[u8]) -> Result<CapturedEvent, LineError> {
    let line: Line<'_> = serde_json::from_slice(line)?;
    line.event()
}

fn write_line(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, value).expect("plain structs serialise into memory");
    out.push(b'\n');
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineDirection {
    Read,
    Write,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineClose {
    Socket,
    Session,
    Process,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineFact {
    Process,
    Secret,
    #[serde(rename = "shell.command")]
    ShellCommand,
    #[serde(rename = "sql.query")]
    SqlQuery,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum LineComm<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Raw([u8; 16]),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineSide {
    Src,
    Dst,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineAddressSource {
    Exact,
    Heuristic,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineJoinedLate {
    OpenBeforeCapture,
    BeforeProbes,
}

#[derive(Serialize, Deserialize, Default)]
struct Line<'a> {
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dir: Option<LineDirection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<LineClose>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fact: Option<LineFact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    comm: Option<LineComm<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    container: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    program: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fd: Option<u32>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    session: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    sock: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    src: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    dst: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<LineSide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<LineAddressSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    joined_late: Option<LineJoinedLate>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    base64: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    executable: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    implementation: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    version: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    file: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    obstacle: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    /// Of a command of a shell, what is beside its text.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    shell: Option<LineShell<'a>>,
    /// A statement of a database.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    sql: Option<Box<LineSql<'a>>>,
}

impl<'a> Line<'a> {
    fn of(event: &'a CapturedEvent) -> Self {
        match event {
            CapturedEvent::Data(data) => Self::of_data(data),
            CapturedEvent::Close { timestamp_ns, close } => Self::of_close(*timestamp_ns, *close),
            CapturedEvent::Observed(observed) => Self::of_observed(observed),
        }
    }

    fn of_observed(observed: &'a Observed) -> Self {
        let line = Self {
            ts: observed.timestamp_ns,
            pid: Some(observed.process.pid),
            tid: Some(observed.process.tid),
            uid: observed.process.uid,
            comm: Some(comm_line(observed.process.comm)),
            container: observed.container_id.as_deref().map(Cow::Borrowed),
            program: observed.program.as_deref().map(Cow::Borrowed),
            ..Self::default()
        };
        match &observed.fact {
            Fact::Process(tls) => line.with_process(tls),
            Fact::Secret(secret) => Self {
                fact: Some(LineFact::Secret),
                key: Some(Cow::Owned(keylog::line(secret))),
                ..line
            },
            Fact::ShellCommand(command) => line.with_shell_command(command),
            // Has no line: `Recorder::takes`.
            Fact::Packets(_) => line,
            Fact::Sql(query) => Self {
                fact: Some(LineFact::SqlQuery),
                sql: Some(Box::new(LineSql::of(query))),
                ..line
            },
        }
    }

    fn with_process(self, tls: &'a ProcessTls) -> Self {
        Self {
            fact: Some(LineFact::Process),
            executable: tls.executable.as_deref().map(Cow::Borrowed),
            implementation: tls.implementation.as_deref().map(Cow::Borrowed),
            version: tls.version.as_deref().map(Cow::Borrowed),
            file: tls.file.as_deref().map(Cow::Borrowed),
            obstacle: tls.obstacle.as_deref().map(Cow::Borrowed),
            ..self
        }
    }

    fn of_close(ts: u64, close: Close) -> Self {
        let (kind, pid, session, sock) = match close {
            Close::Socket { sock } => (LineClose::Socket, None, None, Some(hex(sock))),
            Close::Session { pid, session } => (LineClose::Session, Some(pid), Some(hex(session)), None),
            Close::Process { pid } => (LineClose::Process, Some(pid), None, None),
        };
        Self {
            ts,
            close: Some(kind),
            pid,
            session,
            sock,
            ..Self::default()
        }
    }

    fn of_data(data: &'a DataEvent) -> Self {
        let (text, base64) = payload_line(&data.payload);
        let line = Self {
            ts: data.timestamp_ns,
            dir: Some(match data.direction {
                Direction::Read => LineDirection::Read,
                Direction::Write => LineDirection::Write,
            }),
            pid: Some(data.process.pid),
            tid: Some(data.process.tid),
            uid: data.process.uid,
            comm: Some(comm_line(data.process.comm)),
            container: data.container_id.as_deref().map(Cow::Borrowed),
            program: data.program.as_deref().map(Cow::Borrowed),
            fd: data.fd,
            session: data.session.map(hex),
            tls: data.tls_version.map(|version| version.0),
            offset: data.stream_offset,
            joined_late: data.joined_late.map(|reason| match reason {
                JoinedLate::OpenBeforeCapture => LineJoinedLate::OpenBeforeCapture,
                JoinedLate::BeforeProbes => LineJoinedLate::BeforeProbes,
            }),
            text,
            base64,
            ..Self::default()
        };
        match data.socket {
            Some(socket) => line.with_socket(socket),
            None => line,
        }
    }

    fn with_socket(self, socket: Socket) -> Self {
        Self {
            sock: Some(hex(socket.sock)),
            src: Some(Cow::Owned(socket.tuple.source.to_string())),
            dst: Some(Cow::Owned(socket.tuple.destination.to_string())),
            local: socket.local.map(|side| match side {
                Side::Source => LineSide::Src,
                Side::Destination => LineSide::Dst,
            }),
            addr: Some(match socket.address_source {
                AddressSource::Exact => LineAddressSource::Exact,
                AddressSource::Heuristic => LineAddressSource::Heuristic,
            }),
            ..self
        }
    }
}

/// Bytes as `text` if they are UTF-8, otherwise as `base64`.
fn payload_line(bytes: &[u8]) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(Cow::Borrowed(text)), None),
        Err(_) => (None, Some(Cow::Owned(STANDARD.encode(bytes)))),
    }
}

fn hex(address: u64) -> Cow<'static, str> {
    Cow::Owned(format!("{address:x}"))
}

fn comm_line(comm: Comm) -> LineComm<'static> {
    match std::str::from_utf8(comm.as_bytes()) {
        Ok(text) => LineComm::Text(Cow::Owned(text.to_owned())),
        Err(_) => LineComm::Raw(comm.raw()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::event::{Process, ProcessTls, Secret, SecretLabel, SecretValue, TlsVersion, Tuple};

    fn data_event(payload: &'static [u8]) -> DataEvent {
        DataEvent {
            timestamp_ns: 42,
            process: Process {
                pid: 7,
                tid: 8,
                uid: Some(0),
                comm: Comm::from("curl"),
            },
            container_id: Some("0123456789ab".into()),
            program: Some("curl-8.7".into()),
            direction: Direction::Write,
            fd: Some(5),
            session: Some(0x55d0),
            socket: Some(Socket {
                sock: 0xffff_8881_0000_0000,
                tuple: Tuple {
                    source: "127.0.0.1:41000".parse().unwrap(),
                    destination: "[::1]:443".parse().unwrap(),
                },
                local: Some(Side::Source),
                address_source: AddressSource::Heuristic,
            }),
            tls_version: Some(TlsVersion(0x0304)),
            stream_offset: Some(0),
            joined_late: Some(JoinedLate::BeforeProbes),
            payload: Bytes::from_static(payload),
        }
    }

    fn process_event(obstacle: Option<Arc<str>>) -> CapturedEvent {
        let data = data_event(b"");
        CapturedEvent::Observed(Box::new(Observed {
            timestamp_ns: 42,
            process: data.process,
            container_id: data.container_id,
            program: data.program,
            fact: Fact::Process(ProcessTls {
                executable: Some("/usr/bin/curl-8.7".into()),
                implementation: Some("OpenSSL".into()),
                file: Some("/usr/lib/libssl.so.3".into()),
                version: None,
                obstacle,
            }),
        }))
    }

    #[test]
    fn what_would_make_an_empty_field_is_refused() {
        let line = br#"{"ts":1,"fact":"process","pid":7,"obstacle":""}"#;
        let error = parse(line).unwrap_err().to_string();
        assert_eq!(error, r#"field "obstacle": expected some text, observed 0 bytes"#);
        let unknown = parse(br#"{"ts":1,"fact":"weather","pid":7}"#).unwrap_err();
        assert!(matches!(unknown, LineError::Json(_)), "{unknown}");
    }

    #[test]
    fn a_secret_survives_a_round_trip() {
        let CapturedEvent::Observed(mut observed) = process_event(None) else {
            unreachable!("a process is observed");
        };
        observed.fact = Fact::Secret(Secret {
            label: SecretLabel::ClientTraffic0,
            client_random: [7; 32],
            value: SecretValue::new(&[9; 48]).unwrap(),
        });
        round_trip(&CapturedEvent::Observed(observed));
        let error = parse(br#"{"ts":1,"fact":"secret","pid":7,"key":"RSA 00 00"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "field \"key\": the label is not one of TLS 1.2 or 1.3"
        );
        let missing = parse(br#"{"ts":1,"fact":"secret","pid":7}"#).unwrap_err();
        assert_eq!(missing.to_string(), r#"field "key" is missing"#);
    }

    fn round_trip(event: &CapturedEvent) {
        let mut line = Vec::new();
        write(event, &mut line);
        assert_eq!(
            line.split(|&byte| byte == b'\n').count(),
            2,
            "one line and its end"
        );
        assert_eq!(&parse(&line).unwrap(), event);
    }

    #[test]
    fn every_kind_of_event_survives_a_round_trip() {
        round_trip(&CapturedEvent::Data(data_event(b"GET / HTTP/1.1\r\n\r\n")));
        round_trip(&CapturedEvent::Data(data_event(b"\xff\x00\xfe")));
        round_trip(&CapturedEvent::Data(data_event(b"")));
        let mut odd_comm = data_event(b"x");
        odd_comm.process.comm = Comm::new([0xff; 16]);
        odd_comm.socket = None;
        odd_comm.session = None;
        odd_comm.fd = None;
        odd_comm.program = None;
        odd_comm.joined_late = Some(JoinedLate::OpenBeforeCapture);
        round_trip(&CapturedEvent::Data(odd_comm));
        for obstacle in [None, Some("no symbol".into())] {
            round_trip(&process_event(obstacle));
        }
        for command in shell::tests::commands() {
            let data = data_event(b"");
            round_trip(&CapturedEvent::Observed(Box::new(Observed {
                timestamp_ns: 42,
                process: data.process,
                container_id: data.container_id,
                program: data.program,
                fact: Fact::ShellCommand(Box::new(command)),
            })));
        }
        for close in [
            Close::Socket { sock: 1 },
            Close::Session {
                pid: 2,
                session: u64::MAX,
            },
            Close::Process { pid: 3 },
        ] {
            round_trip(&CapturedEvent::Close {
                timestamp_ns: 1,
                close,
            });
        }
    }

    #[test]
    fn a_header_is_distinguished_from_an_event_and_its_version_is_checked() {
        let mut line = Vec::new();
        Header::new(Some(-5)).write(&mut line);
        assert_eq!(Header::parse(&line).unwrap(), Some(Header::new(Some(-5))));
        assert_eq!(Header::parse(br#"{"DataType":1}"#).unwrap(), None);
        assert!(matches!(
            Header::parse(br#"{"ecapture_recording":2}"#),
            Err(LineError::Version(2))
        ));
        assert!(matches!(Header::parse(b"\x00"), Err(LineError::Json(_))));
    }

    #[test]
    fn the_fault_of_a_line_is_named() {
        let missing = parse(br#"{"ts":1,"dir":"read","text":"x"}"#).unwrap_err();
        assert_eq!(missing.to_string(), r#"field "pid" is missing"#);
        let address =
            parse(br#"{"ts":1,"dir":"read","pid":1,"sock":"1","src":"x","dst":"1.1.1.1:1","text":""}"#);
        assert_eq!(
            address.unwrap_err().to_string(),
            r#"address: expected ip:port, observed "x""#
        );
        let base64 = parse(br#"{"ts":1,"dir":"read","pid":1,"base64":"*"}"#).unwrap_err();
        assert!(matches!(base64, LineError::Base64(_)));
    }
}

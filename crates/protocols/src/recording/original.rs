//! The original's recording: JSON lines, the payload in `<Timestamp>.bin` beside the file.

use bytes::Bytes;
use serde::Deserialize;

use super::LineError;
use crate::event::{
    AddressSource, CapturedEvent, Close, Comm, DataEvent, Direction, Process, Socket, TlsVersion, Tuple,
};

/// One line of the original's format with its optional extras.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OriginalLine {
    data_type: u8,
    timestamp: u64,
    pid: u32,
    tid: u32,
    data_len: u64,
    comm: [u8; 16],
    fd: u32,
    version: i32,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    sock: u64,
    #[serde(default)]
    tuple: Option<String>,
    #[serde(default)]
    destroy: bool,
}

impl OriginalLine {
    /// Reads one line.
    pub fn parse(line: &[u8]) -> Result<Self, LineError> {
        let line: Self = serde_json::from_slice(line)?;
        if line.data_type > 1 {
            return Err(LineError::Range {
                field: "DataType",
                expected: "0 or 1",
                observed: line.data_type.to_string(),
            });
        }
        Ok(line)
    }

    /// Returns the name of the file that holds the payload; `None` for an event without one.
    pub fn payload_file(&self) -> Option<String> {
        (self.data_len > 0 && !self.destroy).then(|| format!("{}.bin", self.timestamp))
    }

    /// Returns how many bytes of the payload file belong to the event.
    pub const fn payload_len(&self) -> u64 {
        self.data_len
    }

    /// Returns the pause before the event in nanoseconds, in addition to the timestamps.
    pub const fn delay_ns(&self) -> u64 {
        self.delay_ms.saturating_mul(1_000_000)
    }

    /// Makes the event. `delay_ns` is the sum of all pauses up to and including this line's.
    pub fn event(&self, payload: Bytes, delay_ns: u64) -> Result<CapturedEvent, LineError> {
        let timestamp_ns = self.timestamp.saturating_add(delay_ns);
        if self.destroy {
            return Ok(CapturedEvent::Close {
                timestamp_ns,
                close: Close::Socket { sock: self.sock },
            });
        }
        Ok(CapturedEvent::Data(DataEvent {
            timestamp_ns,
            process: Process {
                pid: self.pid,
                tid: self.tid,
                uid: None,
                comm: Comm::new(self.comm),
            },
            container_id: None,
            program: None,
            direction: if self.data_type == 0 {
                Direction::Read
            } else {
                Direction::Write
            },
            fd: (self.fd != 0).then_some(self.fd),
            session: None,
            socket: self.socket()?,
            tls_version: u16::try_from(self.version)
                .ok()
                .filter(|&version| version != 0)
                .map(TlsVersion),
            stream_offset: None,
            joined_late: None,
            payload,
        }))
    }

    fn socket(&self) -> Result<Option<Socket>, LineError> {
        let Some(tuple) = self.tuple.as_deref().filter(|_| self.sock != 0) else {
            return Ok(None);
        };
        let bad = || LineError::Address(tuple.to_owned());
        let (source, destination) = tuple.split_once('-').ok_or_else(bad)?;
        Ok(Some(Socket {
            sock: self.sock,
            tuple: Tuple {
                source: source.parse().map_err(|_| bad())?,
                destination: destination.parse().map_err(|_| bad())?,
            },
            local: None,
            address_source: AddressSource::Exact,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"DataType":1,"Timestamp":20,"Pid":7,"Tid":8,"DataLen":3,
        "Comm":[99,117,114,108,0,0,0,0,0,0,0,0,0,0,0,0],"Fd":5,"Version":772,"DelayMs":2,
        "Sock":778,"Tuple":"127.0.0.1:41000-127.0.0.1:8443"}"#;

    #[test]
    fn the_original_fields_and_the_extras_are_read() {
        let line = OriginalLine::parse(LINE.as_bytes()).unwrap();
        assert_eq!(line.payload_file().as_deref(), Some("20.bin"));
        assert_eq!(line.delay_ns(), 2_000_000);
        let CapturedEvent::Data(event) = line.event(Bytes::from_static(b"abc"), 2_000_000).unwrap() else {
            panic!("a data event")
        };
        assert_eq!(event.timestamp_ns, 2_000_020);
        assert_eq!(event.direction, Direction::Write);
        assert_eq!(event.process.comm.to_string(), "curl");
        assert_eq!(
            event.socket.unwrap().tuple.to_string(),
            "127.0.0.1:41000-127.0.0.1:8443"
        );
        assert_eq!(event.tls_version, Some(TlsVersion(0x0304)));
    }

    #[test]
    fn a_destroyed_socket_is_a_close_without_payload() {
        let line = LINE.replace("\"DelayMs\":2", "\"Destroy\":true");
        let line = OriginalLine::parse(line.as_bytes()).unwrap();
        assert_eq!(line.payload_file(), None);
        let event = line.event(Bytes::new(), 0).unwrap();
        assert_eq!(
            event,
            CapturedEvent::Close {
                timestamp_ns: 20,
                close: Close::Socket { sock: 778 }
            }
        );
    }

    #[test]
    fn bad_values_are_named() {
        let kind = OriginalLine::parse(LINE.replace("\"DataType\":1", "\"DataType\":7").as_bytes());
        assert!(kind.unwrap_err().to_string().contains("DataType"));
        let line = OriginalLine::parse(LINE.replace("-127.0.0.1:8443", "").as_bytes()).unwrap();
        assert!(matches!(line.event(Bytes::new(), 0), Err(LineError::Address(_))));
    }
}

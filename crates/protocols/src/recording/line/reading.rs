//! From the line of an event to the event.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{
    Line, LineAddressSource, LineClose, LineComm, LineDirection, LineFact, LineJoinedLate, LineSide,
};
use crate::event::{
    AddressSource, CapturedEvent, Close, Comm, DataEvent, Direction, Fact, JoinedLate, Observed, Process,
    ProcessTls, Secret, Side, Socket, TlsVersion, Tuple,
};
use crate::format::keylog;
use crate::recording::LineError;

impl Line<'_> {
    pub(super) fn event(self) -> Result<CapturedEvent, LineError> {
        let timestamp_ns = self.ts;
        if let Some(kind) = &self.close {
            let close = match kind {
                LineClose::Socket => Close::Socket {
                    sock: address("sock", self.sock.as_deref())?,
                },
                LineClose::Session => Close::Session {
                    pid: self.pid.ok_or(LineError::Missing("pid"))?,
                    session: address("session", self.session.as_deref())?,
                },
                LineClose::Process => Close::Process {
                    pid: self.pid.ok_or(LineError::Missing("pid"))?,
                },
            };
            return Ok(CapturedEvent::Close { timestamp_ns, close });
        }
        match self.fact {
            Some(_) => Ok(CapturedEvent::Observed(Box::new(self.observed()?))),
            None => self.data().map(CapturedEvent::Data),
        }
    }

    fn observed(mut self) -> Result<Observed, LineError> {
        let Whose {
            process,
            container_id,
            program,
        } = self.whose()?;
        Ok(Observed {
            timestamp_ns: self.ts,
            process,
            container_id,
            program,
            fact: match self.fact {
                Some(LineFact::Secret) => Fact::Secret(self.secret()?),
                Some(LineFact::ShellCommand) => Fact::ShellCommand(Box::new(self.shell_command()?)),
                Some(LineFact::SqlQuery) => {
                    let line = self.sql.ok_or(LineError::Missing("sql"))?;
                    Fact::Sql(Box::new(line.query()?))
                }
                Some(LineFact::Process) | None => Fact::Process(self.process_tls()?),
            },
        })
    }

    fn secret(&self) -> Result<Secret, LineError> {
        let line = self.key.as_deref().ok_or(LineError::Missing("key"))?;
        keylog::parse(line.as_bytes())?.ok_or(LineError::Missing("key"))
    }

    fn process_tls(self) -> Result<ProcessTls, LineError> {
        Ok(ProcessTls {
            executable: path("executable", self.executable)?,
            implementation: path("implementation", self.implementation)?,
            file: path("file", self.file)?,
            version: path("version", self.version)?,
            obstacle: path("obstacle", self.obstacle)?,
        })
    }

    fn data(mut self) -> Result<DataEvent, LineError> {
        let socket = self.socket()?;
        let session = match self.session.as_deref() {
            Some(text) => Some(address("session", Some(text))?),
            None => None,
        };
        let Whose {
            process,
            container_id,
            program,
        } = self.whose()?;
        let payload = payload(self.text, self.base64)?;
        Ok(DataEvent {
            timestamp_ns: self.ts,
            process,
            container_id,
            program,
            direction: match self.dir.ok_or(LineError::Missing("dir"))? {
                LineDirection::Read => Direction::Read,
                LineDirection::Write => Direction::Write,
            },
            fd: self.fd,
            session,
            socket,
            tls_version: self.tls.map(TlsVersion),
            stream_offset: self.offset,
            joined_late: self.joined_late.map(|reason| match reason {
                LineJoinedLate::OpenBeforeCapture => JoinedLate::OpenBeforeCapture,
                LineJoinedLate::BeforeProbes => JoinedLate::BeforeProbes,
            }),
            payload,
        })
    }

    fn whose(&mut self) -> Result<Whose, LineError> {
        let pid = self.pid.ok_or(LineError::Missing("pid"))?;
        let name = |field, name: Option<Cow<'_, str>>| {
            name.map(|name| limited(field, name, LONGEST_NAME)).transpose()
        };
        Ok(Whose {
            process: Process {
                pid,
                tid: self.tid.unwrap_or(pid),
                uid: self.uid,
                comm: self.comm.take().map(comm_of).unwrap_or_default(),
            },
            container_id: name("container", self.container.take())?,
            program: name("program", self.program.take())?,
        })
    }

    fn socket(&self) -> Result<Option<Socket>, LineError> {
        let Some(sock) = self.sock.as_deref() else {
            return Ok(None);
        };
        Ok(Some(Socket {
            sock: address("sock", Some(sock))?,
            tuple: Tuple {
                source: socket_address("src", self.src.as_deref())?,
                destination: socket_address("dst", self.dst.as_deref())?,
            },
            local: self.local.as_ref().map(|side| match side {
                LineSide::Src => Side::Source,
                LineSide::Dst => Side::Destination,
            }),
            address_source: match self.addr {
                Some(LineAddressSource::Heuristic) => AddressSource::Heuristic,
                _ => AddressSource::Exact,
            },
        }))
    }
}

/// The bytes of `text` or `base64`.
pub(super) fn payload(text: Option<Cow<'_, str>>, base64: Option<Cow<'_, str>>) -> Result<Bytes, LineError> {
    match (text, base64) {
        (Some(text), None) => Ok(Bytes::from(text.into_owned())),
        (None, Some(encoded)) => Ok(Bytes::from(STANDARD.decode(encoded.as_bytes())?)),
        (None, None) => Err(LineError::Missing("text or base64")),
        (Some(_), Some(_)) => Err(LineError::Range {
            field: "base64",
            expected: "either text or base64",
            observed: "both".into(),
        }),
    }
}

/// A text as long as a path at most.
pub(super) fn path(field: &'static str, text: Option<Cow<'_, str>>) -> Result<Option<Arc<str>>, LineError> {
    text.map(|text| limited(field, text, LONGEST_PATH)).transpose()
}

fn address(field: &'static str, text: Option<&str>) -> Result<u64, LineError> {
    let text = text.ok_or(LineError::Missing(field))?;
    u64::from_str_radix(text, 16).map_err(|_| LineError::Range {
        field,
        expected: "a hexadecimal number",
        observed: text.to_owned(),
    })
}

fn socket_address(field: &'static str, text: Option<&str>) -> Result<SocketAddr, LineError> {
    let text = text.ok_or(LineError::Missing(field))?;
    text.parse().map_err(|_| LineError::Address(text.to_owned()))
}

fn comm_of(comm: LineComm<'_>) -> Comm {
    match comm {
        LineComm::Text(text) => Comm::from(text.as_ref()),
        LineComm::Raw(raw) => Comm::new(raw),
    }
}

/// The process of an event.
struct Whose {
    process: Process,
    container_id: Option<Arc<str>>,
    program: Option<Arc<str>>,
}

/// Bound of a name that is printed with every message of a stream. No file name is longer
/// (`NAME_MAX`), but each byte of it that is not UTF-8 takes three bytes instead of one.
const LONGEST_NAME: (usize, &str) = (3 * 255, "at most 765 bytes");
/// The same for a path (`PATH_MAX`).
const LONGEST_PATH: (usize, &str) = (3 * 4096, "at most 12288 bytes");

fn limited(
    field: &'static str,
    text: Cow<'_, str>,
    (longest, expected): (usize, &'static str),
) -> Result<Arc<str>, LineError> {
    let is_empty = text.is_empty();
    if text.len() > longest || is_empty {
        return Err(LineError::Range {
            field,
            expected: if is_empty { "some text" } else { expected },
            observed: format!("{} bytes", text.len()),
        });
    }
    Ok(Arc::from(text))
}

//! Where a message comes from: what the header line and the JSON fields show beside its content.

use std::sync::Arc;

use super::{DataEvent, Direction, JoinedLate, Process, Socket, TlsVersion};
use crate::write::{push_address, push_hexadecimal, push_number};

/// The process that a message comes from, and the stream if it was part of one. Taken from the stream's first
/// event and completed when the socket becomes known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Thread of the first event.
    pub process: Process,
    /// Container of the process, when known.
    pub container_id: Option<Arc<str>>,
    /// File name of its program, when known.
    pub program: Option<Arc<str>>,
    /// The stream, for messages that decoders emit.
    pub stream: Option<StreamOrigin>,
}

/// One direction of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOrigin {
    /// Number of the connection, the same in both directions: 1 for the first one of a run, in order of their
    /// first events. It depends on the events alone, so every replay of a recording gives the same numbers.
    pub connection: u64,
    /// The shown UUID: `PID_TID_COMM_FD_DATATYPE`, followed by `_TUPLE` when the socket is known and by `_SESSION`,
    /// the number of the session in hexadecimal digits, when that is: sessions can share a socket, as TLS inside
    /// TLS does, or be taken for its users.
    pub uuid: String,
    /// Sent or received.
    pub direction: Direction,
    /// File descriptor, when known.
    pub fd: Option<u32>,
    /// The library's session object, 0 when the source of the events does not know it.
    pub session: u64,
    /// Socket, when known.
    pub socket: Option<Socket>,
    /// TLS version, when known.
    pub tls_version: Option<TlsVersion>,
    /// Why the stream's first bytes may be missing, if that is known.
    pub joined_late: Option<JoinedLate>,
    /// The other end of the connection is a process of this host that is captured, too, or may be.
    pub other_end: bool,
}

impl Origin {
    /// Returns the origin that the first event of a stream establishes. `connection` is the
    /// connection's number.
    pub fn of(event: &DataEvent, connection: u64) -> Self {
        let mut stream = StreamOrigin {
            connection,
            uuid: String::new(),
            direction: event.direction,
            fd: event.fd,
            session: event.session.unwrap_or(0),
            socket: event.socket,
            tls_version: event.tls_version,
            joined_late: event.joined_late,
            other_end: false,
        };
        stream.make_uuid(&event.process);
        Self {
            process: event.process,
            container_id: event.container_id.clone(),
            program: event.program.clone(),
            stream: Some(stream),
        }
    }

    /// Returns the name that logs and the figures use for it: the stream's UUID.
    pub fn name(&self) -> &str {
        self.stream
            .as_ref()
            .map_or("facts about processes", |stream| &stream.uuid)
    }

    /// Returns the origin of the other direction, if only what names the direction differs.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        let mut origin = self.clone();
        if let Some(stream) = &mut origin.stream {
            stream.direction = stream.direction.opposite();
            stream.make_uuid(&origin.process);
        }
        origin
    }

    /// Adds the socket that became known later, or better, than with the first event.
    pub fn complete(&mut self, socket: Socket) {
        if let Some(stream) = &mut self.stream {
            stream.socket = Some(socket);
            stream.make_uuid(&self.process);
        }
    }

    /// Why the stream's first bytes may be missing, if that is known.
    pub fn joined_late(&self) -> Option<JoinedLate> {
        self.stream.as_ref()?.joined_late
    }
}

impl StreamOrigin {
    fn make_uuid(&mut self, process: &Process) {
        let mut uuid = Vec::with_capacity(96);
        push_number(process.pid.into(), &mut uuid);
        uuid.push(b'_');
        push_number(process.tid.into(), &mut uuid);
        uuid.push(b'_');
        process.comm.push_shown(&mut uuid);
        uuid.push(b'_');
        push_number(self.fd.unwrap_or(0).into(), &mut uuid);
        uuid.push(b'_');
        push_number(self.direction.data_type().into(), &mut uuid);
        if let Some(Socket { tuple, .. }) = self.socket {
            uuid.push(b'_');
            push_address(tuple.source, &mut uuid);
            uuid.push(b'-');
            push_address(tuple.destination, &mut uuid);
        }
        if self.session != 0 {
            uuid.push(b'_');
            push_hexadecimal(self.session, &mut uuid);
        }
        uuid.shrink_to_fit();
        // All of it was UTF-8 before.
        self.uuid = String::from_utf8(uuid).unwrap_or_default();
    }
}

//! Recordings of exchanges whose client and server are both captured, event by event.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use ecapture_protocols::recording::line;
use ecapture_protocols::{
    AddressSource, CapturedEvent, Close, DataEvent, Direction, Process, Side, Socket, Tuple,
};

pub(crate) const MILLISECOND: u64 = 1_000_000;

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) comm: &'static str,
    pub(crate) pid: u32,
    /// The addresses of client and server.
    pub(crate) hosts: [IpAddr; 2],
    /// The client's port; the server's is 443.
    pub(crate) port: u16,
    pub(crate) side: Side,
    pub(crate) sock: u64,
    pub(crate) address_source: AddressSource,
}

/// The client's end of the connection from `port`.
pub(crate) fn client(port: u16) -> End {
    End {
        comm: "client",
        pid: 10,
        hosts: [IpAddr::V4(Ipv4Addr::LOCALHOST); 2],
        port,
        side: Side::Source,
        sock: 2 * u64::from(port),
        address_source: AddressSource::Exact,
    }
}

/// The server's end of the same connection.
pub(crate) fn server(port: u16) -> End {
    End {
        comm: "server",
        pid: 20,
        side: Side::Destination,
        sock: 2 * u64::from(port) + 1,
        ..client(port)
    }
}

/// Events in the order of their calls.
#[derive(Debug, Default)]
pub(crate) struct Events {
    events: Vec<CapturedEvent>,
}

impl Events {
    /// The end sends `text`.
    pub(crate) fn write(&mut self, end: End, milliseconds: u64, text: &str) -> &mut Self {
        self.push(end, Direction::Write, milliseconds, text)
    }

    /// The end receives `text`.
    pub(crate) fn read(&mut self, end: End, milliseconds: u64, text: &str) -> &mut Self {
        self.push(end, Direction::Read, milliseconds, text)
    }

    fn push(&mut self, end: End, direction: Direction, milliseconds: u64, text: &str) -> &mut Self {
        let [client, server] = end.hosts;
        self.events.push(CapturedEvent::Data(DataEvent {
            timestamp_ns: milliseconds * MILLISECOND,
            process: Process {
                pid: end.pid,
                tid: end.pid,
                uid: None,
                comm: end.comm.into(),
            },
            container_id: None,
            program: None,
            direction,
            fd: Some(5),
            session: Some(end.sock),
            socket: Some(Socket {
                sock: end.sock,
                tuple: Tuple {
                    source: SocketAddr::new(client, end.port),
                    destination: SocketAddr::new(server, 443),
                },
                local: Some(end.side),
                address_source: end.address_source,
            }),
            tls_version: None,
            stream_offset: None,
            joined_late: None,
            payload: text.to_owned().into(),
        }));
        self
    }

    /// The end's socket is closed.
    pub(crate) fn close(&mut self, end: End, milliseconds: u64) -> &mut Self {
        self.events.push(CapturedEvent::Close {
            timestamp_ns: milliseconds * MILLISECOND,
            close: Close::Socket { sock: end.sock },
        });
        self
    }

    /// Writes them as a recording into `folder`.
    pub(crate) fn save(&self, folder: &Path) -> String {
        let mut out = Vec::new();
        line::Header::new(None).write(&mut out);
        for event in &self.events {
            line::write(event, &mut out);
        }
        let file = folder.join("events.jsonl");
        fs::write(&file, out).expect("a written file");
        file.to_str().expect("a plain path").to_owned()
    }
}

/// A request without a body.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// A response with a body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

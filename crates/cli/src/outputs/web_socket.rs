//! A WebSocket server that takes each record as one message (RFC 6455, as its client).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::Duration;

use ecapture_actors::{Loss, Resumption, Taken, Target, Unwritten};
use tungstenite::client::{IntoClientRequest as _, client_with_config};
use tungstenite::http::header::ORIGIN;
use tungstenite::http::{HeaderValue, StatusCode, Uri};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{HandshakeError, Message, WebSocket};

use super::collector::{TIMEOUT, connect_tcp};
use super::log::LogTarget;
use super::payload::Payload;
use super::tls::{Secured, TlsError, secure};

/// As the original's client says.
const OUR_ORIGIN: HeaderValue = HeaderValue::from_static("http://localhost");
/// Bytes that a server may send at once; it has nothing to say.
const HEARD_BYTES: usize = 64 * 1024;
/// Messages of the server that are read before anything else is done.
const HEARD_MESSAGES: usize = 64;
/// Bytes that are sent before the server is listened to again.
const UNHEARD_BYTES: usize = 64 * 1024;
/// How often an idle connection is listened to: pings are answered, a close is noticed.
const LISTENING: Duration = Duration::from_secs(1);
/// How long the server may take to confirm that it has read everything.
const LAST_READS: Duration = Duration::from_secs(1);

/// Why there is no connection, and the way out.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("nothing listens there; start the server first: {0}")]
    Unreachable(#[source] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "the server answered with HTTP status {0} and not with a WebSocket; check the path of the address"
    )]
    Refused(StatusCode),
    #[error("the server did not answer within {} s; is it a WebSocket server?", TIMEOUT.as_secs())]
    Silent,
    #[error("this is no WebSocket server: {0}")]
    Protocol(#[source] Box<tungstenite::Error>),
}

/// A connection to a WebSocket server, which can be made again.
pub(super) struct WebSocketOutput {
    uri: Uri,
    payload: Payload,
    socket: WebSocket<Stream>,
    /// Bytes sent since the server was listened to.
    unheard: usize,
    /// Bytes of the largest message of this connection.
    largest: usize,
    /// The server has closed the connection because of the size of a message.
    found_too_big: bool,
    has_failed: bool,
}

impl WebSocketOutput {
    pub(super) fn connect(uri: &Uri, payload: Payload) -> Result<Self, ConnectError> {
        Ok(Self {
            uri: uri.clone(),
            payload,
            socket: connect(uri)?,
            unheard: 0,
            largest: 0,
            found_too_big: false,
            has_failed: false,
        })
    }

    /// Sends one record, all of it.
    fn send(&mut self, record: &[u8]) -> io::Result<()> {
        if self.unheard >= UNHEARD_BYTES {
            self.listen()?;
        }
        self.unheard += record.len();
        self.largest = self.largest.max(record.len());
        let sent = self.socket.send(self.payload.message(record));
        sent.map_err(|error| {
            // The server's last message may say why.
            let said = self.hear();
            self.failed(said.err().unwrap_or(error))
        })
    }

    /// Takes the server's messages: answers pings, notices a close.
    fn listen(&mut self) -> io::Result<()> {
        self.unheard = 0;
        let heard = self.hear().and_then(|()| self.socket.flush());
        heard.map_err(|error| self.failed(error))
    }

    /// Connects again.
    fn reconnect(&mut self) -> io::Result<()> {
        let connected = Self::connect(&self.uri, self.payload);
        *self = connected.map_err(|error| io::Error::other(format!("{}: {error}", self.uri)))?;
        Ok(())
    }

    fn hear(&mut self) -> tungstenite::Result<()> {
        self.socket.get_ref().tcp().set_nonblocking(true)?;
        let heard = self.hear_messages();
        self.socket.get_ref().tcp().set_nonblocking(false)?;
        heard
    }

    fn hear_messages(&mut self) -> tungstenite::Result<()> {
        for _ in 0..HEARD_MESSAGES {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return Err(self.closed(frame)),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The server has closed the connection.
    fn closed(&mut self, frame: Option<CloseFrame>) -> tungstenite::Error {
        // The answer; nobody waits for it.
        let _answered = self.socket.flush();
        self.found_too_big = frame.as_ref().is_some_and(|frame| frame.code == CloseCode::Size);
        let reason = match frame {
            Some(CloseFrame { code, reason }) if reason.is_empty() => format!(" with code {code}"),
            Some(CloseFrame { code, reason }) => format!(" with code {code}: {reason}"),
            None => String::new(),
        };
        let message = format!("the server closed the connection{reason}");
        io::Error::new(io::ErrorKind::ConnectionReset, message).into()
    }

    fn close(&mut self) -> tungstenite::Result<()> {
        self.socket.get_ref().tcp().set_read_timeout(Some(LAST_READS))?;
        self.socket.close(Some(CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        }))?;
        for _ in 0..HEARD_MESSAGES {
            if let Message::Close(frame) = self.socket.read()? {
                let is_answer = frame.as_ref().is_none_or(|frame| frame.code == CloseCode::Normal);
                return if is_answer {
                    Ok(())
                } else {
                    Err(self.closed(frame))
                };
            }
        }
        Ok(())
    }

    /// The server's end is not the end of a pipe: a closed connection is a failure here.
    fn failed(&mut self, error: tungstenite::Error) -> io::Error {
        self.has_failed = true;
        let uri = &self.uri;
        match error {
            tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let message = format!("{uri}: nothing was taken for {} s", TIMEOUT.as_secs());
                io::Error::new(io::ErrorKind::TimedOut, message)
            }
            tungstenite::Error::Io(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                io::Error::new(error.kind(), format!("{uri}: {error}"))
            }
            error => io::Error::new(io::ErrorKind::ConnectionReset, format!("{uri}: {error}")),
        }
    }
}

impl Target for WebSocketOutput {
    /// One record with each call: what was sent before it counts whatever becomes of it.
    fn write(&mut self, records: Unwritten<'_>) -> io::Result<Taken> {
        let Some(record) = records.records().next() else {
            return Ok(Taken::written(0));
        };
        match self.send(record) {
            Ok(()) => Ok(Taken::written(record.len())),
            // It would be refused again and again. A smaller one is not the one that was meant.
            Err(error) if self.found_too_big && record.len() == self.largest => {
                self.found_too_big = false;
                tracing::warn!("a message of {} bytes was refused: {error}", record.len());
                Ok(Taken::lost(record.len(), Loss::SinkError))
            }
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.listen()
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        self.reconnect()?;
        Ok(Resumption::NewPlace)
    }

    fn tending_interval(&self) -> Option<Duration> {
        Some(LISTENING)
    }

    fn tend(&mut self) -> io::Result<()> {
        self.listen()
    }

    fn unacknowledged(&self) -> u64 {
        let tcp = self.socket.get_ref().tcp();
        let in_flight = ecapture_probe::socket::unacknowledged(tcp.as_fd()).unwrap_or(0);
        let refused = if self.found_too_big { self.largest } else { 0 };
        in_flight.max(refused as u64)
    }

    /// A server that answers the close has read everything before it.
    fn finish(&mut self) -> u64 {
        if self.has_failed {
            return 0;
        }
        match self.close() {
            Ok(()) => 0,
            Err(error) => {
                let error = self.failed(error);
                tracing::warn!("the server did not confirm that it has read everything: {error}");
                self.unacknowledged()
            }
        }
    }
}

impl LogTarget for WebSocketOutput {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.send(line)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.reconnect()
    }

    fn tending_interval(&self) -> Option<Duration> {
        Some(LISTENING)
    }

    fn tend(&mut self) -> io::Result<()> {
        self.listen()
    }
}

fn connect(uri: &Uri) -> Result<WebSocket<Stream>, ConnectError> {
    let is_secure = uri.scheme_str() == Some("wss");
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let tcp = connect_tcp(&format!("{host}:{port}")).map_err(ConnectError::Unreachable)?;
    tcp.set_read_timeout(Some(TIMEOUT))
        .map_err(ConnectError::Unreachable)?;
    if is_secure && is_on_this_host(&tcp) {
        tracing::warn!(
            "{uri} is on this host: a capture of the whole host must exclude that server with --not-pid, or it \
             captures what it sends"
        );
    }
    let stream = if is_secure {
        match secure(host, tcp) {
            Err(TlsError::Handshake(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(ConnectError::Silent);
            }
            secured => Stream::Tls(Box::new(secured?)),
        }
    } else {
        Stream::Plain(tcp)
    };
    let protocol = |error| ConnectError::Protocol(Box::new(error));
    let mut request = uri.clone().into_client_request().map_err(protocol)?;
    request.headers_mut().insert(ORIGIN, OUR_ORIGIN);
    let config = WebSocketConfig::default()
        .write_buffer_size(0)
        .max_message_size(Some(HEARD_BYTES))
        .max_frame_size(Some(HEARD_BYTES));
    match client_with_config(request, stream, Some(config)) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Interrupted(_)) => Err(ConnectError::Silent),
        Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            Err(ConnectError::Refused(answer.status()))
        }
        Err(HandshakeError::Failure(error)) => Err(protocol(error)),
    }
}

/// The server's TLS is that of a process of this host.
fn is_on_this_host(tcp: &TcpStream) -> bool {
    let addresses = tcp
        .peer_addr()
        .and_then(|peer| Ok((peer.ip(), tcp.local_addr()?.ip())));
    addresses.is_ok_and(|(peer, own)| peer == own)
}

/// The connection that carries the messages.
enum Stream {
    Plain(TcpStream),
    Tls(Box<Secured>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

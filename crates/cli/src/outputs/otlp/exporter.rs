//! Sends requests to a collector one after the other, on a thread of its own.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, TE, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::answer::Answer;
use super::endpoint::Endpoint;
use crate::outputs::tls::{self, TlsError};

/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(5);
/// How long an answer may take: the default of the SDKs.
const ANSWERING: Duration = Duration::from_secs(10);
/// The first pause before a request is sent again; doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a response that are read.
const RESPONSE_BYTES: usize = 64 * 1024;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    fn path(self, is_grpc: bool) -> &'static str {
        match (self, is_grpc) {
            (Self::Traces, false) => "/v1/traces",
            (Self::Metrics, false) => "/v1/metrics",
            (Self::Traces, true) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            (Self::Metrics, true) => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

/// Why there is no connection, and the way out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("nothing listens there; start the collector first: {0}")]
    Unreachable(#[source] io::Error),
    #[error("the collector did not answer within {} s", CONNECTING.as_secs())]
    Silent,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("this is no server of HTTP/2: {0}")]
    Protocol(#[source] hyper::Error),
}

/// A request, and who waits for its answer.
struct Job {
    signal: Signal,
    body: Vec<u8>,
    times: Times,
    answer: mpsc::Sender<Answer>,
}

/// When a request may be sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    /// Not before this.
    pub(super) from: Option<Instant>,
    /// Again and again until this; by whoever sends it if there is no such time.
    pub(super) until: Option<Instant>,
}

/// The thread. It ends with this.
pub(super) struct Exporter {
    endpoint: Endpoint,
    jobs: UnboundedSender<Job>,
}

impl Exporter {
    /// Connects to the collector, and keeps the connection.
    pub(super) fn start(endpoint: Endpoint) -> Result<Self, ConnectError> {
        let (jobs, queue) = unbounded_channel();
        let (connected, is_connected) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ConnectError::Unreachable)?;
        let client = Client {
            endpoint: endpoint.clone(),
            connection: None,
        };
        std::thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || runtime.block_on(client.run(queue, &connected)))
            .map_err(ConnectError::Unreachable)?;
        is_connected.recv().unwrap_or(Err(ConnectError::Silent))?;
        Ok(Self { endpoint, jobs })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a request. At most one of each signal is under way.
    pub(super) fn send(&self, signal: Signal, body: Vec<u8>, times: Times) -> Receiver<Answer> {
        let (answer, receiver) = mpsc::channel();
        let job = Job {
            signal,
            body,
            times,
            answer,
        };
        // If the thread has ended, nobody answers.
        let _ = self.jobs.send(job);
        receiver
    }
}

struct Client {
    endpoint: Endpoint,
    connection: Option<Connection>,
}

enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    async fn is_ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}

impl Client {
    async fn run(
        mut self,
        mut jobs: UnboundedReceiver<Job>,
        connected: &mpsc::Sender<Result<(), ConnectError>>,
    ) {
        let opened = self.connect().await;
        let opened = opened.map(|connection| self.connection = Some(connection));
        // Who started it waits for this.
        let _ = connected.send(opened);
        while let Some(job) = jobs.recv().await {
            let body = self.encoded(job.body);
            let mut pause = FIRST_PAUSE;
            if let Some(from) = job.times.from {
                sleep_until(from).await;
            }
            let answer = loop {
                let answer = timeout(ANSWERING, self.export(job.signal, &body)).await;
                let answer = answer
                    .unwrap_or_else(|_| Answer::again(format!("no answer within {} s", ANSWERING.as_secs())));
                match job.times.until.and_then(|until| next_try(&answer, pause, until)) {
                    Some(time) => sleep_until(time).await,
                    None => break answer,
                }
                pause *= 2;
            };
            // Nobody waits for the last metrics for long.
            let _ = job.answer.send(answer);
        }
    }

    async fn export(&mut self, signal: Signal, body: &Bytes) -> Answer {
        // It is kept again when all went well.
        if let Some(mut kept) = self.connection.take()
            && kept.is_ready().await
            && let Ok(answer) = self.exchange(kept, signal, body).await
        {
            return answer;
        }
        // The collector may have closed the connection before the request, or at the same moment.
        match self.connect().await {
            Ok(connection) => self
                .exchange(connection, signal, body)
                .await
                .unwrap_or_else(Answer::again),
            Err(error) => Answer::again(error.to_string()),
        }
    }

    /// Sends a request, and keeps the connection if it was answered.
    async fn exchange(
        &mut self,
        mut connection: Connection,
        signal: Signal,
        body: &Bytes,
    ) -> Result<Answer, String> {
        let request = match self.endpoint.request(signal, body.clone()) {
            Ok(request) => request,
            Err(error) => return Ok(Answer::Refused(error.to_string())),
        };
        let response = connection
            .send(request)
            .await
            .map_err(|error| described(&error))?;
        let answer = read(response, self.endpoint.is_grpc).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Compresses a request, and frames it for gRPC (one flag, four bytes of length).
    fn encoded(&self, body: Vec<u8>) -> Bytes {
        let body = if self.endpoint.gzip {
            compressed(&body)
        } else {
            body
        };
        if !self.endpoint.is_grpc {
            return body.into();
        }
        let mut framed = Vec::with_capacity(body.len() + 5);
        framed.push(u8::from(self.endpoint.gzip));
        // A batch has a few MiB.
        framed.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        framed.extend_from_slice(&body);
        framed.into()
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        timeout(CONNECTING, self.open())
            .await
            .unwrap_or(Err(ConnectError::Silent))
    }

    async fn open(&self) -> Result<Connection, ConnectError> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let host = host.trim_matches(['[', ']']);
        let tcp = TcpStream::connect((host, *port))
            .await
            .map_err(ConnectError::Unreachable)?;
        tcp.set_nodelay(true).map_err(ConnectError::Unreachable)?;
        if !self.endpoint.is_secure {
            return self.handshake(tcp).await;
        }
        let protocol: &[u8] = if self.endpoint.is_grpc { b"h2" } else { b"http/1.1" };
        let config = Arc::new(tls::client_config(protocol)?);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| TlsError::Handshake(io::Error::other(error)))?;
        let stream = TlsConnector::from(config).connect(name, tcp).await;
        self.handshake(stream.map_err(TlsError::Handshake)?).await
    }

    async fn handshake<S>(&self, stream: S) -> Result<Connection, ConnectError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        // What ends a connection fails the request on it.
        if self.endpoint.is_grpc {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
                .await
                .map_err(ConnectError::Protocol)?;
            tokio::spawn(connection);
            Ok(Connection::Http2(sender))
        } else {
            let (sender, connection) = http1::handshake(stream).await.map_err(ConnectError::Protocol)?;
            tokio::spawn(connection);
            Ok(Connection::Http1(sender))
        }
    }
}

impl Endpoint {
    fn request(&self, signal: Signal, body: Bytes) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let path = format!("{}{}", self.path, signal.path(self.is_grpc));
        let request = Request::post(if self.is_grpc {
            let scheme = if self.is_secure { "https" } else { "http" };
            format!("{scheme}://{}{path}", self.authority())
        } else {
            path
        });
        let agent = concat!("ecapture/", env!("CARGO_PKG_VERSION"));
        let mut request = request.header(USER_AGENT, agent);
        request = if self.is_grpc {
            let request = request
                .header(CONTENT_TYPE, "application/grpc")
                .header(TE, "trailers");
            if self.gzip {
                request.header("grpc-encoding", "gzip")
            } else {
                request
            }
        } else {
            let request = request
                .header(HOST, self.authority())
                .header(CONTENT_TYPE, "application/x-protobuf");
            if self.gzip {
                request.header(CONTENT_ENCODING, HeaderValue::from_static("gzip"))
            } else {
                request
            }
        };
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(body))
    }
}

fn compressed(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.expect("a Vec takes everything")
}

/// When a request may be sent again, if that is before `until`.
fn next_try(answer: &Answer, pause: Duration, until: Instant) -> Option<Instant> {
    let Answer::Again { after, .. } = answer else {
        return None;
    };
    let time = Instant::now() + after.unwrap_or_default().max(pause);
    (time < until).then_some(time)
}

/// An error with its cause: "connection error: broken pipe".
fn described(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Reads the whole response.
async fn read(response: Response<Incoming>, is_grpc: bool) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, RESPONSE_BYTES).collect().await;
    let body = body.map_err(|error| error.to_string())?;
    // A response without a message has the status among its headers.
    let trailers = body.trailers().cloned().unwrap_or(head.headers);
    let bytes = body.to_bytes();
    Ok(if is_grpc {
        Answer::of_grpc(head.status, &trailers, &bytes)
    } else {
        Answer::of_http(head.status, &trailers, &bytes)
    })
}

//! Random HTTP/1 traffic between hyper's client and hyper's server, over memory.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::Seen;
use crate::random::Random;

/// One connection's bytes, and its messages as hyper read them.
pub(crate) struct Traffic {
    /// Every write, in order.
    pub(crate) written: Vec<(Side, Bytes)>,
    pub(crate) requests: Vec<Seen>,
    pub(crate) responses: Vec<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

type Shared<T> = Arc<Mutex<T>>;
type AnyBody = BoxBody<Bytes, Infallible>;

/// The connection that `seed` makes.
pub(crate) fn make(seed: u64) -> Traffic {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(connection(seed))
}

async fn connection(seed: u64) -> Traffic {
    let written: Shared<Vec<(Side, Bytes)>> = Shared::default();
    let requests: Shared<Vec<Seen>> = Shared::default();
    let (client, server) = tokio::io::duplex(8 * 1024);
    let tap = |side, stream| {
        TokioIo::new(Tap {
            side,
            stream,
            written: Arc::clone(&written),
        })
    };
    let (client, server) = (tap(Side::Client, client), tap(Side::Server, server));
    let random = Arc::new(Mutex::new(Random::new(seed.wrapping_mul(31))));
    let service = service_fn(|request| serve(request, Arc::clone(&requests), Arc::clone(&random)));
    let server = hyper::server::conn::http1::Builder::new().serve_connection(server, service);
    let client = exchange(client, Random::new(seed));
    let (ended, responses) = tokio::join!(server, client);
    ended.unwrap();
    let written = std::mem::take(&mut *written.lock().unwrap());
    let requests = std::mem::take(&mut *requests.lock().unwrap());
    Traffic {
        written,
        requests,
        responses,
    }
}

/// Sends requests one after the other and reads their responses.
async fn exchange(stream: TokioIo<Tap>, mut random: Random) -> Vec<Seen> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let conversation = async move {
        let mut responses = Vec::new();
        for left in (0..=random.below(24)).rev() {
            sender.ready().await.unwrap();
            let response = sender
                .send_request(request(&mut random, left == 0))
                .await
                .unwrap();
            let start = response.status().as_u16().to_string();
            let (head, body) = response.into_parts();
            responses.push(seen(start, &head.headers, body).await);
        }
        responses
    };
    let (ended, responses) = tokio::join!(connection, conversation);
    ended.unwrap();
    responses
}

fn request(random: &mut Random, last: bool) -> Request<AnyBody> {
    const METHODS: [Method; 7] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
    ];
    let length = random.length(200);
    let mut request = Request::builder()
        .method(METHODS[random.below(METHODS.len())].clone())
        .uri(format!("/{}", letters(random, length)))
        .header("host", "h");
    if last && random.chance(2) {
        // If the server cannot announce the length, it ends the body by closing.
        request = request.version(Version::HTTP_10);
    }
    let (body, trailers) = if random.chance(2) {
        body(random, !last)
    } else {
        none()
    };
    let mut request = request.body(body).unwrap();
    add_fields(random, request.headers_mut());
    add_trailer_fields(&trailers, request.headers_mut());
    request
}

async fn serve(
    request: Request<hyper::body::Incoming>,
    requests: Shared<Vec<Seen>>,
    random: Shared<Random>,
) -> Result<Response<AnyBody>, Infallible> {
    let start = format!("{} {}", request.method(), request.uri());
    let is_head = request.method() == Method::HEAD;
    let (head, incoming) = request.into_parts();
    let seen = seen(start, &head.headers, incoming).await;
    requests.lock().unwrap().push(seen);
    Ok(response(&mut random.lock().unwrap(), is_head))
}

fn response(random: &mut Random, is_head: bool) -> Response<AnyBody> {
    const STATUSES: [u16; 8] = [200, 200, 200, 201, 204, 304, 404, 500];
    let status = StatusCode::from_u16(STATUSES[random.below(STATUSES.len())]).unwrap();
    let bodyless = is_head || matches!(status.as_u16(), 204 | 304);
    let (body, trailers) = if bodyless { none() } else { body(random, true) };
    let mut response = Response::builder().status(status).body(body).unwrap();
    add_fields(random, response.headers_mut());
    add_trailer_fields(&trailers, response.headers_mut());
    if bodyless && status != StatusCode::NO_CONTENT && random.chance(2) {
        let length = HeaderValue::from(random.below(100_000));
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    response
}

fn none() -> (AnyBody, HeaderMap) {
    (http_body_util::Empty::new().boxed(), HeaderMap::new())
}

/// Makes a body of announced length, or in chunks, with its trailers.
fn body(random: &mut Random, with_trailers: bool) -> (AnyBody, HeaderMap) {
    let length = random.length(40_000);
    let data = random.bytes(length);
    if random.chance(2) {
        return (http_body_util::Full::new(data.into()).boxed(), HeaderMap::new());
    }
    let mut frames = Vec::new();
    let mut rest = Bytes::from(data);
    while !rest.is_empty() {
        let longest = rest.len();
        frames.push(Frame::data(rest.split_to(1 + random.length(longest - 1))));
    }
    let mut trailers = HeaderMap::new();
    if with_trailers && random.chance(3) {
        trailers.insert("x-sum", HeaderValue::from(random.below(1000)));
        trailers.insert("x-end", HeaderValue::from(random.below(1000)));
        frames.push(Frame::trailers(trailers.clone()));
    }
    (
        StreamBody::new(stream::iter(frames.into_iter().map(Ok))).boxed(),
        trailers,
    )
}

fn add_fields(random: &mut Random, fields: &mut HeaderMap) {
    if random.chance(3) {
        fields.insert("te", HeaderValue::from_static("trailers"));
    }
    for _ in 0..random.length(60) {
        let (name, value) = (1 + random.below(9), random.length(300));
        let name = HeaderName::try_from(format!("x-{}", letters(random, name))).unwrap();
        let value = HeaderValue::try_from(letters(random, value)).unwrap();
        fields.append(name, value);
    }
}

/// hyper sends the trailers that are announced, and only when there are any.
fn add_trailer_fields(trailers: &HeaderMap, fields: &mut HeaderMap) {
    if !trailers.is_empty() {
        fields.insert("trailer", HeaderValue::from_static("x-sum, x-end"));
    }
}

async fn seen<B>(start: String, fields: &HeaderMap, body: B) -> Seen
where
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().map_or_else(BTreeMap::new, grouped);
    Seen {
        start,
        fields: grouped(fields),
        body: collected.to_bytes().to_vec(),
        trailers,
    }
}

fn grouped(fields: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut grouped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in fields {
        let value = value.to_str().unwrap().to_owned();
        grouped.entry(name.as_str().to_owned()).or_default().push(value);
    }
    grouped
}

fn letters(random: &mut Random, length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..length)
        .map(|_| char::from(LETTERS[random.below(LETTERS.len())]))
        .collect()
}

/// Records what is written.
struct Tap {
    side: Side,
    stream: DuplexStream,
    written: Shared<Vec<(Side, Bytes)>>,
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(length)) = polled {
            let event = (self.side, Bytes::copy_from_slice(&bytes[..length]));
            self.written.lock().unwrap().push(event);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

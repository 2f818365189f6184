//! Random HTTP/2 exchanges between h2's client and server in memory, with both directions of the
//! connection captured and the messages of both ends recorded.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use ecapture_protocols::message::Http2Kind;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::random::Random;

/// The truth about one message, as one end knows it. Names and values are sorted, because a `HeaderMap`
/// has no order between names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Truth {
    pub(crate) stream: u32,
    pub(crate) kind: &'static str,
    pub(crate) pushed: bool,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// `None` if the message was reset: h2 decides how much was sent before.
    pub(crate) body: Option<Bytes>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    pub(crate) reset: Option<u32>,
}

/// A connection: each direction as it was written, piece by piece, and the messages of both.
pub(crate) struct Connection {
    pub(crate) client: Vec<Bytes>,
    pub(crate) server: Vec<Bytes>,
    pub(crate) requests: Vec<Truth>,
    pub(crate) responses: Vec<Truth>,
}

pub(crate) fn kind_name(kind: Http2Kind) -> &'static str {
    match kind {
        Http2Kind::Request => "request",
        Http2Kind::Response => "response",
    }
}

type Written = Arc<Mutex<Vec<Bytes>>>;
type Noted = Arc<Mutex<Vec<Truth>>>;

/// One end of the pipe, which records what is written to it.
struct Tap {
    pipe: DuplexStream,
    written: Written,
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.pipe).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = result {
            self.written
                .lock()
                .unwrap()
                .push(Bytes::copy_from_slice(&bytes[..count]));
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(context)
    }
}

/// Performs `exchanges` exchanges on one connection, some at the same time.
pub(crate) fn connection(seed: u64, exchanges: usize) -> Connection {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (client, server) = (Written::default(), Written::default());
    let (requests, responses) = (Noted::default(), Noted::default());
    runtime.block_on(async {
        let (client_pipe, server_pipe) = tokio::io::duplex(32 * 1024);
        let client_tap = Tap {
            pipe: client_pipe,
            written: client.clone(),
        };
        let server_tap = Tap {
            pipe: server_pipe,
            written: server.clone(),
        };
        let serving = tokio::spawn(serve(server_tap, seed, requests.clone(), responses.clone()));
        ask(client_tap, seed, exchanges, responses.clone()).await;
        serving.await.unwrap();
    });
    let take = |written: &Written| std::mem::take(&mut *written.lock().unwrap());
    let sorted = |noted: &Noted| {
        let mut noted = std::mem::take(&mut *noted.lock().unwrap());
        noted.sort();
        noted
    };
    Connection {
        client: take(&client),
        server: take(&server),
        requests: sorted(&requests),
        responses: sorted(&responses),
    }
}

async fn ask(tap: Tap, seed: u64, exchanges: usize, responses: Noted) {
    let mut random = Random::new(seed);
    let (mut sender, connection) = h2::client::Builder::new()
        .header_table_size([0, 100, 4096, 65_536][random.below(4)])
        .max_frame_size([16_384, 100_000][random.below(2)])
        .initial_window_size([1000, 65_535][random.below(2)])
        .handshake::<_, Bytes>(tap)
        .await
        .unwrap();
    let driving = tokio::spawn(async move { connection.await.unwrap() });
    let (mut waiting, mut reading_pushes) = (Vec::new(), Vec::new());
    for number in 0..exchanges {
        sender = sender.ready().await.unwrap();
        let path = format!(
            "http://host{}.test/{}?{number}",
            random.below(3),
            "p".repeat(random.length(2000))
        );
        let mut request = Request::builder()
            .method(["GET", "POST", "PUT", "OPTIONS"][random.below(4)])
            .uri(path);
        *request.headers_mut().unwrap() = headers(&mut random);
        let bodiless = random.chance(2);
        let (mut response, stream) = sender.send_request(request.body(()).unwrap(), bodiless).unwrap();
        let seed = random.next();
        let sending = tokio::spawn(async move {
            if !bodiless {
                send_content(stream, &mut Random::new(seed)).await;
            }
        });
        let responses = responses.clone();
        let pushes = response.push_promises();
        let receiving = tokio::spawn(async move { receive(response, &responses).await });
        waiting.extend([sending, receiving]);
        reading_pushes.push(tokio::spawn(receive_pushes(pushes)));
        if random.chance(3) {
            for task in waiting.drain(..) {
                task.await.unwrap();
            }
        }
    }
    for task in waiting {
        task.await.unwrap();
    }
    // A reader of pushes does not notice by itself that no more can arrive.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    for reading in reading_pushes {
        reading.abort();
    }
    drop(sender);
    driving.await.unwrap();
}

/// Reads pushed responses, which were recorded where they are sent.
async fn receive_pushes(mut promises: h2::client::PushPromises) {
    while let Some(pushed) = promises.push_promise().await {
        // The stream that pushes was reset.
        let Ok(pushed) = pushed else { return };
        let (_, response) = pushed.into_parts();
        read_content(response.await.unwrap().into_body()).await.unwrap();
    }
}

async fn receive(response: h2::client::ResponseFuture, responses: &Noted) {
    // A reset that overtook the response leaves no message.
    let Ok(response) = response.await else { return };
    let (parts, stream) = response.into_parts();
    let id = stream.stream_id().as_u32();
    let mut fields = listed(&parts.headers);
    fields.push((":status".into(), parts.status.as_str().into()));
    fields.sort();
    let mut truth = Truth {
        stream: id,
        kind: "response",
        pushed: false,
        fields,
        body: None,
        trailers: Vec::new(),
        reset: None,
    };
    match read_content(stream).await {
        Ok((body, trailers)) => {
            truth.body = Some(body);
            truth.trailers = trailers;
        }
        Err(reset) => truth.reset = Some(reset),
    }
    responses.lock().unwrap().push(truth);
}

async fn serve(tap: Tap, seed: u64, requests: Noted, responses: Noted) {
    let mut random = Random::new(seed ^ 0xffff);
    let mut connection = h2::server::Builder::new()
        .initial_window_size([1000, 65_535][random.below(2)])
        .max_concurrent_streams(20)
        .handshake::<_, Bytes>(tap)
        .await
        .unwrap();
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted.unwrap();
        let (requests, responses, seed) = (requests.clone(), responses.clone(), random.next());
        tokio::spawn(async move {
            note_request(request, &requests).await;
            answer(respond, &mut Random::new(seed), &responses).await;
        });
    }
}

async fn note_request(request: Request<RecvStream>, requests: &Noted) {
    let (parts, stream) = request.into_parts();
    let id = stream.stream_id().as_u32();
    let (body, trailers) = read_content(stream).await.unwrap();
    requests.lock().unwrap().push(Truth {
        stream: id,
        kind: "request",
        pushed: false,
        fields: request_fields(&parts),
        body: Some(body),
        trailers,
        reset: None,
    });
}

fn request_fields(parts: &http::request::Parts) -> Vec<(String, Vec<u8>)> {
    let mut fields = listed(&parts.headers);
    let mut pseudo = |name: &str, value: &str| fields.push((name.into(), value.into()));
    pseudo(":method", parts.method.as_str());
    pseudo(":path", parts.uri.path_and_query().unwrap().as_str());
    pseudo(":scheme", parts.uri.scheme_str().unwrap());
    pseudo(":authority", parts.uri.authority().unwrap().as_str());
    fields.sort();
    fields
}

async fn answer(mut respond: SendResponse<Bytes>, random: &mut Random, responses: &Noted) {
    if random.chance(8) {
        push(&mut respond, random, responses);
    }
    let mut response = Response::builder().status([200, 204, 404, 500, 418][random.below(5)]);
    *response.headers_mut().unwrap() = headers(random);
    let ends = random.chance(4);
    let mut stream = respond.send_response(response.body(()).unwrap(), ends).unwrap();
    if ends {
        return;
    }
    if random.chance(12) {
        // Yielding sends the field section; whatever is still queued at a reset is dropped.
        tokio::task::yield_now().await;
        stream.send_reset([h2::Reason::CANCEL, h2::Reason::INTERNAL_ERROR][random.below(2)]);
        return;
    }
    send_content(stream, random).await;
}

fn push(respond: &mut SendResponse<Bytes>, random: &mut Random, responses: &Noted) {
    let uri = format!("http://host.test/pushed/{}", random.below(1000));
    let mut request = Request::builder().uri(uri);
    *request.headers_mut().unwrap() = headers(random);
    let request = request.body(()).unwrap();
    let (parts, ()) = request.into_parts();
    let fields = request_fields(&parts);
    let Ok(mut pushed) = respond.push_request(Request::from_parts(parts, ())) else {
        return;
    };
    let id = pushed.stream_id().as_u32();
    let mut truth = Truth {
        stream: id,
        kind: "request",
        pushed: true,
        fields,
        body: Some(Bytes::new()),
        trailers: Vec::new(),
        reset: None,
    };
    // The pushed request is sent in the server's direction.
    responses.lock().unwrap().push(truth.clone());
    let body = Bytes::from(random.bytes(20));
    let mut stream = pushed.send_response(Response::new(()), false).unwrap();
    stream.send_data(body.clone(), true).unwrap();
    truth.kind = "response";
    truth.fields = vec![(":status".into(), "200".into())];
    truth.body = Some(body);
    responses.lock().unwrap().push(truth);
}

/// Sends random content, and sometimes trailers; waits for the window as h2 asks for.
async fn send_content(mut stream: SendStream<Bytes>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let length = random.length(20_000);
        let mut content = Bytes::from(random.bytes(length));
        while !content.is_empty() {
            stream.reserve_capacity(content.len());
            // Waits only for more room: room that is already there is never reported again.
            while stream.capacity() == 0 {
                let Some(Ok(_)) = std::future::poll_fn(|context| stream.poll_capacity(context)).await else {
                    return;
                };
            }
            let room = stream.capacity();
            let sent = content.split_to(room.min(content.len()));
            stream.send_data(sent, false).unwrap();
        }
    }
    if random.chance(3) {
        stream.send_trailers(headers(random)).unwrap();
    } else {
        stream.send_data(Bytes::new(), true).unwrap();
    }
}

async fn read_content(mut stream: RecvStream) -> Result<(Bytes, Vec<(String, Vec<u8>)>), u32> {
    let reset = |error: h2::Error| u32::from(error.reason().unwrap());
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.map_err(reset)?;
        stream.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await.map_err(reset)?;
    Ok((
        Bytes::from(body),
        trailers.as_ref().map(listed).unwrap_or_default(),
    ))
}

fn headers(random: &mut Random) -> HeaderMap {
    const NAMES: [&str; 8] = [
        "accept",
        "cookie",
        "user-agent",
        "x-one",
        "x-two",
        "etag",
        "x-request-id",
        "authorization",
    ];
    let mut headers = HeaderMap::new();
    for _ in 0..random.below(8) {
        let name = NAMES[random.below(NAMES.len())];
        let value = match random.below(3) {
            0 => format!("{}", random.below(5)),
            1 => format!("{:x}", random.next()),
            _ => "v/~ \"".repeat(random.length(100)).trim().to_owned(),
        };
        let mut value = HeaderValue::from_str(&value).unwrap();
        value.set_sensitive(random.chance(10));
        headers.append(name, value);
    }
    headers
}

fn listed(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    fields.sort();
    fields
}

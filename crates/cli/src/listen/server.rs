//! Takes connections, on a thread of its own. Each has one request and a limited time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::unistd::geteuid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::socket::Socket;

/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 32;

/// How long a client may take for the head of its request. Until then it has not shown a token.
const HEAD: Duration = Duration::from_secs(5);

/// How long a connection may last.
const CONNECTION: Duration = Duration::from_mins(1);

/// Bytes of the head of a request, and most that is buffered of a connection.
const BUFFER_BYTES: usize = 16 * 1024;

const ROOT: u32 = 0;

/// Serves until the process ends.
pub(super) fn start(socket: Socket, router: Router) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("listen".to_owned())
        .spawn(move || {
            if let Err(error) = runtime.block_on(accept_all(socket, router)) {
                tracing::warn!(%error, "the server of --listen has ended");
            }
        })?;
    Ok(())
}

async fn accept_all(socket: Socket, router: Router) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    match socket {
        Socket::Tcp(listener, _) => {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let permit = Arc::clone(&room).acquire_owned().await;
                match listener.accept().await {
                    Ok((stream, _)) => serve(stream, router.clone(), permit.ok()),
                    Err(error) => refused(&error).await,
                }
            }
        }
        Socket::Unix(listener, _) => {
            let listener = UnixListener::from_std(listener)?;
            loop {
                let permit = Arc::clone(&room).acquire_owned().await;
                match listener.accept().await {
                    Ok((stream, _)) if is_trusted(&stream) => serve(stream, router.clone(), permit.ok()),
                    Ok(_) => tracing::debug!("--listen: a connection of another user was refused"),
                    Err(error) => refused(&error).await,
                }
            }
        }
    }
}

/// Returns true if root or the user of this process has connected.
fn is_trusted(stream: &UnixStream) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| [ROOT, geteuid().as_raw()].contains(&peer.uid()))
}

/// Such as too many open files: it goes away, or nobody can help it.
async fn refused(error: &io::Error) {
    /// So that an error that stays does not take all the time there is.
    const PAUSE: Duration = Duration::from_millis(100);
    tracing::debug!(%error, "--listen: a connection could not be accepted");
    tokio::time::sleep(PAUSE).await;
}

fn serve<S>(stream: S, router: Router, permit: Option<OwnedSemaphorePermit>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::spawn(async move {
        let _permit = permit;
        // A client that goes away or takes too long gets no answer.
        let _ended = tokio::time::timeout(CONNECTION, connection).await;
    });
}

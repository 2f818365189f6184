//! Takes connections, on a thread of its own.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::client;
use super::hub::Hub;
use crate::web_origin;

/// Bytes that a client may send at once; there is nothing to say.
const CLIENT_MESSAGE_BYTES: usize = 64 * 1024;

/// Listens on `address` and serves clients until the process ends.
pub(super) fn start(address: &str, hub: Arc<Hub>) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let local = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("ecaptureq".to_owned())
        .spawn(move || runtime.block_on(serve(listener, hub)))?;
    tracing::info!("eCaptureQ clients can connect to ws://{local}/");
    if !local.ip().is_loopback() {
        tracing::warn!("everyone who can reach {local} can read the captured data");
    }
    Ok(())
}

async fn serve(listener: TcpListener, hub: Arc<Hub>) {
    let app = Router::new().fallback(upgrade).with_state(hub);
    let served = async { axum::serve(tokio::net::TcpListener::from_std(listener)?, app).await };
    if let Err(error) = served.await {
        tracing::warn!(%error, "the eCaptureQ server has ended");
    }
}

/// Every path is the server's, as in the original.
async fn upgrade(
    State(hub): State<Arc<Hub>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if !is_own(&headers) {
        tracing::warn!("eCaptureQ: a connection from a web page of another site was refused");
        return (
            StatusCode::FORBIDDEN,
            "connections from other sites are refused\n",
        )
            .into_response();
    }
    let Ok(upgrade) = upgrade else {
        let hint = "this is an eCaptureQ server: connect with a WebSocket client\n";
        return (
            StatusCode::UPGRADE_REQUIRED,
            [(header::UPGRADE, "websocket")],
            hint,
        )
            .into_response();
    };
    upgrade
        .max_message_size(CLIENT_MESSAGE_BYTES)
        .on_upgrade(|socket| client::serve(socket, hub))
}

/// Returns true if the client is a program, which sends no Origin or that of this host, and not a
/// page of another site in a browser of this host, which could read everything otherwise.
fn is_own(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Some(origin) = origin.to_str().ok().and_then(web_origin::host) else {
        return false;
    };
    matches!(origin, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_origin_and_that_of_this_host_are_accepted() {
        let with = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, axum::http::HeaderValue::from_static(origin));
            is_own(&headers)
        };
        assert!(is_own(&HeaderMap::new()));
        for own in [
            "http://localhost/",
            "http://localhost",
            "https://127.0.0.1:8080",
            "http://[::1]:1/",
            "http://[::1]",
        ] {
            assert!(with(own), "{own}");
        }
        for foreign in [
            "http://evil.example",
            "http://localhost.evil.example",
            "null",
            "",
            "http://evil.example/@localhost",
            "http://127.0.0.1@evil.example",
        ] {
            assert!(!with(foreign), "{foreign}");
        }
    }
}

//! The routes of the server.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};

use super::access::{self, Access};
use super::{Run, change, metrics, status};

/// Bytes of a request's body.
const BODY_BYTES: usize = 64 * 1024;

pub(super) fn router(run: Arc<Run>, access: Access) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .merge(change::routes())
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(access, access::guard))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(run)
}

async fn healthz() -> Response {
    uncached("text/plain; charset=utf-8", "ok\n")
}

async fn status(State(run): State<Arc<Run>>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(status::of(&run))).into_response()
}

async fn metrics(State(run): State<Arc<Run>>) -> Response {
    match metrics::of(&run) {
        Ok(text) => uncached(metrics::CONTENT_TYPE, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn unknown() -> Response {
    (
        StatusCode::NOT_FOUND,
        "404 page not found; there are GET /status, /metrics and /healthz, and POST /tls, /gotls, /gnutls and /nss\n",
    )
        .into_response()
}

fn uncached(content_type: &'static str, body: impl IntoResponse) -> Response {
    let fields = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (fields, body).into_response()
}

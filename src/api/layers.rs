//! Around every request: an id, a span, the metrics, the headers of every answer, and a panic that ends one request
//! instead of its connection.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::{ApiError, App};
use crate::limits;
use crate::ops::metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts the layers around a router.
pub(super) fn around(router: Router<App>, app: &App) -> Router<App> {
    router.layer(from_fn_with_state(app.clone(), observe))
}

async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = app.request_ids.next_id();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    // At debug only: formatting a span costs as much as a small answer. What fails names its request itself.
    let span = tracing::debug_span!("request", id, %method, route);
    let started = Instant::now();
    let answered = answer(request, next).instrument(span).await;
    let mut response = match answered.extensions().get::<ApiError>() {
        Some(error) => error.clone().with_request_id(id.clone()).into_response(),
        None => answered,
    };
    let seconds = started.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    metrics::http_request(&route, method.as_str(), status, seconds);
    if status >= 500 {
        tracing::warn!(id, %method, route, status, seconds, "request failed");
    } else {
        tracing::debug!(id, %method, route, status, seconds, "request");
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("-")));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn answer(request: Request, next: Next) -> Response {
    if uri_bytes(request.uri()) > limits::HTTP_URI_BYTES_MAX {
        let title = "The address of the request is too long.";
        return ApiError::new(axum::http::StatusCode::URI_TOO_LONG, "uri_too_long", title).into_response();
    }
    // What a request shares is behind locks that do not poison, and a command is either logged whole or not at all, so
    // the others may go on.
    let patience = Duration::from_secs(limits::HTTP_REQUEST_SECONDS_MAX);
    match tokio::time::timeout(patience, AssertUnwindSafe(next.run(request)).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Err(_) => {
            let title = "The request took too long.";
            ApiError::new(axum::http::StatusCode::REQUEST_TIMEOUT, "request_timeout", title).into_response()
        }
        Ok(Err(_)) => ApiError::internal("the handler panicked; the message is above").into_response(),
    }
}

fn uri_bytes(uri: &Uri) -> usize {
    uri.path_and_query().map_or(0, |path| path.as_str().len())
}

//! Around every request: an id, a span, the metrics, the headers of every answer, and a panic that ends one request
//! instead of its connection.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use super::{ApiError, App};
use crate::limits;
use crate::node::{ProposeError, Role};
use crate::ops::metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The addresses of the data nodes, separated by commas; only where there is more than one.
const NODES: HeaderName = HeaderName::from_static("holdfast-nodes");

/// Marks an answer with a status of a failure that is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual;

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
    let allowed = origin_allowed(&app, request.headers());
    let answered = answer(&app, request, next).instrument(span).await;
    let mut response = match answered.extensions().get::<ApiError>() {
        Some(error) => error.clone().with_request_id(id.clone()).with_nodes(&app.face).into_response(),
        None => answered,
    };
    let seconds = started.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    metrics::http_request(&route, method.as_str(), status, seconds);
    let code = response.extensions().get::<ApiError>().map(ApiError::code);
    if code == Some("not_active") {
        metrics::not_active();
    }
    // A client that has to go to the other node is no failure of this one, nor is a standby that says that it is one.
    let usual = code == Some("not_active") || response.extensions().get::<Usual>().is_some();
    if status >= 500 && !usual {
        tracing::warn!(id, %method, route, status, seconds, "request failed");
    } else {
        tracing::debug!(id, %method, route, status, seconds, "request");
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("-")));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    tell_nodes(&app, headers);
    if let Some(origin) = allowed {
        allow_origin(origin, headers);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn answer(app: &App, request: Request, next: Next) -> Response {
    if uri_bytes(request.uri()) > limits::HTTP_URI_BYTES_MAX {
        let title = "The address of the request is too long.";
        return ApiError::new(axum::http::StatusCode::URI_TOO_LONG, "uri_too_long", title).into_response();
    }
    if let Some(early) = before_routing(app, &request) {
        return early;
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

/// What is answered without asking a route: a browser's question whether the page of the other node may talk to this
/// one, and writes while this node is not the active one.
fn before_routing(app: &App, request: &Request) -> Option<Response> {
    if !request.uri().path().starts_with("/api/") {
        return None;
    }
    let headers = request.headers();
    if request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return origin_allowed(app, headers).map(|_| StatusCode::NO_CONTENT.into_response());
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    // An operator must be able to talk to a standby about the pair itself.
    let about_pair = request.uri().path().starts_with("/api/v1/admin/pair/");
    (!reads && !about_pair && app.node.role() != Role::Active)
        .then(|| ApiError::from(&ProposeError::NotActive).into_response())
}

/// The request's origin when it is the page of one of the pair's own nodes.
fn origin_allowed(app: &App, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let nodes = app.face.nodes();
    nodes.iter().any(|node| node.trim_end_matches('/').as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Lets the page of the other node read the answer.
fn allow_origin(origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    let fixed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, if-match"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "holdfast-nodes, x-request-id, retry-after, etag"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Every answer tells the addresses of both data nodes, so that a client knows where to go before it has to.
fn tell_nodes(app: &App, headers: &mut HeaderMap) {
    let nodes = app.face.nodes();
    if nodes.len() > 1
        && let Ok(value) = HeaderValue::from_str(&nodes.join(", "))
    {
        headers.insert(NODES, value);
    }
}

fn uri_bytes(uri: &Uri) -> usize {
    uri.path_and_query().map_or(0, |path| path.as_str().len())
}

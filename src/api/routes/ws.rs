//! The upgrade to a WebSocket. From there on `realtime` has the connection.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;

use crate::api::extract::bearer;
use crate::api::{ApiError, App};
use crate::realtime::{Arrival, handshake_accept, serve};

fn has_token(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(wanted))
}

/// Answers the handshake and hands the connection over.
pub(super) async fn upgrade(State(app): State<App>, mut request: Request) -> Result<Response, ApiError> {
    let headers = request.headers();
    let asked = has_token(headers, header::CONNECTION, "upgrade") && has_token(headers, header::UPGRADE, "websocket");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let (Some(key), true) = (key, asked) else {
        let title = "This is a WebSocket: connect with an upgrade.";
        return Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", title));
    };
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let title = "Only version 13 of the WebSocket protocol is spoken here.";
        return Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", title));
    }
    let accept = handshake_accept(key.as_bytes());
    let arrival = Arrival { token: bearer(headers).map(str::to_owned) };
    let on_upgrade = hyper::upgrade::on(&mut request);
    let context = app.session_context();
    tokio::spawn(async move {
        // The client may be gone before the handshake is over: then there is nobody to serve.
        if let Ok(upgraded) = on_upgrade.await {
            serve(context, TokioIo::new(upgraded), arrival).await;
        }
    });
    let answer = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, accept.as_str()),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, answer).into_response())
}

//! The admin socket of a witness: how it stands, for the operator at the machine. A witness has no other HTTP.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use super::ApiError;
use super::listener::{Admission, Listener};
use super::service::{ServiceError, bind_socket};
use crate::ops::datadir::admin_socket;
use crate::replication::WitnessHandle;

/// Connections at once: one operator, a few scripts.
const CONNECTIONS_MAX: usize = 16;

/// Serves the admin socket in `data` until `shutdown`.
///
/// # Errors
/// [`ServiceError`] when the socket cannot be made.
pub fn serve_witness(data: &Path, witness: WitnessHandle, shutdown: CancellationToken) -> Result<(), ServiceError> {
    let socket = bind_socket(&admin_socket(data))?;
    let router = Router::new().route("/admin/v1/status", get(status)).fallback(only_status).with_state(witness);
    let admission = Admission { connections_max: CONNECTIONS_MAX, trusted_proxies: Arc::new([]) };
    tokio::spawn(Listener::new(router, shutdown, &admission).run_local(socket));
    Ok(())
}

async fn status(State(witness): State<WitnessHandle>) -> Response {
    match witness.status().await {
        Some(report) => axum::Json(report).into_response(),
        None => ApiError::internal("the witness is stopping").into_response(),
    }
}

/// What only a data node can do.
async fn only_status() -> ApiError {
    let title = "This is a witness: ask a data node.";
    ApiError::new(StatusCode::NOT_FOUND, "not_a_data_node", title)
}

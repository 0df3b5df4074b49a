//! What anybody may know of the server, and who is online.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::extract::Authed;
use crate::api::{ApiError, App, Problem};
use crate::core::ids::{ChannelId, UserId};
use crate::core::keys::Key;
use crate::core::rows::{self, Role};
use crate::core::view::{Direction, ViewExt};
use crate::limits;

/// What anybody may know of the server.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerInfo {
    /// Always `holdfast`.
    name: &'static str,
    /// The program's version.
    version: &'static str,
    /// The organisation's name; empty before the set-up.
    organisation: String,
    /// The language of people who chose none.
    default_locale: String,
    /// The server is set up.
    set_up: bool,
    /// The set-up link is locked after too many wrong tries.
    setup_locked: bool,
    /// What this node is.
    node: NodeInfo,
    /// The addresses of this cluster's nodes.
    addresses: Vec<String>,
    /// The fingerprint (SHA-256) of the server's own CA; null when the certificate comes from elsewhere.
    ca_fingerprint: Option<String>,
    /// The fewest characters of a password.
    min_password_chars: usize,
    /// The most bytes of a message.
    message_bytes_max: usize,
}

/// What a node is.
#[derive(Serialize, ToSchema)]
pub(super) struct NodeInfo {
    /// Active nodes take writes.
    role: crate::node::Role,
}

/// What anybody may know of the server.
#[utoipa::path(get, path = "/server", tag = "server", responses((status = 200, body = ServerInfo)))]
pub(super) async fn server(State(app): State<App>) -> Result<axum::Json<ServerInfo>, ApiError> {
    let settings = app.node.projection().row::<rows::Settings>(Key::Settings)?;
    let set_up = settings.is_some();
    let settings = settings.unwrap_or_default();
    let locale = if set_up { settings.default_locale.clone() } else { "en".to_owned() };
    Ok(axum::Json(ServerInfo {
        name: "holdfast",
        version: env!("CARGO_PKG_VERSION"),
        organisation: settings.organisation.clone(),
        default_locale: locale,
        set_up,
        setup_locked: !set_up && app.setup.is_locked(),
        node: NodeInfo { role: app.node.role() },
        addresses: app.face.nodes().to_vec(),
        ca_fingerprint: app.tls.as_ref().filter(|tls| tls.info().own_ca).map(crate::tls::ServerTls::ca_fingerprint),
        min_password_chars: app.password_policy.chars_min,
        message_bytes_max: limits::MESSAGE_BYTES_MAX,
    }))
}

/// The server's own CA certificate, to be trusted by the people's devices.
#[utoipa::path(get, path = "/tls/ca.pem", tag = "server", responses(
    (status = 200, content_type = "application/x-pem-file", body = String),
    (status = 404, description = "The certificate comes from elsewhere.", body = Problem)))]
pub(super) async fn ca(State(app): State<App>) -> Result<Response, ApiError> {
    let own = app.tls.as_ref().filter(|tls| tls.info().own_ca);
    let pem = own.map(crate::tls::ServerTls::ca_pem).ok_or_else(ApiError::not_found)?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-pem-file"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"holdfast-ca.pem\""),
    ];
    Ok((headers, pem).into_response())
}

/// Who is online.
#[derive(Serialize, ToSchema)]
pub(super) struct Presence {
    /// The users with at least one open connection.
    #[schema(value_type = Vec<String>)]
    online: Vec<UserId>,
}

/// Who is online; guests see only people they share a channel with.
#[utoipa::path(get, path = "/presence", tag = "server", security(("bearer" = [])),
    responses((status = 200, body = Presence), (status = "4XX", body = Problem)))]
pub(super) async fn presence(State(app): State<App>, user: Authed) -> Result<axum::Json<Presence>, ApiError> {
    let mut online = app.hub.online();
    if user.role() == Role::Guest {
        let mut visible = Vec::new();
        for other in online {
            if shares_channel(&app, user.id(), other)? {
                visible.push(other);
            }
        }
        online = visible;
    }
    online.sort_unstable();
    Ok(axum::Json(Presence { online }))
}

/// Whether two users are members of a common channel.
pub(super) fn shares_channel(app: &App, guest: UserId, other: UserId) -> Result<bool, ApiError> {
    if guest == other {
        return Ok(true);
    }
    let view = app.node.projection();
    let range = Key::Membership(guest, ChannelId(0))..=Key::Membership(guest, ChannelId(u64::MAX));
    for (key, _) in view.rows::<rows::Membership>(range, Direction::Up, usize::MAX)? {
        let Key::Membership(_, channel) = key else { continue };
        if view.row::<rows::Member>(Key::Member(channel, other))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

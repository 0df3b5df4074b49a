//! The routes, one file per kind of record.

mod account;
mod admin;
mod audit;
mod backup_settings;
mod backups;
mod backups_local;
mod channels;
mod conflicts;
mod health;
mod invites;
mod members;
mod messages;
mod operator;
mod pair;
mod restores;
mod server;
mod setup;
mod users;
mod ws;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use operator::operator;

use super::{ApiError, App};

/// Everything below `/api/v1` that OpenAPI describes.
pub(super) fn all() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(server::server))
        .routes(routes!(server::ca))
        .routes(routes!(setup::set_up))
        .routes(routes!(setup::check))
        .routes(routes!(account::login))
        .routes(routes!(account::logout))
        .routes(routes!(account::me, account::update_me))
        .routes(routes!(account::change_password))
        .routes(routes!(account::sessions))
        .routes(routes!(account::revoke_session))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::one, users::update))
        .routes(routes!(users::set_password))
        .routes(routes!(users::sessions))
        .routes(routes!(users::revoke_session))
        .routes(routes!(invites::list, invites::create))
        .routes(routes!(invites::revoke))
        .routes(routes!(invites::check))
        .routes(routes!(invites::accept))
        .routes(routes!(channels::own, channels::create))
        .routes(routes!(channels::browse))
        .routes(routes!(channels::direct))
        .routes(routes!(channels::one, channels::update))
        .routes(routes!(members::list))
        .routes(routes!(members::put, members::remove))
        .routes(routes!(members::membership))
        .routes(routes!(messages::page, messages::send))
        .routes(routes!(messages::one, messages::edit, messages::delete))
        .routes(routes!(messages::read))
        .routes(routes!(messages::typing))
        .routes(routes!(server::presence))
        .routes(routes!(admin::settings, admin::update_settings))
        .routes(routes!(audit::list))
        .routes(routes!(admin::certificate, admin::install_certificate))
        .routes(routes!(admin::status))
        .routes(routes!(conflicts::list))
        .routes(routes!(conflicts::one))
        .routes(routes!(conflicts::resolve))
        .routes(routes!(restores::look, restores::begin, restores::cancel))
        .routes(routes!(pair::one, pair::update))
        .routes(routes!(pair::invite))
        .routes(routes!(pair::remove))
        .routes(routes!(pair::switchover))
        .routes(routes!(pair::promotion, pair::promote))
        .routes(routes!(backups::status))
        .routes(routes!(backups::settings, backups::update_settings))
        .routes(routes!(backups::put_target, backups::remove_target))
        .routes(routes!(backups::test_target))
        .routes(routes!(backups::list))
        .routes(routes!(backups::pin, backups::unpin))
        .routes(routes!(backups::jobs, backups::start))
        .routes(routes!(backups::job, backups::cancel))
        .routes(routes!(backups::pause))
        .routes(routes!(backups::resume))
}

/// What OpenAPI does not describe: the document itself, the WebSocket, health and metrics.
pub(super) fn plain(document: Bytes) -> Router<App> {
    let serve = move || {
        let document = document.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], document) }
    };
    Router::new()
        .route("/api/v1/openapi.json", get(serve))
        .route("/api/v1/ws", get(ws::upgrade))
        .route("/api/docs", get(crate::web::api_docs))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
}

/// No such path: JSON below `/api`, else the web client, whose own router knows what to show.
pub(super) async fn fallback(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path();
    if path == "/api" || path.starts_with("/api/") {
        return ApiError::not_found().into_response();
    }
    crate::web::serve(request.method(), path, (request.headers(), &app.face.nodes()))
}

/// No such path on the admin socket.
pub(super) async fn no_such_path() -> ApiError {
    ApiError::not_found()
}

/// The path is there, the method is not.
pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This cannot be done with this method.")
}

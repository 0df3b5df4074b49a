//! The server's own settings, certificate and state, for admins.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::extract::{Admin, Authed, IfMatch, Json};
use crate::api::{ApiError, App, Problem, expect_reply};
use crate::backup::service::Alarm;
use crate::core::chat::{Reply, forms};
use crate::core::command::{Command, NoteCertificate, UpdateSettings};
use crate::core::event::Settings;
use crate::core::keys::Key;
use crate::core::rows;
use crate::core::view::ViewExt;
use crate::ops::disk::DiskState;
use crate::replication::PairStatus;
use crate::tls::CertificateInfo;

/// The organisation's settings.
#[utoipa::path(get, path = "/settings", tag = "settings", security(("bearer" = [])),
    responses((status = 200, body = Settings), (status = "4XX", body = Problem)))]
pub(super) async fn settings(State(app): State<App>, _user: Authed) -> Result<axum::Json<Settings>, ApiError> {
    let row = app.node.projection().row::<rows::Settings>(Key::Settings)?.unwrap_or_default();
    Ok(axum::Json(Settings::from(&*row)))
}

/// What may be changed of the settings.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingsUpdate {
    /// The organisation's name.
    organisation: Option<String>,
    /// The language of people who chose none: `en` or `zh-CN`.
    default_locale: Option<String>,
    /// An IANA time zone.
    time_zone: Option<String>,
    /// How long a session lives, 1 to 3,650 days.
    session_days: Option<u32>,
    /// How long an author may edit a message, in seconds; 0: for ever.
    edit_window_seconds: Option<u64>,
}

/// What the forms do not say of the settings.
pub(super) fn check_settings(session_days: Option<u32>, default_locale: Option<&str>) -> Result<(), ApiError> {
    if session_days.is_some_and(|days| !(1..=3_650).contains(&days)) {
        return Err(ApiError::invalid_body("session_days must be 1 to 3650".to_owned()));
    }
    if default_locale == Some("") {
        return Err(ApiError::invalid_body("default_locale must be en or zh-CN".to_owned()));
    }
    Ok(())
}

/// Changes the settings.
#[utoipa::path(patch, path = "/settings", tag = "settings", request_body = SettingsUpdate,
    params(("If-Match" = String, Header, description = "The version in quotes")), security(("bearer" = [])),
    responses((status = 200, body = Settings), (status = "4XX", body = Problem)))]
pub(super) async fn update_settings(
    State(app): State<App>,
    admin: Admin,
    IfMatch(version): IfMatch,
    Json(body): Json<SettingsUpdate>,
) -> Result<axum::Json<Settings>, ApiError> {
    check_settings(body.session_days, body.default_locale.as_deref())?;
    let command = Command::UpdateSettings(UpdateSettings {
        version,
        organisation: body.organisation.map(|name| forms::organisation(&name)).transpose()?,
        default_locale: body.default_locale.map(|locale| forms::locale(&locale)).transpose()?,
        time_zone: body.time_zone.map(|zone| forms::time_zone(&zone)).transpose()?,
        session_days: body.session_days,
        edit_window_seconds: body.edit_window_seconds,
    });
    expect_reply!(app.act(admin.actor(), command).await?, Reply::Settings(settings) => axum::Json(settings))
}

fn no_tls() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no_tls", "This server does not do TLS itself.")
}

/// The certificate in use.
#[utoipa::path(get, path = "/admin/certificate", tag = "admin", security(("bearer" = [])),
    responses((status = 200, body = CertificateInfo), (status = "4XX", body = Problem)))]
pub(super) async fn certificate(
    State(app): State<App>,
    _admin: Admin,
) -> Result<axum::Json<CertificateInfo>, ApiError> {
    let tls = app.tls.as_ref().ok_or_else(no_tls)?;
    Ok(axum::Json((*tls.info()).clone()))
}

/// A certificate to be used from now on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateBody {
    /// The certificate and its intermediates, PEM.
    chain_pem: String,
    /// The private key, PEM.
    key_pem: String,
}

/// Uses another certificate from now on, without a restart. A faulty one changes nothing.
#[utoipa::path(put, path = "/admin/certificate", tag = "admin", request_body = CertificateBody,
    security(("bearer" = [])), responses((status = 200, body = CertificateInfo), (status = "4XX", body = Problem)))]
pub(super) async fn install_certificate(
    State(app): State<App>,
    admin: Admin,
    Json(body): Json<CertificateBody>,
) -> Result<axum::Json<CertificateInfo>, ApiError> {
    let tls = app.tls.clone().ok_or_else(no_tls)?;
    let before = tls.info();
    let installed = tokio::task::spawn_blocking(move || {
        tls.install(body.chain_pem.as_bytes(), body.key_pem.as_bytes(), crate::node::now_seconds())
    })
    .await;
    let info = installed.map_err(ApiError::internal)?.map_err(|error| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error.code(), "This certificate cannot be used.")
            .with_detail(error.to_string())
    })?;
    let text = |info: &CertificateInfo| serde_json::to_string(info).unwrap_or_default();
    let note = NoteCertificate { before: text(&before), after: text(&info) };
    app.act(admin.actor(), Command::NoteCertificate(note)).await?;
    tracing::info!(fingerprint = info.sha256_fingerprint, user = %admin.id(), "a certificate was installed");
    Ok(axum::Json(info))
}

/// The state of the node.
#[derive(Serialize, ToSchema)]
pub(super) struct NodeStatus {
    /// The program's version.
    version: &'static str,
    /// What the node is to its clients.
    role: crate::node::Role,
    /// The epoch's number.
    epoch: u64,
    /// How long the process has run, in seconds.
    uptime_seconds: u64,
    /// The last applied log index.
    applied_index: u64,
    /// The last durable log index.
    durable_index: u64,
    /// The log index of the last checkpoint.
    checkpoint_index: u64,
    /// How long ago that was, in seconds.
    checkpoint_age_seconds: f64,
    /// Commands waiting for the log.
    queue_depth: usize,
    /// Open connections.
    sessions: usize,
    /// Users with an open connection.
    users_online: usize,
    /// Bytes of the log on disk.
    log_bytes: u64,
    /// Bytes of the applied state on disk.
    state_bytes: u64,
    /// The pair, as this node sees it; null while the node ends.
    pair: Option<PairStatus>,
    /// The backups in one sentence.
    backup_summary: String,
    /// What is wrong with the backups.
    backup_alarms: Vec<Alarm>,
    /// The data disk.
    disk: DiskState,
    /// The certificate in use.
    certificate: Option<CertificateInfo>,
    /// What an operator should know.
    notices: Vec<String>,
}

/// The state of the node, as the status page and `holdfast status` show it.
pub(super) async fn node_status(app: &App) -> Result<NodeStatus, ApiError> {
    let hub = app.hub.stats();
    let pair = app.pair.status().await;
    let backups = app.backups.status()?;
    let state = app.node.projection().stats().map_err(ApiError::internal)?;
    Ok(NodeStatus {
        version: env!("CARGO_PKG_VERSION"),
        role: app.node.role(),
        // A standby has no epoch of its own; it knows the active's.
        epoch: pair.as_ref().map_or_else(|| app.node.epoch(), |pair| pair.epoch),
        uptime_seconds: app.started.elapsed().as_secs(),
        applied_index: app.node.applied_index(),
        durable_index: app.node.log().last_durable_index(),
        checkpoint_index: state.durable_index,
        checkpoint_age_seconds: state.checkpoint_age_ms as f64 / 1_000.0,
        queue_depth: app.node.queue_state().proposals,
        sessions: hub.sessions,
        users_online: hub.users_online,
        log_bytes: app.node.log().segments().iter().map(|segment| segment.bytes).sum(),
        state_bytes: state.disk_bytes,
        pair,
        backup_summary: backups.summary,
        backup_alarms: backups.alarms,
        disk: app.disk.check().map_err(ApiError::internal)?,
        certificate: app.tls.as_ref().map(|tls| (*tls.info()).clone()),
        notices: app.notices.lock().clone(),
    })
}

/// The state of the node.
#[utoipa::path(get, path = "/admin/status", tag = "admin", security(("bearer" = [])),
    responses((status = 200, body = NodeStatus), (status = "4XX", body = Problem)))]
pub(super) async fn status(State(app): State<App>, _admin: Admin) -> Result<axum::Json<NodeStatus>, ApiError> {
    node_status(&app).await.map(axum::Json)
}

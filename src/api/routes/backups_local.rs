//! Backups through the admin socket, for the operator at the machine: the same as the API, under the operator's name.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post, put};

use super::backup_settings::{SettingsPatch, TargetSpec};
use super::backups::{self, JobWanted, Jobs, List, Pause};
use crate::api::extract::{Json, Place};
use crate::api::{ApiError, App};
use crate::backup::service::{BackupStatus, Job};
use crate::backup::target::Report;
use crate::core::command::Actor;
use crate::core::event::Backups;

/// The routes.
pub(super) fn operator() -> Router<App> {
    Router::new()
        .route("/admin/v1/backups", get(status))
        .route("/admin/v1/backups/settings", get(settings).patch(update))
        .route("/admin/v1/backups/targets/{target}", put(put_target).delete(remove_target))
        .route("/admin/v1/backups/targets/{target}/test", post(test_target))
        .route("/admin/v1/backups/targets/{target}/backups", get(list))
        .route("/admin/v1/backups/targets/{target}/backups/{backup}/pin", put(pin).delete(unpin))
        .route("/admin/v1/backups/jobs", get(jobs).post(start))
        .route("/admin/v1/backups/jobs/{job}", get(job))
        .route("/admin/v1/backups/jobs/{job}/cancel", delete(cancel))
        .route("/admin/v1/backups/pause", post(pause))
        .route("/admin/v1/backups/resume", post(resume))
}

async fn status(State(app): State<App>) -> Result<axum::Json<BackupStatus>, ApiError> {
    Ok(axum::Json(app.backups.status()?))
}

async fn settings(State(app): State<App>) -> Result<axum::Json<Backups>, ApiError> {
    Ok(axum::Json(Backups::from(&app.backups.settings()?)))
}

async fn update(State(app): State<App>, Json(body): Json<SettingsPatch>) -> Result<axum::Json<Backups>, ApiError> {
    backups::change(&app, (Actor::operator(), None), |row, zone| body.apply(row, zone)).await
}

async fn put_target(
    State(app): State<App>,
    Place(name): Place<String>,
    Json(body): Json<TargetSpec>,
) -> Result<axum::Json<Backups>, ApiError> {
    backups::change(&app, (Actor::operator(), None), |row, _| body.put(row, name)).await
}

async fn remove_target(State(app): State<App>, Place(name): Place<String>) -> Result<axum::Json<Backups>, ApiError> {
    backups::forget(&app, Actor::operator(), &name).await
}

async fn test_target(State(app): State<App>, Place(name): Place<String>) -> Result<axum::Json<Report>, ApiError> {
    backups::try_target(&app, &name).await
}

async fn list(State(app): State<App>, Place(target): Place<String>) -> Result<axum::Json<List>, ApiError> {
    backups::listed(&app, target).await
}

async fn pin(State(app): State<App>, Place(at): Place<(String, String)>) -> Result<StatusCode, ApiError> {
    backups::set_pin(&app, Actor::operator(), (at.0, at.1, true)).await
}

async fn unpin(State(app): State<App>, Place(at): Place<(String, String)>) -> Result<StatusCode, ApiError> {
    backups::set_pin(&app, Actor::operator(), (at.0, at.1, false)).await
}

async fn jobs(State(app): State<App>) -> axum::Json<Jobs> {
    axum::Json(Jobs::of(&app))
}

async fn start(
    State(app): State<App>,
    Json(body): Json<JobWanted>,
) -> Result<(StatusCode, axum::Json<Jobs>), ApiError> {
    backups::begin(&app, Actor::operator(), body).await
}

async fn job(State(app): State<App>, Place(id): Place<u64>) -> Result<axum::Json<Job>, ApiError> {
    Ok(axum::Json(app.backups.job(id)?))
}

async fn cancel(State(app): State<App>, Place(id): Place<u64>) -> Result<axum::Json<Job>, ApiError> {
    backups::stop(&app, Actor::operator(), id).await
}

async fn pause(State(app): State<App>, Json(body): Json<Pause>) -> Result<axum::Json<Backups>, ApiError> {
    backups::set_paused(&app, Actor::operator(), Some(body)).await
}

async fn resume(State(app): State<App>) -> Result<axum::Json<Backups>, ApiError> {
    backups::set_paused(&app, Actor::operator(), None).await
}

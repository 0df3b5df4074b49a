//! First run from a backup: whoever has the one-time link may restore instead of beginning anew. The private key and the
//! secrets of a target are used and not kept.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::backup_settings::PlaceSpec;
use super::setup::TokenBody;
use crate::api::extract::Json;
use crate::api::{ApiError, App, Problem};
use crate::backup::crypt::parse_identities;
use crate::backup::repository::Repository;
use crate::backup::restore::desk::RestoreJob;
use crate::backup::restore::first_run::FirstRun;
use crate::backup::restore::{self, Moment, RestoreError, RestoreOptions, RestorePreview, RestoreReport};
use crate::backup::service::Seen;
use crate::backup::target::{self, Patience};
use crate::core::rows::BackupPlace;

/// What is to be restored.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SetupRestoreAsked)]
pub(super) struct Asked {
    /// The token of the printed link.
    token: String,
    /// Where the backups are.
    place: PlaceSpec,
    /// The text of the key file, when the backup is encrypted. Not kept.
    #[serde(default)]
    key: Option<String>,
    /// The fingerprint of who must have signed the backup.
    #[serde(default)]
    signer: Option<String>,
    /// The end of this backup; with no `to_time_ms` either: the newest one's.
    #[serde(default)]
    backup: Option<String>,
    /// As it was at this time, Unix milliseconds.
    #[serde(default)]
    to_time_ms: Option<u64>,
}

/// What there is, and what would come back.
#[derive(Serialize, ToSchema)]
#[schema(as = SetupRestoreFound)]
pub(super) struct Found {
    /// The backups, the oldest first, also those that are not to be believed.
    backups: Vec<Seen>,
    /// What a restore would bring back.
    preview: RestorePreview,
}

type Job = RestoreJob<RestoreReport>;

fn refused(error: &RestoreError) -> ApiError {
    // The hints are for the command line.
    ApiError::new(StatusCode::CONFLICT, error.code(), "This backup cannot be restored.").with_detail(error.to_string())
}

fn invalid((code, field): (&'static str, &'static str), detail: &dyn std::fmt::Display) -> ApiError {
    let title = "This backup cannot be used.";
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, title).with_detail(detail.to_string()).with_field(field)
}

/// What to restore, within the empty data directory of this server. Blocks, within a runtime.
fn options(app: &App, asked: Asked, patience: Patience) -> Result<RestoreOptions, ApiError> {
    let place = BackupPlace::from(asked.place);
    let target = target::open_with(&place, patience).map_err(|error| invalid((error.code(), "place"), &error))?;
    let key = asked.key.filter(|text| !text.trim().is_empty());
    let keys = key.map(|text| parse_identities(&text, "key")).transpose();
    Ok(RestoreOptions {
        // Nothing is ever deleted through it.
        repository: Repository::new(target, true),
        keys: keys.map_err(|error| invalid((error.code(), "key"), &error))?.unwrap_or_default(),
        signer: asked.signer.filter(|text| !text.trim().is_empty()),
        moment: match (asked.backup, asked.to_time_ms) {
            (Some(name), _) => Moment::Backup(name),
            (None, Some(ms)) => Moment::Time(ms),
            (None, None) => Moment::Latest,
        },
        destination: FirstRun::destination(&app.data),
        force: false,
    })
}

/// Does what may take its time on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?
}

/// What a repository holds and what a restore would bring back. Changes nothing.
#[utoipa::path(post, path = "/setup/restore/look", tag = "setup", request_body = Asked,
    responses((status = 200, body = Found), (status = "4XX", body = Problem)))]
pub(super) async fn look(State(app): State<App>, Json(asked): Json<Asked>) -> Result<axum::Json<Found>, ApiError> {
    app.setup.check(&asked.token)?;
    blocking(move || {
        let options = options(&app, asked, Patience::short())?;
        let preview = restore::preview(&options, &|_| {}, &CancellationToken::new()).map_err(|e| refused(&e))?;
        let listed = options.repository.list(None).map_err(|e| refused(&e.into()))?;
        Ok(axum::Json(Found { backups: listed.iter().map(Seen::from).collect(), preview }))
    })
    .await
}

/// Begins to restore. When it is done, the server starts again with what came back, and people sign in as they did before.
#[utoipa::path(post, path = "/setup/restore", tag = "setup", request_body = Asked,
    responses((status = 202, body = RestoreJob<RestoreReport>), (status = "4XX", body = Problem)))]
pub(super) async fn begin(
    State(app): State<App>,
    Json(asked): Json<Asked>,
) -> Result<(StatusCode, axum::Json<Job>), ApiError> {
    app.setup.check(&asked.token)?;
    let (first_run, cancel) = (app.first_run.clone(), app.stopping.child_token());
    let options = blocking(move || options(&app, asked, Patience::default())).await?;
    let job = first_run.begin(options, cancel).ok_or_else(running)?;
    Ok((StatusCode::ACCEPTED, axum::Json(job)))
}

/// Refused while a restore runs or has been done: what is set up by hand now would not be there afterwards.
pub(super) fn running() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "restore_job_running", "A backup is being restored on this server.")
}

/// How the restore stands.
#[utoipa::path(post, path = "/setup/restore/job", tag = "setup", request_body = TokenBody,
    responses((status = 200, body = RestoreJob<RestoreReport>), (status = "4XX", body = Problem)))]
pub(super) async fn job(State(app): State<App>, Json(body): Json<TokenBody>) -> Result<axum::Json<Job>, ApiError> {
    app.setup.check(&body.token)?;
    let none = || ApiError::new(StatusCode::NOT_FOUND, "restore_job_not_found", "No such job was begun.");
    app.first_run.look().map(axum::Json).ok_or_else(none)
}

/// Ends the restore that runs. Nothing of it stays.
#[utoipa::path(post, path = "/setup/restore/cancel", tag = "setup", request_body = TokenBody,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn cancel(State(app): State<App>, Json(body): Json<TokenBody>) -> Result<StatusCode, ApiError> {
    app.setup.check(&body.token)?;
    app.first_run.cancel();
    Ok(StatusCode::NO_CONTENT)
}

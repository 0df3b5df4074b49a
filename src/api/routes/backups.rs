//! Backups, for admins: how they stand, where they go and when, jobs, what a target holds. Auditors read. No secret is ever
//! given out: the shapes of answers have no fields for them.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::backup_settings::{SettingsPatch, TargetSpec};
use crate::api::extract::{Admin, Authed, IfMatch, Json, Place};
use crate::api::{ApiError, App, Problem, expect_reply};
use crate::backup::service::{BackupStatus, Job, JobKind, Seen, ServiceError};
use crate::backup::target::Report;
use crate::core::chat::Reply;
use crate::core::command::{Actor, BackupAct, Command, NoteBackup, UpdateBackups};
use crate::core::event::Backups;
use crate::core::rows::{self, Role};

/// A signed-in auditor, admin or owner.
pub(super) struct Auditor;

impl axum::extract::FromRequestParts<App> for Auditor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, app: &App) -> Result<Self, ApiError> {
        let Authed(user) = Authed::from_request_parts(parts, app).await?;
        if user.role() < Role::Auditor { Err(ApiError::forbidden()) } else { Ok(Self) }
    }
}

/// Jobs, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = BackupJobs)]
pub(super) struct Jobs {
    /// The jobs of this node.
    jobs: Vec<Job>,
}

impl Jobs {
    pub(super) fn of(app: &App) -> Self {
        Self { jobs: app.backups.jobs() }
    }
}

/// The backups on a target.
#[derive(Serialize, ToSchema)]
#[schema(as = BackupList)]
pub(super) struct List {
    /// The target.
    target: String,
    /// The backups, the oldest first.
    backups: Vec<Seen>,
}

/// What is to be done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BackupJobWanted)]
pub(super) struct JobWanted {
    /// What.
    work: JobKind,
    /// On which target; absent: on all that are enabled.
    target: Option<String>,
}

/// Until when.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BackupPause)]
pub(super) struct Pause {
    /// In Unix milliseconds; absent: until somebody resumes.
    until_ms: Option<u64>,
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let (status, title) = match &error {
            ServiceError::NoTarget(_) => (StatusCode::NOT_FOUND, "There is no such backup target."),
            ServiceError::NoJob => (StatusCode::NOT_FOUND, "There is no such job, or it has ended."),
            ServiceError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "Too many backup jobs wait already."),
            ServiceError::Backup(cause) if cause.code() == "backup_not_found" => {
                (StatusCode::NOT_FOUND, "There is no such backup.")
            }
            ServiceError::Backup(_) | ServiceError::Unfit(_) => {
                (StatusCode::CONFLICT, "The backup target did not do this.")
            }
            ServiceError::State(cause) => return Self::internal(cause),
            ServiceError::Broken(cause) => return Self::internal(cause),
        };
        Self::new(status, error.code(), title).with_detail(error.to_string())
    }
}

/// How the backups stand.
#[utoipa::path(get, path = "/admin/backups", tag = "backups", security(("bearer" = [])),
    responses((status = 200, body = BackupStatus), (status = "4XX", body = Problem)))]
pub(super) async fn status(State(app): State<App>, _auditor: Auditor) -> Result<axum::Json<BackupStatus>, ApiError> {
    Ok(axum::Json(app.backups.status()?))
}

/// The settings of the backups.
#[utoipa::path(get, path = "/admin/backups/settings", tag = "backups", security(("bearer" = [])),
    responses((status = 200, body = Backups), (status = "4XX", body = Problem)))]
pub(super) async fn settings(State(app): State<App>, _auditor: Auditor) -> Result<axum::Json<Backups>, ApiError> {
    Ok(axum::Json(Backups::from(&app.backups.settings()?)))
}

/// Changes the settings of the backups; what is absent stays, secrets within a target too.
#[utoipa::path(patch, path = "/admin/backups/settings", tag = "backups", request_body = SettingsPatch,
    params(("If-Match" = String, Header, description = "The version in quotes")), security(("bearer" = [])),
    responses((status = 200, body = Backups), (status = "4XX", body = Problem)))]
pub(super) async fn update_settings(
    State(app): State<App>,
    admin: Admin,
    IfMatch(version): IfMatch,
    Json(body): Json<SettingsPatch>,
) -> Result<axum::Json<Backups>, ApiError> {
    change(&app, (admin.actor(), Some(version)), |row, zone| body.apply(row, zone)).await
}

/// Carries out a change of the settings; a signing key is made when there is a target and no key yet.
pub(super) async fn change(
    app: &App,
    (actor, version): (Actor, Option<u64>),
    edit: impl FnOnce(&mut rows::Backups, &str) -> Result<(), ApiError>,
) -> Result<axum::Json<Backups>, ApiError> {
    let mut row = app.backups.settings()?;
    let version = version.unwrap_or(row.version);
    edit(&mut row, &app.backups.time_zone()?)?;
    if row.signing_key.is_none() && !row.targets.is_empty() {
        let signer = crate::backup::manifest::Signer::generate().map_err(ApiError::internal)?;
        row.signing_key = Some(rows::Secret { bytes: signer.pkcs8().to_vec().into() });
    }
    let command = Command::UpdateBackups(UpdateBackups { version, settings: Some(row) });
    expect_reply!(app.act(actor, command).await?, Reply::Backups(backups) => axum::Json(backups))
}

/// Adds a target, or changes the one of this name.
#[utoipa::path(put, path = "/admin/backups/targets/{target}", tag = "backups", request_body = TargetSpec,
    params(("target" = String, Path, description = "The target's name")), security(("bearer" = [])),
    responses((status = 200, body = Backups), (status = "4XX", body = Problem)))]
pub(super) async fn put_target(
    State(app): State<App>,
    admin: Admin,
    Place(name): Place<String>,
    Json(body): Json<TargetSpec>,
) -> Result<axum::Json<Backups>, ApiError> {
    change(&app, (admin.actor(), None), |row, _| body.put(row, name)).await
}

/// Removes a target from the settings. What lies there stays.
#[utoipa::path(delete, path = "/admin/backups/targets/{target}", tag = "backups",
    params(("target" = String, Path, description = "The target's name")), security(("bearer" = [])),
    responses((status = 200, body = Backups), (status = "4XX", body = Problem)))]
pub(super) async fn remove_target(
    State(app): State<App>,
    admin: Admin,
    Place(name): Place<String>,
) -> Result<axum::Json<Backups>, ApiError> {
    forget(&app, admin.actor(), &name).await
}

pub(super) async fn forget(app: &App, actor: Actor, name: &str) -> Result<axum::Json<Backups>, ApiError> {
    app.backups.target(name)?;
    change(app, (actor, None), |row, _| {
        row.targets.retain(|target| target.name != name);
        for schedule in &mut row.schedules {
            // A schedule of this target alone would otherwise count for all.
            if schedule.targets.iter().any(|target| target == name) {
                schedule.targets.retain(|target| target != name);
                schedule.enabled &= !schedule.targets.is_empty();
            }
        }
        Ok(())
    })
    .await
}

/// Stores, reads, lists and removes a small file on a target, and says what somebody should know of it. On an append-only target
/// the file stays, or should: its removal is tried.
#[utoipa::path(post, path = "/admin/backups/targets/{target}/test", tag = "backups",
    params(("target" = String, Path, description = "The target's name")), security(("bearer" = [])),
    responses((status = 200, body = Report), (status = "4XX", body = Problem)))]
pub(super) async fn test_target(
    State(app): State<App>,
    _admin: Admin,
    Place(name): Place<String>,
) -> Result<axum::Json<Report>, ApiError> {
    try_target(&app, &name).await
}

pub(super) async fn try_target(app: &App, name: &str) -> Result<axum::Json<Report>, ApiError> {
    Ok(axum::Json(app.backups.test(&app.backups.target(name)?).await?))
}

/// The backups on a target, as they lie there now.
#[utoipa::path(get, path = "/admin/backups/targets/{target}/backups", tag = "backups",
    params(("target" = String, Path, description = "The target's name")), security(("bearer" = [])),
    responses((status = 200, body = List), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    _auditor: Auditor,
    Place(target): Place<String>,
) -> Result<axum::Json<List>, ApiError> {
    listed(&app, target).await
}

pub(super) async fn listed(app: &App, target: String) -> Result<axum::Json<List>, ApiError> {
    let backups = app.backups.list(&target).await?;
    Ok(axum::Json(List { target, backups }))
}

/// Pins a backup: retention keeps it and what it rests on.
#[utoipa::path(put, path = "/admin/backups/targets/{target}/backups/{backup}/pin", tag = "backups",
    params(("target" = String, Path, description = "The target's name"),
        ("backup" = String, Path, description = "The backup's name")),
    security(("bearer" = [])), responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn pin(
    State(app): State<App>,
    admin: Admin,
    Place((target, backup)): Place<(String, String)>,
) -> Result<StatusCode, ApiError> {
    set_pin(&app, admin.actor(), (target, backup, true)).await
}

/// Takes the pin of a backup away.
#[utoipa::path(delete, path = "/admin/backups/targets/{target}/backups/{backup}/pin", tag = "backups",
    params(("target" = String, Path, description = "The target's name"),
        ("backup" = String, Path, description = "The backup's name")),
    security(("bearer" = [])), responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn unpin(
    State(app): State<App>,
    admin: Admin,
    Place((target, backup)): Place<(String, String)>,
) -> Result<StatusCode, ApiError> {
    set_pin(&app, admin.actor(), (target, backup, false)).await
}

pub(super) async fn set_pin(
    app: &App,
    actor: Actor,
    (target, backup, pinned): (String, String, bool),
) -> Result<StatusCode, ApiError> {
    require_trail(app, &actor)?;
    app.backups.pin(&target, (backup.clone(), pinned)).await?;
    let what = if pinned { BackupAct::Pin } else { BackupAct::Unpin };
    note(app, actor, (what, target, backup)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses on a standby, which writes no log; but not to its operator, whose acts are in its log files.
fn require_trail(app: &App, actor: &Actor) -> Result<(), ApiError> {
    if app.node.role() == crate::node::Role::Active || actor.is_operator() {
        return Ok(());
    }
    Err((&crate::node::ProposeError::NotActive).into())
}

/// Writes into the audit trail what was done.
async fn note(app: &App, actor: Actor, (what, target, text): (BackupAct, String, String)) -> Result<(), ApiError> {
    require_trail(app, &actor)?;
    if app.node.role() != crate::node::Role::Active {
        tracing::info!(action = what.action(), target, text, "done by the operator of a standby");
        return Ok(());
    }
    let command = Command::NoteBackup(NoteBackup { what: what.into(), target, text });
    app.act(actor, command).await.map(|_| ())
}

/// Begins a job on this node: a backup, a check, a clean-up, a drill.
#[utoipa::path(post, path = "/admin/backups/jobs", tag = "backups", request_body = JobWanted,
    security(("bearer" = [])), responses((status = 201, body = Jobs), (status = "4XX", body = Problem)))]
pub(super) async fn start(
    State(app): State<App>,
    admin: Admin,
    Json(body): Json<JobWanted>,
) -> Result<(StatusCode, axum::Json<Jobs>), ApiError> {
    begin(&app, admin.actor(), body).await
}

pub(super) async fn begin(
    app: &App,
    actor: Actor,
    body: JobWanted,
) -> Result<(StatusCode, axum::Json<Jobs>), ApiError> {
    let targets = match body.target {
        Some(name) => vec![app.backups.target(&name)?.name],
        None => {
            let all = app.backups.settings()?.targets.into_iter();
            all.filter(|target| target.enabled).map(|target| target.name).collect()
        }
    };
    if targets.is_empty() {
        let title = "No backup target is set up.";
        return Err(ApiError::new(StatusCode::CONFLICT, "backup_no_targets", title)
            .with_hint("add one: holdfast backup target add NAME --directory PATH"));
    }
    let (what, text) = match &body.work {
        JobKind::Backup { full } => (BackupAct::Run, if *full { "full" } else { "incremental" }.to_owned()),
        JobKind::Verify { backup } => (BackupAct::Verify, backup.clone().unwrap_or_default()),
        JobKind::Prune { dry_run } => (BackupAct::Prune, if *dry_run { "dry run" } else { "" }.to_owned()),
        JobKind::Drill { backup } => (BackupAct::Drill, backup.clone().unwrap_or_default()),
    };
    let cause = if actor.is_operator() { "local" } else { "api" };
    let mut jobs = Vec::new();
    for target in targets {
        note(app, actor.clone(), (what, target.clone(), text.clone())).await?;
        jobs.push(app.backups.start(body.work.clone(), &target, cause)?);
    }
    Ok((StatusCode::CREATED, axum::Json(Jobs { jobs })))
}

/// The jobs of this node, the newest first: those that wait or run, then those that ended.
#[utoipa::path(get, path = "/admin/backups/jobs", tag = "backups", security(("bearer" = [])),
    responses((status = 200, body = Jobs), (status = "4XX", body = Problem)))]
pub(super) async fn jobs(State(app): State<App>, _auditor: Auditor) -> axum::Json<Jobs> {
    axum::Json(Jobs::of(&app))
}

/// One job.
#[utoipa::path(get, path = "/admin/backups/jobs/{job}", tag = "backups",
    params(("job" = u64, Path, description = "The job's number")), security(("bearer" = [])),
    responses((status = 200, body = Job), (status = "4XX", body = Problem)))]
pub(super) async fn job(
    State(app): State<App>,
    _auditor: Auditor,
    Place(id): Place<u64>,
) -> Result<axum::Json<Job>, ApiError> {
    Ok(axum::Json(app.backups.job(id)?))
}

/// Stops a job that waits or runs. A running one ends soon after.
#[utoipa::path(delete, path = "/admin/backups/jobs/{job}", tag = "backups",
    params(("job" = u64, Path, description = "The job's number")), security(("bearer" = [])),
    responses((status = 200, body = Job), (status = "4XX", body = Problem)))]
pub(super) async fn cancel(
    State(app): State<App>,
    admin: Admin,
    Place(id): Place<u64>,
) -> Result<axum::Json<Job>, ApiError> {
    stop(&app, admin.actor(), id).await
}

pub(super) async fn stop(app: &App, actor: Actor, id: u64) -> Result<axum::Json<Job>, ApiError> {
    require_trail(app, &actor)?;
    let job = app.backups.cancel(id)?;
    note(app, actor, (BackupAct::Cancel, job.target.clone(), format!("job {id}"))).await?;
    Ok(axum::Json(job))
}

/// Makes nothing by itself for a while.
#[utoipa::path(post, path = "/admin/backups/pause", tag = "backups", request_body = Pause, security(("bearer" = [])),
    responses((status = 200, body = Backups), (status = "4XX", body = Problem)))]
pub(super) async fn pause(
    State(app): State<App>,
    admin: Admin,
    Json(body): Json<Pause>,
) -> Result<axum::Json<Backups>, ApiError> {
    set_paused(&app, admin.actor(), Some(body)).await
}

/// Goes on; what was missed is made up once.
#[utoipa::path(post, path = "/admin/backups/resume", tag = "backups", security(("bearer" = [])),
    responses((status = 200, body = Backups), (status = "4XX", body = Problem)))]
pub(super) async fn resume(State(app): State<App>, admin: Admin) -> Result<axum::Json<Backups>, ApiError> {
    set_paused(&app, admin.actor(), None).await
}

pub(super) async fn set_paused(app: &App, actor: Actor, pause: Option<Pause>) -> Result<axum::Json<Backups>, ApiError> {
    change(app, (actor, None), |row, _| {
        row.paused = pause.is_some();
        row.paused_until_ms = pause.and_then(|pause| pause.until_ms).unwrap_or(0);
        Ok(())
    })
    .await
}

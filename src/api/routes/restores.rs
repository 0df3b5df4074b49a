//! Texts of messages out of a backup into the running system, for admins and for the operator at the machine. What the
//! texts are is never shown here.

use std::path::PathBuf;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde::Deserialize;
use tokio::runtime::Handle;
use utoipa::ToSchema;

use crate::api::extract::{Admin, Json};
use crate::api::{ApiError, App, Problem};
use crate::backup::crypt::parse_identities;
use crate::backup::repository::Repository;
use crate::backup::restore::RestoreError;
use crate::backup::restore::desk::RestoreJob;
use crate::backup::restore::live::{LiveOptions, LiveReport, put_back};
use crate::backup::target::{Target, TargetError, open};
use crate::core::chat::Reply;
use crate::core::chat::restores::PutBack;
use crate::core::command::{Actor, Command, Envelope, RestoreMessages};
use crate::core::ids::{ChannelId, MessageId};
use crate::core::keys::Key;
use crate::core::pair;
use crate::core::refusal::RefusalCode;
use crate::core::view::View as _;
use crate::limits;
use crate::node::{Node, ProposeError};

type TextsJob = RestoreJob<LiveReport>;

/// Which texts are to come back, from where.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MessagesAsked {
    /// The repository: a directory of the server. Either this or `target`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    directory: Option<PathBuf>,
    /// The repository: one of the server's backup targets, by its name.
    #[serde(default)]
    target: Option<String>,
    /// The text of the key file, when the backup is encrypted. Not kept.
    #[serde(default)]
    key: Option<String>,
    /// The fingerprint of who must have signed the backup.
    #[serde(default)]
    signer: Option<String>,
    /// The channel.
    #[schema(value_type = String)]
    channel_id: ChannelId,
    /// As it was at this time, Unix milliseconds.
    as_of_ms: u64,
    /// Only these messages; absent: all of the channel.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    message_ids: Option<Vec<MessageId>>,
    /// Also where somebody wrote a newer text since.
    #[serde(default)]
    overwrite: bool,
    /// Only say what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// The routes of the admin socket.
pub(super) fn operator() -> Router<App> {
    Router::new().route("/admin/v1/restore/messages", get(look_local).post(begin_local).delete(cancel_local))
}

/// The newest job that puts texts back.
#[utoipa::path(get, path = "/admin/restore/messages", tag = "backups", security(("bearer" = [])),
    responses((status = 200, body = RestoreJob<LiveReport>), (status = "4XX", body = Problem)))]
pub(super) async fn look(State(app): State<App>, _admin: Admin) -> Result<axum::Json<TextsJob>, ApiError> {
    newest(&app)
}

/// Begins to put texts of messages back that a backup still has. Deleted messages get theirs; edited ones keep the newer
/// text unless `overwrite` is set.
#[utoipa::path(post, path = "/admin/restore/messages", tag = "backups", request_body = MessagesAsked,
    security(("bearer" = [])), responses((status = 202, body = RestoreJob<LiveReport>), (status = "4XX", body = Problem)))]
pub(super) async fn begin(
    State(app): State<App>,
    admin: Admin,
    Json(asked): Json<MessagesAsked>,
) -> Result<(StatusCode, axum::Json<TextsJob>), ApiError> {
    start(&app, admin.actor(), asked)
}

/// Ends the job that runs. What it has put back stays.
#[utoipa::path(delete, path = "/admin/restore/messages", tag = "backups", security(("bearer" = [])),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn cancel(State(app): State<App>, _admin: Admin) -> StatusCode {
    app.restores.cancel();
    StatusCode::NO_CONTENT
}

async fn look_local(State(app): State<App>) -> Result<axum::Json<TextsJob>, ApiError> {
    newest(&app)
}

async fn begin_local(
    State(app): State<App>,
    Json(asked): Json<MessagesAsked>,
) -> Result<(StatusCode, axum::Json<TextsJob>), ApiError> {
    start(&app, Actor::operator(), asked)
}

async fn cancel_local(State(app): State<App>) -> StatusCode {
    app.restores.cancel();
    StatusCode::NO_CONTENT
}

fn newest(app: &App) -> Result<axum::Json<TextsJob>, ApiError> {
    let none = || ApiError::new(StatusCode::NOT_FOUND, "restore_job_not_found", "No such job was begun.");
    app.restores.look().map(axum::Json).ok_or_else(none)
}

fn invalid(code: &'static str, detail: String, field: &'static str) -> ApiError {
    let title = "This backup cannot be used.";
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, title).with_detail(detail).with_field(field)
}

/// Checks what can be checked at once, and begins.
fn start(app: &App, actor: Actor, asked: MessagesAsked) -> Result<(StatusCode, axum::Json<TextsJob>), ApiError> {
    let command = Command::RestoreMessages(RestoreMessages::default());
    pair::allowed(&command, app.node.level())?;
    if app.node.projection().get(&Key::Channel(asked.channel_id))?.is_none() {
        return Err(super::channels::refused(RefusalCode::ChannelNotFound));
    }
    if asked.message_ids.as_ref().is_some_and(|ids| ids.len() > limits::RESTORE_NAMED_MESSAGES_MAX) {
        let detail = format!("at most {} messages may be named", limits::RESTORE_NAMED_MESSAGES_MAX);
        return Err(invalid("too_many_messages", detail, "message_ids"));
    }
    let dry_run = asked.dry_run;
    let options = live_options(app, asked)?;
    let node = app.node.clone();
    let job = app.restores.begin((dry_run, app.stopping.child_token()), move |tell, cancel| {
        let mut put = |command| if dry_run { Ok(would(&command)) } else { propose(&node, &actor, command) };
        put_back(&options, (&node, &mut put), tell, cancel)
    });
    let busy = || ApiError::new(StatusCode::CONFLICT, "restore_job_running", "Texts are being put back already.");
    job.map(|job| (StatusCode::ACCEPTED, axum::Json(job))).ok_or_else(busy)
}

/// The repository that was asked for.
fn target(app: &App, asked: &MessagesAsked) -> Result<Target, ApiError> {
    let no = |error: TargetError, field| invalid(error.code(), error.to_string(), field);
    match (&asked.directory, &asked.target) {
        (Some(directory), None) if directory.is_absolute() => {
            Target::directory(directory).map_err(|error| no(error, "directory"))
        }
        (Some(_), None) => {
            Err(invalid("target_not_there", "the directory must be an absolute path".to_owned(), "directory"))
        }
        (None, Some(name)) => {
            let row = app.backups.target(name)?;
            let place = row.place.as_ref().ok_or_else(|| no(TargetError::NotThere(name.clone()), "target"))?;
            open(place).map_err(|error| no(error, "target"))
        }
        _ => Err(invalid("target_not_there", "name either a directory or a target".to_owned(), "target")),
    }
}

fn live_options(app: &App, asked: MessagesAsked) -> Result<LiveOptions, ApiError> {
    let target = target(app, &asked)?;
    let parse =
        |text: String| parse_identities(&text, "key").map_err(|error| invalid(error.code(), error.to_string(), "key"));
    Ok(LiveOptions {
        repository: Repository::new(target, true),
        keys: asked.key.map(parse).transpose()?.unwrap_or_default(),
        signer: asked.signer,
        cluster: app.cluster,
        channel: asked.channel_id,
        as_of_ms: asked.as_of_ms,
        messages: asked.message_ids.map(|ids| ids.into_iter().map(|id| id.0).collect()),
        overwrite: asked.overwrite,
        scratch: app.scratch.clone(),
    })
}

/// What a command would do: only what is to change was put into it.
fn would(command: &RestoreMessages) -> PutBack {
    PutBack { restored: command.messages.len() as u64, ..PutBack::default() }
}

/// Called from a thread that may block.
fn propose(node: &Node, actor: &Actor, command: RestoreMessages) -> Result<PutBack, RestoreError> {
    let envelope = Envelope { actor: Some(actor.clone()), command: Some(Command::RestoreMessages(command)) };
    let refused = |code: RefusalCode| RestoreError::Refused { code: code.as_str(), text: code.title().to_owned() };
    let not_taken = |error: ProposeError| match error {
        ProposeError::Refused(refusal) => refused(refusal.code),
        ProposeError::NotActive => {
            RestoreError::Refused { code: "not_active", text: "this server is not the active one any more".to_owned() }
        }
        other => {
            RestoreError::Refused { code: "not_taken", text: format!("the server takes no changes now: {other:?}") }
        }
    };
    match Handle::current().block_on(node.propose(&envelope)).map_err(not_taken)?.outcome {
        Ok(Reply::PutBack(done)) => Ok(done),
        Ok(other) => Err(RestoreError::Start(format!("unexpected reply {other:?}"))),
        Err(refusal) => Err(refused(refusal.code)),
    }
}

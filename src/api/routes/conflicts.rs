//! Conflicts after a fork: read by auditors and admins, decided by admins.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::extract::{Admin, Authed, IfMatch, Json, Params, Place};
use crate::api::page::{self, Page, PageParams};
use crate::api::{ApiError, App, Problem, expect_reply};
use crate::core::chat::{Reply, forms};
use crate::core::command::{self, Command, ResolveConflict, UpdateChannel, UpdateSettings, UpdateUser};
use crate::core::event::Conflict;
use crate::core::keys::Key;
use crate::core::merge;
use crate::core::rows::{self, ConflictState, Role};
use crate::core::view::{Direction, ViewExt};
use crate::limits;

/// The bit of a cursor that says that the open conflicts are behind it: ids have 63 bits.
const DECIDED: u64 = 1 << 63;

fn require_auditor(user: &Authed) -> Result<(), ApiError> {
    if user.role() < Role::Auditor { Err(ApiError::forbidden()) } else { Ok(()) }
}

/// Conflicts: those that nobody has decided first, the newest first.
#[utoipa::path(get, path = "/admin/conflicts", tag = "admin", params(PageParams), security(("bearer" = [])),
    responses((status = 200, body = Page<Conflict>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    user: Authed,
    Params(params): Params<PageParams>,
) -> Result<axum::Json<Page<Conflict>>, ApiError> {
    require_auditor(&user)?;
    let limit = page::limit(params.limit)?;
    let cursor = page::cursor(params.cursor.as_deref())?;
    let view = app.node.projection();
    let mut items = Vec::new();
    let mut next = if cursor & DECIDED == 0 { Some(cursor) } else { None };
    while let Some(before) = next.filter(|_| items.len() < limit) {
        let last = if before == 0 { u64::MAX } else { before - 1 };
        let range = Key::OpenConflict(0)..=Key::OpenConflict(last);
        let rows = view.rows::<rows::Reference>(range, Direction::Down, limit - items.len())?;
        next = rows.last().map(|(_, row)| row.id).filter(|id| *id > 1);
        for (_, row) in rows {
            let conflict = merge::conflict_of(view, row.id)?;
            items.push(merge::view_of(view, &conflict, Some(user.id()))?);
        }
    }
    if let Some(open) = next {
        return Ok(axum::Json(Page { items, next_cursor: Some(open.to_string()) }));
    }
    let mut before = if cursor & DECIDED == 0 { DECIDED } else { cursor & !DECIDED };
    let mut looked = 0;
    while items.len() < limit && before > 0 && looked < limits::PAGE_ROWS_SCANNED_MAX {
        let range = Key::Conflict(0)..=Key::Conflict(before - 1);
        let rows = view.rows::<rows::Conflict>(range, Direction::Down, limits::PAGE_CHUNK_ROWS)?;
        looked += rows.len();
        before = if rows.len() < limits::PAGE_CHUNK_ROWS { 0 } else { rows.last().map_or(0, |(_, row)| row.id) };
        for (_, row) in rows.iter().filter(|(_, row)| row.state() != ConflictState::Open) {
            if items.len() == limit {
                before = items.last().and_then(|item: &Conflict| item.id.parse().ok()).unwrap_or(0);
                break;
            }
            items.push(merge::view_of(view, row, Some(user.id()))?);
        }
    }
    let next_cursor = (before > 0).then(|| (before | DECIDED).to_string());
    Ok(axum::Json(Page { items, next_cursor }))
}

/// One conflict.
#[utoipa::path(get, path = "/admin/conflicts/{conflict_id}", tag = "admin",
    params(("conflict_id" = String, Path)), security(("bearer" = [])),
    responses((status = 200, body = Conflict), (status = "4XX", body = Problem)))]
pub(super) async fn one(
    State(app): State<App>,
    user: Authed,
    Place(id): Place<u64>,
) -> Result<axum::Json<Conflict>, ApiError> {
    require_auditor(&user)?;
    let view = app.node.projection();
    let row = merge::conflict_of(view, id)?;
    Ok(axum::Json(merge::view_of(view, &row, Some(user.id()))?))
}

/// What to do about a conflict.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Decision {
    /// What stands, stands.
    Keep,
    /// Take the other side's value of the fields that differ.
    TakeOther,
    /// Take the fields of `user`, `channel` or `settings`.
    Merge,
}

/// A decision.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolution {
    /// What to do.
    decision: Decision,
    /// The `record_version` of the conflict as it was read: the record may have changed since. Not looked at for `keep`.
    record_version: u64,
    /// With `merge` of a user: its fields; what is absent stays.
    user: Option<MergedUser>,
    /// With `merge` of a channel: its fields, likewise.
    channel: Option<MergedChannel>,
    /// With `merge` of the settings: their fields, likewise.
    settings: Option<MergedSettings>,
}

/// A user's fields.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MergedUser {
    /// The name others see.
    display_name: Option<String>,
    /// What the user may do.
    role: Option<Role>,
    /// `en`, `zh-CN` or empty for the organisation's.
    locale: Option<String>,
    /// May not sign in.
    disabled: Option<bool>,
}

/// A channel's fields.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MergedChannel {
    /// Its name.
    name: Option<String>,
    /// What it is about.
    topic: Option<String>,
    /// Read-only and out of the way.
    archived: Option<bool>,
}

/// The fields of the settings.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MergedSettings {
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

impl MergedUser {
    fn command(self) -> Result<UpdateUser, ApiError> {
        Ok(UpdateUser {
            display_name: self.display_name.map(|name| forms::display_name(&name)).transpose()?,
            role: self.role.map(i32::from),
            locale: self.locale.map(|locale| forms::locale(&locale)).transpose()?,
            disabled: self.disabled,
            ..UpdateUser::default()
        })
    }
}

impl MergedChannel {
    fn command(self) -> Result<UpdateChannel, ApiError> {
        Ok(UpdateChannel {
            name: self.name.map(|name| forms::channel_name(&name)).transpose()?,
            topic: self.topic.map(|topic| forms::topic(&topic)).transpose()?,
            archived: self.archived,
            ..UpdateChannel::default()
        })
    }
}

impl MergedSettings {
    fn command(self) -> Result<UpdateSettings, ApiError> {
        super::admin::check_settings(self.session_days, self.default_locale.as_deref())?;
        Ok(UpdateSettings {
            organisation: self.organisation.map(|name| forms::organisation(&name)).transpose()?,
            default_locale: self.default_locale.map(|locale| forms::locale(&locale)).transpose()?,
            time_zone: self.time_zone.map(|zone| forms::time_zone(&zone)).transpose()?,
            session_days: self.session_days,
            edit_window_seconds: self.edit_window_seconds,
            ..UpdateSettings::default()
        })
    }
}

/// Decides a conflict.
#[utoipa::path(post, path = "/admin/conflicts/{conflict_id}/resolve", tag = "admin", request_body = Resolution,
    params(("conflict_id" = String, Path), ("If-Match" = String, Header, description = "The version in quotes")),
    security(("bearer" = [])), responses((status = 200, body = Conflict), (status = "4XX", body = Problem)))]
#[expect(clippy::too_many_arguments, reason = "each is an extractor, and the framework asks for them so")]
pub(super) async fn resolve(
    State(app): State<App>,
    admin: Admin,
    Place(id): Place<u64>,
    IfMatch(version): IfMatch,
    Json(body): Json<Resolution>,
) -> Result<axum::Json<Conflict>, ApiError> {
    let decision = match body.decision {
        Decision::Keep => command::Decision::Keep,
        Decision::TakeOther => command::Decision::TakeOther,
        Decision::Merge => command::Decision::Merge,
    };
    let command = Command::ResolveConflict(ResolveConflict {
        conflict: id,
        version,
        record_version: body.record_version,
        decision: decision.into(),
        user: body.user.map(MergedUser::command).transpose()?,
        channel: body.channel.map(MergedChannel::command).transpose()?,
        settings: body.settings.map(MergedSettings::command).transpose()?,
    });
    let reply = app.act(admin.actor(), command).await?;
    expect_reply!(reply, Reply::Conflict(conflict) => axum::Json(conflict))
}

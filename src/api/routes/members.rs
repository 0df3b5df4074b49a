//! Who is in a channel.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::channels::visible;
use crate::api::extract::{Authed, Json, Params, Place};
use crate::api::page::{self, Page, PageParams};
use crate::api::{ApiError, App, Problem, expect_reply};
use crate::core::chat::Reply;
use crate::core::command::{Command, PutMember, RemoveMember, UpdateMembership};
use crate::core::event::{Member, OwnMember};
use crate::core::ids::{ChannelId, UserId};
use crate::core::keys::Key;
use crate::core::rows::{self, MemberRole, NotifyLevel};
use crate::core::view::{Direction, ViewExt};

/// A channel's members, by user id.
#[utoipa::path(get, path = "/channels/{channel_id}/members", tag = "members",
    params(("channel_id" = String, Path), PageParams), security(("bearer" = [])),
    responses((status = 200, body = Page<Member>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    user: Authed,
    Place(id): Place<ChannelId>,
    Params(params): Params<PageParams>,
) -> Result<axum::Json<Page<Member>>, ApiError> {
    visible(&app, &user, id)?;
    let limit = page::limit(params.limit)?;
    let after = UserId(page::cursor(params.cursor.as_deref())?.saturating_add(1));
    let range = Key::Member(id, after)..=Key::Member(id, UserId(u64::MAX));
    let rows = app.node.projection().rows::<rows::Member>(range, Direction::Up, limit)?;
    let of = |(key, row): &(Key, std::sync::Arc<rows::Member>)| match key {
        Key::Member(_, user) => Some(Member::of(*user, row)),
        _ => None,
    };
    let items: Vec<Member> = rows.iter().filter_map(of).collect();
    let next_cursor = items.last().filter(|_| items.len() == limit).map(|last| last.user_id.to_string());
    Ok(axum::Json(Page { items, next_cursor }))
}

/// A member's role.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberBody {
    /// The role; absent: member for a new one, unchanged for one who is there.
    role: Option<MemberRole>,
}

/// Joins, adds somebody, or changes a member's role.
#[utoipa::path(put, path = "/channels/{channel_id}/members/{user_id}", tag = "members", request_body = MemberBody,
    params(("channel_id" = String, Path), ("user_id" = String, Path)), security(("bearer" = [])),
    responses((status = 200, body = Member), (status = "4XX", body = Problem)))]
pub(super) async fn put(
    State(app): State<App>,
    user: Authed,
    Place((channel, member)): Place<(ChannelId, UserId)>,
    Json(body): Json<MemberBody>,
) -> Result<axum::Json<Member>, ApiError> {
    let role = body.role.map(Into::into);
    let command = Command::PutMember(PutMember { channel: channel.0, user: member.0, role });
    expect_reply!(app.act(user.actor(), command).await?, Reply::Member(member) => axum::Json(member))
}

/// Leaves, or removes somebody.
#[utoipa::path(delete, path = "/channels/{channel_id}/members/{user_id}", tag = "members",
    params(("channel_id" = String, Path), ("user_id" = String, Path)), security(("bearer" = [])),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    State(app): State<App>,
    user: Authed,
    Place((channel, member)): Place<(ChannelId, UserId)>,
) -> Result<StatusCode, ApiError> {
    let command = Command::RemoveMember(RemoveMember { channel: channel.0, user: member.0 });
    app.act(user.actor(), command).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One's own side of a membership.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MembershipBody {
    /// When the channel may notify.
    notify: NotifyLevel,
}

/// Changes one's own side of a membership.
#[utoipa::path(patch, path = "/channels/{channel_id}/membership", tag = "members", request_body = MembershipBody,
    params(("channel_id" = String, Path)), security(("bearer" = [])),
    responses((status = 200, body = OwnMember), (status = "4XX", body = Problem)))]
pub(super) async fn membership(
    State(app): State<App>,
    user: Authed,
    Place(channel): Place<ChannelId>,
    Json(body): Json<MembershipBody>,
) -> Result<axum::Json<OwnMember>, ApiError> {
    let command = UpdateMembership { channel: channel.0, notify: body.notify.into() };
    let reply = app.act_as(user.id(), Command::UpdateMembership(command)).await?;
    expect_reply!(reply, Reply::OwnMember(member) => axum::Json(member))
}

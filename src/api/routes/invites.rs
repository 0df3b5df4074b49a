//! Invitations by link.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account::{SignedIn, sign_in};
use crate::api::extract::{Admin, ClientAddress, Json, Params, Place};
use crate::api::page::{self, Collector, Page, PageParams};
use crate::api::{ApiError, App, Problem, expect_reply};
use crate::auth::tokens::{TokenKind, new_token, token_hash};
use crate::core::chat::invites::valid;
use crate::core::chat::{Reply, forms};
use crate::core::command::{AcceptInvite, Actor, Command, CreateInvite, NewUser, RevokeInvite};
use crate::core::event::Invite;
use crate::core::ids::{ChannelId, InviteId, UserId};
use crate::core::keys::Key;
use crate::core::rows::{self, Role};
use crate::core::view::{Direction, ViewExt};
use crate::limits;
use crate::node::now_ms;

/// An invitation to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteCreate {
    /// The role of whoever accepts it.
    role: Role,
    /// Channels that whoever accepts it joins.
    #[schema(value_type = Option<Vec<String>>)]
    channel_ids: Option<Vec<ChannelId>>,
    /// How long it is good for, in seconds; 7 days if absent, 30 at most.
    expires_in_seconds: Option<u64>,
    /// How many people may accept it; 1 if absent, 1,000 at most.
    uses_max: Option<u32>,
}

/// A new invitation.
#[derive(Serialize, ToSchema)]
pub(super) struct InviteCreated {
    /// The invitation.
    invite: Invite,
    /// Its token; the server keeps only the hash.
    token: String,
    /// The link to hand over.
    link: String,
}

/// Makes an invitation. The link is shown once.
#[utoipa::path(post, path = "/invites", tag = "invites", request_body = InviteCreate, security(("bearer" = [])),
    responses((status = 201, body = InviteCreated), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    State(app): State<App>,
    admin: Admin,
    Json(body): Json<InviteCreate>,
) -> Result<(StatusCode, axum::Json<InviteCreated>), ApiError> {
    let seconds = body.expires_in_seconds.unwrap_or(limits::INVITE_SECONDS_DEFAULT);
    let uses_max = body.uses_max.unwrap_or(1);
    let channels = body.channel_ids.unwrap_or_default();
    let within = (60..=limits::INVITE_SECONDS_MAX).contains(&seconds)
        && (1..=limits::INVITE_USES_MAX).contains(&uses_max)
        && channels.len() <= limits::INVITE_CHANNELS_MAX;
    if !within {
        return Err(ApiError::invalid_body(format!(
            "expires_in_seconds must be 60 to {}, uses_max 1 to {}, channel_ids at most {}",
            limits::INVITE_SECONDS_MAX,
            limits::INVITE_USES_MAX,
            limits::INVITE_CHANNELS_MAX
        )));
    }
    let token = new_token(TokenKind::Invitation).map_err(ApiError::internal)?;
    let command = Command::CreateInvite(CreateInvite {
        token_hash: token_hash(&token).to_vec().into(),
        role: body.role.into(),
        channels: channels.into_iter().map(|id| id.0).collect(),
        expires_in_seconds: seconds,
        uses_max,
    });
    let invite = expect_reply!(app.act(admin.actor(), command).await?, Reply::Invite(invite) => invite)?;
    let link = format!("{}/invite#{token}", app.public_url);
    Ok((StatusCode::CREATED, axum::Json(InviteCreated { invite, token, link })))
}

/// Invitations, the newest first.
#[utoipa::path(get, path = "/invites", tag = "invites", params(PageParams), security(("bearer" = [])),
    responses((status = 200, body = Page<Invite>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    _admin: Admin,
    Params(params): Params<PageParams>,
) -> Result<axum::Json<Page<Invite>>, ApiError> {
    let limit = page::limit(params.limit)?;
    let before = match page::cursor(params.cursor.as_deref())? {
        0 => u64::MAX,
        last => last - 1,
    };
    let range = Key::Invite(InviteId(0))..=Key::Invite(InviteId(before));
    let rows = app.node.projection().rows::<rows::Invite>(range, Direction::Down, limit)?;
    let mut collector = Collector::new(limit);
    let mut next = None;
    for (_, row) in rows {
        if !collector.offer(Some(Invite::from(&*row))) {
            next = Some(row.id);
        }
    }
    Ok(axum::Json(collector.page(next)))
}

/// Takes an invitation back.
#[utoipa::path(delete, path = "/invites/{invite_id}", tag = "invites", params(("invite_id" = String, Path)),
    security(("bearer" = [])), responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn revoke(
    State(app): State<App>,
    admin: Admin,
    Place(id): Place<InviteId>,
) -> Result<StatusCode, ApiError> {
    app.act(admin.actor(), Command::RevokeInvite(RevokeInvite::new(id))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An invitation's token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteToken {
    /// The token of the link.
    token: String,
}

/// What somebody who holds an invitation may know.
#[derive(Serialize, ToSchema)]
pub(super) struct InviteInfo {
    /// The organisation's name.
    organisation: String,
    /// The role of whoever accepts it.
    role: Role,
    /// When it ends, in Unix milliseconds.
    expires_ms: u64,
    /// The name of whoever made it.
    invited_by: String,
}

/// What an invitation offers, or why it cannot be accepted.
#[utoipa::path(post, path = "/invites/check", tag = "invites", request_body = InviteToken,
    responses((status = 200, body = InviteInfo), (status = "4XX", body = Problem)))]
pub(super) async fn check(
    State(app): State<App>,
    Json(body): Json<InviteToken>,
) -> Result<axum::Json<InviteInfo>, ApiError> {
    let view = app.node.projection();
    let invite = valid(view, token_hash(&body.token), now_ms())?;
    let creator = view.row::<rows::User>(Key::User(UserId(invite.creator)))?;
    let settings = view.row::<rows::Settings>(Key::Settings)?.unwrap_or_default();
    Ok(axum::Json(InviteInfo {
        organisation: settings.organisation.clone(),
        role: invite.role(),
        expires_ms: invite.expires_ms,
        invited_by: creator.map(|user| user.display_name.clone()).unwrap_or_default(),
    }))
}

/// The acceptance of an invitation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteAccept {
    /// The token of the link.
    token: String,
    /// The sign-in name.
    username: String,
    /// The name others see.
    display_name: String,
    /// The password.
    password: String,
    /// `en`, `zh-CN` or empty for the organisation's.
    locale: Option<String>,
    /// What the device calls itself.
    device: Option<String>,
}

/// Becomes a user by an invitation and signs in.
#[utoipa::path(post, path = "/invites/accept", tag = "invites", request_body = InviteAccept,
    responses((status = 201, body = SignedIn), (status = "4XX", body = Problem)))]
pub(super) async fn accept(
    State(app): State<App>,
    ClientAddress(address): ClientAddress,
    Json(body): Json<InviteAccept>,
) -> Result<(StatusCode, axum::Json<SignedIn>), ApiError> {
    let hash = token_hash(&body.token);
    // Before the costly hashing: whoever has no invitation is turned away at no cost. A token of 256 random bits needs
    // no rate limit against guessing.
    valid(app.node.projection(), hash, now_ms())?;
    let username = forms::username(&body.username)?;
    app.password_policy.check(&username, &body.password)?;
    let user = NewUser {
        display_name: forms::display_name(&body.display_name)?,
        role: Role::Guest.into(),
        password_hash: app.passwords.hash(body.password).await?,
        locale: forms::locale(&body.locale.unwrap_or_default())?,
        must_change_password: false,
        username,
    };
    let command = Command::AcceptInvite(AcceptInvite { token_hash: hash.to_vec().into(), user: Some(user) });
    let actor = Actor { user: 0, session: 0, address: address.to_string() };
    let user = expect_reply!(app.act(actor, command).await?, Reply::User(user) => user)?;
    let signed_in = sign_in(&app, (user.id, address), &body.device.unwrap_or_default()).await?;
    Ok((StatusCode::CREATED, axum::Json(signed_in)))
}

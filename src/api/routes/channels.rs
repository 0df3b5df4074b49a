//! Conversations: one's own, those one may join, made and changed.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::extract::{Authed, IfMatch, Json, Params, Place};
use crate::api::page::{self, Collector, Page};
use crate::api::{ApiError, App, Problem, expect_reply};
use crate::core::chat::{Reply, forms};
use crate::core::command::{Command, CreateChannel, OpenDirect, UpdateChannel};
use crate::core::event::{Channel, ChannelEntry, OwnMember};
use crate::core::ids::{ChannelId, UserId};
use crate::core::keys::Key;
use crate::core::refusal::{Refusal, RefusalCode};
use crate::core::rows::{self, ChannelKind, Role};
use crate::core::view::{Direction, ViewExt};
use crate::limits;

/// One's own conversations.
#[derive(Serialize, ToSchema)]
pub(super) struct OwnChannels {
    /// The conversations with one's own membership.
    items: Vec<ChannelEntry>,
    /// The log position that this answer is at least at.
    pos: String,
}

/// One's own conversations.
#[utoipa::path(get, path = "/channels", tag = "channels", security(("bearer" = [])),
    responses((status = 200, body = OwnChannels), (status = "4XX", body = Problem)))]
pub(super) async fn own(State(app): State<App>, user: Authed) -> Result<axum::Json<OwnChannels>, ApiError> {
    let pos = app.hub.pos().to_string();
    let view = app.node.projection();
    let range = Key::Membership(user.id(), ChannelId(0))..=Key::Membership(user.id(), ChannelId(u64::MAX));
    let mut items = Vec::new();
    for (key, membership) in view.rows::<rows::Membership>(range, Direction::Up, usize::MAX)? {
        let Key::Membership(_, id) = key else { continue };
        let channel = view.row::<rows::Channel>(Key::Channel(id))?;
        let member = view.row::<rows::Member>(Key::Member(id, user.id()))?;
        // Removed between the scan and here: no longer one's own.
        let Some((channel, member)) = channel.zip(member) else { continue };
        let head = view.row::<rows::ChannelHead>(Key::ChannelHead(id))?.unwrap_or_default();
        let own = OwnMember::of(&member, &membership);
        items.push(ChannelEntry { channel: Channel::of(&channel, &head), member: Some(own) });
    }
    Ok(axum::Json(OwnChannels { items, pos }))
}

/// Which channels.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BrowseParams {
    /// Part of a name.
    query: Option<String>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Public and announcement channels that one may join.
#[utoipa::path(get, path = "/channels/browse", tag = "channels", params(BrowseParams), security(("bearer" = [])),
    responses((status = 200, body = Page<Channel>), (status = "4XX", body = Problem)))]
pub(super) async fn browse(
    State(app): State<App>,
    user: Authed,
    Params(params): Params<BrowseParams>,
) -> Result<axum::Json<Page<Channel>>, ApiError> {
    if user.role() == Role::Guest {
        return Err(ApiError::forbidden());
    }
    let view = app.node.projection();
    let needle = params.query.unwrap_or_default().trim().to_lowercase();
    let mut after = page::cursor(params.cursor.as_deref())?;
    let mut collector = Collector::new(page::limit(params.limit)?);
    loop {
        let range = Key::Channel(ChannelId(after.saturating_add(1)))..=Key::Channel(ChannelId(u64::MAX));
        let rows = view.rows::<rows::Channel>(range, Direction::Up, limits::PAGE_CHUNK_ROWS)?;
        let whole = rows.len() == limits::PAGE_CHUNK_ROWS;
        for (_, row) in rows {
            after = row.id;
            let open = matches!(row.kind(), ChannelKind::Public | ChannelKind::Announcement) && !row.archived;
            let item = if open && row.name.to_lowercase().contains(&needle) {
                let head = view.row::<rows::ChannelHead>(Key::ChannelHead(ChannelId(row.id)))?.unwrap_or_default();
                Some(Channel::of(&row, &head))
            } else {
                None
            };
            if !collector.offer(item) {
                return Ok(axum::Json(collector.page(Some(after))));
            }
        }
        if !whole {
            return Ok(axum::Json(collector.page(None)));
        }
    }
}

/// A channel to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelCreate {
    /// `private`, `public` or `announcement`.
    kind: ChannelKind,
    /// Its name.
    name: String,
    /// What it is about.
    topic: Option<String>,
    /// Its first members beside oneself.
    #[schema(value_type = Option<Vec<String>>)]
    member_ids: Option<Vec<UserId>>,
}

/// Makes a channel; one becomes its manager.
#[utoipa::path(post, path = "/channels", tag = "channels", request_body = ChannelCreate, security(("bearer" = [])),
    responses((status = 201, body = ChannelEntry), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    State(app): State<App>,
    user: Authed,
    Json(body): Json<ChannelCreate>,
) -> Result<(StatusCode, axum::Json<ChannelEntry>), ApiError> {
    let members = body.member_ids.unwrap_or_default();
    if members.len() > limits::CHANNEL_FIRST_MEMBERS_MAX {
        let detail = format!("member_ids may name at most {}", limits::CHANNEL_FIRST_MEMBERS_MAX);
        return Err(ApiError::invalid_body(detail));
    }
    let command = Command::CreateChannel(CreateChannel {
        kind: body.kind.into(),
        name: forms::channel_name(&body.name)?,
        topic: forms::topic(&body.topic.unwrap_or_default())?,
        members: members.into_iter().map(|id| id.0).collect(),
    });
    let reply = app.act(user.actor(), command).await?;
    expect_reply!(reply, Reply::Entry { entry, .. } => (StatusCode::CREATED, axum::Json(entry)))
}

/// With whom to speak.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DirectBody {
    /// With whom; oneself for notes.
    #[schema(value_type = String)]
    user_id: UserId,
}

/// Opens the direct channel with somebody, or finds it.
#[utoipa::path(post, path = "/channels/direct", tag = "channels", request_body = DirectBody,
    security(("bearer" = [])), responses((status = 200, body = ChannelEntry, description = "It was there already."),
    (status = 201, body = ChannelEntry), (status = "4XX", body = Problem)))]
pub(super) async fn direct(
    State(app): State<App>,
    user: Authed,
    Json(body): Json<DirectBody>,
) -> Result<(StatusCode, axum::Json<ChannelEntry>), ApiError> {
    let reply = app.act(user.actor(), Command::OpenDirect(OpenDirect { user: body.user_id.0 })).await?;
    let status = |created| if created { StatusCode::CREATED } else { StatusCode::OK };
    expect_reply!(reply, Reply::Entry { entry, created } => (status(created), axum::Json(entry)))
}

/// A refusal as an error.
pub(super) fn refused(code: RefusalCode) -> ApiError {
    Refusal::from(code).into()
}

/// A channel that one may see: a member everything, others the public ones.
pub(super) fn visible(app: &App, user: &Authed, id: ChannelId) -> Result<ChannelEntry, ApiError> {
    let view = app.node.projection();
    let row = view.row::<rows::Channel>(Key::Channel(id))?.ok_or_else(|| refused(RefusalCode::ChannelNotFound))?;
    let member = view.row::<rows::Member>(Key::Member(id, user.id()))?;
    let membership = view.row::<rows::Membership>(Key::Membership(user.id(), id))?;
    let own = member.zip(membership).map(|(member, membership)| OwnMember::of(&member, &membership));
    let public = matches!(row.kind(), ChannelKind::Public | ChannelKind::Announcement);
    if own.is_none() && (!public || user.role() == Role::Guest) {
        return Err(refused(RefusalCode::ChannelNotFound));
    }
    let head = view.row::<rows::ChannelHead>(Key::ChannelHead(id))?.unwrap_or_default();
    Ok(ChannelEntry { channel: Channel::of(&row, &head), member: own })
}

/// One channel.
#[utoipa::path(get, path = "/channels/{channel_id}", tag = "channels", params(("channel_id" = String, Path)),
    security(("bearer" = [])), responses((status = 200, body = ChannelEntry), (status = "4XX", body = Problem)))]
pub(super) async fn one(
    State(app): State<App>,
    user: Authed,
    Place(id): Place<ChannelId>,
) -> Result<axum::Json<ChannelEntry>, ApiError> {
    visible(&app, &user, id).map(axum::Json)
}

/// What a manager may change of a channel.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelUpdate {
    /// Its name.
    name: Option<String>,
    /// What it is about.
    topic: Option<String>,
    /// Read-only and out of the way.
    archived: Option<bool>,
}

/// Changes a channel.
#[utoipa::path(patch, path = "/channels/{channel_id}", tag = "channels", request_body = ChannelUpdate,
    params(("channel_id" = String, Path), ("If-Match" = String, Header, description = "The version in quotes")),
    security(("bearer" = [])), responses((status = 200, body = Channel), (status = "4XX", body = Problem)))]
#[expect(clippy::too_many_arguments, reason = "each is an extractor, and the framework asks for them so")]
pub(super) async fn update(
    State(app): State<App>,
    user: Authed,
    Place(id): Place<ChannelId>,
    IfMatch(version): IfMatch,
    Json(body): Json<ChannelUpdate>,
) -> Result<axum::Json<Channel>, ApiError> {
    let command = Command::UpdateChannel(UpdateChannel {
        channel: id.0,
        version,
        name: body.name.map(|name| forms::channel_name(&name)).transpose()?,
        topic: body.topic.map(|topic| forms::topic(&topic)).transpose()?,
        archived: body.archived,
    });
    expect_reply!(app.act(user.actor(), command).await?, Reply::Channel(channel) => axum::Json(channel))
}

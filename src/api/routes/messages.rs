//! Messages: sent, paged, edited, deleted, read.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::channels::{refused, visible};
use crate::api::extract::{Authed, IfMatch, Json, Params, Place};
use crate::api::page;
use crate::api::{ApiError, App, Problem, client_id, expect_reply};
use crate::core::chat::Reply;
use crate::core::command::{Command, DeleteMessage, EditMessage, SendMessage};
use crate::core::event::{ChannelEntry, Message};
use crate::core::ids::ChannelId;
use crate::core::keys::Key;
use crate::core::refusal::RefusalCode;
use crate::core::rows;
use crate::core::view::{Direction, ViewExt};

/// Which messages: the newest, or those before, after or around a place.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MessageParams {
    /// Only messages with a lower `seq`.
    before: Option<u64>,
    /// Only messages with a higher `seq`.
    after: Option<u64>,
    /// The message with this `seq` in the middle.
    around: Option<u64>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<usize>,
}

/// Some messages of a channel, in the order of `seq`.
#[derive(Serialize, ToSchema)]
pub(super) struct MessagePage {
    /// The messages.
    items: Vec<Message>,
    /// The newest message's `seq` in the channel.
    last_seq: u64,
    /// There are older ones.
    has_before: bool,
    /// There are newer ones.
    has_after: bool,
    /// The log position that this answer is at least at.
    pos: String,
}

/// The first and last `seq` of the page that was asked for.
fn window(params: &MessageParams, last_seq: u64, limit: u64) -> Result<(u64, u64), ApiError> {
    let (first, last) = match (params.before, params.after, params.around) {
        (None, None, None) => (last_seq.saturating_sub(limit - 1), last_seq),
        (Some(before), None, None) => {
            let last = before.saturating_sub(1).min(last_seq);
            (last.saturating_sub(limit - 1), last)
        }
        (None, Some(after), None) => (after.saturating_add(1), after.saturating_add(limit).min(last_seq)),
        (None, None, Some(around)) => {
            let last = around.saturating_add(limit / 2).min(last_seq);
            (last.saturating_sub(limit - 1), last)
        }
        _ => return Err(ApiError::invalid_query("give only one of before, after and around".to_owned())),
    };
    Ok((first.max(1), last))
}

/// Members only; others are told what they may know.
fn readable(app: &App, user: &Authed, id: ChannelId) -> Result<ChannelEntry, ApiError> {
    let entry = visible(app, user, id)?;
    if entry.member.is_none() {
        return Err(refused(RefusalCode::NotAMember));
    }
    Ok(entry)
}

/// Some messages of a channel: the newest, or those before, after or around a place.
#[utoipa::path(get, path = "/channels/{channel_id}/messages", tag = "messages",
    params(("channel_id" = String, Path), MessageParams), security(("bearer" = [])),
    responses((status = 200, body = MessagePage), (status = "4XX", body = Problem)))]
pub(super) async fn page(
    State(app): State<App>,
    user: Authed,
    Place(id): Place<ChannelId>,
    Params(params): Params<MessageParams>,
) -> Result<axum::Json<MessagePage>, ApiError> {
    let pos = app.hub.pos().to_string();
    let last_seq = readable(&app, &user, id)?.channel.last_seq;
    let limit = page::limit(params.limit)?;
    let (first, last) = window(&params, last_seq, limit as u64)?;
    let mut items = Vec::new();
    if first <= last {
        let range = Key::Message(id, first)..=Key::Message(id, last);
        let rows = app.node.projection().rows::<rows::Message>(range, Direction::Up, limit)?;
        items.reserve(rows.len());
        items.extend(rows.iter().filter_map(|(key, row)| match key {
            Key::Message(_, seq) => Some(Message::of(id, *seq, row)),
            _ => None,
        }));
    }
    let has_before = items.first().is_some_and(|message| message.seq > 1);
    let has_after = items.last().is_some_and(|message| message.seq < last_seq);
    Ok(axum::Json(MessagePage { items, last_seq, has_before, has_after, pos }))
}

/// A message to be sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageCreate {
    /// A UUID of one's own making: a resend with the same one returns the first message.
    client_id: String,
    /// Markdown.
    body: String,
}

/// Sends a message. The answer comes when it is durable.
#[utoipa::path(post, path = "/channels/{channel_id}/messages", tag = "messages", request_body = MessageCreate,
    params(("channel_id" = String, Path)), security(("bearer" = [])),
    responses((status = 200, body = Message, description = "It was there already."), (status = 201, body = Message),
    (status = "4XX", body = Problem)))]
pub(super) async fn send(
    State(app): State<App>,
    user: Authed,
    Place(id): Place<ChannelId>,
    Json(body): Json<MessageCreate>,
) -> Result<(StatusCode, axum::Json<Message>), ApiError> {
    let client_id = client_id(&body.client_id)?;
    let command = Command::SendMessage(SendMessage { channel: id.0, client_id, body: body.body });
    let sent = expect_reply!(app.act_as(user.id(), command).await?, Reply::Sent(sent) => sent)?;
    let status = if sent.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    let message = stored(&app, sent.channel, sent.seq)?;
    Ok((status, axum::Json(message)))
}

/// A message from the state.
fn stored(app: &App, id: ChannelId, seq: u64) -> Result<Message, ApiError> {
    let row = app.node.projection().row::<rows::Message>(Key::Message(id, seq))?;
    row.map(|row| Message::of(id, seq, &row)).ok_or_else(|| refused(RefusalCode::MessageNotFound))
}

/// One message.
#[utoipa::path(get, path = "/channels/{channel_id}/messages/{seq}", tag = "messages",
    params(("channel_id" = String, Path), ("seq" = u64, Path)), security(("bearer" = [])),
    responses((status = 200, body = Message), (status = "4XX", body = Problem)))]
pub(super) async fn one(
    State(app): State<App>,
    user: Authed,
    Place((id, seq)): Place<(ChannelId, u64)>,
) -> Result<axum::Json<Message>, ApiError> {
    readable(&app, &user, id)?;
    stored(&app, id, seq).map(axum::Json)
}

/// A new text.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageUpdate {
    /// Markdown.
    body: String,
}

/// A version as a message has it.
fn version(IfMatch(version): IfMatch) -> u32 {
    // A version beyond 32 bits is none that we gave: it is stale.
    u32::try_from(version).unwrap_or(u32::MAX)
}

/// Changes one's own message.
#[utoipa::path(patch, path = "/channels/{channel_id}/messages/{seq}", tag = "messages", request_body = MessageUpdate,
    params(("channel_id" = String, Path), ("seq" = u64, Path),
        ("If-Match" = String, Header, description = "The version in quotes")),
    security(("bearer" = [])), responses((status = 200, body = Message), (status = "4XX", body = Problem)))]
#[expect(clippy::too_many_arguments, reason = "each is an extractor, and the framework asks for them so")]
pub(super) async fn edit(
    State(app): State<App>,
    user: Authed,
    Place((id, seq)): Place<(ChannelId, u64)>,
    if_match: IfMatch,
    Json(body): Json<MessageUpdate>,
) -> Result<axum::Json<Message>, ApiError> {
    let command = EditMessage { channel: id.0, seq, version: version(if_match), body: body.body };
    let reply = app.act_as(user.id(), Command::EditMessage(command)).await?;
    expect_reply!(reply, Reply::Message(message) => axum::Json(message))
}

/// Takes a message's text away: one's own, or as a manager of the channel.
#[utoipa::path(delete, path = "/channels/{channel_id}/messages/{seq}", tag = "messages",
    params(("channel_id" = String, Path), ("seq" = u64, Path),
        ("If-Match" = String, Header, description = "The version in quotes")),
    security(("bearer" = [])), responses((status = 200, body = Message), (status = "4XX", body = Problem)))]
pub(super) async fn delete(
    State(app): State<App>,
    user: Authed,
    Place((id, seq)): Place<(ChannelId, u64)>,
    if_match: IfMatch,
) -> Result<axum::Json<Message>, ApiError> {
    let command = DeleteMessage { channel: id.0, seq, version: version(if_match) };
    // With session and address: a manager's deletion of somebody else's message goes into the audit trail.
    let reply = app.act(user.actor(), Command::DeleteMessage(command)).await?;
    expect_reply!(reply, Reply::Message(message) => axum::Json(message))
}

/// How far one has read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadBody {
    /// The newest `seq` read.
    seq: u64,
}

/// Moves one's read mark; within a second it is durable. It never goes back.
#[utoipa::path(post, path = "/channels/{channel_id}/read", tag = "messages", request_body = ReadBody,
    params(("channel_id" = String, Path)), security(("bearer" = [])),
    responses((status = 202), (status = "4XX", body = Problem)))]
pub(super) async fn read(
    State(app): State<App>,
    user: Authed,
    Place(id): Place<ChannelId>,
    Json(body): Json<ReadBody>,
) -> Result<StatusCode, ApiError> {
    readable(&app, &user, id)?;
    app.read_marks.note(user.id(), id, body.seq);
    Ok(StatusCode::ACCEPTED)
}

/// Tells the others that one types.
#[utoipa::path(post, path = "/channels/{channel_id}/typing", tag = "messages",
    params(("channel_id" = String, Path)), security(("bearer" = [])),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn typing(
    State(app): State<App>,
    user: Authed,
    Place(id): Place<ChannelId>,
) -> Result<StatusCode, ApiError> {
    readable(&app, &user, id)?;
    app.hub.typing(id, user.id());
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_stay_inside_the_channel() {
        let ask = |before, after, around| {
            let params = MessageParams { before, after, around, limit: None };
            window(&params, 100, 10).unwrap()
        };
        assert_eq!(ask(None, None, None), (91, 100));
        assert_eq!(ask(Some(91), None, None), (81, 90));
        assert_eq!(ask(Some(5), None, None), (1, 4));
        assert_eq!(ask(Some(u64::MAX), None, None), (91, 100));
        assert_eq!(ask(None, Some(0), None), (1, 10));
        assert_eq!(ask(None, Some(95), None), (96, 100));
        assert_eq!(ask(None, None, Some(50)), (46, 55));
        assert!(ask(None, Some(u64::MAX), None).0 > 100);
        let both = MessageParams { before: Some(1), after: Some(1), around: None, limit: None };
        assert!(window(&both, 100, 10).is_err());
    }
}

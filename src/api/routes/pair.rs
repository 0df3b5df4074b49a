//! The pair, for admins and for the operator at the machine: how it stands, who belongs to it, who is active.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::extract::{Admin, IfMatch, Json, Place};
use crate::api::{ApiError, App, Problem};
use crate::core::command::Actor;
use crate::core::event;
use crate::core::rows::{PairMemberKind, PairTimings};
use crate::replication::invite::Invitation;
use crate::replication::{DeskError, ForceReport, PairStatus, SwitchoverReason};

/// The pair: how it stands, and what its members agree on.
#[derive(Serialize, ToSchema)]
pub(super) struct PairView {
    /// How it stands, as this node sees it.
    status: PairStatus,
    /// What the members agree on; null: there is no pair.
    settings: Option<event::Pair>,
}

/// For whom an invitation is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum InvitedKind {
    /// A second data node.
    Standby,
    /// A third machine that only votes.
    Witness,
}

impl From<InvitedKind> for PairMemberKind {
    fn from(kind: InvitedKind) -> Self {
        match kind {
            InvitedKind::Standby => Self::Data,
            InvitedKind::Witness => Self::Witness,
        }
    }
}

/// For whom an invitation is to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InvitationAsked {
    /// What the machine will be.
    kind: InvitedKind,
}

/// An invitation, shown once.
#[derive(Serialize, ToSchema)]
pub(super) struct InvitationMade {
    /// The text for `holdfast pair join` or `holdfast witness --join`. A secret until it is used.
    invitation: String,
    /// SHA-256 of the pair's CA, to be compared on the other machine.
    ca_fingerprint: String,
    /// Until when it is good, Unix milliseconds.
    expires_ms: u64,
}

impl From<&Invitation> for InvitationMade {
    fn from(made: &Invitation) -> Self {
        let (invitation, ca_fingerprint) = (made.to_text(), made.ca_fingerprint_text());
        Self { invitation, ca_fingerprint, expires_ms: made.expires_ms }
    }
}

/// What may be changed of what the members agree on; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PairUpdate {
    /// Without a witness: whether the standby may promote itself.
    auto_promote: Option<bool>,
    /// `host:port` of an always-on host that tells a dead peer from a dead link; empty: none.
    reference: Option<String>,
    /// Between two heartbeats, in milliseconds.
    heartbeat_ms: Option<u32>,
    /// After so much silence of the active the standby stands for election.
    fail_after_ms: Option<u32>,
    /// After so long without an ack of the standby the active asks to go on alone.
    solo_after_ms: Option<u32>,
    /// After so long without anybody the active closes its clients' sessions.
    lease_ms: Option<u32>,
    /// Without a witness: after so much silence the standby promotes itself.
    promote_after_ms: Option<u32>,
    /// Use no command above this level although all members could; 0: use all.
    level_held: Option<u32>,
}

/// A member's number.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberNumber {
    /// The number; null: the other data node.
    member: Option<u16>,
}

/// "I have read what may be lost."
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Promotion {
    /// Must be true.
    force: bool,
}

fn refused(error: &DeskError) -> ApiError {
    let status = match error.code {
        "not_active" | "busy" | "disk_full" | "shutting_down" => StatusCode::SERVICE_UNAVAILABLE,
        "pair_none" | "pair_member_not_found" => StatusCode::NOT_FOUND,
        "pair_failed" | "pair_port" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::CONFLICT,
    };
    ApiError::new(status, error.code, "The pair cannot do this now.").with_detail(error.text.clone())
}

async fn view(app: &App) -> Result<PairView, ApiError> {
    let status = app.pair.status().await.ok_or_else(|| ApiError::internal("the pair's part of the node has ended"))?;
    let settings = app.pair.settings();
    Ok(PairView { status, settings: (settings.version() > 0).then(|| event::Pair::from(&settings.0)) })
}

/// The pair as this node sees it.
#[utoipa::path(get, path = "/admin/pair", tag = "pair", security(("bearer" = [])),
    responses((status = 200, body = PairView), (status = "4XX", body = Problem)))]
pub(super) async fn one(State(app): State<App>, _admin: Admin) -> Result<axum::Json<PairView>, ApiError> {
    view(&app).await.map(axum::Json)
}

/// Changes what the members agree on, beside who they are.
#[utoipa::path(patch, path = "/admin/pair", tag = "pair", request_body = PairUpdate,
    params(("If-Match" = String, Header, description = "The version in quotes")), security(("bearer" = [])),
    responses((status = 200, body = event::Pair), (status = "4XX", body = Problem)))]
pub(super) async fn update(
    State(app): State<App>,
    admin: Admin,
    IfMatch(version): IfMatch,
    Json(body): Json<PairUpdate>,
) -> Result<axum::Json<event::Pair>, ApiError> {
    change(&app, admin.actor(), (Some(version), body)).await.map(axum::Json)
}

async fn change(app: &App, actor: Actor, (version, body): (Option<u64>, PairUpdate)) -> Result<event::Pair, ApiError> {
    if app.pair.settings().version() == 0 {
        return Err(refused(&DeskError::no_pair()));
    }
    let command = app.pair.change(|update| {
        update.version = version.unwrap_or(update.version);
        let timings: &mut PairTimings = update.timings.get_or_insert_default();
        let fields = [
            (&mut timings.heartbeat_ms, body.heartbeat_ms),
            (&mut timings.fail_after_ms, body.fail_after_ms),
            (&mut timings.solo_after_ms, body.solo_after_ms),
            (&mut timings.lease_ms, body.lease_ms),
            (&mut timings.promote_after_ms, body.promote_after_ms),
        ];
        for (field, wanted) in fields {
            *field = wanted.unwrap_or(*field);
        }
        update.auto_promote = body.auto_promote.unwrap_or(update.auto_promote);
        update.reference = body.reference.unwrap_or_else(|| update.reference.clone());
        update.level_held = match body.level_held {
            None => update.level_held,
            Some(0) => None,
            held => held,
        };
    });
    // Through the rules like every change: a stale version is told with the settings as they are.
    let reply = app.act(actor, crate::core::command::Command::UpdatePair(command)).await?;
    crate::api::expect_reply!(reply, crate::core::chat::Reply::Pair(pair) => pair)
}

/// Makes an invitation for a standby or a witness.
#[utoipa::path(post, path = "/admin/pair/invitations", tag = "pair", request_body = InvitationAsked,
    security(("bearer" = [])), responses((status = 201, body = InvitationMade), (status = "4XX", body = Problem)))]
pub(super) async fn invite(
    State(app): State<App>,
    admin: Admin,
    Json(body): Json<InvitationAsked>,
) -> Result<(StatusCode, axum::Json<InvitationMade>), ApiError> {
    let made = app.pair.invite(body.kind.into(), admin.actor()).await.map_err(|error| refused(&error))?;
    Ok((StatusCode::CREATED, axum::Json((&made).into())))
}

/// Removes a member for ever. Its number never comes back; the machine may join again under a new one.
#[utoipa::path(delete, path = "/admin/pair/members/{number}", tag = "pair",
    params(("number" = u64, Path, description = "The member's number")), security(("bearer" = [])),
    responses((status = 200, body = MemberNumber), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    State(app): State<App>,
    admin: Admin,
    Place(number): Place<u64>,
) -> Result<axum::Json<MemberNumber>, ApiError> {
    // A number that none can have is no member's.
    let number = u16::try_from(number).unwrap_or(u16::MAX);
    let member = app.pair.remove(Some(number), admin.actor()).await.map_err(|error| refused(&error))?;
    Ok(axum::Json(MemberNumber { member: Some(member) }))
}

/// Hands over to the standby. Answers when it is active, or with why it is not.
#[utoipa::path(post, path = "/admin/pair/switchover", tag = "pair", security(("bearer" = [])),
    responses((status = 200, body = MemberNumber), (status = "4XX", body = Problem)))]
pub(super) async fn switchover(State(app): State<App>, _admin: Admin) -> Result<axum::Json<MemberNumber>, ApiError> {
    hand_over(&app).await
}

async fn hand_over(app: &App) -> Result<axum::Json<MemberNumber>, ApiError> {
    let member = app.pair.switchover(SwitchoverReason::Ordered).await.map_err(|error| refused(&error))?;
    Ok(axum::Json(MemberNumber { member: Some(member) }))
}

/// What making this node active by force would lose.
#[utoipa::path(get, path = "/admin/pair/promotion", tag = "pair", security(("bearer" = [])),
    responses((status = 200, body = ForceReport), (status = "4XX", body = Problem)))]
pub(super) async fn promotion(State(app): State<App>, _admin: Admin) -> Result<axum::Json<ForceReport>, ApiError> {
    app.pair.force_report().await.map(axum::Json).map_err(|error| refused(&error))
}

/// Makes this node active although nobody votes for it.
#[utoipa::path(post, path = "/admin/pair/promotion", tag = "pair", request_body = Promotion,
    security(("bearer" = [])), responses((status = 200, body = ForceReport), (status = "4XX", body = Problem)))]
pub(super) async fn promote(
    State(app): State<App>,
    _admin: Admin,
    Json(body): Json<Promotion>,
) -> Result<axum::Json<ForceReport>, ApiError> {
    force(&app, &body).await
}

async fn force(app: &App, body: &Promotion) -> Result<axum::Json<ForceReport>, ApiError> {
    if !body.force {
        return Err(ApiError::invalid_body("force must be true".to_owned()));
    }
    let report = app.pair.force_report().await.map_err(|error| refused(&error))?;
    app.pair.promote_by_force().await.map_err(|error| refused(&error))?;
    Ok(axum::Json(report))
}

/// The same for the operator at the machine.
pub(super) fn operator() -> Router<App> {
    Router::new()
        .route("/admin/v1/pair", get(local::one).patch(local::update))
        .route("/admin/v1/pair/invitations", post(local::invite))
        .route("/admin/v1/pair/remove", post(local::remove))
        .route("/admin/v1/pair/switchover", post(local::switchover))
        .route("/admin/v1/pair/certificate", post(local::renew))
        .route("/admin/v1/pair/promotion", get(local::promotion).post(local::promote))
}

mod local {
    use super::*;

    pub(super) async fn one(State(app): State<App>) -> Result<axum::Json<PairView>, ApiError> {
        view(&app).await.map(axum::Json)
    }

    pub(super) async fn update(
        State(app): State<App>,
        Json(body): Json<PairUpdate>,
    ) -> Result<axum::Json<event::Pair>, ApiError> {
        change(&app, Actor::operator(), (None, body)).await.map(axum::Json)
    }

    pub(super) async fn invite(
        State(app): State<App>,
        Json(body): Json<InvitationAsked>,
    ) -> Result<axum::Json<InvitationMade>, ApiError> {
        let made = app.pair.invite(body.kind.into(), Actor::operator()).await.map_err(|error| refused(&error))?;
        Ok(axum::Json((&made).into()))
    }

    pub(super) async fn remove(
        State(app): State<App>,
        Json(body): Json<MemberNumber>,
    ) -> Result<axum::Json<MemberNumber>, ApiError> {
        let member = app.pair.remove(body.member, Actor::operator()).await.map_err(|error| refused(&error))?;
        Ok(axum::Json(MemberNumber { member: Some(member) }))
    }

    pub(super) async fn switchover(State(app): State<App>) -> Result<axum::Json<MemberNumber>, ApiError> {
        hand_over(&app).await
    }

    /// A new certificate for this node: of one machine, so only for whoever is at it.
    pub(super) async fn renew(State(app): State<App>) -> Result<axum::Json<serde_json::Value>, ApiError> {
        let validity = app.pair.renew().await.map_err(|error| refused(&error))?;
        let now = crate::node::now_seconds();
        let days = validity.days_left(now);
        Ok(axum::Json(serde_json::json!({ "days_left": days, "summary": validity.text(now) })))
    }

    pub(super) async fn promotion(State(app): State<App>) -> Result<axum::Json<ForceReport>, ApiError> {
        app.pair.force_report().await.map(axum::Json).map_err(|error| refused(&error))
    }

    pub(super) async fn promote(
        State(app): State<App>,
        Json(body): Json<Promotion>,
    ) -> Result<axum::Json<ForceReport>, ApiError> {
        force(&app, &body).await
    }
}

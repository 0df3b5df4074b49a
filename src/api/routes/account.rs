//! One's own account: sign in and out, name, language, password, devices.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::extract::{AnyUser, Authed, ClientAddress, IfMatch, Json, Place};
use crate::api::page::List;
use crate::api::{ApiError, App, Problem, expect_reply};
use crate::auth::rate_limit::LoginDecision;
use crate::auth::tokens::{TokenKind, new_token, token_hash};
use crate::core::chat::{Reply, forms};
use crate::core::command::{Actor, Command, CreateSession, RevokeSession, SetPassword, UpdateUser};
use crate::core::event::{Session, Settings, User};
use crate::core::ids::{SessionId, UserId};
use crate::core::keys::{Key, name_hash};
use crate::core::rows;
use crate::core::view::{Direction, ViewExt};
use crate::node::now_ms;
use crate::ops::metrics;

/// Somebody just signed in.
#[derive(Serialize, ToSchema)]
pub(super) struct SignedIn {
    /// The bearer token; the server keeps only its hash.
    pub(super) token: String,
    /// The new session.
    pub(super) session: Session,
    /// Who signed in.
    pub(super) user: User,
}

/// Makes a session for a user whose right to it has been proven.
pub(super) async fn sign_in(app: &App, who: (UserId, IpAddr), device: &str) -> Result<SignedIn, ApiError> {
    let (user, address) = who;
    let token = new_token(TokenKind::Session).map_err(ApiError::internal)?;
    let command = Command::CreateSession(CreateSession {
        user: user.0,
        token_hash: token_hash(&token).to_vec().into(),
        device: forms::device(device),
    });
    let actor = Actor { user: user.0, session: 0, address: address.to_string() };
    let session = expect_reply!(app.act(actor, command).await?, Reply::Session(session) => session)?;
    let row = app.node.projection().row::<rows::User>(Key::User(user))?.ok_or_else(ApiError::not_found)?;
    Ok(SignedIn { token, session, user: User::from(&*row) })
}

/// A sign-in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// The sign-in name.
    username: String,
    /// The password.
    password: String,
    /// What the device calls itself.
    device: Option<String>,
}

/// Signs in. Wrong names and wrong passwords give the same answer after the same work.
#[utoipa::path(post, path = "/login", tag = "account", request_body = Login,
    responses((status = 200, body = SignedIn), (status = "4XX", body = Problem)))]
pub(super) async fn login(
    State(app): State<App>,
    ClientAddress(address): ClientAddress,
    Json(body): Json<Login>,
) -> Result<axum::Json<SignedIn>, ApiError> {
    let failed = || ApiError::new(StatusCode::UNAUTHORIZED, "login_failed", "Name or password is wrong.");
    if body.password.len() > crate::limits::PASSWORD_BYTES_MAX {
        return Err(failed());
    }
    let name = body.username.trim().to_lowercase();
    if let LoginDecision::Limited { retry_after_seconds } = app.limiter.attempt(&name, address, now_ms()) {
        metrics::login_failure("rate_limited");
        let title = "Too many tries. Wait a little.";
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", title);
        return Err(error.with_retry(retry_after_seconds));
    }
    let user = find(&app, &name)?;
    let hash = user.as_ref().map(|user| user.password_hash.clone()).filter(|hash| !hash.is_empty());
    let verdict = app.passwords.verify(body.password, hash).await;
    let verdict = verdict.inspect_err(|_| app.limiter.abandoned(&name, address, now_ms()))?;
    let Some(user) = user.filter(|_| verdict.correct) else {
        metrics::login_failure("bad_credentials");
        return Err(failed());
    };
    app.limiter.succeeded(&name, address, now_ms());
    let device = body.device.unwrap_or_default();
    sign_in(&app, (UserId(user.id), address), &device).await.map(axum::Json)
}

fn find(app: &App, name: &str) -> Result<Option<std::sync::Arc<rows::User>>, ApiError> {
    let view = app.node.projection();
    let Some(found) = view.row::<rows::Reference>(Key::Username(name_hash(name)))? else { return Ok(None) };
    Ok(view.row::<rows::User>(Key::User(UserId(found.id)))?)
}

/// Signs this device out.
#[utoipa::path(post, path = "/logout", tag = "account", security(("bearer" = [])),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn logout(State(app): State<App>, user: AnyUser) -> Result<StatusCode, ApiError> {
    app.act(user.actor(), Command::RevokeSession(RevokeSession::new(user.id(), user.session()))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Oneself.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    /// The user.
    user: User,
    /// The session that asks.
    session: Session,
    /// The organisation's settings.
    settings: Settings,
    /// The log position that this answer is at least at.
    pos: String,
}

/// Oneself, the session and the settings.
#[utoipa::path(get, path = "/me", tag = "account", security(("bearer" = [])),
    responses((status = 200, body = Me), (status = "4XX", body = Problem)))]
pub(super) async fn me(State(app): State<App>, user: AnyUser) -> Result<axum::Json<Me>, ApiError> {
    let pos = app.hub.pos().to_string();
    let settings = app.node.projection().row::<rows::Settings>(Key::Settings)?.unwrap_or_default();
    Ok(axum::Json(Me {
        user: User::from(&*user.identity.user),
        session: Session::of(&user.identity.session, user.session()),
        settings: Settings::from(&*settings),
        pos,
    }))
}

/// What one may change of oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MeUpdate {
    /// The name others see.
    display_name: Option<String>,
    /// `en`, `zh-CN` or empty for the organisation's.
    locale: Option<String>,
}

/// Changes one's own name or language.
#[utoipa::path(patch, path = "/me", tag = "account", request_body = MeUpdate, security(("bearer" = [])),
    params(("If-Match" = String, Header, description = "The version in quotes")),
    responses((status = 200, body = User), (status = "4XX", body = Problem)))]
pub(super) async fn update_me(
    State(app): State<App>,
    user: Authed,
    IfMatch(version): IfMatch,
    Json(body): Json<MeUpdate>,
) -> Result<axum::Json<User>, ApiError> {
    let command = Command::UpdateUser(UpdateUser {
        user: user.id().0,
        version,
        display_name: body.display_name.map(|name| forms::display_name(&name)).transpose()?,
        role: None,
        locale: body.locale.map(|locale| forms::locale(&locale)).transpose()?,
        disabled: None,
    });
    expect_reply!(app.act(user.actor(), command).await?, Reply::User(user) => axum::Json(user))
}

/// A change of one's own password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordChange {
    /// The password as it is.
    current_password: String,
    /// The password as it shall be.
    new_password: String,
}

/// Changes one's own password; all other devices are signed out.
#[utoipa::path(post, path = "/me/password", tag = "account", request_body = PasswordChange,
    security(("bearer" = [])), responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn change_password(
    State(app): State<App>,
    user: AnyUser,
    Json(body): Json<PasswordChange>,
) -> Result<StatusCode, ApiError> {
    let row = &user.identity.user;
    app.password_policy.check(&row.username, &body.new_password)?;
    if let LoginDecision::Limited { retry_after_seconds } = app.limiter.attempt(&row.username, user.address, now_ms()) {
        let title = "Too many tries. Wait a little.";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", title).with_retry(retry_after_seconds));
    }
    let verdict = app.passwords.verify(body.current_password, Some(row.password_hash.clone())).await;
    // Not judged: the try is given back, as at a sign-in.
    let verdict = verdict.inspect_err(|_| app.limiter.abandoned(&row.username, user.address, now_ms()))?;
    if !verdict.correct {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "login_failed", "The password is wrong.")
            .with_field("current_password"));
    }
    app.limiter.succeeded(&row.username, user.address, now_ms());
    let command = Command::SetPassword(SetPassword {
        user: row.id,
        password_hash: app.passwords.hash(body.new_password).await?,
        keep_session: user.session().0,
        must_change: false,
    });
    app.act(user.actor(), command).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A user's sessions as rows, the oldest first.
pub(super) fn sessions_of(app: &App, user: UserId, current: SessionId) -> Result<List<Session>, ApiError> {
    let view = app.node.projection();
    let range = Key::UserSession(user, SessionId(0))..=Key::UserSession(user, SessionId(u64::MAX));
    let mut items = Vec::new();
    for (_, reference) in view.rows::<rows::Reference>(range, Direction::Up, usize::MAX)? {
        if let Some(row) = view.row::<rows::Session>(Key::Session(SessionId(reference.id)))? {
            items.push(Session::of(&row, current));
        }
    }
    Ok(List { items })
}

/// One's own devices.
#[utoipa::path(get, path = "/me/sessions", tag = "account", security(("bearer" = [])),
    responses((status = 200, body = List<Session>), (status = "4XX", body = Problem)))]
pub(super) async fn sessions(State(app): State<App>, user: Authed) -> Result<axum::Json<List<Session>>, ApiError> {
    sessions_of(&app, user.id(), user.session()).map(axum::Json)
}

/// Signs one of one's own devices out.
#[utoipa::path(delete, path = "/me/sessions/{session_id}", tag = "account", security(("bearer" = [])),
    params(("session_id" = String, Path)), responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn revoke_session(
    State(app): State<App>,
    user: Authed,
    Place(session): Place<SessionId>,
) -> Result<StatusCode, ApiError> {
    app.act(user.actor(), Command::RevokeSession(RevokeSession::new(user.id(), session))).await?;
    Ok(StatusCode::NO_CONTENT)
}

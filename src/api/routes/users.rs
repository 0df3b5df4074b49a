//! People: listed for all who may see them, managed by admins.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::account::sessions_of;
use super::server::shares_channel;
use crate::api::extract::{Admin, Authed, IfMatch, Json, Params, Place};
use crate::api::page::{self, Collector, List, Page};
use crate::api::{ApiError, App, Problem, expect_reply};
use crate::core::chat::{Reply, forms};
use crate::core::command::{Command, NewUser, RevokeSession, SetPassword, UpdateUser};
use crate::core::event::{Session, User};
use crate::core::ids::{SessionId, UserId};
use crate::core::keys::Key;
use crate::core::rows::{self, Role};
use crate::core::view::{Direction, ViewExt};
use crate::limits;

/// Which people.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UserParams {
    /// Part of a sign-in name or a display name.
    query: Option<String>,
    /// How many, 1 to 200; 50 if absent.
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// People, by id. Guests see only those they share a channel with.
#[utoipa::path(get, path = "/users", tag = "users", params(UserParams), security(("bearer" = [])),
    responses((status = 200, body = Page<User>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    asking: Authed,
    Params(params): Params<UserParams>,
) -> Result<axum::Json<Page<User>>, ApiError> {
    let needle = params.query.unwrap_or_default().trim().to_lowercase();
    let guest = asking.role() == Role::Guest;
    let mut after = page::cursor(params.cursor.as_deref())?;
    let mut collector = Collector::new(page::limit(params.limit)?);
    loop {
        let range = Key::User(UserId(after.saturating_add(1)))..=Key::User(UserId(u64::MAX));
        let rows = app.node.projection().rows::<rows::User>(range, Direction::Up, limits::PAGE_CHUNK_ROWS)?;
        let whole = rows.len() == limits::PAGE_CHUNK_ROWS;
        for (_, row) in rows {
            after = row.id;
            let named = row.username.contains(&needle) || row.display_name.to_lowercase().contains(&needle);
            let visible = named && (!guest || shares_channel(&app, asking.id(), UserId(row.id))?);
            if !collector.offer(visible.then(|| User::from(&*row))) {
                return Ok(axum::Json(collector.page(Some(after))));
            }
        }
        if !whole {
            return Ok(axum::Json(collector.page(None)));
        }
    }
}

/// One person.
#[utoipa::path(get, path = "/users/{user_id}", tag = "users", params(("user_id" = String, Path)),
    security(("bearer" = [])), responses((status = 200, body = User), (status = "4XX", body = Problem)))]
pub(super) async fn one(
    State(app): State<App>,
    asking: Authed,
    Place(id): Place<UserId>,
) -> Result<axum::Json<User>, ApiError> {
    let hidden = asking.role() == Role::Guest && !shares_channel(&app, asking.id(), id)?;
    let row = app.node.projection().row::<rows::User>(Key::User(id))?.filter(|_| !hidden);
    row.map(|row| axum::Json(User::from(&*row))).ok_or_else(no_user)
}

fn no_user() -> ApiError {
    crate::core::refusal::Refusal::from(crate::core::refusal::RefusalCode::UserNotFound).into()
}

/// A user to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserCreate {
    /// The sign-in name.
    pub(super) username: String,
    /// The name others see.
    pub(super) display_name: String,
    /// What the user may do.
    pub(super) role: Role,
    /// The first password; the user must change it.
    pub(super) password: String,
    /// `en`, `zh-CN` or empty for the organisation's.
    pub(super) locale: Option<String>,
}

/// Makes a user with a first password.
#[utoipa::path(post, path = "/users", tag = "users", request_body = UserCreate, security(("bearer" = [])),
    responses((status = 201, body = User), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    State(app): State<App>,
    admin: Admin,
    Json(body): Json<UserCreate>,
) -> Result<(StatusCode, axum::Json<User>), ApiError> {
    let user = create_as(&app, admin.actor(), body).await?;
    Ok((StatusCode::CREATED, axum::Json(user)))
}

/// Makes a user on behalf of an admin or of the operator.
pub(super) async fn create_as(
    app: &App,
    actor: crate::core::command::Actor,
    body: UserCreate,
) -> Result<User, ApiError> {
    let username = forms::username(&body.username)?;
    let display_name = forms::display_name(&body.display_name)?;
    let locale = forms::locale(&body.locale.unwrap_or_default())?;
    app.password_policy.check(&username, &body.password)?;
    let command = Command::CreateUser(NewUser {
        username,
        display_name,
        role: body.role.into(),
        password_hash: app.passwords.hash(body.password).await?,
        locale,
        must_change_password: true,
    });
    expect_reply!(app.act(actor, command).await?, Reply::User(user) => user)
}

/// What an admin may change of a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserUpdate {
    /// The name others see.
    display_name: Option<String>,
    /// What the user may do.
    role: Option<Role>,
    /// `en`, `zh-CN` or empty for the organisation's.
    pub(super) locale: Option<String>,
    /// May not sign in; all devices are signed out.
    disabled: Option<bool>,
}

/// Changes a user.
#[utoipa::path(patch, path = "/users/{user_id}", tag = "users", request_body = UserUpdate,
    params(("user_id" = String, Path), ("If-Match" = String, Header, description = "The version in quotes")),
    security(("bearer" = [])), responses((status = 200, body = User), (status = "4XX", body = Problem)))]
#[expect(clippy::too_many_arguments, reason = "each is an extractor, and the framework asks for them so")]
pub(super) async fn update(
    State(app): State<App>,
    admin: Admin,
    Place(id): Place<UserId>,
    IfMatch(version): IfMatch,
    Json(body): Json<UserUpdate>,
) -> Result<axum::Json<User>, ApiError> {
    let command = Command::UpdateUser(UpdateUser {
        user: id.0,
        version,
        display_name: body.display_name.map(|name| forms::display_name(&name)).transpose()?,
        role: body.role.map(Into::into),
        locale: body.locale.map(|locale| forms::locale(&locale)).transpose()?,
        disabled: body.disabled,
    });
    expect_reply!(app.act(admin.actor(), command).await?, Reply::User(user) => axum::Json(user))
}

/// A password chosen by an admin.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordBody {
    /// The password; the user must change it.
    pub(super) password: String,
}

/// Sets a user's password; all its devices are signed out and it must choose another.
#[utoipa::path(post, path = "/users/{user_id}/password", tag = "users", request_body = PasswordBody,
    params(("user_id" = String, Path)), security(("bearer" = [])),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn set_password(
    State(app): State<App>,
    admin: Admin,
    Place(id): Place<UserId>,
    Json(body): Json<PasswordBody>,
) -> Result<StatusCode, ApiError> {
    set_password_as(&app, admin.actor(), (id, body.password)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets a password on behalf of an admin or of the operator.
pub(super) async fn set_password_as(
    app: &App,
    actor: crate::core::command::Actor,
    target: (UserId, String),
) -> Result<(), ApiError> {
    let (id, password) = target;
    let row = app.node.projection().row::<rows::User>(Key::User(id))?.ok_or_else(no_user)?;
    app.password_policy.check(&row.username, &password)?;
    let command = Command::SetPassword(SetPassword {
        user: id.0,
        password_hash: app.passwords.hash(password).await?,
        keep_session: 0,
        must_change: true,
    });
    app.act(actor, command).await.map(|_| ())
}

/// A user's devices.
#[utoipa::path(get, path = "/users/{user_id}/sessions", tag = "users", params(("user_id" = String, Path)),
    security(("bearer" = [])), responses((status = 200, body = List<Session>), (status = "4XX", body = Problem)))]
pub(super) async fn sessions(
    State(app): State<App>,
    admin: Admin,
    Place(id): Place<UserId>,
) -> Result<axum::Json<List<Session>>, ApiError> {
    app.node.projection().row::<rows::User>(Key::User(id))?.ok_or_else(no_user)?;
    sessions_of(&app, id, admin.session()).map(axum::Json)
}

/// Signs a user's device out.
#[utoipa::path(delete, path = "/users/{user_id}/sessions/{session_id}", tag = "users",
    params(("user_id" = String, Path), ("session_id" = String, Path)), security(("bearer" = [])),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn revoke_session(
    State(app): State<App>,
    admin: Admin,
    Place((user, session)): Place<(UserId, SessionId)>,
) -> Result<StatusCode, ApiError> {
    app.act(admin.actor(), Command::RevokeSession(RevokeSession::new(user, session))).await?;
    Ok(StatusCode::NO_CONTENT)
}

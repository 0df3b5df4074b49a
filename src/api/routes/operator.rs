//! What the operator at the machine may do through the admin socket: whoever can open it owns the data directory, so it
//! asks for no password. Everything done here is in the audit trail, with `local` as the address.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::Deserialize;

use super::admin::{NodeStatus, node_status};
use super::users::{PasswordBody, UserCreate, create_as, set_password_as};
use crate::api::extract::{Json, Params, Place};
use crate::api::page::List;
use crate::api::{ApiError, App, expect_reply};
use crate::core::chat::{Reply, forms};
use crate::core::command::{Actor, Command, UpdateUser};
use crate::core::event::User;
use crate::core::ids::UserId;
use crate::core::keys::{Key, name_hash};
use crate::core::rows;
use crate::core::view::{Direction, ViewExt};

/// The routes of the admin socket.
pub(in crate::api) fn operator() -> Router<App> {
    Router::new()
        .route("/status", get(status))
        .route("/users", get(list).post(create))
        .route("/users/{username}/password", post(set_password))
        .route("/users/{username}/disabled", post(set_disabled))
}

async fn status(State(app): State<App>) -> Result<axum::Json<NodeStatus>, ApiError> {
    node_status(&app).map(axum::Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {}

/// All users: the operator's list is meant for scripts, so it has no pages.
async fn list(
    State(app): State<App>,
    Params(ListParams {}): Params<ListParams>,
) -> Result<axum::Json<List<User>>, ApiError> {
    let range = Key::User(UserId(0))..=Key::User(UserId(u64::MAX));
    let rows = app.node.projection().rows::<rows::User>(range, Direction::Up, usize::MAX)?;
    Ok(axum::Json(List { items: rows.iter().map(|(_, row)| User::from(&**row)).collect() }))
}

async fn create(
    State(app): State<App>,
    Json(body): Json<UserCreate>,
) -> Result<(StatusCode, axum::Json<User>), ApiError> {
    let user = create_as(&app, Actor::operator(), body).await?;
    Ok((StatusCode::CREATED, axum::Json(user)))
}

/// A user by sign-in name.
fn named(app: &App, username: &str) -> Result<std::sync::Arc<rows::User>, ApiError> {
    let missing = || super::channels::refused(crate::core::refusal::RefusalCode::UserNotFound);
    let view = app.node.projection();
    let name = forms::username(username).map_err(|_| missing())?;
    let found = view.row::<rows::Reference>(Key::Username(name_hash(&name)))?.ok_or_else(missing)?;
    view.row::<rows::User>(Key::User(UserId(found.id)))?.ok_or_else(missing)
}

async fn set_password(
    State(app): State<App>,
    Place(username): Place<String>,
    Json(body): Json<PasswordBody>,
) -> Result<StatusCode, ApiError> {
    let user = named(&app, &username)?;
    set_password_as(&app, Actor::operator(), (UserId(user.id), body.password)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disabled {
    disabled: bool,
}

async fn set_disabled(
    State(app): State<App>,
    Place(username): Place<String>,
    Json(body): Json<Disabled>,
) -> Result<axum::Json<User>, ApiError> {
    let user = named(&app, &username)?;
    let command = Command::UpdateUser(UpdateUser {
        user: user.id,
        version: user.version,
        disabled: Some(body.disabled),
        ..UpdateUser::default()
    });
    expect_reply!(app.act(Actor::operator(), command).await?, Reply::User(user) => axum::Json(user))
}

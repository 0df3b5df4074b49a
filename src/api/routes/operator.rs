//! What the operator at the machine may do through the admin socket: whoever can open it owns the data directory, so it
//! asks for no password. Everything done here is in the audit trail, with `local` as the address.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::admin::{NodeStatus, node_status};
use super::users::{UserCreate, create_as, set_password_as};
use crate::api::extract::{Json, Place};
use crate::api::{ApiError, App, expect_reply};
use crate::core::chat::{Reply, forms};
use crate::core::command::{Actor, Command, UpdateUser};
use crate::core::event::User;
use crate::core::ids::UserId;
use crate::core::keys::{Key, name_hash};
use crate::core::rows::{self, Role};
use crate::core::view::{Direction, ViewExt};

/// The routes of the admin socket.
pub(in crate::api) fn operator() -> Router<App> {
    Router::new()
        .route("/admin/v1/status", get(status))
        .route("/admin/v1/users", get(list).post(create))
        .route("/admin/v1/users/{name}/password", post(set_password))
        .route("/admin/v1/users/{name}/disable", post(disable))
        .route("/admin/v1/users/{name}/enable", post(enable))
        .merge(super::pair::operator())
        .merge(super::backups_local::operator())
        .merge(super::restores::operator())
}

async fn status(State(app): State<App>) -> Result<axum::Json<NodeStatus>, ApiError> {
    node_status(&app).await.map(axum::Json)
}

#[derive(Serialize)]
struct Users {
    users: Vec<Account>,
}

/// A user as the command line lists it.
#[derive(Serialize)]
struct Account {
    name: String,
    #[serde(flatten)]
    user: User,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { name: user.username.clone(), user }
    }
}

/// All users: the operator's list is meant for scripts, so it has no pages.
async fn list(State(app): State<App>) -> Result<axum::Json<Users>, ApiError> {
    let range = Key::User(UserId(0))..=Key::User(UserId(u64::MAX));
    let rows = app.node.projection().rows::<rows::User>(range, Direction::Up, usize::MAX)?;
    Ok(axum::Json(Users { users: rows.iter().map(|(_, row)| User::from(&**row).into()).collect() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    name: String,
    role: Role,
    display_name: Option<String>,
    /// Made here when absent, and told once.
    password: Option<String>,
}

/// An account with the password that was made for it, if one was.
#[derive(Serialize)]
struct AccountMade {
    #[serde(flatten)]
    account: Account,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

/// A first password that can be read out over a telephone: 100 random bits in groups of five characters.
fn made_up() -> Result<String, ApiError> {
    let mut random = [0; 15];
    getrandom::fill(&mut random).map_err(ApiError::internal)?;
    let text = data_encoding::BASE32_DNSSEC.encode(&random);
    let groups: Vec<&str> = (0..4).filter_map(|group| text.get(group * 5..group * 5 + 5)).collect();
    Ok(groups.join("-"))
}

async fn create(
    State(app): State<App>,
    Json(body): Json<NewAccount>,
) -> Result<(StatusCode, axum::Json<AccountMade>), ApiError> {
    let made = if body.password.is_none() { Some(made_up()?) } else { None };
    let password = body.password.or_else(|| made.clone()).unwrap_or_default();
    let new = UserCreate {
        display_name: body.display_name.unwrap_or_else(|| body.name.clone()),
        username: body.name,
        role: body.role,
        password,
        locale: None,
    };
    let user = create_as(&app, Actor::operator(), new).await?;
    Ok((StatusCode::CREATED, axum::Json(AccountMade { account: user.into(), password: made })))
}

/// A user by sign-in name.
fn named(app: &App, name: &str) -> Result<std::sync::Arc<rows::User>, ApiError> {
    let missing = || super::channels::refused(crate::core::refusal::RefusalCode::UserNotFound);
    let view = app.node.projection();
    let name = forms::username(name).map_err(|_| missing())?;
    let found = view.row::<rows::Reference>(Key::Username(name_hash(&name)))?.ok_or_else(missing)?;
    view.row::<rows::User>(Key::User(UserId(found.id)))?.ok_or_else(missing)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    /// Made here when absent, and told once.
    password: Option<String>,
}

async fn set_password(
    State(app): State<App>,
    Place(name): Place<String>,
    Json(body): Json<NewPassword>,
) -> Result<axum::Json<AccountMade>, ApiError> {
    let user = named(&app, &name)?;
    let made = if body.password.is_none() { Some(made_up()?) } else { None };
    let password = body.password.or_else(|| made.clone()).unwrap_or_default();
    set_password_as(&app, Actor::operator(), (UserId(user.id), password)).await?;
    Ok(axum::Json(AccountMade { account: User::from(&*user).into(), password: made }))
}

async fn disable(State(app): State<App>, Place(name): Place<String>) -> Result<axum::Json<Account>, ApiError> {
    set_disabled(&app, &name, true).await
}

async fn enable(State(app): State<App>, Place(name): Place<String>) -> Result<axum::Json<Account>, ApiError> {
    set_disabled(&app, &name, false).await
}

async fn set_disabled(app: &App, name: &str, disabled: bool) -> Result<axum::Json<Account>, ApiError> {
    let user = named(app, name)?;
    let command = Command::UpdateUser(UpdateUser {
        user: user.id,
        version: user.version,
        disabled: Some(disabled),
        ..UpdateUser::default()
    });
    expect_reply!(app.act(Actor::operator(), command).await?, Reply::User(user) => axum::Json(user.into()))
}

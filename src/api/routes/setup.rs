//! First run: the one-time link makes the organisation and its owner.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::account::{SignedIn, sign_in};
use crate::api::extract::{ClientAddress, Json};
use crate::api::{ApiError, App, Problem, expect_reply};
use crate::core::chat::{Reply, forms};
use crate::core::command::{Actor, Command, NewUser, SetUp};
use crate::core::rows::Role;

/// A set-up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetUpBody {
    /// The token of the printed link.
    token: String,
    /// The organisation's name.
    organisation: String,
    /// An IANA time zone.
    time_zone: String,
    /// `en` or `zh-CN`: the organisation's language and the owner's.
    locale: String,
    /// The owner's sign-in name.
    username: String,
    /// The name others see.
    display_name: String,
    /// The owner's password.
    password: String,
}

/// A set-up token to be checked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenBody {
    /// The token of the printed link.
    pub(super) token: String,
}

/// Names the organisation, makes its owner and signs the owner in. Happens once.
#[utoipa::path(post, path = "/setup", tag = "setup", request_body = SetUpBody,
    responses((status = 201, body = SignedIn), (status = "4XX", body = Problem)))]
pub(super) async fn set_up(
    State(app): State<App>,
    ClientAddress(address): ClientAddress,
    Json(body): Json<SetUpBody>,
) -> Result<(StatusCode, axum::Json<SignedIn>), ApiError> {
    app.setup.check(&body.token)?;
    if app.first_run.is_busy() {
        return Err(super::setup_restore::running());
    }
    let username = forms::username(&body.username)?;
    app.password_policy.check(&username, &body.password)?;
    let owner = NewUser {
        username,
        display_name: forms::display_name(&body.display_name)?,
        role: Role::Owner.into(),
        password_hash: String::new(),
        locale: forms::locale(&body.locale)?,
        must_change_password: false,
    };
    let (organisation, time_zone) = (forms::organisation(&body.organisation)?, forms::time_zone(&body.time_zone)?);
    let default_locale = if owner.locale.is_empty() { "en".to_owned() } else { owner.locale.clone() };
    let owner = NewUser { password_hash: app.passwords.hash(body.password).await?, ..owner };
    let command = Command::SetUp(SetUp { organisation, default_locale, time_zone, owner: Some(owner) });
    let actor = Actor { user: 0, session: 0, address: address.to_string() };
    let user = expect_reply!(app.act(actor, command).await?, Reply::User(user) => user)?;
    // Committed: should this fail, the next start removes the link.
    app.setup.consume()?;
    let signed_in = sign_in(&app, (user.id, address), "").await?;
    Ok((StatusCode::CREATED, axum::Json(signed_in)))
}

/// Whether a set-up token is the right one. Wrong ones are counted.
#[utoipa::path(post, path = "/setup/check", tag = "setup", request_body = TokenBody,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn check(State(app): State<App>, Json(body): Json<TokenBody>) -> Result<StatusCode, ApiError> {
    app.setup.check(&body.token)?;
    Ok(StatusCode::NO_CONTENT)
}

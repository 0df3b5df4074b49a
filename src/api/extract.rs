//! Extractors: strict JSON, strict queries, the signed-in user, `If-Match`. Each refuses with its own stable code.

use std::net::IpAddr;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::{ApiError, App};
use crate::auth::{Identity, authenticate};
use crate::core::command::Actor;
use crate::core::ids::{SessionId, UserId};
use crate::core::rows::Role;
use crate::limits;
use crate::node::now_ms;

/// A JSON body. Unknown fields are refused by the shapes themselves.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _app: &App) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body must be application/json.",
            ));
        }
        let body = axum::body::to_bytes(request.into_body(), limits::HTTP_BODY_BYTES_MAX).await;
        let bytes = body.map_err(|cause| body_error(&cause))?;
        serde_json::from_slice(&bytes).map(Json).map_err(|e| ApiError::invalid_body(e.to_string()))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Too large, or the client went away in the middle.
fn body_error(cause: &axum::Error) -> ApiError {
    let mut source: Option<&dyn std::error::Error> = Some(cause);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            let detail = format!("at most {} bytes", limits::HTTP_BODY_BYTES_MAX);
            let title = "The body is too large.";
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", title).with_detail(detail);
        }
        source = error.source();
    }
    ApiError::invalid_body("the body ended early".to_owned())
}

/// A query string. Unknown parameters are refused by the shapes themselves.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, app).await;
        query.map(|Query(params)| Params(params)).map_err(|e| ApiError::invalid_query(e.body_text()))
    }
}

/// The variable parts of the path.
pub(super) struct Place<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Place<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        // An id that is no number names nothing.
        Path::<T>::from_request_parts(parts, app)
            .await
            .map(|Path(place)| Place(place))
            .map_err(|_| ApiError::not_found())
    }
}

/// Where the request came from; set by the listener.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

impl FromRequestParts<App> for ClientAddress {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, ApiError> {
        let known = parts.extensions.get::<Self>().copied();
        known.ok_or_else(|| ApiError::internal("the listener did not name the client's address"))
    }
}

/// The bearer token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A signed-in user, also one who must still choose a password.
pub(super) struct AnyUser {
    pub(super) identity: Identity,
    pub(super) address: IpAddr,
}

impl FromRequestParts<App> for AnyUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let ClientAddress(address) = ClientAddress::from_request_parts(parts, app).await?;
        let token = bearer(&parts.headers).ok_or_else(ApiError::unauthenticated)?;
        let identity = authenticate(app.node.projection(), token, now_ms())?;
        Ok(Self { identity, address })
    }
}

impl AnyUser {
    pub(super) fn id(&self) -> UserId {
        UserId(self.identity.user.id)
    }

    pub(super) fn session(&self) -> SessionId {
        SessionId(self.identity.session.id)
    }

    pub(super) fn role(&self) -> Role {
        self.identity.user.role()
    }

    /// Who acts, with session and address, for what goes into the audit trail.
    pub(super) fn actor(&self) -> Actor {
        let (user, session) = (self.identity.user.id, self.identity.session.id);
        Actor { user, session, address: self.address.to_string() }
    }
}

/// A signed-in user who may work.
pub(super) struct Authed(pub(super) AnyUser);

impl FromRequestParts<App> for Authed {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let user = AnyUser::from_request_parts(parts, app).await?;
        if user.identity.user.must_change_password {
            return Err(ApiError::password_change_required());
        }
        Ok(Self(user))
    }
}

impl std::ops::Deref for Authed {
    type Target = AnyUser;
    fn deref(&self) -> &AnyUser {
        &self.0
    }
}

/// An admin or an owner.
pub(super) struct Admin(pub(super) AnyUser);

impl FromRequestParts<App> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Authed(user) = Authed::from_request_parts(parts, app).await?;
        if user.role() < Role::Admin { Err(ApiError::forbidden()) } else { Ok(Self(user)) }
    }
}

impl std::ops::Deref for Admin {
    type Target = AnyUser;
    fn deref(&self) -> &AnyUser {
        &self.0
    }
}

/// The version that an edit is based on.
pub(super) struct IfMatch(pub(super) u64);

impl FromRequestParts<App> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            let title = "Name the version you are changing in If-Match.";
            return Err(ApiError::new(StatusCode::PRECONDITION_REQUIRED, "precondition_required", title));
        };
        let number = value.to_str().ok().and_then(|text| text.trim().trim_matches('"').parse().ok());
        let title = "If-Match must be a version number in quotes.";
        number.map(IfMatch).ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "invalid_header", title))
    }
}

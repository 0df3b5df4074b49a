//! Errors at the edge: RFC 9457 problem+json with a stable code, the request id and, where an operator can do
//! something, a hint. The cause stays in the log.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::AuthError;
use crate::auth::passwords::{PasswordError, PasswordRefusal};
use crate::auth::setup_link::SetupError;
use crate::core::chat::forms::FormError;
use crate::core::refusal::{Current, Refusal, RuleError};
use crate::core::view::ViewError;
use crate::node::ProposeError;
use crate::replication::Face;

/// A problem as clients see it (`application/problem+json`).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the code says which problem it is.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    kind: &'static str,
    /// One short English sentence; clients translate the code instead.
    title: Cow<'static, str>,
    /// The HTTP status.
    status: u16,
    /// The stable code.
    code: Cow<'static, str>,
    /// What was wrong this time.
    detail: String,
    /// The request, as the server's log names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// The field that is at fault, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    /// What an operator can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    /// After how many seconds trying again makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
    /// With `not_active`: the address of the active node, as far as this one knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<String>,
    /// With `not_active`: the addresses of all data nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    /// With `stale_version`: the record as it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    current: Option<serde_json::Value>,
}

/// An error of the API. It is its own response; the request id is filled in on the way out.
#[derive(Clone, Debug)]
pub struct ApiError(Box<Problem>);

impl ApiError {
    /// A problem with a status, a code and a title.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self(Box::new(Problem {
            kind: "about:blank",
            title: title.into(),
            status: status.as_u16(),
            code: code.into(),
            detail: title.to_owned(),
            request_id: None,
            field: None,
            hint: None,
            retry_after_seconds: None,
            active: None,
            addresses: Vec::new(),
            current: None,
        }))
    }

    /// Says what was wrong this time.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = detail.into();
        self
    }

    /// Names the field at fault.
    #[must_use]
    pub const fn with_field(mut self, field: &'static str) -> Self {
        self.0.field = Some(field);
        self
    }

    /// Tells an operator what to do.
    #[must_use]
    pub const fn with_hint(mut self, hint: &'static str) -> Self {
        self.0.hint = Some(hint);
        self
    }

    /// Says when trying again makes sense.
    #[must_use]
    pub const fn with_retry(mut self, seconds: u64) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// Says where to go instead, when this node is not the active one.
    #[must_use]
    pub fn with_nodes(mut self, face: &Face) -> Self {
        if self.0.code == "not_active" {
            self.0.active = face.active().map(|active| active.to_string());
            self.0.addresses = face.nodes().to_vec();
        }
        self
    }

    /// Names the request, as the server's log does.
    #[must_use]
    pub fn with_request_id(mut self, id: String) -> Self {
        self.0.request_id = Some(id);
        self
    }

    /// A body that does not have the expected form.
    #[must_use]
    pub fn invalid_body(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_body", "The request does not have the expected form.")
            .with_detail(detail)
    }

    /// A query that does not have the expected form.
    #[must_use]
    pub fn invalid_query(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", "The query does not have the expected form.")
            .with_detail(detail)
    }

    /// No token, or none that is valid.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Sign in first.")
    }

    /// Not for this role.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "You may not do this.")
    }

    /// The password was set by somebody else.
    #[must_use]
    pub fn password_change_required() -> Self {
        Self::new(StatusCode::FORBIDDEN, "password_change_required", "Choose a password of your own first.")
    }

    /// No such thing.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here.")
    }

    /// Something is wrong with the server. The cause is in its log, under the request id.
    #[must_use]
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on the server.")
            .with_hint("look for the request id in the server's log")
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// What was wrong this time.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// When trying again makes sense, in seconds.
    #[must_use]
    pub const fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after_seconds
    }

    /// With `not_active`: the address of the active node, as far as this one knows.
    #[must_use]
    pub fn active(&self) -> Option<&str> {
        self.0.active.as_deref()
    }

    /// With `not_active`: the addresses of all data nodes.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.0.addresses
    }

    /// With `stale_version`: the record as it is now.
    #[must_use]
    pub const fn current(&self) -> Option<&serde_json::Value> {
        self.0.current.as_ref()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&*self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::CONFLICT);
        let mut error = Self::new(status, refusal.code.as_str(), refusal.code.title());
        error.0.current = refusal.current.and_then(|current| {
            let json = match *current {
                Current::User(user) => serde_json::to_value(user),
                Current::Channel(channel) => serde_json::to_value(channel),
                Current::Message(message) => serde_json::to_value(message),
                Current::Settings(settings) => serde_json::to_value(settings),
                Current::Pair(pair) => serde_json::to_value(pair),
                Current::Conflict(conflict) => serde_json::to_value(conflict),
                Current::Backups(backups) => serde_json::to_value(backups),
            };
            json.ok()
        });
        error
    }
}

impl From<&ProposeError> for ApiError {
    fn from(error: &ProposeError) -> Self {
        let unavailable = |code, title| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, title);
        match error {
            ProposeError::Refused(refusal) => refusal.clone().into(),
            ProposeError::Busy => unavailable("busy", "The server has too much to do right now.").with_retry(1),
            ProposeError::NotActive => unavailable("not_active", "This node does not take writes.").with_retry(1),
            ProposeError::DiskFull => {
                unavailable("disk_full", "The server's disk is nearly full: nothing is accepted.")
                    .with_hint("free space on the data disk; the server goes on by itself")
                    .with_retry(30)
            }
            ProposeError::Stopping => unavailable("shutting_down", "The server is shutting down.").with_retry(2),
            ProposeError::State(cause) => Self::internal(cause),
        }
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        Self::from(&error)
    }
}

impl From<ViewError> for ApiError {
    fn from(error: ViewError) -> Self {
        Self::internal(error)
    }
}

impl From<RuleError> for ApiError {
    fn from(error: RuleError) -> Self {
        match error {
            RuleError::Refused(refusal) => refusal.into(),
            RuleError::View(error) => error.into(),
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unauthenticated => Self::unauthenticated(),
            AuthError::Expired => Self::new(StatusCode::UNAUTHORIZED, "session_expired", "Your session has expired."),
            AuthError::Disabled => Self::new(StatusCode::FORBIDDEN, "user_disabled", "This account is disabled."),
            AuthError::State(error) => error.into(),
        }
    }
}

impl From<FormError> for ApiError {
    fn from(error: FormError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.code, "This is not a valid value.")
            .with_detail(format!("expected {}", error.expected))
            .with_field(error.code.strip_prefix("invalid_").unwrap_or(error.code))
    }
}

impl From<PasswordRefusal> for ApiError {
    fn from(refusal: PasswordRefusal) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, refusal.code(), "Choose another password.")
            .with_detail(refusal.to_string())
            .with_field("password")
    }
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy { retry_after_seconds } => {
                Self::from(&ProposeError::Busy).with_retry(retry_after_seconds)
            }
            PasswordError::Internal(cause) => Self::internal(cause),
        }
    }
}

impl From<SetupError> for ApiError {
    fn from(error: SetupError) -> Self {
        let hint = "`holdfast init --link` on the server prints the link";
        match error {
            SetupError::AlreadyDone => {
                crate::core::refusal::Refusal::from(crate::core::refusal::RefusalCode::AlreadySetUp).into()
            }
            SetupError::Wrong { .. } => {
                Self::new(StatusCode::FORBIDDEN, "setup_token_invalid", "This set-up link is not valid.")
                    .with_detail(error.to_string())
                    .with_hint(hint)
            }
            SetupError::Locked => Self::new(StatusCode::LOCKED, "setup_locked", "The set-up is locked.")
                .with_detail(error.to_string())
                .with_hint(hint),
            other => Self::internal(other),
        }
    }
}

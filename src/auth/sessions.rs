//! Who sends this request: from a bearer token to a session and its user. Reads the applied state only.

use std::sync::Arc;

use super::tokens::{TokenKind, check_token_form, token_hash};
use crate::core::ids::{SessionId, UserId};
use crate::core::keys::Key;
use crate::core::rows;
use crate::core::view::{View, ViewError, ViewExt};

/// A signed-in user and the session.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user.
    pub user: Arc<rows::User>,
    /// The session.
    pub session: Arc<rows::Session>,
}

/// Why a token does not sign anybody in.
#[derive(Debug)]
pub enum AuthError {
    /// No such token: never valid, or its session was ended.
    Unauthenticated,
    /// The session is too old.
    Expired,
    /// The account is disabled.
    Disabled,
    /// The state cannot be read.
    State(ViewError),
}

impl From<ViewError> for AuthError {
    fn from(error: ViewError) -> Self {
        Self::State(error)
    }
}

/// Finds the session of a bearer token at `now_ms` (Unix milliseconds).
///
/// # Errors
/// [`AuthError`]; a token of the wrong form is `Unauthenticated` without a look at the state.
pub fn authenticate(view: &impl View, token: &str, now_ms: u64) -> Result<Identity, AuthError> {
    check_token_form(TokenKind::Session, token).map_err(|_| AuthError::Unauthenticated)?;
    let reference = view.row::<rows::Reference>(Key::SessionToken(token_hash(token)))?;
    let reference = reference.ok_or(AuthError::Unauthenticated)?;
    let session = view.row::<rows::Session>(Key::Session(SessionId(reference.id)))?;
    let session = session.ok_or(AuthError::Unauthenticated)?;
    if now_ms >= session.expires_ms {
        return Err(AuthError::Expired);
    }
    let user = view.row::<rows::User>(Key::User(UserId(session.user)))?.ok_or(AuthError::Unauthenticated)?;
    if user.disabled {
        return Err(AuthError::Disabled);
    }
    Ok(Identity { user, session })
}

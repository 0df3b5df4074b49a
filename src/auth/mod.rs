//! Passwords, tokens, sessions, the set-up link, login rate limits. Must never store or log a secret.

mod common_passwords;
pub mod passwords;
pub mod rate_limit;
mod sessions;
pub mod setup_link;
pub mod tokens;

pub use sessions::{AuthError, Identity, authenticate};

//! Passwords, tokens, the set-up link, login rate limits. Must never store or log a secret.

mod common_passwords;
pub mod passwords;
pub mod rate_limit;
pub mod setup_link;
pub mod tokens;

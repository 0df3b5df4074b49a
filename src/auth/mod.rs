//! Passwords, sessions, set-up link, login rate limits. Must never store or log a secret.

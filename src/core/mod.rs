//! The rules, as plain synchronous Rust: no tokio, no I/O, no clock, no randomness. Time and ids arrive as inputs, so
//! everything here can be replayed, simulated and model-checked.
//!
//! **Invariant:** imports nothing else of ours but the constants of `limits`.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

pub mod backups;
pub mod chat;
pub mod command;
pub mod entry;
pub mod event;
pub mod failover;
pub mod ids;
pub mod keys;
pub mod machine;
pub mod merge;
pub mod pair;
pub mod refusal;
pub mod rows;
pub mod view;

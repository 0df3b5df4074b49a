//! The rules, as plain synchronous Rust: no tokio, no I/O, no clock, no randomness. Time and ids arrive as inputs, so
//! everything here can be replayed, simulated and model-checked.
//!
//! **Invariant:** imports nothing else of ours.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

pub mod entry;
pub mod ids;
pub mod keys;
pub mod rows;
pub mod view;

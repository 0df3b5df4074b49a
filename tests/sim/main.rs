//! The pair on a simulated network and clock: seeded, replayable.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod links;
mod net;

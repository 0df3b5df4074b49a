//! The pair as people meet it: real processes on loopback, killed, stopped, woken, cut off from each other, while somebody
//! goes on sending. In the end everything acknowledged is there exactly once, and both nodes are equal.
//!
//! - `HOLDFAST_FAILOVER_ROUNDS=n`: how often the active node is killed in the long test (default 5).
//! - `HOLDFAST_PAUSE_SECONDS=n`: how long the active node is paused (default: somewhat longer than anything waits).

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests fail by panicking and say why"
)]

#[path = "../support/mod.rs"]
mod support;

mod backups;
mod certificates;
mod clients;
mod damage;
mod failover;
mod join;
mod members;
mod pause;
mod switchover;
mod witness;

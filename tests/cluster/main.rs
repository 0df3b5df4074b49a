//! The pair as people meet it: real processes on loopback, killed, stopped, woken, cut off from each other, while somebody
//! goes on sending. In the end everything acknowledged is there exactly once, and both nodes are equal.
//!
//! - `HOLDFAST_FAILOVER_ROUNDS=n`: how often the active node is killed in the long test (default 5).
//! - `HOLDFAST_LONG_PAUSE=1`: also pause the active node for 30 seconds.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests fail by panicking and say why"
)]

#[path = "../support/mod.rs"]
mod support;

mod failover;

//! Backup targets against real servers: one suite over all kinds, and what goes wrong with each.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests fail by panicking and say why"
)]

mod cycle;
mod faults;
mod probes;
mod servers;
mod suite;
#[path = "../support/mod.rs"]
mod support;

//! The pair on a network that fails: real processes in network namespaces, whose packets are lost in one direction or in
//! both; hooks that move a virtual address; disks that fill up.
//!
//! After each test what was acknowledged is there exactly once, and both nodes' logs and states are equal. Needs root; a
//! run that cannot make namespaces says so and tests nothing.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say why on stderr")]

#[path = "../support/mod.rs"]
mod support;

mod alone;
mod cuts;
mod deaf;
mod disk;
mod hooks;
mod lan;
mod load;
mod pair;
mod salvage;
mod slow;

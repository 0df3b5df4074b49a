//! The API and the WebSocket as their users meet them: every test runs the real server process.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say why on stderr")]

#[path = "../support/mod.rs"]
mod support;

mod contract;
mod openapi;
mod roles;
mod routes;
mod smoke;

//! The API and the WebSocket as their users meet them: every test runs the real server process.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say why on stderr")]

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod admin;
mod backups;
mod bench;
mod chat;
mod conflicts;
mod contract;
mod disk;
mod openapi;
mod roles;
mod routes;
mod rude;
mod smoke;
mod websocket;

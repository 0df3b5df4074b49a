//! Holdfast: private team chat that keeps running. The module map; `ARCHITECTURE.md` says how the parts meet.

pub mod api;
pub mod auth;
pub mod backup;
pub mod bench;
pub mod blobs;
pub mod cli;
pub mod config;
pub mod core;
pub mod limits;
pub mod node;
pub mod oplog;
pub mod ops;
pub mod projection;
pub mod realtime;
pub mod replication;
pub mod tls;
pub mod upkeep;
pub mod web;

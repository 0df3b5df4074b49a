//! Backups that are proven: a repository of plain parts on any number of targets, its manifests, and how a data directory
//! comes back from it. `DESIGN.md` has the format and the rules.
//!
//! Must never touch the data directory of a running node except to read it, never write into a restore's destination before
//! every part needed was checked, and never call a backup good that was not read back.

pub mod blob_list;
pub mod crypt;
pub mod drill;
mod error;
pub mod job;
pub mod manifest;
mod meter;
pub mod repository;
pub mod restore;
pub mod schedule;
pub mod service;
pub mod target;
#[cfg(test)]
mod tests;
mod workers;

pub use error::BackupError;
pub use meter::{Phase, Progress, Watch};

//! The applied state: typed rows in an overlay, checkpoints into sled, the memory twin, snapshots. All of it is
//! derived from the log and may be deleted at any time. Only this folder touches sled; nothing here appends to the log
//! or knows a rule. `DESIGN.md` beside this file says why it is built so.

mod cache;
mod checkpoint;
mod error;
mod handle;
pub mod memory_view;
mod meta;
mod open;
mod overlay;
mod redo;
mod scan;
mod sled_store;
pub mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod unit;

pub use checkpoint::{CheckpointHold, CheckpointReport};
pub use error::ProjectionError;
pub use handle::{Applied, Projection, Stats};
pub use open::{FatalHook, OpenOutcome, Opened, Options};

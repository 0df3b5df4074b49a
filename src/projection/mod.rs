//! The applied state: typed rows in an overlay, checkpoints into sled, the memory twin, snapshots. All of it is
//! derived from the log and may be deleted at any time. Only this folder touches sled.

pub mod memory_view;

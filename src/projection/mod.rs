//! The applied state: typed rows, overlay, checkpoints into sled, the memory twin, snapshots. Derived: it may be deleted at any time. Only this folder touches sled.

//! The layer of changes above the store: typed rows, in order, with what the state is after them. Plain data; the locks
//! are the handle's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::handle::Applied;
use crate::core::keys::Key;
use crate::core::rows::Value;
use crate::core::view::{StateHash, Write};

/// What one row costs in memory beyond its encoded bytes: key, slot, tree node, allocation, the struct itself.
const ROW_OVERHEAD_BYTES: usize = 250;

/// A changed row.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// `None`: removed.
    pub(crate) value: Option<Value>,
    /// The row's share of the state hash; zero when removed. Kept so that the next change need not encode this value.
    pub(crate) share: StateHash,
    bytes: usize,
}

impl Slot {
    /// Encodes the new value of a write, once.
    pub(crate) fn of(write: &Write) -> Self {
        match &write.after {
            None => Self { value: None, share: StateHash::default(), bytes: ROW_OVERHEAD_BYTES },
            Some(value) => {
                let encoded = value.encode();
                let share = share(&write.key, &encoded);
                Self { value: Some(value.clone()), share, bytes: ROW_OVERHEAD_BYTES + encoded.len() }
            }
        }
    }
}

/// What a row adds to the state hash.
pub(crate) fn share(key: &Key, encoded: &[u8]) -> StateHash {
    let mut share = StateHash::default();
    share.add(key, encoded);
    share
}

/// Changed rows and the position they lead to.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// The changes.
    pub(crate) rows: BTreeMap<Key, Slot>,
    /// An estimate of the memory they take.
    pub(crate) bytes: usize,
    /// The last entry in it.
    pub(crate) applied: Applied,
    /// The hash of the whole state with it.
    pub(crate) hash: StateHash,
}

impl Overlay {
    /// No changes yet, on a state at this position.
    pub(crate) fn on(applied: Applied, hash: StateHash) -> Self {
        Self { applied, hash, ..Self::default() }
    }

    /// Sets a row.
    pub(crate) fn insert(&mut self, key: Key, slot: Slot) {
        self.bytes += slot.bytes;
        if let Some(old) = self.rows.insert(key, slot) {
            self.bytes -= old.bytes;
        }
    }
}

/// What readers see above the store.
#[derive(Default)]
pub(crate) struct Layers {
    /// The changes since the last freeze.
    pub(crate) overlay: Overlay,
    /// The changes that a checkpoint is writing.
    pub(crate) frozen: Option<Arc<Overlay>>,
    /// How often an overlay was frozen: if it did not grow during a read, the read saw one state.
    pub(crate) freezes: u64,
}

impl Layers {
    /// The newest change of a row above the store.
    pub(crate) fn slot(&self, key: &Key) -> Option<&Slot> {
        self.overlay.rows.get(key).or_else(|| self.frozen.as_ref()?.rows.get(key))
    }
}

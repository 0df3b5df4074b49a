//! The layer of changes above the store: typed rows, in order, with what the state is after them. Plain data; the locks
//! are the handle's.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
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
    /// The new value of a write. `buffer` is working memory; it is encoded into that, once.
    pub(crate) fn of(write: &Write, buffer: &mut Vec<u8>) -> Self {
        match &write.after {
            None => Self { value: None, share: StateHash::default(), bytes: ROW_OVERHEAD_BYTES },
            Some(value) => {
                let share = StateHash::of_row(&write.key, value, buffer);
                Self { value: Some(value.clone()), share, bytes: ROW_OVERHEAD_BYTES + buffer.len() }
            }
        }
    }
}

/// Changed rows in the order of their keys, a tree for each kind of key: most reads are of kinds that change seldom, and must
/// not search through the messages of the last seconds to learn that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    kinds: [BTreeMap<Key, Slot>; Key::KINDS as usize],
}

impl Changed {
    fn kind(key: &Key) -> usize {
        usize::from(key.kind() - 1)
    }

    /// The change of a row.
    pub(crate) fn get(&self, key: &Key) -> Option<&Slot> {
        self.kinds[Self::kind(key)].get(key)
    }

    /// Sets a change; gives the one before.
    fn insert(&mut self, key: Key, slot: Slot) -> Option<Slot> {
        self.kinds[Self::kind(&key)].insert(key, slot)
    }

    /// The changes of a range, which must not be backwards.
    pub(crate) fn range(&self, range: RangeInclusive<Key>) -> impl DoubleEndedIterator<Item = (&Key, &Slot)> {
        let kinds = Self::kind(range.start())..=Self::kind(range.end());
        self.kinds[kinds].iter().flat_map(move |kind| kind.range(range.clone()))
    }

    /// All changes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Slot)> {
        self.kinds.iter().flatten()
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.kinds.iter().map(BTreeMap::len).sum()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.iter().all(BTreeMap::is_empty)
    }
}

/// Changed rows and the position they lead to.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// The changes.
    pub(crate) rows: Changed,
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

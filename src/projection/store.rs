//! The narrow interface to what keeps the bytes, and its memory twin. It knows nothing of rows, overlays or blocks.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::RwLock;

use super::error::ProjectionError;
use crate::core::view::Direction;

/// A range of byte keys.
pub(crate) type ByteRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Stored pairs in the order asked for.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What one checkpoint changes: `None` removes.
pub(crate) type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Keeps sorted pairs of bytes. One conformance suite runs on every implementation.
///
/// - `apply` is all or nothing for whoever opens the store after a crash. Readers on other threads may see some of a large
///   batch before the rest, but all pairs of one unit (keys that begin with its first key) at once.
/// - What was applied survives a power cut only after `sync` returned.
/// - A failed store stays failed.
pub(crate) trait Store: Send + Sync + 'static {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ProjectionError>;

    /// At most `limit` pairs of a range, in the given direction. An empty or reversed range gives none.
    fn scan(&self, range: ByteRange, direction: Direction, limit: usize) -> Result<Pairs, ProjectionError>;

    /// Makes all changes of the batch at once.
    fn apply(&self, batch: Batch) -> Result<(), ProjectionError>;

    /// Puts everything applied so far on stable storage.
    fn sync(&self) -> Result<(), ProjectionError>;

    /// Bytes on disk (for the memory twin: in memory).
    fn bytes_on_disk(&self) -> Result<u64, ProjectionError>;

    /// The store failed with these words: the next open must refuse it as damaged. Reports nothing, as the process is
    /// about to stop for the failure itself.
    fn distrust(&self, why: &str);
}

/// Whether the range can hold any key at all (maps panic on reversed ranges).
pub(crate) fn is_possible(range: &ByteRange) -> bool {
    match (&range.0, &range.1) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Included(first), Bound::Included(last)) => first <= last,
        (Bound::Included(first) | Bound::Excluded(first), Bound::Included(last) | Bound::Excluded(last)) => {
            first < last
        }
    }
}

/// The memory twin.
#[derive(Default)]
pub(crate) struct MemoryStore {
    pairs: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ProjectionError> {
        Ok(self.pairs.read().get(key).cloned())
    }

    fn scan(&self, range: ByteRange, direction: Direction, limit: usize) -> Result<Pairs, ProjectionError> {
        if !is_possible(&range) {
            return Ok(Vec::new());
        }
        let pairs = self.pairs.read();
        let found = pairs.range(range).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match direction {
            Direction::Up => found.take(limit).collect(),
            Direction::Down => found.rev().take(limit).collect(),
        })
    }

    fn apply(&self, batch: Batch) -> Result<(), ProjectionError> {
        let mut pairs = self.pairs.write();
        for (key, change) in batch {
            match change {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), ProjectionError> {
        Ok(())
    }

    fn bytes_on_disk(&self) -> Result<u64, ProjectionError> {
        Ok(self.pairs.read().iter().map(|(key, value)| (key.len() + value.len()) as u64).sum())
    }

    fn distrust(&self, _why: &str) {}
}

//! The simplest twin of the projection: one ordered map of typed rows. The tests of the rules run on it, and it is the
//! model that the real projection is compared with. It must never grow features the real one does not have.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::core::keys::Key;
use crate::core::rows::Value;
use crate::core::view::{Direction, StateHash, View, ViewError, Write};

/// The whole applied state in memory. Not durable, not shared between threads.
#[derive(Clone, Debug, Default)]
pub struct MemoryView {
    rows: BTreeMap<Key, Value>,
    hash: StateHash,
}

impl MemoryView {
    /// An empty state.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the writes of one entry visible, in order, and follows them with the state hash.
    ///
    /// # Panics
    /// When a write's `before` is not what the state holds: the rules computed it from another state.
    pub fn commit(&mut self, writes: &[Write]) {
        for write in writes {
            assert_eq!(self.rows.get(&write.key), write.before.as_ref(), "stale `before` of {:?}", write.key);
            self.hash.follow(write);
            match &write.after {
                Some(value) => self.rows.insert(write.key, value.clone()),
                None => self.rows.remove(&write.key),
            };
        }
    }

    /// The hash of all rows, kept up to date by [`MemoryView::commit`].
    #[must_use]
    pub const fn state_hash(&self) -> StateHash {
        self.hash
    }

    /// All rows in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &Value)> {
        self.rows.iter()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl View for MemoryView {
    fn get(&self, key: &Key) -> Result<Option<Value>, ViewError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(
        &self,
        range: RangeInclusive<Key>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, ViewError> {
        if range.start() > range.end() {
            return Ok(Vec::new()); // `BTreeMap::range` panics on such a range
        }
        let rows = self.rows.range(range).map(|(key, value)| (*key, value.clone()));
        Ok(match direction {
            Direction::Up => rows.take(limit).collect(),
            Direction::Down => rows.rev().take(limit).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{ChannelId, UserId};
    use crate::core::rows::{ChannelHead, Membership};

    fn head(last_seq: u64) -> Value {
        ChannelHead { last_seq, ..ChannelHead::default() }.into()
    }

    fn put(key: Key, before: Option<Value>, after: Value) -> Write {
        Write { key, before, after: Some(after) }
    }

    #[test]
    fn writes_are_read_back_scanned_both_ways_and_hashed() {
        let mut view = MemoryView::new();
        let keys: Vec<_> = (1..=5).map(|id| Key::ChannelHead(ChannelId(id))).collect();
        let writes: Vec<_> = keys.iter().map(|key| put(*key, None, head(1))).collect();
        view.commit(&writes);
        view.commit(&[put(Key::Membership(UserId(1), ChannelId(1)), None, Membership::default().into())]);

        let whole = Key::ChannelHead(ChannelId(2))..=Key::ChannelHead(ChannelId(u64::MAX));
        let up = view.scan(whole.clone(), Direction::Up, 2).unwrap();
        assert_eq!(up.iter().map(|row| row.0).collect::<Vec<_>>(), keys[1..3]);
        let down = view.scan(whole, Direction::Down, 2).unwrap();
        assert_eq!(down.iter().map(|row| row.0).collect::<Vec<_>>(), [keys[4], keys[3]]);
        assert!(view.scan(keys[3]..=keys[1], Direction::Up, 9).unwrap().is_empty(), "a reversed range is empty");

        let before = view.state_hash();
        view.commit(&[put(keys[0], Some(head(1)), head(2))]);
        assert_ne!(view.state_hash(), before);
        view.commit(&[put(keys[0], Some(head(2)), head(1))]);
        assert_eq!(view.state_hash(), before, "the hash depends on the rows, not on their history");

        for (key, value) in view.clone().iter() {
            view.commit(&[Write { key: *key, before: Some(value.clone()), after: None }]);
        }
        assert!(view.is_empty());
        assert_eq!(view.state_hash(), StateHash::default());
    }

    #[test]
    #[should_panic(expected = "stale `before`")]
    fn a_stale_before_is_refused() {
        MemoryView::new().commit(&[put(Key::ChannelHead(ChannelId(1)), Some(head(1)), head(2))]);
    }
}

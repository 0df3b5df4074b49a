//! The state at the fork with what the tail changed on top of it: where a tail is replayed to learn what it did. It is
//! as large as what the tail wrote.

use std::collections::BTreeMap;

use crate::core::keys::Key;
use crate::core::rows::Value;
use crate::core::view::{Direction, View, ViewError, Write};

/// A view and changes of it.
pub(super) struct Overlay<'a> {
    below: &'a dyn View,
    rows: BTreeMap<Key, Option<Value>>,
}

impl<'a> Overlay<'a> {
    pub(super) const fn new(below: &'a dyn View) -> Self {
        Self { below, rows: BTreeMap::new() }
    }

    /// Takes over the writes of an entry.
    pub(super) fn commit(&mut self, writes: &[Write]) {
        self.rows.extend(writes.iter().map(|write| (write.key, write.after.clone())));
    }

    /// The changed rows in the order of their keys.
    pub(super) fn changed(&self) -> impl Iterator<Item = (&Key, Option<&Value>)> {
        self.rows.iter().map(|(key, value)| (key, value.as_ref()))
    }
}

impl View for Overlay<'_> {
    fn get(&self, key: &Key) -> Result<Option<Value>, ViewError> {
        match self.rows.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.below.get(key),
        }
    }

    fn scan(
        &self,
        range: std::ops::RangeInclusive<Key>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, ViewError> {
        // Each changed row may hide one below: with so many more, enough are left.
        let hidden = self.rows.range(range.clone()).count();
        let below = self.below.scan(range.clone(), direction, limit.saturating_add(hidden))?;
        let mut rows: BTreeMap<Key, Value> = below.into_iter().collect();
        for (key, value) in self.rows.range(range) {
            match value {
                Some(value) => drop(rows.insert(*key, value.clone())),
                None => drop(rows.remove(key)),
            }
        }
        let mut found: Vec<(Key, Value)> = rows.into_iter().collect();
        if direction == Direction::Down {
            found.reverse();
        }
        found.truncate(limit);
        Ok(found)
    }
}

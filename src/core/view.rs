//! How the rules see the state, and how they change it: reads through a narrow trait, writes collected as a list that
//! the projection commits. Pure: nothing here knows where rows are stored.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::Digest;
use super::keys::Key;
use super::rows::{TypedRow, Value};

/// The state could not be read. Never an answer to a client: whoever applies the log must stop, because going on would
/// make this node differ from every other.
#[derive(Debug)]
pub struct ViewError(pub String);

impl std::fmt::Display for ViewError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the state cannot be read: {}", self.0)
    }
}

impl std::error::Error for ViewError {}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first key up.
    Up,
    /// From the last key down.
    Down,
}

/// Read access to the state.
pub trait View {
    /// The row under `key`.
    ///
    /// # Errors
    /// [`ViewError`] when the store fails or the row does not decode.
    fn get(&self, key: &Key) -> Result<Option<Value>, ViewError>;

    /// At most `limit` rows with `first <= key <= last`, in the given direction.
    ///
    /// # Errors
    /// [`ViewError`] when the store fails or a row does not decode.
    fn scan(
        &self,
        range: std::ops::RangeInclusive<Key>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, ViewError>;
}

/// Typed reads on any view.
pub trait ViewExt: View {
    /// The row under `key`, of the kind the caller expects there.
    ///
    /// # Errors
    /// [`ViewError`] when the store fails or the row is of another kind.
    fn row<R: TypedRow>(&self, key: Key) -> Result<Option<Arc<R>>, ViewError> {
        match self.get(&key)? {
            None => Ok(None),
            Some(value) => typed(&key, value).map(Some),
        }
    }

    /// At most `limit` rows of one kind in a range of keys.
    ///
    /// # Errors
    /// As [`ViewExt::row`].
    fn rows<R: TypedRow>(
        &self,
        range: std::ops::RangeInclusive<Key>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Arc<R>)>, ViewError> {
        let found = self.scan(range, direction, limit)?;
        found.into_iter().map(|(key, value)| typed(&key, value).map(|row| (key, row))).collect()
    }
}

impl<V: View + ?Sized> ViewExt for V {}

fn typed<R: TypedRow>(key: &Key, value: Value) -> Result<Arc<R>, ViewError> {
    R::from_value(value).ok_or_else(|| ViewError(format!("{key:?} holds a row of another kind")))
}

/// One changed row.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Which row.
    pub key: Key,
    /// Its value before this entry.
    pub before: Option<Value>,
    /// Its value after; `None` when it was removed.
    pub after: Option<Value>,
}

/// The writes of one entry on top of a view; reads see them. Dropping it changes nothing.
pub struct Changes<'a> {
    view: &'a dyn View,
    writes: Vec<Write>,
    /// Where each key is in `writes`, once there are so many that searching them would be slow.
    places: HashMap<Key, usize>,
}

/// From this many writes on they are found by an index: most entries write five rows, ending all sessions many thousands.
const INDEXED_WRITES_MIN: usize = 64;

impl<'a> Changes<'a> {
    /// No changes yet.
    #[must_use]
    pub fn new(view: &'a dyn View) -> Self {
        Self { view, writes: Vec::new(), places: HashMap::new() }
    }

    /// Sets a row, reading what was there before.
    ///
    /// # Errors
    /// [`ViewError`] when that read fails.
    pub fn put(&mut self, key: Key, row: impl Into<Value>) -> Result<(), ViewError> {
        let before = self.before(&key)?;
        self.record(key, before, Some(row.into()));
        Ok(())
    }

    /// Sets a row whose earlier value the caller knows (`None`: it is new), which saves the read.
    pub fn replace(&mut self, key: Key, before: Option<Value>, row: impl Into<Value>) {
        self.record(key, before, Some(row.into()));
    }

    /// Removes a row.
    ///
    /// # Errors
    /// [`ViewError`] when reading the earlier value fails.
    pub fn delete(&mut self, key: Key) -> Result<(), ViewError> {
        let before = self.before(&key)?;
        self.record(key, before, None);
        Ok(())
    }

    /// Takes over writes that were collected on top of these.
    pub fn absorb(&mut self, writes: Vec<Write>) {
        for Write { key, before, after } in writes {
            self.record(key, before, after);
        }
    }

    /// The writes, each key once, in the order of first change.
    #[must_use]
    pub fn into_writes(self) -> Vec<Write> {
        self.writes
    }

    fn before(&self, key: &Key) -> Result<Option<Value>, ViewError> {
        if self.place(key).is_some() {
            return Ok(None); // `record` keeps the first earlier value
        }
        self.view.get(key)
    }

    fn record(&mut self, key: Key, before: Option<Value>, after: Option<Value>) {
        if let Some(write) = self.place(&key).and_then(|at| self.writes.get_mut(at)) {
            write.after = after;
            return;
        }
        self.writes.push(Write { key, before, after });
        match self.writes.len() {
            INDEXED_WRITES_MIN => {
                self.places.extend(self.writes.iter().enumerate().map(|(at, write)| (write.key, at)));
            }
            many if many > INDEXED_WRITES_MIN => drop(self.places.insert(key, many - 1)),
            _ => {}
        }
    }

    /// Where the write of this key is.
    fn place(&self, key: &Key) -> Option<usize> {
        if self.writes.len() >= INDEXED_WRITES_MIN {
            return self.places.get(key).copied();
        }
        self.writes.iter().position(|write| write.key == *key)
    }
}

impl View for Changes<'_> {
    fn get(&self, key: &Key) -> Result<Option<Value>, ViewError> {
        match self.place(key).and_then(|at| self.writes.get(at)) {
            Some(write) => Ok(write.after.clone()),
            None => self.view.get(key),
        }
    }

    /// Scans the state *before* this entry: no rule needs to scan what it has just written.
    fn scan(
        &self,
        range: std::ops::RangeInclusive<Key>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, ViewError> {
        self.view.scan(range, direction, limit)
    }
}

/// A hash of the whole state that does not depend on the order of changes: the sum, over all rows, of BLAKE3 of key and
/// value, as four wrapping 64-bit lanes. It is kept up to date by adding and subtracting the rows that change.
///
/// It detects divergence and damage. It is not meant to withstand somebody who constructs colliding states: who can do
/// that holds the data directory, and the log's chain hash is what proves the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateHash([u64; 4]);

impl StateHash {
    /// Adds a row.
    pub fn add(&mut self, key: &Key, value: &[u8]) {
        let lanes = row_lanes(key, value);
        for (sum, lane) in self.0.iter_mut().zip(lanes) {
            *sum = sum.wrapping_add(lane);
        }
    }

    /// Takes a row away.
    pub fn subtract(&mut self, key: &Key, value: &[u8]) {
        let lanes = row_lanes(key, value);
        for (sum, lane) in self.0.iter_mut().zip(lanes) {
            *sum = sum.wrapping_sub(lane);
        }
    }

    /// Follows one write.
    pub fn follow(&mut self, write: &Write) {
        if let Some(before) = &write.before {
            self.subtract(&write.key, &before.encode());
        }
        if let Some(after) = &write.after {
            self.add(&write.key, &after.encode());
        }
    }

    /// The hash of a state that holds the rows of both, no row twice.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut sum = self;
        sum.0.iter_mut().zip(other.0).for_each(|(lane, more)| *lane = lane.wrapping_add(more));
        sum
    }

    /// The hash of a state without the rows of `other`, all of which it holds.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let mut rest = self;
        rest.0.iter_mut().zip(other.0).for_each(|(lane, less)| *lane = lane.wrapping_sub(less));
        rest
    }

    /// The hash as bytes, little-endian lanes.
    #[must_use]
    pub fn to_bytes(self) -> Digest {
        let mut bytes = [0; 32];
        for (slot, lane) in bytes.chunks_exact_mut(8).zip(self.0) {
            slot.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }

    /// Reads [`StateHash::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: Digest) -> Self {
        let mut lanes = [0; 4];
        for (lane, chunk) in lanes.iter_mut().zip(bytes.chunks_exact(8)) {
            *lane = chunk.try_into().map_or(0, u64::from_le_bytes);
        }
        Self(lanes)
    }
}

fn row_lanes(key: &Key, value: &[u8]) -> [u64; 4] {
    let mut hasher = blake3::Hasher::new();
    let key = key.encode();
    hasher.update(&[key.len() as u8]);
    hasher.update(&key);
    hasher.update(value);
    StateHash::from_bytes(*hasher.finalize().as_bytes()).0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::ids::{ChannelId, UserId};
    use crate::core::rows::{ChannelHead, Membership};

    /// One row: what is there before the entry.
    struct One(Key, Value);

    impl View for One {
        fn get(&self, key: &Key) -> Result<Option<Value>, ViewError> {
            Ok((*key == self.0).then(|| self.1.clone()))
        }

        fn scan(
            &self,
            range: std::ops::RangeInclusive<Key>,
            _: Direction,
            limit: usize,
        ) -> Result<Vec<(Key, Value)>, ViewError> {
            let found = range.contains(&self.0) && limit > 0;
            Ok(if found { vec![(self.0, self.1.clone())] } else { Vec::new() })
        }
    }

    const KEY: Key = Key::ChannelHead(ChannelId(1));

    fn head(last_seq: u64) -> ChannelHead {
        ChannelHead { last_seq, ..ChannelHead::default() }
    }

    #[test]
    fn a_row_changed_twice_is_one_write_from_first_to_last() {
        let view = One(KEY, head(1).into());
        let mut changes = Changes::new(&view);
        changes.put(KEY, head(2)).unwrap();
        assert_eq!(changes.row::<ChannelHead>(KEY).unwrap().unwrap().last_seq, 2, "reads see the changes");
        changes.delete(KEY).unwrap();
        assert_eq!(changes.row::<ChannelHead>(KEY).unwrap(), None);
        changes.put(KEY, head(3)).unwrap();
        assert_eq!(changes.scan(KEY..=KEY, Direction::Up, 1).unwrap()[0].1, head(1).into(), "scans do not");
        let write = Write { key: KEY, before: Some(head(1).into()), after: Some(head(3).into()) };
        assert_eq!(changes.into_writes(), [write]);
    }

    #[test]
    fn many_writes_are_found_like_few() {
        let view = One(KEY, head(1).into());
        let mut changes = Changes::new(&view);
        let channels = 3 * INDEXED_WRITES_MIN as u64;
        for round in 0..2 {
            for channel in 1..=channels {
                changes.put(Key::ChannelHead(ChannelId(channel)), head(channel + round)).unwrap();
            }
        }
        let found = changes.row::<ChannelHead>(Key::ChannelHead(ChannelId(channels))).unwrap().unwrap();
        assert_eq!(found.last_seq, channels + 1);
        let writes = changes.into_writes();
        assert_eq!(writes.len() as u64, channels, "each key once");
        assert_eq!(writes[0].before, Some(head(1).into()));
        assert!(writes.iter().zip(1..).all(|(write, channel)| write.after == Some(head(channel + 1).into())));
    }

    #[test]
    fn what_is_made_and_removed_in_one_entry_leaves_the_hash_alone() {
        let view = One(KEY, head(1).into());
        let mut changes = Changes::new(&view);
        let other = Key::ChannelHead(ChannelId(2));
        changes.put(other, head(9)).unwrap();
        changes.delete(other).unwrap();
        let mut hash = StateHash::default();
        changes.into_writes().iter().for_each(|write| hash.follow(write));
        assert_eq!(hash, StateHash::default());
    }

    #[test]
    fn a_row_of_another_kind_is_an_error_not_a_guess() {
        let view = One(KEY, Membership::default().into());
        assert!(view.row::<ChannelHead>(KEY).is_err());
        assert!(view.rows::<ChannelHead>(KEY..=KEY, Direction::Up, 1).is_err());
        assert!(view.row::<Membership>(KEY).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn the_hash_depends_on_the_rows_alone(rows in prop::collection::vec((any::<u8>(), any::<u64>()), 0..20)) {
            let key = |user: u8| Key::Member(ChannelId(1), UserId(user.into()));
            let add = |hash: &mut StateHash, row: &(u8, u64)| hash.add(&key(row.0), &row.1.to_le_bytes());
            let (mut up, mut down, mut half) = (StateHash::default(), StateHash::default(), StateHash::default());
            rows.iter().for_each(|row| add(&mut up, row));
            rows.iter().rev().for_each(|row| add(&mut down, row));
            prop_assert_eq!(up, down);
            rows.iter().take(rows.len() / 2).for_each(|row| add(&mut half, row));
            prop_assert_eq!(up.minus(half).plus(half), up);
            prop_assert_eq!(StateHash::from_bytes(up.to_bytes()), up);
            rows.iter().for_each(|row| up.subtract(&key(row.0), &row.1.to_le_bytes()));
            prop_assert_eq!(up, StateHash::default());
        }
    }
}

//! A bounded cache of decoded units between the overlays and the store. It must never hold a unit that differs from the
//! store once the frozen overlay that hides the difference is gone.
//!
//! **Invariant:** what a reader loaded from the store enters the cache only if, since before it read, no checkpoint
//! started or ended that changes this unit. Two *turns* per checkpoint make this checkable: at the first (before the store
//! changes) the touched units leave the cache and may not enter it; at the second (after) their new rows may.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::unit::{Rows, UnitKey};
use crate::core::rows::Value;

const SHARDS: usize = 16;

/// Proof of when a load began.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// The cache. Two generations per shard: what is used moves to the young one; when that is half full, the old one goes.
pub(crate) struct UnitCache {
    shards: Vec<Mutex<Shard>>,
    seeds: Seeds,
    shard_bytes: usize,
    turn: RwLock<Turn>,
}

#[derive(Default)]
struct Turn {
    number: u64,
    touched: Option<Arc<HashSet<UnitKey>>>,
}

/// Makes hashers for keys: several reads of every message are answered here, and the standard hasher showed in profiles. Seeded at
/// random, as some ids come from outside.
#[derive(Clone)]
struct Seeds(u64, u64);

impl Seeds {
    fn new() -> Self {
        let random = RandomState::new();
        Self(random.hash_one(1), random.hash_one(2) | 1)
    }
}

impl BuildHasher for Seeds {
    type Hasher = KeyHasher;
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { state: self.0, factor: self.1 }
    }
}

/// Multiplies and folds.
struct KeyHasher {
    state: u64,
    factor: u64,
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.factor);
        self.state = (product as u64 ^ (product >> 64) as u64).wrapping_add(self.factor);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

struct Shard {
    young: HashMap<UnitKey, Rows, Seeds>,
    old: HashMap<UnitKey, Rows, Seeds>,
    young_bytes: usize,
}

/// What fell out of a shard, to be dropped outside its lock.
type Fallen = Option<HashMap<UnitKey, Rows, Seeds>>;

impl Shard {
    fn new(seeds: &Seeds) -> Self {
        let map = HashMap::with_hasher(seeds.clone());
        Self { young: map.clone(), old: map, young_bytes: 0 }
    }

    fn get(&mut self, unit: UnitKey, half_bytes: usize) -> (Option<Rows>, Fallen) {
        if let Some(rows) = self.young.get(&unit) {
            return (Some(rows.clone()), None);
        }
        match self.old.remove(&unit) {
            None => (None, None),
            Some(rows) => (Some(rows.clone()), self.put(unit, rows, half_bytes)),
        }
    }

    /// Returns the generation that fell out, to be dropped outside the lock.
    fn put(&mut self, unit: UnitKey, rows: Rows, half_bytes: usize) -> Fallen {
        self.young_bytes += cost(&rows);
        self.old.remove(&unit);
        self.young.insert(unit, rows);
        if self.young_bytes < half_bytes {
            return None;
        }
        self.young_bytes = 0;
        let empty = HashMap::with_hasher(self.young.hasher().clone());
        Some(std::mem::replace(&mut self.old, std::mem::replace(&mut self.young, empty)))
    }

    fn remove(&mut self, unit: UnitKey) -> Option<Rows> {
        // The removed bytes stay counted until the generation turns: an overestimate, so the bound holds.
        self.young.remove(&unit).or_else(|| self.old.remove(&unit))
    }
}

/// An estimate of the memory a unit takes.
fn cost(rows: &Rows) -> usize {
    let row = |value: &Value| match value {
        Value::Message(message) => 200 + message.body.len(),
        Value::Audit(audit) => 300 + audit.before.len() + audit.after.len(),
        Value::User(_) | Value::Session(_) | Value::Invite(_) | Value::Channel(_) | Value::Settings(_) => 400,
        _ => 120,
    };
    100 + rows.iter().map(|(_, value)| 40 + row(value)).sum::<usize>()
}

impl UnitCache {
    /// A cache of about `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        let seeds = Seeds::new();
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(&seeds))).collect(),
            seeds,
            shard_bytes: bytes / SHARDS,
            turn: RwLock::default(),
        }
    }

    fn shard(&self, unit: UnitKey) -> &Mutex<Shard> {
        // The upper bits: the maps use the others.
        &self.shards[(self.seeds.hash_one(unit) >> 32) as usize % SHARDS]
    }

    /// The unit's rows, when they are known: empty rows mean that the store has none.
    pub(crate) fn get(&self, unit: UnitKey) -> Option<Rows> {
        let (rows, fallen) = self.shard(unit).lock().get(unit, self.shard_bytes / 2);
        drop(fallen);
        rows
    }

    /// To be taken before the store is read.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.turn.read().number)
    }

    /// Keeps what was loaded, unless a checkpoint made it doubtful.
    pub(crate) fn offer(&self, unit: UnitKey, rows: &Rows, ticket: Ticket) {
        let turn = self.turn.read();
        if turn.number != ticket.0 || turn.touched.as_ref().is_some_and(|touched| touched.contains(&unit)) {
            return;
        }
        let fallen = self.shard(unit).lock().put(unit, rows.clone(), self.shard_bytes / 2);
        drop(turn);
        drop(fallen);
    }

    /// The first turn: the store is about to change these units. Returns the rows of those that were cached.
    pub(crate) fn begin(&self, touched: Arc<HashSet<UnitKey>>) -> Vec<(UnitKey, Rows)> {
        {
            let mut turn = self.turn.write();
            turn.number += 1;
            turn.touched = Some(touched.clone());
        }
        let take = |unit: &UnitKey| self.shard(*unit).lock().remove(*unit).map(|rows| (*unit, rows));
        touched.iter().filter_map(take).collect()
    }

    /// The second turn: the store has changed. `fresh` are new rows of touched units that deserve a place.
    pub(crate) fn finish(&self, fresh: Vec<(UnitKey, Rows)>) {
        let mut fallen = Vec::new();
        for (unit, rows) in fresh {
            fallen.extend(self.shard(unit).lock().put(unit, rows, self.shard_bytes / 2));
        }
        let mut turn = self.turn.write();
        turn.number += 1;
        let touched = turn.touched.take();
        drop(turn);
        drop((touched, fallen));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{ChannelId, UserId};
    use crate::core::keys::Key;

    #[test]
    fn keys_that_differ_in_few_bits_spread_over_shards_and_buckets() {
        let seeds = Seeds::new();
        let few_bits = |id: u64| [id, id << 22, id << 54];
        let keys = (0..1_024).flat_map(few_bits).flat_map(|id| {
            [Key::User(UserId(id)), Key::Channel(ChannelId(id)), Key::Member(ChannelId(id), UserId(!id))]
        });
        let (mut shards, mut buckets, mut count) = ([0; SHARDS], [0; 64], 0);
        for key in keys {
            let hash = seeds.hash_one(UnitKey::of(&key));
            shards[(hash >> 32) as usize % SHARDS] += 1;
            buckets[hash as usize % 64] += 1;
            count += 1;
        }
        assert!(shards.iter().all(|in_it| *in_it < 2 * count / SHARDS), "{shards:?}");
        assert!(buckets.iter().all(|in_it| *in_it < 2 * count / 64), "{buckets:?}");
    }
}

//! A bounded cache of decoded units between the overlays and the store. It must never hold a unit that differs from the
//! store once the frozen overlay that hides the difference is gone.
//!
//! **Invariant:** what a reader loaded from the store enters the cache only if, since before it read, no checkpoint
//! started or ended that changes this unit. Two *turns* per checkpoint make this checkable: at the first (before the store
//! changes) the touched units leave the cache and may not enter it; at the second (after) their new rows may.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
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
    hasher: RandomState,
    shard_bytes: usize,
    turn: RwLock<Turn>,
}

#[derive(Default)]
struct Turn {
    number: u64,
    touched: Option<Arc<HashSet<UnitKey>>>,
}

#[derive(Default)]
struct Shard {
    young: HashMap<UnitKey, Rows>,
    old: HashMap<UnitKey, Rows>,
    young_bytes: usize,
}

impl Shard {
    fn get(&mut self, unit: UnitKey, half_bytes: usize) -> (Option<Rows>, Option<HashMap<UnitKey, Rows>>) {
        if let Some(rows) = self.young.get(&unit) {
            return (Some(rows.clone()), None);
        }
        match self.old.remove(&unit) {
            None => (None, None),
            Some(rows) => (Some(rows.clone()), self.put(unit, rows, half_bytes)),
        }
    }

    /// Returns the generation that fell out, to be dropped outside the lock.
    fn put(&mut self, unit: UnitKey, rows: Rows, half_bytes: usize) -> Option<HashMap<UnitKey, Rows>> {
        self.young_bytes += cost(&rows);
        self.old.remove(&unit);
        self.young.insert(unit, rows);
        if self.young_bytes < half_bytes {
            return None;
        }
        self.young_bytes = 0;
        Some(std::mem::replace(&mut self.old, std::mem::take(&mut self.young)))
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
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            shard_bytes: bytes / SHARDS,
            turn: RwLock::default(),
        }
    }

    fn shard(&self, unit: UnitKey) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(unit) as usize % SHARDS]
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

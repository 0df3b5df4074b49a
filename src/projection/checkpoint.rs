//! Checkpoints: on a thread of its own, the overlay is frozen and written to the store as one batch, with the meta row
//! that says what it leads to. Readers and the writer go on meanwhile. A failure here is fatal for the projection.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::error::ProjectionError;
use super::handle::{Applied, Projection, Shared, read_unit};
use super::meta::{META_KEY, Meta};
use super::overlay::{Overlay, Slot};
use super::sled_store::panic_text;
use super::store::Batch;
use super::unit::{self, Packer, RawRow, Rows, UnitKey};
use crate::core::keys::Key;
use crate::core::rows::Value;
use crate::core::view::StateHash;
use crate::limits;

/// What a checkpoint did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointReport {
    /// The last entry in it.
    pub applied: Applied,
    /// Changed rows.
    pub rows: u64,
    /// Bytes of keys and values written to the store.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The part of it that changed the store, in milliseconds.
    pub apply_ms: u64,
    /// The part of it that waited for the disk, in milliseconds.
    pub sync_ms: u64,
}

/// Who may change the store now.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) stopping: bool,
    holds: usize,
    running: bool,
    wanted: bool,
}

/// While it lives, no checkpoint starts, and the store holds exactly the state of one entry. The overlay grows meanwhile.
pub struct CheckpointHold {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for CheckpointHold {
    fn drop(&mut self) {
        self.shared.gate.lock().holds -= 1;
        self.shared.gate_changed.notify_all();
    }
}

impl CheckpointHold {
    /// The entry whose state the store holds.
    #[must_use]
    pub fn stored(&self) -> Applied {
        self.shared.last_checkpoint.lock().0.applied
    }
}

impl Projection {
    /// Writes a checkpoint now, after the one that may be running.
    ///
    /// # Errors
    /// [`ProjectionError`] when the store fails: the process must stop.
    pub fn checkpoint(&self) -> Result<CheckpointReport, ProjectionError> {
        self.shared.checkpoint()
    }

    /// Waits for the checkpoint that may be running, and lets none start while the returned guard lives.
    #[must_use]
    pub fn hold_checkpoints(&self) -> CheckpointHold {
        self.shared.hold()
    }
}

impl Shared {
    pub(crate) fn hold(self: &Arc<Self>) -> CheckpointHold {
        let mut gate = self.gate.lock();
        while gate.running {
            self.gate_changed.wait(&mut gate);
        }
        gate.holds += 1;
        drop(gate);
        CheckpointHold { shared: self.clone() }
    }

    /// Asks for a checkpoint when the overlay is large, and waits when it is too large.
    pub(crate) fn wait_for_room(&self, overlay_bytes: usize) -> Result<(), ProjectionError> {
        const LOOK_AGAIN_MS: u64 = 100;
        let mut bytes = overlay_bytes;
        if bytes < self.sizes.overlay_bytes {
            return Ok(());
        }
        let mut gate = self.gate.lock();
        if !gate.wanted {
            gate.wanted = true;
            self.gate_changed.notify_all();
        }
        while bytes > self.sizes.overlay_bytes_max && gate.holds == 0 && !gate.stopping {
            self.check()?;
            gate.wanted = true;
            self.gate_changed.wait_for(&mut gate, Duration::from_millis(LOOK_AGAIN_MS));
            bytes = self.layers.read().overlay.bytes;
        }
        Ok(())
    }

    /// The checkpoint thread.
    pub(crate) fn checkpoint_loop(&self) {
        loop {
            {
                let mut gate = self.gate.lock();
                let due = Instant::now() + self.sizes.checkpoint_every;
                while !gate.stopping && !gate.wanted {
                    if self.gate_changed.wait_until(&mut gate, due).timed_out() {
                        break;
                    }
                }
                if gate.stopping {
                    return;
                }
                gate.wanted = false;
            }
            if self.checkpoint().is_err() {
                return; // reported by `fail`
            }
        }
    }

    pub(crate) fn checkpoint(&self) -> Result<CheckpointReport, ProjectionError> {
        self.check()?;
        {
            let mut gate = self.gate.lock();
            while (gate.running || gate.holds > 0) && !gate.stopping {
                self.gate_changed.wait(&mut gate);
            }
            if gate.stopping {
                return Err(ProjectionError::Stopped { cause: "the projection is closing".to_owned() });
            }
            gate.running = true;
        }
        let result = catch_unwind(AssertUnwindSafe(|| self.write_checkpoint())).unwrap_or_else(|panic| {
            let cause = format!("panic: {}", panic_text(&*panic));
            Err(ProjectionError::Store { op: "checkpoint", cause })
        });
        self.gate.lock().running = false;
        self.gate_changed.notify_all();
        result.map_err(|e| self.fail(e))
    }

    fn freeze(&self) -> Option<Arc<Overlay>> {
        let mut layers = self.layers.write();
        let (applied, hash) = (layers.overlay.applied, layers.overlay.hash);
        if applied.index == self.durable_index.load(Ordering::Acquire) && layers.overlay.rows.is_empty() {
            return None;
        }
        let full = Arc::new(std::mem::replace(&mut layers.overlay, Overlay::on(applied, hash)));
        layers.frozen = Some(full.clone());
        layers.freezes += 1;
        Some(full)
    }

    fn write_checkpoint(&self) -> Result<CheckpointReport, ProjectionError> {
        let started = Instant::now();
        let Some(frozen) = self.freeze() else { return Ok(self.last_checkpoint.lock().0.clone()) };
        let mut plan = self.plan(&frozen)?;
        plan.batch.insert(META_KEY.to_vec(), Some(self.identity.meta(frozen.applied, frozen.hash).to_bytes()));
        let bytes = plan.batch.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>();
        let touched = plan.units.iter().map(|unit| unit.key).collect::<HashSet<_>>();
        let cached = self.cache.begin(Arc::new(touched));
        let applying = Instant::now();
        self.store.apply(plan.batch)?;
        let syncing = Instant::now();
        self.store.sync()?;
        let synced = Instant::now();
        self.cache.finish(fresh_rows(&frozen, &plan.units, cached));
        self.durable_index.store(frozen.applied.index, Ordering::Release);
        let report = CheckpointReport {
            applied: frozen.applied,
            rows: frozen.rows.len() as u64,
            bytes: bytes as u64,
            duration_ms: started.elapsed().as_millis() as u64,
            apply_ms: (syncing - applying).as_millis() as u64,
            sync_ms: (synced - syncing).as_millis() as u64,
        };
        *self.last_checkpoint.lock() = (report.clone(), Instant::now());
        self.layers.write().frozen = None;
        drop_here(frozen);
        Ok(report)
    }

    fn plan(&self, frozen: &Overlay) -> Result<Plan, ProjectionError> {
        let mut plan = Plan { batch: Batch::new(), units: Vec::new() };
        let mut packer = Packer::new()?;
        let mut rows = frozen.rows.iter().peekable();
        while let Some((key, slot)) = rows.next() {
            let unit = UnitKey::of(key);
            let mut changes = vec![(key, slot)];
            while let Some(more) = rows.next_if(|(key, _)| UnitKey::of(key) == unit) {
                changes.push(more);
            }
            let old = if unit.may_have_parts() { read_unit(&*self.store, unit)? } else { None };
            let was_stored = old.is_some();
            let old_parts = old.as_ref().map_or(1, |old| old.1);
            let new = match old {
                Some((content, _)) if unit.is_block() => replace(unit::raw_rows(unit, content)?, &changes),
                _ => replace(Vec::new(), &changes),
            };
            packer.put(&mut plan.batch, (unit, old_parts), &new)?;
            plan.units.push(Planned {
                key: unit,
                was_stored,
                rows: (*key, changes.last().map_or(*key, |last| *last.0)),
            });
        }
        Ok(plan)
    }
}

/// What a checkpoint will write.
struct Plan {
    batch: Batch,
    units: Vec<Planned>,
}

/// A unit that changes.
struct Planned {
    key: UnitKey,
    was_stored: bool,
    /// The first and last changed row.
    rows: (Key, Key),
}

/// A unit's encoded rows with changes on top. Both are in the order of slots.
fn replace(old: Vec<RawRow>, changes: &[(&Key, &Slot)]) -> Vec<RawRow> {
    let mut rows = old;
    for (key, slot) in changes {
        let number = UnitKey::slot(key);
        let place = rows.binary_search_by_key(&number, |row| row.0);
        match (place, slot.value.as_ref().map(|value| (number, value.encode()))) {
            (Ok(place), Some(row)) => rows[place] = row,
            (Err(place), Some(row)) => rows.insert(place, row),
            (Ok(place), None) => drop(rows.remove(place)),
            (Err(_), None) => {}
        }
    }
    rows
}

/// The new rows of the units that were cached, and of the small rows and new blocks, which are likely to be read soon:
/// all that is known without decoding anything.
fn fresh_rows(frozen: &Overlay, units: &[Planned], cached: Vec<(UnitKey, Rows)>) -> Vec<(UnitKey, Rows)> {
    let cached: std::collections::HashMap<_, _> = cached.into_iter().collect();
    let fresh = |unit: &Planned| {
        let old: &[(Key, Value)] = match cached.get(&unit.key) {
            Some(rows) => rows,
            None if unit.was_stored && unit.key.is_block() => return None,
            None => &[],
        };
        Some((unit.key, merged(old, frozen.rows.range(unit.rows.0..=unit.rows.1))))
    };
    units.iter().filter_map(fresh).collect()
}

/// Rows with changes on top. Both are in the order of keys.
fn merged<'a>(old: &[(Key, Value)], changes: impl Iterator<Item = (&'a Key, &'a Slot)>) -> Rows {
    let mut rows = Vec::with_capacity(limits::STATE_BLOCK_ROWS as usize);
    let mut old = old.iter().peekable();
    for (key, slot) in changes {
        while let Some(row) = old.next_if(|row| row.0 < *key) {
            rows.push(row.clone());
        }
        let _replaced = old.next_if(|row| row.0 == *key);
        rows.extend(slot.value.clone().map(|value| (*key, value)));
    }
    rows.extend(old.cloned());
    rows.into()
}

/// Drops a large overlay on this thread: a reader that still holds it for a moment must not have to.
fn drop_here(overlay: Arc<Overlay>) {
    const TRIES: usize = 1_000;
    let mut shared = overlay;
    for _ in 0..TRIES {
        match Arc::try_unwrap(shared) {
            Ok(overlay) => return drop(overlay),
            Err(still) => shared = still,
        }
        std::thread::yield_now();
    }
}

impl super::open::Identity {
    /// The meta row of a state at this position, written now by this process.
    pub(crate) fn meta(&self, applied: Applied, hash: StateHash) -> Meta {
        Meta {
            format: super::meta::STATE_FORMAT,
            cluster: self.cluster.to_vec(),
            applied_index: applied.index,
            epoch: applied.epoch,
            state_hash: hash.to_bytes().to_vec(),
            boot_id: self.boot_id.clone(),
        }
    }
}

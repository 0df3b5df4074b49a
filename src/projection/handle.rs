//! The projection as the rest of the program holds it: one writer commits entries, any thread reads. It never reads the
//! log and never decides what to do about a failure: it reports it once and does nothing any more.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, RwLock};

use super::cache::UnitCache;
use super::checkpoint::{CheckpointReport, Gate};
use super::error::ProjectionError;
use super::open::FatalHook;
use super::overlay::{Layers, Overlay, Slot};
use super::store::Store;
use super::unit::{self, Rows, UnitKey};
use crate::core::keys::Key;
use crate::core::rows::Value;
use crate::core::view::{Direction, StateHash, View, ViewError, Write};
use crate::limits;

/// A position in the log: all entries up to it are in the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last applied entry's index; 0 before the first.
    pub index: u64,
    /// That entry's epoch.
    pub epoch: u64,
}

/// Figures for metrics and the console.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// The last applied index.
    pub applied_index: u64,
    /// The last index that survives a power cut without the log.
    pub durable_index: u64,
    /// Changed rows above the store.
    pub overlay_rows: u64,
    /// Their estimated memory, in bytes.
    pub overlay_bytes: u64,
    /// The time since the last checkpoint ended (or since opening), in milliseconds.
    pub checkpoint_age_ms: u64,
    /// The last checkpoint; zeros before the first.
    pub last_checkpoint: CheckpointReport,
    /// The store's files, in bytes.
    pub disk_bytes: u64,
}

/// What belongs to the one writer.
#[derive(Default)]
struct Writer {
    /// The state hashes at the latest indexes at which they are recorded.
    points: VecDeque<(u64, StateHash)>,
    /// Working memory.
    buffer: Vec<u8>,
}

/// What all clones and the checkpoint thread share.
pub(crate) struct Shared {
    pub(crate) store: Box<dyn Store>,
    pub(crate) layers: RwLock<Layers>,
    pub(crate) cache: UnitCache,
    /// Held while an entry is committed: there is one writer.
    writer: Mutex<Writer>,
    pub(crate) gate: Mutex<Gate>,
    pub(crate) gate_changed: Condvar,
    pub(crate) sizes: super::open::Sizes,
    pub(crate) durable_index: AtomicU64,
    pub(crate) last_checkpoint: Mutex<(CheckpointReport, Instant)>,
    pub(crate) identity: super::open::Identity,
    failed: OnceLock<String>,
    fatal: FatalHook,
}

impl Shared {
    pub(crate) fn new(store: Box<dyn Store>, at: (Applied, StateHash), owner: super::open::Owner) -> Self {
        let (applied, hash) = at;
        let layers = Layers { overlay: Overlay::on(applied, hash), ..Layers::default() };
        Self {
            store,
            layers: RwLock::new(layers),
            cache: UnitCache::new(owner.sizes.cache_bytes),
            writer: Mutex::default(),
            gate: Mutex::default(),
            sizes: owner.sizes,
            gate_changed: Condvar::new(),
            durable_index: AtomicU64::new(applied.index),
            last_checkpoint: Mutex::new((CheckpointReport { applied, ..CheckpointReport::default() }, Instant::now())),
            identity: owner.identity,
            failed: OnceLock::new(),
            fatal: owner.fatal,
        }
    }

    /// Stops everything after a failure of the store, and tells the owner once.
    pub(crate) fn fail(&self, error: ProjectionError) -> ProjectionError {
        if self.failed.set(error.to_string()).is_ok() {
            if error.is_distrust() {
                self.store.distrust(&error.to_string());
            }
            tracing::error!(code = error.code(), hint = error.hint(), "{error}");
            (self.fatal)(&error);
        }
        self.gate_changed.notify_all();
        error
    }

    /// # Errors
    /// [`ProjectionError::Stopped`] after the first failure.
    pub(crate) fn check(&self) -> Result<(), ProjectionError> {
        match self.failed.get() {
            None => Ok(()),
            Some(cause) => Err(ProjectionError::Stopped { cause: cause.clone() }),
        }
    }

    /// A unit's rows from the cache or the store.
    pub(crate) fn unit(&self, key: UnitKey) -> Result<Rows, ProjectionError> {
        if let Some(rows) = self.cache.get(key) {
            return Ok(rows);
        }
        let ticket = self.cache.ticket();
        let rows = match read_unit(&*self.store, key)? {
            None => Rows::from([]),
            Some((content, _)) => unit::decode_rows(key, content)?,
        };
        self.cache.offer(key, &rows, ticket);
        Ok(rows)
    }

    fn commit(&self, applied: Applied, writes: &[Write]) -> Result<(), ProjectionError> {
        self.check()?;
        let mut writer = self.writer.lock();
        let Writer { points, buffer } = &mut *writer;
        let (slots, hash) = {
            let layers = self.layers.read();
            let mut hash = layers.overlay.hash;
            let slots: Vec<_> = writes
                .iter()
                .map(|write| {
                    let slot = Slot::of(write, buffer);
                    hash = hash.minus(share_before(&layers, write, buffer)).plus(slot.share);
                    (write.key, slot)
                })
                .collect();
            (slots, hash)
        };
        let bytes = {
            let mut layers = self.layers.write();
            let overlay = &mut layers.overlay;
            overlay.applied = applied;
            overlay.hash = hash;
            slots.into_iter().for_each(|(key, slot)| overlay.insert(key, slot));
            overlay.bytes
        };
        if applied.index.is_multiple_of(limits::STATE_HASH_EVERY) {
            points.push_back((applied.index, hash));
            if points.len() > limits::STATE_HASH_POINTS {
                points.pop_front();
            }
        }
        drop(writer);
        self.wait_for_room(bytes)
    }
}

/// What the row before a write contributed to the hash, without encoding it again when an overlay knows.
fn share_before(layers: &Layers, write: &Write, buffer: &mut Vec<u8>) -> StateHash {
    debug_assert!(
        layers.slot(&write.key).is_none_or(|slot| slot.value == write.before),
        "stale `before` of {:?}",
        write.key
    );
    let Some(before) = &write.before else { return StateHash::default() };
    layers.slot(&write.key).map_or_else(|| StateHash::of_row(&write.key, before, buffer), |slot| slot.share)
}

/// A unit's content and how many pairs it takes. Parts that do not belong together were read while a checkpoint replaced
/// them, and are read again; parts that never do are damage.
pub(crate) fn read_unit(store: &dyn Store, key: UnitKey) -> Result<Option<(Vec<u8>, u16)>, ProjectionError> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let Some(first) = store.get(&key.part(0))? else { return Ok(None) };
        let parts = unit::part_count(key, &first)?.max(1);
        let mut values = vec![first];
        for part in 1..parts {
            values.extend(store.get(&key.part(part))?);
        }
        if values.len() == usize::from(parts)
            && let Some(content) = unit::join_parts(key, &values)?
        {
            return Ok(Some((content, parts)));
        }
        std::thread::yield_now();
    }
    Err(ProjectionError::Store { op: "decode", cause: format!("{key:?}: its parts do not belong together") })
}

/// The state. Clones are cheap and share everything; the last one to go stops the checkpoint thread *without* a last
/// checkpoint (the log has everything): call [`Projection::close`] for a quick next start.
///
/// - Reads see every entry committed before they began, as a whole.
/// - Reads and commits never wait for a checkpoint, but a commit does when the overlay has reached
///   [`limits::OVERLAY_BYTES_MAX`].
/// - Between checkpoints the store holds exactly the state of one entry.
#[derive(Clone)]
pub struct Projection {
    pub(crate) shared: Arc<Shared>,
    _thread: Arc<CheckpointThread>,
}

/// Stops and joins the checkpoint thread with the last handle.
struct CheckpointThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for CheckpointThread {
    fn drop(&mut self) {
        self.shared.gate.lock().stopping = true;
        self.shared.gate_changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in it was caught and reported there.
            let _ = thread.join();
        }
    }
}

impl Projection {
    pub(crate) fn start(shared: Shared) -> Result<Self, ProjectionError> {
        let shared = Arc::new(shared);
        let mine = shared.clone();
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || mine.checkpoint_loop())
            .map_err(|e| ProjectionError::Store { op: "start its thread", cause: e.to_string() })?;
        let thread = CheckpointThread { shared: shared.clone(), thread: Some(thread) };
        Ok(Self { shared, _thread: Arc::new(thread) })
    }

    /// Makes the writes of one entry visible, all at once. Called by the one thread that applies the log, in its order.
    /// Each key occurs once in `writes`, with the value it had before.
    ///
    /// # Errors
    /// [`ProjectionError::Stopped`] after a failure of the store.
    pub fn commit(&self, applied: Applied, writes: &[Write]) -> Result<(), ProjectionError> {
        self.shared.commit(applied, writes)
    }

    /// The last committed entry.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.shared.layers.read().overlay.applied
    }

    /// The last entry that survives a power cut without the log: the log may be trimmed up to it, as far as this state is
    /// concerned.
    #[must_use]
    pub fn durable_index(&self) -> u64 {
        self.shared.durable_index.load(Ordering::Acquire)
    }

    /// The last committed entry, and the hash of all rows after it.
    #[must_use]
    pub fn state_hash(&self) -> (Applied, StateHash) {
        let layers = self.shared.layers.read();
        (layers.overlay.applied, layers.overlay.hash)
    }

    /// The state hash at an index divisible by [`limits::STATE_HASH_EVERY`], for the last [`limits::STATE_HASH_POINTS`]
    /// of them since opening.
    #[must_use]
    pub fn state_hash_at(&self, index: u64) -> Option<StateHash> {
        self.shared.writer.lock().points.iter().find(|point| point.0 == index).map(|point| point.1)
    }

    /// Computes the hash of all rows by reading them all: for tests, the doctor and the drill. Holds checkpoints meanwhile.
    /// Also returns the position it holds for.
    ///
    /// # Errors
    /// [`ProjectionError`] when a row cannot be read.
    pub fn full_state_hash(&self) -> Result<(Applied, StateHash), ProjectionError> {
        self.shared.full_state_hash()
    }

    /// Figures for metrics and the console.
    ///
    /// # Errors
    /// [`ProjectionError`] when the store fails.
    pub fn stats(&self) -> Result<Stats, ProjectionError> {
        let disk_bytes = self.shared.store.bytes_on_disk().map_err(|e| self.shared.fail(e))?;
        let (last_checkpoint, at) = self.shared.last_checkpoint.lock().clone();
        let layers = self.shared.layers.read();
        let frozen = layers.frozen.as_ref();
        Ok(Stats {
            applied_index: layers.overlay.applied.index,
            durable_index: self.durable_index(),
            overlay_rows: (layers.overlay.rows.len() + frozen.map_or(0, |frozen| frozen.rows.len())) as u64,
            overlay_bytes: (layers.overlay.bytes + frozen.map_or(0, |frozen| frozen.bytes)) as u64,
            checkpoint_age_ms: at.elapsed().as_millis() as u64,
            last_checkpoint,
            disk_bytes,
        })
    }

    /// Writes a last checkpoint, so that the next start replays nothing. Clones that still live read on; nothing may be
    /// committed any more.
    ///
    /// # Errors
    /// [`ProjectionError`] when the store fails.
    pub fn close(self) -> Result<(), ProjectionError> {
        self.checkpoint().map(|_| ())
    }
}

impl View for Projection {
    fn get(&self, key: &Key) -> Result<Option<Value>, ViewError> {
        self.shared.check()?;
        if let Some(slot) = self.shared.layers.read().slot(key) {
            return Ok(slot.value.clone());
        }
        let rows = self.shared.unit(UnitKey::of(key)).map_err(|e| self.shared.fail(e))?;
        let found = rows.binary_search_by_key(key, |row| row.0);
        Ok(found.ok().and_then(|place| rows.get(place)).map(|row| row.1.clone()))
    }

    fn scan(
        &self,
        range: RangeInclusive<Key>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, ViewError> {
        Ok(self.shared.scan(range, direction, limit)?)
    }
}

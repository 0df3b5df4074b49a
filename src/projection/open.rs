//! Opening the stored state, checking that it can be trusted, and rebuilding it when it cannot. The caller replays the
//! log from the index that is returned, and asks for the rebuild: nothing here moves anything aside by itself.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::ProjectionError;
use super::handle::{Applied, Projection, Shared};
use super::meta::{META_KEY, Meta, boot_id};
use super::scan;
use super::sled_store::SledStore;
use super::snapshot;
use super::store::{Batch, MemoryStore, Store};
use crate::core::view::{Direction, StateHash};
use crate::limits;

/// Called once, from the thread that met it, when the store fails while running. The process must stop: the state is no
/// longer followed. It must not block.
pub type FatalHook = Arc<dyn Fn(&ProjectionError) + Send + Sync>;

/// How to open the state.
#[derive(Clone)]
pub struct Options {
    state: PathBuf,
    snapshots: PathBuf,
    fatal: FatalHook,
    identity: Identity,
    pub(crate) sizes: Sizes,
}

/// Whose state it is, and which run of the machine writes it.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: [u8; 16],
    pub(crate) boot_id: String,
}

/// Bounds that the tests make small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) cache_bytes: usize,
    pub(crate) overlay_bytes: usize,
    pub(crate) overlay_bytes_max: usize,
    pub(crate) checkpoint_every: Duration,
}

/// What a running projection needs to know of its owner.
pub(crate) struct Owner {
    pub(crate) identity: Identity,
    pub(crate) sizes: Sizes,
    pub(crate) fatal: FatalHook,
}

impl Options {
    /// The state of `cluster` in `state/` of a data directory, with its snapshots in `snapshots/`.
    #[must_use]
    pub fn new(data_dir: &Path, cluster: [u8; 16], fatal: FatalHook) -> Self {
        let sizes = Sizes {
            cache_bytes: limits::STATE_CACHE_BYTES,
            overlay_bytes: limits::OVERLAY_BYTES,
            overlay_bytes_max: limits::OVERLAY_BYTES_MAX,
            checkpoint_every: Duration::from_millis(limits::CHECKPOINT_EVERY_MS),
        };
        let identity = Identity { cluster, boot_id: boot_id() };
        Self { state: data_dir.join("state"), snapshots: data_dir.join("snapshots"), fatal, identity, sizes }
    }

    /// Where the state is.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// Where the snapshots are.
    #[must_use]
    pub fn snapshots_dir(&self) -> &Path {
        &self.snapshots
    }

    #[cfg(test)]
    pub(crate) fn with_boot_id(mut self, boot_id: &str) -> Self {
        boot_id.clone_into(&mut self.identity.boot_id);
        self
    }
}

/// How the state came to be open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenOutcome {
    /// There was none: it is empty.
    Created,
    /// It was there and is trusted: the machine has run on since it was written.
    Opened,
    /// The machine was started since it was written; every row was read and the hash is right.
    Checked,
    /// It was rebuilt.
    Rebuilt {
        /// Where the old one is now; `None` when there was none.
        moved_to: Option<PathBuf>,
        /// The index of the snapshot it starts from; `None`: it starts empty.
        snapshot: Option<u64>,
        /// Snapshots that were not usable, and why.
        refused: Vec<ProjectionError>,
    },
}

/// An open projection and where it stands.
pub struct Opened {
    /// The handle.
    pub projection: Projection,
    /// The last entry in it: the caller replays the log from the next one.
    pub applied: Applied,
    /// The hash of all rows.
    pub state_hash: StateHash,
    /// How it came to be open.
    pub outcome: OpenOutcome,
}

impl Projection {
    /// Opens the stored state, or creates an empty one. When the machine was started since the state was written, it reads
    /// all of it first and compares the hash: a power cut may have left what sled does not notice, and rows that are
    /// wrong would spread to everything computed from them.
    ///
    /// # Errors
    /// [`ProjectionError::Damaged`] when it cannot be trusted: see [`Projection::rebuild`];
    /// [`ProjectionError::FormatTooNew`], [`ProjectionError::WrongCluster`], [`ProjectionError::Io`]. Nothing is changed.
    pub fn open(options: &Options) -> Result<Opened, ProjectionError> {
        let store = SledStore::open(&options.state)?;
        if store.existed() && store.get(META_KEY).map_err(|e| e.into_damage(&options.state))?.is_none() {
            // sled takes a data file it cannot read at all for a new one.
            let what = "its files are there, but not the row that says what they hold".to_owned();
            return Err(ProjectionError::Damaged { path: options.state.clone(), what });
        }
        Self::open_on(Box::new(store), options)
    }

    /// Moves the state aside (to `state.damaged-<unix ms>`; an older one goes) and starts from the newest good snapshot, or
    /// empty. `reason` is logged once.
    ///
    /// # Errors
    /// [`ProjectionError::Io`] when the disk refuses. Snapshots that are damaged are passed over and named in the outcome.
    pub fn rebuild(options: &Options, reason: &str) -> Result<Opened, ProjectionError> {
        let moved_to = move_aside(&options.state)?;
        let mut refused = Vec::new();
        for dir in snapshot::list_snapshots(&options.snapshots)?.into_iter().rev() {
            match Self::open_from_snapshot(options, &dir) {
                Ok(opened) => {
                    let snapshot = Some(opened.applied.index);
                    tracing::warn!(reason, snapshot, "the state is rebuilt from a snapshot and the log");
                    return Ok(Opened { outcome: OpenOutcome::Rebuilt { moved_to, snapshot, refused }, ..opened });
                }
                Err(error @ (ProjectionError::Io { .. } | ProjectionError::Store { .. })) => return Err(error),
                Err(error) => refused.push(error),
            }
        }
        tracing::warn!(reason, refused = refused.len(), "the state is rebuilt from the log alone");
        let opened = Self::open(options)?;
        Ok(Opened { outcome: OpenOutcome::Rebuilt { moved_to, snapshot: None, refused }, ..opened })
    }

    /// Loads a snapshot into an empty state and opens it. After an error the state is empty again.
    ///
    /// # Errors
    /// [`ProjectionError::NotEmpty`] when there is a state; [`ProjectionError::SnapshotDamaged`] naming the part;
    /// [`ProjectionError::WrongCluster`], [`ProjectionError::FormatTooNew`], [`ProjectionError::Io`].
    pub fn open_from_snapshot(options: &Options, dir: &Path) -> Result<Opened, ProjectionError> {
        if options.state.exists() {
            return Err(ProjectionError::NotEmpty { path: options.state.clone() });
        }
        let load = || {
            let store = SledStore::open(&options.state)?;
            snapshot::load(&store, dir, &options.identity)?;
            Ok(store)
        };
        let store = load().inspect_err(|_| {
            // What is left has no meta row, so it would be refused anyway.
            let _ = std::fs::remove_dir_all(&options.state);
        })?;
        Self::open_on(Box::new(store), options)
    }

    /// An empty state on the memory twin of the store: the same projection, of which nothing is left after the last handle.
    /// For tests and for replaying a log without touching the state on disk.
    ///
    /// # Errors
    /// [`ProjectionError::Store`] when its thread cannot be started.
    pub fn open_in_memory(options: &Options) -> Result<Opened, ProjectionError> {
        Self::open_on(Box::new(MemoryStore::default()), options)
    }

    /// The same, begun from the newest good snapshot if there is one.
    ///
    /// # Errors
    /// As [`Projection::open_in_memory`], and [`ProjectionError::Io`] when the snapshots cannot be listed.
    pub fn open_in_memory_from_snapshots(options: &Options) -> Result<Opened, ProjectionError> {
        for dir in snapshot::list_snapshots(&options.snapshots)?.into_iter().rev() {
            let store = MemoryStore::default();
            match snapshot::load(&store, &dir, &options.identity) {
                Ok(()) => return Self::open_on(Box::new(store), options),
                Err(error) => tracing::warn!(%error, "a snapshot is not usable"),
            }
        }
        Self::open_in_memory(options)
    }

    /// Opens the state on any store.
    pub(crate) fn open_on(store: Box<dyn Store>, options: &Options) -> Result<Opened, ProjectionError> {
        let (applied, hash, outcome) = check(&*store, options).map_err(|e| e.into_damage(&options.state))?;
        let owner = Owner { identity: options.identity.clone(), sizes: options.sizes, fatal: options.fatal.clone() };
        let projection = Self::start(Shared::new(store, (applied, hash), owner))?;
        Ok(Opened { projection, applied, state_hash: hash, outcome })
    }
}

fn check(store: &dyn Store, options: &Options) -> Result<(Applied, StateHash, OpenOutcome), ProjectionError> {
    let Some(bytes) = store.get(META_KEY)? else {
        if !store.scan((Bound::Unbounded, Bound::Unbounded), Direction::Up, 1)?.is_empty() {
            let what = "there are rows, but not the row that says what they are".to_owned();
            return Err(ProjectionError::Damaged { path: options.state.clone(), what });
        }
        write_meta(store, &options.identity.meta(Applied::default(), StateHash::default()))?;
        return Ok((Applied::default(), StateHash::default(), OpenOutcome::Created));
    };
    let meta = Meta::from_bytes(&bytes, &options.state, options.identity.cluster)?;
    let applied = Applied { index: meta.applied_index, epoch: meta.epoch };
    let hash = meta.hash().unwrap_or_default();
    if !meta.boot_id.is_empty() && meta.boot_id == options.identity.boot_id {
        return Ok((applied, hash, OpenOutcome::Opened));
    }
    tracing::info!("the machine was started since the state was written: reading all of it once");
    let mut found = StateHash::default();
    scan::walk(store, |key, bytes| {
        found.add(&key, bytes);
        Ok(())
    })?;
    if found != hash {
        let what = "the hash of its rows is not the recorded one".to_owned();
        return Err(ProjectionError::Damaged { path: options.state.clone(), what });
    }
    write_meta(store, &options.identity.meta(applied, hash))?; // so that the next start need not read it all again
    Ok((applied, hash, OpenOutcome::Checked))
}

/// Writes the meta row alone.
pub(crate) fn write_meta(store: &dyn Store, meta: &Meta) -> Result<(), ProjectionError> {
    store.apply(Batch::from([(META_KEY.to_vec(), Some(meta.to_bytes()))]))?;
    store.sync()
}

fn move_aside(state: &Path) -> Result<Option<PathBuf>, ProjectionError> {
    if !state.exists() {
        return Ok(None);
    }
    let parent = state.parent().unwrap_or(Path::new("."));
    for old in std::fs::read_dir(parent).map_err(|e| ProjectionError::io("list", parent, &e))?.flatten() {
        if old.file_name().to_string_lossy().starts_with("state.damaged-") {
            std::fs::remove_dir_all(old.path()).map_err(|e| ProjectionError::io("remove", &old.path(), &e))?;
        }
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let target = parent.join(format!("state.damaged-{now_ms}"));
    std::fs::rename(state, &target).map_err(|e| ProjectionError::io("rename", state, &e))?;
    snapshot::sync_dir(parent)?;
    Ok(Some(target))
}

//! The bytes in sled 0.34.7. Every call is fenced: a panic inside sled is an error here, and every error is fatal for the
//! projection. It must never call `flush_async`, `watch_prefix`, `generate_id` or a transaction (see `DESIGN.md`).

use std::fs::File;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::ProjectionError;
use super::store::{Batch, ByteRange, Pairs, Store, is_possible};
use crate::core::view::Direction;
use crate::limits;

const LOCK_LOOK_AGAIN_MS: u64 = 20;

/// One open sled database, one tree.
pub(crate) struct SledStore {
    db: Option<sled::Db>,
    file: File,
    path: PathBuf,
    existed: bool,
}

/// The words of a caught panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

fn fenced<T>(op: &'static str, call: impl FnOnce() -> sled::Result<T>) -> Result<T, ProjectionError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(cause)) => Err(ProjectionError::Store { op, cause: cause.to_string() }),
        Err(panic) => Err(ProjectionError::Store { op, cause: format!("panic: {}", panic_text(&*panic)) }),
    }
}

impl SledStore {
    /// Opens or creates the database in `path`.
    ///
    /// # Errors
    /// [`ProjectionError::Damaged`] when sled refuses or panics, [`ProjectionError::Io`] when the directory cannot be
    /// read or written.
    pub(crate) fn open(path: &Path) -> Result<Self, ProjectionError> {
        std::fs::create_dir_all(path).map_err(|e| ProjectionError::io("create", path, &e))?;
        let existed = check_files(path)?;
        remove_unfinished_snapshots(path)?;
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(limits::STATE_STORE_CACHE_BYTES)
            .flush_every_ms(Some(limits::STATE_STORE_FLUSH_MS))
            .use_compression(false);
        let db = open_unlocked(&config, path)?;
        let blobs = path.join("blobs");
        if std::fs::read_dir(&blobs).is_ok_and(|mut files| files.next().is_some()) {
            let what = "blobs/ holds values that no build of ours writes".to_owned();
            return Err(ProjectionError::Damaged { path: path.to_owned(), what });
        }
        let name = path.join("db");
        let file = File::open(&name).map_err(|e| ProjectionError::io("open", &name, &e))?;
        Ok(Self { db: Some(db), file, path: path.to_owned(), existed })
    }

    /// Whether there was a database before this open: then it is not empty, or it was damaged.
    pub(crate) const fn existed(&self) -> bool {
        self.existed
    }

    fn db(&self) -> Result<&sled::Db, ProjectionError> {
        self.db.as_ref().ok_or(ProjectionError::Store { op: "use", cause: "the store is closed".to_owned() })
    }
}

/// Opens the database, waiting for a moment when another process has it locked: one that just ended may still do so in a
/// child that it was starting. A lock, a full disk or a missing permission is no damage, and must never move anything.
fn open_unlocked(config: &sled::Config, path: &Path) -> Result<sled::Db, ProjectionError> {
    let give_up = Instant::now() + Duration::from_millis(limits::STATE_LOCK_WAIT_MS);
    loop {
        let damaged = |what| ProjectionError::Damaged { path: path.to_owned(), what };
        let cause = match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(cause))) => cause,
            Ok(Err(other)) => return Err(damaged(format!("open: {other}"))),
            Err(panic) => return Err(damaged(format!("open: panic: {}", panic_text(&*panic)))),
        };
        // sled wraps the lock's error into one of kind Other, with the system's words in its text.
        let locked = cause.kind() == ErrorKind::WouldBlock || cause.to_string().contains("could not acquire lock");
        match cause.kind() {
            _ if locked && Instant::now() < give_up => std::thread::sleep(Duration::from_millis(LOCK_LOOK_AGAIN_MS)),
            _ if locked => return Err(ProjectionError::io("lock", path, &cause)),
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other => {
                return Err(damaged(format!("open: {cause}")));
            }
            _ => return Err(ProjectionError::io("open", path, &cause)),
        }
    }
}

/// Whether there is a database. sled replaces an empty `conf` or `db` silently; one without the other is not to be trusted.
fn check_files(path: &Path) -> Result<bool, ProjectionError> {
    let has_data = std::fs::metadata(path.join("db")).is_ok_and(|db| db.len() > 0);
    let conf = std::fs::read(path.join("conf")).unwrap_or_default();
    let what = match (has_data, conf.len() > 4) {
        (true, false) => "its configuration file is missing or empty",
        (false, true) => "its data file is missing or empty",
        (both, _) => return Ok(both),
    };
    Err(ProjectionError::Damaged { path: path.to_owned(), what: what.to_owned() })
}

/// A kill during sled's open leaves a half-written snapshot that the next open would refuse; it is only the copy that
/// was not renamed yet.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), ProjectionError> {
    let list = std::fs::read_dir(path).map_err(|e| ProjectionError::io("list", path, &e))?;
    for item in list {
        let item = item.map_err(|e| ProjectionError::io("list", path, &e))?;
        let name = item.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && (name.ends_with(".generating") || name.ends_with(".in___motion")) {
            std::fs::remove_file(item.path()).map_err(|e| ProjectionError::io("remove", &item.path(), &e))?;
        }
    }
    Ok(())
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ProjectionError> {
        let db = self.db()?;
        fenced("get", || Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    fn scan(&self, range: ByteRange, direction: Direction, limit: usize) -> Result<Pairs, ProjectionError> {
        if !is_possible(&range) {
            return Ok(Vec::new());
        }
        let db = self.db()?;
        fenced("scan", || {
            let found = db.range(range);
            let pair =
                |item: sled::Result<(sled::IVec, sled::IVec)>| item.map(|(key, value)| (key.to_vec(), value.to_vec()));
            match direction {
                Direction::Up => found.take(limit).map(pair).collect(),
                Direction::Down => found.rev().take(limit).map(pair).collect(),
            }
        })
    }

    fn apply(&self, batch: Batch) -> Result<(), ProjectionError> {
        let db = self.db()?;
        let mut changes = sled::Batch::default();
        for (key, change) in batch {
            match change {
                Some(value) => {
                    // Larger values would go to files that sled never syncs.
                    assert!(
                        value.len() <= limits::STATE_VALUE_BYTES_MAX,
                        "a stored value is split before it gets here"
                    );
                    changes.insert(key, value);
                }
                None => changes.remove(key),
            }
        }
        fenced("apply", || db.apply_batch(changes))
    }

    fn sync(&self) -> Result<(), ProjectionError> {
        let db = self.db()?;
        fenced("flush", || db.flush())?;
        // sled's flush only hands the pages to the kernel; fsync is per inode, so any handle will do.
        self.file.sync_data().map_err(|e| ProjectionError::io("sync", &self.path.join("db"), &e))
    }

    fn bytes_on_disk(&self) -> Result<u64, ProjectionError> {
        let db = self.db()?;
        fenced("measure", || db.size_on_disk())
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let db = self.db.take();
        // sled's own drop flushes and may panic on a failed disk; the failure was or will be reported by a real call.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

//! The bytes in sled 0.34.7. Every call is fenced: a panic inside sled is an error here, and every error is fatal for the
//! projection. It must never call `flush_async`, `watch_prefix`, `generate_id` or a transaction (see `DESIGN.md`).

use std::fs::File;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::ProjectionError;
use super::redo::{self, Control};
use super::store::{Batch, ByteRange, Pairs, Store, is_possible};
use crate::core::view::Direction;
use crate::limits;

const LOCK_LOOK_AGAIN_MS: u64 = 20;
/// A `conf` that holds no more than its checksum makes sled panic.
const CONF_CHECKSUM_BYTES: u64 = 4;

/// Left in the directory by a failure while the store was in use; holds its words.
const FAILED: &str = "failed";

/// One open sled database, one tree.
pub(crate) struct SledStore {
    db: Option<sled::Db>,
    file: File,
    path: PathBuf,
    existed: bool,
    control: Mutex<Control>,
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
        check_never_failed(path)?;
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
        let control = Mutex::new(Control::default());
        let store = Self { db: Some(db), file, path: path.to_owned(), existed, control };
        store.complete().map_err(|e| e.into_damage(path))?;
        Ok(store)
    }

    /// Finishes a batch that a crash left in steps, or not begun.
    fn complete(&self) -> Result<(), ProjectionError> {
        let mut control = self.control.lock();
        if let Some(bytes) = self.get(redo::CONTROL_KEY)? {
            let damaged = || ProjectionError::Store { op: "read", cause: "its control row does not parse".to_owned() };
            *control = Control::from_bytes(&bytes).ok_or_else(damaged)?;
        }
        // A file of any other number is from before sled went back to an earlier batch, and would not fit.
        let wanted = if control.in_steps { control.number } else { control.number + 1 };
        match redo::read(&self.path)? {
            Some((number, batch)) if number == wanted => {
                control.number = number;
                self.apply_steps(&mut control, redo::steps(batch, limits::STATE_STEP_PAIRS))?;
            }
            _ if control.in_steps => {
                let cause = "it stopped within a checkpoint, and the file to complete it is gone".to_owned();
                return Err(ProjectionError::Store { op: "complete", cause });
            }
            _ => return redo::remove(&self.path),
        }
        drop(control);
        self.sync()
    }

    /// Applies the steps of batch `control.number`.
    fn apply_steps(&self, control: &mut Control, steps: Vec<Batch>) -> Result<(), ProjectionError> {
        let db = self.db()?;
        let last = steps.len().saturating_sub(1);
        let mut unsynced = 0;
        for (place, step) in steps.into_iter().enumerate() {
            control.in_steps = place < last;
            let mut changes = sled::Batch::default();
            changes.insert(redo::CONTROL_KEY, control.to_bytes());
            for (key, change) in step {
                match change {
                    Some(value) => {
                        // Larger values would go to files that sled never syncs.
                        assert!(value.len() <= limits::STATE_VALUE_BYTES_MAX, "values are split before they get here");
                        unsynced += value.len();
                        changes.insert(key, value);
                    }
                    None => changes.remove(key),
                }
            }
            fenced("apply", || db.apply_batch(changes))?;
            if unsynced >= limits::STATE_SYNC_BYTES {
                // For the same reason as in the redo file; what makes the batch durable is the sync at its end.
                self.sync_file()?;
                unsynced = 0;
            }
        }
        Ok(())
    }

    /// sled's flush only hands the pages to the kernel; fsync is per inode, so any handle will do.
    fn sync_file(&self) -> Result<(), ProjectionError> {
        self.file.sync_data().map_err(|e| ProjectionError::io("sync", &self.path.join("db"), &e))
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

/// sled checks its pages only when it reads them, so a damaged state can open well and fail later. Without a mark of that,
/// every start would end at the same page.
fn check_never_failed(path: &Path) -> Result<(), ProjectionError> {
    match std::fs::read(path.join(FAILED)) {
        Ok(why) => {
            let what = format!("it failed when it was last in use: {}", String::from_utf8_lossy(&why));
            Err(ProjectionError::Damaged { path: path.to_owned(), what })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ProjectionError::io("read", &path.join(FAILED), &error)),
    }
}

/// Whether there is a database. sled replaces an empty `conf` silently: data without it is not to be trusted. (An empty `db`
/// is told from a new one after the open, by what is missing in it: another process may be creating it right now.)
fn check_files(path: &Path) -> Result<bool, ProjectionError> {
    let has_data = std::fs::metadata(path.join("db")).is_ok_and(|db| db.len() > 0);
    let has_conf = std::fs::metadata(path.join("conf")).is_ok_and(|conf| conf.len() > CONF_CHECKSUM_BYTES);
    if has_data && !has_conf {
        let what = "its configuration file is missing or empty".to_owned();
        return Err(ProjectionError::Damaged { path: path.to_owned(), what });
    }
    Ok(has_conf)
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
            let found = db.range(range).filter(|item| !item.as_ref().is_ok_and(|(key, _)| key == redo::CONTROL_KEY));
            let pair =
                |item: sled::Result<(sled::IVec, sled::IVec)>| item.map(|(key, value)| (key.to_vec(), value.to_vec()));
            match direction {
                Direction::Up => found.take(limit).map(pair).collect(),
                Direction::Down => found.rev().take(limit).map(pair).collect(),
            }
        })
    }

    fn apply(&self, batch: Batch) -> Result<(), ProjectionError> {
        let mut control = self.control.lock();
        control.number += 1;
        let steps = if batch.len() <= limits::STATE_STEP_PAIRS {
            vec![batch]
        } else {
            redo::write(&self.path, control.number, &batch)?;
            redo::steps(batch, limits::STATE_STEP_PAIRS)
        };
        self.apply_steps(&mut control, steps)
    }

    fn sync(&self) -> Result<(), ProjectionError> {
        let db = self.db()?;
        fenced("flush", || db.flush())?;
        self.sync_file()?;
        redo::remove(&self.path)
    }

    fn bytes_on_disk(&self) -> Result<u64, ProjectionError> {
        let db = self.db()?;
        fenced("measure", || db.size_on_disk())
    }

    fn distrust(&self, why: &str) {
        // Without the mark the next start fails the same way, and this is tried again.
        let _ = std::fs::write(self.path.join(FAILED), why);
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let db = self.db.take();
        // sled's own drop flushes and may panic on a failed disk; the failure was or will be reported by a real call.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn big() -> Batch {
        (0..1_000u16).map(|i| ([&[9], &i.to_be_bytes()[..]].concat(), Some(vec![7; 3]))).collect()
    }

    /// Applies a small batch, then does what `interrupt` does with the next one, and opens the store again.
    fn after(interrupt: impl FnOnce(&SledStore, &Path)) -> Result<SledStore, ProjectionError> {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        store.apply(Batch::from([(vec![1], Some(vec![1]))])).unwrap();
        store.sync().unwrap();
        interrupt(&store, dir.path());
        drop(store);
        let store = SledStore::open(dir.path())?;
        assert_eq!(store.get(&[1]).unwrap(), Some(vec![1]));
        assert!(!dir.path().join("redo").exists(), "the file is gone when it is done with");
        Ok(store)
    }

    fn some_steps(store: &SledStore) {
        let mut changes = sled::Batch::default();
        changes.insert(redo::CONTROL_KEY, Control { number: 2, in_steps: true }.to_bytes());
        changes.insert(&[9, 0, 5], vec![7; 3]);
        store.db().unwrap().apply_batch(changes).unwrap();
    }

    fn count(store: &SledStore) -> usize {
        use std::ops::Bound::{Included, Unbounded};
        store.scan((Included(vec![9]), Unbounded), Direction::Up, usize::MAX).unwrap().len()
    }

    #[test]
    fn a_batch_stopped_before_or_within_its_steps_is_completed() {
        let before = after(|_, dir| redo::write(dir, 2, &big()).unwrap()).unwrap();
        assert_eq!(count(&before), 1_000);
        let within = after(|store, dir| {
            redo::write(dir, 2, &big()).unwrap();
            some_steps(store);
        });
        assert_eq!(count(&within.unwrap()), 1_000);
    }

    #[test]
    fn a_batch_stopped_within_its_steps_without_its_file_is_damage() {
        let error = after(|store, _| some_steps(store)).err().expect("it must be refused");
        assert!(error.is_rebuildable() && error.to_string().contains("stopped within a checkpoint"), "{error}");
        let other = after(|store, dir| {
            redo::write(dir, 3, &big()).unwrap();
            some_steps(store);
        });
        assert!(other.err().expect("the file of another batch does not fit").is_rebuildable());
    }

    #[test]
    fn the_file_of_another_batch_is_not_applied_to_a_whole_state() {
        let store = after(|_, dir| redo::write(dir, 5, &big()).unwrap()).unwrap();
        assert_eq!(count(&store), 0);
    }

    #[test]
    fn a_locked_store_is_refused_without_calling_it_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let _open = SledStore::open(dir.path()).unwrap();
        let error = SledStore::open(dir.path()).err().expect("only one may have it open");
        assert!(matches!(error, ProjectionError::Io { op: "lock", .. }), "{error}");
    }
}

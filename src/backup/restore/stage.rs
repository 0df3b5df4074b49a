//! The directory in which a restore is built, beside the destination, and the one step that gives it its place. Must never
//! touch the destination before that step, never delete anything but what an earlier restore left unfinished, and never leave
//! a directory under the destination's name that is not whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::RestoreError;
use crate::ops::durable_file::{create_private_dir, remove_durably, sync_dir, write_private};
use crate::ops::lockfile::{DataLock, LockError};

/// What tells an unfinished restore from anything else.
const MARKER: &str = "restoring.json";

/// A directory under construction, locked. Dropped without [`Staging::place`], it is removed.
pub(crate) struct Staging {
    dir: PathBuf,
    destination: PathBuf,
    /// Released before anything is removed or placed.
    lock: Option<DataLock>,
}

impl Drop for Staging {
    fn drop(&mut self) {
        drop(self.lock.take());
        if is_ours(&self.dir) {
            // What cannot be removed now is removed by the next restore.
            let _ = remove_ours(&self.dir);
        }
    }
}

/// Whether an unfinished restore is in `dir`.
fn is_ours(dir: &Path) -> bool {
    dir.join(MARKER).exists() || dir.join(format!("{MARKER}.tmp")).exists()
}

/// Removes an unfinished restore, the marker last: who is killed in between leaves what the next restore still knows as ours.
fn remove_ours(dir: &Path) -> io::Result<()> {
    let marked = |name: &std::ffi::OsStr| name == MARKER || name == format!("{MARKER}.tmp").as_str();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if marked(&entry.file_name()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    sync_dir(dir)?;
    fs::remove_dir_all(dir)
}

fn first_entry(dir: &Path) -> io::Result<Option<String>> {
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    entries.next().transpose().map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
}

/// The destination with its parent, which exists then.
fn resolved(destination: &Path) -> Result<PathBuf, RestoreError> {
    if let Ok(real) = destination.canonicalize() {
        return Ok(real);
    }
    let io = RestoreError::io("use", destination);
    let Some(name) = destination.file_name() else { return Err(io(io::ErrorKind::InvalidInput.into())) };
    let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_private_dir(parent).map_err(RestoreError::io("create", parent))?;
    Ok(parent.canonicalize().map_err(io)?.join(name))
}

fn beside(destination: &Path, suffix: &str) -> PathBuf {
    let mut name = destination.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    destination.with_file_name(name)
}

/// Whether a restore may take the place of what is at `destination`. `force`: what is there is moved aside.
pub(super) fn check_destination(destination: &Path, force: bool) -> Result<(), RestoreError> {
    let io = |e| RestoreError::io("read", destination)(e);
    let Some(example) = first_entry(destination).map_err(io)? else {
        return if is_mount_point(destination) {
            Err(RestoreError::MountPoint(destination.to_owned()))
        } else {
            Ok(())
        };
    };
    if !force {
        return Err(RestoreError::NotEmpty { path: destination.to_owned(), example });
    }
    if is_mount_point(destination) {
        return Err(RestoreError::MountPoint(destination.to_owned()));
    }
    // Only asked, not kept: it moves away with what it locks. Only a data directory of ours has one.
    if destination.join("node.toml").exists() {
        drop(DataLock::acquire(destination).map_err(busy)?);
    }
    Ok(())
}

/// A root of a file system cannot be renamed.
fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let (Ok(real), true) = (path.canonicalize(), path.exists()) else { return false };
    real.parent().is_none_or(|parent| device(parent) != device(&real))
}

fn busy(error: LockError) -> RestoreError {
    match error {
        held @ LockError::Held { .. } => RestoreError::Busy(held.to_string()),
        LockError::Io { path, source } => RestoreError::Io { op: "lock", path, source },
    }
}

impl Staging {
    /// Makes the directory. What an earlier restore left unfinished is removed first.
    ///
    /// # Errors
    /// [`RestoreError::StagingForeign`], [`RestoreError::Busy`], [`RestoreError::Io`].
    pub(crate) fn begin(destination: &Path) -> Result<Self, RestoreError> {
        let destination = resolved(destination)?;
        let dir = beside(&destination, ".restoring");
        let io = |op| RestoreError::io(op, &dir);
        if is_ours(&dir) {
            drop(DataLock::acquire(&dir).map_err(busy)?);
            remove_ours(&dir).map_err(io("remove"))?;
        } else if first_entry(&dir).map_err(io("read"))?.is_some() {
            return Err(RestoreError::StagingForeign(dir));
        }
        create_private_dir(&dir).map_err(io("create"))?;
        let text = b"A restore is being built here. If none runs, this directory can be removed.\n";
        write_private(&dir.join(MARKER), text).map_err(io("write into"))?;
        let lock = DataLock::acquire(&dir).map_err(busy)?;
        Ok(Self { dir, destination, lock: Some(lock) })
    }

    /// Removes what an earlier restore to `destination` left unfinished, if there is anything and nobody works on it.
    ///
    /// # Errors
    /// [`RestoreError::Io`].
    pub(crate) fn sweep(destination: &Path) -> Result<(), RestoreError> {
        let dir = beside(destination, ".restoring");
        if !is_ours(&dir) {
            return Ok(());
        }
        match DataLock::acquire(&dir) {
            Ok(lock) => drop(lock),
            Err(LockError::Held { .. }) => return Ok(()),
            Err(error) => return Err(busy(error)),
        }
        remove_ours(&dir).map_err(RestoreError::io("remove", &dir))
    }

    /// Where to build.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes everything durable and gives it the destination's name. What was there is moved aside, and its new path returned.
    ///
    /// # Errors
    /// [`RestoreError`]; the destination is as it was, unless only the last sync failed.
    pub(super) fn place(mut self, force: bool, now_ms: u64) -> Result<Option<PathBuf>, RestoreError> {
        let io = |op| RestoreError::io(op, &self.dir);
        let folder = fs::File::open(&self.dir).map_err(io("open"))?;
        rustix::fs::syncfs(&folder).map_err(|e| io("sync")(e.into()))?;
        check_destination(&self.destination, force)?;
        drop(self.lock.take());
        let aside = if first_entry(&self.destination).map_err(io("look at"))?.is_some() {
            Some(self.exchange(now_ms)?)
        } else {
            // The system replaces an empty directory in the same step.
            fs::rename(&self.dir, &self.destination).map_err(io("rename"))?;
            None
        };
        let parent = self.destination.parent().unwrap_or(Path::new("/"));
        sync_dir(parent).map_err(io("sync the parent of"))?;
        remove_durably(&self.destination.join(MARKER)).map_err(io("finish"))?;
        Ok(aside)
    }

    /// Puts the new in the place of the old in one step, then gives the old its new name. A crash between the two leaves the
    /// old under the name of the staging directory: it has no marker, so that nobody removes it.
    fn exchange(&self, now_ms: u64) -> Result<PathBuf, RestoreError> {
        let (dir, destination) = (&self.dir, &self.destination);
        let io = |op| RestoreError::io(op, destination);
        remove_durably(&destination.join(MARKER)).map_err(io("prepare"))?;
        let aside = beside(destination, &format!(".before-restore-{now_ms}"));
        match renameat_with(CWD, dir, CWD, destination, RenameFlags::EXCHANGE) {
            Ok(()) => fs::rename(dir, &aside).map_err(io("move aside"))?,
            // A file system without that step: the old is aside before the new is in its place.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
                fs::rename(destination, &aside).map_err(io("move aside"))?;
                if let Err(error) = fs::rename(dir, destination) {
                    let _ = fs::rename(&aside, destination);
                    return Err(io("rename to")(error));
                }
            }
            Err(error) => return Err(io("exchange")(error.into())),
        }
        Ok(aside)
    }
}

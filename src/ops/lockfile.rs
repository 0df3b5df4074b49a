//! The lock of a data directory: `run/lock`, held with `flock` for as long as the process lives.
//! Must never be removed while it is held: a second process would lock a different inode and both would write.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::durable_file::{FILE_MODE, create_private_dir};

/// Why a data directory could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it. `pid` is what that process wrote, when it could be read.
    Held {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it.
        pid: Option<u32>,
    },
    /// The lock file cannot be made or read.
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { path, pid: Some(pid) } => write!(
                f,
                "this data directory is in use by process {pid} (lock {}): stop it first, or choose another --data",
                path.display()
            ),
            LockError::Held { path, pid: None } => write!(
                f,
                "this data directory is in use by another process (lock {}): stop it first, or choose another --data",
                path.display()
            ),
            LockError::Io { path, source } => {
                write!(f, "cannot lock {}: {source}; check that this user owns the data directory", path.display())
            }
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LockError::Io { source, .. } => Some(source),
            LockError::Held { .. } => None,
        }
    }
}

/// The held lock. Dropping it (or the end of the process, however it ends) releases it.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
    path: PathBuf,
}

impl DataLock {
    /// Takes the lock of the data directory `data`, without waiting, and writes our process id into it.
    pub fn acquire(data: &Path) -> Result<DataLock, LockError> {
        let path = lock_path(data);
        let io_error = |source| LockError::Io { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            create_private_dir(parent).map_err(io_error)?;
        }
        let mut file = open(&path).map_err(io_error)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held { pid: read_pid(&mut file), path }),
            Err(errno) => return Err(io_error(errno.into())),
        }
        file.set_len(0).map_err(io_error)?;
        file.rewind().map_err(io_error)?;
        writeln!(file, "{}", std::process::id()).map_err(io_error)?;
        Ok(DataLock { _file: file, path })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Who holds the lock of `data` now: `None` when nobody does. Takes nothing and changes nothing.
pub fn holder(data: &Path) -> Result<Option<Option<u32>>, LockError> {
    let path = lock_path(data);
    let mut file = match OpenOptions::new().read(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LockError::Io { path, source }),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(read_pid(&mut file))),
        Err(errno) => Err(LockError::Io { path, source: errno.into() }),
    }
}

fn lock_path(data: &Path) -> PathBuf {
    data.join("run").join("lock")
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DataLock::acquire(dir.path()).unwrap();
        let refused = DataLock::acquire(dir.path()).unwrap_err();
        assert!(matches!(refused, LockError::Held { pid: Some(pid), .. } if pid == std::process::id()), "{refused:?}");
        assert!(refused.to_string().contains(&std::process::id().to_string()));
        assert_eq!(holder(dir.path()).unwrap(), Some(Some(std::process::id())));
        drop(lock);
        assert_eq!(holder(dir.path()).unwrap(), None);
        DataLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn asking_for_the_holder_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()).unwrap(), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_pid_of_a_dead_holder_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        create_private_dir(&dir.path().join("run")).unwrap();
        std::fs::write(lock_path(dir.path()), "4000000000-and-more-digits").unwrap();
        let lock = DataLock::acquire(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(lock.path()).unwrap(), format!("{}\n", std::process::id()));
    }
}

//! The few system calls that change log files, behind one small seam so that tests can make each of them fail.
//! Must never retry.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::error::LogError;
use super::segment::SegmentName;

/// Bytes written at once where zeros must be written out.
const ZEROS_BYTES: usize = 64 << 10;

/// What the writer does to files.
pub(super) trait Disk: Send {
    /// Makes the file at least `length` bytes long, all of it really allocated; new bytes read as zero.
    fn reserve(&self, file: &File, length: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// fdatasync.
    fn sync_data(&self, file: &File) -> io::Result<()>;
    /// Gives a file another name; what had that name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// The real one.
pub(super) struct SystemDisk;

impl Disk for SystemDisk {
    fn reserve(&self, file: &File, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            // Some file systems cannot reserve; writing the zeros out takes the room just as well.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let present = file.metadata()?.len();
                write_zeros(file, present, length)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Whether an error says that there is no room (disk or quota).
pub(super) fn is_no_room(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// Writes zeros from `from` up to `to`.
pub(super) fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0_u8; ZEROS_BYTES];
    let mut at = from;
    while at < to {
        let count = (to - at).min(ZEROS_BYTES as u64);
        file.write_all_at(&zeros[..count as usize], at)?;
        at += count;
    }
    Ok(())
}

/// Makes creations, renames and removals in a directory durable.
pub(super) fn sync_dir(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    disk.sync_dir(path).map_err(|e| LogError::io("sync directory", path, e))
}

/// Removes a file and makes that durable.
pub(super) fn remove_durably(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    disk.remove(path).map_err(|e| LogError::io("remove", path, e))?;
    path.parent().map_or(Ok(()), |dir| sync_dir(disk, dir))
}

/// Gives a prepared file its name and makes that durable.
pub(super) fn rename_durably(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), LogError> {
    disk.rename(from, to).map_err(|e| LogError::io("rename", from, e))?;
    to.parent().map_or(Ok(()), |dir| sync_dir(disk, dir))
}

/// Reserves room for a segment.
pub(super) fn reserve(disk: &dyn Disk, file: &File, name: &SegmentName, length: u64) -> Result<(), LogError> {
    disk.reserve(file, length)
        .map_err(|e| if is_no_room(&e) { no_room(name, length) } else { LogError::io("reserve", &name.path, e) })
}

/// The error that tells of a full disk.
pub(super) fn no_room(name: &SegmentName, needed_bytes: u64) -> LogError {
    LogError::DiskFull { path: name.path.clone(), needed_bytes }
}

/// Creates the log's directory, durably.
pub(super) fn create_dir(dir: &Path) -> Result<(), LogError> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(dir).map_err(|e| LogError::io("create directory", dir, e))?;
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), |parent| sync_dir(&SystemDisk, parent))
}

/// Takes the lock that every process which changes the log holds. It goes with the file.
pub(super) fn lock(dir: &Path) -> Result<File, LogError> {
    let file = File::open(dir).map_err(|e| LogError::io("open directory", dir, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked { path: dir.to_path_buf() }),
        Err(TryLockError::Error(e)) => Err(LogError::io("lock", dir, e)),
    }
}

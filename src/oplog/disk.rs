//! The few system calls that change log files, behind one small seam so that tests can make each of them fail.
//! Must never retry.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::error::LogError;

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
pub(super) fn sync_dir(path: &Path) -> Result<(), LogError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| LogError::io("sync directory", path, e))
}

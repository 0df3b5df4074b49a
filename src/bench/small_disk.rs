//! Disks in memory that can be filled, for the one fault that needs them. Mounting takes root.
//!
//! Must never fill a disk that it did not mount.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::BenchError;
use crate::limits::{BENCH_FILLED_FREE_MIB, BENCH_SMALL_DISK_MIB};

/// A disk in memory. It is unmounted when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the process that used it may not be gone yet, and the directory has to be removed.
        let _ = Command::new("umount").arg("-l").arg(&self.path).stderr(Stdio::null()).status();
    }
}

impl SmallDisk {
    /// Mounts one at `path`, which is created.
    ///
    /// # Errors
    /// It could not be mounted: this user may not.
    pub fn mount(path: PathBuf) -> Result<Self, BenchError> {
        std::fs::create_dir_all(&path).map_err(BenchError::on_path("create", &path))?;
        let size = format!("size={BENCH_SMALL_DISK_MIB}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        let done = done.map_err(|error| BenchError::io("run mount", &error))?;
        if done.status.success() {
            return Ok(Self { path });
        }
        let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        Err(BenchError::options(format!(
            "--fault disk-full fills a disk in memory, and mounting one needs root: {why}"
        )))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all room but a few MiB.
    ///
    /// # Errors
    /// The system refused.
    pub fn fill(&self) -> Result<(), BenchError> {
        let filler = self.filler();
        let failed = |error: std::io::Error| BenchError::on_path("fill the disk with", &filler)(error);
        let stat = rustix::fs::statvfs(&self.path).map_err(|error| failed(error.into()))?;
        let bytes = (stat.f_bavail * stat.f_frsize).saturating_sub(BENCH_FILLED_FREE_MIB << 20);
        let file = std::fs::File::create(&filler).map_err(failed)?;
        if bytes > 0 {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
                .map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// The system refused.
    pub fn free(&self) -> Result<(), BenchError> {
        let filler = self.filler();
        std::fs::remove_file(&filler).map_err(BenchError::on_path("remove", &filler))
    }

    fn filler(&self) -> PathBuf {
        self.path.join("somebody-elses")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fills_frees_and_leaves_nothing_behind_or_says_that_it_needs_root() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let free_mib = || rustix::fs::statvfs(&path).map(|stat| (stat.f_bavail * stat.f_frsize) >> 20).unwrap();
        match SmallDisk::mount(path.clone()) {
            Ok(disk) => {
                assert_eq!(free_mib(), BENCH_SMALL_DISK_MIB);
                disk.fill().unwrap();
                assert!(free_mib() <= BENCH_FILLED_FREE_MIB, "{}", free_mib());
                disk.free().unwrap();
                assert_eq!(free_mib(), BENCH_SMALL_DISK_MIB);
                drop(disk);
                std::fs::remove_dir(&path).unwrap();
            }
            Err(error) => assert!(error.to_string().contains("needs root"), "{error}"),
        }
    }
}

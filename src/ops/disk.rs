//! The free-space watch: writes stop before the disk is full, and go on by themselves when there is room.
//! Must never let the log meet a full disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::limits::{DISK_RESERVE_BYTES_DEFAULT, DISK_RESERVE_PERCENT_DEFAULT, DISK_RESUME_MARGIN_PERCENT};

/// How much of the disk is kept free: the larger of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskReserve {
    /// Bytes kept free.
    pub bytes: u64,
    /// Percent of the disk kept free.
    pub percent: u64,
}

impl Default for DiskReserve {
    fn default() -> Self {
        DiskReserve { bytes: DISK_RESERVE_BYTES_DEFAULT, percent: DISK_RESERVE_PERCENT_DEFAULT }
    }
}

impl From<&crate::config::StorageConfig> for DiskReserve {
    fn from(config: &crate::config::StorageConfig) -> Self {
        DiskReserve { bytes: config.disk_reserve_mib.saturating_mul(1024 * 1024), percent: config.disk_reserve_percent }
    }
}

/// The disk under the data directory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct DiskState {
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Size of the file system.
    pub total_bytes: u64,
    /// Bytes kept free.
    pub reserve_bytes: u64,
    /// Whether writes are accepted.
    pub accepting: bool,
}

/// Whether writes are accepted, from free and total bytes and what was decided before.
///
/// Below the reserve: no. Once refused, free space must exceed the reserve by a tenth before it is yes again.
pub fn decide(reserve: DiskReserve, free_bytes: u64, total_bytes: u64, was_accepting: bool) -> DiskState {
    // In 128 bits: percent of a 200 PB file system must not overflow.
    let percent_bytes = u128::from(total_bytes) * u128::from(reserve.percent.min(100)) / 100;
    let reserve_bytes = reserve.bytes.max(u64::try_from(percent_bytes).unwrap_or(u64::MAX));
    let margin = reserve_bytes / 100 * DISK_RESUME_MARGIN_PERCENT;
    let needed = if was_accepting { reserve_bytes } else { reserve_bytes.saturating_add(margin) };
    DiskState { free_bytes, total_bytes, reserve_bytes, accepting: free_bytes > needed }
}

/// Watches the file system that holds one directory.
#[derive(Debug)]
pub struct DiskWatch {
    path: PathBuf,
    reserve: DiskReserve,
    accepting: AtomicBool,
}

impl DiskWatch {
    /// A watch on the file system of `path`, which must exist when it is checked.
    pub fn new(path: &Path, reserve: DiskReserve) -> DiskWatch {
        DiskWatch { path: path.to_owned(), reserve, accepting: AtomicBool::new(true) }
    }

    /// Asks the system and decides; remembers the decision for the next call and for [`accepting`](Self::accepting).
    pub fn check(&self) -> io::Result<DiskState> {
        let stat = rustix::fs::statvfs(&self.path)?;
        let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        let total_bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
        let state = decide(self.reserve, free_bytes, total_bytes, self.accepting.load(Ordering::Acquire));
        self.accepting.store(state.accepting, Ordering::Release);
        Ok(state)
    }

    /// The last decision, without asking the system: what every write looks at.
    pub fn accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;
    const GIB: u64 = 1024 * MIB;

    #[test]
    fn the_larger_reserve_counts() {
        let small = decide(DiskReserve::default(), GIB, 4 * GIB, true);
        assert_eq!(small.reserve_bytes, 256 * MIB);
        let large = decide(DiskReserve::default(), GIB, 1000 * GIB, true);
        assert_eq!(large.reserve_bytes, 20 * GIB);
        assert!(small.accepting);
        assert!(!large.accepting);
    }

    #[test]
    fn writes_resume_only_with_a_margin() {
        let reserve = DiskReserve { bytes: 100 * MIB, percent: 0 };
        assert!(decide(reserve, 101 * MIB, GIB, true).accepting);
        assert!(!decide(reserve, 100 * MIB, GIB, true).accepting);
        assert!(!decide(reserve, 105 * MIB, GIB, false).accepting, "inside the margin nothing changes");
        assert!(decide(reserve, 105 * MIB, GIB, true).accepting, "nor in the other direction");
        assert!(decide(reserve, 111 * MIB, GIB, false).accepting);
    }

    #[test]
    fn a_real_disk_is_read_and_the_decision_kept() {
        let dir = tempfile::tempdir().unwrap();
        let watch = DiskWatch::new(dir.path(), DiskReserve { bytes: 0, percent: 0 });
        let state = watch.check().unwrap();
        assert!(state.total_bytes >= state.free_bytes && state.free_bytes > 0);
        assert!(state.accepting && watch.accepting());

        let full = DiskWatch::new(dir.path(), DiskReserve { bytes: u64::MAX, percent: 0 });
        assert!(!full.check().unwrap().accepting);
        assert!(!full.accepting());
        assert!(DiskWatch::new(&dir.path().join("none"), DiskReserve::default()).check().is_err());
    }

    proptest! {
        #[test]
        fn more_room_never_turns_a_yes_into_a_no(
            bytes: u64, percent in 0_u64..200, total: u64, free: u64, more: u64, before: bool
        ) {
            let reserve = DiskReserve { bytes, percent };
            let less = decide(reserve, free, total, before);
            let roomier = decide(reserve, free.saturating_add(more), total, before);
            prop_assert!(!less.accepting || roomier.accepting);
            prop_assert!(!less.accepting || free > less.reserve_bytes);
        }
    }
}

//! Cutting a log: at every record, interrupted at every step, on failing disks. What is at or below the cut stays.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::super::cut::cut_after_on;
use super::disk::{Disk, SystemDisk};
use super::failing::{Faulty, RESERVE};
use super::ship::{batches, build};
use super::*;
use crate::limits::LOG_FRAME_ENTRIES_MAX;

/// The entries that take the place of a cut tail: other texts, of a later epoch.
fn others(first: u64, count: u64) -> Vec<Entry> {
    entries(first..=first + count - 1, 33).into_iter().map(|e| Entry { epoch: 900 << 16, ..e }).collect()
}

/// Opens a log that was cut, which must hold `kept`, writes on, and verifies it.
fn check_goes_on(dir: &Path, kept: &[Entry], position: LogPosition) {
    let (mut writer, report) = open(dir);
    assert_eq!((writer.position(), report.cut_tail), (position, None));
    let first = writer.reader().first_index();
    assert_eq!(read_all(&writer.reader()), kept);
    let tail = others(position.index + 1, 40);
    for batch in tail.chunks(3) {
        writer.append(batch).unwrap();
    }
    drop(writer);
    let report = verified(dir);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.torn_tail, report.first_index), (None, Some(first)));
    assert_eq!(read_all(&open(dir).0.reader()), [kept, &tail].concat());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_cut_after_any_record(batches in batches(22)) {
        let dir = tempfile::tempdir().unwrap();
        let (reader, all) = build(dir.path(), &batches);
        let (positions, end) = (positions(&all), all.len() as u64);
        for index in 0..=end {
            let image = copy_dir(dir.path());
            let report = cut_after(&options(image.path()), index).unwrap();
            prop_assert_eq!((report.before, report.after), (positions[end as usize], positions[index as usize]));
            prop_assert_eq!(report.rewritten.is_none() && report.removed.is_empty(), index == end);
            let again = cut_after(&options(image.path()), index).unwrap();
            prop_assert_eq!((again.removed.len(), again.rewritten), (0, None), "the second time there is nothing to do");
            check_goes_on(image.path(), &all[..index as usize], positions[index as usize]);
        }
        prop_assert_eq!(reader.last_durable_index(), end);
    }
}

#[test]
fn a_log_that_begins_after_a_snapshot_is_cut_to_nothing_and_keeps_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let before = LogPosition { index: 900, epoch: 7 << 16, hlc: Hlc(900 << 16), chain: [9; 32] };
    let mut writer = LogWriter::create_after(options(dir.path()), before).unwrap();
    for index in 0..30 {
        writer
            .append(&entries(901 + index * 3..=903 + index * 3, 200).into_iter().map(late).collect::<Vec<_>>())
            .unwrap();
    }
    assert!(writer.segments().len() > 3);
    drop(writer);
    assert_eq!(cut_after(&options(dir.path()), 899).unwrap_err().code(), "log_index_not_present");
    let report = cut_after(&options(dir.path()), 900).unwrap();
    assert_eq!((report.after, report.rewritten), (before, Some(files(dir.path()).remove(0))));
    assert_eq!(files(dir.path()).len(), 1);
    check_goes_on(dir.path(), &[], before);
}

fn late(entry: Entry) -> Entry {
    Entry { epoch: 8 << 16, ..entry }
}

#[test]
fn a_trimmed_log_is_cut_to_its_first_index_at_the_lowest() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 60);
    let (mut writer, _) = open(dir.path());
    writer.trim_below(100).unwrap();
    let first = writer.reader().first_index();
    assert!(first > 1);
    drop(writer);
    assert_eq!(cut_after(&options(dir.path()), first - 2).unwrap_err().code(), "log_index_not_present");
    cut_after(&options(dir.path()), first - 1).unwrap();
    check_goes_on(dir.path(), &[], positions(&all)[first as usize - 1]);
}

#[test]
fn a_cut_that_cannot_be_made_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 60);
    let before: Vec<Vec<u8>> = files(dir.path()).iter().map(|path| std::fs::read(path).unwrap()).collect();
    let unchanged = || files(dir.path()).iter().map(|path| std::fs::read(path).unwrap()).eq(before.iter().cloned());
    let code = |options: &LogOptions, index| cut_after(options, index).unwrap_err().code();
    let here = options(dir.path());
    assert_eq!(code(&here, all.len() as u64 + 1), "log_index_not_present");
    assert_eq!(code(&LogOptions { cluster: [3; 16], ..here.clone() }, 5), "log_wrong_cluster");
    let (writer, _) = open(dir.path());
    assert_eq!(code(&here, 5), "log_locked");
    drop(writer);
    assert_eq!(code(&LogOptions { dir: dir.path().join("none"), ..here.clone() }, 0), "log_io");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(code(&options(empty.path()), 0), "log_index_not_present");
    // Damage in the part that stays: cutting would be no repair.
    let names = files(dir.path());
    flip(&names[1], 300);
    let index = segment::list(dir.path()).unwrap().segments[2].first_index - 2;
    assert_eq!(code(&here, index), "log_corrupt");
    flip(&names[1], 300);
    assert!(unchanged());
}

#[test]
fn a_torn_tail_goes_with_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 3);
    let end = open(dir.path()).0.segments()[0].bytes;
    let file = OpenOptions::new().write(true).open(&files(dir.path())[0]).unwrap();
    file.write_all_at(&[0xee; 200], end - 20).unwrap();
    let report = cut_after(&options(dir.path()), 5).unwrap();
    assert_eq!((report.before.index, report.after.index), (6, 5), "the torn write was no part of the log");
    check_goes_on(dir.path(), &all[..5], positions(&all)[5]);
}

#[test]
fn a_cut_through_a_write_of_several_frames_leaves_one_that_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let count = LOG_FRAME_ENTRIES_MAX as u64;
    let all = entries(1..=count * 2 + 100, 2);
    writer.append(&all).unwrap();
    drop(writer);
    let positions = positions(&all);
    for index in [5, count - 1, count, count + 1, count + 700, count * 2, count * 2 + 1] {
        let image = copy_dir(dir.path());
        cut_after(&options(image.path()), index).unwrap();
        let roomy = LogOptions { segment_bytes: 1 << 20, ..options(image.path()) };
        let (mut writer, _) = LogWriter::open(roomy).unwrap();
        let end = writer.segments().last().unwrap().bytes;
        writer.append(&others(index + 1, 4)).unwrap();
        drop(writer);
        // The write after the cut is torn: it goes, and nothing else.
        let path = files(image.path()).pop().unwrap();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        disk::write_zeros(&file, end + 30, end + 40).unwrap();
        let (writer, report) = open(image.path());
        assert_eq!(report.cut_tail.map(|cut| cut.offset), Some(end));
        assert_eq!(writer.position(), positions[index as usize]);
        drop(writer);
        check_goes_on(image.path(), &all[..index as usize], positions[index as usize]);
    }
}

/// A disk that goes away at its nth operation, in the middle of it if that is a write. Keeps what the last change to the
/// directory that is not durable yet replaced.
struct Stopping {
    left: AtomicU64,
    /// The path that was changed, and what it was.
    undo: Mutex<Option<(PathBuf, Vec<u8>)>>,
}

impl Stopping {
    fn after(operations: u64) -> Self {
        Self { left: AtomicU64::new(operations), undo: Mutex::new(None) }
    }

    fn step(&self) -> io::Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(|_| ()).map_err(|_| io::Error::other("the process is gone"))
    }

    fn remember(&self, path: &Path) -> io::Result<()> {
        *self.undo.lock() = Some((path.to_path_buf(), std::fs::read(path)?));
        Ok(())
    }
}

impl Disk for Stopping {
    fn reserve(&self, file: &File, length: u64) -> io::Result<()> {
        self.step()?;
        SystemDisk.reserve(file, length)
    }
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.step() {
            SystemDisk.write_at(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        SystemDisk.write_at(file, bytes, offset)
    }
    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.step()?;
        SystemDisk.sync_data(file)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        self.remember(to)?;
        SystemDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.remember(path)?;
        SystemDisk.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        *self.undo.lock() = None;
        SystemDisk.sync_dir(path)
    }
}

#[test]
fn a_cut_that_is_interrupted_at_any_step_leaves_a_log_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 60);
    let (positions, segments) = (positions(&all), open(dir.path()).0.segments());
    assert!(segments.len() > 4);
    // In the middle of a frame, at its end, at the end of a segment, at the beginning of the log.
    let mut images = 0;
    for index in [segments[1].first + 1, segments[1].first + 2, segments[1].last, 0] {
        let mut finished = false;
        for steps in 0.. {
            let image = copy_dir(dir.path());
            let disk = Stopping::after(steps);
            finished = cut_after_on(&options(image.path()), index, &disk).is_ok();
            if finished {
                break;
            }
            // A killed process leaves what it did; a machine without power may have forgotten the last change.
            let without_power = copy_dir(image.path());
            if let Some((path, content)) = disk.undo.lock().take() {
                std::fs::write(without_power.path().join(path.file_name().unwrap()), content).unwrap();
            }
            for image in [image, without_power] {
                images += 1;
                let again = copy_dir(image.path());
                let (writer, report) = open(image.path());
                let end = writer.last_index();
                assert!((index..=all.len() as u64).contains(&end) && report.cut_tail.is_none(), "step {steps}: {end}");
                drop(writer);
                check_goes_on(image.path(), &all[..end as usize], positions[end as usize]);
                cut_after(&options(again.path()), index).unwrap();
                check_goes_on(again.path(), &all[..index as usize], positions[index as usize]);
            }
        }
        assert!(finished);
    }
    assert!(images > 60, "only {images} images were looked at");
}

#[test]
fn a_cut_on_a_full_disk_can_be_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 60);
    let (positions, segments) = (positions(&all), open(dir.path()).0.segments());
    let (index, faulty) = (segments[1].first + 1, Faulty::default());
    faulty.fail(RESERVE);
    for _ in 0..2 {
        assert!(cut_after_on(&options(dir.path()), index, &faulty).unwrap_err().is_disk_full());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing half-made keeps the disk full");
    }
    let image = copy_dir(dir.path());
    let end = segments[1].last as usize;
    check_goes_on(image.path(), &all[..end], positions[end]);
    faulty.fail(0);
    cut_after_on(&options(dir.path()), index, &faulty).unwrap();
    check_goes_on(dir.path(), &all[..index as usize], positions[index as usize]);
}

//! A disk that fails: everything after an error is refused, and a full disk changes nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::{Disk, SystemDisk};
use super::*;
use crate::limits::LOG_PAYLOAD_BYTES_MAX;

/// Fails one operation on demand, with the error that the system's own `/dev/full` gives.
#[derive(Clone, Default)]
pub(super) struct Faulty(Arc<AtomicU64>);

pub(super) const RESERVE: u64 = 1;
pub(super) const WRITE: u64 = 2;
pub(super) const SYNC: u64 = 4;

impl Faulty {
    pub(super) fn fail(&self, operations: u64) {
        self.0.store(operations, Ordering::SeqCst);
    }

    fn check(&self, operation: u64) -> io::Result<()> {
        if self.0.load(Ordering::SeqCst) & operation == 0 {
            return Ok(());
        }
        OpenOptions::new().write(true).open("/dev/full")?.write_all_at(b"x", 0)
    }
}

impl Disk for Faulty {
    fn reserve(&self, file: &File, length: u64) -> io::Result<()> {
        self.check(RESERVE)?;
        SystemDisk.reserve(file, length)
    }
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check(WRITE)?;
        SystemDisk.write_at(file, bytes, offset)
    }
    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.check(SYNC)?;
        SystemDisk.sync_data(file)
    }
}

pub(super) fn open_faulty(dir: &Path) -> (LogWriter, Faulty) {
    let faulty = Faulty::default();
    let disk = Box::new(faulty.clone());
    (LogWriter::open_on(options(dir), LogPosition::default(), disk).unwrap().0, faulty)
}

#[test]
fn after_a_failed_write_or_fsync_nothing_is_written_any_more() {
    for operation in [WRITE, SYNC] {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, faulty) = open_faulty(dir.path());
        writer.append(&entries(1..=2, 50)).unwrap();
        let position = writer.position();
        faulty.fail(operation);
        let error = writer.append(&entries(3..=4, 50)).unwrap_err();
        assert_eq!(error.code(), "log_io");
        assert!(std::error::Error::source(&error).is_some());
        faulty.fail(0);
        let bytes = std::fs::read(&files(dir.path())[0]).unwrap();
        assert_eq!(writer.append(&entries(3..=4, 50)).unwrap_err().code(), "log_poisoned");
        assert_eq!(writer.append(&[]).unwrap_err().code(), "log_poisoned");
        assert_eq!(writer.trim_below(9).unwrap_err().code(), "log_poisoned");
        assert_eq!(std::fs::read(&files(dir.path())[0]).unwrap(), bytes);
        assert_eq!((writer.position(), writer.reader().last_durable_index()), (position, 2));
        assert_eq!(read_all(&writer.reader()), entries(1..=2, 50));
    }
}

#[test]
fn a_failed_seal_stops_the_writer_and_the_log_reopens() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, faulty) = open_faulty(dir.path());
    while writer.bytes_until_new_segment() > 400 {
        writer.append(&[entry(writer.last_index() + 1, 200)]).unwrap();
    }
    let last = writer.last_index();
    faulty.fail(SYNC);
    assert_eq!(writer.append(&[entry(last + 1, 3000)]).unwrap_err().code(), "log_io");
    assert_eq!(writer.append(&[entry(last + 1, 1)]).unwrap_err().code(), "log_poisoned");
    drop(writer);
    let (writer, report) = open(dir.path());
    assert_eq!((report.temporaries_removed, report.unfinished_seal), (1, true));
    assert_eq!(read_all(&writer.reader()), entries(1..=last, 200));
}

#[test]
fn a_full_disk_changes_nothing_and_the_same_append_works_later() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, faulty) = open_faulty(dir.path());
    while writer.bytes_until_new_segment() > 900 {
        writer.append(&[entry(writer.last_index() + 1, 200)]).unwrap();
    }
    let (last, before) = (writer.last_index(), writer.segments());
    faulty.fail(RESERVE);
    for _ in 0..2 {
        let error = writer.append(&[entry(last + 1, 3000)]).unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        assert_eq!((writer.last_index(), writer.segments()), (last, before.clone()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half-made keeps the disk full");
    }
    // What still fits goes on.
    writer.append(&[entry(last + 1, 200)]).unwrap();
    faulty.fail(0);
    writer.append(&[entry(last + 2, 3000)]).unwrap();
    assert_eq!(writer.segments().len(), 2);
    assert!(verified(dir.path()).is_clean());
    assert_eq!(read_all(&writer.reader()).len() as u64, last + 2);
}

#[test]
fn a_log_opens_for_reading_on_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 60);
    let names = files(dir.path());
    // The last segment is sealed, so that opening wants a new one.
    let last = names.len() - 1;
    std::fs::remove_file(&names[last]).unwrap();
    let faulty = Faulty::default();
    faulty.fail(RESERVE);
    let disk = Box::new(faulty.clone());
    let (mut writer, _) = LogWriter::open_on(options(dir.path()), LogPosition::default(), disk).unwrap();
    let end = writer.last_index();
    assert_eq!(writer.bytes_until_new_segment(), 0);
    assert_eq!(read_all(&writer.reader()), all[..end as usize]);
    assert!(writer.append(&[entry(end + 1, 10)]).unwrap_err().is_disk_full());
    writer.trim_below(u64::MAX).unwrap();
    assert_eq!(files(dir.path()).len(), 1, "the end of the log is never trimmed away");
    faulty.fail(0);
    writer.append(&[entry(end + 1, 10)]).unwrap();
    assert!(verified(dir.path()).is_clean());
}

#[test]
fn a_log_that_was_copied_without_its_reserve_can_be_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(&entries(1..=3, 100)).unwrap();
    let info = writer.segments().remove(0);
    drop(writer);
    OpenOptions::new().write(true).open(&info.path).unwrap().set_len(info.bytes).unwrap();
    let faulty = Faulty::default();
    faulty.fail(RESERVE);
    let disk = Box::new(faulty.clone());
    let (mut writer, _) = LogWriter::open_on(options(dir.path()), LogPosition::default(), disk).unwrap();
    assert!(writer.append(&[entry(4, 10)]).unwrap_err().is_disk_full());
    faulty.fail(0);
    writer.append(&[entry(4, 10)]).unwrap();
    assert_eq!(writer.segments().len(), 2);
    assert!(verified(dir.path()).is_clean());
}

#[test]
fn entries_that_do_not_continue_the_log_are_refused() {
    let ok = entry(3, 10);
    let other = Origin { site: 0, node: 2 };
    let wrong = [
        (Entry { index: 4, ..ok.clone() }, "index does not follow"),
        (Entry { index: 2, ..ok.clone() }, "index does not follow"),
        (Entry { epoch: 1, ..ok.clone() }, "epoch is lower"),
        (Entry { hlc: Hlc(2 << 16), ..ok.clone() }, "clock reading does not grow"),
        (Entry { erased: true, ..ok.clone() }, "without its payload's hash"),
        (entry(3, LOG_PAYLOAD_BYTES_MAX + 1), "larger than the log takes"),
    ];
    for (bad, why) in wrong {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, _) = open(dir.path());
        writer.append(&entries(1..=2, 10)).unwrap();
        let error = writer.append(&[bad]).unwrap_err();
        assert_eq!(error.code(), "log_entry_rejected");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(writer.append(std::slice::from_ref(&ok)).unwrap_err().code(), "log_poisoned");
        drop(writer);
        // The other node's clock may be behind.
        let (mut writer, _) = open(dir.path());
        writer.append(&[Entry { hlc: Hlc(1), origin: other, ..ok.clone() }]).unwrap();
        assert_eq!(writer.last_hlc(), Hlc(2 << 16), "the highest reading of any origin");
    }
}

//! Tests of the log on real files: round trips, crash images, damage, failing disks, the pinned format, two logs.

mod archive;
mod crash;
mod cut;
mod damage;
mod export;
mod failing;
mod follow;
mod format;
mod measure;
mod receive;
mod round_trip;
mod ship;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::core::entry::{Entry, EntryKind, Origin};
use crate::core::ids::Hlc;

const CLUSTER: [u8; 16] = *b"cluster-of-tests";
/// Small, so that a test sees several segments.
const SMALL_SEGMENT: u64 = 4096;

fn options(dir: &Path) -> LogOptions {
    LogOptions { dir: dir.to_path_buf(), cluster: CLUSTER, segment_bytes: SMALL_SEGMENT }
}

fn open(dir: &Path) -> (LogWriter, RecoveryReport) {
    LogWriter::open(options(dir)).unwrap()
}

fn open_err(dir: &Path) -> LogError {
    LogWriter::open(options(dir)).err().expect("opening is refused")
}

/// An entry whose payload is text-like: it compresses, but not to nothing.
fn entry(index: u64, payload_bytes: usize) -> Entry {
    let mut payload = Vec::with_capacity(payload_bytes);
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while payload.len() < payload_bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        payload.push(b' ' + (state >> 58) as u8);
    }
    Entry {
        index,
        epoch: 1 << 16,
        hlc: Hlc(index << 16),
        origin: Origin { site: 0, node: 1 },
        kind: EntryKind::Command,
        payload: Bytes::from(payload),
        erased: false,
    }
}

fn entries(range: std::ops::RangeInclusive<u64>, payload_bytes: usize) -> Vec<Entry> {
    range.map(|index| entry(index, payload_bytes)).collect()
}

/// Entries with these payload sizes, of several origins and epochs; clocks of different origins do not run in step.
fn mixed(first: u64, sizes: &[usize]) -> Vec<Entry> {
    (first..)
        .zip(sizes)
        .map(|(index, size)| {
            let node = 1 + (index.wrapping_mul(0x9e37_79b9) >> 7) as u16 % 3;
            let hlc = Hlc((index << 16) + (u64::from(node) << 20));
            Entry { origin: Origin { site: node % 2, node }, hlc, epoch: (index / 25) << 16, ..entry(index, *size) }
        })
        .collect()
}

/// The positions before the first entry and after each.
fn positions(entries: &[Entry]) -> Vec<LogPosition> {
    let mut tracker = frame::Tracker::default();
    let mut positions = vec![tracker.at];
    for entry in entries {
        tracker.advance(entry, blake3::hash(&entry.payload).as_bytes()).unwrap();
        positions.push(tracker.at);
    }
    positions
}

/// All that a log has to ship from `index` on, in pieces of this size.
fn shipped(reader: &LogReader, index: u64, bytes_max: usize) -> Vec<Shipment> {
    let mut shipments = reader.shipments_from(index).unwrap();
    std::iter::from_fn(|| shipments.next_batch(bytes_max).unwrap()).collect()
}

fn read_all(reader: &LogReader) -> Vec<Entry> {
    reader.read_from(reader.first_index()).unwrap().collect::<Result<_, _>>().unwrap()
}

fn verified(dir: &Path) -> VerifyReport {
    verify(dir, &mut |_| {}).unwrap()
}

/// Segment files, lowest first.
fn files(dir: &Path) -> Vec<PathBuf> {
    segment::list(dir).unwrap().segments.into_iter().map(|name| name.path).collect()
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn copy_dir(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        std::fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

fn length(path: &Path) -> u64 {
    File::open(path).unwrap().metadata().unwrap().len()
}

/// A log of several segments with three entries per append. Returns its entries.
fn fill(dir: &Path, appends: u64) -> Vec<Entry> {
    let (mut writer, _) = open(dir);
    let mut all = Vec::new();
    for number in 0..appends {
        let batch = entries(number * 3 + 1..=number * 3 + 3, 200);
        writer.append(&batch).unwrap();
        all.extend(batch);
    }
    all
}

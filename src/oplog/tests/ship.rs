//! One log handed to another as frames: from every index, in pieces of any size, across segments and trims.

use proptest::prelude::*;

use super::*;
use crate::limits::{LOG_FRAME_ENTRIES_MAX, LOG_PAYLOAD_BYTES_MAX};

/// A log made of these batches, reopened after those that say so. Returns its reader and its entries.
pub(super) fn build(dir: &Path, batches: &[(Vec<usize>, bool)]) -> (LogReader, Vec<Entry>) {
    let (mut writer, _) = open(dir);
    let mut all = Vec::new();
    for (sizes, reopen) in batches {
        let batch = mixed(all.len() as u64 + 1, sizes);
        writer.append(&batch).unwrap();
        all.extend(batch);
        if *reopen {
            drop(writer);
            writer = open(dir).0;
        }
    }
    (writer.reader(), all)
}

/// Batches of payload sizes, with the batches after which the log is reopened.
pub(super) fn batches(most: usize) -> impl Strategy<Value = Vec<(Vec<usize>, bool)>> {
    prop::collection::vec((prop::collection::vec(0_usize..700, 0..9), prop::bool::weighted(0.1)), 1..most)
}

/// A log that goes on after a position.
fn log_after(dir: &Path, before: LogPosition) -> LogWriter {
    if before.index == 0 { open(dir).0 } else { LogWriter::create_after(options(dir), before).unwrap() }
}

/// Ships everything from `start` on into a second log, several pieces as one write, and holds the two logs against each
/// other.
fn check_copy((reader, all): (&LogReader, &[Entry]), start: u64, (bytes_max, coalesce): (usize, usize)) {
    let positions = positions(all);
    let dir = tempfile::tempdir().unwrap();
    let mut copy = log_after(dir.path(), positions[start as usize - 1]);
    let pieces = shipped(reader, start, bytes_max);
    let mut next = start;
    for piece in &pieces {
        let summary = summarize(&piece.frames).unwrap();
        assert_eq!((piece.first, piece.last), (next, summary.last));
        assert_eq!((summary.first, piece.last_epoch), (next, all[piece.last as usize - 1].epoch));
        assert!(piece.frames.len() <= bytes_max || summary.frames == 1, "one frame or within the bound");
        next = piece.last + 1;
    }
    assert_eq!(next, all.len() as u64 + 1);
    let mut taken = Vec::new();
    for group in pieces.chunks(coalesce) {
        let frames: Vec<Bytes> = group.iter().map(|piece| piece.frames.clone()).collect();
        let received = copy.append_received(&frames).unwrap();
        taken.extend(received.entries);
        assert_eq!(received.appended.after, positions[group.last().unwrap().last as usize]);
        assert_eq!(received.appended.after, copy.position());
    }
    assert_eq!(taken, all[start as usize - 1..]);
    assert_eq!(read_all(&copy.reader()), taken);
    assert_eq!(copy.position(), *positions.last().unwrap());
    let report = verified(dir.path());
    assert!(report.is_clean(), "{:?}", report.findings);
    drop(copy);
    let (copy, report) = open(dir.path());
    assert_eq!((copy.position(), report.cut_tail), (*positions.last().unwrap(), None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn a_log_shipped_from_any_index_is_the_same_log(
        batches in batches(22), limits in prop::collection::vec((1_usize..6_000, 1_usize..6), 200),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (reader, all) = build(dir.path(), &batches);
        for start in 1..=all.len() as u64 + 1 {
            check_copy((&reader, &all), start, limits[start as usize % limits.len()]);
        }
    }

    #[test]
    fn positions_are_told_for_every_record(batches in batches(30)) {
        let dir = tempfile::tempdir().unwrap();
        let (reader, all) = build(dir.path(), &batches);
        for (index, position) in positions(&all).into_iter().enumerate() {
            let expected = RecordPosition { index: index as u64, epoch: position.epoch, chain: position.chain };
            prop_assert_eq!(reader.position_at(index as u64).unwrap(), expected);
        }
        prop_assert_eq!(reader.position_at(all.len() as u64 + 1).unwrap_err().code(), "log_index_not_present");
        prop_assert_eq!(reader.position_at(u64::MAX).unwrap_err().code(), "log_index_not_present");
    }
}

#[test]
fn writes_of_several_frames_are_shipped_in_parts_and_from_inside() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let count = LOG_FRAME_ENTRIES_MAX as u64;
    let mut all = entries(1..=3, 100);
    writer.append(&all).unwrap();
    let batch = entries(4..=count * 2 + 50, 3);
    writer.append(&batch).unwrap();
    all.extend(batch);
    let big = entries(all.len() as u64 + 1..=all.len() as u64 + 6, LOG_PAYLOAD_BYTES_MAX);
    writer.append(&big).unwrap();
    all.extend(big);
    let reader = writer.reader();
    for start in [1, 2, 4, 5, count + 3, count + 4, count + 5, count * 2, count * 2 + 50, count * 2 + 52] {
        check_copy((&reader, &all), start, (1, 1));
        check_copy((&reader, &all), start, (usize::MAX, 9));
    }
}

#[test]
fn whole_frames_are_handed_out_as_they_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let stored: Vec<Bytes> =
        (0..6).map(|number| writer.append(&entries(number * 3 + 1..=number * 3 + 3, 200)).unwrap().frames).collect();
    assert!(writer.segments().len() == 1);
    let pieces = shipped(&writer.reader(), 1, usize::MAX);
    assert_eq!(pieces.len(), 1);
    assert_eq!(pieces[0].frames, stored.concat());
    let pieces = shipped(&writer.reader(), 5, usize::MAX);
    assert_eq!((pieces.len(), pieces[0].first, pieces[0].last), (2, 5, 6));
    assert_eq!(pieces[1].frames, stored[2..].concat());
    let two = stored[0].len() + stored[1].len();
    for bytes_max in [two - 1, two, two + 1] {
        let pieces = shipped(&writer.reader(), 1, bytes_max);
        assert_eq!(pieces[0].frames, stored[..if bytes_max < two { 1 } else { 2 }].concat());
    }
}

#[test]
fn what_is_not_in_the_log_is_said_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 60);
    let (mut writer, _) = open(dir.path());
    let (reader, segments) = (writer.reader(), writer.segments());
    let end = all.len() as u64;
    for index in [0, end + 2, u64::MAX] {
        assert_eq!(reader.shipments_from(index).err().unwrap().code(), "log_index_not_present");
    }
    let mut at_end = reader.shipments_from(end + 1).unwrap();
    assert_eq!(at_end.next_batch(1000).unwrap(), None);
    let mut unread = reader.shipments_from(1).unwrap();
    let mut inside = reader.shipments_from(1).unwrap();
    assert_eq!(inside.next_batch(1).unwrap().unwrap().last, 3);
    let mut later = reader.shipments_from(segments[2].first).unwrap();
    writer.trim_below(segments[2].first).unwrap();
    for trimmed in [&mut unread, &mut inside] {
        for _ in 0..2 {
            assert_eq!(trimmed.next_batch(1000).unwrap_err().code(), "log_index_not_present");
        }
    }
    assert_eq!(reader.shipments_from(1).err().unwrap().code(), "log_index_not_present");
    assert_eq!(reader.position_at(1).unwrap_err().code(), "log_index_not_present");
    let before = reader.position_at(segments[2].first - 1).unwrap();
    assert_eq!(before.chain, positions(&all)[segments[2].first as usize - 1].chain);
    assert_eq!(later.next_batch(1).unwrap().unwrap().first, segments[2].first);
    writer.append(&[entry(end + 1, 10)]).unwrap();
    assert_eq!(at_end.next_batch(1000).unwrap().unwrap().last, end + 1);
}

#[test]
fn damage_is_not_shipped() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(&entries(1..=2, 60)).unwrap();
    let start = writer.segments()[0].bytes;
    writer.append(&entries(3..=4, 60)).unwrap();
    let end = writer.segments()[0].bytes;
    let path = files(dir.path()).remove(0);
    for offset in start..end {
        flip(&path, offset);
        for (index, bytes_max) in [(1, 1), (3, 1), (4, 1000)] {
            let mut shipments = writer.reader().shipments_from(index).unwrap();
            let error = std::iter::from_fn(|| shipments.next_batch(bytes_max).transpose()).find_map(Result::err);
            let Some(LogError::Corrupt { place, .. }) = error else { panic!("byte {offset}: {error:?}") };
            assert_eq!((place.offset, place.index), (start, 3), "byte {offset}");
            assert_eq!(shipments.next_batch(bytes_max).unwrap_err().code(), "log_corrupt", "it does not step over it");
        }
        flip(&path, offset);
    }
}

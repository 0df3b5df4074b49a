//! What is appended is read again: by the same process, after a reopen, beside the writer, after trimming.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::segment::{SegmentFooter, list};
use super::*;
use crate::limits::{LOG_FRAME_ENTRIES_MAX, LOG_PAYLOAD_BYTES_MAX, LOG_SPARSE_INDEX_BYTES};

#[test]
fn an_empty_directory_becomes_an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, report) = open(&dir.path().join("log"));
    assert!(report.created);
    assert_eq!(report.segments, 1);
    assert_eq!((writer.last_index(), writer.last_epoch(), writer.chain_hash()), (0, 0, [0; 32]));
    let reader = writer.reader();
    assert_eq!((reader.first_index(), reader.last_durable_index()), (1, 0));
    assert!(read_all(&reader).is_empty());
    assert_eq!(reader.chain_hash_at(0).unwrap(), [0; 32]);
    assert_eq!(reader.chain_hash_at(1).unwrap_err().code(), "log_index_not_present");
    drop(writer);
    let (_, report) = open(&dir.path().join("log"));
    assert!(!report.created);
    assert_eq!(verified(&dir.path().join("log")).segments, 1);
}

/// Batches of payload sizes, with the batches after which the log is reopened.
fn batches() -> impl Strategy<Value = Vec<(Vec<usize>, bool)>> {
    prop::collection::vec((prop::collection::vec(0_usize..700, 0..12), prop::bool::weighted(0.2)), 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_batches_survive_reopening(batches in batches(), origins in prop::collection::vec(1_u16..4, 300)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, _) = open(dir.path());
        let mut expected = Vec::new();
        for (sizes, reopen) in batches {
            let batch: Vec<Entry> = sizes.iter().enumerate().map(|(at, size)| {
                let index = (expected.len() + at) as u64 + 1;
                let node = origins[index as usize % origins.len()];
                // Clocks of different origins do not run in step.
                let hlc = Hlc((index << 16) + (u64::from(node) << 18));
                Entry { origin: Origin { site: node % 2, node }, hlc, epoch: index / 20, ..entry(index, *size) }
            }).collect();
            let appended = writer.append(&batch).unwrap();
            expected.extend(batch);
            prop_assert_eq!(appended.after.index, expected.len() as u64);
            if reopen {
                let position = writer.position();
                drop(writer);
                let (again, report) = open(dir.path());
                prop_assert_eq!(again.position(), position);
                prop_assert_eq!(report.cut_tail, None);
                writer = again;
            }
        }
        let reader = writer.reader();
        prop_assert_eq!(&read_all(&reader), &expected);
        for start in (1..=expected.len() as u64 + 1).step_by(7) {
            let tail: Vec<Entry> = reader.read_from(start).unwrap().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(&tail[..], &expected[start as usize - 1..]);
        }
        let report = verified(dir.path());
        prop_assert!(report.is_clean(), "{:?}", report.findings);
        prop_assert_eq!((report.entries, report.torn_tail), (expected.len() as u64, None));
        prop_assert_eq!(report.last, Some(writer.position()));
        let dumped: Vec<Entry> = dump(dir.path(), 0).unwrap().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&dumped, &expected);
    }
}

#[test]
fn appended_bytes_are_the_bytes_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let first = writer.append(&entries(1..=3, 100)).unwrap();
    let second = writer.append(&entries(4..=4, 100)).unwrap();
    let bytes = std::fs::read(&files(dir.path())[0]).unwrap();
    let start = segment::SEGMENT_HEADER_BYTES;
    let middle = start + first.frames.len();
    assert_eq!(bytes[start..middle], first.frames);
    assert_eq!(bytes[middle..middle + second.frames.len()], second.frames);
    assert_eq!(second.after, writer.position());
    assert_eq!(writer.segments()[0].bytes, (middle + second.frames.len()) as u64);
    assert!(writer.append(&[]).unwrap().frames.is_empty());
}

#[test]
fn chat_messages_take_less_than_their_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let words = ["meeting", "tomorrow", "the", "server", "deploy", "is", "ready", "please", "check", "again"];
    let batch: Vec<Entry> = (1..=64_u64)
        .map(|index| {
            let text: Vec<&str> = (0..25).map(|at| words[(index * 7 + at * at) as usize % words.len()]).collect();
            Entry { payload: Bytes::from(text.join(" ")), ..entry(index, 0) }
        })
        .collect();
    let bodies: usize = batch.iter().map(|entry| entry.payload.len()).sum();
    assert!(writer.append(&batch).unwrap().frames.len() < bodies);
    assert_eq!(read_all(&writer.reader()), batch);
}

#[test]
fn incompressible_payloads_are_stored_raw() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let mut payload = vec![0; 2000];
    blake3::Hasher::new().finalize_xof().fill(&mut payload);
    let noise = Entry { payload: Bytes::from(payload), ..entry(1, 0) };
    let appended = writer.append(std::slice::from_ref(&noise)).unwrap();
    assert!(appended.frames.len() < 2000 + frame::HEADER_BYTES + frame::ENTRY_OVERHEAD_BYTES);
    assert_eq!(read_all(&writer.reader()), [noise]);
}

#[test]
fn a_large_append_is_one_write_of_several_frames() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let count = LOG_FRAME_ENTRIES_MAX as u64 * 2 + 5;
    let batch = entries(1..=count, 30);
    writer.append(&batch).unwrap();
    let big = entries(count + 1..=count + 6, LOG_PAYLOAD_BYTES_MAX);
    writer.append(&big).unwrap();
    let report = verified(dir.path());
    assert!(report.is_clean());
    assert_eq!((report.frames, report.entries, report.segments), (5, count + 6, 2));
    drop(writer);
    let (writer, report) = open(dir.path());
    assert_eq!(report.cut_tail, None);
    assert_eq!(read_all(&writer.reader()), [batch, big].concat());
}

#[test]
fn the_sparse_index_leads_to_every_entry() {
    let dir = tempfile::tempdir().unwrap();
    let big = LogOptions { segment_bytes: LOG_SPARSE_INDEX_BYTES * 5, ..options(dir.path()) };
    let (mut writer, _) = LogWriter::open(big).unwrap();
    let mut chains = Vec::new();
    for index in 1..=400 {
        chains.push(writer.append(&[entry(index, 3000)]).unwrap().after.chain);
    }
    assert!(writer.segments().len() > 1, "both a sealed and an active segment are searched");
    let reader = writer.reader();
    for index in (1..=400).step_by(13) {
        assert_eq!(reader.read_from(index).unwrap().next().unwrap().unwrap(), entry(index, 3000));
        assert_eq!(reader.chain_hash_at(index).unwrap(), chains[index as usize - 1]);
    }
    assert_eq!(reader.read_from(402).err().unwrap().code(), "log_index_not_present");
    assert!(verified(dir.path()).is_clean());
}

#[test]
fn a_reader_beside_the_writer_sees_only_whole_durable_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let reader = writer.reader();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..150 {
                writer.append(&entries(number * 4 + 1..=number * 4 + 4, 150)).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = 0;
        while seen < 600 && Instant::now() < deadline {
            let finished = done.load(Ordering::Acquire);
            let durable = reader.last_durable_index();
            for item in reader.read_from(seen + 1).unwrap() {
                seen += 1;
                assert_eq!(item.unwrap(), entry(seen, 150));
            }
            assert!(seen >= durable);
            let report = verified(dir.path());
            assert!(report.is_clean(), "verify works on a running log: {:?}", report.findings);
            assert!(!finished || seen == 600);
        }
        assert_eq!(seen, 600);
    });
}

#[test]
fn a_segment_that_is_cut_to_its_length_at_this_moment_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 60);
    let name = list(dir.path()).unwrap().segments.swap_remove(0);
    let file = std::fs::File::open(&name.path).unwrap();
    let length = file.metadata().unwrap().len();
    assert!(SegmentFooter::read(&file, length, &name).unwrap().is_some(), "it is sealed");
    // Whoever asked for the length a moment ago got that of the reservation.
    assert_eq!(SegmentFooter::read(&file, length + 4096, &name).unwrap(), None);
}

#[test]
fn trimming_removes_whole_sealed_segments_only() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 60);
    let (mut writer, _) = open(dir.path());
    let before = writer.segments();
    assert!(before.len() > 4);
    let iterator = writer.reader().read_from(1).unwrap();
    let removed = writer.trim_below(before[2].first + 1).unwrap();
    assert_eq!(removed, before[..2]);
    assert!(writer.trim_below(before[2].last).unwrap().is_empty());
    assert_eq!(files(dir.path()).len(), before.len() - 2);
    let reader = writer.reader();
    assert_eq!(reader.first_index(), before[2].first);
    assert_eq!(read_all(&reader), all[before[2].first as usize - 1..]);
    assert_eq!(reader.read_from(1).err().unwrap().code(), "log_index_not_present");
    let end = iterator.filter_map(Result::err).next().expect("an older iterator says that its entries went");
    assert_eq!(end.code(), "log_index_not_present");
    // Trimming everything keeps the segment being written, and with it the end of the log.
    let position = writer.position();
    writer.trim_below(u64::MAX).unwrap();
    drop(writer);
    let (writer, _) = open(dir.path());
    assert_eq!(writer.position(), position);
    assert!(verified(dir.path()).is_clean());
}

#[test]
fn a_log_can_start_after_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let before = LogPosition { index: 900, epoch: 7, hlc: Hlc(900 << 16), chain: [9; 32] };
    let mut writer = LogWriter::create_after(options(dir.path()), before).unwrap();
    assert_eq!(writer.position(), before);
    assert_eq!(writer.reader().first_index(), 901);
    assert_eq!(writer.reader().chain_hash_at(900).unwrap(), [9; 32]);
    writer.append(&[entry(901, 10)]).unwrap();
    drop(writer);
    assert_eq!(open(dir.path()).0.last_index(), 901);
    let again = LogWriter::create_after(options(dir.path()), before).err().unwrap();
    assert_eq!(again.code(), "log_not_empty");
}

#[test]
fn headroom_shrinks_to_the_next_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let start = writer.bytes_until_new_segment();
    assert!(start > 0 && start < SMALL_SEGMENT);
    let bytes = writer.append(&entries(1..=1, 100)).unwrap().frames.len() as u64;
    assert_eq!(writer.bytes_until_new_segment(), start - bytes - 48, "a frame and the point kept for the next one");
    while writer.segments().len() == 1 {
        let room = writer.bytes_until_new_segment();
        let next = writer.last_index() + 1;
        let bytes = writer.append(&[entry(next, 100)]).unwrap().frames.len() as u64;
        assert_eq!(bytes > room, writer.segments().len() == 2, "a new segment exactly when the room is used up");
    }
}

#[test]
fn one_process_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, _) = open(dir.path());
    assert_eq!(open_err(dir.path()).code(), "log_locked");
    drop(writer);
    open(dir.path());
}

#[test]
fn opening_and_verifying_see_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = LogWriter::open(LogOptions { segment_bytes: 1 << 20, ..options(dir.path()) }).unwrap();
    for number in 0..300 {
        let node = 1 + (number / 50 % 2) as u16;
        let mut batch = entries(number * 3 + 1..=number * 3 + 3, 400);
        for entry in &mut batch {
            // The first node's clock runs ahead: the highest reading is not the last one.
            entry.origin.node = node;
            entry.hlc = Hlc((entry.index + if node == 1 { 5_000 } else { 0 }) << 16);
            entry.epoch = number / 50;
        }
        writer.append(&batch).unwrap();
    }
    let position = writer.position();
    drop(writer);
    let mut bytes = std::fs::read(&files(dir.path())[0]).unwrap();
    let both = |bytes: &[u8]| {
        let look = |depth| scan::scan(bytes, scan::ScanStart::of_segment(LogPosition::default(), depth)).unwrap();
        let (order, chain) = (look(frame::Depth::Order), look(frame::Depth::Chain));
        assert_eq!(order, chain);
        chain
    };
    let whole = both(&bytes);
    assert_eq!((whole.after, whole.tail, whole.frames), (position, scan::Tail::Clean, 300));
    assert!(whole.after.hlc > Hlc(5_000 << 16) && whole.points.len() > 1);
    for offset in (104..whole.frames_end as usize).step_by(9_973) {
        bytes[offset] ^= 1;
        assert!(both(&bytes).frames < 300);
        bytes[offset] ^= 1;
    }
}

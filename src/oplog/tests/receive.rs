//! What another node sent: nothing of it is written unless all of it verifies, and nothing of it stops the writer.

use proptest::prelude::*;

use super::failing::{RESERVE, SYNC, WRITE, open_faulty};
use super::frame::{FLAG_CONTINUES, FrameEncoder, FrameHeader, FrameStyle, HEADER_BYTES, Tracker};
use super::*;
use crate::limits::{LOG_APPEND_BYTES_MAX, LOG_FRAME_ENTRIES_MAX, LOG_ORIGINS_MAX, LOG_PAYLOAD_BYTES_MAX};

/// Entries as frames of one write each, after `before`. No rule of the writer but the order is looked at.
fn frames_after(before: LogPosition, batches: &[&[Entry]]) -> Bytes {
    let mut encoder = FrameEncoder::new().unwrap();
    let mut tracker = Tracker::new(before);
    for batch in batches {
        encoder.encode(batch, FrameStyle::default(), &mut tracker).unwrap();
    }
    encoder.take()
}

/// The flags of all frames in these bytes.
fn continues(mut frames: &[u8]) -> Vec<bool> {
    let mut flags = Vec::new();
    while !frames.is_empty() {
        let (header, frame) = FrameHeader::parse_whole(frames).expect("the checksum holds");
        flags.push(header.flags & FLAG_CONTINUES != 0);
        frames = &frames[frame.len()..];
    }
    flags
}

/// Sends `batches` to `writer`, which must refuse them, and to go on as before.
fn refused(writer: &mut LogWriter, batches: &[Bytes]) -> String {
    let (position, bytes) = (writer.position(), writer.segments());
    let path = &writer.segments()[0].path;
    let before = std::fs::read(path).unwrap();
    let error = writer.append_received(batches).unwrap_err();
    assert_eq!(error.code(), "log_shipment_refused", "{error}");
    assert_eq!((writer.position(), writer.segments()), (position, bytes));
    assert!(std::fs::read(path).unwrap() == before, "nothing is written");
    assert!(writer.append(&[]).is_ok(), "the writer goes on");
    error.to_string()
}

#[test]
fn frames_are_marked_as_the_writes_they_become_here() {
    let source = tempfile::tempdir().unwrap();
    let (mut sender, _) = open(source.path());
    let single: Vec<Bytes> = (1..=4).map(|index| sender.append(&[entry(index, 50)]).unwrap().frames).collect();
    let count = LOG_FRAME_ENTRIES_MAX as u64;
    let write = sender.append(&entries(5..=count * 2 + 10, 2)).unwrap().frames;
    assert_eq!(continues(&write), [false, true, true]);
    let second = FrameHeader::parse(&write).unwrap().length;

    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let alone = writer.append_received(&[single[0].clone()]).unwrap().appended.frames;
    assert_eq!(alone.as_ptr(), single[0].as_ptr(), "what needs no change is not copied");
    // Four writes of the sender, the last one in part, become one here.
    let parts =
        [single[1].clone(), Bytes::new(), [&single[2][..], &single[3][..]].concat().into(), write.slice(..second)];
    let joined = writer.append_received(&parts).unwrap().appended;
    assert_eq!(continues(&joined.frames), [false, true, true, true]);
    // Its rest becomes another.
    let rest = writer.append_received(&[write.slice(second..)]).unwrap().appended;
    assert_eq!(continues(&rest.frames), [false, true]);
    assert_eq!((writer.position(), rest.after), (sender.position(), sender.position()));
    assert_eq!(read_all(&writer.reader()), read_all(&sender.reader()));
    let none = writer.append_received(&[Bytes::new()]).unwrap();
    assert!(none.entries.is_empty() && none.appended.frames.is_empty() && none.appended.after == rest.after);
    assert!(verified(dir.path()).is_clean());
}

#[test]
fn a_flipped_byte_anywhere_in_a_shipment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(&entries(1..=2, 40)).unwrap();
    let (first, second) = (entries(3..=4, 90), entries(5..=5, 200));
    let good = frames_after(writer.position(), &[&first, &second]);
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x10;
        refused(&mut writer, &[Bytes::from(bad)]);
        if at > 0 {
            refused(
                &mut writer,
                &[good.slice(..at.max(FrameHeader::parse(&good).unwrap().length + 1).min(good.len() - 1))],
            );
        }
    }
    for end in (1..FrameHeader::parse(&good).unwrap().length).step_by(3) {
        refused(&mut writer, &[good.slice(..end)]);
        summarize(&good[..end]).unwrap_err();
    }
    let received = writer.append_received(&[good]).unwrap();
    assert_eq!(received.entries, [first, second].concat());
    assert!(verified(dir.path()).is_clean());
}

/// Sets the frame's checksum to what its bytes give: a forger can do that.
fn resealed(mut frame: Vec<u8>) -> Bytes {
    let crc = crc32c::crc32c(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    Bytes::from(frame)
}

#[test]
fn a_flipped_byte_under_a_good_checksum_changes_no_record() {
    let before = *positions(&entries(1..=2, 40)).last().unwrap();
    for size in [5, 20, 400] {
        let expected = entries(3..=6, size);
        let good = frames_after(before, &[&expected]);
        let mut accepted = 0;
        let fresh = || {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = open(dir.path()).0;
            writer.append(&entries(1..=2, 40)).unwrap();
            (dir, writer)
        };
        let (mut dir, mut writer) = fresh();
        for at in 8..good.len() {
            for bit in [0x01, 0x02, 0x80] {
                let mut bad = good.to_vec();
                bad[at] ^= bit;
                let bad = resealed(bad);
                // The flag that is set anew here anyway, and bits that unpack to the same bytes.
                match writer.append_received(std::slice::from_ref(&bad)) {
                    Ok(received) => {
                        assert_eq!(received.entries, expected, "byte {at}");
                        assert!(verified(dir.path()).is_clean());
                        accepted += 1;
                        (dir, writer) = fresh();
                    }
                    Err(error) => {
                        assert_eq!(error.code(), "log_shipment_refused");
                        refused(&mut writer, &[bad]);
                    }
                }
            }
        }
        assert!((1..20).contains(&accepted), "{accepted} of {} bytes", good.len());
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 1..400), forged: bool) {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, _) = open(dir.path());
        let mut bytes = bytes;
        if forged && bytes.len() > HEADER_BYTES + 1 {
            // A header that fits, with anything behind it.
            let (length, raw) = (bytes.len() as u32, (bytes.len() - HEADER_BYTES) as u32 + 3);
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            bytes[8..16].copy_from_slice(&1_u64.to_le_bytes());
            bytes[16..20].copy_from_slice(&2_u32.to_le_bytes());
            bytes[20..24].copy_from_slice(&raw.to_le_bytes());
            bytes[24] = 1;
            bytes = resealed(bytes).to_vec();
        }
        let _any_answer_but_a_panic = summarize(&bytes);
        refused(&mut writer, &[Bytes::from(bytes)]);
        writer.append(&[entry(1, 10)]).unwrap();
    }
}

#[test]
fn records_that_do_not_continue_this_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(&entries(1..=4, 40)).unwrap();
    let here = writer.position();
    let next = entry(5, 10);
    let wrong = [
        (frames_after(positions(&entries(1..=3, 40))[3], &[&entries(4..=5, 40)]), "expected is 5"),
        (frames_after(LogPosition { index: 5, ..here }, &[&entries(6..=6, 40)]), "expected is 5"),
        (frames_after(LogPosition { chain: [7; 32], ..here }, &[std::slice::from_ref(&next)]), "chain does not match"),
        (frames_after(LogPosition { epoch: 0, ..here }, &[&[Entry { epoch: 1, ..next.clone() }]]), "epoch is lower"),
        (frames_after(here, &[&[Entry { hlc: Hlc(4 << 16), ..next.clone() }]]), "clock reading does not grow"),
    ];
    for (frames, why) in wrong {
        let text = refused(&mut writer, &[frames]);
        assert!(text.contains(why) && text.contains("at index 5"), "{text}");
    }
    let mut tracker = Tracker::new(here);
    let half = frames_after(here, &[std::slice::from_ref(&next)]);
    tracker.advance(&next, blake3::hash(&next.payload).as_bytes()).unwrap();
    let gap = frames_after(LogPosition { index: 6, ..tracker.at }, &[&[entry(7, 10)]]);
    assert!(refused(&mut writer, &[half.clone(), gap.clone()]).contains("at index 6"));
    assert!(summarize(&[&half[..], &gap[..]].concat()).unwrap_err().to_string().contains("do not follow"));
    writer.append_received(&[half]).unwrap();
    assert_eq!(read_all(&writer.reader()), [entries(1..=4, 40), vec![next]].concat());
}

#[test]
fn a_shipment_beyond_the_bounds_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let node = |index: u64| Origin { site: (index >> 10) as u16, node: (index & 1023) as u16 };
    let many: Vec<Entry> =
        (1..=LOG_ORIGINS_MAX as u64 + 1).map(|index| Entry { origin: node(index), ..entry(index, 1) }).collect();
    assert!(refused(&mut writer, &[frames_after(LogPosition::default(), &[&many])]).contains("more nodes"));

    // A payload that no writer takes, encoded by hand: one entry of kind 1 with 1 MiB and one byte.
    let size = LOG_PAYLOAD_BYTES_MAX + 1;
    let large = Entry { epoch: 0, hlc: Hlc(1), origin: Origin { site: 0, node: 1 }, ..entry(1, size) };
    let mut body = vec![0, 2, 0, 1, 1, 0];
    body.extend([(size & 0x7f) as u8 | 0x80, (size >> 7 & 0x7f) as u8 | 0x80, (size >> 14) as u8]);
    body.extend_from_slice(&large.payload);
    let mut tracker = Tracker::default();
    tracker.advance(&large, blake3::hash(&large.payload).as_bytes()).unwrap();
    let mut frame = Vec::new();
    frame.extend(((HEADER_BYTES + body.len()) as u32).to_le_bytes());
    frame.extend([0; 4]);
    frame.extend(1_u64.to_le_bytes());
    frame.extend(1_u32.to_le_bytes());
    frame.extend((body.len() as u32).to_le_bytes());
    frame.push(0);
    frame.extend(tracker.at.chain);
    frame.extend(body);
    assert!(refused(&mut writer, &[resealed(frame)]).contains("larger than the log takes"));

    // Small frames that unpack to more than one append holds.
    let frame_of = |index: u64| Entry { payload: Bytes::from(vec![0; LOG_PAYLOAD_BYTES_MAX]), ..entry(index, 0) };
    let count = (LOG_APPEND_BYTES_MAX / LOG_PAYLOAD_BYTES_MAX) as u64;
    let bombs: Vec<[Entry; 1]> = (1..=count).map(|index| [frame_of(index)]).collect();
    let parts: Vec<&[Entry]> = bombs.iter().map(|bomb| &bomb[..]).collect();
    let frames = frames_after(LogPosition::default(), &parts);
    assert!(summarize(&frames).unwrap().append_bytes > LOG_APPEND_BYTES_MAX && frames.len() < 100_000);
    assert!(refused(&mut writer, std::slice::from_ref(&frames)).contains("more than one append"));
    let but_one = frames_after(LogPosition::default(), &parts[..parts.len() - 1]).len();
    assert!(summarize(&frames[..but_one]).unwrap().append_bytes <= LOG_APPEND_BYTES_MAX);
    assert_eq!(writer.append_received(&[frames.slice(..but_one)]).unwrap().entries.len() as u64, count - 1);
    // The sender never makes such a piece.
    writer.append(&[frame_of(count)]).unwrap();
    let pieces = shipped(&writer.reader(), 1, usize::MAX);
    assert!(pieces.iter().all(|piece| summarize(&piece.frames).unwrap().append_bytes <= LOG_APPEND_BYTES_MAX));
    assert_eq!(pieces.last().unwrap().last, count);
}

#[test]
fn a_failed_write_of_received_frames_stops_the_writer_and_a_full_disk_does_not() {
    for operation in [WRITE, SYNC] {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, faulty) = open_faulty(dir.path());
        let frames = frames_after(LogPosition::default(), &[&entries(1..=2, 50)]);
        faulty.fail(operation);
        assert_eq!(writer.append_received(std::slice::from_ref(&frames)).unwrap_err().code(), "log_io");
        faulty.fail(0);
        assert_eq!(writer.append_received(&[frames]).unwrap_err().code(), "log_poisoned");
        assert_eq!(writer.reader().last_durable_index(), 0);
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, faulty) = open_faulty(dir.path());
    writer.append(&entries(1..=2, 50)).unwrap();
    let mut noise = vec![0; 5000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let large = Entry { payload: Bytes::from(noise), ..entry(3, 0) };
    let frames = frames_after(writer.position(), &[&[large]]);
    faulty.fail(RESERVE);
    assert!(writer.append_received(std::slice::from_ref(&frames)).unwrap_err().is_disk_full());
    faulty.fail(0);
    assert_eq!(writer.append_received(&[frames]).unwrap().entries.len(), 1);
    assert_eq!(writer.segments().len(), 2);
    assert!(verified(dir.path()).is_clean());
}

/// A log whose last write came from another node as three writes: the path, and where each of the three lies.
fn joined_write(dir: &Path, together: bool) -> (PathBuf, Vec<std::ops::Range<u64>>) {
    let big = LogOptions { segment_bytes: 1 << 20, ..options(dir) };
    let (mut writer, _) = LogWriter::open(big).unwrap();
    writer.append(&entries(1..=2, 40)).unwrap();
    let mut start = writer.segments()[0].bytes;
    let (mut batches, mut places) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let before = positions_through(&writer, &batches);
        let frames = frames_after(before, &[&entries(before.index + 1..=before.index + 40, 300 + number)]);
        places.push(start..start + frames.len() as u64);
        start += frames.len() as u64;
        batches.push(frames);
        if !together {
            writer.append_received(&std::mem::take(&mut batches)).unwrap();
        }
    }
    writer.append_received(&batches).unwrap();
    (files(dir).remove(0), places)
}

/// Where the log would be after these batches.
fn positions_through(writer: &LogWriter, batches: &[Bytes]) -> LogPosition {
    let mut decoder = frame::FrameDecoder::new(frame::Depth::Chain).unwrap();
    let mut tracker = Tracker::new(writer.position());
    for batch in batches {
        let (header, frame) = FrameHeader::parse_whole(batch).unwrap();
        decoder.decode(&header, frame, &mut tracker).unwrap();
    }
    tracker.at
}

#[test]
fn a_torn_write_of_joined_batches_is_cut_and_not_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_, places) = joined_write(dir.path(), true);
    // The disk wrote the later frames, but not this part of an earlier one.
    for victim in &places[..2] {
        for at in (victim.start..victim.end).step_by(97) {
            let image = copy_dir(dir.path());
            let file = OpenOptions::new().write(true).open(&files(image.path())[0]).unwrap();
            disk::write_zeros(&file, at, (at + 512).min(victim.end)).unwrap();
            let (writer, report) = open(image.path());
            let kept = 2 + 40 * places.iter().position(|place| place == victim).unwrap() as u64;
            assert_eq!(report.cut_tail.unwrap().offset, victim.start, "zeros at {at}");
            assert_eq!(writer.last_index(), kept);
            drop(writer);
            assert!(verified(image.path()).is_clean());
        }
    }
}

#[test]
fn damage_to_an_earlier_received_write_is_still_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, places) = joined_write(dir.path(), false);
    for victim in &places[..2] {
        for at in (victim.start..victim.end).step_by(97) {
            flip(&path, at);
            assert_eq!(open_err(dir.path()).code(), "log_corrupt");
            flip(&path, at);
        }
    }
    assert_eq!(open(dir.path()).0.last_index(), 122);
}

#[test]
fn erased_entries_keep_their_hash_on_the_way() {
    let plain = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(plain.path());
    let all = entries(1..=8, 60);
    writer.append(&all).unwrap();
    let hashes: Vec<(u64, _)> = all.iter().map(|e| (e.index, *blake3::hash(&e.payload).as_bytes())).collect();
    let mut erased = all.clone();
    for index in [1, 4, 7] {
        erased[index] = Entry { payload: Bytes::new(), erased: true, ..all[index].clone() };
    }
    let mut encoder = FrameEncoder::new().unwrap();
    let style = FrameStyle { continues: false, erased: &hashes };
    encoder.encode(&erased, style, &mut Tracker::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (mut second, _) = open(dir.path());
    assert_eq!(second.append_received(&[encoder.take()]).unwrap().entries, erased);
    assert_eq!(second.position(), writer.position(), "the chain is the same");
    // Onward from the middle of the frame, and cut in the middle of it.
    let positions = positions(&all);
    for start in 2..=8 {
        let third = tempfile::tempdir().unwrap();
        let mut log = LogWriter::create_after(options(third.path()), positions[start - 1]).unwrap();
        for piece in shipped(&second.reader(), start as u64, usize::MAX) {
            log.append_received(&[piece.frames]).unwrap();
        }
        assert_eq!((log.position(), read_all(&log.reader())), (positions[8], erased[start - 1..].to_vec()));
    }
    drop(second);
    cut_after(&options(dir.path()), 6).unwrap();
    let (second, _) = open(dir.path());
    assert_eq!((second.position(), read_all(&second.reader())), (positions[6], erased[..6].to_vec()));
    assert!(verified(dir.path()).is_clean());
}

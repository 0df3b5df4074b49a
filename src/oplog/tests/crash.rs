//! Crash images: every place where a process or a machine can stop must reopen with exactly what was acknowledged.

use super::*;
use crate::limits::LOG_FRAME_ENTRIES_MAX;

/// A log of two whole frames and a last one, in one segment: its directory, entries, and where the last frame lies.
fn three_frames() -> (TempDir, Vec<Entry>, std::ops::Range<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(&entries(1..=3, 60)).unwrap();
    writer.append(&entries(4..=5, 60)).unwrap();
    let start = writer.segments()[0].bytes;
    writer.append(&entries(6..=9, 60)).unwrap();
    let end = writer.segments()[0].bytes;
    (dir, entries(1..=9, 60), start..end)
}

/// Opens a crash image, which must hold `expected`, append to it, and verify it.
fn check_image(dir: &Path, expected: &[Entry], cut_from: Option<u64>) {
    let (mut writer, report) = open(dir);
    assert_eq!(report.cut_tail.map(|cut| cut.offset), cut_from);
    assert_eq!(read_all(&writer.reader()), expected);
    let next = entries(expected.len() as u64 + 1..=expected.len() as u64 + 2, 80);
    writer.append(&next).unwrap();
    drop(writer);
    let report = verified(dir);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.torn_tail, report.entries), (None, expected.len() as u64 + 2));
    let (writer, report) = open(dir);
    assert_eq!(report.cut_tail, None);
    assert_eq!(read_all(&writer.reader()), [expected, &next].concat());
}

#[test]
fn a_file_cut_at_any_byte_of_the_last_frame_keeps_the_earlier_frames() {
    let (dir, all, last) = three_frames();
    for cut in last.clone() {
        let image = copy_dir(dir.path());
        let file = OpenOptions::new().write(true).open(&files(image.path())[0]).unwrap();
        file.set_len(cut).unwrap();
        check_image(image.path(), &all[..5], (cut > last.start).then_some(last.start));
    }
}

#[test]
fn a_last_frame_with_zeros_from_any_byte_on_is_cut() {
    let (dir, all, last) = three_frames();
    for cut in last.clone() {
        let image = copy_dir(dir.path());
        let file = OpenOptions::new().write(true).open(&files(image.path())[0]).unwrap();
        disk::write_zeros(&file, cut, last.end).unwrap();
        check_image(image.path(), &all[..5], (cut > last.start).then_some(last.start));
    }
}

#[test]
fn a_last_frame_whose_first_page_never_came_is_cut() {
    let (dir, all, last) = three_frames();
    for until in (last.start + 1..last.end).step_by(5) {
        let image = copy_dir(dir.path());
        let file = OpenOptions::new().write(true).open(&files(image.path())[0]).unwrap();
        disk::write_zeros(&file, last.start, until).unwrap();
        check_image(image.path(), &all[..5], Some(last.start));
    }
}

#[test]
fn garbage_behind_the_last_frame_is_cut_and_reported() {
    let (dir, all, last) = three_frames();
    let file = OpenOptions::new().write(true).open(&files(dir.path())[0]).unwrap();
    let mut garbage = vec![0; 300];
    blake3::Hasher::new().finalize_xof().fill(&mut garbage);
    garbage.push(1);
    file.write_all_at(&garbage, last.end).unwrap();
    let torn = verified(dir.path());
    assert!(torn.is_clean());
    let cut = torn.torn_tail.expect("verify tells of the torn tail");
    assert_eq!((cut.offset, cut.bytes), (last.end, 301));
    check_image(dir.path(), &all, Some(last.end));
}

#[test]
fn the_far_frames_of_a_torn_write_are_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(&entries(1..=2, 40)).unwrap();
    let count = LOG_FRAME_ENTRIES_MAX as u64 + 10;
    writer.append(&entries(3..=count, 20)).unwrap();
    let last = writer.segments().pop().unwrap();
    drop(writer);
    // The disk wrote the second frame of the write but not the start of the first.
    let file = OpenOptions::new().write(true).open(&last.path).unwrap();
    disk::write_zeros(&file, 104, 4096).unwrap();
    check_image(dir.path(), &entries(1..=2, 40), Some(104));
}

#[test]
fn a_crash_at_any_byte_of_sealing_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 60);
    let sealed = files(dir.path())[0].clone();
    let (writer, _) = open(dir.path());
    let first = writer.segments()[0].clone();
    drop(writer);
    let expected = &all[..first.last as usize];
    let bytes = std::fs::read(&sealed).unwrap();
    let footer_bytes = bytes.len() - frames_end(&bytes);
    for kept in 0..=footer_bytes {
        // The footer is written up to `kept`, the file not cut to its length yet.
        let image = tempfile::tempdir().unwrap();
        let mut content = bytes[..frames_end(&bytes) + kept].to_vec();
        content.resize(SMALL_SEGMENT as usize, 0);
        std::fs::write(image.path().join(sealed.file_name().unwrap()), &content).unwrap();
        assert!(verified(image.path()).is_clean());
        let (writer, report) = open(image.path());
        assert_eq!((report.cut_tail, report.unfinished_seal), (None, kept > 0));
        drop(writer);
        check_image(image.path(), expected, None);
    }
}

fn frames_end(segment: &[u8]) -> usize {
    segment.windows(8).rposition(|window| window == segment::FOOTER_MAGIC).unwrap()
}

#[test]
fn a_crash_between_sealing_and_the_next_segment_starts_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 60);
    let names = files(dir.path());
    for name in &names[1..] {
        std::fs::remove_file(name).unwrap();
    }
    std::fs::write(names[1].with_extension("seg.tmp"), b"half a header").unwrap();
    let sealed = std::fs::read(&names[0]).unwrap();
    let (mut writer, report) = open(dir.path());
    assert_eq!((report.temporaries_removed, report.segments), (1, 2));
    let kept = writer.last_index();
    assert_eq!(read_all(&writer.reader()), all[..kept as usize]);
    assert_eq!(writer.last_hlc(), all[kept as usize - 1].hlc);
    writer.append(&entries(kept + 1..=kept + 1, 10)).unwrap();
    drop(writer);
    assert_eq!(std::fs::read(&names[0]).unwrap(), sealed, "a sealed segment never changes");
    assert!(verified(dir.path()).is_clean());
}

#[test]
fn leftover_temporaries_go_and_other_files_stay() {
    let (dir, all, _) = three_frames();
    let leftover = dir.path().join("00000000000000000010.seg.tmp");
    let foreign = [dir.path().join("notes.tmp"), dir.path().join("17.seg"), dir.path().join("x.seg.tmp")];
    std::fs::write(&leftover, b"x").unwrap();
    for path in &foreign {
        std::fs::write(path, b"x").unwrap();
    }
    assert_eq!(open(dir.path()).1.temporaries_removed, 1);
    assert!(!leftover.exists());
    assert!(foreign.iter().all(|path| path.exists()));
    check_image(dir.path(), &all, None);
}
